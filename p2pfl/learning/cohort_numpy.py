"""Stacks of the numpy models `MLP` and `SoftmaxRegression`.

Rule of the file: never imports torch, and a row's bits do not depend on its company. `np.matmul`
multiplies a stack matrix by matrix with BLAS, whose kernels may look at where a matrix begins; so
all memory begins at a multiple of 64 bytes, and so does every row in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import pieces
from p2pfl.learning.checks import Arrays
from p2pfl.learning.cohort_jobs import ALIGNED, Jobs, aligned
from p2pfl.learning.numpy_models import MLP, Classes, Floats, SoftmaxRegression

EVALUATION_ROWS = 512
"""Test samples looked at together; bounds the memory of an evaluation."""


class NumpyStack:
    """Classifiers with at most one hidden layer and plain SGD; implements `Stack`.

    Scores are kept as (classes, batch), so that softmax runs over columns.

    Args:
        model: of every row.
        train, test: x (n, features) numbers, y (n,) classes.
        chunk: rows at once.
        learning_rate, weight_decay: of plain SGD.
    """

    def __init__(
        self,
        model: MLP | SoftmaxRegression,
        train: Arrays,
        test: Arrays,
        *,
        chunk: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        self.chunk = chunk
        self._entries = model.layout.entries
        self._size = model.layout.size
        self._rate = np.float32(learning_rate)
        self._decay = np.float32(weight_decay)
        self._train = train[0].astype(np.float32, copy=False), train[1]
        self._test = test[0].astype(np.float32, copy=False), test[1]
        self._weights = _zeros(chunk, aligned(self._size))
        self._gradient = _zeros(chunk, aligned(self._size))

    def rows(self, batch: int) -> int:
        """A multiple of 16: learners with few samples share a chunk with those that have more."""
        return aligned(batch)

    def train(self, jobs: Jobs) -> NDArray[np.float32]:
        """Take the steps: (K, n) losses."""
        weights = self._weights[:, : self._size]
        losses = np.zeros(jobs.index.shape[:2], np.float32)
        share = jobs.share()[:, None]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            np.copyto(weights[: len(jobs.weights)], jobs.weights)
            for k, n in enumerate(jobs.running()):
                losses[k, :n] = self._step(jobs, jobs.index[k, :n], share[:n])
            np.subtract(weights[: len(jobs.weights)], jobs.weights, out=jobs.weights)
        return losses

    def evaluate(
        self, weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy and loss of (n, d) weights, each (n,)."""
        n, (x, y) = len(weights), self._test
        np.copyto(self._weights[:n, : self._size], weights)
        views = self._views(self._weights[:n])
        loss, right = np.zeros(n), np.zeros(n)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for at in pieces(len(y), EVALUATION_ROWS):
                scores = _scores(views, x[at], _hidden(views, x[at]))
                right += (scores.argmax(axis=1) == y[at]).sum(axis=1)
                labels = np.broadcast_to(y[at], (n, 1, len(y[at])))
                loss += _softmax(scores, labels).sum(axis=(1, 2), dtype=np.float64)
        return right / len(y), loss / len(y)

    def _step(self, jobs: Jobs, picked: NDArray[np.intp], share: Floats) -> Floats:
        """One step of the first n rows: their losses."""
        n = len(picked)
        x, labels = _taken(self._train[0], picked), self._train[1][picked][:, None]
        if jobs.shift is not None:
            x *= jobs.shift[0][:n, None]
            x += jobs.shift[1][:n, None]
        z, gradient = self._weights[:n], self._gradient[:n]
        views, out = self._views(z), self._views(gradient)
        hidden = _hidden(views, x)
        error = _scores(views, x, hidden)
        losses = _softmax(error, labels)
        losses *= share
        np.put_along_axis(error, labels, np.take_along_axis(error, labels, 1) - np.float32(1), 1)
        error *= share
        turned = error.transpose(0, 2, 1)
        if hidden is None:
            np.matmul(x.transpose(0, 2, 1), turned, out=out["weight"])
            np.add.reduce(error, axis=2, out=out["bias"])
        else:
            np.matmul(hidden.transpose(0, 2, 1), turned, out=out["weight2"])
            np.add.reduce(error, axis=2, out=out["bias2"])
            below = _product(turned, views["weight2"].transpose(0, 2, 1))
            below *= hidden > 0
            np.matmul(x.transpose(0, 2, 1), below, out=out["weight1"])
            np.add.reduce(below, axis=1, out=out["bias1"])
        if self._decay:
            gradient += self._decay * z
        if jobs.drift is not None:
            gradient[:, : self._size] += jobs.drift[:n]
        gradient *= self._rate
        z -= gradient
        summed: Floats = losses.sum(axis=(1, 2))
        return summed

    def _views(self, stacked: Floats) -> dict[str, Floats]:
        """Named views into (n, d padded): (n, ...)."""
        views, start = {}, 0
        for entry in self._entries:
            part = stacked[:, start : start + entry.size]
            # rows are apart, values within a row are not: this is a view
            views[entry.name] = part.reshape(len(stacked), *entry.shape)
            start += entry.size
        return views


def _hidden(views: Mapping[str, Floats], x: Floats) -> Floats | None:
    """relu(x W1 + b1), (n, b, hidden); None for a model that has no hidden layer."""
    if "weight1" not in views:
        return None
    hidden = _product(np.broadcast_to(x, (len(views["bias1"]), *x.shape[-2:])), views["weight1"])
    hidden += views["bias1"][:, None]
    return np.maximum(hidden, 0, out=hidden)


def _scores(views: Mapping[str, Floats], x: Floats, hidden: Floats | None) -> Floats:
    """(n, classes, b)."""
    name = "" if hidden is None else "2"
    weight, bias = views[f"weight{name}"], views[f"bias{name}"]
    below = np.broadcast_to(x, (len(bias), *x.shape[-2:])) if hidden is None else hidden
    scores = _product(weight.transpose(0, 2, 1), below.transpose(0, 2, 1))
    scores += bias[:, :, None]
    return scores


def _softmax(scores: Floats, labels: Classes) -> Floats:
    """Turn scores (n, classes, b) into probabilities; the loss of every sample, (n, 1, b)."""
    scores -= np.maximum.reduce(scores, axis=1, keepdims=True)
    right = np.take_along_axis(scores, labels, 1)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=1, keepdims=True)
    scores /= total
    losses: Floats = np.log(total)
    losses -= right
    return losses


def _product(one: Floats, other: Floats) -> Floats:
    """A stack of matrix products, in memory that begins where vectors do."""
    out = _empty(len(one), one.shape[1], other.shape[2])
    return np.matmul(one, other, out=out)


def _taken(x: Floats, index: NDArray[np.intp]) -> Floats:
    """Rows of (samples, features) by (n, b): (n, b, features)."""
    out = _empty(*index.shape, x.shape[1])
    return np.take(x, index, axis=0, out=out, mode="clip")


def _empty(*shape: int) -> Floats:
    """Memory that begins at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    raw = np.empty(size + ALIGNED, np.float32)
    start = -(raw.ctypes.data // raw.itemsize) % ALIGNED
    return raw[start : start + size].reshape(shape)


def _zeros(*shape: int) -> Floats:
    values = _empty(*shape)
    values.fill(0)
    return values
