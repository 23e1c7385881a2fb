"""A model's weights as one flat float32 vector, and the layout that gives the numbers names.

Rule of the file: everything above this module speaks of vectors of d float32; only here and in a
learner do names and shapes exist. Two nodes mix only if their layout digests are equal.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import ConfigError

Vector: TypeAlias = NDArray[np.float32]

PIECE = 1 << 17
"""Values handled between two looks at the event loop: half a MiB of float32, so that two of them
fit a small processor's cache; well under a millisecond of arithmetic, and a multiple of every
codec's block."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One named array of the model: its values are stored as float32, whatever `dtype` says."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes of a model's arrays, in the order in which they are laid flat."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]]) -> Layout:
        """The layout of named arrays, in their order."""
        return cls(tuple(Entry(name, a.shape, a.dtype.name) for name, a in arrays.items()))

    @cached_property
    def size(self) -> int:
        """d, the number of values of the flat vector."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that are equal exactly when names, shapes, dtypes and order are."""
        text = "\n".join(
            f"{e.name!r} {','.join(map(str, e.shape))} {e.dtype}" for e in self.entries
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def flatten(self, arrays: Mapping[str, NDArray[np.float32]]) -> Vector:
        """Copy named arrays into one new vector of shape (d,).

        Raises:
            ConfigError: a name is missing or has another shape.
        """
        vector = np.empty(self.size, np.float32)
        for name, view in self.views(vector).items():
            if name not in arrays:
                raise ConfigError(f"weights lack '{name}' of shape {view.shape}")
            if arrays[name].shape != view.shape:
                raise ConfigError(f"'{name}' has shape {arrays[name].shape}, expected {view.shape}")
            view[...] = arrays[name]
        return vector

    def views(self, vector: Vector) -> dict[str, NDArray[np.float32]]:
        """Named views into `vector`: (d,) float32; nothing is copied.

        Raises:
            ConfigError: the vector has another length.
        """
        if vector.size != self.size:
            raise ConfigError(f"vector has {vector.size} values, expected {self.size}")
        views, start = {}, 0
        for entry in self.entries:
            views[entry.name] = vector[start : start + entry.size].reshape(entry.shape)
            start += entry.size
        return views


def pieces(size: int, piece: int = PIECE) -> Iterator[slice]:
    """Slices that cover `range(size)` in order, `piece` values each but for the last."""
    for start in range(0, size, piece):
        yield slice(start, min(start + piece, size))


def is_finite(values: Vector) -> bool:
    """Whether every value is a number: (n,) float32.

    A dot product is several times faster than `isfinite` and finite only if all values are; it can
    overflow for huge but finite ones, so a bad answer is checked again, exactly.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        quick = np.isfinite(np.dot(values, values))
    return bool(quick) or bool(np.isfinite(values).all())


def read_only(vector: Vector) -> Vector:
    """A view of the vector that cannot be written through: what leaves the owner is this."""
    view = vector.view()
    view.flags.writeable = False
    return view
