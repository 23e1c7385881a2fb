"""Stacks of torch perceptrons: Linear layers with ReLU or Tanh between, cross entropy, plain SGD.

Batched matrix products in place, on buffers that live as long as the stack; gradients are never
stored, they go straight into the weights.

Rule of the file: a row's bits do not depend on its company. What it takes, measured with MKL of
torch 2.13 on an AVX-512 machine, over all products that occur here:

    - a matrix that does not begin at a multiple of 64 bytes is multiplied another way, so every
      matrix of a stack has a multiple of 16 floats: inputs and hidden layers are padded with units
      that stay zero, batches with samples that do not count;
    - a product with one column (a matrix times a vector) has other bits if it is alone, so biases
      are summed, not multiplied;
    - with that, the number of matrices and a matrix's place among them change nothing, so a chunk
      need not be full, and rows that have taken their steps can be left out;
    - elementwise functions, sums and softmax never depended on anything;
    - all of that with one thread: with two, one row in a hundred differs.

Scores are kept as (classes, batch), because softmax is ten times faster over columns than over
rows of ten.

Python's global lock would be asked for between any two operations, and whoever waits for it behind
a busy event loop waits 5 ms each time. Where torch can compile the loop to TorchScript, it runs
without the lock from the first operation of a chunk to the last; the arithmetic is the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pfl.core.weights import pieces
from p2pfl.learning.checks import Arrays
from p2pfl.learning.cohort_jobs import Jobs, aligned

EVALUATION_ROWS = 512
"""Test samples looked at together; bounds the memory of an evaluation. A multiple of 16."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Linear layers with a function between them.

    Attributes:
        widths: inputs, hidden layers, classes.
        relu: of each hidden layer: ReLU, otherwise Tanh.
    """

    widths: tuple[int, ...]
    relu: tuple[bool, ...]


def perceptron_of(module: nn.Module) -> Perceptron | None:
    """What `module` is, if it is nothing but a perceptron."""
    layers = list(_layers(module))
    if layers and type(layers[0]) is nn.Flatten and layers[0].start_dim == 1:
        if layers[0].end_dim != -1:
            return None
        del layers[0]
    linear, between = layers[::2], layers[1::2]
    known = all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
    if not known or len(linear) != len(between) + 1 or len(set(map(id, linear))) < len(linear):
        return None
    if any(type(layer) not in (nn.ReLU, nn.Tanh) for layer in between):
        return None
    widths = [size for layer in linear for size in (layer.in_features, layer.out_features)]
    if widths[1:-1:2] != widths[2::2]:
        return None
    relu = tuple(type(layer) is nn.ReLU for layer in between)
    return Perceptron((*widths[::2], widths[-1]), relu)


def _layers(module: nn.Module) -> list[Any]:
    if type(module) is nn.Sequential:
        return [layer for part in module for layer in _layers(part)]
    return [module]


def _train(
    weights: list[Tensor],
    biases: list[Tensor],
    drifts: list[Tensor],
    shift: list[Tensor],
    relu: list[bool],
    x: Tensor,
    y: Tensor,
    index: Tensor,
    share: Tensor,
    minus: Tensor,
    running: list[int],
    rate: float,
    decay: float,
    values: list[Tensor],
    errors: list[Tensor],
    losses: Tensor,
) -> None:
    """Local steps of perceptrons, in the words that TorchScript knows; see `DenseStack`."""
    last = len(weights) - 1
    rows = index.size(2)
    for k, n in enumerate(running):
        at = index[k, :n].reshape(-1)
        inputs = values[0][:n]
        torch.index_select(x, 0, at, out=inputs.view(n * rows, -1))
        if len(shift) > 0:
            inputs.mul_(shift[0][:n]).add_(shift[1][:n])
        labels = y.index_select(0, at).view(n, 1, rows)
        for layer in range(last):
            below, z, above = values[layer][:n], weights[layer][:n], values[layer + 1][:n]
            bias = biases[layer][:n].transpose(1, 2)
            torch.baddbmm(bias, below, z.transpose(1, 2), out=above)
            if relu[layer]:
                torch.relu_(above)
            else:
                torch.tanh_(above)
        below, scores, error = values[last][:n], values[last + 1][:n], errors[last + 1][:n]
        torch.baddbmm(biases[last][:n], weights[last][:n], below.transpose(1, 2), out=scores)
        torch.log_softmax(scores, 1, out=error)
        counts = share[:n]
        losses[k, :n] = (error.gather(1, labels) * counts).sum([1, 2]).neg()
        error.exp_()
        error.scatter_add_(1, labels, minus[:n])
        error.mul_(counts)
        for down in range(last + 1):
            layer = last - down
            below, z, bias = values[layer][:n], weights[layer][:n], biases[layer][:n]
            up = error if down == 0 else error.transpose(1, 2)
            if layer > 0:
                torch.bmm(up.transpose(1, 2), z, out=errors[layer][:n])
            if decay > 0.0:
                z.mul_(1.0 - rate * decay)
                bias.mul_(1.0 - rate * decay)
            z.baddbmm_(up, below, beta=1.0, alpha=-rate)
            bias.sub_(up.sum(2).unsqueeze(2), alpha=rate)
            if layer > 0:
                error = errors[layer][:n]
                if relu[layer - 1]:
                    torch.ops.aten.threshold_backward(error, below, 0, grad_input=error)
                else:
                    torch.ops.aten.tanh_backward(error, below, grad_input=error)
            if len(drifts) > 0:
                z.sub_(drifts[2 * layer][:n], alpha=rate)
                bias.sub_(drifts[2 * layer + 1][:n], alpha=rate)


def _without_lock(function: Callable[..., None]) -> Callable[..., None]:
    """The function compiled to TorchScript, or itself where this torch cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and nothing that replaces it frees the lock
        try:
            compiled: Callable[..., None] = torch.jit.script(function)
        except (AttributeError, NotImplementedError, OSError, RuntimeError):
            return function
    return compiled


