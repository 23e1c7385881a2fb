"""Stacks of any torch modules that keep no state, trained with plain SGD by `torch.func`.

Rule of the file: a row's bits do not depend on its company as far as a fixed shape can ensure it:
a chunk is always full, free rows repeat the first job, and a row that has taken its steps is held.
Whether that is enough is up to the layers, so each stack is tried before it is used.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from p2pfl.core.weights import Layout, pieces
from p2pfl.learning.checks import Arrays
from p2pfl.learning.cohort_jobs import Jobs, aligned
from p2pfl.learning.cohort_torch import DenseStack, perceptron_of
from p2pfl.learning.torch_fit import Loss, right_share, usual_loss

EVALUATION_ROWS = 512
"""Test samples looked at together; bounds the memory of an evaluation."""


class ModuleStack:
    """Any module that draws nothing and keeps no buffers, with plain SGD; implements `Stack`.

    Args:
        module: copied.
        layout: of its parameters.
        train, test: (x, y).
        loss: `usual_loss` if None.
        chunk: rows at once.
        learning_rate, weight_decay: of plain SGD.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        train: Arrays,
        test: Arrays,
        *,
        loss: Loss | None,
        chunk: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        self.chunk = chunk
        self._module = copy.deepcopy(module).requires_grad_(False)
        self._layout = layout
        self._sizes = [entry.size for entry in layout.entries]
        self._loss = loss or usual_loss
        self._rate = learning_rate
        self._decay = weight_decay
        self._train = _tensors(train)
        self._test = _tensors(test)
        self._gradient = vmap(grad_and_value(self._lost))

    def rows(self, batch: int) -> int:
        """As many as there are: what a sample counts is the loss's own affair."""
        return batch

    def train(self, jobs: Jobs) -> NDArray[np.float32]:
        """Take the steps: (K, n) losses."""
        x, y = self._train
        n = len(jobs.weights)
        z = self._apart(jobs.weights)
        drift = None if jobs.drift is None else self._apart(jobs.drift)
        shift = [torch.from_numpy(self._filled(values)) for values in jobs.shift or ()]
        steps = torch.from_numpy(self._filled(jobs.steps))
        losses = torch.empty(len(jobs.index), self.chunk)
        self._module.train()
        for k, picked in enumerate(jobs.index):
            at = torch.from_numpy(self._filled(picked))
            inputs = x[at]
            if shift:
                moved = inputs.flatten(2) * shift[0][:, None] + shift[1][:, None]
                inputs = moved.view(inputs.shape)
            gradient, losses[k] = self._gradient(z, inputs, y[at])
            if self._decay:
                gradient = gradient + self._decay * z
            if drift is not None:
                gradient = gradient + drift
            z = torch.where((steps > k)[:, None], z - self._rate * gradient, z)
        np.subtract(z[:n, : self._layout.size].numpy(), jobs.weights, out=jobs.weights)
        return losses[:, :n].numpy()

    def evaluate(
        self, weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy and loss of (n, d) weights, each (n,); a model at a time."""
        found = [self._evaluated(row) for row in torch.from_numpy(weights)]
        return np.array([right for right, _ in found]), np.array([loss for _, loss in found])

    def _evaluated(self, flat: Tensor) -> tuple[float, float]:
        x, y = self._test
        right, loss = 0.0, 0.0
        self._module.eval()
        with torch.inference_mode():
            for at in pieces(len(y), EVALUATION_ROWS):
                outputs = functional_call(self._module, self._named(flat), (x[at],))
                loss += self._loss(outputs, y[at]).item() * len(outputs)
                right += right_share(outputs, y[at]) * len(outputs)
        return right / len(y), loss / len(y)

    def _lost(self, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self._loss(functional_call(self._module, self._named(flat), (x,)), y)

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat[: self._layout.size], self._sizes)
        entries = zip(self._layout.entries, parts, strict=True)
        return {entry.name: part.view(entry.shape) for entry, part in entries}

    def _apart(self, rows: NDArray[np.float32]) -> Tensor:
        """A full chunk, (chunk, d padded), so that all rows are aligned alike."""
        size = self._layout.size
        return nn.functional.pad(torch.from_numpy(self._filled(rows)), (0, aligned(size) - size))

    def _filled(self, rows: NDArray[Any]) -> NDArray[Any]:
        """A full chunk: free rows are the first one again."""
        free = self.chunk - len(rows)
        return np.concatenate([rows, np.repeat(rows[:1], free, axis=0)]) if free else rows


def stack_of(
    module: nn.Module,
    layout: Layout,
    train: Arrays,
    test: Arrays,
    *,
    loss: Loss | None,
    chunk: int,
    learning_rate: float,
    weight_decay: float,
) -> DenseStack | ModuleStack | None:
    """The fastest stack for a module that is trained with plain SGD, if there is one.

    To be called in the thread that will train, which is left with one thread of torch: the number
    of them is a property of each, and with more the rule does not hold.
    """
    torch.set_num_threads(1)
    if any(True for _ in module.buffers()) or not all(p.requires_grad for p in module.parameters()):
        return None
    kind = perceptron_of(module)
    usual = loss is None and train[0].dtype == np.float32 and train[1].dtype == np.int64
    if kind is not None and usual and train[1].ndim == 1:
        return DenseStack(
            kind,
            train,
            test,
            chunk=chunk,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
    return ModuleStack(
        module,
        layout,
        train,
        test,
        loss=loss,
        chunk=chunk,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )


def _tensors(data: Arrays) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data[0]), torch.from_numpy(data[1])
