"""Bandwidth that is shared: exact times, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from p2pfl.sim.links import Links
from p2pfl.sim.loop import NS, Host, VirtualLoop, run

Lines = tuple[tuple[str, float | None], ...]


def arrivals(*transfers: tuple[float, int, Lines]) -> list[float]:
    """When each of (begins at, bytes, lines) has passed, in seconds."""

    async def main() -> list[float]:
        loop, links = asyncio.get_running_loop(), Links()
        found = [float("nan")] * len(transfers)

        def ended(number: int) -> Callable[[], None]:
            def note() -> None:
                found[number] = loop.time()

            return note

        for number, (at, nbytes, lines) in enumerate(transfers):
            loop.call_at(at, links.begin, nbytes, lines, ended(number))
        await asyncio.sleep(1e6)
        assert not any(line.users for line in links._lines.values())
        return found

    return run(main())


UP: Lines = (("up a", 1000.0), ("down b", None))


def test_a_lone_transfer_takes_its_size_over_the_rate() -> None:
    assert arrivals((0.0, 1000, UP)) == [1.0]
    assert arrivals((2.5, 250, UP)) == [2.75]


def test_two_on_one_uplink_take_twice_as_long() -> None:
    assert arrivals((0.0, 1000, UP), (0.0, 1000, UP)) == [2.0, 2.0]


@pytest.mark.parametrize("count", [3, 10])
def test_n_on_one_line_take_n_times_as_long(count: int) -> None:
    found = arrivals(*[(0.0, 1000, UP)] * count)
    assert found == pytest.approx([float(count)] * count, abs=1e-8)


def test_who_comes_later_shares_from_then_on_only() -> None:
    # a alone to 0.5 s: 500 left; then halves: a ends at 1.5, b has 500 left then and is alone
    assert arrivals((0.0, 1000, UP), (0.5, 1000, UP)) == [1.5, 2.0]


def test_what_ends_makes_room_at_once() -> None:
    assert arrivals((0.0, 200, UP), (0.0, 1000, UP)) == [0.4, 1.2]


def test_the_slower_of_both_ends_decides() -> None:
    slow_down: Lines = (("up a", 1000.0), ("down b", 100.0))
    slow_up: Lines = (("up a", 100.0), ("down b", 1000.0))
    assert arrivals((0.0, 100, slow_down)) == [1.0]
    assert arrivals((0.0, 100, slow_up)) == [1.0]


def test_transfers_with_different_bottlenecks_share_only_what_they_share() -> None:
    # both leave by a (1000/s, 500 each); the first is held up at b (100/s), the second is not
    found = arrivals(
        (0.0, 100, (("up a", 1000.0), ("down b", 100.0))),
        (0.0, 500, (("up a", 1000.0), ("down c", None))),
    )
    assert found == [1.0, 1.0]


def test_different_lines_do_not_disturb_each_other() -> None:
    found = arrivals(
        (0.0, 1000, (("up a", 1000.0), ("down b", None))),
        (0.0, 1000, (("up c", 1000.0), ("down d", None))),
    )
    assert found == [1.0, 1.0]


def test_what_begins_when_another_ends_starts_with_the_whole_line() -> None:
    async def main() -> float:
        loop, links = asyncio.get_running_loop(), Links()
        done = asyncio.Event()
        links.begin(1000, UP, lambda: links.begin(1000, UP, done.set))
        await done.wait()
        return loop.time()

    assert run(main()) == 2.0


def test_times_are_whole_nanoseconds_whatever_the_rate() -> None:
    async def main() -> int:
        loop, links = asyncio.get_running_loop(), Links()
        assert isinstance(loop, VirtualLoop)
        done = asyncio.Event()
        links.begin(1, (("up a", 3.0),), done.set)
        await done.wait()
        return loop.now_ns

    assert run(main()) == round(NS / 3)


def test_a_transfer_does_not_wait_for_another_host_that_is_frozen() -> None:
    """What is planned when one begins or ends concerns others, and belongs to nobody."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        links, a, ended = Links(), Host("a"), []

        def begin(name: str) -> None:
            links.begin(1000, (("up", 100.0),), lambda: ended.append((name, loop.time())))

        begin("b")
        loop.call_later(1, begin, "a", context=a.context)
        loop.call_later(2, loop.pause, a)
        await asyncio.sleep(100)
        loop.resume(a)
        assert [name for name, _ in ended] == ["b", "a"]
        assert ended[0][1] == pytest.approx(19, abs=0.01)

    run(main())
