"""Model-sized memory, used again: fresh pages cost several times what copying into them costs.

Rule of the file: a buffer comes back by itself when nothing refers to it or to a view of it any
more, so nobody has to say when, and nobody can say it too early. Small buffers are plain arrays.
"""

from __future__ import annotations

import weakref

import numpy as np

from p2pfl.core.compression import Bytes

_SMALLEST_BYTES = 1 << 20


class Buffers:
    """Keeps up to `spare` unused buffers of the size asked for last.

    Args:
        spare: unused buffers kept; the price of speed is so many models of idle memory.
    """

    def __init__(self, spare: int = 2) -> None:
        self._spare = spare
        self._free: list[memoryview] = []

    def take(self, nbytes: int) -> Bytes:
        """A buffer of (nbytes,) uint8 with anything in it."""
        if nbytes < _SMALLEST_BYTES:
            return np.empty(nbytes, np.uint8)
        fitting = [block for block in self._free if block.nbytes == nbytes]
        block = fitting[0] if fitting else np.empty(nbytes, np.uint8).data
        self._free = fitting[1:]
        # numpy keeps this array alive under every view of it, because its own base is no array
        array = np.frombuffer(block, np.uint8)
        weakref.finalize(array, self._give_back, block).atexit = False
        return array

    def _give_back(self, block: memoryview) -> None:
        if len(self._free) < self._spare:
            self._free.append(block)
