"""What counts of what a node saw, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.core.events import Exchanged
from tests.scenario.recording.made import VALUES, WALL, Made, record, value


def test_a_freeze_does_not_slow_a_device_down() -> None:
    node = Made("a", step_s=0.01).lives(0, 10, silent=(4, 9))
    number = next(n for n, (wall, _) in enumerate(node.events) if wall >= WALL + 9)
    wall, event = node.events[number]
    node.events[number] = (wall, replace(event, seconds=5.0))  # type: ignore[call-arg]
    found = record(node, Made("b").lives(0, 10))
    assert max(found.nodes[0].step_s) == pytest.approx(0.01)
    assert max(found.nodes[0].periods) == pytest.approx(0.2)


def test_a_peer_that_was_away_frozen_or_unknown_loses_nothing() -> None:
    a, dead, frozen = Made("a"), Made("b"), Made("c")
    a.lives(0, 60, peer=dead)
    for at in (21, 23, 24.5):
        a.record(at, Exchanged, dead.id, "asked", "timeout", 0, 0, 0, 0, 9640, 1.0)
        a.record(at, Exchanged, frozen.id, "asked", "timeout", 0, 0, 0, 0, 9640, 1.0)
        a.record(at, Exchanged, "f" * 32, "asked", "timeout", 0, 0, 0, 0, 9640, 1.0)
        a.record(at, Exchanged, dead.id, "asked", "unreachable", 0, 0, 0, 0, 9640, 0.0)
    dead.lives(0, 20.5).lives(25, 60)
    frozen.lives(0, 60, silent=(20, 26))
    found = record(a, dead, frozen)
    assert value(found, "network.loss_probability") == 0
    assert found.nodes[0].losses == 0


def test_answers_to_resolve_are_no_exchanges_of_their_own() -> None:
    a, b = Made("a").lives(0, 20), Made("b").lives(0, 20)
    a.record(5, Exchanged, b.id, "asked", "flow", 0.5, 0, 1.0, 4 * VALUES, 0, 3.0)
    found = record(a, b)
    assert (found.nodes[0].exchanges, found.nodes[0].trips) == (0, {})
