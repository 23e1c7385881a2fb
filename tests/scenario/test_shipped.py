"""The shipped scenarios hold what they expect: PROTOCOL section 7.7 among them.

The larger ones (mnist-50, mnist-50-churn, diurnal-100, thousand, ten-thousand) are run by
`benchmarks/learning.py` and `benchmarks/simulator.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.scenario.load import load
from p2pfl.scenario.verdicts import judged, passed
from p2pfl.scenario.virtual import simulate

SECTION_7_7 = ("clean-20", "churn-30", "churn-50", "amnesia")
OTHERS = ("hello-8", "ring-16", "stragglers", "lossy-wifi", "partition-heal", "blackout")
SHIPPED = sorted(path.stem for path in Path("scenarios").glob("*.toml"))


def holds(name: str, seed: int) -> None:
    trace = simulate(load(name, seed=seed))
    verdicts = judged(trace)
    missed = [f"{v.name} {v.bound}: {v.value}" for v in verdicts if not v.held]
    assert verdicts
    assert passed(verdicts, trace), f"p2pfl run {name} --seed {seed}: {missed} {trace.deaths}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", SECTION_7_7)
def test_learning_reaches_what_section_7_7_promises(name: str, seed: int) -> None:
    holds(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_shipped_scenario_holds(name: str) -> None:
    holds(name, 0)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_loads_and_expects_something(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name
    assert scenario.description
    assert scenario.expect.bounds()


def test_a_bound_that_is_not_reached_fails_a_run() -> None:
    """The twin: nothing can be learnt in two cycles."""
    trace = simulate(load("hello-8", ["duration.seconds=0.3"]))
    assert not passed(judged(trace), trace)
