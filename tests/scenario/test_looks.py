"""Looks from outside: what they count, and that they change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pfl.scenario.eventlog import EventLog
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.looks import Looks
from p2pfl.scenario.recorder import Tallies
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.virtual import _Run, simulate
from p2pfl.sim.presence import Presence


def scenario(**values: Any) -> Scenario:
    whole = {
        "nodes": 4,
        "seed": 1,
        "task": {"name": "averaging", "size": 6},
        "duration": {"seconds": 10.0},
        "node": {"train": {"cycle_min_s": 0.2}, "checkpoint_every_s": 0.5},
        "measure": {"samples": 40},
    }
    return Scenario.model_validate(whole | values)


def test_the_first_look_is_at_what_everybody_begins_with() -> None:
    trace = simulate(scenario())
    learners = Learners(scenario())
    assert learners.initial is not None
    points = learners.initial.astype(np.float64)
    spread = np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert trace.distance[0] == pytest.approx(spread)
    assert trace.drift[0] == pytest.approx(0, abs=1e-6)
    assert (trace.age[0] == 1000).all()
    assert not trace.cycles[0].any()
    assert not trace.pending[0]


def test_flows_under_way_are_accounted_for_at_every_look() -> None:
    """With a latency of two cycles there is always something on its way."""
    trace = simulate(scenario(network={"latency_s": 0.4}, measure={"samples": 97}))
    assert trace.distance[-1] < trace.distance[0] / 3
    assert trace.drift.max() < 1e-6


def test_without_that_account_the_same_run_seems_to_drift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfl.scenario.looks._under_way", lambda *_: iter(()))
    trace = simulate(scenario(network={"latency_s": 0.4}, measure={"samples": 97}))
    assert trace.drift.max() > 0.1


def test_a_lost_answer_counts_until_it_is_resolved() -> None:
    trace = simulate(scenario(network={"loss_probability": 0.3, "latency_s": 0.1}))
    assert trace.pending.max() > 0
    assert trace.drift.max() < 1e-6


def test_who_is_down_counts_with_what_is_on_its_disk_and_who_never_came_with_its_beginning() -> (
    None
):
    churn = {"absent": 1, "events": [{"at": 5.0, "stop": ["n1"]}]}
    trace = simulate(scenario(churn=churn))
    assert trace.presence[-1].tolist() == [
        Presence.DOWN,
        Presence.UP,
        Presence.UP,
        Presence.ABSENT,
    ]
    assert trace.drift[-1] < 1e-6
    assert np.isnan(trace.age[-1, [0, 3]]).all()
    assert np.isfinite(trace.age[-1, [1, 2]]).all()


def test_a_crash_that_goes_back_behind_exchanges_is_seen_as_drift() -> None:
    churn = {"events": [{"at": 0.45, "kill": ["n1"]}, {"at": 4.0, "start": ["n1"]}]}
    assert simulate(scenario(churn=churn)).drift[-1] > 1e-3


def test_distance_is_of_those_who_are_up() -> None:
    churn = {"events": [{"at": 0.05, "kill": ["n2-n4"]}]}
    trace = simulate(scenario(churn=churn))
    assert np.isfinite(trace.distance[0])
    assert np.isnan(trace.distance[1:]).all(), "one alone is no swarm"
    nobody = simulate(scenario(churn={"events": [{"at": 0.05, "kill": ["all"]}]}))
    assert np.isnan(nobody.distance[1:]).all()
    assert np.isnan(nobody.optimum).all()


def test_traffic_of_all_lives_is_counted() -> None:
    churn = {"events": [{"at": 4.1, "kill": ["n1"]}, {"at": 6.0, "start": ["n1"]}]}
    trace = simulate(scenario(churn=churn))
    assert (np.diff(trace.sent, axis=0) >= 0).all()
    assert (np.diff(trace.messages, axis=0) >= 0).all()
    down = (trace.times > 4.2) & (trace.times < 5.9)
    assert len(set(trace.sent[down, 0])) == 1
    assert trace.sent[-1, 0] > trace.sent[down, 0][0]


def test_the_distance_from_the_optimum_is_that_of_the_mean_model() -> None:
    trace = simulate(scenario(task={"name": "quadratic", "size": 6}))
    learners = Learners(scenario(task={"name": "quadratic", "size": 6}))
    assert learners.optimum is not None
    assert trace.optimum[0] == pytest.approx(np.linalg.norm(learners.optimum), rel=1e-6)


def test_looking_changes_nothing_and_takes_no_time() -> None:
    asked, learners = scenario(network={"latency_sigma": 0.5}), Learners(scenario())
    quiet = simulate(asked).event_hash
    log = EventLog()
    run = _Run(asked, learners, log, None)

    async def script() -> None:
        for number in range(1, 60):
            run.world.loop.call_at(number / 7, _look, run)
        await run.script()

    run.world.play(script)
    assert log.digest() == quiet


def _look(run: _Run) -> None:
    now = run.world.loop.now_ns
    looks = Looks(run.world, Learners(run.scenario), Tallies(4, EventLog(), lambda: now))
    looks.look()
    assert len(looks.times) == len(looks.drift) == len(looks.presence) == 1
    assert run.world.loop.now_ns == now
