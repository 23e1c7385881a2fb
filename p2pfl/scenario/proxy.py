"""A network between real nodes: every node is reached only through a door here, which may be bad.

    asker ──► door of the answerer ──► answerer          a door is a port of ours; nodes announce it
                    │                                    instead of their own (`advertise`)
                    who asks is told by the first packet on a connection: its `address` is a door

    lost, cut      the message is swallowed and the connection is silent for ever: the asker waits
                   in vain, as on a real network
    held           it waits until that is over, also if nobody waits for the answer any more
    late           latency comes before the first byte; then rates of both ends, in small pieces
    corrupt        a bit of the body flips
    twice          the same request is sent once more, to nobody's knowledge
    nobody there   the door is shut while its node does not listen: connections are refused

Rules of the file: HTTP is parsed as far as it must be (where messages begin and end, who asks) and
no further; whoever is no node, such as our own watch, passes unharmed. What lies in wait here means
what `sim/network.py` means by it. One generator is all the chance there is.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from p2pfl.core import wire
from p2pfl.edge.static import join, parse
from p2pfl.errors import ConfigError, NetworkError, WireError
from p2pfl.sim.faults import Conditions, Ways

HOST = "127.0.0.1"
LATE_LATENCIES = 10
"""A reordered message is late by up to so many latencies."""

_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, which could take one of ours meanwhile."""
_LOOK_S = 0.02
_LINGER_S = 5.0
_PIECE_BYTES = 1 << 14
_PIECE_S = 0.05
_NAP_S = 0.001
_HEAD_BYTES = 1 << 17
_AGAIN_BYTES = 1 << 26
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)


@dataclass(slots=True)
class Line:
    """One node's connection; None is as for all, of rates no limit.

    Attributes:
        is_unplugged: nothing gets through in either direction.
    """

    latency_s: float | None = None
    loss_probability: float | None = None
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    is_unplugged: bool = False


