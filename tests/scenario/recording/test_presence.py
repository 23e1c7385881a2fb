"""Who was up when, and what silence means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from p2pfl.core.events import Cycle, Exchanged, Measured, MemberChanged
from p2pfl.scenario.recording import Timed, lives, silence_s
from tests.scenario.recording.made import BOOTED, WALL, Made, record


def test_a_node_that_stayed_until_the_end_is_one_life() -> None:
    found = record(Made("a").lives(0, 20), Made("b").lives(0, 20, stops=True))
    assert [len(node.lives) for node in found.nodes] == [1, 1]
    assert all(node.lives[0].ending == "present" for node in found.nodes)
    assert found.seconds == pytest.approx(20, abs=0.3)


def test_a_slow_node_may_be_silent_for_ten_of_its_cycles() -> None:
    slow = Made("b", period_s=2.0).lives(0, 40)
    assert silence_s(slow.events) == pytest.approx(20.0)
    assert record(Made("a").lives(0, 55), slow).nodes[1].lives[0].ending == "present"
    assert record(Made("a").lives(0, 65), slow).nodes[1].lives[0].ending == "crashed"


def test_peers_that_heard_of_a_node_after_its_last_flushed_word_move_its_crash() -> None:
    dead, alive = Made("b").lives(0, 10), Made("a").lives(0, 30)
    last = dead.events[-1][0] - WALL
    alive.record(last + 0.4, Exchanged, dead.id, "answered", "flow")
    alive.record(last + 0.7, Exchanged, dead.id, "asked", "timeout")
    alive.record(last + 3.0, Exchanged, dead.id, "answered", "flow")
    found = record(alive, dead)
    assert found.nodes[1].lives[0].end == pytest.approx(last + 0.4)


def test_a_first_step_may_take_any_time_without_being_a_freeze() -> None:
    slow = Made("b").lives(20, 40)
    start = slow.events[0]
    slow.events[0] = (WALL + 2, replace(start[1], at=WALL + 2 - BOOTED))
    slow.events.append((WALL + 2.1, MemberChanged(5002.1, "p", "alive", 1, "heard")))
    assert record(Made("a").lives(0, 40), slow).nodes[1].lives[0].gaps == ()


def test_long_evaluations_are_no_freezes() -> None:
    node = Made("a", period_s=5.5)
    node.lives(0, 60)
    for wall, event in [timed for timed in node.events if isinstance(timed[1], Cycle)]:
        measured = Measured(event.at + 5, event.cycle, event.age, 0.1, 0.9, 100)
        node.events.append((wall + 5, measured))
    node.period_s = 0.2
    node.lives(70, 90)  # many short cycles make the median cycle short
    assert silence_s(sorted(node.events, key=lambda timed: timed[0])) >= 15


def one_life(events: Iterable[Timed], end: float) -> int:
    return len(lives(list(events), end=end))


def test_a_journal_that_lost_its_beginning_still_has_a_life() -> None:
    node = Made("a").lives(0, 20)
    assert one_life(node.events[1:], WALL + 20) == 1
    assert lives(node.events[1:], end=WALL + 20)[0].resumed
