"""Robust rules that look only at the distances between models, and give each model a weight.

    krum, multi-krum    Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, arXiv:1703.02757
    geometric-median    RFA: Pillutla, Kakade, Harchaoui, IEEE TSP 2022, arXiv:1912.13445
    centred-clip        Karimireddy, He, Jaggi, ICML 2021, arXiv:2012.10333
    clipped-gossip      He, Karimireddy, Jaggi 2022, arXiv:2202.01545
    nearest neighbours  Allouah et al., AISTATS 2023, arXiv:2302.01772

None of them changes when all models are turned or moved together. So each works on `points`: the n
models in a frame of their own, n numbers each however many weights a model has, with the same
distances. One pass over the models makes the frame and one applies the weights; what a rule does in
between, iterations too, costs nothing that grows with the models.

Rule of the file: float64 throughout; the first point is our own model, honest and the origin; the
weights of a rule are not negative and add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = NDArray[np.float64]
WeightRule: TypeAlias = Callable[[Points, int, float], Weights]
"""(points (n, n), how many of them may be hostile, clip radius) -> weights (n,)."""

CENTRINGS = 3
"""Times that centred clipping moves its centre; the paper shows that few suffice from a good one,
and our own model, which is honest, is good."""

_TIE = 1e-9
"""Scores whose relative difference is smaller are equal: rounding must not choose a model."""
_SMOOTHING = 1e-6
_SETTLED = 1e-8
_WEISZFELD_STEPS = 500


def frame(blocks: Iterable[NDArray[np.float64]]) -> Points:
    """The models in an orthonormal frame of the space that they span.

    The Gram matrix of the differences to our own model, scaled to a unit diagonal so that no
    model's size costs another one's digits, has the factor C C^T by its eigenvectors; the rows of
    C, scaled back, are the points.

    Args:
        blocks: (n, k) columns of the models, our own in row 0; finite. Overwritten.

    Returns:
        (n, n), row 0 zero; |points[i] - points[j]| is the distance of the models i and j, but for
        rounding of some 1e-7 of how far they are from ours: what float32 can tell apart.
    """
    gram: NDArray[np.float64] | None = None
    for block in blocks:
        block -= block[0].copy()
        product = block @ block.T
        gram = product if gram is None else gram + product
    if gram is None:
        raise ValueError("the models have 0 weights, expected at least 1")
    size = np.sqrt(gram.diagonal())
    scale = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(gram / scale[:, None] / scale)
    points: Points = vectors * np.sqrt(np.maximum(values, 0.0)) * size[:, None]
    return points


def distances(points: Points, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """l2 distance of each of (n, r) points to `centre`, (r,)."""
    away: NDArray[np.float64] = np.sqrt(np.square(points - centre).sum(axis=1))
    return away


def krum(points: Points, hostile: int, clip: float) -> Weights:
    """The one model whose n - f - 2 nearest others are nearest, by the sum of squares.

    Where scores are equal the first wins, so our own model does: a tie moves nobody.
    """
    return _mean_of(points, _best(_krum_scores(points, hostile), 1))


def multi_krum(points: Points, hostile: int, clip: float) -> Weights:
    """The mean of the n - f models with the best Krum scores."""
    return _mean_of(points, _best(_krum_scores(points, hostile), len(points) - hostile))


def geometric_median(points: Points, hostile: int, clip: float) -> Weights:
    """The model with the least sum of distances, by the smoothed Weiszfeld algorithm.

        z <- sum_i b_i x_i / sum_i b_i,    b_i = 1 / max(nu, |x_i - z|)

    The start is the coordinate-wise median, so the largest outlier costs no more steps than a small
    one. nu is a millionth of the median distance: the answer scales with the models.
    """
    z = np.median(points, axis=0)
    away = distances(points, z)
    reach = float(np.median(away))
    if reach == 0:
        # half of the models or more are one point, and no other has a smaller sum
        return _mean_of(points, np.flatnonzero(away == 0))
    for _ in range(_WEISZFELD_STEPS):
        pull = 1.0 / np.maximum(away, _SMOOTHING * reach)
        pull /= pull.sum()
        step = pull @ points - z
        z = z + step
        if np.sqrt(step @ step) <= _SETTLED * reach:
            break
        away = distances(points, z)
    return pull


def centred_clip(points: Points, hostile: int, clip: float) -> Weights:
    """Move a centre to the mean of the models as seen from it, each shortened to the clip radius.

    v <- v + 1/n sum_i (x_i - v) min(1, clip / |x_i - v|),    v = our own model at first
    """
    return _clipped(points, hostile, clip, CENTRINGS)


def clipped_gossip(points: Points, hostile: int, clip: float) -> Weights:
    """Average with equal weights after each difference to our own model is shortened.

    x_0 + 1/n sum_j (x_j - x_0) min(1, clip / |x_j - x_0|)
    """
    return _clipped(points, hostile, clip, 1)


def adaptive_clip(away: NDArray[np.float64], hostile: int) -> float:
    """A clip radius from the distances to the centre, for equal mixing weights 1/n.

        clip^2 = 1/delta sum_{i in S} 1/n |x_i - v|^2,    delta = f/n,    S = the n - f nearest

    The radius for which the bias of clipping the honest and what the hostile can do are in balance
    (He, Karimireddy, Jaggi 2022: the radius of their theorem, with the nearest models standing in
    for the honest ones, which nobody knows).

    Args:
        away: (n,) distances, our own model's among them.
        hostile: f, of the n, 0 <= f < n.

    Returns:
        Infinite if f is 0.

    Raises:
        ValueError: there are not more than f distances.
    """
    if not 0 <= hostile < len(away):
        raise ValueError(
            f"hostile is {hostile}, must be at least 0 and less than the {len(away)} models"
        )
    if hostile == 0:
        return math.inf
    nearest = np.sort(away)[: len(away) - hostile]
    return math.sqrt(float(np.square(nearest).sum()) / hostile)


def neighbour_means(points: Points, hostile: int) -> NDArray[np.float64]:
    """Nearest-neighbour mixing: row i averages the n - f models nearest to model i, itself too.

    Returns:
        (n, n), rows that add up to one.
    """
    nearest = np.argsort(_squared_distances(points), axis=1, kind="stable")
    keep = len(points) - hostile
    means = np.zeros((len(points), len(points)))
    np.put_along_axis(means, nearest[:, :keep], 1.0 / keep, axis=1)
    return means


WEIGHT_RULES: dict[str, WeightRule] = {
    "krum": krum,
    "multi-krum": multi_krum,
    "geometric-median": geometric_median,
    "centred-clip": centred_clip,
    "clipped-gossip": clipped_gossip,
}
SELF_CENTRED = frozenset({"centred-clip", "clipped-gossip"})
"""Rules that start from our own model: it is never replaced by a mixed one there, or a step could
be longer than the clip radius allows."""


def _squared_distances(points: Points) -> NDArray[np.float64]:
    """(n, n), between every two of (n, r) points."""
    return np.stack([np.square(points - point).sum(axis=1) for point in points])


def _krum_scores(points: Points, hostile: int) -> NDArray[np.float64]:
    """(n,) sums of the n - f - 2 smallest squared distances to other models."""
    between = np.sort(_squared_distances(points), axis=1)
    scores: NDArray[np.float64] = between[:, 1 : len(points) - hostile - 1].sum(axis=1)
    return scores


def _best(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of the `count` smallest scores; of equal ones the first."""
    limit = np.sort(scores)[count - 1]
    below = np.flatnonzero(scores < limit * (1 - _TIE))
    tied = np.flatnonzero(np.abs(scores - limit) <= limit * _TIE)
    return np.concatenate([below, tied[: count - len(below)]])


def _mean_of(points: Points, chosen: NDArray[np.intp]) -> Weights:
    """Equal weights for the chosen models, none for the others."""
    weights = np.zeros(len(points))
    weights[chosen] = 1.0 / len(chosen)
    return weights


def _clipped(points: Points, hostile: int, clip: float, centrings: int) -> Weights:
    """Weights after `centrings` steps of clipped averaging that start at our own model."""
    weights = np.zeros(len(points))
    weights[0] = 1.0
    for _ in range(centrings):
        away = distances(points, weights @ points)
        radius = clip if clip > 0 else adaptive_clip(away, hostile)
        kept = np.minimum(1.0, np.divide(radius, away, where=away > 0, out=np.ones_like(away)))
        weights = weights * (1.0 - kept.mean()) + kept / len(points)
    return weights
