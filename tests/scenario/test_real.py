"""What a run with real nodes comes to: counts over several lives, journals, pauses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pfl.core.events import Cycle, Event, Exchanged
from p2pfl.edge.journal import SqliteJournal
from p2pfl.errors import ConfigError
from p2pfl.scenario.measure import Counted, longest_stall, tallied
from p2pfl.scenario.real import play
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import STALENESS_EDGES
from p2pfl.scenario.watching import Look
from tests.scenario.made import made_look


def life(incarnation: int, *said: tuple[int, int], node: str = "aa") -> list[Look]:
    """Looks at one life: (cycles, bytes sent) each."""
    return [
        replace(made_look(), node=node, incarnation=incarnation, cycles=cycles, bytes_out=bytes_out)
        for cycles, bytes_out in said
    ]


def test_what_a_node_did_is_added_up_over_its_lives() -> None:
    looks = life(1, (2, 100), (10, 500))
    counted = Counted()
    counted.take(looks)
    assert (counted.cycles, counted.sent) == (10, 500)
    looks += life(2, (7, 50), (9, 80))  # from a checkpoint three cycles old
    counted.take(looks)
    assert (counted.cycles, counted.sent) == (12, 580)
    looks += life(1, (4, 30), (6, 40), node="bb")  # its disk was lost: another node to others
    counted.take(looks)
    assert (counted.cycles, counted.sent) == (18, 620)
    counted.take(looks)
    assert (counted.cycles, counted.sent) == (18, 620)


def test_counting_begins_anew_when_time_begins() -> None:
    looks = life(1, (2, 100), (10, 500))
    counted = Counted()
    counted.take(looks)
    counted.cycles = counted.sent = 0.0
    looks += life(1, (15, 700))
    counted.take(looks)
    assert (counted.cycles, counted.sent) == (5, 200)


def test_a_pause_counts_only_while_the_node_was_up() -> None:
    cycles = [1.0, 2.0, 2.5, 9.0, 9.1]
    assert longest_stall(cycles, [(0.5, 9.5)]) == 6.5
    assert longest_stall(cycles, [(0.5, 3.0), (8.5, 9.5)]) == 1.0
    assert longest_stall(cycles, [(0.5, 3.0), (4.0, 6.0)]) == 2.0
    assert longest_stall([], [(1.0, 4.0)]) == 3.0
    assert math.isnan(longest_stall(cycles, []))
    assert math.isnan(longest_stall(cycles, [(1.0, 1.0)]))


def written(path: Path, *events: tuple[float, Event]) -> Path:
    walls: Iterator[float] = iter([wall for wall, _ in events])
    wall: Callable[[], float] = lambda: next(walls, 0.0)  # noqa: E731
    journal = SqliteJournal(path, wall=wall)
    for _, event in events:
        journal.record(event)
    journal.close()
    return path


def exchanged(role: str, outcome: str, staleness: float = 0.0) -> Exchanged:
    return Exchanged(0.0, "bb", role, outcome, staleness=staleness)


def test_journals_of_all_lives_are_counted_within_the_run(tmp_path: Path) -> None:
    first = written(
        tmp_path / "a.sqlite",
        (1.0, Cycle(0.0, 1, 50, 1, 1, 0.1, 0.5)),  # before time began
        (11.0, Cycle(0.0, 2, 20, 1, 1, 0.1, 0.5)),
        (11.1, exchanged("asked", "flow")),
        (11.2, exchanged("asked", "timeout")),
        (11.3, exchanged("answered", "flow", 0.3)),
    )
    second = written(
        tmp_path / "b.sqlite",
        (10.5, Cycle(0.0, 1, 10, 1, 1, 0.1, 0.25)),
        (12.1, exchanged("asked", "flow")),
        (12.2, exchanged("answered", "flow", 1e6)),
        (12.3, exchanged("answered", "adopt", 5.0)),
        (99.0, exchanged("asked", "flow")),  # after its end
    )
    missing = tmp_path / "none.sqlite"
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no journal at all" * 100)
    found = tallied([first, missing, broken, second], 10.0, 20.0)
    assert found.outcomes == {"flow": 2, "timeout": 1}
    assert found.cycles == [10.5, 11.0]
    assert (found.steps, found.training_s) == (30, 0.75)
    assert found.staleness.sum() == 2
    assert found.staleness[STALENESS_EDGES.index(0.25)] == 1
    assert found.staleness[-1] == 1


@pytest.mark.parametrize("changes", [{"task": "quadratic"}, {"network": {"sees": 1}}])
async def test_what_is_refused_leaves_nothing_behind(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    values: dict[str, Any] = {"nodes": 2, "duration": {"seconds": 5.0}}
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="use --engine virtual"):
        await play(Scenario.model_validate(values | changes), folder, lambda _: None)
    assert not folder.exists()
