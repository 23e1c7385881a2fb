"""What is measured at the end: stalls from journals, final accuracies from what was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.events import Cycle, Started
from p2pfl.edge.journal import SqliteJournal
from p2pfl.errors import StateError
from p2pfl.scenario.measure import evaluations, final, longest_gap, resumed, shifted, stall
from tests.scenario.made import made_look

TIMES = st.lists(st.floats(-10, 110), max_size=30)


@given(TIMES)
def test_the_longest_gap_lies_between_the_mean_gap_and_all_of_it(times: list[float]) -> None:
    inside = [at for at in times if 0 < at < 100]
    gap = longest_gap(times, 0.0, 100.0)
    assert 100.0 / (len(inside) + 1) - 1e-9 <= gap <= 100.0


@given(TIMES, st.floats(0.1, 99.9))
def test_another_event_never_makes_the_longest_gap_longer(times: list[float], at: float) -> None:
    assert longest_gap([*times, at], 0.0, 100.0) <= longest_gap(times, 0.0, 100.0)


def test_what_happens_outside_the_run_counts_for_nothing() -> None:
    assert longest_gap([-1.0, 4.0, 99.0], 0.0, 10.0) == 6.0


def journal(path: Path, cycles: list[float], starts: list[tuple[int, bool]] = []) -> Path:  # noqa: B006
    """A journal whose cycles ended at these wall times."""
    walls = iter([*[0.0] * len(starts), *cycles])
    written = SqliteJournal(path, wall=lambda: next(walls))
    for age, was_resumed in starts:
        written.record(Started(0.0, "a" * 32, "n", "r", "l", "h:1", 1, age, was_resumed))
    for number in range(len(cycles)):
        written.record(Cycle(0.0, number, 20, 20, 20, 0.1, 0.01))
    written.close()
    return path


def test_a_stall_is_the_longest_pause_between_two_cycles(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.sqlite", [99.0, 100.5, 101.0, 104.5, 105.0])
    assert stall(path, 100.0, 106.0) == 3.5


def test_a_node_that_never_trained_again_stalled_until_the_end(tmp_path: Path) -> None:
    assert stall(journal(tmp_path / "j.sqlite", [100.5, 101.0]), 100.0, 145.0) == 44.0


def test_a_missing_journal_is_no_stall_of_zero(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no journal"):
        stall(tmp_path / "none.sqlite", 0.0, 1.0)


@pytest.mark.parametrize(
    ("starts", "age"),
    [
        ([(0, False)], 0),
        ([(0, False), (120, True)], 120),
        ([(0, False), (0, False)], 0),
        ([(0, False), (120, True), (0, False)], 0),
    ],
)
def test_only_a_later_start_with_a_checkpoint_resumes(
    tmp_path: Path, starts: list[tuple[int, bool]], age: int
) -> None:
    assert resumed(journal(tmp_path / "j.sqlite", [], starts)) == age


def test_the_final_accuracy_is_the_mean_of_the_last_tenth() -> None:
    looks = [made_look(at=at, accuracy=accuracy) for at, accuracy in ((5, 0.1), (9.5, 0.8))]
    looks.append(made_look(at=10, accuracy=0.9))
    assert final(looks, 10.0) == pytest.approx(0.85)


def test_a_task_that_evaluates_rarely_ends_with_its_last_evaluation() -> None:
    early = made_look(at=5.0, accuracy=0.7)
    assert final([early, replace(early, at=9.9)], 10.0) == 0.7


def test_a_node_that_was_gone_has_no_final_accuracy() -> None:
    assert final([], 45.0) is None
    assert final([made_look(at=30.0)], 45.0) is None
    assert final([made_look(at=45.0, accuracy=None)], 45.0) is None


def test_one_evaluation_that_is_seen_twice_counts_once() -> None:
    once = made_look(at=3.0, accuracy=0.7)
    again = replace(once, at=3.5, measured_at=(once.measured_at or 0.0) + 0.01)
    assert evaluations([once, again, made_look(at=4.0, accuracy=0.8)]) == [(2.7, 0.7), (3.7, 0.8)]


def test_shifted_looks_count_from_zero_and_are_in_order() -> None:
    first, second = shifted([made_look(at=12.0), made_look(at=11.0, accuracy=None)], 10.0)
    assert (first.at, first.measured_at) == (1.0, None)
    assert (second.at, second.measured_at) == (2.0, pytest.approx(1.7))
