"""Reputation: points that fade, suspension, conviction; all bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.config import ReputationConfig
from p2pfl.core.messages import Reason
from p2pfl.core.reputation import POINTS, Reputation


def reputation(limit: int = 100, **convicts: int) -> Reputation:
    config = ReputationConfig(half_life_s=60, suspend_at=8, resume_at=2)
    return Reputation(config, limit, **convicts)


def test_one_without_fault_has_no_points():
    made = reputation()
    assert not made
    assert made.points("a", 5.0) == 0
    assert not made.is_suspended("a", 5.0)


def test_points_fade_to_half_in_a_half_life():
    made = reputation()
    made.fault("a", Reason.SHAPE, 0.0)
    assert made.points("a", 60.0) == pytest.approx(POINTS[Reason.SHAPE] / 2)


def test_a_peer_is_suspended_at_the_bound_and_returns_when_its_points_have_faded():
    made = reputation()
    assert not made.fault("a", Reason.CLIP, 0.0)
    assert made.fault("a", Reason.CLIP, 0.0)
    assert made.is_suspended("a", 0.0)
    assert made.suspended(0.0) == {"a": {Reason.CLIP: 2}}
    assert made.is_suspended("a", 119.0)
    assert not made.is_suspended("a", 121.0)
    assert made.suspended(121.0) == {}


def test_its_suspension_is_told_once():
    made = reputation()
    told = [made.fault("a", Reason.CLIP, 0.0) for _ in range(5)]
    assert told == [False, True, False, False, False]


def test_crashes_slowness_and_lost_messages_cost_nothing():
    made = reputation()
    for reason in ("timeout", "unreachable", Reason.INCARNATION, Reason.STALE_SEQ, Reason.RUN):
        for _ in range(1000):
            assert not made.fault("a", reason, 0.0)
    assert not made


def test_two_islands_that_refuse_each_other_for_a_while_do_not_suspend_each_other():
    made = reputation()
    for second in range(60):
        made.fault("honest", Reason.DISTANCE, float(second))
    assert not made.is_suspended("honest", 60.0)


def test_who_is_refused_for_minutes_is_suspended():
    made = reputation()
    assert any(made.fault("a", Reason.DISTANCE, second / 4) for second in range(4 * 300))


def test_proof_is_for_good():
    made = reputation()
    assert made.convict("a", Reason.EQUIVOCATION, 0.0)
    assert not made.convict("a", Reason.EQUIVOCATION, 1.0)
    assert made.is_suspended("a", 1e9)


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from([*POINTS, "proof"])), max_size=300))
def test_memory_is_bounded_and_neither_faults_nor_convictions_flush_a_conviction(said):
    made = reputation(limit=10)
    made.convict("guilty", Reason.EQUIVOCATION, 0.0)
    convicted = {"guilty"}
    for at, (peer, reason) in enumerate(said):
        name = f"stranger {peer}"
        if reason == "proof":
            assert made.convict(name, Reason.EQUIVOCATION, float(at)) == (name not in convicted)
            convicted.add(name)
        else:
            assert not made.fault(name, reason, float(at)) or name not in convicted
        assert len(made._records) <= 10
    assert all(made.is_suspended(name, 1e9) for name in convicted)
    assert len(made.suspended(1e9)) == min(len(convicted), 10)


def test_ten_thousand_convictions_flush_neither_the_first_nor_anybodys_points():
    made = reputation(limit=10)
    made.fault("b", Reason.CLIP, 0.0)
    for number in range(10_000):
        assert made.convict(f"{number:032x}", Reason.EQUIVOCATION, 1.0)
    assert made.is_suspended(f"{0:032x}", 1e9)
    assert made.points("b", 1.0) > 0
    # who asks for the status is told of the newest
    assert list(made.suspended(1e9)) == [f"{number:032x}" for number in range(9999, 9989, -1)]


def test_beyond_its_bound_a_conviction_fades_like_faults_and_the_earlier_ones_stay():
    made = reputation(convicts=2)
    assert all(made.convict(peer, Reason.EQUIVOCATION, 0.0) for peer in "abc")
    assert not made.convict("c", Reason.EQUIVOCATION, 1.0)
    assert made.suspended(1.0).keys() == {"a", "b", "c"}
    assert made.suspended(1000.0).keys() == {"a", "b"}


def test_faults_of_the_convicted_are_not_told_as_a_suspension_again():
    made = reputation()
    made.fault("a", Reason.CLIP, 0.0)
    made.convict("a", Reason.EQUIVOCATION, 0.0)
    assert not any(made.fault("a", Reason.CLIP, 1.0) for _ in range(5))
    assert made.suspended(1.0) == {"a": {Reason.EQUIVOCATION: 1}}
