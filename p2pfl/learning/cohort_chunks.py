"""Collecting jobs into chunks: who begins puts a job in, who asks waits for its chunk.

Rule of the file: a chunk is closed when it is full, or when somebody asks for a job in it; both
follow from the order of calls alone. A job copies what it was given, so that nobody has to keep
still; what nobody asks for is dropped with its chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Layout, Vector, is_finite
from p2pfl.learning.checks import calling
from p2pfl.learning.cohort_jobs import Jobs, Stack
from p2pfl.learning.partition import Shift


class Submit(Protocol):
    """Starts a function; gives what waits for its result."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Callable[[], Any]:
        """The function's result or exception, as often as it is asked for."""
        ...


class Training:
    """Training jobs of one chunk.

    Args:
        memory: gives (capacity, d) float32, with anything in it.
        width: places for the samples of a batch.
        steps: of the first job; grows with those of others.
        features: per sample, where the jobs shift them.
    """

    def __init__(
        self,
        memory: Callable[[], NDArray[np.float32]],
        width: int,
        steps: int,
        features: int | None,
    ) -> None:
        self.count = 0
        self.wanted = 0
        self.is_done = False
        self.wait: Callable[[], None] | None = None
        self.losses: list[float] = []
        self.faults: list[str | None] = []
        self.deltas = memory()
        self.drift: NDArray[np.float32] | None = None
        capacity = len(self.deltas)
        self._memory = memory
        self._index = np.zeros((steps, capacity, width), np.intp)
        self._batch = np.empty(capacity, np.intp)
        self._steps = np.empty(capacity, np.intp)
        self._shift: Shift | None = None
        if features is not None:
            self._shift = (
                np.empty((capacity, features), np.float32),
                np.empty((capacity, features), np.float32),
            )

    def add(
        self, weights: Vector, drift: Vector | None, picked: NDArray[np.intp], shift: Shift | None
    ) -> int:
        """Put a job in, its samples (steps, batch), and give its row."""
        row = self.count
        steps, batch = picked.shape
        self.deltas[row] = weights
        if drift is not None and self.drift is None:
            self.drift = self._memory()
            self.drift[:row] = 0
        if self.drift is not None:
            self.drift[row] = 0 if drift is None else drift
        if steps > len(self._index):
            more = np.zeros((steps - len(self._index), *self._index.shape[1:]), np.intp)
            self._index = np.concatenate([self._index, more])
        self._index[:steps, row, :batch] = picked
        if batch < self._index.shape[2]:
            self._index[:steps, row, batch:] = picked[:, :1]
        self._batch[row], self._steps[row] = batch, steps
        if self._shift is not None and shift is not None:
            self._shift[0][row], self._shift[1][row] = shift
        self.count += 1
        self.wanted += 1
        return row

    def run(self, stack: Stack) -> None:
        """Train, and leave deltas, mean losses and what went wrong, row by row."""
        n, steps = self.count, self._steps[: self.count]
        longest = int(steps.max())
        order: Any = slice(n)
        if steps.min() < longest:
            order = np.argsort(-steps, kind="stable")
        shift = None
        if self._shift is not None:
            shift = self._shift[0][order], self._shift[1][order]
        jobs = Jobs(
            weights=self.deltas[order],
            drift=None if self.drift is None else self.drift[order],
            index=np.ascontiguousarray(self._index[:longest, order]),
            batch=self._batch[order],
            steps=steps[order],
            shift=shift,
        )
        found = stack.train(jobs)
        losses = np.empty_like(found)
        losses[:, order] = found
        if not np.may_share_memory(jobs.weights, self.deltas):
            self.deltas[order] = jobs.weights
        self._index, self._shift = self._index[:0], None
        self._judge(losses, steps)

    def _judge(self, losses: NDArray[np.float32], steps: NDArray[np.intp]) -> None:
        taken = np.arange(len(losses))[:, None] < steps
        losses = np.where(taken, losses, np.float32(0))
        self.losses = (losses.sum(axis=0, dtype=np.float64) / steps).tolist()
        self.faults = [None] * self.count
        with np.errstate(over="ignore", invalid="ignore"):
            sums = self.deltas[: self.count].sum(axis=1)
        for row in np.flatnonzero(~np.isfinite(sums)):
            if not is_finite(self.deltas[row]):
                self.faults[row] = f"weights are not finite after {steps[row]} local steps"
        for row in np.flatnonzero(~np.isfinite(losses).all(axis=0)):
            k = int(np.argmin(np.isfinite(losses[:, row])))
            self.faults[row] = f"loss is {losses[k, row]} in local step {k + 1} of {steps[row]}"


