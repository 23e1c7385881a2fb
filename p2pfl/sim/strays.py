"""Whatever would make a run depend on more than its seed fails loudly while a world runs.

    a thread is started        whoever starts it
    a socket is made           whoever makes it, or a process (audit events of the interpreter)
    a clock of the real world  read by anybody but those who show or measure the run from outside

Rule of the file: what a node must not do is noticed where it happens, raised there, and raised
again by the loop, so that nobody can swallow it. `outside` is for the world's own instruments.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from p2pfl.sim.loop import Escape, VirtualLoop

_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
_EVENTS = {
    "_thread.start_new_thread": "a thread is started",
    "_thread.start_joinable_thread": "a thread is started",
    "socket.__new__": "a socket is made",
    "subprocess.Popen": "a process is started",
}
_MAY_READ_CLOCKS = (
    "logging",
    "torch",
    "numpy",
    "rich",
    "threading",
    "concurrent",
    "queue",
    "gc",
    "ray",
)
"""Packages that read a clock for what changes nothing: a log line's time, a lock's patience."""

_here = threading.local()
"""`loop` of the world that this thread runs; other threads may do what they like."""
_hooked = False


@contextmanager
def forbidden(loop: VirtualLoop) -> Iterator[None]:
    """While it is open, threads, sockets, processes and real clocks raise `Escape`."""
    global _hooked
    if not _hooked:
        # cannot be taken back; it does nothing while nobody watches
        sys.addaudithook(_audit)
        _hooked = True
    clocks = {name: getattr(time, name) for name in _CLOCKS}
    start = threading.Thread.start
    with _watched(loop):
        # there is no audit event of threads before Python 3.12
        threading.Thread.start = _guarded_start(start)  # type: ignore[method-assign]
        for name, clock in clocks.items():
            setattr(time, name, _guarded(name, clock))
        try:
            yield
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]
            for name, clock in clocks.items():
                setattr(time, name, clock)


@contextmanager
def outside() -> Iterator[None]:
    """The world's own instruments may look at a clock in here: progress, pictures, files."""
    with _watched(None):
        yield


@contextmanager
def _watched(loop: VirtualLoop | None) -> Iterator[None]:
    before, _here.loop = _watching(), loop
    try:
        yield
    finally:
        _here.loop = before


def _watching() -> VirtualLoop | None:
    return getattr(_here, "loop", None)


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if event in _EVENTS and _watching() is not None:
        _escape(_EVENTS[event], sys._getframe(1))


def _guarded(name: str, clock: Callable[[], Any]) -> Callable[[], Any]:
    def guarded() -> Any:
        if _watching() is not None:
            frame = sys._getframe(1)
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if package not in _MAY_READ_CLOCKS:
                _escape(f"time.{name}() is read", frame)
        return clock()

    return guarded


def _guarded_start(start: Callable[[threading.Thread], None]) -> Callable[..., None]:
    def guarded(thread: threading.Thread) -> None:
        if _watching() is not None:
            _escape("a thread is started", sys._getframe(1))
        start(thread)

    return guarded


def _escape(what: str, frame: Any) -> NoReturn:
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    error = Escape(f"{what} in {place}; a simulated node has only what it is given")
    loop = _watching()
    if loop is not None:
        loop.failure = error
    raise error
