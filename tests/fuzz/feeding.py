"""One input for one reader: what came of it, within bounds of time and memory.

Rule of the file: a reader may give a value or raise one of the errors it documents; anything else,
more than `SECONDS` of processor time or more than `BYTES` of memory is a finding.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LONGEST = 65_535
"""Bytes of an input; the bounds below are for inputs up to this length."""

SECONDS = 1.0
BYTES = 256 * 2**20

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of bytes that others wrote.

    Attributes:
        feed: gives it the bytes; the path is an empty directory that is the target's own.
        seeds: inputs that it takes, or nearly.
        documented: the errors it may raise; none for what never raises.
        is_tree: its bytes are msgpack or JSON, and worth changing value by value.
    """

    feed: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]
    documented: tuple[type[Exception], ...] = ()
    is_tree: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong.

    Attributes:
        where: the same for inputs that find the same mistake.
        told: for people.
    """

    where: str
    told: str


def fed(target: Target, data: bytes, scratch: Path, *, seconds: float = SECONDS) -> Finding | None:
    """Give an input to a reader; None if all is well."""
    began = time.thread_time()
    try:
        with _bounded_memory():
            target.feed(data, scratch)
    except target.documented as error:
        if not str(error).strip():
            return Finding(f"{type(error).__name__}, empty", "an error without a word")
    except Exception as error:  # whatever it is, it is what was sought
        return Finding(_place(error), "".join(traceback.format_exception(error, limit=-6)))
    took = time.thread_time() - began
    if took > seconds:
        return Finding("slow", f"{took:.1f} s of processor time for {len(data)} bytes")
    return None


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory, in memory where there is such a place: readers sync what they write."""
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="p2pfl-fuzz-", dir=where) as folder:
        yield Path(folder)


def emptied(folder: Path) -> Path:
    """The same directory without its files."""
    for path in folder.iterdir():
        path.unlink()
    return folder


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """No more address space than now, and `BYTES`; where the system cannot tell, no bound."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _place(error: Exception) -> str:
    """Where it was raised: the last line of ours on the way."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/p2pfl/" in frame.filename]
    last = (ours or list(frames))[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} ({last.name})"
