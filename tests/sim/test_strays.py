"""What would make a run depend on more than its seed fails loudly, and cannot be hushed up."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from p2pfl.sim.loop import Escape, VirtualLoop
from p2pfl.sim.strays import forbidden, outside

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


def watched(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine in a world that watches it."""
    loop = VirtualLoop()

    async def whole() -> Any:
        return await main()

    with asyncio.Runner(loop_factory=lambda: loop) as runner, forbidden(loop):
        return runner.run(whole())


def in_a_task(reach: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
    """A node-like task that reaches out, and a world that goes on."""

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_calls(reach))
        await asyncio.sleep(1.0)

    return main


async def _calls(reach: Callable[[], Any]) -> None:
    await asyncio.sleep(1.0)
    found = reach()
    if hasattr(found, "__await__"):
        await found


def swallowed(reach: Callable[[], Any]) -> Callable[[], Any]:
    async def hushed() -> None:
        try:
            found = reach()
            if hasattr(found, "__await__"):
                await found
        except Exception:
            pass

    return hushed


def _thread() -> None:
    threading.Thread(target=print).start()


def _pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int)


def _process() -> None:
    subprocess.Popen([sys.executable, "-c", ""])


def _executor() -> Awaitable[Any]:
    return asyncio.get_running_loop().run_in_executor(None, int)


REACHES = {
    "thread": _thread,
    "pool": _pool,
    "socket": socket.socket,
    "process": _process,
    "executor": _executor,
    "to_thread": lambda: asyncio.to_thread(int),
    "connection": lambda: asyncio.open_connection("127.0.0.1", 1),
    **{clock: lambda clock=clock: getattr(time, clock)() for clock in CLOCKS},
}


@pytest.mark.parametrize("name", REACHES)
def test_whoever_reaches_for_the_real_world_ends_it(name: str) -> None:
    with pytest.raises((Escape, ExceptionGroup)) as escaped:
        watched(in_a_task(REACHES[name]))
    error: BaseException = escaped.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Escape)


@pytest.mark.parametrize("name", REACHES)
def test_an_escape_that_is_swallowed_ends_the_world_all_the_same(name: str) -> None:
    with pytest.raises(Escape):
        watched(in_a_task(swallowed(REACHES[name])))


def test_a_stray_is_told_by_file_and_line() -> None:
    def reach() -> float:
        return time.monotonic()

    line = reach.__code__.co_firstlineno + 1
    with pytest.raises(Escape, match=rf"time.monotonic\(\) is read in .*test_strays.py:{line};"):
        watched(in_a_task(swallowed(reach)))


def test_the_worlds_own_instruments_may_look_outside() -> None:
    async def main() -> float:
        await asyncio.sleep(3600.0)
        with outside():
            began = time.monotonic()
            threading.Thread(target=int).start()
            return time.monotonic() - began

    assert 0 <= watched(main) < 60


def test_who_looked_outside_is_watched_again_afterwards() -> None:
    def reach() -> float:
        with outside():
            time.monotonic()
        return time.monotonic()

    with pytest.raises(Escape):
        watched(in_a_task(swallowed(reach)))


def test_a_log_line_may_have_a_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        logging.getLogger("p2pfl.node").warning("said in a simulation")

    watched(main)
    assert caplog.records[0].message == "said in a simulation"
    assert caplog.records[0].created > 1e9


def test_collecting_garbage_is_no_escape() -> None:
    async def main() -> int:
        return gc.collect()

    watched(main)


def test_everything_is_as_before_afterwards_also_after_an_escape() -> None:
    before = [getattr(time, name) for name in CLOCKS]
    with pytest.raises(Escape):
        watched(in_a_task(swallowed(lambda: time.monotonic())))
    assert [getattr(time, name) for name in CLOCKS] == before
    assert time.monotonic() > 0
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    socket.socket().close()
    subprocess.run([sys.executable, "-c", ""], check=True)
