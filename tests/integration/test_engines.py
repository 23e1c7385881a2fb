"""The two engines agree: what is simulated is what real nodes do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pfl.scenario.load import load
from p2pfl.scenario.real import play
from p2pfl.scenario.trace import Trace
from p2pfl.scenario.verdicts import mean_accuracy
from p2pfl.scenario.virtual import simulate

CHANGES = ["task.name=digits-numpy", "duration.seconds=20", "measure.samples=40"]


def cycles(trace: Trace) -> np.ndarray:
    """(T,) mean over nodes."""
    return np.nanmean(trace.cycles, axis=1)


@pytest.mark.slow
async def test_hello_8_is_the_same_on_both_engines(tmp_path: Path) -> None:
    scenario = load("scenarios/hello-8.toml", CHANGES)
    real = await play(scenario, tmp_path, lambda _: None)
    virtual = simulate(scenario)
    assert not real.deaths
    both = min(cycles(real)[-1], cycles(virtual)[-1])
    assert both > 60, "even a busy machine does a third of the cycles"
    # at equal cycles: means over the last fifth that both have seen
    found = []
    for trace in (real, virtual):
        done, accuracy = cycles(trace), mean_accuracy(trace)
        found.append(np.nanmean(accuracy[(done <= both) & (done >= 0.8 * both)]))
    assert found[0] == pytest.approx(found[1], abs=0.03)
    sent = [np.nansum(trace.sent[-1]) / np.nansum(trace.cycles[-1]) for trace in (real, virtual)]
    assert sent[1] == pytest.approx(sent[0], rel=0.1), "bytes of a cycle, predicted and real"
