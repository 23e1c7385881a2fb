"""The border to the user's code: what it may return, and how it is told what went wrong.

Rule of the file: whatever comes back from a user's function is checked here, once, before anything
is built on it; every complaint is a `TaskError` of one sentence with the value and the bound.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfl.core.weights import is_finite
from p2pfl.errors import P2pflError, TaskError

Arrays: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""(x, y): samples along the first dimension of both."""

Metrics: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], Mapping[str, float]]
"""(outputs (n, ...), targets (n, ...)) -> figures by name; `accuracy` replaces the usual one."""

_EXTRAS = {"torch": "torch", "sklearn": "demo", "mlxtend": "demo"}


@contextmanager
def calling(where: str, path: Path | None = None) -> Iterator[None]:
    """Run the user's code; what it raises becomes a `TaskError` that names the line.

    Args:
        where: what is called, as in `model()`.
        path: the user's file, whose line is named.

    Raises:
        TaskError: the code raised; our own errors pass as they are.
    """
    try:
        yield
    except P2pflError:
        raise
    except (Exception, SystemExit) as error:  # foreign code may raise anything; none is swallowed
        raise TaskError(f"{_place(error, where, path)}: {_reason(error)}") from error


def _place(error: BaseException, where: str, path: Path | None) -> str:
    if path is None:
        return where
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path.name}, line {lines[-1]}: {where}" if lines else f"{path.name}: {where}"


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    text = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        reason += f"; pip install 'p2pfl-node[{_EXTRAS[error.name]}]'"
    return reason


def checked_data(
    x: ArrayLike, y: ArrayLike, where: str, names: tuple[str, str] = ("x", "y")
) -> Arrays:
    """Samples and targets as arrays that a learner can use, or one sentence about what is wrong.

    Floating numbers become float32; integer targets become int64 classes; integer samples keep
    their type (token ids, bytes of images that the model scales itself).

    Args:
        x: (n, ...) finite numbers, n >= 1.
        y: (n, ...) classes 0, 1, ... or finite targets.
        where: what the data came from, for the error's text.
        names: what `x` and `y` are called there.

    Returns:
        (x, y); the same memory where nothing had to be converted.

    Raises:
        TaskError: naming which of the two, the value and the bound; rows count from 0.
    """
    checked = tuple(_numbers(a, where, n) for a, n in zip((x, y), names, strict=True))
    rows = tuple(len(a) for a in checked)
    if rows[0] != rows[1]:
        raise TaskError(
            f"{where}: {names[0]} has {rows[0]} rows but {names[1]} has {rows[1]}, "
            "expected equally many"
        )
    targets = checked[1]
    if np.issubdtype(targets.dtype, np.integer):
        targets = targets.astype(np.int64, copy=False)
        if targets.min() < 0:
            row = int(np.argmax((targets < 0).reshape(len(targets), -1).any(axis=1)))
            raise TaskError(
                f"{where}: {names[1]} has class {targets[row].min()} in row {row}, "
                "classes are 0, 1, 2, ..."
            )
    return checked[0], targets


def checked_metrics(
    metrics: Metrics, outputs: NDArray[Any], targets: NDArray[Any]
) -> dict[str, float]:
    """What the user's `metrics` says of these outputs, as plain numbers.

    Raises:
        TaskError: it did not return a mapping of names to numbers.
    """
    figures = metrics(outputs, targets)
    try:
        return {str(name): float(value) for name, value in figures.items()}
    except (AttributeError, TypeError, ValueError):
        raise TaskError(f"metrics() must return a dict of numbers, got {figures!r}") from None


def _numbers(values: ArrayLike, where: str, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TaskError(f"{where}: {name} is not an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TaskError(f"{where}: {name} has dtype {array.dtype}, expected numbers")
    if array.ndim == 0 or array.size == 0:
        raise TaskError(f"{where}: {name} has shape {array.shape}, expected at least one row")
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not is_finite(array.ravel()):
        bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        kind = "NaN" if np.isnan(array[bad]).any() else "infinity (in float32)"
        raise TaskError(
            f"{where}: {name} has {kind} in {len(bad)} of {len(array)} rows, first row {bad[0]}"
        )
    return array
