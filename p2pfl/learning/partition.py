"""Which samples belong to whom: the index sets of N shards of one labelled data set.

Every node computes all shards and takes its own, so that N devices that have the same data set
split it without talking. A rule is a pure function `(y, count, parameter, rng) -> shards`; every
sample goes to exactly one shard, and `shards` then raises each to a stated minimum. Only `drawn`
lets nodes have samples in common, so that a swarm can be larger than the data. The same labels,
partition and seed give the same shards (with the same major version of numpy).

    iid           equal sizes, every shard like the whole
    dirichlet:A   label skew: each node draws its mix of classes from Dirichlet(A); 0.1 is hard
                  (one or two classes each), 100 is next to iid
    classes:K     label skew: each node holds K classes, each class split evenly among its holders
    quantity:A    sizes drawn from Dirichlet(A), every shard like the whole
    shift:S       feature skew: samples as in iid, but every node measures with an instrument of its
                  own: feature j is scaled by a lognormal(S/2) and moved by a N(0, S) number
    drawn:A       label skew as in dirichlet, but each node draws exactly the minimum of samples
                  from all there are, whoever else has them

Hsu, Qi, Brown, arXiv:1909.06335 (Dirichlet mixes per node); McMahan et al., AISTATS 2017,
arXiv:1602.05629 (few classes per node); Li, Diao, Chen, He, ICDE 2022, arXiv:2102.02079 (the
taxonomy of skews); Li, Jiang, Zhang, Kamp, Dou: FedBN, ICLR 2021, arXiv:2102.07623 (feature shift:
sensors and scanners that differ by node). Unlike Hsu et al. every sample is used: a node's share of
a class is its weight for the class divided by all nodes' weights. A shift changes what a node
trains on, never what it is tested on.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import ConfigError, TaskError

Indices: TypeAlias = NDArray[np.intp]
Labels: TypeAlias = NDArray[Any]
Draw: TypeAlias = Callable[[Labels, int, float, np.random.Generator], list[Indices]]

Shift: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(scale, offset), each (features,): a node sees x * scale + offset."""

MINIMUM = 10
"""Samples every shard has at least, unless a partition says otherwise: fewer are not a batch."""
_SHIFT_STREAM = 1
"""Sets the generators of shifts apart from that of the split, which has the bare seed."""


def iid(y: Labels, count: int, _: float, rng: np.random.Generator) -> list[Indices]:
    """Equal shares of a random order; sizes differ by one at most.

    Args:
        y: (n, ...) labels or targets; only n matters.
        count: number of shards, >= 1.
        rng: the only source of chance.
    """
    return np.array_split(rng.permutation(len(y)), count)


