"""Robust rules: one new model from our own and several received ones, of which some may be hostile.

    median, trimmed-mean    Yin, Chen, Ramchandran, Bartlett, ICML 2018, arXiv:1803.01498
    the others              see `robust_distance`: they weigh models by the distances between them

Rules of the file:
- A rule is a pure function of our own model, a stack of others, f and a clip radius. Our own model
  is one of the n models that are judged, and honest; f of the others may be anything finite.
- Whatever f models say, the answer is held by the honest ones. A rule that cannot promise that for
  n and f raises `ValueError`; `smallest` says beforehand how many models it takes.
- Large models are handled in blocks of columns, in float64: a rule needs its answer and a few
  megabytes, never a second stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfl.config import RobustConfig
from p2pfl.core.robust_distance import (
    SELF_CENTRED,
    WEIGHT_RULES,
    frame,
    neighbour_means,
)
from p2pfl.core.weights import Vector, pieces

Stack: TypeAlias = NDArray[np.float32]
Rule: TypeAlias = Callable[[Vector, Stack, int, float], Vector]
"""(own (d,), others (m, d), how many of the others may be hostile, clip radius) -> (d,)."""
CoordinateRule: TypeAlias = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""(values (n, k), how many rows may be hostile) -> (k,)."""

_BLOCK_PRODUCTS = 1 << 18
"""Multiplications in a block's product of all models with all: too few for a linear algebra library
to start threads, which would wait for each other on a busy device far longer than they compute. A
block is then small enough for a processor's cache, too."""


def median(values: NDArray[np.float64], hostile: int) -> NDArray[np.float64]:
    """The middle value of each column; of an even number the mean of the two middle ones."""
    middle = (len(values) - 1) // 2
    return _mean_between(values, middle, len(values) - middle)


def trimmed_mean(values: NDArray[np.float64], hostile: int) -> NDArray[np.float64]:
    """The mean of each column without its f largest and its f smallest values."""
    return _mean_between(values, hostile, len(values) - hostile)


def nearest_neighbour_mixing(stack: Stack, hostile: int) -> Stack:
    """Replace each model by the mean of the n - f models nearest to it, itself included.

    Args:
        stack: (n, d) float32, finite, n >= 2 f + 1.
        hostile: f, how many of the n may be hostile.

    Returns:
        (n, d) float32; the input is unchanged.

    Raises:
        ValueError: n is too small for f.
    """
    _check_count("nearest-neighbour mixing", len(stack), hostile, max(2 * hostile + 1, 2))
    models = _Models(stack[0], stack[1:])
    models = _Models(stack[0], stack[1:], neighbour_means(frame(models.blocks()), hostile))
    mixed = np.empty_like(stack)
    for at, block in zip(models.columns(), models.blocks(), strict=True):
        mixed[:, at] = block
    return mixed


def judged(
    name: str,
    own: Vector,
    others: Stack,
    *,
    hostile: int,
    clip: float = 0.0,
    nearest: bool = False,
) -> Vector:
    """The new model by the rule of that name.

    Args:
        name: one of `RULES`.
        own: (d,) float32, our own weights.
        others: (m, d) float32, fresh models of m distinct peers, finite.
        hostile: f, how many of `others` may be hostile.
        clip: l2 radius of the rules that clip, which 0 leaves to `adaptive_clip`; no other rule
            looks at it.
        nearest: mix each model with its nearest neighbours first; our own stays as it is in the
            rules that start from it.

    Returns:
        (d,) float32, new; the inputs are unchanged.

    Raises:
        ValueError: the name is unknown, shapes do not fit, `clip` is negative, or there are too few
            models for `hostile`.
    """
    if name not in RULES:
        raise ValueError(f"rule is {name!r}, must be one of {', '.join(RULES)}")
    if others.ndim != 2 or own.ndim != 1 or others.shape[1:] != own.shape:
        raise ValueError(f"models have shape {others.shape}, expected (m, {own.size})")
    if not clip >= 0:
        raise ValueError(f"clip is {clip:g}, must be at least 0")
    _check_count(name, 1 + len(others), hostile, smallest(name, hostile, nearest=nearest))
    models = _Models(own, others)
    if not nearest:
        if name in COORDINATE_RULES:
            return models.by_coordinate(COORDINATE_RULES[name], hostile)
        return models.weighted(WEIGHT_RULES[name](frame(models.blocks()), hostile, clip))
    points = frame(models.blocks())
    mixing = neighbour_means(points, hostile)
    if name in SELF_CENTRED:
        mixing[0] = np.eye(len(mixing))[0]
    if name in COORDINATE_RULES:
        return _Models(own, others, mixing).by_coordinate(COORDINATE_RULES[name], hostile)
    return models.weighted(WEIGHT_RULES[name](mixing @ points, hostile, clip) @ mixing)


