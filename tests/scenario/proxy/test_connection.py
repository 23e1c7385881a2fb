"""What happens to messages on their way: real sockets, an echo behind every door."""

from __future__ import annotations

import asyncio

import aiohttp
import numpy as np
import pytest

from p2pfl.scenario.proxy import Line
from p2pfl.sim.faults import Conditions, Way
from tests.scenario.made import until
from tests.scenario.proxy.made import VAIN_S, World, is_open, packet


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


async def test_what_is_no_packet_passes_unharmed_and_unknown(world: World) -> None:
    world.doors.ways.part(["n1"], ["n2"], ["n3"])
    url = f"http://{world.doors.address(1)}/v1/echo"
    for body in (b"", b"abc", b"\x05\x00\x00\x00hello", b"\xff" * 5000):
        async with aiohttp.ClientSession() as stranger, stranger.post(url, data=body) as response:
            assert await response.read() == body