def dirichlet(y: Labels, count: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    """Label skew: node i draws q_i ~ Dirichlet(alpha) and gets q_ic / sum_j q_jc of class c.

    Args:
        y: (n,) integer classes.
        count, rng: as in `iid`.
        alpha: concentration, > 0.

    Raises:
        TaskError: `y` is not one class per sample.
    """
    classes = _classes(y, "dirichlet")
    mixes = rng.dirichlet(np.full(len(classes), alpha), size=count)
    total = mixes.sum(axis=0)
    # a class in which nobody has any weight (tiny alpha underflows) is shared by all alike
    shares = np.where(total > 0, mixes / np.where(total > 0, total, 1), 1 / count)
    hands: list[list[Indices]] = [[] for _ in range(count)]
    for share, members in zip(shares.T, classes, strict=True):
        for hand, part in zip(hands, _cut(rng.permutation(members), share), strict=True):
            hand.append(part)
    return _shuffled(hands, rng)


def classes_per_node(y: Labels, count: int, k: float, rng: np.random.Generator) -> list[Indices]:
    """Label skew: node by node takes the k classes that have the fewest holders so far.

    Args:
        y: (n,) integer classes.
        count, rng: as in `iid`.
        k: classes per node, a whole number >= 1; at most as many as there are.

    Raises:
        TaskError: `y` is not one class per sample, or count x k classes do not cover all.
    """
    classes = _classes(y, "classes")
    k = min(int(k), len(classes))
    if count * k < len(classes):
        raise TaskError(
            f"{count} nodes with {k} classes each cannot hold all {len(classes)} classes; "
            f"use at least 'classes:{-(-len(classes) // count)}'"
        )
    holders: list[list[int]] = [[] for _ in classes]
    for node in range(count):
        ties = rng.random(len(classes))
        for column in np.lexsort((ties, np.array([len(nodes) for nodes in holders])))[:k]:
            holders[column].append(node)
    hands: list[list[Indices]] = [[] for _ in range(count)]
    for members, nodes in zip(classes, holders, strict=True):
        parts = np.array_split(rng.permutation(members), len(nodes))
        for node, part in zip(nodes, parts, strict=True):
            hands[node].append(part)
    return _shuffled(hands, rng)


def quantity_skew(y: Labels, count: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    """Sizes n p with p ~ Dirichlet(alpha), alpha > 0; shards are random samples, as in `iid`."""
    return _cut(rng.permutation(len(y)), rng.dirichlet(np.full(count, alpha)))


def drawn(
    y: Labels, count: int, alpha: float, rng: np.random.Generator, size: int
) -> list[Indices]:
    """Label skew with samples in common: node i draws q_i ~ Dirichlet(alpha), then `size` samples.

    Args:
        y: (n,) integer classes.
        count, rng: as in `iid`.
        alpha: concentration, > 0.
        size: samples of each node, >= 1; none twice, unless a class has too few.

    Raises:
        TaskError: `y` is not one class per sample.
    """
    classes = _classes(y, "drawn")
    found = []
    for mix in rng.dirichlet(np.full(len(classes), alpha), size=count):
        # a mix of a tiny alpha may be nan: all its weight is then on one class
        weights = (
            mix if np.isfinite(mix).all() else np.eye(len(classes))[rng.integers(len(classes))]
        )
        wanted = rng.multinomial(size, weights)
        parts = [
            rng.choice(members, number, replace=number > len(members))
            for members, number in zip(classes, wanted, strict=True)
            if number
        ]
        found.append(np.concatenate(parts))
    return found


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to split.

    Attributes:
        draw: the function; None for `drawn`, which is told the minimum too.
        default: the parameter where none is given; None if the rule takes none.
        whole: the parameter must be a whole number.
    """

    draw: Draw | None
    default: float | None
    whole: bool = False


RULES: dict[str, Rule] = {
    "iid": Rule(iid, None),
    "dirichlet": Rule(dirichlet, 0.1),
    "classes": Rule(classes_per_node, 2, whole=True),
    "quantity": Rule(quantity_skew, 0.5),
    "shift": Rule(iid, 0.5),
    "drawn": Rule(None, 0.1),
}


@dataclass(frozen=True, slots=True)
class Partition:
    """A rule with its parameter, and the least number of samples per shard.

    Raises:
        ConfigError: unknown rule, or a parameter or minimum out of bounds.
    """

    rule: str = "iid"
    parameter: float | None = None
    minimum: int = MINIMUM

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            near = difflib.get_close_matches(self.rule, RULES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(RULES)}"
            raise ConfigError(f"unknown partition '{self.rule}'; {hint}")
        rule, value = RULES[self.rule], self.parameter
        if rule.default is None:
            if value is not None:
                raise ConfigError(f"partition '{self.rule}' takes no parameter, got {value:g}")
        elif value is None:
            object.__setattr__(self, "parameter", rule.default)
        elif not (math.isfinite(value) and value > 0):
            raise ConfigError(f"partition '{self.rule}:{value:g}' needs a number > 0")
        elif rule.whole and value != math.floor(value):
            raise ConfigError(f"partition '{self.rule}:{value:g}' needs a whole number")
        if self.minimum < 1:
            raise ConfigError(f"partition minimum is {self.minimum}, must be >= 1")

    def __str__(self) -> str:
        text = self.rule if self.parameter is None else f"{self.rule}:{self.parameter:g}"
        return text if self.minimum == MINIMUM else f"{text}:min={self.minimum}"


def parse_partition(text: str) -> Partition:
    """Read `RULE` or `RULE:PARAMETER`, either with `:min=SAMPLES`, as in `dirichlet:0.1:min=5`.

    Raises:
        ConfigError: it cannot be read, or a value is out of bounds.
    """
    rule, *rest = text.strip().split(":")
    minimum, parameter = MINIMUM, None
    try:
        if rest and rest[-1].startswith("min="):
            minimum = int(rest.pop().removeprefix("min="))
        if rest:
            parameter = float(rest.pop(0))
    except ValueError:
        raise ConfigError(f"partition '{text}' is not RULE, RULE:NUMBER or ...:min=N") from None
    if rest:
        raise ConfigError(f"partition '{text}' has too many parts, as in 'dirichlet:0.1:min=5'")
    return Partition(rule, parameter, minimum)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` (from 0) of `count`; people write it `index + 1/count`: 1/20 .. 20/20.

    Raises:
        ConfigError: the index is not in 0 .. count - 1, or the seed is negative.
    """

    index: int
    count: int
    partition: Partition = Partition()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"shard is {self}, there must be at least one")
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"shard is {self}, must be 1/{self.count} .. {self.count}/{self.count}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed of shard {self} is {self.seed}, must be >= 0")

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


def parse_shard(text: str, partition: Partition | str = "iid", seed: int = 0) -> Shard:
    """Read the `3/20` of the command line: part 3 of 20, counted from 1.

    Args:
        text: what was written.
        partition: the rule, or its text as `parse_partition` reads it.
        seed: of the split, the same at every node.

    Raises:
        ConfigError: text or partition cannot be read, or a value is out of bounds.
    """
    found = _SHARD.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"shard '{text}' is not of the form 3/20")
    rule = parse_partition(partition) if isinstance(partition, str) else partition
    return Shard(int(found[1]) - 1, int(found[2]), rule, seed)


