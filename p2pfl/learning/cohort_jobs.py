"""What a stack of learners is asked and answers: the jobs of a chunk, and how stacks are tried.

A stack trains many models of one kind at once, one row each. Its rule: a row's result has the same
bits in whatever company it is computed. Processors tempt to break it: a matrix product rounds
another way when a row begins at another alignment, or when there is but one row. Whether a stack
keeps the rule for this model on this machine is found out by trying (`is_sound`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import LearnerError
from p2pfl.learning.batches import Batches
from p2pfl.ports import Learner

ALIGNED = 16
"""Floats in 64 bytes: the widest vector register and the cache line."""
CHUNK_VALUES = 320_000
"""Weights of a chunk together: with activations about 1 MiB, a usual second-level cache."""
FEWEST, MOST = 8, 256
"""Rows of a chunk: fewer do not pay for the calls, more only wait for each other."""
TRIAL_STEPS = 2
TRIAL_TOLERANCE = 1e-4
"""By how much a stack may differ from a learner alone, relative to the largest change."""


def aligned(size: int) -> int:
    """The next multiple of `ALIGNED`."""
    return -(-size // ALIGNED) * ALIGNED


def usual_chunk(size: int) -> int:
    """Rows of a chunk for models of `size` weights: a power of two."""
    rows = max(1, CHUNK_VALUES // size)
    return min(MOST, max(FEWEST, 1 << (rows.bit_length() - 1)))


@dataclass(slots=True)
class Jobs:
    """Jobs of a chunk, in descending order of their steps: n rows, K steps of the first.

    Attributes:
        weights: (n, d) float32 to start from; a stack leaves the deltas in it.
        drift: (n, d) float32, zeros for whoever has none; None if nobody has.
        index: (K, n, b) samples of every step, valid everywhere; beyond a row's batch its first
            sample stands.
        batch: (n,) samples in each row's batches, 1 .. b.
        steps: (n,) from K down to 1.
        shift: (scale, offset), each (n, features) float32, or None for the data as they are.
    """

    weights: NDArray[np.float32]
    drift: NDArray[np.float32] | None
    index: NDArray[np.intp]
    batch: NDArray[np.intp]
    steps: NDArray[np.intp]
    shift: tuple[NDArray[np.float32], NDArray[np.float32]] | None

    def running(self) -> list[int]:
        """How many rows take part in each of the K steps; they are the first ones."""
        taking = self.steps[None, :] > np.arange(len(self.index))[:, None]
        return [int(rows) for rows in taking.sum(axis=1)]

    def share(self) -> NDArray[np.float32]:
        """(n, b): how much a sample counts, 1 / batch, and 0 beyond the batch."""
        within = np.arange(self.index.shape[2]) < self.batch[:, None]
        return (within / self.batch[:, None]).astype(np.float32)


class Stack(Protocol):
    """Many models of one kind. Its methods run in one thread, and not at the same time."""

    chunk: int
    """n: rows it takes at once."""

    def rows(self, batch: int) -> int:
        """b: places for samples in the jobs of learners with batches of `batch`; >= batch."""
        ...

    def train(self, jobs: Jobs) -> NDArray[np.float32]:
        """Take the steps: (K, n) losses, anything where a row has no such step."""
        ...

    def evaluate(
        self, weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy (NaN where there is none) and loss of (n, d) weights, n <= chunk: each (n,)."""
        ...


def is_sound(stack: Stack, alone: Learner, batch: int, salted: bool) -> bool:
    """Whether a row has the same bits in any company, and they are right.

    The chunk is filled with one job over and over, so that every row must come out equal; then with
    fewer, and with neighbours that end before it.

    Args:
        stack: to be tried.
        alone: a learner of the first `batch` training samples, made from seed 0.
        batch: samples per step.
        salted: as in `order_of`.
    """
    start = alone.initial()
    drift = np.linspace(-0.01, 0.01, start.size, dtype=np.float32)
    rng, batches = order_of(batch, batch, 0)
    index = drawn_batches(rng, batches, TRIAL_STEPS, salted)
    width = stack.rows(batches.size)
    padded = np.concatenate([index, np.repeat(index[:, :1], width - batches.size, axis=1)], axis=1)

    def trained(steps: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        count = len(steps)
        jobs = Jobs(
            weights=np.tile(start, (count, 1)),
            drift=np.tile(drift, (count, 1)),
            index=np.ascontiguousarray(np.repeat(padded[:, None], count, axis=1)),
            batch=np.full(count, batches.size, np.intp),
            steps=np.array(steps, np.intp),
            shift=None,
        )
        losses = stack.train(jobs)
        return jobs.weights, losses

    full, losses = trained([TRIAL_STEPS] * stack.chunk)
    row = full[0], losses[:, 0]
    for count, ending in ((stack.chunk, 0), (1, 0), (2, 0), (1, stack.chunk - 1), (3, 2)):
        count = min(count, stack.chunk)
        others = min(ending, stack.chunk - count)
        deltas, losses = trained([TRIAL_STEPS] * count + [1] * others)
        if not _equal(deltas[:count], row[0]) or not _equal(losses[:, :count].T, row[1]):
            return False
    one = np.stack([start * np.float32(1 - at / 100) for at in range(stack.chunk)])
    accuracy, loss = stack.evaluate(one)
    for at in {0, 1, stack.chunk - 1}:
        few = stack.evaluate(one[at : at + 1])
        if not _equal(few[0][0], accuracy[at]) or not _equal(few[1][0], loss[at]):
            return False
    try:
        expected = alone.step(start, TRIAL_STEPS, drift).delta
    except LearnerError:
        return True  # not finite from the start: nothing to compare with, and nothing to lose
    bound = TRIAL_TOLERANCE * float(np.abs(expected).max()) + 1e-7
    return bool((np.abs(row[0] - expected) <= bound).all())


def _equal(one: NDArray[np.floating], other: NDArray[np.floating]) -> bool:
    return np.array_equal(one, np.broadcast_to(other, one.shape), equal_nan=True)


def order_of(samples: int, batch_size: int, seed: int) -> tuple[np.random.Generator, Batches]:
    """The generator and the batches of a learner alone that has this seed."""
    rng = np.random.default_rng(seed)
    return rng, Batches(samples, batch_size, rng)


def drawn_batches(
    rng: np.random.Generator, batches: Batches, steps: int, salted: bool
) -> NDArray[np.int64]:
    """(steps, size) places among the learner's samples, as a learner alone draws them.

    Args:
        rng, batches: of `order_of`.
        steps: K >= 1.
        salted: as the torch learner, which draws a seed for torch before each job.
    """
    if salted:
        rng.bit_generator.random_raw()  # what `integers(1 << 63)` takes, at a tenth of its cost
    return batches.several(steps)
