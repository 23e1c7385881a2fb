"""Robust rules: what f hostile models can do, symmetries, dumb twins, other implementations."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tracemalloc
import types
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfl.config import RuleName
from p2pfl.core import robust
from p2pfl.core.robust import RULES, judged, nearest_neighbour_mixing, smallest
from p2pfl.core.robust_distance import (
    CENTRINGS,
    SELF_CENTRED,
    WEIGHT_RULES,
    adaptive_clip,
    distances,
    frame,
)

NAMES = tuple(RULES)
SYMMETRIC = tuple(name for name in NAMES if name not in SELF_CENTRED)
CLIPPING = tuple(sorted(SELF_CENTRED))
MAJORITY = tuple(name for name in NAMES if name != "clipped-gossip")
LARGEST = float(np.finfo(np.float32).max)
seeds = st.integers(0, 2**32 - 1)
hostiles = st.integers(0, 3)
whole = st.floats(-LARGEST, LARGEST, width=32)
near_one = st.floats(-1, 1, width=32)


def models(seed: int, count: int, size: int = 12) -> np.ndarray:
    """(count, size) float32 without ties."""
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


def apart(stack: np.ndarray) -> float:
    """The largest distance between two of the models."""
    wide = stack.astype(np.float64)
    return max(float(np.linalg.norm(a - b)) for a in wide for b in wide)


def rule(
    name: str, stack: np.ndarray, hostile: int, clip: float = 0.0, nearest: bool = False
) -> np.ndarray:
    return judged(name, stack[0], stack[1:], hostile=hostile, clip=clip, nearest=nearest)


def assert_same(name: str, answer: np.ndarray, expected: np.ndarray, judged_models: np.ndarray):
    """Two answers are one; geometric medians are where their sums of distances are as small.

    Several models in one place, as mixing makes them, can leave a segment of equally good medians.
    """
    if name == "geometric-median":
        sums = [np.linalg.norm(judged_models - z, axis=1).sum() for z in (answer, expected)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-5, abs=1e-5)
    else:
        np.testing.assert_allclose(answer, expected, rtol=2e-5, atol=2e-5)


# --- dumb twins: the papers' formulas, one model and one coordinate at a time --------------------


def twin_median(x, f, clip):
    return [float(np.median([row[k] for row in x])) for k in range(x.shape[1])]


def twin_trimmed_mean(x, f, clip):
    columns = [sorted(row[k] for row in x) for k in range(x.shape[1])]
    return [sum(c[f : len(c) - f]) / (len(c) - 2 * f) for c in columns]


def twin_scores(x, f):
    scores = []
    for i in range(len(x)):
        away = sorted(sum((x[i] - x[j]) ** 2) for j in range(len(x)) if j != i)
        scores.append(sum(away[: len(x) - f - 2]))
    return scores


def twin_krum(x, f, clip):
    scores = twin_scores(x, f)
    return x[scores.index(min(scores))]


def twin_multi_krum(x, f, clip):
    scores = twin_scores(x, f)
    best = sorted(range(len(x)), key=lambda i: scores[i])[: len(x) - f]
    return sum(x[i] for i in best) / len(best)


def twin_geometric_median(x, f, clip):
    z = x.mean(axis=0)
    for _ in range(2000):
        pulls = [1 / max(1e-9, np.linalg.norm(row - z)) for row in x]
        z = sum(p * row for p, row in zip(pulls, x, strict=True)) / sum(pulls)
    return z


def twin_radius(x, v, f):
    if f == 0:
        return float("inf")
    squares = sorted(sum((row - v) ** 2) for row in x)[: len(x) - f]
    return (sum(squares) / len(x) / (f / len(x))) ** 0.5


def twin_clipped(x, f, clip, steps):
    v = x[0]
    for _ in range(steps):
        radius = clip or twin_radius(x, v, f)
        moves = []
        for row in x:
            far = np.linalg.norm(row - v)
            moves.append((row - v) * (min(1, radius / far) if far else 1))
        v = v + sum(moves) / len(x)
    return v


TWINS = {
    "median": twin_median,
    "trimmed-mean": twin_trimmed_mean,
    "krum": twin_krum,
    "multi-krum": twin_multi_krum,
    "geometric-median": twin_geometric_median,
    "centred-clip": lambda x, f, clip: twin_clipped(x, f, clip, CENTRINGS),
    "clipped-gossip": lambda x, f, clip: twin_clipped(x, f, clip, 1),
}


def twin_mixing(x, f):
    mixed = []
    for row in x:
        order = sorted(range(len(x)), key=lambda j: sum((x[j] - row) ** 2))
        mixed.append(sum(x[j] for j in order[: len(x) - f]) / (len(x) - f))
    return np.array(mixed)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("clip", [0.0, 2.5])
@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, hostile=hostiles, more=st.integers(0, 4))
@settings(max_examples=12, deadline=None)
def test_every_rule_is_its_papers_formula(name, clip, nearest, seed, hostile, more):
    stack = models(seed, smallest(name, hostile, nearest=nearest) + more)
    stack[1 : 1 + hostile] *= 5
    x = stack.astype(np.float64)
    if nearest:
        mixed = twin_mixing(x, hostile)
        if name in SELF_CENTRED:
            mixed[0] = x[0]
        x = mixed
    answer = rule(name, stack, hostile, clip, nearest)
    assert answer.dtype == np.float32
    assert_same(name, answer, TWINS[name](x, hostile, clip), x)


@given(seed=seeds, hostile=hostiles, more=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_nearest_neighbour_mixing_is_its_papers_formula(seed, hostile, more):
    stack = models(seed, max(2 * hostile + 1, 2) + more)
    x = stack.astype(np.float64)
    mixed = nearest_neighbour_mixing(stack, hostile)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, twin_mixing(x, hostile), rtol=1e-5, atol=1e-6)


# --- what the hostile can do ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
@given(data=st.data(), hostile=hostiles, more=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_coordinate_rule_never_leaves_the_hull_of_the_honest(name, data, hostile, more):
    """Yin et al. 2018: f values on one side take f honest ones with them."""
    count = smallest(name, hostile) + more
    stack = data.draw(arrays(np.float32, (count, 4), elements=whole))
    answer = rule(name, stack, hostile)
    honest = np.delete(stack, range(1, 1 + hostile), axis=0)
    assert (honest.min(axis=0) <= answer).all()
    assert (answer <= honest.max(axis=0)).all()


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), hostile=st.integers(1, 3), more=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_no_hostile_minority_moves_a_rule_beyond_a_few_honest_distances(
    name, nearest, data, hostile, more
):
    count = smallest(name, hostile, nearest=nearest) + more
    honest = data.draw(arrays(np.float32, (count - hostile, 3), elements=near_one))
    lies = data.draw(arrays(np.float32, (hostile, 3), elements=whole))
    answer = rule(name, np.vstack([honest, lies]), hostile, nearest=nearest)
    moved = np.linalg.norm(answer.astype(np.float64) - honest[0])
    bound = (3 if nearest else 1) * (2 + 2 * np.sqrt(count)) * apart(honest)
    assert moved <= bound + 1e-5


@pytest.mark.parametrize("name", ["krum", "multi-krum"])
@given(seed=seeds, hostile=st.integers(1, 3), size=st.sampled_from([1e2, 1e10, 1e30, 1e38]))
@settings(max_examples=30, deadline=None)
def test_krum_does_not_choose_a_model_far_from_all_the_others(name, seed, hostile, size):
    stack = models(seed, smallest(name, hostile))
    stack[-hostile:] *= np.float32(size / np.abs(stack[-hostile:]).max())
    honest = stack[:-hostile]
    answer = rule(name, stack, hostile)
    if name == "krum":
        assert any(np.array_equal(answer, model) for model in honest)
    else:
        np.testing.assert_allclose(answer, honest.mean(axis=0), atol=1e-6)


@given(data=st.data(), hostile=hostiles, more=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_krum_answers_with_one_of_the_models(data, hostile, more):
    count = smallest("krum", hostile) + more
    stack = data.draw(arrays(np.float32, (count, 3), elements=whole))
    answer = rule("krum", stack, hostile)
    assert any(np.array_equal(answer, model) for model in stack)


@given(seed=seeds, hostile=st.integers(1, 3), more=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_the_geometric_median_stays_within_its_breakdown_bound(seed, hostile, more):
    """Pillutla et al. 2022, section 3: at most 2 (n - f) / (n - 2 f) honest radii away."""
    count = smallest("geometric-median", hostile) + more
    stack = models(seed, count)
    stack[-hostile:] = np.float32(1e20)
    honest = stack[:-hostile].astype(np.float64)
    radius = np.linalg.norm(honest - honest.mean(axis=0), axis=1).max()
    away = np.linalg.norm(rule("geometric-median", stack, hostile) - honest.mean(axis=0))
    assert away <= 2 * (count - hostile) / (count - 2 * hostile) * radius


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", CLIPPING)
@given(data=st.data(), clip=st.floats(1e-3, 10), more=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_step_is_no_longer_than_the_clip_radius_allows(name, nearest, data, clip, more):
    """Even where every other model is hostile, as clipped gossip allows in principle."""
    stack = data.draw(arrays(np.float32, (3 + more, 3), elements=whole))
    stack[0] = data.draw(arrays(np.float32, 3, elements=near_one))
    moved = np.linalg.norm(rule(name, stack, 1, clip, nearest).astype(np.float64) - stack[0])
    assert moved <= clip * (CENTRINGS if name == "centred-clip" else 1) + 1e-5


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", MAJORITY)
def test_one_model_beyond_all_measure_costs_the_honest_no_digit(name, nearest):
    """Differences of huge squares would: distances are kept in the models' own scale."""
    stack = models(3, smallest(name, 1, nearest=nearest) + 2)
    far, farther = stack.copy(), stack.copy()
    far[-1], farther[-1] = 1e12, 1e37
    answers = [rule(name, x, 1, 0.5, nearest) for x in (far, farther)]
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)


