"""The task of straggler.py: digits, on a device of a given speed with classes of its own.

Environment: STRAGGLER_NODE 0..5 says whose data, STRAGGLER_STEP_S how long a step takes at least.
Nodes 0 to 4 share classes 0 to 7; node 5 alone holds 8 and 9.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np

from p2pfl.learning.datasets import digits
from p2pfl.learning.numpy_learner import MLP

NODE = int(os.environ["STRAGGLER_NODE"])
STEP_S = float(os.environ["STRAGGLER_STEP_S"])
UNSEEN = (8, 9)


@dataclass(frozen=True)
class Device:
    """A perceptron whose every gradient takes at least STEP_S."""

    inner: MLP
    wait: Any = field(default=Event().wait)

    @property
    def layout(self) -> Any:
        return self.inner.layout

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        return self.inner.initial(rng)

    def outputs(self, weights: Any, x: np.ndarray) -> np.ndarray:
        return self.inner.outputs(weights, x)

    def gradient(self, weights: Any, x: np.ndarray, y: np.ndarray, out: Any) -> float:
        self.wait(STEP_S)
        return self.inner.gradient(weights, x, y, out)


def model() -> Device:
    return Device(MLP(64, 32, 10))


def train_data() -> tuple[np.ndarray, np.ndarray]:
    x, y = digits().train
    mine = (
        np.isin(y, UNSEEN) if NODE == 5 else ~np.isin(y, UNSEEN) & (np.arange(len(y)) % 5 == NODE)
    )
    return x[mine], y[mine]


def test_data() -> tuple[np.ndarray, np.ndarray]:
    return digits().test


def metrics(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    unseen = np.isin(targets, UNSEEN)
    return {"unseen_recall": float((outputs.argmax(axis=1) == targets)[unseen].mean())}
