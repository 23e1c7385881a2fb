"""What a line of the network is like, and what becomes of one message on it.

Rule of the file: data; who draws a fate is `doors.py`. Times are the event loop's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Line:
    """One node's connection; None is as for all, of rates no limit.

    Attributes:
        is_unplugged: nothing gets through in either direction.
    """

    latency_s: float | None = None
    loss_probability: float | None = None
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    is_unplugged: bool = False


@dataclass(slots=True)
class Rate:
    """A token bucket without a bucket: what was sent takes its time, and nothing is saved up."""

    bytes_per_s: float
    free_at: float = 0.0

    def sent_at(self, nbytes: int, now: float) -> float:
        """When so many bytes, which are ready now, will have been sent."""
        self.free_at = max(self.free_at, now) + nbytes / self.bytes_per_s
        return self.free_at


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one message."""

    due: float = 0.0
    is_lost: bool = False
    is_corrupt: bool = False
    is_twice: bool = False
    released: asyncio.Event | None = None
    """What it waits for before anything else."""


def worse(usual: float, *own: float | None) -> float:
    """The worse of both ends counts, where one differs from the usual."""
    return max((value for value in own if value is not None), default=usual)
