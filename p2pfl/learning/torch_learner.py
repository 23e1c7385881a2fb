"""The learner for any `torch.nn.Module` and any `torch.optim` optimizer.

Rule of the file: what crosses its border is numpy, weights in and a delta out; the weights lie in
one flat buffer (`torch_flat.py`), and a step makes one new vector of the model's size besides what
autograd needs, the delta. Training is on the CPU. Torch is imported by the files `torch_*.py` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pfl.core.weights import Layout, Vector, is_finite, pieces
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.batches import Batches
from p2pfl.learning.checks import Arrays, Metrics, checked_metrics
from p2pfl.learning.torch_fit import Loss, check_fit, right_share, told, usual_loss
from p2pfl.learning.torch_flat import (
    Buffers,
    FlatModule,
    drawn,
    seeded,
    views,
    warn_of_batch_norm,
)
from p2pfl.ports import Evaluation, Update

MakeOptimizer: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

EVALUATION_ROWS = 512
"""Test samples looked at together; bounds the memory of an evaluation."""
LARGE = 1 << 20
"""Values from which plain SGD is torch's own, parameter by parameter. A flat gradient makes small
models a third faster, but autograd fills it by adding, which needs each gradient twice."""
TRIAL_ROWS = 8
"""Samples on which `try_out` tries whether model, loss and data fit each other."""


class TorchLearner:
    """Minibatch training of a module; implements the port `p2pfl.ports.Learner`.

    Without `optimizer` a local step is plain SGD, z -= eta * (grad(z) + weight_decay * z + drift).
    With one it is the optimizer's step, then z -= eta * drift, where eta is the `lr` of its first
    parameter group before the step. Frozen parameters stay as they are.

    Args:
        model: makes the module; torch draws from `run_seed` meanwhile.
        train: (x, y), n >= 1 samples along the first dimension.
        test: the same, for `evaluate`.
        run_seed: of the initial weights; equal at all nodes of a run.
        seed: of the batch order and of what the model draws while it trains (dropout).
        loss: (outputs, targets) -> scalar; `usual_loss` if None.
        optimizer: makes the optimizer of the list of parameters; plain SGD if None.
        metrics: (outputs, targets) in numpy -> more figures for `evaluate`.
        batch_size: samples per step.
        learning_rate, weight_decay: of plain SGD; an optimizer brings its own.
        buffers: whether floating buffers travel with the weights; integer ones never do.
        threads: torch's threads, for the whole process; None leaves them alone.
        module: what `drawn(model, run_seed)` gave, if that was done already.

    Raises:
        TaskError: the module cannot be laid flat, or `optimizer` gives something else.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        train: Arrays,
        test: Arrays,
        *,
        run_seed: int,
        seed: int,
        loss: Loss | None = None,
        optimizer: MakeOptimizer | None = None,
        metrics: Metrics | None = None,
        batch_size: int = 16,
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        buffers: Buffers = "local",
        threads: int | None = None,
        module: nn.Module | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model
        self._run_seed = run_seed
        self._buffers: Buffers = buffers
        self._flat = FlatModule(drawn(model, run_seed) if module is None else module, buffers)
        self._is_initial = True
        warn_of_batch_norm(self._flat.module, buffers)
        self._loss = loss or usual_loss
        self._metrics = metrics
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        if optimizer is None and self._flat.layout.size >= LARGE:
            optimizer = partial(torch.optim.SGD, lr=learning_rate, weight_decay=weight_decay)
        self._make_optimizer = optimizer
        self._optimizer = self._new_optimizer()
        self._train = _tensors(train)
        self._test = _tensors(test)
        self._rng = np.random.default_rng(seed)
        self._batches = Batches(len(self._train[1]), batch_size, self._rng)

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters, then of the buffers that are averaged."""
        return self._flat.layout

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32, new."""
        if self._is_initial:
            return self._flat.weights.copy()
        return FlatModule(drawn(self._model, self._run_seed), self._buffers).weights

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """Take local steps from `weights` and return the delta; the argument is not changed.

        Args:
            weights: (d,) float32.
            steps: K >= 1.
            drift: (d,) float32 or None; every step subtracts learning_rate x drift as well, from
                trained parameters only: averaged buffers are measured, not descended.

        Raises:
            LearnerError: loss or weights became non-finite, or the optimizer left the flat buffer;
                optimizer and local buffers are afterwards as if they were new.
        """
        self._load(weights)
        kept = [buffer.clone() for buffer in self._flat.local]
        rate = self._rate()
        try:
            with seeded(int(self._rng.integers(1 << 63))):
                if self._optimizer is None:
                    delta, loss = self._descend(steps, drift)
                else:
                    delta, loss = self._optimize(self._optimizer, steps, drift)
            np.subtract(self._flat.weights, weights, out=delta)
            if not is_finite(delta):
                raise LearnerError(f"weights are not finite after {steps} local steps")
        except LearnerError:
            self._optimizer = self._new_optimizer()
            for buffer, values in zip(self._flat.local, kept, strict=True):
                buffer.copy_(values)
            raise
        finally:
            self._flat.module.zero_grad(set_to_none=True)
        return Update(delta, steps, loss, rate)

    def evaluate(self, weights: Vector) -> Evaluation:
        """Measure `weights`, (d,) float32, on the test data; a bad model has a non-finite loss.

        `accuracy` is the share of classes found, of all the labels of a sample where it has many
        (pixels, tokens); None for floating targets, unless `metrics` gives one.

        Raises:
            TaskError: `metrics` does not return a dict of numbers.
        """
        self._load(weights)
        module, (x, y) = self._flat.module, self._test
        loss, right, kept = 0.0, 0.0, []
        module.eval()
        try:
            with torch.inference_mode():
                for at in pieces(len(y), EVALUATION_ROWS):
                    outputs, targets = module(x[at]), y[at]
                    loss += self._loss(outputs, targets).item() * len(targets)
                    right += right_share(outputs, targets) * len(targets)
                    if self._metrics is not None:
                        kept.append(outputs.numpy())
        finally:
            module.train()
        figures: dict[str, float] = {}
        if self._metrics is not None:
            figures = checked_metrics(self._metrics, np.concatenate(kept), y.numpy())
        accuracy = figures.pop("accuracy", None if math.isnan(right) else right / len(y))
        return Evaluation(loss / len(y), accuracy, len(y), figures)

    def try_out(self) -> None:
        """Run model and loss on a few samples, so that what does not fit is found at once.

        Raises:
            TaskError: outputs, targets and loss do not fit each other; what the user's code raises
                passes as it is.
        """
        self._flat.module.eval()
        try:
            for where, (x, y) in (("train_data()", self._train), ("test_data()", self._test)):
                check_fit(where, self._flat.module(x[:TRIAL_ROWS]), y, self._loss)
        finally:
            self._flat.module.train()

    def _load(self, weights: Vector) -> None:
        self._is_initial = False
        np.copyto(self._flat.weights, weights)

    def _descend(self, steps: int, drift: Vector | None) -> tuple[Vector, float]:
        """Plain SGD on the flat buffer; gives the gradient's memory back, to hold the delta."""
        flat, total = self._flat, 0.0
        gradient = torch.zeros_like(flat.tensor)
        for parameter, view in zip(flat.parameters, views(gradient, flat.parameters), strict=True):
            parameter.grad = view if parameter.requires_grad else None
        for done in range(steps):
            if done:
                gradient.zero_()
            total += self._backward(self._batches.next(), f"local step {done + 1} of {steps}")
            if self._weight_decay:
                for at in flat.trained:
                    gradient[at].add_(flat.tensor[at], alpha=self._weight_decay)
            flat.tensor.sub_(gradient, alpha=self._learning_rate)
            self._subtract(self._learning_rate, drift)
        return gradient.numpy(), total / steps

    def _optimize(
        self, optimizer: torch.optim.Optimizer, steps: int, drift: Vector | None
    ) -> tuple[Vector, float]:
        """The user's optimizer; gradients are autograd's own, gone before the delta is made."""
        total = 0.0
        for done in range(steps):
            losses: list[float] = []
            where = f"local step {done + 1} of {steps}"
            rate = self._rate()
            # as a closure, for optimizers that evaluate a batch several times (LBFGS)
            optimizer.step(partial(self._afresh, optimizer, self._batches.next(), where, losses))
            self._subtract(rate, drift)
            total += losses[0]
        if name := self._flat.lost():
            raise LearnerError(
                f"{type(optimizer).__name__} gave '{name}' new memory; "
                "an optimizer must change parameters in place"
            )
        self._flat.module.zero_grad(set_to_none=True)
        return np.empty_like(self._flat.weights), total / steps

    def _afresh(
        self,
        optimizer: torch.optim.Optimizer,
        batch: NDArray[np.int64],
        where: str,
        losses: list[float],
    ) -> float:
        optimizer.zero_grad(set_to_none=True)
        losses.append(self._backward(batch, where))
        return losses[-1]

    def _backward(self, batch: NDArray[np.int64], where: str) -> float:
        """The loss of a batch, (b,) indices; its gradient is added to the parameters' `grad`."""
        x, y = self._train
        at = torch.from_numpy(batch)
        loss = self._loss(self._flat.module(x.index_select(0, at)), y.index_select(0, at))
        value = loss.item()
        if not math.isfinite(value):
            raise LearnerError(f"loss is {value} in {where}")
        torch.autograd.backward(loss)
        return value

    def _subtract(self, rate: float, drift: Vector | None) -> None:
        """z -= rate * drift, piece by piece so that no vector of the model's size is made."""
        if drift is None:
            return
        weights, factor = self._flat.weights, np.float32(rate)
        for run in self._flat.trained:
            z, m = weights[run], drift[run]
            for at in pieces(z.size):
                z[at] -= factor * m[at]

    def _rate(self) -> float:
        if self._optimizer is None:
            return self._learning_rate
        return float(self._optimizer.param_groups[0]["lr"])

    def _new_optimizer(self) -> torch.optim.Optimizer | None:
        if self._make_optimizer is None:
            return None
        optimizer = self._make_optimizer(list(self._flat.parameters))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TaskError(f"optimizer() gives {told(optimizer)}, expected a torch.optim one")
        if "lr" not in optimizer.param_groups[0]:
            raise TaskError(f"{type(optimizer).__name__} has no 'lr' in its parameter group")
        return optimizer


def _tensors(data: Arrays) -> tuple[Tensor, Tensor]:
    """As tensors; copies what is read-only, because torch knows no read-only memory."""
    x, y = (torch.from_numpy(np.require(array, requirements=["C", "W"])) for array in data)
    return x, y
