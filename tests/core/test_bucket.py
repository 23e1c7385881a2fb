"""The bound on what a node takes of the LAN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.bucket import BURST_S, Bucket

RATE = 1e6


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 200_000)), min_size=1, max_size=60))
def test_over_any_time_no_more_moves_than_the_rate_a_burst_and_a_piece(
    steps: list[tuple[float, int]],
) -> None:
    now, total, moves = 0.0, 0, [(0.0, 0)]
    bucket = Bucket(RATE, now)
    for pause_s, piece in steps:
        now += pause_s
        bucket.counted(total, now)
        now += bucket.debt_s()
        total += piece
        bucket.counted(total, now)
        moves.append((now, total))
    for place, (begin, before) in enumerate(moves):
        for end, after in moves[place:]:
            assert after - before <= RATE * (end - begin + BURST_S) + 200_000 + 1


@given(st.integers(0, 10**9), st.floats(0, 1e6))
def test_who_waits_as_long_as_it_says_owes_nothing(moved: int, now: float) -> None:
    bucket = Bucket(RATE, now)
    bucket.counted(moved, now)
    bucket.counted(moved, now + bucket.debt_s())
    assert bucket.debt_s() == pytest.approx(0, abs=1e-6)


def test_who_always_wants_more_gets_the_rate() -> None:
    now, total, bucket = 0.0, 0, Bucket(RATE, 0.0)
    while now < 100:
        bucket.counted(total, now)
        if bucket.debt_s() == 0:
            total += 65_536
        now += 0.01
    assert total == pytest.approx(100 * RATE, rel=0.02)


def test_an_exchange_begins_when_the_one_before_it_is_through() -> None:
    bucket = Bucket(RATE, 0.0)
    assert bucket.wait_s(0.0) == 0
    bucket.promise(8_000_000, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(8 - BURST_S)
    assert bucket.wait_s(5.0) == pytest.approx(3 - BURST_S)
    bucket.promise(8_000_000, 7.5)
    assert bucket.wait_s(7.5) == pytest.approx(8.5 - BURST_S)


def test_a_promise_ends_by_itself_though_nothing_ever_moves() -> None:
    bucket = Bucket(RATE, 0.0)
    bucket.promise(8_000_000, 0.0)
    assert bucket.wait_s(8.0) == 0


def test_what_is_not_going_to_move_holds_up_nobody() -> None:
    bucket = Bucket(RATE, 0.0)
    bucket.promise(8_000_000, 0.0)
    bucket.forgo(8_000_000, 0.5)
    assert bucket.wait_s(0.5) == 0


def test_small_exchanges_do_not_wait_for_each_other() -> None:
    bucket = Bucket(RATE, 0.0)
    for _ in range(10):
        assert bucket.wait_s(0.0) == 0
        bucket.promise(50_000, 0.0)
