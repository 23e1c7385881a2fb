"""A cohort: thousands of learners of one task in one process, trained many at a time.

A simulated node begins a job when its training starts, and asks for the result when its virtual
time is over. In between, the jobs of other nodes fill a chunk (`cohort_chunks.py`), and a chunk is
trained as one stack of models (`cohort_torch.py`, `cohort_torch_module.py`, `cohort_numpy.py`).
Models that cannot be stacked are trained by learners of their own, behind the same methods.

Rule of the file: which jobs share a chunk follows from the order of calls, never from the clock,
and a result has the same bits whatever shares its chunk. A task whose stack does not keep that
promise on this machine (`is_sound` tries it) is not stacked. A learner of a cohort sees the same
batches as one alone with its seed, and takes the same steps up to rounding.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Layout, Vector, pieces, read_only
from p2pfl.errors import TaskError
from p2pfl.learning.checks import Arrays, calling
from p2pfl.learning.cohort_chunks import Chunks
from p2pfl.learning.cohort_jobs import Stack, is_sound, usual_chunk
from p2pfl.learning.cohort_member import Member
from p2pfl.learning.cohort_numpy import NumpyStack
from p2pfl.learning.numpy_models import MLP, SoftmaxRegression
from p2pfl.learning.partition import Shift, check_shift, shifted
from p2pfl.learning.task import Prepared, Task, prepare
from p2pfl.ports import Learner

log = logging.getLogger(__name__)

T = TypeVar("T")

LARGE = 1 << 20
"""Values from which models are not stacked: their own arithmetic is as fast, and takes less."""


class CohortLearner(Learner, Protocol):
    """A `Learner` whose jobs may begin before their results are asked for."""

    def begin(self, weights: Vector, steps: int, drift: Vector | None) -> None:
        """Begin what `step` with the same arguments will give; they are copied.

        A job that is never asked for is forgotten with the next `begin`.
        """
        ...

    def begin_evaluation(self, weights: Vector) -> None:
        """Begin what `evaluate` with the same argument will give; it is copied."""
        ...


class Cohort:
    """The learners of a task, and the one copy of its data.

    Args:
        task: what to learn.
        run: name of the run; its hash seeds the initial weights.
        chunk: models trained at once; chosen by their size and `members` if None.
        members: how many there will be, if that is known.
        threads: of torch, for the whole process, where models are not stacked. Stacks use one:
            with two, results do depend on what is trained together.
        parallel: train in one other thread, started here; otherwise when a result is asked for.

    Attributes:
        layout: names and shapes of the model's arrays.
        train: (x, y), all training samples.
        targets: y, (n, ...), for whoever splits them.
        chunk: models trained at once, 1 if they are not stacked.

    Raises:
        TaskError: as `build_learner`.
    """

    def __init__(
        self,
        task: Task,
        *,
        run: str,
        chunk: int | None = None,
        members: int | None = None,
        threads: int = 1,
        parallel: bool = True,
    ) -> None:
        if chunk is not None and chunk < 1:
            raise TaskError(f"chunk is {chunk}, must be >= 1")
        parts = prepare(task, run)
        self._parts = Prepared(
            task, parts.start, parts.model, _writable(parts.train), _writable(parts.test)
        )
        self._threads = threads
        self._one = self._parts.learner(self._parts.train, 0, threads, parts.model)
        self.layout: Layout = self._one.layout
        self.train: Arrays = parts.train
        self.targets: NDArray[Any] = parts.train[1]
        self._initial = read_only(self._one.initial())
        self._executor = ThreadPoolExecutor(1, "cohort") if parallel else None
        self._sound: dict[int, bool] = {}
        self._chunks: Chunks | None = None
        usual = min(usual_chunk(self.layout.size), members or sys.maxsize)
        stack = self._submit(self._built, chunk or usual)()
        if stack is None:
            log.info("%s: each learner trains its own model, this one cannot be stacked", task.name)
        elif self._is_sound(stack, min(len(self.targets), task.batch_size)):
            self._threads = 1  # a member that is trained alone must not give the stack others
            samples = len(self._parts.test[1])
            self._chunks = Chunks(stack, self.layout, self._submit, samples, task.path)
        self.chunk = 1 if stack is None or self._chunks is None else stack.chunk

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32, new."""
        return self._initial.copy()

    def member(
        self, *, seed: int, rows: NDArray[np.intp] | None = None, shift: Shift | None = None
    ) -> CohortLearner:
        """One node's learner.

        Args:
            seed: of its batch order, >= 0.
            rows: (m,) its training samples, m >= 1; all if None.
            shift: (scale, offset), each (features,): it trains on x * scale + offset.

        Raises:
            TaskError: no rows, or data that cannot be shifted so.
        """
        if rows is not None and len(rows) == 0:
            raise TaskError("rows is empty, a learner needs at least one sample")
        if shift is not None:
            check_shift(self.train[0], shift)
        task, chunks = self._parts.task, self._chunks
        batch = min(len(self.targets) if rows is None else len(rows), task.batch_size)
        if chunks is not None and self._is_sound(chunks.stack, batch):
            return Member(
                chunks,
                self._initial,
                seed=seed,
                rows=rows,
                samples=len(self.targets),
                batch_size=task.batch_size,
                learning_rate=task.learning_rate,
                salted=not self._parts.is_numpy,
                shift=shift,
                judge=None if task.metrics is None else self._one,
            )
        x, y = self._parts.train
        if rows is not None:
            x, y = x[rows], y[rows]
        if shift is not None:
            x = shifted(x, shift)
        return _Alone(self._parts.learner((x, y), seed, self._threads))

    def evaluate(
        self, weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy (NaN where the task has none) and loss of (n, d) weights, each (n,).

        On the common test data; a bad model has a loss that is not finite.

        Raises:
            TaskError: the user's code raised.
        """
        chunks = self._chunks
        if chunks is None or self._parts.task.metrics is not None:
            found = [self._one.evaluate(row) for row in weights]
            accuracy = [np.nan if e.accuracy is None else e.accuracy for e in found]
            return np.array(accuracy, float), np.array([e.loss for e in found], float)
        accuracies, losses = np.empty(len(weights)), np.empty(len(weights))
        for at in pieces(len(weights), self.chunk):
            begun = [chunks.look(row) for row in weights[at]]
            for place, (chunk, row) in enumerate(begun, at.start):
                chunks.finish(chunk)
                accuracies[place], losses[place] = chunk.accuracies[row], chunk.losses[row]
        return accuracies, losses

    def close(self) -> None:
        """End the thread; jobs that it has not begun are dropped. Nothing else works any more."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def _submit(self, function: Callable[..., T], *args: Any) -> Callable[[], T]:
        """Start a function in the thread; gives what waits for its result.

        Without a thread that is what computes it, once, when it is first asked for.
        """
        if self._executor is not None:
            return self._executor.submit(function, *args).result
        return cache(partial(function, *args))

    def _built(self, chunk: int) -> Stack | None:
        return _stack_of(self._parts, self.layout, chunk)

    def _is_sound(self, stack: Stack, batch: int) -> bool:
        """Whether the stack keeps its promise for batches of this size; tried once each."""
        width = stack.rows(batch)
        if width not in self._sound:
            self._sound[width] = self._try_out(stack, batch)
        return self._sound[width]

    def _try_out(self, stack: Stack, batch: int) -> bool:
        parts, (x, y) = self._parts, self._parts.train
        alone = parts.learner((x[:batch], y[:batch]), 0, 1)
        reason = "results would depend on which models are trained together on this machine"
        try:
            with calling("training many models at once", parts.task.path):
                if self._submit(is_sound, stack, alone, batch, not parts.is_numpy)():
                    return True
        except TaskError as error:
            reason = str(error)
        log.warning(
            "%s: learners with batches of %d train their own models: %s",
            parts.task.name,
            batch,
            reason,
        )
        return False


class _Alone:
    """An ordinary learner: what is begun is computed when it is asked for."""

    def __init__(self, inner: Learner) -> None:
        self.layout = inner.layout
        self.initial = inner.initial
        self.step = inner.step
        self.evaluate = inner.evaluate

    def begin(self, weights: Vector, steps: int, drift: Vector | None) -> None:
        """Nothing: `step` gets the same arguments."""

    def begin_evaluation(self, weights: Vector) -> None:
        """Nothing: `evaluate` gets the same argument."""


def _stack_of(parts: Prepared, layout: Layout, chunk: int) -> Stack | None:
    """What could train many models of this task at once."""
    task, model = parts.task, parts.model
    if task.optimizer is not None or layout.size > LARGE:
        return None
    if not parts.is_numpy:
        from p2pfl.learning.cohort_torch_module import stack_of

        return stack_of(
            model,
            layout,
            parts.train,
            parts.test,
            loss=task.loss,
            chunk=chunk,
            learning_rate=task.learning_rate,
            weight_decay=task.weight_decay,
        )
    if type(model) not in (MLP, SoftmaxRegression):
        return None
    return NumpyStack(
        model,
        parts.train,
        parts.test,
        chunk=chunk,
        learning_rate=task.learning_rate,
        weight_decay=task.weight_decay,
    )


def _writable(data: Arrays) -> Arrays:
    """Copies of what is read-only, because torch knows no such memory."""
    x, y = (np.require(array, requirements=["C", "W"]) for array in data)
    return x, y
