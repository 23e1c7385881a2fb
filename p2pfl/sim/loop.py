"""An asyncio event loop in virtual time: when everybody waits, time jumps to who waits least.

    host     a context; whatever is begun in it, and by that, belongs to it
    pause    nothing of a host runs; what was due is held, and runs when it is resumed

Rules of the file: time is integer nanoseconds and moves only here; what is due at the same time
runs in the order in which it was scheduled; a world in which everybody waits for nothing is an
error that names the waiters, not a hang. There is no selector, so a real socket cannot be used, and
no executor, so no thread can answer.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType
from typing import Any, NoReturn, TypeVar

from p2pfl.errors import P2pflError

T = TypeVar("T")

NS = 1_000_000_000
"""Nanoseconds of a second."""
_NAMED = 12
_SWEPT_FROM = 1000

HOST: ContextVar[Host | None] = ContextVar("host", default=None)
"""Whose code is running; None is the world's own."""


class Deadlock(RuntimeError):  # noqa: N818 (the name says it)
    """Everybody waits and nothing is scheduled: the world is stuck."""


class Escape(P2pflError):  # noqa: N818
    """Something inside the simulation reached for the real world."""


class Host:
    """One machine, as the loop sees it.

    Args:
        name: for people.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_paused = False
        self.held: list[_Handle] = []
        self.context = Context()
        self.context.run(HOST.set, self)


class _Handle:
    """What is to be called; as asyncio's own, without what it keeps for debugging."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "loop", "when_ns")

    def __init__(
        self,
        loop: VirtualLoop,
        when_ns: int,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.loop, self.when_ns, self.callback, self.args = loop, when_ns, callback, args
        self.context = copy_context() if context is None else context
        self.is_cancelled = False

    def cancel(self) -> None:
        """It will not be called."""
        if not self.is_cancelled:
            self.is_cancelled = True
            self.callback, self.args = _nothing, ()
            self.loop.cancelled += self.when_ns > self.loop.now_ns

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.is_cancelled

    def when(self) -> float:
        """When it is due, in virtual seconds."""
        return self.when_ns / NS


class _Task(asyncio.Task[Any]):
    """Hashed by its number: task groups keep sets, and cancel in their order."""

    def __init__(self, coro: Any, *, number: int, context: Context, **options: Any) -> None:
        # before asyncio enters the task in its own set of all
        self.number, self.context = number, context
        super().__init__(coro, context=context, **options)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """Virtual time starts at 0 and costs nothing.

    Attributes:
        now_ns: the present.
        cancelled: timers that are still kept, and will not be called.
        failure: what reached for the real world, or was handled by nobody; raised by the loop
            itself at the next moment, so that it cannot be swallowed.

    Raises:
        Deadlock: from `run_until_complete`, when nothing can ever happen any more.
        Escape: from what would leave virtual time: sockets, subprocesses, executors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self._due: deque[_Handle] = deque()
        self._timers: list[tuple[int, int, _Handle]] = []
        self._serial = 0
        self._tasks_made = 0
        self.failure: BaseException | None = None
        self._has_failed = False
        self.cancelled = 0
        self._paused: dict[Host, None] = {}

    # --- time -----------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_ns / NS

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Run it now, after what is due already."""
        handle = _Handle(self, self.now_ns, callback, args, context)
        self._due.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """As `call_soon`: Ctrl-C comes this way, but nothing comes from other threads.

        Raises:
            Escape: there, and in the loop.
        """
        if threading.get_ident() != self._thread_id:  # type: ignore[attr-defined]
            self._refuse(f"another thread calls {callback!r}; a simulation has only one")
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Run it `delay` seconds from now."""
        return self.call_at_ns(self.now_ns + _ns(delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Run it when it is `when` seconds."""
        return self.call_at_ns(_ns(when), callback, *args, context=context)

    def call_at_ns(
        self, when: int, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Run it when it is `when` nanoseconds; what is due at the same time runs in this order."""
        handle = _Handle(self, when, callback, args, context)
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, handle))
        if self.cancelled > _SWEPT_FROM and 2 * self.cancelled > len(self._timers):
            # most time-outs are cancelled; now and then they are swept out
            self._timers = [timer for timer in self._timers if not timer[2].is_cancelled]
            heapq.heapify(self._timers)
            self.cancelled = 0
        return handle

    def _run_once(self) -> None:
        due, timers = self._due, self._timers
        if not due:
            while timers and timers[0][2].is_cancelled:
                heapq.heappop(timers)
                self.cancelled -= 1
            if timers:
                self.now_ns = max(self.now_ns, timers[0][0])
            elif not self._stopping:  # type: ignore[attr-defined]
                raise Deadlock(self._waiters())
        if self.failure is not None and not self._has_failed:
            # once: what is cancelled because of it has to clean up in this loop
            self._has_failed = True
            raise self.failure
        while timers and timers[0][0] <= self.now_ns:
            due.append(heapq.heappop(timers)[2])
        for _ in range(len(due)):
            handle = due.popleft()
            if handle.is_cancelled:
                continue
            if self._paused:
                host = handle.context.get(HOST)
                if host is not None and host.is_paused:
                    host.held.append(handle)
                    continue
            try:
                handle.context.run(handle.callback, *handle.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # whatever it is, it ends the world
                self.failure = error

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody handles ends the world: in a real one it would only be logged."""
        self.failure = context.get("exception") or RuntimeError(context.get("message"))

    # --- hosts ----------------------------------------------------------------------------------

    def pause(self, host: Host) -> None:
        """From now on nothing of a host runs."""
        host.is_paused = True
        self._paused[host] = None

    def resume(self, host: Host) -> None:
        """What was held runs now, in its order."""
        if host.is_paused:
            host.is_paused = False
            del self._paused[host]
            self._due.extend(host.held)
            host.held.clear()

    def create_task(  # type: ignore[override]
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[Any]:
        """As in asyncio, and deterministic in what sets of tasks do."""
        self._tasks_made += 1
        context = copy_context() if context is None else context
        return _Task(coro, number=self._tasks_made, context=context, loop=self, name=name)

    def _waiters(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: getattr(task, "number", 0))
        told = [_waits(task) for task in tasks[:_NAMED]]
        if len(tasks) > _NAMED:
            told.append(f"and {len(tasks) - _NAMED} more")
        held = [f"{host.name} is paused" for host in self._paused]
        return f"nothing is scheduled at {self.time():.3f} s; " + "; ".join(told + held)

    # --- no way out -----------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        """Raised here, and again at the next moment."""
        self.failure = error = Escape(what)
        raise error

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> NoReturn:
        """Threads have their own time.

        Raises:
            Escape: always.
        """
        self._refuse(f"{func!r} wants a thread; inside a simulation use the injected `run`")

    async def create_connection(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Real sockets have their own time.

        Raises:
            Escape: always.
        """
        self._refuse("a real connection is asked for; inside a simulation use the transport")

    async def create_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        """As `create_connection`.

        Raises:
            Escape: always.
        """
        self._refuse("a real server is asked for; inside a simulation use the transport")

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
        """As `create_connection`.

        Raises:
            Escape: always.
        """
        self._refuse("a real socket is asked for; inside a simulation use the transport")

    def _process_events(self, _: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a virtual world of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def _nothing() -> None:
    """What a cancelled handle holds instead of what it would have called."""


def _ns(seconds: float) -> int:
    """Rounded up, so that a timer that is waited for is due afterwards."""
    return -int(-seconds * NS // 1)


def _waits(task: asyncio.Task[Any]) -> str:
    """Who waits, and where: the innermost line of its own."""
    host = task.context.get(HOST) if isinstance(task, _Task) else None
    where = ""
    step: Any = task.get_coro()
    while isinstance(step, CoroutineType) and step.cr_frame is not None:
        where = f" in {step.cr_code.co_qualname} (line {step.cr_frame.f_lineno})"
        step = step.cr_await
    return f"{host.name + ' ' if host else ''}'{task.get_name()}' waits{where}"