# --- symmetries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, hostile=hostiles)
@settings(max_examples=15, deadline=None)
def test_no_rule_cares_in_which_order_the_others_came(name, seed, hostile):
    count = smallest(name, hostile) + 2
    stack = models(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    if name in SELF_CENTRED:
        order = np.concatenate([[0], order[order != 0]])
    answers = [rule(name, x, hostile, 1.5) for x in (stack, stack[order])]
    assert_same(name, *answers, stack)


@given(seed=seeds, hostile=hostiles)
@settings(max_examples=30, deadline=None)
def test_nearest_neighbour_mixing_keeps_the_order_that_it_was_given(seed, hostile):
    stack = models(seed, 2 * hostile + 3)
    order = np.random.default_rng(seed).permutation(len(stack))
    mixed = nearest_neighbour_mixing(stack, hostile)
    np.testing.assert_allclose(
        nearest_neighbour_mixing(stack[order], hostile), mixed[order], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), hostile=hostiles)
@settings(max_examples=15, deadline=None)
def test_models_that_agree_are_the_answer(name, nearest, data, hostile):
    model = data.draw(arrays(np.float32, 5, elements=whole))
    stack = np.tile(model, (smallest(name, hostile, nearest=nearest) + 1, 1))
    for clip in (0.0, 0.5):
        np.testing.assert_array_equal(rule(name, stack, hostile, clip, nearest), model)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, hostile=hostiles)
