"""A learner of a slower device: a local step lasts at least so long.

    step        K steps last as long as they take, and K x `step_s` at least
    evaluate    as fast as this device can

Rule of the file: only time changes, never a number; the wait is in the worker thread, where the
training of a slower device would be too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfl.core.weights import Layout, Vector
from p2pfl.ports import Clock, Evaluation, Learner, Update


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


@dataclass(frozen=True, slots=True)
class Paced:
    """The `Learner` within, on a slower device.

    Attributes:
        inner: does the work.
        step_s: how long a local step lasts at least, > 0.
        clock: monotonic seconds.
        wait: blocks the thread for some seconds.
    """

    inner: Learner
    step_s: float
    clock: Clock = field(default=time.monotonic)
    wait: Callable[[float], None] = field(default=_wait)

    @property
    def layout(self) -> Layout:
        """Of the learner within."""
        return self.inner.layout

    def initial(self) -> Vector:
        """As the learner within."""
        return self.inner.initial()

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """As the learner within, and not before `steps` x `step_s` have passed.

        Raises:
            LearnerError: training went non-finite; what was taken of the time stays taken.
        """
        began = self.clock()
        update = self.inner.step(weights, steps, drift)
        left = update.steps * self.step_s - (self.clock() - began)
        if left > 0:
            self.wait(left)
        return update

    def evaluate(self, weights: Vector) -> Evaluation:
        """As the learner within."""
        return self.inner.evaluate(weights)
