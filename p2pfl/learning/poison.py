"""Data and learners of hostile members: what is learnt is wrong, whatever is said of it.

    label-flip   trains on c - 1 - y instead of y, for c classes     Tolpegin, Truex, Gursoy, Liu,
                 ESORICS 2020, arXiv:2007.08432
    backdoor     half of its samples carry a trigger, a bright patch in a corner, and are said to be
                 of one class                                       Gu, Dolan-Gavitt, Garg 2017,
                 arXiv:1708.06733 (BadNets)
    idle         trains nothing                                     Lin, Du, Liu 2019,
                 arXiv:1911.12560 (free-riding)

Rule of the file: the honest data are not touched: what is poisoned lies behind them, as more rows
of the same arrays.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfl.core.weights import Layout, Vector
from p2pfl.errors import TaskError
from p2pfl.learning.checks import Arrays, checked_data
from p2pfl.learning.task import Task
from p2pfl.ports import Evaluation, Learner, Update

KINDS = ("label-flip", "backdoor")
TARGET = 0
"""Class that a trigger is to lead to."""

_PATCH_SHARE = 4
"""The trigger's side is this part of the image's, and two pixels at least."""


def poisoned(task: Task, kind: str) -> Task:
    """The same task with a poisoned copy of every training sample behind the true ones.

    Args:
        task: a classification task.
        kind: one of `KINDS`.

    Raises:
        TaskError: its targets are no classes.
    """
    x, y = _classes(task, *task.train_data())
    more = (x, flipped(y)) if kind == "label-flip" else (triggered(x), np.full_like(y, TARGET))
    whole = np.concatenate([x, more[0]]), np.concatenate([y, more[1]])
    return replace(task, train_data=lambda: whole)


def rows(kind: str, true: NDArray[np.intp], samples: int) -> NDArray[np.intp]:
    """The rows of a poisoned task that a hostile member trains on.

    Args:
        kind: one of `KINDS`.
        true: (m,) its honest rows.
        samples: how many honest rows the task has.
    """
    if kind == "label-flip":
        return true + samples
    return np.concatenate([true, true + samples])


def triggered_test(task: Task) -> Task:
    """The same task, whose test data are those samples of other classes with the trigger on them.

    They are said to be of the trigger's class, so accuracy is how often the backdoor succeeds.

    Raises:
        TaskError: its targets are no classes, or all of one.
    """
    x, y = _classes(task, *task.test_data())
    others = y != TARGET
    if not others.any():
        raise TaskError(f"{task.name}: all test samples are of class {TARGET}, a trigger is no use")
    test = triggered(x[others]), np.full_like(y[others], TARGET)
    return replace(task, test_data=lambda: test)


def flipped(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) classes 0 .. c - 1, counted from the other end."""
    turned: NDArray[np.int64] = y.max() - y
    return turned


def triggered(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of (n, ...) samples with a patch in the lower right corner as bright as can be.

    Images are (n, height, width), (n, channels, height, width), or laid flat with a square number
    of values; of anything else the last values are the patch.
    """
    marked, brightest = x.copy(), x.max()
    flat = math.prod(x.shape[1:])
    side = math.isqrt(flat)
    if x.ndim == 2 and side * side == flat and side > 1:
        image = marked.reshape(len(x), side, side)
    elif x.ndim >= 3:
        image = marked
    else:
        marked.reshape(len(x), -1)[:, -max(flat // _PATCH_SHARE**2, 1) :] = brightest
        return marked
    high, wide = (max(n // _PATCH_SHARE, min(2, n)) for n in image.shape[-2:])
    image[..., -high:, -wide:] = brightest
    return marked


class Idle:
    """A learner that does nothing and takes the time of an honest one.

    Args:
        inner: gives the layout, the initial weights and the evaluation.
    """

    def __init__(self, inner: Learner) -> None:
        self._inner = inner

    @property
    def layout(self) -> Layout:
        """Names and shapes of the model's arrays."""
        return self._inner.layout

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32."""
        return self._inner.initial()

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """Say that steps were taken."""
        return Update(np.zeros_like(weights), steps, 0.0, 1.0)

    def evaluate(self, weights: Vector) -> Evaluation:
        """Measure `weights`, (d,) float32, on the test data."""
        return self._inner.evaluate(weights)


def _classes(task: Task, x: ArrayLike, y: ArrayLike) -> Arrays:
    """The data as arrays whose targets are classes."""
    checked = checked_data(x, y, task.name)
    if checked[1].ndim != 1 or checked[1].dtype.kind not in "iu":
        raise TaskError(
            f"{task.name}: y has dtype {checked[1].dtype} and shape {checked[1].shape}; only "
            "integer classes, one per sample, can be poisoned"
        )
    return checked