@settings(max_examples=15, deadline=None)
def test_a_rule_moves_and_grows_with_its_models(name, nearest, seed, hostile):
    stack = models(seed, smallest(name, hostile, nearest=nearest) + 2)
    base = nearest_neighbour_mixing(stack, hostile) if nearest else stack
    shift = models(seed + 1, 1)
    answer = rule(name, stack, hostile, 1.5, nearest)
    for factor in (2.0**-20, 4.0, 2.0**30):
        grown = rule(name, stack * np.float32(factor), hostile, 1.5 * factor, nearest)
        assert_same(name, grown / factor, answer, base)
    moved = rule(name, stack + shift, hostile, 1.5, nearest)
    assert_same(name, moved - shift[0], answer, base)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", sorted(WEIGHT_RULES))
@given(seed=seeds, hostile=hostiles)
@settings(max_examples=15, deadline=None)
def test_a_rule_of_distances_turns_with_its_models(name, nearest, seed, hostile):
    stack = models(seed, smallest(name, hostile, nearest=nearest) + 2)
    turn, _ = np.linalg.qr(models(seed + 1, 12).astype(np.float64))
    turned = (stack @ turn).astype(np.float32)
    base = nearest_neighbour_mixing(turned, hostile) if nearest else turned
    answer = rule(name, stack, hostile, 1.5, nearest) @ turn
    assert_same(name, rule(name, turned, hostile, 1.5, nearest), answer, base)


