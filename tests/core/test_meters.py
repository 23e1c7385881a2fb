"""Patience: what is waited for, and for how long."""

import pytest

from p2pfl.core.meters import Meters, PeerMeter, Pulse


def test_patience_follows_what_is_usual_and_doubles_once_after_misses():
    pulse = Pulse()
    assert pulse.patience_s() == 0
    for _ in range(50):
        pulse.came(0.1)
    assert pulse.patience_s() == pytest.approx(0.4, rel=1e-3)
    for _ in range(5):
        pulse.missed()
        assert pulse.patience_s() == pytest.approx(0.8, rel=1e-3)
    pulse.came(0.1)
    assert pulse.patience_s() == pytest.approx(0.4, rel=1e-3)
    for seconds in (0.1, 1.0) * 20:
        pulse.came(seconds)
    assert pulse.patience_s() > 2, "who is irregular is waited for longer"


def test_a_new_peer_is_waited_for_as_long_as_the_slowest_known_one():
    meters = Meters(limit=10)
    assert meters.patience_s("new", whole=True) == 0
    meters.of("fast").whole.came(0.1)
    meters.of("slow").whole.came(1.0)
    assert meters.patience_s("fast", whole=True) < 0.5
    assert meters.patience_s("new", whole=True) == meters.patience_s("slow", whole=True) >= 3
    assert meters.patience_s("new", whole=False) == 0


def test_who_never_answered_is_waited_for_twice_as_long_each_time_up_to_sixteen_fold():
    meters = Meters(limit=10)
    meters.of("known").whole.came(0.1)
    first = meters.patience_s("slow", whole=True)
    for factor in (2, 4, 8, 16, 16):
        meters.of("slow").whole.missed()
        assert meters.patience_s("slow", whole=True) == pytest.approx(factor * first)


def test_meters_of_made_up_peers_are_bounded():
    meters = Meters(limit=5)
    for k in range(100):
        meters.of(f"peer {k}").lag_cycles = 1.0
    assert meters.of("peer 99").lag_cycles == 1
    assert meters.of("peer 0") == PeerMeter()
    assert len(meters._meters) == 5


def test_slowness_is_measured_against_the_median_peer() -> None:
    meters = Meters(10)
    assert meters.slowness("a") == 1
    for peer, seconds in (("a", 0.1), ("b", 0.1), ("c", 0.1), ("d", 5.0)):
        meters.of(peer).whole.came(seconds)
    assert meters.slowness("a") == 1
    assert meters.slowness("d") == pytest.approx(50)
    assert meters.slowness("stranger") == 1


def test_most_peers_decide_what_is_slow_however_slow_the_others_are() -> None:
    meters = Meters(10)
    for number in range(5):
        meters.of(f"fast {number}").whole.came(0.01)
        meters.of(f"slow {number}").whole.came(1e6)
    assert meters.slowness("fast 0") == 1
    assert meters.slowness("slow 0") == pytest.approx(1e8)
