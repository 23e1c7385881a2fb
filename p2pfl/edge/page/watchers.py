"""Somebody who watches: what waits for it, bounded.

Rule of the file: telling never waits, and a watcher that is slow loses the oldest events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

_WAITING = 256
"""Events that wait for one watcher."""


@dataclass(slots=True, eq=False)
class Watcher:
    """Somebody who watches.

    Attributes:
        events: server-sent events that wait for it; the oldest are lost if it is slow.
        has_news: set when there is one, or when it is to end.
        is_over: the node stops, or somebody else takes this place.
    """

    events: deque[bytes] = field(default_factory=lambda: deque(maxlen=_WAITING))
    has_news: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    def tell(self, event: bytes) -> None:
        """Leave an event for it."""
        self.events.append(event)
        self.has_news.set()

    def end(self) -> None:
        """It is to end once it has read what waits."""
        self.is_over = True
        self.has_news.set()

    def take(self) -> bytes:
        """What waits, all of it."""
        self.has_news.clear()
        taken = b"".join(self.events)
        self.events.clear()
        return taken


def sent(kind: str, data: bytes) -> bytes:
    """A server-sent event; `data` is one line."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
