"""A node's state in a word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.scenario.processes import Condition
from p2pfl.scenario.scene import Mood, Row, state_of, swarm_of
from p2pfl.scenario.timeline import Role
from p2pfl.scenario.watching import FRESH_S, Together
from tests.scenario.made import made_look

SEEN = made_look()


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        (Condition.PLANNED, "waiting"),
        (Condition.FROZEN, "frozen"),
        (Condition.KILLED, "killed"),
        (Condition.DIED, "died"),
        (Condition.STOPPED, "stopped"),
    ],
)
def test_what_we_did_to_a_process_outweighs_what_it_said_before(
    condition: Condition, word: str
) -> None:
    assert state_of(condition, 1, Role.SURVIVOR, SEEN, is_fresh=True)[0] == word


@pytest.mark.parametrize(
    ("starts", "role", "word"),
    [
        (1, Role.SURVIVOR, "training"),
        (1, Role.FROZEN, "training"),
        (2, Role.RESTARTED, "restarted"),
        (1, Role.LATE, "late"),
    ],
)
def test_a_node_that_trains_is_well_and_its_history_shows(
    starts: int, role: Role, word: str
) -> None:
    assert state_of(Condition.RUNNING, starts, role, SEEN, is_fresh=True) == (word, Mood.GOOD)


@pytest.mark.parametrize(("starts", "word"), [(1, "starting"), (2, "restarting")])
def test_a_node_that_has_not_spoken_in_this_life_is_on_its_way(starts: int, word: str) -> None:
    for seen in (None, replace(SEEN, state="starting")):
        found = state_of(Condition.RUNNING, starts, Role.RESTARTED, seen, is_fresh=True)
        assert found == (word, Mood.BUSY)


def test_a_running_node_that_does_not_answer_is_silent() -> None:
    found = state_of(Condition.RUNNING, 1, Role.SURVIVOR, SEEN, is_fresh=False)
    assert found == ("silent", Mood.BAD)


def test_a_node_without_others_says_so() -> None:
    alone = replace(SEEN, state="alone")
    found = state_of(Condition.RUNNING, 1, Role.LATE, alone, is_fresh=True)
    assert found == ("alone", Mood.BUSY)


def test_the_common_figures_are_those_of_the_rows_beside_them() -> None:
    rows = [
        Row("node-1", "training", Mood.GOOD, made_look("node-1", 9.9, 0.9), answers=True),
        Row("node-2", "alone", Mood.BUSY, made_look("node-2", 9.5, 0.7), answers=True),
        Row("node-3", "starting", Mood.BUSY, made_look("node-3", 9.5, None), answers=True),
        Row("node-4", "killed", Mood.BAD, made_look("node-4", 9.9, 0.1)),
        Row("node-5", "waiting", Mood.QUIET, None),
    ]
    before = Together(9.0, 5, 0.2, 0.1, 0.125)
    swarm, ago_s = swarm_of(rows, 10.0, [before])
    assert swarm == Together(10.0, 3, pytest.approx(0.8), 0.7, 0.125)
    assert ago_s == 1.0


def test_a_distance_of_long_ago_is_none_of_now_and_a_look_that_failed_hides_no_earlier_one() -> (
    None
):
    rows = [Row("node-1", "training", Mood.GOOD, SEEN, answers=True)]
    old, failed = Together(1.0, 2, 0.5, 0.5, 0.25), Together(2.0, 2, 0.5, 0.5, None)
    swarm, ago_s = swarm_of(rows, 2.5, [old, failed])
    assert (swarm.distance if swarm else None, ago_s) == (0.25, 1.5)
    swarm, _ = swarm_of(rows, 1.1 + FRESH_S, [old, failed])
    assert swarm is not None
    assert swarm.distance is None


def test_where_nobody_answers_there_are_no_common_figures() -> None:
    assert swarm_of([Row("node-1", "silent", Mood.BAD, SEEN)], 1.0, []) == (None, 0.0)
