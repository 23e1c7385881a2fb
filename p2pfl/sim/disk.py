"""A simulated disk: what survives a crash, and how it can fail.

As on a real one (`edge/checkpoint.py`) a checkpoint is complete or not there, and the previous one
is kept; a power cut in the middle leaves a newest that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from errno import ENOSPC

from p2pfl.ports import Saved


@dataclass(slots=True)
class Disk:
    """One host's disk.

    Attributes:
        incarnation: starts so far; written at each start, before anything else.
        node: the node's id, made at the first start.
        newest, previous: checkpoints; a torn newest is None though something was written.
        is_full: nothing can be written.
        is_torn: the next checkpoint breaks off, and the power with it (`cut`).
        torn: checkpoints that broke off.
    """

    incarnation: int = 0
    node: str = ""
    newest: Saved | None = None
    previous: Saved | None = None
    is_full: bool = False
    is_torn: bool = False
    torn: int = 0
    cut: Callable[[], None] = field(default=lambda: None)

    def save(self, saved: Saved) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the disk is full; what was there is intact.
        """
        if self.is_full:
            raise OSError(ENOSPC, "No space left on device")
        if self.newest is not None:
            self.previous = self.newest
        if self.is_torn:
            self.newest, self.is_torn, self.torn = None, False, self.torn + 1
            self.cut()
            return
        self.newest = _copied(saved)

    def load(self) -> Saved | None:
        """The newest checkpoint that can be read, in memory of its own."""
        saved = self.newest or self.previous
        return None if saved is None else _copied(saved)

    def wipe(self) -> None:
        """Everything is gone, the identity too."""
        self.incarnation, self.node = 0, ""
        self.newest = self.previous = None


def _copied(saved: Saved) -> Saved:
    """Also a momentum that changes in place later must stay what it was."""
    return replace(
        saved,
        weights=saved.weights.copy(),
        momentum=None if saved.momentum is None else saved.momentum.copy(),
        previous=None if saved.previous is None else saved.previous.copy(),
    )
