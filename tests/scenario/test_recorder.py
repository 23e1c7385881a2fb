"""Counts of a run: who counts, and what is a stall."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import pytest

from p2pfl.core.events import Cycle, Event, Exchanged, Started
from p2pfl.scenario.eventlog import EventLog
from p2pfl.scenario.recorder import Tallies
from p2pfl.scenario.trace import STALENESS_EDGES
from p2pfl.sim.loop import NS


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> int:
        return round(self.seconds * NS)


def tallies(nodes: int = 2) -> tuple[Tallies, Clock]:
    clock = Clock()
    return Tallies(nodes, EventLog(), clock), clock


def cycle(steps: int = 5) -> Cycle:
    return Cycle(0.0, 1, steps, 5, 5, 0.5, 0.1)


def started() -> Started:
    return Started(0.0, "ab", "n1", "r", "0" * 16, "h:1", 1, 0, False)


def at(found: Tallies, clock: Clock, seconds: float, place: int, event: Event) -> None:
    clock.seconds = seconds
    found.record(place, event)


def test_cycles_and_steps_of_all_lives_are_counted() -> None:
    found, clock = tallies()
    for second in range(3):
        at(found, clock, second, 0, cycle(5))
    at(found, clock, 3, 1, cycle(2))
    found.was_away(0)
    at(found, clock, 9, 0, cycle(5))
    assert list(found.cycles) == [4, 1]
    assert found.steps == 22


def test_asked_exchanges_count_by_outcome_and_answered_ones_by_staleness() -> None:
    found, clock = tallies()
    for outcome in ("flow", "flow", "busy"):
        at(found, clock, 1, 0, Exchanged(1.0, "ab", "asked", outcome, staleness=50.0))
    for staleness in (0.0, 0.3, 1.0, 99.9, 100.0, 1e6):
        at(found, clock, 1, 1, Exchanged(1.0, "ab", "answered", "flow", 0.5, staleness))
    at(found, clock, 1, 1, Exchanged(1.0, "ab", "answered", "busy"))
    assert found.outcomes == {"flow": 2, "busy": 1}
    assert found.staleness.sum() == 6
    for staleness, count in ((0.0, 1), (0.3, 1), (1.0, 1), (99.9, 1), (100.0, 2)):
        assert found.staleness[bisect_right(STALENESS_EDGES, staleness) - 1] == count
    assert len(found.staleness) == len(STALENESS_EDGES)


def test_a_stall_is_the_longest_pause_between_two_cycles() -> None:
    found, clock = tallies()
    at(found, clock, 0, 0, started())
    for second in (1.0, 2.0, 5.5, 6.0):
        at(found, clock, second, 0, cycle())
    assert found.stalls[0] == pytest.approx(3.5)
    assert found.stalls[1] == 0


def test_the_time_before_the_first_cycle_counts_too() -> None:
    found, clock = tallies()
    at(found, clock, 2, 0, started())
    at(found, clock, 6, 0, cycle())
    assert found.stalls[0] == pytest.approx(4)


def test_who_was_away_did_not_stall() -> None:
    found, clock = tallies()
    at(found, clock, 0, 0, started())
    at(found, clock, 1, 0, cycle())
    found.was_away(0)
    clock.seconds = 60.0
    found.is_back(0)
    at(found, clock, 60.5, 0, cycle())
    assert found.stalls[0] == pytest.approx(1.0)


def test_who_is_started_again_counts_from_then() -> None:
    found, clock = tallies()
    at(found, clock, 0, 0, started())
    found.was_away(0)
    at(found, clock, 50, 0, started())
    at(found, clock, 50.25, 0, cycle())
    assert found.stalls[0] == pytest.approx(0.25)


def test_who_stopped_training_has_stalled_until_the_end_unless_it_is_away() -> None:
    found, clock = tallies()
    at(found, clock, 0, 0, started())
    at(found, clock, 0, 1, started())
    at(found, clock, 1, 0, cycle())
    found.was_away(1)
    clock.seconds = 31.0
    found.end()
    assert list(found.stalls) == [pytest.approx(30), pytest.approx(1)]


def test_every_event_goes_to_the_log() -> None:
    found, clock = tallies()
    at(found, clock, 1, 0, cycle())
    at(found, clock, 1, 1, started())
    assert found._log.count == 2