class Looking:
    """Evaluations of one chunk: `capacity` rows of `size` weights."""

    def __init__(self, capacity: int, size: int) -> None:
        self.count = 0
        self.is_done = False
        self.wait: Callable[[], None] | None = None
        self.accuracies: list[float] = []
        self.losses: list[float] = []
        self._weights = np.empty((capacity, size), np.float32)

    def add(self, weights: Vector) -> int:
        """Put a job in and give its row."""
        self._weights[self.count] = weights
        self.count += 1
        return self.count - 1

    def run(self, stack: Stack) -> None:
        """Measure, row by row."""
        accuracies, losses = stack.evaluate(self._weights[: self.count])
        self.accuracies, self.losses = accuracies.tolist(), losses.tolist()
        self._weights = self._weights[:0]


class Chunks:
    """The open chunks of a stack.

    Args:
        stack: what trains them.
        layout: of its models.
        submit: how.
        samples: of the test data.
        path: of the user's file, for errors.
    """

    def __init__(
        self, stack: Stack, layout: Layout, submit: Submit, samples: int, path: Path | None
    ) -> None:
        self.stack = stack
        self.layout = layout
        self.samples = samples
        self._submit = submit
        self._path = path
        self._training: dict[tuple[int, int | None], Training] = {}
        self._looking: Looking | None = None
        self._free: list[NDArray[np.float32]] = []

    def train(
        self,
        weights: Vector,
        drift: Vector | None,
        picked: NDArray[np.intp],
        shift: Shift | None,
    ) -> tuple[Training, int]:
        """Put a job into the open chunk of its kind; its chunk and row."""
        steps, batch = picked.shape
        kind = self.stack.rows(batch), None if shift is None else len(shift[0])
        chunk = self._training.get(kind)
        if chunk is None or chunk.wait is not None:
            chunk = Training(self._memory, kind[0], steps, kind[1])
            self._training[kind] = chunk
        row = chunk.add(weights, drift, picked, shift)
        if chunk.count == self.stack.chunk:
            self._close(chunk)
        return chunk, row

    def look(self, weights: Vector) -> tuple[Looking, int]:
        """Put an evaluation into the open chunk; its chunk and row."""
        chunk = self._looking
        if chunk is None or chunk.wait is not None:
            chunk = self._looking = Looking(self.stack.chunk, self.layout.size)
        row = chunk.add(weights)
        if chunk.count == self.stack.chunk:
            self._close(chunk)
        return chunk, row

    def drop(self, chunk: Training) -> None:
        """One job of the chunk is not wanted any more; with the last its memory is used again.

        Memory that a process never touched before can cost more than the training.
        """
        chunk.wanted -= 1
        if chunk.wanted == 0 and chunk.is_done:
            self._free.append(chunk.deltas)
            if chunk.drift is not None:
                self._free.append(chunk.drift)

    def finish(self, chunk: Training | Looking) -> None:
        """Wait for a chunk; close it first if it is open.

        Raises:
            TaskError: the user's code raised.
        """
        wait = chunk.wait or self._close(chunk)
        if self._path is None:
            wait()
        else:
            with calling("training" if isinstance(chunk, Training) else "evaluation", self._path):
                wait()
        chunk.is_done = True

    def _memory(self) -> NDArray[np.float32]:
        if self._free:
            return self._free.pop()
        return np.empty((self.stack.chunk, self.layout.size), np.float32)

    def _close(self, chunk: Training | Looking) -> Callable[[], None]:
        wait = chunk.wait = self._submit(chunk.run, self.stack)
        return wait
