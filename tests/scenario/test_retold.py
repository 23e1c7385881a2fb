"""A demo as the trace of a run: what was done to whom, and what was measured, and no more."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.scenario.expect import judged
from p2pfl.scenario.pages import page
from p2pfl.scenario.record import Happening, Record, Sample, What
from p2pfl.scenario.retold import as_scenario, final_distance, retold
from p2pfl.scenario.trace import Mark, Presence
from p2pfl.scenario.verdicts import figures
from tests.scenario.made import made_look, made_plan, made_record

STATES = {
    "node-1": ["training"] * 4,
    "node-2": ["training", "killed", "restarting", "restarted"],
    "node-3": ["training", "frozen", "silent", "training"],
    "node-4": ["waiting", "waiting", "starting", "late"],
}
TIMES = (0.0, 10.0, 20.0, 29.0)


def record() -> Record:
    """Four looks at a swarm in which everything happens."""
    plain = made_record(made_plan(folder=Path("nowhere")))
    looks = {
        name: [
            replace(
                made_look(name, at, 0.5 + at / 100),
                node=name * 4,
                cycles=20 + round(at),
                bytes_out=1000 + round(100 * at),
            )
            for at in (-1.0, *TIMES)
        ]
        for name in STATES
    }
    looks["node-4"] = looks["node-4"][-1:]
    samples = [
        Sample(at, name, states[row], looks[name][-1] if states[row] in SEEN else None)
        for row, at in enumerate(TIMES)
        for name, states in STATES.items()
    ]
    return replace(plain, looks=looks, samples=samples)


SEEN = ("training", "restarted", "late", "restarting")


def test_who_was_there_is_what_the_viewer_saw() -> None:
    up, paused, down, absent = (
        Presence.UP,
        Presence.PAUSED,
        Presence.DOWN,
        Presence.ABSENT,
    )
    trace = retold(record())
    assert trace.names == ("node-1", "node-2", "node-3", "node-4")
    assert trace.times.tolist() == list(TIMES)
    assert trace.presence.T.tolist() == [
        [up, up, up, up],
        [up, down, down, up],
        [up, paused, up, up],
        [absent, absent, absent, up],
    ]


def test_what_nobody_measured_is_missing_also_while_a_node_restarts() -> None:
    known = np.isfinite(retold(record()).accuracy)
    assert known.T.tolist() == [
        [True, True, True, True],
        [True, False, False, True],
        [True, False, False, True],
        [False, False, False, True],
    ]


def test_counters_begin_with_the_run_and_are_not_guessed_before_a_node_was_seen() -> None:
    trace = retold(record())
    assert trace.sent[:, 0].tolist() == [0.0, 1000.0, 2000.0, 2900.0]
    assert trace.cycles[:, 0].tolist() == [0.0, 10.0, 20.0, 29.0]
    assert np.isnan(trace.sent[:3, 3]).all()
    assert trace.sent[3, 3] == 3900.0


def test_marks_are_the_faults_with_their_ends() -> None:
    assert retold(record()).marks == (
        Mark(4.5, None, "node-2 is killed", (1,), "kill"),
        Mark(8.1, None, "node-2 is started again", (1,), "start"),
        Mark(10.8, None, "node-4 joins late", (3,), "start"),
        Mark(13.7, 20.4, "node-3 is frozen", (2,), "pause"),
    )


def test_an_old_distance_is_no_distance_of_now() -> None:
    whole = record()
    distance = retold(replace(whole, history=whole.history[:11])).distance
    assert distance[:2].tolist() == [1.0, 1 / 11]
    assert np.isnan(distance[2:]).all()


def test_who_ended_by_itself_has_its_last_words_and_fails_the_report() -> None:
    whole = made_record()
    died = Happening(9.0, "node-3", What.DIED, "node-3 ended by itself: out of memory")
    whole = replace(record(), happenings=[*whole.happenings, died], untimely=("node-3",))
    trace = retold(whole)
    assert trace.deaths == {"node-3": "node-3 ended by itself: out of memory"}
    text = page(trace, judged(whole), "p2pfl demo")
    assert "demo: failed" in text
    assert "out of memory" in text


def test_the_report_counts_what_was_done_apart_from_who_ended_by_itself() -> None:
    whole = record()
    text = page(retold(whole), judged(whole), "p2pfl demo")
    done = "1 killed, 1 started again, 1 joined late, 1 frozen"
    assert f"<dt>done to nodes</dt><dd>{done}</dd>" in text
    assert "<dt>ended by themselves</dt><dd>0</dd>" in text
    assert "deaths" not in text.lower()


def test_the_final_distance_is_that_of_the_report_and_of_the_moments_of_final_accuracies() -> None:
    whole = record()
    found = figures(retold(whole))["consensus_distance"]
    assert final_distance(whole) == found == whole.history[-1].distance
    assert final_distance(replace(whole, history=[])) is None
    assert final_distance(replace(whole, samples=[])) is None


def test_the_report_has_the_verdicts_of_the_demo_and_its_names() -> None:
    whole = record()
    text = page(retold(whole), judged(whole), "p2pfl demo --seed 0")
    assert "demo: passed" in text
    assert "restarted node-2" in text
    assert "&gt;= mean - 0.03" in text
    assert "checkpoint of node-2" in text
    assert "node-3 is frozen" in text
    assert "p2pfl run --engine processes" in text
    assert "Every setting" not in text
    assert '"node-4"' in text


@pytest.mark.parametrize("seconds", [10.0, 45.0, 3600.0])
@pytest.mark.parametrize("nodes", [2, 5, 32])
def test_a_plan_is_a_scenario_with_the_same_faults(nodes: int, seconds: float) -> None:
    plan = made_plan(nodes=nodes, seconds=seconds)
    scenario = as_scenario(plan)
    assert scenario.nodes == nodes + 1
    assert scenario.churn.absent == (scenario.names[-1],)
    happens = sorted([e.at for e in scenario.churn.events] + [e.at for e in scenario.faults.events])
    assert happens == pytest.approx([step.at for step in plan.steps[:4]], abs=1e-3)
    assert scenario.faults.events[0].until == pytest.approx(plan.steps[4].at, abs=1e-3)


def test_a_demo_without_faults_and_of_a_task_of_ones_own() -> None:
    plan = made_plan(task="mine.py", with_faults=False)
    scenario = as_scenario(plan)
    assert (scenario.nodes, scenario.churn.events, scenario.faults.events) == (3, (), ())
    assert set(scenario.expect.bounds()) == {"stall_s"}
    whole = made_record(plan, happenings=[], finals=dict.fromkeys(plan.names), resumed={})
    assert any("task of your own" in note for note in retold(whole).notes)


def test_a_demo_that_nobody_looked_at_has_a_report_all_the_same() -> None:
    whole = replace(made_record(), samples=[], history=[], looks={})
    trace = retold(whole)
    assert trace.seconds == 0.0
    assert math.isnan(trace.stalls[1])
    assert "ended before anybody looked" in page(trace, judged(whole), "p2pfl demo")


def test_equal_models_are_a_gap_that_the_report_explains() -> None:
    whole = record()
    text = page(retold(whole), judged(whole), "p2pfl demo")
    assert "exactly equal" not in text
    history = [replace(one, distance=0.0) for one in whole.history]
    text = page(retold(replace(whole, history=history)), judged(whole), "p2pfl demo")
    assert "Where they are exactly equal there is a gap" in text
