"""Counters for people, bounded because strangers choose the keys."""

from __future__ import annotations

import math

from p2pfl.core.tally import STALENESS_EDGES, Tally


def test_both_ends_of_exchanges_are_counted_apart_by_outcome():
    tally = Tally(limit=4)
    tally.exchange("asked", "flow", 1.0, 2.0)
    tally.exchange("asked", "busy", 0.0, None)
    tally.exchange("answered", "flow", 1.0, 2.0)
    assert tally.asked == {"flow": 1, "busy": 1}
    assert tally.answered == {"flow": 1}


def test_only_exchanges_that_moved_something_enter_the_means():
    tally = Tally(limit=4)
    tally.exchange("asked", "flow", 2.0, 10.0)
    tally.exchange("asked", "busy", 9.0, None)
    assert (tally.staleness, tally.distance) == (2.0, 10.0)
    tally.exchange("answered", "flow", 3.0, 20.0)
    assert (tally.staleness, tally.distance) == (2.2, 12.0)


def test_a_distance_that_overflowed_does_not_spoil_the_mean_for_ever():
    tally = Tally(limit=4)
    tally.exchange("answered", "flow", 1.0, 5.0)
    tally.exchange("answered", "flow", 1.0, math.inf)
    tally.exchange("answered", "flow", 1.0, math.nan)
    assert tally.distance == 5.0
    assert tally.answered["flow"] == 3


def test_exchanges_are_counted_by_their_staleness_in_bins_whose_last_is_open():
    assert list(STALENESS_EDGES) == sorted(STALENESS_EDGES)
    tally = Tally(limit=4)
    for staleness in (0.0, 0.2, 0.25, 0.9, 1.0, 31.9, 32.0, 1e9, math.inf):
        tally.exchange("answered", "flow", staleness, 1.0)
    tally.exchange("asked", "busy", 0.3, None)
    tally.exchange("asked", "flow", 0.3, math.nan)
    assert tally.staleness_counts == [2, 1, 1, 1, 0, 0, 0, 1, 3]
    assert len(tally.staleness_counts) == len(STALENESS_EDGES) - 1


def test_faults_are_counted_against_the_peer_and_its_reason():
    tally = Tally(limit=4)
    for reason in ("timeout", "timeout", "shape"):
        tally.against("a", reason)
    assert tally.by_peer == {"a": {"timeout": 2, "shape": 1}}


def test_beyond_the_limit_strangers_share_one_entry():
    tally = Tally(limit=3)
    for k in range(1000):
        tally.against(f"stranger {k}", "rate")
    assert len(tally.by_peer) == 4
    assert tally.by_peer["others"] == {"rate": 997}
    tally.against("stranger 0", "rate")
    assert tally.by_peer["stranger 0"] == {"rate": 2}


def test_one_peer_with_endlessly_many_reasons_is_bounded_too():
    tally = Tally(limit=3)
    for k in range(1000):
        tally.against("a", f"version is {k}, expected 1")
    assert len(tally.by_peer["a"]) <= 40
    assert sum(tally.by_peer["a"].values()) == 1000
    tally.against("a", "version is 0, expected 1")
    assert tally.by_peer["a"]["version is 0, expected 1"] == 2
