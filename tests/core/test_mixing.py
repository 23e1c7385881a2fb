"""Staleness, weight, flow, and how fast averaging brings models together (PROTOCOL 4, 5 and 7)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.compression import CODECS, encode
from p2pfl.core.mixing import (
    STALENESS_MAX,
    FlowNorm,
    add_in,
    consensus_distance,
    copy_in,
    flow_in,
    flow_out,
    mixing_weight,
    staleness,
)
from p2pfl.core.weights import PIECE, pieces
from tests.core.world import answered, asked, finished, gossip_state

LARGEST = np.finfo(np.float32).max
FRESH = {
    "version_lag_steps": 0,
    "cycle_steps": 10,
    "lag_cycles": 0.0,
    "rested_s": 0.0,
    "round_trip_s": 0.0,
    "cycle_s": 0.5,
}
NUMBERS = st.floats(0, 1e300)


def tau(**measured: float) -> float:
    return staleness(**(FRESH | measured))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- staleness (section 5) ----------------------------------------------------------------------


def test_a_model_that_never_waited_is_not_stale():
    assert tau() == 0


@pytest.mark.parametrize(
    ("measured", "cycles"),
    [
        ({"version_lag_steps": 35}, 3.5),
        ({"lag_cycles": 2.25}, 2.25),
        ({"rested_s": 2.0}, 4.0),
        ({"round_trip_s": 1.5}, 3.0),
    ],
)
def test_each_of_the_four_ways_alone_can_be_the_largest(measured, cycles):
    assert tau(**measured) == pytest.approx(cycles)
    others = {"version_lag_steps": 1, "lag_cycles": 0.1, "rested_s": 0.05, "round_trip_s": 0.05}
    assert tau(**(others | measured)) == pytest.approx(cycles)


def test_without_a_cycle_time_of_our_own_only_counts_of_cycles_speak():
    assert tau(rested_s=1e6, round_trip_s=1e6, cycle_s=0.0) == 0
    assert tau(version_lag_steps=20, rested_s=1e6, cycle_s=0.0) == 2


def test_news_older_than_the_message_itself_is_no_staleness():
    assert tau(version_lag_steps=-50) == 0


def test_a_sender_that_never_trained_is_measured_in_single_steps():
    assert tau(version_lag_steps=3, cycle_steps=0) == 3


@given(st.integers(-(2**63), 2**63), st.integers(0, 2**63), NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_staleness_is_a_bounded_number_whatever_strangers_say(
    lag, steps, cycles, rested, trip, own
):
    found = staleness(
        version_lag_steps=lag,
        cycle_steps=steps,
        lag_cycles=cycles,
        rested_s=rested,
        round_trip_s=trip,
        cycle_s=own,
    )
    assert 0 <= found <= STALENESS_MAX


# --- weight -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cycles", "expected"),
    [(0.0, 0.5), (1.0, 0.5), (4.0, 0.25), (9.0, 0.5 / 3), (100.0, 0.05)],
)
def test_the_weight_is_whole_up_to_one_cycle_and_falls_with_the_root_beyond(cycles, expected):
    assert mixing_weight(cycles, weight=0.5, fresh_cycles=1, exponent=0.5) == pytest.approx(
        expected
    )


def test_exponent_zero_ignores_staleness():
    assert mixing_weight(1e6, weight=0.4, fresh_cycles=1, exponent=0) == 0.4


@given(
    st.floats(0, STALENESS_MAX),
    st.floats(0, STALENESS_MAX),
    st.floats(0.01, 1),
    st.floats(1e-3, 1e3),
    st.floats(0, 100),
)
def test_the_weight_is_between_zero_and_c0_never_rises_and_has_no_step(a, b, c0, fresh, exponent):
    older, newer = (
        mixing_weight(t, weight=c0, fresh_cycles=fresh, exponent=exponent)
        for t in (max(a, b), min(a, b))
    )
    assert 0 <= older <= newer <= c0
    just_over = mixing_weight(fresh * (1 + 1e-9), weight=c0, fresh_cycles=fresh, exponent=exponent)
    assert just_over == pytest.approx(c0, rel=1e-6)


# --- flows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 256, 257, PIECE + 3])
def test_what_one_end_adds_the_other_subtracts_bit_by_bit(codec, size):
    x, y = (np.random.default_rng(seed).normal(size=size).astype(np.float32) for seed in (1, 2))
    received, came, went = encode(codec, y, rng()), FlowNorm(), FlowNorm()
    mine, theirs = np.zeros(size, np.float32), np.zeros(size, np.float32)
    finished(flow_in(x, received, 0.3, rng(), came))
    finished(add_in(mine, received.values()))
    finished(flow_out(theirs, received, went))
    assert np.array_equal(mine, -theirs)
    assert went.norm == pytest.approx(np.linalg.norm(received.values()), rel=1e-4)
    assert came.norm == pytest.approx(went.norm, rel=2e-2)


def test_a_flow_moves_the_share_c_of_the_difference():
    x = np.array([1.0, -2.0, 8.0], np.float32)
    received = encode("float32", np.array([3.0, 2.0, 0.0], np.float32), rng())
    finished(flow_in(x, received, 0.25, rng(), FlowNorm()))
    assert np.array_equal(received.values(), [0.5, 1.0, -2.0])
    assert np.array_equal(x, [1.5, -1.0, 6.0])


@pytest.mark.parametrize("codec", CODECS)
def test_a_flow_can_be_mixed_while_it_arrives_each_step_needs_the_next_piece_only(codec):
    size = 2 * PIECE + 257
    x = np.zeros(size, np.float32)
    model = encode(codec, np.linspace(-1, 1, size, dtype=np.float32), rng())
    whole, at_once = encode(codec, model.values(), rng()), x.copy()
    whole.data[:] = model.data
    finished(flow_in(at_once, whole, 0.5, rng(), FlowNorm()))

    arriving = replace(model, data=np.full_like(model.data, 0xFF))
    adding = flow_in(x, arriving, 0.5, rng(), FlowNorm())
    taken, flowing = np.zeros(size, np.float32), replace(model, data=np.full_like(model.data, 0xFF))
    taking, done = flow_out(taken, flowing, FlowNorm()), [0]
    next(adding)
    assert next(taking) == 0
    for at in pieces(size):
        arriving.piece(at)[:] = model.piece(at)
        next(adding)
        flowing.piece(at)[:] = arriving.piece(at)
        done.append(next(taking))
    assert next(adding, None) is next(taking, None) is None
    assert done == [0, PIECE, 2 * PIECE, size]
    assert np.array_equal(arriving.data, whole.data)
    assert np.array_equal(x, at_once)
    assert np.array_equal(taken, -whole.values())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("reached", [0, 1, 2, 3])
def test_what_was_not_reached_does_not_flow(codec, reached):
    size = 2 * PIECE + 257
    x, untouched = np.zeros(size, np.float32), slice(min(reached * PIECE, size), size)
    received = encode(codec, np.ones(size, np.float32), rng())
    received.piece(untouched)[:] = 0xFF
    work = flow_in(x, received, 0.5, rng(), FlowNorm())
    for _ in range(1 + reached):
        next(work)
    work.close()
    assert CODECS[codec].finite(received.data)
    assert not received.values()[untouched].any()
    assert not x[untouched].any()
    assert np.array_equal(x, received.values())


@pytest.mark.parametrize("begin", [0, PIECE, 2 * PIECE])
def test_a_flow_that_broke_off_is_subtracted_from_where_it_stopped(begin):
    size = 2 * PIECE + 257
    x, flow = np.zeros(size, np.float32), encode("float32", np.ones(size, np.float32), rng())
    done = list(flow_out(x, flow, FlowNorm(), begin))
    assert (done[0], done[-1]) == (begin, size)
    assert not x[:begin].any()
    assert (x[begin:] == -1).all()


@pytest.mark.parametrize("codec", CODECS)
def test_adopting_copies_the_decoded_model(codec):
    model = encode(codec, np.linspace(-1, 1, PIECE + 300, dtype=np.float32), rng())
    x = np.full(PIECE + 300, np.nan, np.float32)
    finished(copy_in(x, model))
    assert np.array_equal(x, model.values())


@pytest.mark.parametrize("codec", CODECS)
def test_where_we_hold_no_number_nothing_flows_and_the_asker_stays_whole(codec):
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    received, norm = encode(codec, np.full(4, 2.0, np.float32), rng()), FlowNorm()
    finished(flow_in(x, received, 0.5, rng(), norm))
    assert CODECS[codec].finite(received.data)
    assert np.allclose(received.values(), [0, 0, 0, 0.5])
    assert norm.norm == pytest.approx(0.5)


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([0.0, 1.0, 1e20, -1e20, 3e38, -3e38, float(LARGEST), -float(LARGEST)]),
        min_size=2,
        max_size=8,
    ),
    st.floats(0.01, 1),
)
def test_a_flow_between_huge_models_is_finite_and_warns_nobody(codec, values, weight):
    x = np.array(values, np.float32)
    received = encode(codec, x[::-1].copy(), rng())
    finished(flow_in(x, received, weight, rng(), FlowNorm()))
    assert CODECS[codec].finite(received.data)
    finished(flow_out(x[::-1].copy(), received, FlowNorm()))


# --- how fast it works --------------------------------------------------------------------------


def test_consensus_distance_is_the_root_mean_square_distance_to_the_mean():
    assert consensus_distance(np.array([[0, 0], [6, 8]], np.float32)) == 5
    assert consensus_distance(np.full((4, 3), 7, np.float32)) == 0
    far = np.float32(1e6) + np.array([[-0.5], [0.5]], np.float32)
    assert consensus_distance(far) == 0.5


@pytest.mark.parametrize("c", [0.05, 0.1, 0.25, 0.5])
def test_one_random_exchange_contracts_as_in_section_7_invariant_2(c):
    """E over all ordered pairs is exact, so only the rounding of float32 is allowed for."""
    n = 16
    models = np.random.default_rng(5).normal(size=(n, 12)).astype(np.float32)
    before, after = consensus_distance(models) ** 2, []
    for i, j in itertools.permutations(range(n), 2):
        asker, answerer = (gossip_state(models[k], weight=c) for k in (i, j))
        pending, ask = asked(asker, "j", now=0.0)
        answer, mixed = answered(answerer, ask)
        assert mixed.weight == c
        finished(asker.settle(pending, answer)[1])
        mixed_models = models.copy()
        mixed_models[i], mixed_models[j] = asker.x, answerer.x
        after.append(consensus_distance(mixed_models) ** 2)
    expected = 1 - 4 * c * (1 - c) / (n - 1)
    if c == 0.5:
        assert expected == pytest.approx(0.93333, abs=1e-5)
    assert np.mean(after) / before == pytest.approx(expected, rel=1e-6)
