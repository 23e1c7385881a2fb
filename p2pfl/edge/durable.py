"""Files that are replaced, never edited.

Rule of the file: the new bytes are on the disk before they get the name, so a crash at any instant
leaves the old file or the new one, and nothing between.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def unwatched(_: str) -> None:
    """Nobody looks at the steps of a durable write."""


@contextmanager
def replacement(
    path: Path,
    *,
    keep: Path | None = None,
    temporary: Path | None = None,
    step: Callable[[str], None] = unwatched,
    private: bool = False,
) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well, and never else.

    Args:
        path: the name to take.
        keep: where the present `path` goes just before, if there is one. Between the two renames
            only `keep` exists; hard links would close that gap, but phones and memory cards
            often have none.
        temporary: where the bytes gather; must be in the same directory.
        step: called after every operation with its name; tests let the process die there.
        private: readable by its owner alone from its first byte on.

    Raises:
        OSError: it could not be written; `path` is as it was, or its bytes are under `keep`.
    """
    temporary = temporary or path.with_name(path.name + ".tmp")
    if private:
        # one that a crash left behind keeps its own mode
        temporary.unlink(missing_ok=True)
    mode = 0o600 if private else 0o666
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            step("opened")
            yield file
            file.flush()
            os.fsync(file.fileno())
            step("synced")
        if keep is not None and path.exists():
            path.replace(keep)
            step("kept")
        temporary.replace(path)
        step("replaced")
        sync_directory(path.parent)
        step("directory synced")
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: they could not be.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot: there the renames are as durable as they get
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)
