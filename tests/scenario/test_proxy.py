"""The network between real nodes: real sockets, an echo behind every door, faults on the way."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from p2pfl.core import wire
from p2pfl.core.compression import encode
from p2pfl.core.messages import Exchange, Packet, Probe
from p2pfl.scenario.proxy import HOST, Doors, Line, free_ports
from p2pfl.sim.faults import Conditions, Way
from tests.scenario.made import PATIENCE_S, until

NAMES = ("n1", "n2", "n3")
VAIN_S = 0.5
"""How long a test waits for what must not come."""


def packet(address: str, values: int = 0) -> bytes:
    """What a node that serves at `address` says, with a model of so many values."""
    body: Any = Probe()
    if values:
        weights = np.random.default_rng(0).standard_normal(values).astype(np.float32)
        payload = encode("float32", weights, np.random.default_rng(0))
        body = Exchange(1, 10, 10, 10, 0.0, 0.0, 0.5, payload)
    return wire.encode(Packet("r", "0123456789abcdef", "ab" * 8, address, 1, body))


@dataclass
class Node:
    """Echoes what it is asked, and remembers it."""

    heard: list[bytes] = field(default_factory=list)
    runner: web.AppRunner | None = None

    async def serve(self, port: int) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/echo", self._echo)
        app.router.add_get("/v1/status", self._status)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, HOST, port).start()

    async def end(self) -> None:
        assert self.runner is not None
        await self.runner.cleanup()

    async def _echo(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.heard.append(body)
        return web.Response(body=io.BytesIO(body))

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"heard": len(self.heard)})


class World:
    """Three nodes behind their doors, and a session for each of them to ask with."""

    def __init__(self) -> None:
        self.doors = Doors(NAMES, np.random.default_rng(1))
        self.nodes = [Node() for _ in NAMES]
        self.sessions: list[aiohttp.ClientSession] = []

    async def ask(
        self, source: int, target: int, values: int = 0, patience_s: float = PATIENCE_S
    ) -> bytes:
        """What comes back when one node asks another.

        Raises:
            TimeoutError: nothing did.
        """
        body = packet(self.doors.address(source), values)
        url = f"http://{self.doors.address(target)}/v1/echo"
        async with asyncio.timeout(patience_s):
            async with self.sessions[source].post(url, data=io.BytesIO(body)) as response:
                answer = await response.read()
        assert len(answer) == len(body)
        return answer

    async def in_vain(self, source: int, target: int, values: int = 0) -> None:
        """Ask and wait in vain."""
        with pytest.raises(TimeoutError):
            await self.ask(source, target, values, VAIN_S)

    async def timed(self, source: int, target: int, values: int = 0) -> float:
        """Seconds until the answer."""
        began = time.monotonic()
        await self.ask(source, target, values)
        return time.monotonic() - began


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with opened(World()) as world:
        yield world


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[World]:
    async with AsyncExitStack() as closing:
        for place, node in enumerate(world.nodes):
            await node.serve(world.doors.behind(place))
            closing.push_async_callback(node.end)
        await closing.enter_async_context(world.doors.running())
        for place in range(len(NAMES)):
            world.sessions.append(await closing.enter_async_context(aiohttp.ClientSession()))
            world.doors.expect(place)
        for place in range(len(NAMES)):
            await until_open(world, place)
        yield world


async def until_open(world: World, place: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await is_open(world, place):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def is_open(world: World, place: int) -> bool:
    try:
        async with world.sessions[0].get(f"http://{world.doors.address(place)}/v1/status") as seen:
            return seen.status == 200
    except aiohttp.ClientError:
        return False


@pytest.mark.parametrize("values", [0, 100, 1_000_000])
async def test_what_is_said_and_answered_arrives_as_it_was(world: World, values: int) -> None:
    for _ in range(3):
        said = packet(world.doors.address(0), values)
        assert await world.ask(0, 1, values) == said
        assert world.nodes[1].heard.pop() == said


async def test_latency_counts_in_both_directions(world: World) -> None:
    assert await world.timed(0, 1) < 0.4
    world.doors.conditions = Conditions(latency_s=0.2)
    assert 0.4 <= await world.timed(0, 1) < 1.0


async def test_a_lost_request_is_never_heard_and_the_asker_waits_in_vain(world: World) -> None:
    way = world.doors.ways.open(Way(frozenset({"n1"}), frozenset({"n2"}), loss_probability=1.0))
    await world.in_vain(0, 1)
    assert world.nodes[1].heard == []
    await world.ask(0, 2)
    await world.ask(2, 1)
    world.doors.ways.repair(way)
    await world.ask(0, 1)


async def test_a_lost_answer_was_heard_and_the_asker_waits_in_vain(world: World) -> None:
    world.doors.ways.open(Way(frozenset({"n2"}), frozenset({"n1"}), loss_probability=1.0))
    await world.in_vain(0, 1, values=1000)
    assert len(world.nodes[1].heard) == 1


async def test_about_the_stated_share_of_messages_is_lost(world: World) -> None:
    world.doors.conditions = Conditions(loss_probability=0.2)
    fates = [world.doors.fate(0, 1, 0.0).is_lost for _ in range(2000)]
    assert np.mean(fates) == pytest.approx(0.2, abs=0.03)


async def test_islands_do_not_hear_each_other_and_outsiders_hear_all(world: World) -> None:
    await world.ask(0, 2)  # its connection stays
    ways = world.doors.ways.part(["n1", "n2"], ["n3"])
    await world.ask(0, 1)
    for source, target in ((0, 2), (2, 0), (1, 2)):
        await world.in_vain(source, target)
    assert await is_open(world, 2)
    world.doors.ways.repair(*ways)
    await world.ask(0, 2)
    await world.ask(2, 1)


async def test_a_one_way_cut_swallows_requests_one_way_and_answers_the_other(world: World) -> None:
    world.doors.ways.cut(["n1"], ["n2"])
    await world.in_vain(0, 1)
    assert world.nodes[1].heard == []
    await world.in_vain(1, 0)
    assert len(world.nodes[0].heard) == 1


async def test_a_way_that_is_cut_in_the_middle_of_a_message_breaks_it_off(world: World) -> None:
    world.doors.lines[0] = Line(up_bytes_per_s=1e6)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.in_vain(0, 1, values=1_000_000))
        await asyncio.sleep(VAIN_S / 4)
        way = world.doors.ways.cut(["n1"], ["n2"])
    assert world.nodes[1].heard == []
    world.doors.ways.repair(way)
    world.doors.lines[0] = Line()
    await world.ask(0, 1, values=1000)


async def test_what_was_held_arrives_though_nobody_waits_any_more(world: World) -> None:
    way = world.doors.ways.hold(["n1"], ["n2"])
    await world.in_vain(0, 1, values=100)
    await world.in_vain(0, 1)
    assert world.nodes[1].heard == []
    world.doors.ways.repair(way)
    await until(lambda: len(world.nodes[1].heard) == 2)
    await world.ask(0, 1)


async def test_a_held_answer_comes_when_it_is_let_go(world: World) -> None:
    way = world.doors.ways.hold(["n2"], ["n1"])
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(world.timed(0, 1))
        await until(lambda: world.nodes[1].heard)
        await asyncio.sleep(VAIN_S)
        assert not asking.done()
        world.doors.ways.repair(way)
    assert asking.result() >= VAIN_S


async def test_a_line_carries_so_many_bytes_a_second_and_is_shared(world: World) -> None:
    values = 25_000  # 100 kB there, 100 kB back
    world.doors.lines[0] = Line(up_bytes_per_s=400_000)
    assert 0.25 <= await world.timed(0, 1, values) < 0.9
    async with asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(world.timed(0, target, values)) for target in (1, 2)]
    assert min(one.result() for one in both) > 0.4
    assert max(one.result() for one in both) < 1.5
    world.doors.lines[0] = Line(up_bytes_per_s=400_000, down_bytes_per_s=200_000)
    assert 0.75 <= await world.timed(0, 1, values) < 2.0


async def test_others_pass_a_long_message_on_a_slow_line(world: World) -> None:
    world.doors.lines[0] = Line(up_bytes_per_s=100_000)
    async with asyncio.TaskGroup() as tasks:
        long = tasks.create_task(world.timed(0, 1, 25_000))
        await asyncio.sleep(0.1)
        await world.ask(0, 2)
        assert not long.done()
    assert long.result() > 0.9


async def test_corruption_flips_one_bit_of_a_body(world: World) -> None:
    world.doors.conditions = Conditions(latency_s=0.0, corrupt_probability=1.0)
    said = packet(world.doors.address(0), 10_000)
    for _ in range(4):
        await world.ask(0, 1, 10_000)
        changed = np.frombuffer(said, np.uint8) ^ np.frombuffer(
            world.nodes[1].heard.pop(), np.uint8
        )
        assert np.unpackbits(changed).sum() == 1


async def test_a_duplicated_request_is_heard_twice_and_answered_once(world: World) -> None:
    world.doors.conditions = Conditions(latency_s=0.0, duplicate_probability=1.0)
    said = packet(world.doors.address(0), 1000)
    assert await world.ask(0, 1, 1000) == said
    await until(lambda: world.nodes[1].heard == [said, said])


async def test_an_unplugged_node_is_silent_and_hears_nothing(world: World) -> None:
    world.doors.lines[1].is_unplugged = True
    await world.in_vain(0, 1)
    await world.in_vain(1, 2)
    await world.ask(0, 2)
    assert world.nodes[1].heard == []


async def test_a_door_is_shut_while_its_node_does_not_listen(world: World) -> None:
    await world.nodes[1].end()
    world.doors.shut(1)
    async with asyncio.timeout(PATIENCE_S):
        while await is_open(world, 1):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(aiohttp.ClientConnectorError):
        await world.ask(0, 1)
    await world.nodes[1].serve(world.doors.behind(1))
    world.doors.expect(1)
    await until_open(world, 1)
    await world.ask(0, 1)


async def test_a_node_that_died_unnoticed_is_refused_after_the_first_try(world: World) -> None:
    await world.nodes[1].end()
    with pytest.raises(aiohttp.ClientError):
        await world.ask(0, 1)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await world.ask(0, 1)
            except aiohttp.ClientConnectorError:
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)
    await world.nodes[1].serve(world.doors.behind(1))
    await until_open(world, 1)


async def test_what_is_no_packet_passes_unharmed_and_unknown(world: World) -> None:
    world.doors.ways.part(["n1"], ["n2"], ["n3"])
    url = f"http://{world.doors.address(1)}/v1/echo"
    for body in (b"", b"abc", b"\x05\x00\x00\x00hello", b"\xff" * 5000):
        async with aiohttp.ClientSession() as stranger, stranger.post(url, data=body) as response:
            assert await response.read() == body


def test_the_worse_of_both_ends_counts_where_one_differs_from_the_rest() -> None:
    doors = Doors(NAMES, np.random.default_rng(0))
    doors.conditions = Conditions(latency_s=0.2)
    assert doors.fate(0, 1, 10.0).due == pytest.approx(10.2)
    doors.lines[1] = Line(latency_s=0.05)
    assert doors.fate(0, 2, 10.0).due == pytest.approx(10.2)
    assert doors.fate(0, 1, 10.3).due == pytest.approx(10.35)
    doors.lines[0] = Line(latency_s=0.5)
    assert doors.fate(0, 1, 20.0).due == pytest.approx(20.5)
    doors.ways.open(Way(frozenset({"n1"}), frozenset({"n2"}), latency_s=1.0))
    assert doors.fate(0, 1, 30.0).due == pytest.approx(31.0)
    assert doors.fate(1, 0, 30.0).due == pytest.approx(30.5)


def test_messages_overtake_each_other_only_where_that_is_wanted() -> None:
    def dues(**conditions: Any) -> list[float]:
        doors = Doors(NAMES, np.random.default_rng(0))
        doors.conditions = Conditions(latency_s=0.1, **conditions)
        return [doors.fate(0, 1, at / 1000).due for at in range(200)]

    assert (np.diff(dues(latency_sigma=1.0)) >= 0).all()
    assert (np.diff(dues(latency_sigma=1.0, fifo=False)) < 0).any()
    late = np.array(dues(reorder_probability=0.5))
    assert (np.diff(late) < 0).any()
    assert (late <= np.arange(200) / 1000 + 1.1 + 1e-9).all()


def test_the_latencies_of_messages_have_the_stated_median_and_spread() -> None:
    doors = Doors(NAMES, np.random.default_rng(0))
    doors.conditions = Conditions(latency_s=0.1, latency_sigma=0.5, fifo=False)
    found = np.array([doors.fate(0, 1, 0.0).due for _ in range(4000)])
    assert np.median(found) == pytest.approx(0.1, rel=0.05)
    assert np.log(found).std() == pytest.approx(0.5, rel=0.05)


def test_ports_are_different_and_none_that_an_outgoing_connection_gets() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(1024 < port < 32_768 for port in ports)


async def test_leaving_ends_whatever_is_still_under_way() -> None:
    world = World()
    async with opened(world):
        world.doors.conditions = Conditions(latency_s=600.0)
        await world.in_vain(0, 1)
        world.doors.ways.hold(["n2"], ["n3"])
        await world.in_vain(1, 2)
