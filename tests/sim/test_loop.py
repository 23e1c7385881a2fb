"""The event loop in virtual time: exact, in order, deterministic, and never stuck in silence."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from p2pfl.sim.loop import HOST, NS, Deadlock, Escape, Host, VirtualLoop, run


def here() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_time_is_whole_nanoseconds_and_a_day_costs_nothing() -> None:
    async def main() -> list[int]:
        seen = [here().now_ns]
        for seconds in (0.1, 0.2, 86_400.0, 1e-9):
            await asyncio.sleep(seconds)
            seen.append(here().now_ns)
        return seen

    day = 86_400 * NS
    assert run(main()) == [0, NS // 10, 3 * NS // 10, 3 * NS // 10 + day, 3 * NS // 10 + day + 1]


def test_a_thousand_tenths_are_a_hundred_seconds_exactly() -> None:
    async def main() -> int:
        for _ in range(1000):
            await asyncio.sleep(0.1)
        return here().now_ns

    assert run(main()) == 100 * NS


def test_a_timer_that_was_waited_for_is_due_afterwards() -> None:
    async def main() -> None:
        for seconds in (1 / 3, 1e-10, 0.7, 1.1):
            until = here().time() + seconds
            await asyncio.sleep(seconds)
            assert here().time() >= until - 1e-12

    run(main())


def test_what_is_due_at_the_same_time_runs_in_the_order_it_was_scheduled() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        loop = here()
        loop.call_at(1.0, told.append, "first")
        loop.call_later(1.0, told.append, "second")
        loop.call_at_ns(NS, told.append, "third")
        loop.call_later(0.5, told.append, "earlier")
        loop.call_soon(told.append, "now")
        await asyncio.sleep(1.0)
        return told

    assert run(main()) == ["now", "earlier", "first", "second", "third"]


def test_a_cancelled_timer_is_not_called_and_does_not_move_time() -> None:
    async def main() -> float:
        handle = here().call_later(100.0, pytest.fail, "was cancelled")
        assert handle.when() == 100.0
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        await asyncio.sleep(1.0)
        return here().time()

    assert run(main()) == 1.0


def test_cancelled_timers_are_swept_out() -> None:
    async def main() -> None:
        loop = here()
        for _ in range(100):
            for timer in [loop.call_later(1000.0, pytest.fail) for _ in range(1000)]:
                timer.cancel()
        assert len(loop._timers) < 5000
        kept = loop.call_later(0.5, lambda: None)
        await asyncio.sleep(1.0)
        assert not kept.cancelled()

    run(main())


def test_timeouts_work_as_in_any_other_loop() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.sleep(1e9)
        async with asyncio.timeout(2.5):
            await asyncio.sleep(1.0)
        return here().time()

    assert run(main()) == 3.5


# --- stuck --------------------------------------------------------------------------------------


async def _waits_for_ever(event: asyncio.Event) -> None:
    await event.wait()


def test_a_world_in_which_everybody_waits_names_who_where_and_since_when() -> None:
    host = Host("n7")

    async def main() -> None:
        await asyncio.sleep(2.0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                _waits_for_ever(asyncio.Event()), name="exchanges", context=host.context
            )
            here().pause(Host("n9"))

    line = _waits_for_ever.__code__.co_firstlineno + 1
    with pytest.raises(Deadlock, match=r"nothing is scheduled at 2\.000 s") as stuck:
        run(main())
    assert "n7 'exchanges' waits in Event.wait" in str(stuck.value) or (
        f"n7 'exchanges' waits in _waits_for_ever (line {line})" in str(stuck.value)
    )
    assert "n9 is paused" in str(stuck.value)


def test_of_very_many_waiters_some_are_named_and_the_rest_counted() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(40):
                tasks.create_task(_waits_for_ever(asyncio.Event()))

    with pytest.raises(Deadlock, match="and 29 more"):
        run(main())


def test_an_error_nobody_handles_ends_the_world_instead_of_being_logged() -> None:
    async def main() -> None:
        here().call_later(1.0, lambda: 1 // 0)
        await asyncio.sleep(1e6)

    with pytest.raises(ZeroDivisionError):
        run(main())


# --- hosts --------------------------------------------------------------------------------------


def on(host: Host, function: Callable[..., Any], *args: Any) -> None:
    here().call_soon(function, *args, context=host.context)


def test_what_a_host_begins_belongs_to_it() -> None:
    async def told(names: list[str]) -> None:
        await asyncio.sleep(1.0)
        host = HOST.get()
        names.append("the world" if host is None else host.name)

    async def main() -> list[str]:
        names: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(told(names), context=Host("n1").context)
            tasks.create_task(told(names), context=Host("n2").context)
            tasks.create_task(told(names))
        return names

    assert run(main()) == ["n1", "n2", "the world"]


def test_nothing_of_a_paused_host_runs_and_then_all_of_it_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        told: list[tuple[str, float]] = []
        loop, host = here(), Host("n1")

        def say(text: str) -> None:
            told.append((text, loop.time()))

        for at in (3.0, 1.0, 2.0):
            loop.call_at(at, say, f"timer of {at:.0f} s", context=host.context)
        loop.call_at(2.5, say, "somebody else")
        loop.pause(host)
        on(host, say, "what was due")
        await asyncio.sleep(2.75)
        loop.resume(host)
        loop.resume(host)
        await asyncio.sleep(10.0)
        return told

    assert run(main()) == [
        ("somebody else", 2.5),
        ("what was due", 2.75),
        ("timer of 1 s", 2.75),
        ("timer of 2 s", 2.75),
        ("timer of 3 s", 3.0),
    ]


def test_what_is_cancelled_while_its_host_is_paused_does_not_run() -> None:
    async def main() -> None:
        loop, host = here(), Host("n1")
        loop.pause(host)
        timer = loop.call_later(1.0, pytest.fail, context=host.context)
        await asyncio.sleep(2.0)
        timer.cancel()
        loop.resume(host)
        await asyncio.sleep(1.0)

    run(main())


def test_a_task_group_cancels_its_tasks_in_the_order_in_which_they_were_made() -> None:
    async def waits(number: int, told: list[int]) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            told.append(number)

    async def main() -> list[int]:
        told: list[int] = []

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(50):
                    tasks.create_task(waits(number, told))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await group()
        return told

    assert run(main()) == list(range(50))


# --- no way out ---------------------------------------------------------------------------------


async def _executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def _to_thread() -> None:
    await asyncio.to_thread(print)


async def _connection() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def _server() -> None:
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


async def _datagram() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol)


@pytest.mark.parametrize("way", [_executor, _to_thread, _connection, _server, _datagram])
def test_what_would_leave_virtual_time_is_refused(way: Callable[[], Any]) -> None:
    with pytest.raises(Escape, match="inside a simulation use"):
        run(way())


def test_another_thread_cannot_call_in_and_the_world_ends_though_it_swallows_the_error() -> None:
    def intrude(loop: VirtualLoop) -> None:
        with contextlib.suppress(Escape):
            loop.call_soon_threadsafe(print)

    async def main() -> None:
        thread = threading.Thread(target=intrude, args=(here(),))
        thread.start()
        thread.join()
        await asyncio.sleep(1.0)

    with pytest.raises(Escape, match="another thread"):
        run(main())
