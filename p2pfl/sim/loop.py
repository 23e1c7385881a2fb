"""An asyncio event loop in virtual time: when everybody waits, time jumps to who waits least.

Rule of the file: time is integer nanoseconds and moves only here; a world in which everybody waits
for nothing is an error, not a hang. There is no selector, so a real socket cannot be used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_NS = 1_000_000_000


class Deadlock(RuntimeError):  # noqa: N818 (the name says it)
    """Everybody waits and nothing is scheduled: the world is stuck."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Virtual time starts at 0 and costs nothing.

    Raises:
        Deadlock: from `run_until_complete`, when nothing can ever happen any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_ns = 0
        # asyncio's loop asks its selector how long it may sleep: here that is when time moves
        self._selector = self

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_ns / _NS

    def select(self, timeout: float | None) -> list[Any]:
        """Let time pass; nothing ever comes from outside."""
        if timeout is None:
            names = sorted(task.get_name() for task in asyncio.all_tasks(self))
            raise Deadlock(f"nothing is scheduled at {self.time():.3f} s; waiting: {names}")
        # rounded up, so that the timer that is waited for is due afterwards
        self._now_ns += max(-int(-timeout * _NS // 1), 0)
        return []

    def _process_events(self, _: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a virtual world of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
