"""The doors of all nodes, and the network behind them: what it is like, and when a door is open.

    nobody there   the door is shut while its node does not listen: connections are refused

Rule of the file: what is drawn here means what `sim/network.py` means by it. One generator is all
the chance there is.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from p2pfl.edge.static import join, parse
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.scenario.proxy.connection import HEAD_BYTES, HOST, LINGER_S, Connection
from p2pfl.scenario.proxy.fate import Fate, Line, Rate, worse
from p2pfl.scenario.proxy.messages import body_length, next_head, skip
from p2pfl.sim.faults import Conditions, Ways

LATE_LATENCIES = 10
"""A reordered message is late by up to so many latencies."""

_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, which could take one of ours meanwhile."""
_LOOK_S = 0.02


@dataclass(slots=True)
class _Door:
    """The way in to one node."""

    port: int
    behind: int
    expected: asyncio.Event = field(default_factory=asyncio.Event)
    shut: asyncio.Event = field(default_factory=asyncio.Event)
    inside: dict[Connection, None] = field(default_factory=dict)


class Doors:
    """The doors of all nodes, and the network behind them; nodes are places from 0.

    Args:
        names: of the nodes, as `ways` call them.
        rng: chance.

    Attributes:
        conditions, lines, ways: what the network is like; `conditions.sees` is not looked at.
    """

    def __init__(self, names: Sequence[str], rng: np.random.Generator) -> None:
        ports = free_ports(2 * len(names))
        self.names = tuple(names)
        self.conditions = Conditions(latency_s=0.0)
        self.lines = [Line() for _ in names]
        self.ways = Ways()
        self._rng = rng
        self._doors = [_Door(*pair) for pair in zip(ports[::2], ports[1::2], strict=True)]
        self._places = {door.port: place for place, door in enumerate(self._doors)}
        self._rates: dict[tuple[str, int], Rate] = {}
        self._last: dict[tuple[int, int], float] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._passing: set[asyncio.Task[None]] = set()

    def address(self, node: int) -> str:
        """Where others reach a node: what it is to announce."""
        return join(HOST, self._doors[node].port)

    def behind(self, node: int) -> int:
        """The port a node is to listen on."""
        return self._doors[node].behind

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the doors while it is open.

        Raises:
            NetworkError: a port was taken by somebody else.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for place, door in enumerate(self._doors):
                    self._spawn(self._keep(door), f"door {place}")
                try:
                    yield
                finally:
                    for task in tuple(self._passing):
                        task.cancel()
        finally:
            self._tasks = None

    def expect(self, node: int) -> None:
        """It was started: its door opens once it listens."""
        self._doors[node].expected.set()

    def shut(self, node: int) -> None:
        """It is gone: its door is shut, and what was connected through it breaks off."""
        self._doors[node].expected.clear()
        self._doors[node].shut.set()

    # --- what becomes of a message ---------------------------------------------------------------

    def fate(self, source: int, target: int, now: float) -> Fate:
        """Draw what becomes of a message that begins now; `due` is when its first byte arrives."""
        conditions, rng = self.conditions, self._rng
        if self.is_cut(source, target):
            return Fate(is_lost=True)
        ends = self.lines[source], self.lines[target]
        latency_s = worse(conditions.latency_s, *(line.latency_s for line in ends))
        loss = worse(conditions.loss_probability, *(line.loss_probability for line in ends))
        released: asyncio.Event | None = None
        for way in self.ways.between(self.names[source], self.names[target]):
            latency_s = latency_s if way.latency_s is None else way.latency_s
            loss = loss if way.loss_probability is None else way.loss_probability
            if way.held is not None:
                released = asyncio.Event()
                way.held.append(released.set)
        if loss and rng.random() < loss:
            return Fate(is_lost=True)
        if conditions.latency_sigma:
            latency_s *= float(np.exp(conditions.latency_sigma * rng.standard_normal()))
        is_late = self._happens(conditions.reorder_probability)
        if is_late:
            latency_s *= 1 + LATE_LATENCIES * rng.random()
        due = now + latency_s
        if conditions.fifo and not is_late:
            due = self._last[source, target] = max(due, self._last.get((source, target), 0.0))
        return Fate(
            due,
            is_corrupt=self._happens(conditions.corrupt_probability),
            is_twice=self._happens(conditions.duplicate_probability),
            released=released,
        )

    def is_cut(self, source: int, target: int) -> bool:
        """Whether nothing gets through now."""
        if self.lines[source].is_unplugged or self.lines[target].is_unplugged:
            return True
        between = self.ways.between(self.names[source], self.names[target])
        return any(way.is_cut for way in between)

    def rates(self, source: int, target: int) -> list[Rate]:
        """What limits bytes on their way from one node to another."""
        ups, downs = self.lines[source].up_bytes_per_s, self.lines[target].down_bytes_per_s
        found = []
        for way, node, limit in (("up", source, ups), ("down", target, downs)):
            if limit is not None:
                rate = self._rates.setdefault((way, node), Rate(limit))
                rate.bytes_per_s = limit
                found.append(rate)
        return found

    def flipped(self, length: int) -> tuple[int, int]:
        """Which byte of a body flips, and what it is combined with."""
        return int(self._rng.integers(length)), 1 << int(self._rng.integers(8))

    def who(self, address: str) -> int | None:
        """Whose door an address is; None if it is nobody's."""
        with suppress(ConfigError):
            return self._places.get(parse(address)[1])
        return None

    def _happens(self, probability: float) -> bool:
        return bool(probability) and self._rng.random() < probability

    # --- doors ----------------------------------------------------------------------------------

    async def _keep(self, door: _Door) -> None:
        """Open whenever the node listens, shut whenever it does not."""
        while True:
            await door.expected.wait()
            if not await _listens(door.behind):
                await asyncio.sleep(_LOOK_S)
                continue
            door.shut.clear()
            arrived = partial(self._arrived, door)
            try:
                server = await asyncio.start_server(arrived, HOST, door.port, limit=HEAD_BYTES)
            except OSError as error:
                raise NetworkError(f"port {door.port} of a door: {error.strerror}") from None
            try:
                await door.shut.wait()
            finally:
                server.close()
                for connection in tuple(door.inside):
                    connection.abort()

    def _arrived(
        self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Somebody connects."""
        if self._tasks is None:
            writer.transport.abort()
            return
        connection = Connection(self, self._places[door.port], reader, writer)
        door.inside[connection] = None
        self._spawn(self._attend(door, connection), name=f"through {door.port}")

    async def _attend(self, door: _Door, connection: Connection) -> None:
        try:
            if not await connection.run(door.behind):
                door.shut.set()
        finally:
            door.inside.pop(connection, None)
            connection.abort()

    def again(self, target: int, request: bytes, seconds: float) -> None:
        """Send a request once more in some seconds, and let its answer go."""
        if self._tasks is not None:
            self._spawn(_sent(self._doors[target].behind, request, seconds), f"again to {target}")

    def _spawn(self, coroutine: Coroutine[None, None, None], name: str) -> None:
        assert self._tasks is not None
        task = self._tasks.create_task(coroutine, name=name)
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now, and that no outgoing connection will be given.

    Raises:
        NetworkError: there are not so many.
    """
    found: list[int] = []
    start = secrets.randbelow(len(_PORTS))
    for step in range(len(_PORTS)):
        if len(found) == count:
            return found
        port = _PORTS[(start + step) % len(_PORTS)]
        with suppress(OSError), socket.create_server((HOST, port)):
            found.append(port)
    raise NetworkError(f"{len(found)} ports of loopback are free, {count} are needed")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _sent(port: int, request: bytes, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        reader, writer = await asyncio.open_connection(HOST, port, limit=HEAD_BYTES)
        try:
            writer.write(request)
            async with asyncio.timeout(LINGER_S):
                await skip(reader, body_length(await next_head(reader)) or 0)
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()
