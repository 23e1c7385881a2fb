"""The worker: what takes longer than a few milliseconds runs in a thread, not on the event loop.

Two threads, so that a checkpoint is written while a step is being trained; the node itself never
enters its learner twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """The `Run` port of a real node."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="p2pfl-worker")

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Await `function(*args)`, run in a thread; its exception is raised here."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def close(self) -> None:
        """Take nothing new; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
