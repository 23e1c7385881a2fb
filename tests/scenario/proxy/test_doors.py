"""When doors are open, and what becomes of messages by chance."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import numpy as np
import pytest

from p2pfl.scenario.proxy import Doors, Line, free_ports
from p2pfl.sim.faults import Conditions, Way
from tests.scenario.made import PATIENCE_S
from tests.scenario.proxy.made import NAMES, World, is_open, opened, until_open


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


async def test_leaving_ends_whatever_is_still_under_way() -> None:
    world = World()
    async with opened(world):
        world.doors.conditions = Conditions(latency_s=600.0)
        await world.in_vain(0, 1)
        world.doors.ways.hold(["n2"], ["n3"])
        await world.in_vain(1, 2)


async def test_about_the_stated_share_of_messages_is_lost(world: World) -> None:
    world.doors.conditions = Conditions(loss_probability=0.2)
    fates = [world.doors.fate(0, 1, 0.0).is_lost for _ in range(2000)]
    assert np.mean(fates) == pytest.approx(0.2, abs=0.03)


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
