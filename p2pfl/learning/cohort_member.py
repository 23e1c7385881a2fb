"""One learner of a cohort whose models are stacked.

Rule of the file: it draws the batches of a learner alone with its seed, when a job begins; what it
does not draw, the chunks compute.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Layout, Vector
from p2pfl.errors import LearnerError
from p2pfl.learning.cohort_chunks import Chunks, Looking, Training
from p2pfl.learning.cohort_jobs import drawn_batches, order_of
from p2pfl.learning.partition import Shift
from p2pfl.ports import Evaluation, Learner, Update


class Member:
    """A learner whose jobs are trained in chunks; implements `cohort.CohortLearner`.

    Args:
        chunks: where they are put.
        initial: (d,) float32, read-only.
        seed: of the batch order.
        rows: (m,) its training samples among all.
        batch_size, learning_rate: of its steps.
        salted: as in `drawn_batches`.
        shift: of its features.
        judge: evaluates in place of the stack, where the task has figures of its own.
    """

    def __init__(
        self,
        chunks: Chunks,
        initial: Vector,
        *,
        seed: int,
        rows: NDArray[np.intp] | None,
        samples: int,
        batch_size: int,
        learning_rate: float,
        salted: bool,
        shift: Shift | None,
        judge: Learner | None,
    ) -> None:
        self._chunks = chunks
        self._initial = initial
        self._rows = None if rows is None else np.array(rows, np.intp)
        self._rng, self._batches = order_of(
            samples if rows is None else len(rows), batch_size, seed
        )
        self._learning_rate = learning_rate
        self._salted = salted
        self._shift = shift
        self._judge = judge
        self._training: tuple[Training, int, int] | None = None
        self._looking: tuple[Looking, int] | None = None

    @property
    def layout(self) -> Layout:
        """Names and shapes of the model's arrays."""
        return self._chunks.layout

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32, new."""
        return self._initial.copy()

    def begin(self, weights: Vector, steps: int, drift: Vector | None) -> None:
        """Begin what `step` with the same arguments will give; they are copied."""
        picked = drawn_batches(self._rng, self._batches, steps, self._salted)
        if self._rows is not None:
            picked = self._rows[picked]
        if self._training is not None:
            self._chunks.drop(self._training[0])
        self._training = *self._chunks.train(weights, drift, picked, self._shift), steps

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """The delta of the local steps that were begun, or of new ones if none were.

        What was begun is told by the number of steps only: the other arguments must be those of
        `begin`, too, and are not looked at.

        Raises:
            LearnerError: loss or weights became non-finite; other learners do not notice. Unlike a
                learner alone, this one has drawn the batches of all its steps.
            TaskError: the user's code raised.
        """
        if self._training is None or self._training[2] != steps:
            self.begin(weights, steps, drift)
        assert self._training is not None
        chunk, row, _ = self._training
        self._training = None
        self._chunks.finish(chunk)
        fault, loss = chunk.faults[row], chunk.losses[row]
        delta = chunk.deltas[row].copy() if fault is None else None
        self._chunks.drop(chunk)
        if delta is None:
            raise LearnerError(fault)
        return Update(delta, steps, loss, self._learning_rate)

    def begin_evaluation(self, weights: Vector) -> None:
        """Begin what `evaluate` with the same argument will give; it is copied."""
        if self._judge is None:
            self._looking = self._chunks.look(weights)

    def evaluate(self, weights: Vector) -> Evaluation:
        """How good `weights` are on the test data, or those that `begin_evaluation` was given.

        Raises:
            TaskError: the user's code raised.
        """
        if self._judge is not None:
            return self._judge.evaluate(weights)
        chunk, row = self._looking or self._chunks.look(weights)
        self._looking = None
        self._chunks.finish(chunk)
        accuracy = chunk.accuracies[row]
        known = None if math.isnan(accuracy) else accuracy
        return Evaluation(chunk.losses[row], known, self._chunks.samples)