@given(data=st.data(), count=st.integers(2, 7), size=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_the_frame_keeps_every_distance(data, count, size):
    stack = data.draw(arrays(np.float32, (count, size), elements=near_one)).astype(np.float64)
    points = frame(iter([stack.copy()]))
    assert points.shape == (count, count)
    np.testing.assert_array_equal(points[0], 0)
    for model, point in zip(stack, points, strict=True):
        np.testing.assert_allclose(
            distances(points, point), np.linalg.norm(stack - model, axis=1), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_models_in_many_blocks_give_what_one_block_gives(name, nearest, monkeypatch):
    stack = models(7, 8, size=101)
    whole_answer = rule(name, stack, 2, nearest=nearest)
    monkeypatch.setattr(robust, "_BLOCK_PRODUCTS", 8 * 8 * 7)
    np.testing.assert_allclose(
        rule(name, stack, 2, nearest=nearest), whole_answer, rtol=1e-5, atol=1e-6
    )


# --- choices -------------------------------------------------------------------------------------


def test_a_tie_leaves_krum_where_it_is():
    corners = np.vstack([np.eye(5, dtype=np.float32), -np.eye(5, dtype=np.float32)])
    for first in range(len(corners)):
        stack = np.roll(corners, -first, axis=0)
        np.testing.assert_array_equal(rule("krum", stack, 2), stack[0])


def test_without_hostile_models_the_mean_is_the_answer_of_those_that_average():
    stack = models(11, 6)
    for name in ("trimmed-mean", "multi-krum", "centred-clip", "clipped-gossip"):
        np.testing.assert_allclose(rule(name, stack, 0), stack.mean(axis=0), atol=1e-6)


def test_the_geometric_median_of_a_majority_in_one_place_is_that_place():
    stack = models(13, 7)
    stack[2:6] = stack[2]
    np.testing.assert_allclose(rule("geometric-median", stack, 3), stack[2], atol=1e-5)


def test_the_adaptive_radius_balances_clipping_against_what_the_hostile_can_add():
    """He et al. 2022: clip^2 = 1/delta sum over the n - f nearest of 1/n distance^2."""
    away = np.array([0.0, 3.0, 1e9, 4.0])
    assert adaptive_clip(away, 1) == pytest.approx(5.0)
    assert adaptive_clip(away, 2) == pytest.approx(3.0 / np.sqrt(2))
    assert adaptive_clip(away, 0) == np.inf


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_a_rule_is_given_changes(name):
    stack = models(5, 9)
    before = stack.copy()
    stack.flags.writeable = False
    answer = rule(name, stack, 2, nearest=True)
    assert not np.shares_memory(answer, stack)
    np.testing.assert_array_equal(stack, before)


def test_every_rule_of_the_configuration_but_the_exchange_with_one_peer_is_here():
    assert set(NAMES) == set(get_args(RuleName)) - {"clip"}


@pytest.mark.parametrize("name", NAMES)
def test_the_dictionary_holds_the_rules_in_one_signature(name):
    stack = models(17, 9)
    np.testing.assert_array_equal(
        RULES[name](stack[0], stack[1:], 2, 0.7), rule(name, stack, 2, clip=0.7)
    )


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("hostile", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_one_model_fewer_than_the_smallest_number_is_refused(name, hostile, nearest):
    least = smallest(name, hostile, nearest=nearest)
    stack = models(1, least)
    rule(name, stack, hostile, nearest=nearest)
    with pytest.raises(ValueError, match=rf"got {least - 1} models.*at least {least} where"):
        rule(name, stack[:-1], hostile, nearest=nearest)


def test_a_majority_decides_and_krum_needs_two_more():
    assert [smallest(name, 2) for name in NAMES] == [5, 5, 7, 7, 5, 5, 4]
    assert all(smallest(name, 0) >= 2 for name in NAMES)
    assert smallest("clipped-gossip", 2, nearest=True) == 5


def test_what_does_not_fit_is_refused_with_its_value_and_bound():
    stack = models(1, 5)
    own, others = stack[0], stack[1:]
    with pytest.raises(ValueError, match="rule is 'mean', must be one of median, "):
        judged("mean", own, others, hostile=1)
    with pytest.raises(ValueError, match=r"shape \(4, 11\), expected \(m, 12\)"):
        judged("median", own, others[:, 1:], hostile=1)
    with pytest.raises(ValueError, match="hostile is -1, must be at least 0"):
        judged("median", own, others, hostile=-1)
    with pytest.raises(ValueError, match="clip is -1, must be at least 0"):
        judged("centred-clip", own, others, hostile=1, clip=-1.0)
    with pytest.raises(ValueError, match="clip is nan, must be at least 0"):
        judged("centred-clip", own, others, hostile=1, clip=float("nan"))
    with pytest.raises(ValueError, match=r"got 4 models.*at least 5"):
        nearest_neighbour_mixing(others, 2)
    with pytest.raises(ValueError, match="hostile is 5, must be at least 0 and less than the 5"):
        adaptive_clip(np.ones(5), 5)
    with pytest.raises(ValueError, match="0 weights"):
        judged("krum", own[:0], others[:, :0], hostile=1)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_rule_takes_its_answer_and_a_few_megabytes(name, nearest):
    stack = np.ones((9, 400_000), dtype=np.float32)
    tracemalloc.start()
    try:
        rule(name, stack, 2, nearest=nearest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= stack[0].nbytes + 6 * 2**20


# --- other implementations -----------------------------------------------------------------------

BYZFL = "needs byzfl: pip install --no-deps byzfl==0.0.11 (with torch and scipy)"
KRUM = "needs krum, on Python 3.12 or later: pip install --no-deps krum==0.9.1 (with torch)"


@pytest.fixture
def byzfl() -> Iterator[types.ModuleType]:
    """ByzFL's rules alone: the whole package also wants image and plotting libraries."""
    spec = importlib.util.find_spec("byzfl")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip(BYZFL)
    for needed in ("torch", "scipy"):
        pytest.importorskip(needed, reason=BYZFL)
    package = types.ModuleType("byzfl")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["byzfl"] = package
    try:
        yield importlib.import_module("byzfl.aggregators")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "byzfl"]:
            del sys.modules[name]


def cases() -> Iterator[tuple[np.ndarray, int]]:
    """Stacks (n, 40) with f models that are off, by a little or by a lot."""
    for seed in range(12):
        hostile = seed % 3
        stack = models(seed, 7 + 2 * (seed % 2), size=40)
        if hostile:
            stack[-hostile:] += np.float32([0.5, 3.0, 100.0][seed // 4])
        yield stack, hostile


def test_byzfl_computes_the_same_numbers(byzfl):
    tight = {"rtol": 1e-5, "atol": 1e-5}
    for stack, hostile in cases():
        wide = stack.astype(np.float64)
        np.testing.assert_allclose(rule("median", stack, hostile), byzfl.Median()(wide), **tight)
        np.testing.assert_allclose(
            rule("trimmed-mean", stack, hostile), byzfl.TrMean(hostile)(wide), **tight
        )
        # its Krum sums over n - f - 1 neighbours, the paper's over n - f - 2: one f apart
        np.testing.assert_array_equal(
            rule("krum", stack, hostile), byzfl.Krum(hostile + 1)(wide).astype(np.float32)
        )
        np.testing.assert_allclose(
            rule("geometric-median", stack, hostile),
            byzfl.GeometricMedian(nu=1e-9, T=2000)(wide),
            **tight,
        )
        mixed = byzfl.NNM(hostile)(wide)
        np.testing.assert_allclose(nearest_neighbour_mixing(stack, hostile), mixed, **tight)
        np.testing.assert_allclose(
            rule("trimmed-mean", stack, hostile, nearest=True),
            byzfl.TrMean(hostile)(mixed),
            **tight,
        )
        for name, steps in (("centred-clip", CENTRINGS), ("clipped-gossip", 1)):
            clipping = byzfl.CenteredClipping(L=steps, tau=3.0)
            clipping.m = wide[0]
            with np.errstate(divide="ignore"):  # the centre's distance to itself
                theirs = clipping(wide)
            np.testing.assert_allclose(rule(name, stack, hostile, 3.0), theirs, **tight)


def test_the_krum_package_computes_the_same_numbers():
    torch = pytest.importorskip("torch", reason=KRUM)
    multikrum = pytest.importorskip("krum.primitives.aggregators.multikrum", reason=KRUM)
    compared = 0
    for stack, hostile in cases():
        count = len(stack)
        rows = torch.from_numpy(stack.astype(np.float64))
        for name, keep in (("krum", 1), ("multi-krum", count - hostile)):
            theirs = multikrum.MultiKrum.aggregate(rows, n=count, f=hostile, m=keep)
            np.testing.assert_allclose(
                rule(name, stack, hostile), theirs.numpy(), rtol=1e-5, atol=1e-5
            )
            compared += 1
    assert compared == 24


def test_scipy_trims_the_same_mean():
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which scikit-learn brings")
    for stack, hostile in cases():
        theirs = stats.trim_mean(stack.astype(np.float64), hostile / len(stack) + 1e-9, axis=0)
        np.testing.assert_allclose(
            rule("trimmed-mean", stack, hostile), theirs, rtol=1e-5, atol=1e-6
        )
