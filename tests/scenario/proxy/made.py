"""Three nodes that echo, behind their doors, on real sockets of loopback."""

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
from p2pfl.scenario.proxy import HOST, Doors
from tests.scenario.made import PATIENCE_S

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
