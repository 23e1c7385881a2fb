"""What was done to nodes is counted, and is not what they did to themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from p2pfl.scenario.deeds import deeds, deeds_told
from p2pfl.scenario.trace import Mark, Presence, Trace
from tests.scenario.traces import made, made_scenario

QUIET = made_scenario(nodes=4, churn={})
MARKS = (
    Mark(5.0, None, "n1 killed", (0,), "kill"),
    Mark(6.0, 9.0, "n1-n2 | n3-n4", (), "partition"),
    Mark(7.0, 9.0, "messages between n1 and n4 held", (0, 3), "hold"),
    Mark(10.0, None, "n1, n4 started", (0, 3), "start"),
    Mark(20.0, 30.0, "n2, n3 frozen", (1, 2), "pause"),
    Mark(40.0, None, "n2 asked to stop", (1,), "stop"),
)


def trace_of(*marks: Mark) -> Trace:
    whole = made(nodes=4, marks=marks, scenario=QUIET, churn=0.0)
    presence = np.full_like(whole.presence, Presence.UP)
    presence[whole.times < 10.0, 3] = Presence.ABSENT
    return replace(whole, presence=presence)


def test_a_start_is_a_comeback_of_whoever_was_there_and_else_a_late_arrival() -> None:
    assert deeds(trace_of(*MARKS)) == {
        "killed": 1,
        "started again": 1,
        "joined late": 1,
        "frozen": 2,
        "asked to stop": 1,
    }


def test_they_are_told_in_words() -> None:
    text = "1 killed, 1 asked to stop, 1 started again, 1 joined late, 2 frozen"
    assert deeds_told(trace_of(*MARKS)) == text
    assert deeds_told(trace_of()) == deeds_told(trace_of(MARKS[1])) == ""


def test_what_chance_did_is_not_counted_and_that_is_said() -> None:
    whole = replace(trace_of(MARKS[0]), scenario=made_scenario(nodes=4))
    assert deeds_told(whole) == "1 killed; who came and went by chance is not counted"


def test_who_was_killed_before_anybody_looked_comes_back_all_the_same() -> None:
    whole = trace_of(MARKS[0], MARKS[3])
    whole = replace(whole, times=whole.times[:0], presence=whole.presence[:0])
    assert deeds_told(whole) == "1 killed, 1 started again, 1 joined late"
