"""Verdicts: each bound holds exactly at its value, and what is not known does not hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.scenario.expect import Verdict, judged, without_bound
from p2pfl.scenario.record import Record
from tests.scenario.made import made_plan, made_record


def missed(record: Record) -> list[str]:
    return [verdict.what for verdict in judged(record) if not verdict.held]


def named(record: Record, start: str) -> Verdict:
    (found,) = [verdict for verdict in judged(record) if verdict.what.startswith(start)]
    return found


def test_everything_holds_at_its_very_bound() -> None:
    assert missed(made_record()) == []


def test_a_mean_below_the_bound_is_missed_and_shown() -> None:
    record = made_record(finals=dict.fromkeys(made_plan().names, 0.9295))
    assert named(record, "mean accuracy") == Verdict(
        "mean accuracy, 4 nodes", ">= 0.930", "0.929", held=False
    )


def test_a_node_that_is_gone_at_the_end_cannot_be_left_out_of_the_mean() -> None:
    record = made_record(finals={**made_record().finals, "node-3": None})
    assert missed(record) == ["mean accuracy, 4 nodes"]
    assert named(record, "mean accuracy").value == "node-3 not known"


def test_the_longest_stall_counts_and_is_named() -> None:
    record = made_record(stalls={"node-1": 0.2, "node-5": 3.2, "node-6": 1.0})
    assert named(record, "longest stall").value == "3.2 s (node-5)"
    assert missed(record) == ["longest stall"]


@pytest.mark.parametrize("name", ["node-2", "node-4"])
def test_a_node_that_stays_behind_the_mean_is_missed(name: str) -> None:
    finals = dict.fromkeys(made_plan().names, 0.98) | {name: 0.93}
    assert [what.split()[-1] for what in missed(made_record(finals=finals))] == [name]


def test_a_node_may_be_three_hundredths_behind_and_any_amount_ahead() -> None:
    finals = dict.fromkeys(made_plan().names, 0.95) | {"node-2": 0.93, "node-4": 1.0}
    assert missed(made_record(finals=finals)) == []


def test_a_restarted_node_that_lost_its_checkpoint_is_missed() -> None:
    record = made_record(resumed={"node-2": 0})
    assert missed(record) == ["checkpoint of node-2"]


def test_a_node_that_ended_by_itself_is_missed_and_named() -> None:
    assert named(made_record(untimely=("node-1",)), "ended by itself").value == "node-1"


def test_a_task_of_ones_own_has_no_accuracy_bound_and_is_told_so() -> None:
    plan = made_plan(task="my_task.py")
    verdicts = judged(made_record(plan, finals=dict.fromkeys(plan.names, 0.2)))
    assert not [one for one in verdicts if one.what.startswith("mean accuracy")]
    assert all(one.held for one in verdicts)
    assert "no accuracy is expected" in without_bound(plan)
    assert without_bound(made_plan()) == ""


def test_a_task_without_accuracy_is_judged_by_its_life_alone() -> None:
    plan = made_plan(task="my_task.py")
    verdicts = judged(made_record(plan, finals=dict.fromkeys(plan.names, None)))
    assert [one.what for one in verdicts] == ["longest stall", "checkpoint of node-2"]


def test_without_faults_only_mean_and_stalls_are_expected() -> None:
    plan = replace(made_plan(), with_faults=False)
    record = made_record(plan, resumed={})
    assert [one.what.split(",")[0] for one in judged(record)] == ["mean accuracy", "longest stall"]
