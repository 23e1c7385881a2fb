"""A simulated device: how long work takes on it. The work is real, only its duration is modelled.

Rule of the file: what is computed depends on its inputs alone, so a job may be told to the learner
when it begins (`Foreseeing.begin`) and be computed together with others, at any real time before
its result is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from p2pfl.core.weights import Vector
from p2pfl.ports import Learner

T = TypeVar("T")

EVALUATION_STEPS = 2
"""An evaluation takes as long as so many local steps."""


@runtime_checkable
class Foreseeing(Protocol):
    """A learner that wants to know early what it will be asked for."""

    def begin(self, weights: Vector, steps: int, drift: Vector | None) -> None:
        """`step` will be called with these arguments, whose values it may take now."""
        ...

    def begin_evaluation(self, weights: Vector) -> None:
        """`evaluate` will be called with these weights."""
        ...


class Device:
    """The port `Run` of one life of a node.

    Args:
        learner: the node's; its jobs are recognised by it.
        step_s: median time of a local step.
        jitter: sigma of the lognormal spread from job to job.
        rng: chance.

    Attributes:
        is_off: the process was killed; what it still does takes no time and means nothing.
    """

    def __init__(
        self, learner: Learner, step_s: float, jitter: float, rng: np.random.Generator
    ) -> None:
        self.is_off = False
        self._learner = learner
        self._foreseeing = learner if isinstance(learner, Foreseeing) else None
        self._step_s = step_s
        self._jitter = jitter
        self._rng = rng

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        """Await the function's result until it would be there."""
        if self.is_off:
            return function(*args)
        foreseeing, steps = self._foreseeing, 0
        if args and args[0] is self._learner:
            _, weights, steps, drift = args
            if foreseeing is not None:
                foreseeing.begin(weights, steps, drift)
        elif getattr(function, "__self__", None) is self._learner:
            steps = EVALUATION_STEPS
            if foreseeing is not None:
                foreseeing.begin_evaluation(*args)
        seconds = steps * self._step_s
        if seconds and self._jitter:
            seconds *= float(np.exp(self._jitter * self._rng.standard_normal()))
        await asyncio.sleep(seconds)
        return function(*args)
