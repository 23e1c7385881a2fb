"""One connection of an asker to a node, in two halves: requests there, answers back.

    lost, cut      the message is swallowed and the connection is silent for ever: the asker waits
                   in vain, as on a real network
    held           it waits until that is over, also if nobody waits for the answer any more
    late           latency comes before the first byte; then rates of both ends, in small pieces
    corrupt        a bit of the body flips
    twice          the same request is sent once more, to nobody's knowledge

Rule of the file: who asks is told by the first packet; whoever is no node passes unharmed. What
becomes of a message is drawn before its first byte is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from p2pfl.core import wire
from p2pfl.errors import WireError
from p2pfl.scenario.proxy.fate import Fate, Rate
from p2pfl.scenario.proxy.messages import (
    PIECE_BYTES,
    Message,
    body_length,
    deaf,
    next_head,
    pieces,
    skip,
)

if TYPE_CHECKING:
    from p2pfl.scenario.proxy.doors import Doors

HOST = "127.0.0.1"
LINGER_S = 5.0
"""How long an answer may take for which nobody waits any more."""
HEAD_BYTES = 1 << 17
"""Of the longest head, be it of a message or of the packet in it."""

_PIECE_S = 0.05
_NAP_S = 0.001
_AGAIN_BYTES = 1 << 26


class Connection:
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
                async with asyncio.timeout(LINGER_S):
                    while self._owed and back is not None and not back.done():
                        self._settled.clear()
                        await self._settled.wait()
            if back is not None:
                back.cancel()
        return not self._is_refused

    async def _requests(self, port: int, halves: asyncio.TaskGroup) -> None:
        reader = self._near[0]
        while head := await next_head(reader):
            length = body_length(head) or 0
            first = await self._first(reader, length) if not self._knows_asker else b""
            fate = self._fate(self._asker, self._target)
            message = Message(head, first, length - len(first), self._asker, self._target)
            if fate.is_lost:
                await deaf(reader)
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
                await deaf(reader)
                return

    async def _reach(self, port: int) -> None:
        try:
            self._far = await asyncio.open_connection(HOST, port, limit=HEAD_BYTES)
        except OSError:
            self._is_refused = True
            raise

    async def _answers(self) -> None:
        assert self._far is not None
        reader, (_, writer) = self._far[0], self._near
        is_heard = True
        try:
            while head := await next_head(reader):
                length = body_length(head)
                fate = self._fate(self._target, self._asker)
                left = length if length is not None else -1
                message = Message(head, b"", left, self._target, self._asker)
                is_heard = is_heard and not fate.is_lost
                if is_heard:
                    if fate.released is not None:
                        await fate.released.wait()
                    is_heard = await self._carry(message, reader, writer, fate)
                else:
                    await skip(reader, left)
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
            header_bytes = wire.header_length(first, min(length - len(first), HEAD_BYTES))
            packed = await reader.readexactly(header_bytes)
            first += packed
            asker = self._doors.who(wire.decode_header(packed).packet.address)
        except WireError:
            return first
        self._asker = None if asker == self._target else asker
        return first

    def _fate(self, source: int | None, target: int | None) -> Fate:
        if source is None or target is None:
            return Fate()
        return self._doors.fate(source, target, asyncio.get_running_loop().time())

    async def _carry(
        self,
        message: Message,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fate: Fate,
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
        async for piece in pieces(message, reader, piece_bytes):
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


def _piece_bytes(rates: Sequence[Rate]) -> int:
    """Small enough that others on the line need not wait long."""
    slowest = min((rate.bytes_per_s for rate in rates), default=float("inf"))
    return int(min(PIECE_BYTES, max(512.0, slowest * _PIECE_S)))


async def _until(at: float) -> None:
    left = at - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)


async def _quiet(half: Coroutine[None, None, None]) -> None:
    """One half of a connection; that it broke is no more than its end."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await half