@dataclass(slots=True)
class _Rate:
    """A token bucket without a bucket: what was sent takes its time, and nothing is saved up."""

    bytes_per_s: float
    free_at: float = 0.0

    def sent_at(self, nbytes: int, now: float) -> float:
        self.free_at = max(self.free_at, now) + nbytes / self.bytes_per_s
        return self.free_at


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of one message."""

    due: float = 0.0
    is_lost: bool = False
    is_corrupt: bool = False
    is_twice: bool = False
    released: asyncio.Event | None = None
    """What it waits for before anything else."""


@dataclass(slots=True)
class _Door:
    """The way in to one node."""

    port: int
    behind: int
    expected: asyncio.Event = field(default_factory=asyncio.Event)
    shut: asyncio.Event = field(default_factory=asyncio.Event)
    inside: dict[_Connection, None] = field(default_factory=dict)


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
        self._rates: dict[tuple[str, int], _Rate] = {}
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

    def fate(self, source: int, target: int, now: float) -> _Fate:
        """Draw what becomes of a message that begins now; `due` is when its first byte arrives."""
        conditions, rng = self.conditions, self._rng
        if self.is_cut(source, target):
            return _Fate(is_lost=True)
        ends = self.lines[source], self.lines[target]
        latency_s = _worse(conditions.latency_s, *(line.latency_s for line in ends))
        loss = _worse(conditions.loss_probability, *(line.loss_probability for line in ends))
        released: asyncio.Event | None = None
        for way in self.ways.between(self.names[source], self.names[target]):
            latency_s = latency_s if way.latency_s is None else way.latency_s
            loss = loss if way.loss_probability is None else way.loss_probability
            if way.held is not None:
                released = asyncio.Event()
                way.held.append(released.set)
        if loss and rng.random() < loss:
            return _Fate(is_lost=True)
        if conditions.latency_sigma:
            latency_s *= float(np.exp(conditions.latency_sigma * rng.standard_normal()))
        is_late = self._happens(conditions.reorder_probability)
        if is_late:
            latency_s *= 1 + LATE_LATENCIES * rng.random()
        due = now + latency_s
        if conditions.fifo and not is_late:
            due = self._last[source, target] = max(due, self._last.get((source, target), 0.0))
        return _Fate(
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

    def rates(self, source: int, target: int) -> list[_Rate]:
        """What limits bytes on their way from one node to another."""
        ups, downs = self.lines[source].up_bytes_per_s, self.lines[target].down_bytes_per_s
        found = []
        for way, node, limit in (("up", source, ups), ("down", target, downs)):
            if limit is not None:
                rate = self._rates.setdefault((way, node), _Rate(limit))
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
                server = await asyncio.start_server(arrived, HOST, door.port, limit=_HEAD_BYTES)
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
        connection = _Connection(self, self._places[door.port], reader, writer)
        door.inside[connection] = None
        self._spawn(self._attend(door, connection), name=f"through {door.port}")

    async def _attend(self, door: _Door, connection: _Connection) -> None:
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


class _Connection:
    """One connection of an asker to a node, in two halves."""

    def __init__(
        self,
        doors: Doors,
        target: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._doors = doors
        self._target = target
        self._asker: int | None = None
        self._knows_asker = False
        self._near = reader, writer
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._back: asyncio.Task[None] | None = None
        self._is_refused = False
        self._owed = 0
        self._settled = asyncio.Event()

    def abort(self) -> None:
        """Break off at both ends."""
        for end in (self._near, self._far):
            if end is not None:
                end[1].transport.abort()

    async def run(self, port: int) -> bool:
        """Carry messages until one end is closed; False if nobody listens at the port."""
        async with asyncio.TaskGroup() as halves:
            await _quiet(self._requests(port, halves))
            back = self._back
            # who asked is gone, but what was asked is to be dealt with as if it were not
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while self._owed and back is not None and not back.done():
                        self._settled.clear()
                        await self._settled.wait()
            if back is not None:
                back.cancel()
        return not self._is_refused

    async def _requests(self, port: int, halves: asyncio.TaskGroup) -> None:
        reader = self._near[0]
        while head := await _head(reader):
            length = _length(head) or 0
            first = await self._first(reader, length) if not self._knows_asker else b""
            fate = self._fate(self._asker, self._target)
            message = _Message(head, first, length - len(first), self._asker, self._target)
            if fate.is_lost:
                await _deaf(reader)
                return
            if fate.released is not None:
                await fate.released.wait()
            if self._far is None:
                # not before there is something to say: a node closes connections that are silent
                await self._reach(port)
                self._back = halves.create_task(_quiet(self._answers()), name="answers")
            assert self._far is not None
            self._owed += 1
            if not await self._carry(message, reader, self._far[1], fate):
                await _deaf(reader)
                return

    async def _reach(self, port: int) -> None:
        try:
            self._far = await asyncio.open_connection(HOST, port, limit=_HEAD_BYTES)
        except OSError:
            self._is_refused = True
            raise

    async def _answers(self) -> None:
        assert self._far is not None
        reader, (_, writer) = self._far[0], self._near
        is_heard = True
        try:
            while head := await _head(reader):
                length = _length(head)
                fate = self._fate(self._target, self._asker)
                left = length if length is not None else -1
                message = _Message(head, b"", left, self._target, self._asker)
                is_heard = is_heard and not fate.is_lost
                if is_heard:
                    if fate.released is not None:
                        await fate.released.wait()
                    is_heard = await self._carry(message, reader, writer, fate)
                else:
                    await _skip(reader, left)
                self._owed -= 1
                self._settled.set()
        finally:
            self._owed = 0
            self._settled.set()
            if is_heard:
                writer.close()
            # else the asker must not learn so early that nothing comes

    async def _first(self, reader: asyncio.StreamReader, length: int) -> bytes:
        """The header of the first packet, which tells who asks."""
        if length < wire.LENGTH.size:
            return b""
        first = await reader.readexactly(wire.LENGTH.size)
        self._knows_asker = True
        try:
            header_bytes = wire.header_length(first, min(length - len(first), _HEAD_BYTES))
            packed = await reader.readexactly(header_bytes)
            first += packed
            asker = self._doors.who(wire.decode_header(packed).packet.address)
        except WireError:
            return first
        self._asker = None if asker == self._target else asker
        return first

    def _fate(self, source: int | None, target: int | None) -> _Fate:
        if source is None or target is None:
            return _Fate()
        return self._doors.fate(source, target, asyncio.get_running_loop().time())

    async def _carry(
        self,
        message: _Message,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fate: _Fate,
    ) -> bool:
        """Pass a message on; False if the way was cut meanwhile, and nothing follows any more."""
        doors, loop = self._doors, asyncio.get_running_loop()
        source, target = message.source, message.target
        copy = bytearray() if fate.is_twice and message.left <= _AGAIN_BYTES else None
        body_bytes = len(message.first) + message.left
        flip = doors.flipped(body_bytes) if fate.is_corrupt and body_bytes > 0 else None
        await _until(fate.due)
        rates = doors.rates(source, target) if source is not None and target is not None else []
        piece_bytes = _piece_bytes(rates)
        done = -len(message.head)
        async for piece in _pieces(message, reader, piece_bytes):
            if flip is not None and done <= flip[0] < done + len(piece):
                changed = bytearray(piece)
                changed[flip[0] - done] ^= flip[1]
                piece = bytes(changed)
            done += len(piece)
            if rates:
                now = loop.time()
                sent_at = max(rate.sent_at(len(piece), now) for rate in rates)
                await _until(sent_at if sent_at - now > _NAP_S else 0.0)
            if source is not None and target is not None and doors.is_cut(source, target):
                return False
            if copy is not None:
                copy += piece
            writer.write(piece)
            # the asker may be gone, and the message arrives all the same
            await writer.drain()
        if copy is not None and writer is not self._near[1] and target is not None:
            doors.again(target, bytes(copy), max(fate.due - loop.time(), 0.0))
        return True


@dataclass(frozen=True, slots=True)
class _Message:
    """One HTTP message: its head, what was read of its body, and how much is left (-1: to the end).

    Attributes:
        source, target: nodes; None is somebody else.
    """

    head: bytes
    first: bytes
    left: int
    source: int | None
    target: int | None


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


def _worse(usual: float, *own: float | None) -> float:
    """The worse of both ends counts, where one differs from the usual."""
    return max((value for value in own if value is not None), default=usual)


# --- HTTP, as far as needed ---------------------------------------------------------------------


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Start line and headers of the next message; empty at the end."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _length(head: bytes) -> int | None:
    found = _LENGTH.search(head)
    return int(found[1]) if found else None


async def _pieces(
    message: _Message, reader: asyncio.StreamReader, piece_bytes: int
) -> AsyncIterator[bytes]:
    start = message.head + message.first
    if 0 <= message.left <= piece_bytes - len(start):
        # small, as most are: one write, as its sender wrote it
        yield start + await reader.readexactly(message.left)
        return
    for begin in range(0, len(start), piece_bytes):
        yield start[begin : begin + piece_bytes]
    left = message.left
    while left:
        piece = await reader.read(piece_bytes if left < 0 else min(piece_bytes, left))
        if not piece:
            return
        left -= len(piece) if left > 0 else 0
        yield piece


async def _skip(reader: asyncio.StreamReader, nbytes: int) -> None:
    while nbytes and (
        piece := await reader.read(_PIECE_BYTES if nbytes < 0 else min(_PIECE_BYTES, nbytes))
    ):
        nbytes -= len(piece) if nbytes > 0 else 0


async def _deaf(reader: asyncio.StreamReader) -> None:
    """Take whatever comes, until it ends."""
    while await reader.read(_PIECE_BYTES):
        pass


def _piece_bytes(rates: Sequence[_Rate]) -> int:
    """Small enough that others on the line need not wait long."""
    slowest = min((rate.bytes_per_s for rate in rates), default=float("inf"))
    return int(min(_PIECE_BYTES, max(512.0, slowest * _PIECE_S)))


async def _until(at: float) -> None:
    left = at - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)


async def _quiet(half: Coroutine[None, None, None]) -> None:
    """One half of a connection; that it broke is no more than its end."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await half


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
        reader, writer = await asyncio.open_connection(HOST, port, limit=_HEAD_BYTES)
        try:
            writer.write(request)
            async with asyncio.timeout(_LINGER_S):
                await _skip(reader, _length(await _head(reader)) or 0)
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()
