"""The shared random projection: the same everywhere, unbiased, and as exact as theory says."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.mixing import consensus_distance
from p2pfl.core.sketch import BUCKETS, sketch_seed, sketched
from p2pfl.core.weights import PIECE


def squares(x: np.ndarray, seeds: int) -> np.ndarray:
    """(seeds,) squared lengths of as many sketches."""
    return np.array([float((sketched(x, seed) ** 2).sum()) for seed in range(seeds)])


@pytest.mark.parametrize(
    "x",
    [
        np.random.default_rng(0).normal(size=1000),
        np.ones(999),
        np.arange(1, 100),
        # what a gradient looks like: of rank one, as wide as there are buckets
        np.outer(np.random.default_rng(1).normal(size=40), np.ones(BUCKETS)).ravel(),
    ],
    ids=["noise", "constant", "ramp", "rank one"],
)
def test_lengths_are_kept_without_bias_and_with_the_variance_of_theory(x: np.ndarray) -> None:
    """Var |S(x)|^2 = 2 sum_b (|x_b|^4 - sum_c x_c^4) <= 2 |x|^4 / 32 for even x (AMS, 1996)."""
    x = x.astype(np.float32)
    exact, seeds = float((x.astype(np.float64) ** 2).sum()), 1500
    found = squares(x, seeds) / exact
    rows = np.pad(x.astype(np.float64), (0, -x.size % BUCKETS)).reshape(-1, BUCKETS)
    variance = 2 * (((rows**2).sum(axis=0) ** 2).sum() - (rows**4).sum()) / exact**2
    assert variance <= 2 / BUCKETS * 1.2
    assert abs(found.mean() - 1) < 4 * np.sqrt(variance / seeds)
    assert found.var() == pytest.approx(variance, rel=0.25)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.integers(0, 2**63), st.floats(-3, 3), st.integers(0, 99))
def test_a_sketch_is_linear(size: int, seed: int, factor: float, chance: int) -> None:
    x, y = np.random.default_rng(chance).normal(size=(2, size))
    together = sketched((x + factor * y).astype(np.float32), seed)
    apart = sketched(x.astype(np.float32), seed) + factor * sketched(y.astype(np.float32), seed)
    assert np.allclose(together, apart, atol=1e-4)


def test_pieces_do_not_show() -> None:
    """A coordinate's bucket and sign depend on nothing but its number."""
    x = np.random.default_rng(2).normal(size=2 * PIECE + 77).astype(np.float32)
    signs = []
    for c in (0, 31, 32, PIECE - 1, PIECE, 2 * PIECE, x.size - 1):
        one = np.zeros_like(x)
        one[c] = 1.0
        found = sketched(one, 5)
        assert np.flatnonzero(found).tolist() == [c % BUCKETS]
        assert abs(found[c % BUCKETS]) == 1.0
        shorter = sketched(one[: c + 1], 5)
        assert np.array_equal(found, shorter)
        signs.append(found[c % BUCKETS])
    assert set(signs) == {-1.0, 1.0}


def test_all_devices_make_the_same_signs() -> None:
    """What a release sends must be compared with what another one sends."""
    seed = sketch_seed("kitchen", "0123456789abcdef")
    assert seed == 71334577972904547229364558361410675246
    assert sketch_seed("kitchen", "0123456789abcdee") != seed
    assert sketch_seed("kitchen2", "0123456789abcdef") != seed
    found = sketched(np.arange(100, dtype=np.float32), seed)
    assert found[:6].tolist() == [64, -128, 68, 6, 100, 111]


def test_the_distance_of_a_swarm_is_found_within_a_few_per_cent_on_average() -> None:
    rng = np.random.default_rng(3)
    models = (rng.normal(size=300) + 0.1 * rng.normal(size=(20, 300))).astype(np.float32)
    exact, ratios = consensus_distance(models), []
    for seed in range(100):
        sketches = np.stack([sketched(model, seed) for model in models])
        off = sketches - sketches.mean(axis=0)
        ratios.append(np.sqrt((off**2).sum(axis=1).mean()) / exact)
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)
    assert np.std(ratios) < 0.06


def test_hardly_any_memory_is_needed_and_read_only_weights_are_fine() -> None:
    x = np.ones(1_000_000, np.float32)
    x.flags.writeable = False
    tracemalloc.start()
    try:
        sketched(x, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20
