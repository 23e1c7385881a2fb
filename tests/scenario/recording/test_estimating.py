"""How fast devices were, and how nodes were configured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.config import GossipConfig, NodeConfig, TrainConfig
from p2pfl.core.events import Cycle, Exchanged, Measured
from p2pfl.scenario.recording import recorded
from p2pfl.scenario.speeds import step_times
from tests.scenario.recording.made import VALUES, Made, record, replayed, value


def test_step_times_are_each_nodes_median_without_its_cold_cycle(tmp_path: Path) -> None:
    found = record(Made("a", step_s=0.002).lives(0, 20), Made("b", step_s=0.05).lives(0, 20))
    assert [node.median_step_s for node in found.nodes] == pytest.approx([0.002, 0.05])
    scenario = replayed(found, tmp_path)
    times = step_times(scenario.compute, scenario.names, np.random.default_rng(0))
    assert times == pytest.approx([0.002, 0.05], rel=1e-3)


@pytest.mark.parametrize("jitter", [0.05, 0.4])
def test_jitter_is_the_sigma_of_its_logarithm(jitter: float) -> None:
    nodes = [Made("a", jitter=jitter), Made("b", step_s=0.1, jitter=jitter, seed=1)]
    found = record(*(node.lives(0, 200) for node in nodes))
    assert value(found, "compute.jitter") == pytest.approx(jitter, rel=0.15)
    assert "cycles" in found.estimates["compute.jitter"].why
    assert value(record(Made("a").lives(0, 1.5)), "compute.jitter") == 0.1


def test_the_pace_is_the_most_steps_and_the_time_from_cycle_to_cycle() -> None:
    found = record(
        Made("a", steps=25, step_s=0.001, period_s=0.3).lives(0, 20),
        Made("b", steps=25, step_s=0.002, period_s=0.3).lives(0, 20),
    )
    assert value(found, "node.train.steps_max") == 25
    assert value(found, "node.train.cycle_min_s") == pytest.approx(0.3)
    assert value(found, "node.train.cycle_target_s") == 0.1  # 100 and 50 steps, bounded to 25


def test_a_cycle_target_that_is_not_the_default_is_found() -> None:
    found = record(
        Made("a", steps=20, step_s=0.01, period_s=0.5).lives(0, 20),
        Made("b", steps=8, step_s=0.05, period_s=0.5).lives(0, 20),
    )
    assert value(found, "node.train.cycle_target_s") == pytest.approx(0.4)


def test_nodes_that_never_wait_give_no_pause_longer_than_a_cycle() -> None:
    found = record(Made("a", steps=5, step_s=0.01, period_s=0.05).lives(0, 20))
    assert value(found, "node.train.cycle_min_s") == pytest.approx(0.05)


@pytest.mark.parametrize(("every", "expected"), [(2.0, 2.0), (6.0, 6.0)])
def test_the_pause_between_evaluations(every: float, expected: float) -> None:
    node = Made("a").lives(0, 60)
    cycles = [timed for timed in node.events if isinstance(timed[1], Cycle)]
    apart = math.ceil(every / node.period_s) * node.period_s
    for wall, event in cycles[:: round(apart / node.period_s)]:
        measured = Measured(event.at + 0.01, event.cycle, event.age, 0.1, 0.9, 100)
        node.events.append((wall + 0.01, measured))
    found = record(node)
    assert value(found, "node.train.evaluate_every_s") == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(
    ("nbytes", "codec"), [(4 * VALUES, "float32"), (2 * VALUES, "float16"), (2600, "int8")]
)
def test_the_codec_is_told_by_the_size_of_what_was_sent(nbytes: int, codec: str) -> None:
    a, b = Made("a").lives(0, 20), Made("b").lives(0, 20)
    a.record(5, Exchanged, b.id, "asked", "flow", 0.5, 0, 1.0, nbytes, nbytes, 0.01)
    assert record(a, b).estimates["node.gossip.codec"].value == codec
    unknown = [replace(node.journal, values=None) for node in (a, b)]
    assert "node.gossip.codec" not in recorded(unknown).estimates


def test_what_a_configuration_says_is_not_estimated(tmp_path: Path) -> None:
    config = NodeConfig(
        topology="ring",
        checkpoint_every_s=3.0,
        train=TrainConfig(steps_max=99),
        gossip=GossipConfig(codec="int8"),
    )
    scenario = replayed(record(Made("a").lives(0, 20), config=config), tmp_path)
    assert scenario.topology == "ring"
    assert scenario.node.checkpoint_every_s == 3.0
    assert scenario.node.train.steps_max == 99
    assert scenario.node.gossip.codec == "int8"
    assert scenario.node.train.cycle_min_s == pytest.approx(0.2)
