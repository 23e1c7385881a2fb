"""A learner without data: f(x) = |x - target|^2 / 2, whose every step is known in closed form.

For experiments about the swarm itself: each node has an optimum of its own, the swarm's optimum is
their mean, and how far averaging gets can be written down. With a learning rate of 0 nothing is
learnt at all, and what remains is averaging alone.

Rule of the file: the gradient is z - target + noise * N(0, I); nothing else is random.
"""

from __future__ import annotations

import numpy as np

from p2pfl.core.weights import Entry, Layout, Vector, is_finite, read_only
from p2pfl.errors import LearnerError, TaskError
from p2pfl.ports import Evaluation, Update

UNIT_RATE = 1.0
"""Reported as the size of a step where there is none: momentum divides by it, and whatever it makes
of that is multiplied by the true rate, 0, before it moves anything."""


class Quadratic:
    """Gradient descent to one point; implements the port `p2pfl.ports.Learner`.

    A local step is z -= eta * (z - target + noise * N(0, I) + drift).

    Args:
        target: (d,) float32, this node's optimum, d >= 1.
        initial: (d,) float32, the run's common start.
        learning_rate: eta, >= 0; 0 for averaging alone.
        noise: deviation of the gradient, value by value, >= 0.
        seed: of the noise, >= 0.

    Raises:
        TaskError: shapes that differ, or a number out of bounds.
    """

    def __init__(
        self,
        target: Vector,
        initial: Vector,
        learning_rate: float,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        if target.ndim != 1 or target.size == 0 or target.shape != initial.shape:
            raise TaskError(
                f"target has shape {target.shape} and initial {initial.shape}, expected (d,) both"
            )
        for name, value in (("learning_rate", learning_rate), ("noise", noise)):
            if not 0 <= value < np.inf:
                raise TaskError(f"{name} is {value}, must be >= 0 and finite")
        self.target = read_only(target.astype(np.float32))
        self._initial = initial.astype(np.float32)
        self._layout = Layout((Entry("x", target.shape),))
        self._learning_rate = learning_rate
        self._noise = noise
        self._rng = np.random.default_rng(seed)

    @property
    def layout(self) -> Layout:
        """One array, `x` (d,)."""
        return self._layout

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32, new."""
        return self._initial.copy()

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """Take local steps from `weights` and return the delta; the argument is not changed.

        Args:
            weights: (d,) float32.
            steps: K >= 1.
            drift: (d,) float32 or None; every step subtracts learning_rate x drift as well.

        Raises:
            LearnerError: loss or weights became non-finite.
        """
        rate = np.float32(self._learning_rate)
        if not rate:
            return Update(np.zeros_like(weights), steps, self._loss(weights), UNIT_RATE)
        z, total = weights.copy(), 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for done in range(steps):
                gradient = z - self.target
                loss = _half_square(gradient)
                if not np.isfinite(loss):
                    raise LearnerError(f"loss is {loss} in local step {done + 1} of {steps}")
                total += loss
                if self._noise:
                    noise = self._rng.standard_normal(z.size, dtype=np.float32)
                    noise *= np.float32(self._noise)
                    gradient += noise
                if drift is not None:
                    gradient += drift
                gradient *= rate
                z -= gradient
            z -= weights
        if not is_finite(z):
            raise LearnerError(f"weights are not finite after {steps} local steps")
        return Update(z, steps, total / steps, self._learning_rate)

    def evaluate(self, weights: Vector) -> Evaluation:
        """The loss at `weights`, (d,) float32; there is nothing to be accurate about."""
        return Evaluation(self._loss(weights), None, 1)

    def _loss(self, weights: Vector) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return _half_square(weights - self.target)


def _half_square(values: Vector) -> float:
    """|v|^2 / 2, summed in float64."""
    wide = values.astype(np.float64)
    return float(wide @ wide) / 2
