"""A scenario in virtual time: how long it runs, what a trace of it holds, and replays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.config import NodeConfig
from p2pfl.errors import ConfigError
from p2pfl.scenario.eventlog import LOG, Diverged, read
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import STALENESS_EDGES, Presence, Progress
from p2pfl.scenario.virtual import expected_s, simulate


def scenario(**values: Any) -> Scenario:
    whole = {
        "name": "small",
        "nodes": 4,
        "seed": 1,
        "task": {"name": "quadratic", "size": 5},
        "duration": {"seconds": 10.0},
        "node": {"train": {"cycle_min_s": 0.2}},
        "measure": {"samples": 20},
    }
    return Scenario.model_validate(whole | values)


def test_a_run_in_seconds_is_looked_at_from_beginning_to_end() -> None:
    trace = simulate(scenario())
    assert trace.times == pytest.approx(np.linspace(0, 10, 21))
    assert trace.seconds == 10.0
    assert trace.notes == ()


def test_a_trace_has_every_array_in_its_shape() -> None:
    trace = simulate(scenario())
    looks = len(trace.times)
    for name in ("presence", "accuracy", "cycles", "age", "sent", "messages"):
        assert getattr(trace, name).shape == (looks, 4), name
    for name in ("distance", "pending", "drift", "optimum"):
        assert getattr(trace, name).shape == (looks,), name
    assert trace.staleness.shape == (len(STALENESS_EDGES),)
    assert trace.stalls.shape == (4,)
    assert (trace.presence == Presence.UP).all()
    assert np.isnan(trace.accuracy).all(), "quadratics have none"
    assert np.isnan(trace.drift).all(), "and they learn"
    assert trace.optimum[-1] < trace.optimum[0] / 3
    assert trace.engine == "virtual"
    assert trace.staleness.sum() > 0
    assert trace.outcomes["flow"] > 0
    assert trace.events is not None
    assert trace.steps >= trace.cycles[-1].sum() > 100
    assert list(trace.outcomes) == sorted(trace.outcomes)
    for rising in (trace.cycles, trace.sent, trace.messages):
        assert (np.diff(rising, axis=0) >= 0).all()


def test_a_run_in_cycles_ends_when_the_mean_node_has_done_them() -> None:
    trace = simulate(scenario(duration={"cycles": 30}))
    assert 30 <= trace.cycles[-1].mean() < 34
    assert trace.cycles[-2].mean() < 30


def test_a_run_in_cycles_in_which_nobody_trains_ends_all_the_same_and_says_so() -> None:
    churn = {"events": [{"at": 1.0, "kill": ["all"]}]}
    trace = simulate(scenario(duration={"cycles": 30}, churn=churn))
    assert trace.cycles[-1].mean() < 10
    assert "of 30 cycles" in trace.notes[0]
    assert trace.notes[0].startswith("ended after ")


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        ([0.01, 0.01], 10 * 0.1),  # ten steps fill a target of 0.1 s
        ([0.5], 10 * 0.5),  # one step is all it takes
        ([0.001], 10 * 0.1),  # at most 20 steps of 1 ms, and the wait for cycle_min_s
        ([0.1, 0.5], 10 * 2 / (1 / 0.1 + 1 / 0.5)),
    ],
)
def test_how_long_cycles_take_is_known_beforehand(step_s: list[float], expected: float) -> None:
    assert expected_s(10, NodeConfig(), np.array(step_s)) == pytest.approx(expected)


def test_a_run_is_told_of_while_it_goes_on() -> None:
    told: list[Progress] = []
    faults = {"events": [{"at": 3.0, "until": 5.0, "pause": ["n2"]}]}
    simulate(scenario(faults=faults), told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0.0, 1.0)
    assert [p.said for p in told if p.said] == ["n2 frozen", "over: n2 frozen"]
    assert {p.up for p in told} == {4}
    last = told[-1]
    assert last.seconds == 10.0
    assert last.mean is None
    assert last.distance is not None
    assert last.cycles > 20


def test_watching_changes_nothing() -> None:
    quiet = simulate(scenario())
    watched = simulate(scenario(), lambda _: None)
    assert quiet.event_hash == watched.event_hash


def test_how_often_a_run_is_looked_at_does_not_change_it() -> None:
    often = simulate(scenario(measure={"samples": 50}))
    seldom = simulate(scenario(measure={"samples": 5}))
    assert often.event_hash == seldom.event_hash
    assert (len(often.times), len(seldom.times)) == (51, 6)


def test_a_run_can_be_replayed_and_another_one_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / LOG
    trace = simulate(scenario(), events=path)
    assert sum(1 for _ in read(path)) == trace.events
    again = simulate(scenario(), recorded=read(path))
    assert again.event_hash == trace.event_hash
    with pytest.raises(Diverged, match="event 1 differs"):
        simulate(scenario(seed=2), recorded=read(path))


def test_a_difference_deep_inside_a_node_is_told_as_the_first_one(tmp_path: Path) -> None:
    path = tmp_path / LOG
    simulate(scenario(), events=path)
    asked = scenario(faults={"events": [{"at": 5.0, "clock_jump": ["n2"]}]})
    with pytest.raises(Diverged, match=r"differs: 5\.\d+ s, node \d"):
        simulate(asked, recorded=read(path))


def test_a_task_that_cannot_be_used_is_one_sentence() -> None:
    with pytest.raises(ConfigError):
        simulate(scenario(task={"name": "no-such-task"}))
    with pytest.raises(ConfigError, match="cannot hold all 10 classes"):
        simulate(scenario(task={"name": "digits-numpy", "partition": "classes:1"}))


@pytest.mark.parametrize(
    ("topology", "links"),
    [
        ("full", {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}),
        ("edges:n1--n2,n2--n3,n3--n4", {(0, 1), (1, 2), (2, 3)}),
    ],
)
def test_links_are_those_of_the_rule(topology: str, links: set[tuple[int, int]]) -> None:
    assert set(simulate(scenario(topology=topology)).links) == links


def test_links_of_a_ring_are_a_ring_whatever_the_ids() -> None:
    links = simulate(scenario(topology="ring", nodes=7)).links
    assert len(links) == 7
    assert all(sum(place in link for link in links) == 2 for place in range(7))


def test_a_lone_node_trains_alone() -> None:
    trace = simulate(scenario(nodes=1))
    assert trace.cycles[-1, 0] > 20
    assert np.isnan(trace.distance).all()
    assert trace.links == ()


def test_a_learning_swarm_learns() -> None:
    trace = simulate(
        scenario(
            task={"name": "digits-numpy", "partition": "iid"},
            duration={"seconds": 8.0},
            measure={"samples": 4},
        )
    )
    assert trace.accuracy[-1].mean() > 0.8 > trace.accuracy[0].mean()
    assert trace.deaths == {}
