"""Whether a host is there."""

from __future__ import annotations

from enum import IntEnum


class Presence(IntEnum):
    """A host's condition, as numbers that arrays over time and hosts can hold."""

    ABSENT = 0  # was never started
    UP = 1
    PAUSED = 2  # frozen or asleep, its memory kept
    DOWN = 3  # crashed or stopped
