"""Classifiers in plain numpy: softmax regression and a perceptron with one hidden layer.

Rule of the file: a model is a frozen description with pure functions; it never holds weights. They
are named views into a flat vector that somebody else owns, and the gradient is written into such
views, so nothing of the model's size is allocated.

Initial weights: He, Zhang, Ren, Sun, ICCV 2015, arXiv:1502.01852.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Entry, Layout, Vector

Floats: TypeAlias = NDArray[np.float32]
Classes: TypeAlias = NDArray[np.int64]
Views: TypeAlias = Mapping[str, Floats]
"""The model's arrays by name: views into a flat vector."""


@runtime_checkable
class NumpyModel(Protocol):
    """A classifier in numpy. Anything with these four can be given to `NumpyLearner`."""

    @property
    def layout(self) -> Layout:
        """Names and shapes of the weights."""
        ...

    def initial(self, rng: np.random.Generator) -> Vector:
        """Weights to start from: (d,) float32."""
        ...

    def outputs(self, weights: Views, x: Floats) -> Floats:
        """Scores: x (n, ...) -> (n, classes); the largest is the answer."""
        ...

    def gradient(self, weights: Views, x: Floats, y: Classes, out: Views) -> float:
        """Write the gradient of the mean loss over x, y into all of `out`, and return that loss."""
        ...


@dataclass(frozen=True, slots=True)
class SoftmaxRegression:
    """A linear classifier: scores x W + b, cross entropy. Convex, so it suits a first try.

    Attributes:
        inputs: features per sample, >= 1.
        classes: >= 2.
    """

    inputs: int
    classes: int

    @property
    def layout(self) -> Layout:
        """`weight` (inputs, classes) and `bias` (classes,)."""
        return Layout(
            (Entry("weight", (self.inputs, self.classes)), Entry("bias", (self.classes,)))
        )

    def initial(self, rng: np.random.Generator) -> Vector:
        """He weights, no bias: (d,) float32."""
        vector = np.zeros(self.layout.size, np.float32)
        _he(self.layout.views(vector)["weight"], rng)
        return vector

    def outputs(self, weights: Views, x: Floats) -> Floats:
        """Scores: x (n, inputs) -> (n, classes)."""
        scores: Floats = x @ weights["weight"]
        scores += weights["bias"]
        return scores

    def gradient(self, weights: Views, x: Floats, y: Classes, out: Views) -> float:
        """dL/dW = x^T (p - onehot(y)) / n; dL/db the column sums of the same."""
        error = self.outputs(weights, x)
        loss = cross_entropy(error, y)
        np.matmul(x.T, error, out=out["weight"])
        np.add.reduce(error, axis=0, out=out["bias"])
        return loss


@dataclass(frozen=True, slots=True)
class MLP:
    """One hidden layer: h = relu(x W1 + b1), scores h W2 + b2, cross entropy.

    Attributes:
        inputs: features per sample, >= 1.
        hidden: width of the hidden layer, >= 1.
        classes: >= 2.
    """

    inputs: int
    hidden: int
    classes: int

    @property
    def layout(self) -> Layout:
        """`weight1` (inputs, hidden), `bias1`, `weight2` (hidden, classes), `bias2`."""
        return Layout(
            (
                Entry("weight1", (self.inputs, self.hidden)),
                Entry("bias1", (self.hidden,)),
                Entry("weight2", (self.hidden, self.classes)),
                Entry("bias2", (self.classes,)),
            )
        )

    def initial(self, rng: np.random.Generator) -> Vector:
        """He weights, no biases: (d,) float32."""
        vector = np.zeros(self.layout.size, np.float32)
        views = self.layout.views(vector)
        _he(views["weight1"], rng)
        _he(views["weight2"], rng)
        return vector

    def outputs(self, weights: Views, x: Floats) -> Floats:
        """Scores: x (n, inputs) -> (n, classes)."""
        return self._scores(weights, self._hidden(weights, x))

    def gradient(self, weights: Views, x: Floats, y: Classes, out: Views) -> float:
        """Backpropagation; the derivative of relu at 0 is taken as 0."""
        hidden = self._hidden(weights, x)
        error = self._scores(weights, hidden)
        loss = cross_entropy(error, y)
        np.matmul(hidden.T, error, out=out["weight2"])
        np.add.reduce(error, axis=0, out=out["bias2"])
        below = error @ weights["weight2"].T
        below *= hidden > 0
        np.matmul(x.T, below, out=out["weight1"])
        np.add.reduce(below, axis=0, out=out["bias1"])
        return loss

    def _hidden(self, weights: Views, x: Floats) -> Floats:
        hidden: Floats = x @ weights["weight1"]
        hidden += weights["bias1"]
        return np.maximum(hidden, 0, out=hidden)

    def _scores(self, weights: Views, hidden: Floats) -> Floats:
        scores: Floats = hidden @ weights["weight2"]
        scores += weights["bias2"]
        return scores


def _he(weight: Floats, rng: np.random.Generator) -> None:
    """Fill with N(0, 2 / fan_in), fan_in being the first dimension."""
    rng.standard_normal(dtype=np.float32, out=weight)
    weight *= np.float32(math.sqrt(2 / weight.shape[0]))


def cross_entropy(scores: Floats, y: Classes) -> float:
    """Mean of log sum_c exp(s_c) - s_y; `scores` (n, classes) becomes (softmax - onehot) / n.

    The loss is never taken from the softmax itself, which underflows to log 0 for finite scores.
    """
    n = len(y)
    rows = np.arange(n)
    scores -= np.maximum.reduce(scores, axis=1, keepdims=True)
    right = np.add.reduce(scores[rows, y])
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=1, keepdims=True)
    loss = (np.add.reduce(np.log(total), axis=None) - right) / n
    total *= n
    scores /= total
    scores[rows, y] -= np.float32(1 / n)
    return float(loss)