class DenseStack:
    """Perceptrons with cross entropy and plain SGD; implements `Stack`.

    Args:
        kind: of perceptron.
        train: x (n, ...) floating, y (n,) classes.
        test: the same.
        chunk: rows at once.
        learning_rate, weight_decay: of plain SGD.
    """

    def __init__(
        self,
        kind: Perceptron,
        train: Arrays,
        test: Arrays,
        *,
        chunk: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        self.chunk = chunk
        self._kind = kind
        self._rate = learning_rate
        self._decay = weight_decay
        self._widths = [*map(aligned, kind.widths[:-1]), kind.widths[-1]]
        self._is_padded = self._widths != list(kind.widths)
        self._shapes = _shapes(kind.widths)
        self._weights, self._biases, self._drifts = self._new(), [torch.empty(0)], self._new()
        self._weights, self._biases = self._weights[::2], self._weights[1::2]
        self._train = self._padded(train)
        self._test = self._padded(test)
        self._buffers: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self._loop = _without_lock(_train)

    def rows(self, batch: int) -> int:
        """A multiple of 16: learners with few samples share a chunk with those that have more."""
        return aligned(batch)

    def train(self, jobs: Jobs) -> NDArray[np.float32]:
        """Take the steps: (K, n) losses."""
        with torch.inference_mode():
            return self._trained(jobs)

    def _trained(self, jobs: Jobs) -> NDArray[np.float32]:
        n, rows = jobs.index.shape[1:]
        held = [p for pair in zip(self._weights, self._biases, strict=True) for p in pair]
        start = torch.from_numpy(jobs.weights)
        self._load(held, start)
        drifts: list[Tensor] = []
        if jobs.drift is not None:
            drifts = self._drifts
            self._load(drifts, torch.from_numpy(jobs.drift))
        shift = [self._features(values) for values in jobs.shift or ()]
        values, errors = self._places(rows)
        share = torch.from_numpy(jobs.share()).view(n, 1, rows)
        losses = torch.zeros(jobs.index.shape[:2])
        self._loop(
            self._weights,
            self._biases,
            drifts,
            shift,
            list(self._kind.relu),
            *self._train,
            torch.from_numpy(jobs.index),
            share,
            torch.full((n, 1, rows), -1.0),
            jobs.running(),
            self._rate,
            self._decay,
            values,
            errors,
            losses,
        )
        for mine, part in zip(self._own(held, n), self._parts(start), strict=True):
            torch.sub(mine, part, out=part)
        return losses.numpy()

    def evaluate(
        self, weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy and loss of (n, d) weights, each (n,)."""
        n, (x, y) = len(weights), self._test
        held = [p for pair in zip(self._weights, self._biases, strict=True) for p in pair]
        loss, right = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        with torch.inference_mode():
            self._load(held, torch.from_numpy(weights))
            for at in pieces(len(y), EVALUATION_ROWS):
                labels = y[at].expand(n, 1, -1)
                counts = min(at.stop, len(y)) - at.start
                scores = self._scores(x[at.start : at.start + aligned(counts)], n)[..., :counts]
                right += (scores.argmax(1, keepdim=True) == labels).sum([1, 2])
                lost = torch.log_softmax(scores.contiguous(), 1).gather(1, labels)
                loss -= lost.sum([1, 2], dtype=torch.float64)
        return (right / len(y)).numpy(), (loss / len(y)).numpy()

    def _scores(self, x: Tensor, n: int) -> Tensor:
        """(n, classes, rows) of the loaded weights."""
        values = x.expand(n, *x.shape)
        for z, bias, relu in zip(self._weights, self._biases, self._kind.relu, strict=False):
            values = torch.baddbmm(bias[:n].transpose(1, 2), values, z[:n].transpose(1, 2))
            values = torch.relu_(values) if relu else torch.tanh_(values)
        return torch.baddbmm(self._biases[-1][:n], self._weights[-1][:n], values.transpose(1, 2))

    def _new(self) -> list[Tensor]:
        """Zero weights and biases of a chunk, layer by layer, each with memory of its own."""
        shapes = _shapes(tuple(self._widths))
        return [torch.zeros(self.chunk, *_matrix(shape)) for shape in shapes]

    def _places(self, rows: int) -> tuple[list[Tensor], list[Tensor]]:
        """Where the layers' values and errors stand: (chunk, rows, width), scores turned."""
        if rows not in self._buffers:
            shapes = [(self.chunk, rows, width) for width in self._widths]
            shapes[-1] = (self.chunk, self._widths[-1], rows)
            self._buffers[rows] = (
                [torch.empty(shape) for shape in shapes],
                [torch.empty(shape) for shape in shapes],
            )
        return self._buffers[rows]

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Views into (n, d), one per parameter: (n, rows, columns)."""
        parts, start = [], 0
        for shape in map(_matrix, self._shapes):
            size = shape[0] * shape[1]
            parts.append(flat[:, start : start + size].view(len(flat), *shape))
            start += size
        return parts

    def _own(self, held: list[Tensor], n: int) -> list[Tensor]:
        """The parameters without padding: (n, rows, columns)."""
        shapes = map(_matrix, self._shapes)
        return [p[:n, :rows, :columns] for p, (rows, columns) in zip(held, shapes, strict=True)]

    def _load(self, held: list[Tensor], flat: Tensor) -> None:
        if self._is_padded:
            for parameter in held:
                parameter.zero_()  # a row that was not finite has spoilt its padding
        for mine, part in zip(self._own(held, len(flat)), self._parts(flat), strict=True):
            mine.copy_(part)

    def _features(self, values: NDArray[np.float32]) -> Tensor:
        """(n, features) as (n, 1, inputs)."""
        padded = torch.zeros(len(values), 1, self._widths[0])
        padded[:, 0, : values.shape[1]] = torch.from_numpy(values)
        return padded

    def _padded(self, data: Arrays) -> tuple[Tensor, Tensor]:
        """x (n padded, inputs padded) and y (n,)."""
        x, y = map(torch.from_numpy, data)
        x = x.reshape(len(x), -1)
        missing = self._widths[0] - x.shape[1], aligned(len(x)) - len(x)
        if any(missing):
            x = nn.functional.pad(x, (0, missing[0], 0, missing[1]))
        return x, y


def _shapes(widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Of the parameters, in the order of the flat vector."""
    pairs = pairwise(widths)
    return [shape for below, above in pairs for shape in ((above, below), (above,))]


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """A bias as a column."""
    return (shape[0], shape[1]) if len(shape) == 2 else (shape[0], 1)
