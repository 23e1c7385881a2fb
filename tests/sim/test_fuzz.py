"""Whole swarms under faults of every kind: see `swarm_fuzz`; `make fuzz` runs more of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.scenario.spec import Scenario
from tests.sim.swarm_fuzz import CALM_S, Played, keeps_state, play, quiet_s, scenario_of, told

SEEDS, CHUNK, REPLAYED = 200, 10, 20
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def _regressions() -> dict[int, bool]:
    """Seed -> whether what it found is still to be mended."""
    lines = [line.partition("#")[0].strip() for line in REGRESSIONS.read_text().splitlines()]
    return {int(line.lstrip("! ").split()[0]): line.startswith("!") for line in lines if line}


OPEN = {seed for seed, is_open in _regressions().items() if is_open}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Faults are what this is about; thousands of lines about them are not."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def _whole(seed: int) -> Played:
    played = play(scenario_of(seed))
    assert not played.failures, told(seed, played)
    return played


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_swarms_keep_their_promises_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + CHUNK):
        if seed in OPEN:
            continue
        played = _whole(seed)
        if seed % REPLAYED == 0:
            assert _whole(seed).event_hash == played.event_hash, f"seed {seed} is two stories"


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.xfail(strict=True)) if is_open else seed
        for seed, is_open in _regressions().items()
    ],
)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    _whole(seed)


def test_the_menu_is_whole() -> None:
    """A fuzzer that lost a fault finds nothing, and nobody notices."""
    scenarios = [scenario_of(seed) for seed in range(300)]

    def some(what: str, holds: list[bool]) -> None:
        assert 3 <= sum(holds) <= 297, what

    for key in ("duplicate_probability", "reorder_probability", "corrupt_probability"):
        some(key, [getattr(s.faults, key) > 0 for s in scenarios])
    kinds = [{event.kind for event in s.faults.events} for s in scenarios]
    for kind in ("partition", "one_way", "hold", "pause", "disk_full", "torn", "clock_jump"):
        some(kind, [kind in found for found in kinds])
    for state in ("kept", "checkpoint", "lost"):
        some(state, [s.churn.mode == "on-off" and s.churn.state == state for s in scenarios])
    for what in ("kill", "stop", "start"):
        some(what, [any(getattr(e, what) for e in s.churn.events) for s in scenarios])
    for key in ("loss_probability", "latency_sigma", "up_bytes_per_s", "sees", "nodes", "links"):
        some(key, [bool(getattr(s.network, key)) for s in scenarios])
    for task in ("averaging", "quadratic", "digits-numpy"):
        some(task, [s.task.name == task for s in scenarios])
    for codec in ("float32", "float16", "int8"):
        some(codec, [s.node.gossip.codec == codec for s in scenarios])
    some("mean", [keeps_state(s) for s in scenarios])
    assert {s.nodes for s in scenarios} == set(range(3, 13))
    assert len({s.topology.partition(":")[0] for s in scenarios}) == 10


def test_every_scenario_ends_in_peace() -> None:
    for seed in range(100):
        scenario = scenario_of(seed)
        assert scenario.duration.seconds == pytest.approx(quiet_s(scenario) + CALM_S)
        for event in scenario.faults.events:
            if event.kind in ("torn", "clock_jump"):
                continue  # at one moment
            assert event.until is not None
            assert event.until <= quiet_s(scenario)


def test_a_failing_seed_is_told_with_all_that_is_needed_to_see_it_again() -> None:
    import tomllib

    text = told(7, Played(("n1 died: of curiosity",)))
    assert "seed 7 failed" in text
    assert "n1 died: of curiosity" in text
    assert "python -m tests.sim.fuzz --from 7 --seeds 1" in text
    toml = "\n".join(line for line in text.splitlines() if " = " in line)
    assert Scenario.model_validate(tomllib.loads(toml)) == scenario_of(7)
