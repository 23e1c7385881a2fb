"""Three real nodes, one of them killed and started again: the scenario says what happened."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2pfl.cli.record import record
from p2pfl.core.events import Cycle, Exchanged, Started
from p2pfl.scenario.churning import schedule
from p2pfl.scenario.load import load
from p2pfl.scenario.speeds import step_times
from tests.integration.nodes import Nodes, mixed, until_all

STEP_S = 0.01
LIVE_S, AWAY_S = 3.0, 1.5
NEAR_S = 1.0
"""How far a kill may be from a node's last flushed word, on a busy machine."""


@pytest.mark.slow
async def test_a_recorded_scenario_says_what_happened_to_real_nodes(
    nodes: Nodes, tmp_path: Path
) -> None:
    options = ("--partition", "dirichlet:0.1", "--set", "checkpoint_every_s=1")
    options += ("--set", f"step_s={STEP_S}", "--set", "train.steps_max=8", "--codec", "float16")
    three = [
        nodes.start(name, "--shard", f"{at}/3", *options)
        for at, name in enumerate(("anna", "boris", "chloe"), start=1)
    ]
    boris = three[1]
    await until_all(three, lambda now: mixed(now) > 5)
    await asyncio.sleep(LIVE_S)
    await boris.kill()
    killed = time.time()
    await asyncio.sleep(AWAY_S)
    boris.start()
    await boris.until(lambda now: mixed(now) > 5)
    await asyncio.sleep(LIVE_S)

    # nobody has ended: journals are read while they are written
    arguments = [str(node.state_dir) for node in three]
    arguments += ["--out", str(tmp_path), "--name", "again", "--partition", "dirichlet:0.1"]
    result = CliRunner().invoke(record, [*arguments, "--json"])
    assert result.exception is None, result.output
    told = json.loads(result.output)
    scenario = load(str(tmp_path / "again.toml"))
    starts = [event.resumed for event in boris.events(Started)]
    assert starts == [False, True]

    zero = told["zero"]
    assert scenario.nodes == 3
    assert scenario.task.name == "digits-numpy"
    assert scenario.duration.seconds == pytest.approx(time.time() - zero, abs=2.0)
    assert scenario.churn.state == "checkpoint"
    horizon = scenario.duration.seconds or 0.0
    actions = schedule(scenario, horizon, np.random.default_rng(0))
    assert [(action.what, action.node) for action in actions] == [("kill", 1), ("start", 1)]
    assert actions[0].at == pytest.approx(killed - zero, abs=NEAR_S)
    assert actions[1].at > killed + AWAY_S - zero
    assert scenario.faults.events == ()

    # a busy machine is slower than it was told to be, and the scenario must say so
    cycles = [node.events(Cycle) for node in three]
    measured = [np.median([c.seconds / c.steps for c in of]) for of in cycles]
    steps = step_times(scenario.compute, scenario.names, np.random.default_rng(0))
    assert steps == pytest.approx(measured, rel=0.1)
    assert min(steps) > 0.99 * STEP_S
    assert scenario.node.train.steps_max == max(c.steps for of in cycles for c in of) <= 8
    assert scenario.node.train.cycle_min_s > 0.09
    assert scenario.node.gossip.codec == "float16"
    asked = [e for node in three for e in node.events(Exchanged) if e.role == "asked"]
    trips = [e.seconds for e in asked if e.outcome == "flow"]
    assert 0 < scenario.network.latency_s < np.median(trips) / 2
    for node, seen in zip(three, told["nodes"], strict=True):
        assert seen["node"] == [node.id]
        assert seen["cycles"] == pytest.approx(len(node.events(Cycle)), rel=0.1)
        outcomes = Counter(e.outcome for e in node.events(Exchanged) if e.role == "asked")
        assert 5 < seen["exchanges"] <= outcomes.total()
        assert seen["losses"] <= outcomes["timeout"]
    assert [life["ending"] for life in told["nodes"][1]["lives"]] == ["crashed", "present"]
