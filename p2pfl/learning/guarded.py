"""A learner around the user's own code: what that raises in the middle of a run names its line.

Rule of the file: our own errors pass as they are, so that training which went non-finite is
survived; a mistake in the user's code ends the node, in order and with one clear sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2pfl.core.weights import Layout, Vector
from p2pfl.learning.checks import calling
from p2pfl.ports import Evaluation, Learner, Update


@dataclass(frozen=True, slots=True)
class Guarded:
    """The `Learner` of a task file at `path`."""

    inner: Learner
    path: Path

    @property
    def layout(self) -> Layout:
        """Of the learner within."""
        return self.inner.layout

    def initial(self) -> Vector:
        """As the learner within.

        Raises:
            TaskError: the user's code raised.
        """
        with calling("model()", self.path):
            return self.inner.initial()

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """As the learner within.

        Raises:
            LearnerError: training went non-finite.
            TaskError: the user's code raised.
        """
        with calling("training", self.path):
            return self.inner.step(weights, steps, drift)

    def evaluate(self, weights: Vector) -> Evaluation:
        """As the learner within.

        Raises:
            TaskError: the user's code raised.
        """
        with calling("evaluation", self.path):
            return self.inner.evaluate(weights)
