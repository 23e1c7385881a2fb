"""Bytes and exchanges a second, over the last seconds.

Rule of the file: counters only grow; a rate is what they grew by, over the time it took.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 10.0
"""A rate is of so long, or of longer if nobody looked meanwhile."""

_APART_S = 0.5


@dataclass(frozen=True, slots=True)
class _Reading:
    """Counters at one time."""

    at: float
    bytes_in: int = 0
    bytes_out: int = 0
    exchanges: int = 0


class Rates:
    """What the counters of one node grew by; all of them were 0 at `started`, in seconds."""

    def __init__(self, started: float) -> None:
        self._readings = deque([_Reading(started)])

    def read(self, now: float, bytes_in: int, bytes_out: int, exchanges: int) -> None:
        """The counters are so many now; asked again at once, nothing changes."""
        if now - self._readings[-1].at >= _APART_S:
            self._readings.append(_Reading(now, bytes_in, bytes_out, exchanges))
        while len(self._readings) > 2 and now - self._readings[1].at >= WINDOW_S:
            self._readings.popleft()

    def per_s(self) -> dict[str, float]:
        """As in the view."""
        first, last = self._readings[0], self._readings[-1]
        seconds = max(last.at - first.at, _APART_S)
        return {
            "bytes_in_per_s": (last.bytes_in - first.bytes_in) / seconds,
            "bytes_out_per_s": (last.bytes_out - first.bytes_out) / seconds,
            "exchanges_per_s": (last.exchanges - first.exchanges) / seconds,
        }
