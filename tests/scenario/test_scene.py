"""A node's state in a word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.scenario.processes import Condition
from p2pfl.scenario.scene import Mood, state_of
from p2pfl.scenario.timeline import Role
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
