"""Message bodies on their way through HTTP: written from views, received into buffers.

Rule of the file: no model-sized copy, in neither direction; every length is checked before a byte
behind it is read, and every piece of a payload once, while it is hot in the processor's cache.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp import payload

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Bytes
from p2pfl.core.messages import Packet, payload_of
from p2pfl.core.weights import pieces
from p2pfl.errors import WireError

SMALL_BYTES = 1 << 16
"""A body up to this is sent, and waited for, as a whole."""

_PIECE_BYTES = 1 << 20


class Body(payload.Payload):
    """A packet as an HTTP body: its header, then views of its payload. It is sent once."""

    def __init__(self, packet: Packet) -> None:
        self._header = wire.header(packet)
        encoded = payload_of(packet.body)
        self._data = encoded.data.data if encoded is not None else memoryview(b"")
        super().__init__(self._header)
        self._size = self._length = len(self._header) + self._data.nbytes
        self._sent = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._length

    def whole(self) -> bytes:
        """All of it: for small ones."""
        return self._header + bytes(self._data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Part of aiohttp's interface; a packet has no text."""
        raise TypeError("a packet has no text")

    async def write(self, writer: Any) -> None:
        """Send what was not sent yet, and let the payload go: its memory is wanted again."""
        if self._length <= SMALL_BYTES:
            await writer.write(self.whole())
        else:
            await self.write_until(writer, self._data.nbytes)
        self._data = memoryview(b"")

    async def write_until(self, writer: Any, end: int) -> None:
        """Send the header and the payload up to byte `end`, as far as that was not done yet."""
        if self._header:
            header, self._header = self._header, b""
            await writer.write(header)
        while self._sent < end:
            start, self._sent = self._sent, min(self._sent + _PIECE_BYTES, end)
            await writer.write(self._data[start : self._sent])


class Incoming:
    """A payload on its way into its buffer.

    Args:
        content: what the connection brings.
        head: the header that came before.
        buffer: (head.payload_bytes,) uint8.
    """

    def __init__(self, content: aiohttp.StreamReader, head: wire.Head, buffer: Bytes) -> None:
        self._content = content
        self._head = head
        self._buffer = buffer
        self._filled = 0
        self._checked = 0
        awaited = payload_of(head.packet.body)
        self._ends = iter(
            [CODECS[awaited.codec].nbytes(at.stop) for at in pieces(awaited.size)]
            if awaited is not None and buffer.size
            else []
        )

    async def piece(self) -> int:
        """Receive and check the next piece; gives the bytes that are complete, 0 after the last.

        Raises:
            WireError: the payload ends early, goes on too long, or has a value that is not finite.
        """
        end = next(self._ends, 0)
        view, total = self._buffer.data, self._buffer.nbytes
        while self._filled < end:
            chunk = await self._content.readany()
            if not chunk:
                raise WireError(f"payload ended after {self._filled} of {total} bytes")
            if self._filled + len(chunk) > total:
                raise WireError(f"payload is longer than {total} bytes")
            view[self._filled : self._filled + len(chunk)] = chunk
            self._filled += len(chunk)
        if end:
            wire.check_finite(self._head, self._buffer[self._checked : end])
            self._checked = end
        return end

    async def all(self) -> None:
        """Receive and check what is still to come.

        Raises:
            WireError: as `piece`.
        """
        while await self.piece():
            pass


async def read_head(
    content: aiohttp.StreamReader, length: int | None, limits: LimitsConfig
) -> wire.Head:
    """Read a header and check that the body is exactly as long as it implies.

    Raises:
        WireError: it is not a message, or of another length than `length`.
    """
    if length is None:
        raise WireError("body has no length, expected Content-Length")
    try:
        prefix = await content.readexactly(wire.LENGTH.size)
        header_bytes = wire.header_length(prefix, limits.header_bytes)
        head = wire.decode_header(await content.readexactly(header_bytes))
    except asyncio.IncompleteReadError as error:
        raise WireError(f"message ended after {len(error.partial)} bytes of a header") from None
    expected = wire.LENGTH.size + header_bytes + head.payload_bytes
    if length != expected:
        raise WireError(f"body has {length} bytes, expected {expected}")
    return head