def smallest(name: str, hostile: int, *, nearest: bool = False) -> int:
    """How many models, our own included, the rule needs if `hostile` of them may be hostile.

    The breakdown point: with fewer, that many could move the answer wherever they like. Clipped
    gossip needs no majority, since its radius bounds every step; an adaptive radius needs one
    honest peer.
    """
    needed = max(_SMALLEST[name](hostile), 2)
    return max(needed, 2 * hostile + 1) if nearest else needed


def can_judge(config: RobustConfig, others: int) -> bool:
    """Whether a rule holds with the models of so many others, of which the usual share lies."""
    hostile = math.ceil(config.hostile * others)
    return 1 + others >= smallest(config.rule, hostile, nearest=config.nearest)


COORDINATE_RULES: dict[str, CoordinateRule] = {"median": median, "trimmed-mean": trimmed_mean}

_SMALLEST: dict[str, Callable[[int], int]] = {
    "median": lambda f: 2 * f + 1,
    "trimmed-mean": lambda f: 2 * f + 1,
    "krum": lambda f: 2 * f + 3,
    "multi-krum": lambda f: 2 * f + 3,
    "geometric-median": lambda f: 2 * f + 1,
    "centred-clip": lambda f: 2 * f + 1,
    "clipped-gossip": lambda f: f + 2,
}


def _by_name(name: str, own: Vector, others: Stack, hostile: int, clip: float) -> Vector:
    """A rule in the signature that all rules share."""
    return judged(name, own, others, hostile=hostile, clip=clip)


RULES: dict[str, Rule] = {name: partial(_by_name, name) for name in _SMALLEST}
"""Each takes (own, others, hostile, clip) and raises as `judged` does."""


@dataclass(frozen=True, slots=True)
class _Models:
    """n models, our own in row 0, seen block by block: no copy of the stack is made.

    Attributes:
        own: (d,).
        others: (n - 1, d).
        mixing: (n, n), rows that are means of models; None if each is itself.
    """

    own: Vector
    others: Stack
    mixing: NDArray[np.float64] | None = None

    def columns(self) -> Iterator[slice]:
        """The blocks' places."""
        return pieces(self.own.size, max(_BLOCK_PRODUCTS // (1 + len(self.others)) ** 2, 1))

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """The blocks, (n, k) each, newly made."""
        for at in self.columns():
            block = np.empty((1 + len(self.others), at.stop - at.start))
            block[0] = self.own[at]
            block[1:] = self.others[:, at]
            yield block if self.mixing is None else self.mixing @ block

    def by_coordinate(self, rule: CoordinateRule, hostile: int) -> Vector:
        """What the rule makes of every column, (d,) float32."""
        answer = np.empty_like(self.own)
        for at, block in zip(self.columns(), self.blocks(), strict=True):
            answer[at] = rule(block, hostile)
        return answer

    def weighted(self, weights: NDArray[np.float64]) -> Vector:
        """The weighted mean, (d,) float32; (n,) weights that add up to one."""
        answer = np.empty_like(self.own)
        for at, block in zip(self.columns(), self.blocks(), strict=True):
            answer[at] = weights @ block
        return answer


def _mean_between(values: NDArray[np.float64], begin: int, end: int) -> NDArray[np.float64]:
    """Mean of the places `begin` to `end` of each sorted column; (n, k) values -> (k,)."""
    mean: NDArray[np.float64] = np.sort(values, axis=0)[begin:end].mean(axis=0)
    return mean


def _check_count(name: str, models: int, hostile: int, least: int) -> None:
    """Raise `ValueError` if that many models cannot outvote that many hostile ones."""
    if hostile < 0:
        raise ValueError(f"hostile is {hostile}, must be at least 0")
    if models < least:
        raise ValueError(
            f"{name} got {models} models, our own included, and needs at least {least} where "
            f"{hostile} may be hostile: gather more models or expect fewer hostile ones"
        )
