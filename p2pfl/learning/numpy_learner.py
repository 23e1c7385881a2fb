"""The learner for models in plain numpy (`numpy_models.py`): minibatch SGD.

Rule of the file: weights and gradient are two flat vectors that live as long as the learner, and
the model sees named views into them; a step makes one new vector, the delta. Never imports torch: a
node that uses this file stays small.
"""

from __future__ import annotations

import math

import numpy as np

from p2pfl.core.weights import Layout, Vector, is_finite, pieces
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.batches import Batches
from p2pfl.learning.checks import Arrays, Metrics, checked_metrics
from p2pfl.learning.numpy_models import (
    MLP,
    Classes,
    Floats,
    NumpyModel,
    SoftmaxRegression,
    cross_entropy,
)
from p2pfl.ports import Evaluation, Update

__all__ = ["MLP", "NumpyLearner", "NumpyModel", "SoftmaxRegression"]

EVALUATION_ROWS = 4096
"""Test samples looked at together; bounds the memory of an evaluation."""


class NumpyLearner:
    """Minibatch SGD for a `NumpyModel`; implements the port `p2pfl.ports.Learner`.

    A local step is z -= eta * (grad(z) + weight_decay * z + drift).

    Args:
        model: the classifier.
        train: (x, y), x (n, ...) numbers, y (n,) classes 0 .. classes - 1, n >= 1.
        test: the same, for `evaluate`.
        run_seed: of the initial weights; equal at all nodes of a run.
        seed: of the batch order; this node's own.
        batch_size: samples per step.
        learning_rate: eta, > 0.
        weight_decay: >= 0; applies to every weight.
        metrics: (outputs (n, classes), targets (n,)) -> more figures; one named `accuracy`
            replaces the usual one.

    Raises:
        TaskError: the data do not fit the model.
    """

    def __init__(
        self,
        model: NumpyModel,
        train: Arrays,
        test: Arrays,
        *,
        run_seed: int,
        seed: int,
        batch_size: int = 16,
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        self._model = model
        self._layout = model.layout
        self._run_seed = run_seed
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._metrics = metrics
        self._weights = self.initial()
        self._gradient = np.zeros_like(self._weights)
        self._weight_views = self._layout.views(self._weights)
        self._gradient_views = self._layout.views(self._gradient)
        self._train = self._fitting(train, "train_data()")
        self._test = self._fitting(test, "test_data()")
        self._batches = Batches(len(self._train[1]), batch_size, np.random.default_rng(seed))

    @property
    def layout(self) -> Layout:
        """Names and shapes of the model's arrays."""
        return self._layout

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32, new.

        Raises:
            TaskError: the model gives something else.
        """
        vector = self._model.initial(np.random.default_rng(self._run_seed))
        if vector.shape != (self._layout.size,) or vector.dtype != np.float32:
            raise TaskError(
                f"initial() of {type(self._model).__name__} gives shape {vector.shape} "
                f"{vector.dtype}, expected ({self._layout.size},) float32"
            )
        return vector

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """Take local steps from `weights` and return the delta; the argument is not changed.

        Args:
            weights: (d,) float32.
            steps: K >= 1.
            drift: (d,) float32 or None; every step subtracts learning_rate x drift as well.

        Raises:
            LearnerError: loss or weights became non-finite; the next step starts afresh.
        """
        x, y = self._train
        z, rate = self._weights, np.float32(self._learning_rate)
        np.copyto(z, weights)
        total = 0.0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for done in range(steps):
                at = self._batches.next()
                loss = self._model.gradient(self._weight_views, x[at], y[at], self._gradient_views)
                if not math.isfinite(loss):
                    raise LearnerError(f"loss is {loss} in local step {done + 1} of {steps}")
                total += loss
                self._descend(rate, drift)
            delta = z - weights
        if not is_finite(delta):
            raise LearnerError(f"weights are not finite after {steps} local steps")
        return Update(delta, steps, total / steps, self._learning_rate)

    def evaluate(self, weights: Vector) -> Evaluation:
        """Measure `weights`, (d,) float32, on the test data; a bad model has a non-finite loss."""
        x, y = self._test
        views = self._layout.views(weights)
        loss, right, kept = 0.0, 0, []
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for at in pieces(len(y), EVALUATION_ROWS):
                outputs = self._model.outputs(views, x[at])
                right += int((outputs.argmax(axis=1) == y[at]).sum())
                if self._metrics is not None:
                    kept.append(outputs.copy())
                loss += cross_entropy(outputs, y[at]) * len(outputs)
        figures = checked_metrics(self._metrics, np.concatenate(kept), y) if self._metrics else {}
        accuracy = figures.pop("accuracy", right / len(y))
        return Evaluation(loss / len(y), accuracy, len(y), figures)

    def _descend(self, rate: np.float32, drift: Vector | None) -> None:
        z, gradient = self._weights, self._gradient
        if self._weight_decay:
            gradient += np.float32(self._weight_decay) * z
        if drift is not None:
            gradient += drift
        gradient *= rate
        np.subtract(z, gradient, out=z)

    def _fitting(self, data: Arrays, where: str) -> tuple[Floats, Classes]:
        """The data as this model needs them, tried on a few rows."""
        x, y = data[0].astype(np.float32, copy=False), data[1]
        if y.ndim != 1 or y.dtype.kind != "i":
            raise TaskError(
                f"{where}: y has dtype {y.dtype} and shape {y.shape}, "
                f"{type(self._model).__name__} needs one integer class per row"
            )
        try:
            outputs = self._model.outputs(self._weight_views, x[:2])
        except ValueError as error:
            raise TaskError(
                f"{where}: x of shape {x.shape} does not fit {self._model}: {error}"
            ) from error
        if outputs.ndim != 2 or y.max() >= outputs.shape[1]:
            raise TaskError(
                f"{where}: y has class {y.max()}, {self._model} gives outputs of shape "
                f"{outputs.shape}: classes must be 0 .. {outputs.shape[-1] - 1}"
            )
        return x, y