def shards(y: Labels, count: int, partition: Partition, seed: int) -> list[Indices]:
    """All shards, each sorted: disjoint, together all of `range(n)`, none below the minimum.

    Those of `drawn` have samples in common instead, and exactly the minimum of them.

    Args:
        y: (n, ...) labels or targets, n >= count x partition.minimum.
        count: number of shards, >= 1.
        partition: the rule.
        seed: of the split; the same at every node.

    Raises:
        TaskError: too few samples, or labels that the rule cannot use.
    """
    least, draw = partition.minimum, RULES[partition.rule].draw
    rng = np.random.default_rng(seed)
    if draw is None:
        return [np.sort(part) for part in drawn(y, count, partition.parameter or 0.0, rng, least)]
    if len(y) < count * least:
        raise TaskError(
            f"{len(y)} samples cannot give {count} nodes at least {least} each; take at most "
            f"{len(y) // least} shards" + (" or lower ':min='" if least > 1 else "")
        )
    parts = draw(y, count, partition.parameter or 0.0, rng)
    return [np.sort(part) for part in _raised(parts, least)]


def take(y: Labels, shard: Shard) -> Indices:
    """Sorted indices of one shard of the labels `y`, (n, ...).

    Raises:
        TaskError: as `shards`.
    """
    return shards(y, shard.count, shard.partition, shard.seed)[shard.index]


def feature_shift(features: int, count: int, sigma: float, seed: int) -> list[Shift]:
    """How each of `count` nodes sees the features: offsets N(0, sigma), scales lognormal(sigma/2).

    A node's shift depends on seed and index only, so that it stays when others join.

    Args:
        features: values per sample.
        count: number of nodes, >= 1.
        sigma: > 0, in units of the features; they are best standardised or 0 .. 1.
        seed: of the split; the same at every node.
    """
    return [_shift(features, sigma, seed, index) for index in range(count)]


def shift_of(features: int, shard: Shard) -> Shift | None:
    """The shift of one shard, equal to its entry of `feature_shift`; None for the other rules."""
    if shard.partition.rule != "shift":
        return None
    return _shift(features, shard.partition.parameter or 0.0, shard.seed, shard.index)


def shifted(x: NDArray[Any], shift: Shift) -> NDArray[np.float32]:
    """x * scale + offset, feature by feature: x (n, ...) floating -> the same shape, new.

    Raises:
        TaskError: x is not floating, or has another number of features.
    """
    scale, offset = shift
    check_shift(x, shift)
    moved: NDArray[np.float32] = x.reshape(len(x), -1) * scale
    moved += offset
    return moved.reshape(x.shape)


def check_shift(x: NDArray[Any], shift: Shift) -> None:
    """Whether samples x (n, ...) can be shifted so.

    Raises:
        TaskError: they cannot.
    """
    features = math.prod(x.shape[1:])
    if x.dtype.kind != "f":
        raise TaskError(f"partition 'shift' needs floating features, x has dtype {x.dtype}")
    for name, values in zip(("scale", "offset"), shift, strict=True):
        if values.shape != (features,):
            raise TaskError(f"{name} has shape {values.shape}, x has {features} features")


def _shift(features: int, sigma: float, seed: int, index: int) -> Shift:
    rng = np.random.default_rng((seed, index, _SHIFT_STREAM))
    offset = rng.normal(0, sigma, features)
    scale = rng.lognormal(0, sigma / 2, features)
    return scale.astype(np.float32), offset.astype(np.float32)


def _raised(parts: list[Indices], minimum: int) -> list[Indices]:
    """Give every part `minimum` samples, from the end of whichever part is largest at the time.

    Parts are in random order, so what is given away is a sample of the giver's own mix.
    """
    parts = list(parts)
    sizes = np.array([len(part) for part in parts])
    for poor in np.flatnonzero(sizes < minimum):
        while (need := minimum - sizes[poor]) > 0:
            rich = int(np.argmax(sizes))
            given = min(need, sizes[rich] - minimum)
            parts[poor] = np.concatenate([parts[poor], parts[rich][-given:]])
            parts[rich] = parts[rich][:-given]
            sizes[poor] += given
            sizes[rich] -= given
    return parts


def _classes(y: Labels, rule: str) -> list[Indices]:
    """The indices of each class that occurs, by ascending class."""
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise TaskError(
            f"partition '{rule}' needs one integer class per sample, y has dtype {y.dtype} and "
            f"shape {y.shape}; use 'iid' or 'quantity'"
        )
    _, classes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    return np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])


def _cut(order: Indices, shares: NDArray[np.float64]) -> list[Indices]:
    return np.split(order, np.rint(np.cumsum(shares)[:-1] * len(order)).astype(np.intp))


def _shuffled(hands: list[list[Indices]], rng: np.random.Generator) -> list[Indices]:
    return [rng.permutation(np.concatenate(hand)) for hand in hands]
