"""Gate: what is too far, what counts, whose age is believed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.config import RobustConfig
from p2pfl.core.compression import encode
from p2pfl.core.gate import BROKEN, SHORTER, Gate, distance_and_norm
from p2pfl.core.weights import PIECE


def gate(limit: int = 100, **options: float) -> Gate:
    made = Gate(RobustConfig(**options), limit)
    made.norm = 10.0
    return made


@pytest.mark.parametrize("size", [1, 7, PIECE + 3])
def test_distance_and_norm_are_those_of_the_whole_vectors(size):
    rng = np.random.default_rng(size)
    x, v = (rng.normal(size=size).astype(np.float32) for _ in "xv")
    distance, norm = distance_and_norm(x, encode("float32", v, rng))
    assert distance == pytest.approx(np.linalg.norm(v - x), rel=1e-5)
    assert norm == pytest.approx(np.linalg.norm(x), rel=1e-5)


def test_nothing_is_broken_for_one_who_knows_no_distance():
    assert Gate(RobustConfig(), 10).farthest() == math.inf


def test_broken_is_many_times_what_is_usual_whether_of_distance_or_of_norm():
    made = gate()
    assert made.farthest() == BROKEN * 10
    for _ in range(200):
        made.usual(50.0)
    assert made.farthest() == pytest.approx(BROKEN * 50)


def test_the_clip_is_a_tenth_of_the_reach_until_several_peers_were_measured():
    made = gate(reach=0.3)
    assert made.clip() == pytest.approx(0.3)
    for peer in "abc":
        made.passed(peer, 0.2, 5)
    assert made.clip() == pytest.approx(0.3)
    made.passed("d", 0.2, 5)
    assert made.clip() == pytest.approx(0.6 * 0.2)


def test_however_often_a_peer_speaks_its_distance_counts_once():
    made = gate()
    for peer in "abcdefgh":
        made.passed(peer, 1.0, 5)
    for _ in range(1000):
        made.passed("liar", 1e-9, 5)
    assert made.clip() == pytest.approx(0.6)


@given(st.lists(st.floats(0, 1e6), min_size=4, max_size=30), st.floats(0.01, 1))
def test_the_clip_is_between_the_nearest_and_the_farthest_and_in_reach(distances, quantile):
    made = gate(quantile=quantile)
    for number, distance in enumerate(distances):
        made.passed(str(number), distance, 1)
    assert SHORTER * min(*distances, made.reach) <= made.clip() * (1 + 1e-9)
    assert made.clip() <= min(SHORTER * max(distances), made.reach) * (1 + 1e-9)


def test_an_age_is_believed_as_far_as_most_peers_bear_it_out():
    made = gate()
    for number, age in enumerate([2**53, 100, 110, 120, 2**53]):
        assert made.believed_age(2**53) == (0 if number < 4 else 110)
        made.passed(str(number), 1.0, age)
    assert made.believed_age(2**53) == 120
    assert made.believed_age(90) == 90


def test_rescue_is_due_after_refusals_of_several_peers_and_not_once_somebody_mixed():
    made = gate()
    made.refused_by.update({"a"})
    made.refused_by.update({"a"})
    assert not made.needs_rescue()
    made.refused_by.update({"b", "c"})
    assert made.needs_rescue()
    made.passed("d", 1.0, 1)
    assert not made.needs_rescue()


def test_no_more_peers_are_remembered_than_the_limit():
    made = gate(limit=5)
    for number in range(50):
        made.passed(str(number), float(number), 1)
    assert len(made._peers) == 5
    assert made.clip() == pytest.approx(3.0)  # of 45 .. 49, within reach
