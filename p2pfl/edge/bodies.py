"""Message bodies on their way through HTTP: written from views, received into buffers.

Rule of the file: no model-sized copy, in neither direction; every length is checked before a byte
behind it is read, and every piece of a payload once, while it is hot in the processor's cache. A
peer's patience is measured piece by piece: whoever stalls is given up within the time of one piece,
however large the model. What moves is counted while it moves, so that a bound on it can be kept:
large payloads are paced as they leave; what arrives is counted, and paid for afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp import payload

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Bytes
from p2pfl.core.messages import Packet, payload_of
from p2pfl.core.weights import pieces
from p2pfl.errors import WireError
from p2pfl.ports import Traffic

SMALL_BYTES = 1 << 16
"""A body up to this is sent, and waited for, as a whole."""

GRACE_S = 5.0
"""Whatever is awaited of a peer, it may rest so long before."""

PIECE_BYTES = 1 << 20
SEALED_PIECE_BYTES = 1 << 18
"""TLS copies what it seals, several times: in pieces that stay in the processor's cache."""

_HELD_BYTES = 2 << 20

PACED_PIECE_BYTES = 1 << 16
"""A second of the lowest bound on what a node takes of the network (`config.CourtesyConfig`)."""

_PAUSE_MOST_S = 1.0
"""A longer pause is taken in parts: others may have moved something meanwhile, and whoever reads is
not to blame for it (`GRACE_S`)."""


def patience_s(nbytes: int, limits: LimitsConfig) -> float:
    """How long so many bytes may take on the slowest line that we bear."""
    return GRACE_S + nbytes / limits.body_min_bytes_per_s


def hold_pieces() -> None:
    """Have the C library keep the memory of pieces that are done with, up to 4 MiB, for the next.

    What arrives comes in blocks of 256 KiB. glibc gives the end of its heap back to the kernel
    when more of it is free than twice the largest block that was freed so far, at first twice
    128 KiB; then each piece is faulted in anew, page by page: 12,000 faults for a model of 40 MB,
    up to half of an exchange's time. One larger block, made and freed, teaches it better
    (mallopt(3), M_MMAP_THRESHOLD). It is never touched, so it costs no memory itself; other C
    libraries take no notice.
    """
    bytes(_HELD_BYTES)


class Patience:
    """How long a peer may take for the next piece of a body.

    Args:
        timeout: ends whatever waits for the peer.
        limits: the slowest line that we bear.
    """

    def __init__(self, timeout: asyncio.Timeout, limits: LimitsConfig) -> None:
        self._timeout = timeout
        self._limits = limits

    def awaits(self, nbytes: int) -> None:
        """From now on, so many bytes are expected to move."""
        now = asyncio.get_running_loop().time()
        self._timeout.reschedule(now + patience_s(nbytes, self._limits))


class Body(payload.Payload):
    """A packet as an HTTP body: its header, then views of its payload. It is sent once.

    Args:
        packet: what to send.
        traffic: counts what is sent, and says how fast.
        patience: with whoever reads it; None where somebody else keeps the time.
        is_sealed: it goes through TLS.
    """

    def __init__(
        self,
        packet: Packet,
        traffic: Traffic,
        patience: Patience | None = None,
        *,
        is_sealed: bool = False,
    ) -> None:
        self._header = wire.header(packet)
        encoded = payload_of(packet.body)
        self._data = encoded.data.data if encoded is not None else memoryview(b"")
        super().__init__(self._header)
        self._size = self._length = len(self._header) + self._data.nbytes
        self._sent = 0
        self._piece_bytes = SEALED_PIECE_BYTES if is_sealed else PIECE_BYTES
        if traffic.is_paced:
            self._piece_bytes = PACED_PIECE_BYTES
        self._traffic = traffic
        self._patience = patience

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._length

    def whole(self) -> bytes:
        """All of it, which counts as sent: for small ones."""
        self._traffic.bytes_out += self._length
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
            self._traffic.bytes_out += len(header)
            await writer.write(header)
        while self._sent < end:
            if self._traffic.is_paced:
                await self._pause()
            start, self._sent = self._sent, min(self._sent + self._piece_bytes, end)
            if self._patience is not None:
                self._patience.awaits(self._sent - start)
            self._traffic.bytes_out += self._sent - start
            await writer.write(self._data[start : self._sent])

    async def _pause(self) -> None:
        """Wait until what this node has moved is paid for."""
        while (pause_s := self._traffic.pause_s()) > 0:
            if self._patience is not None:
                self._patience.awaits(0)
            await asyncio.sleep(min(pause_s, _PAUSE_MOST_S))


class Incoming:
    """A payload on its way into its buffer.

    Args:
        content: what the connection brings.
        head: the header that came before.
        buffer: (head.payload_bytes,) uint8.
        traffic: counts what arrives.
        patience: with whoever sends it; None where somebody else keeps the time.
    """

    def __init__(
        self,
        content: aiohttp.StreamReader,
        head: wire.Head,
        buffer: Bytes,
        traffic: Traffic,
        patience: Patience | None = None,
    ) -> None:
        self._content = content
        self._head = head
        self._buffer = buffer
        self._filled = 0
        self._checked = 0
        self._traffic = traffic
        self._patience = patience
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
        if self._patience is not None and end > self._filled:
            self._patience.awaits(end - self._filled)
        while self._filled < end:
            with _closed_is_reset():
                chunk = await self._content.readany()
            if not chunk:
                raise WireError(f"payload ended after {self._filled} of {total} bytes")
            if self._filled + len(chunk) > total:
                raise WireError(f"payload is longer than {total} bytes")
            view[self._filled : self._filled + len(chunk)] = chunk
            self._filled += len(chunk)
            self._traffic.bytes_in += len(chunk)
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
    content: aiohttp.StreamReader, length: int | None, limits: LimitsConfig, traffic: Traffic
) -> wire.Head:
    """Read a header, count it, and check that the body is exactly as long as it implies.

    Raises:
        WireError: it is not a message, or of another length than `length`.
    """
    if length is None:
        raise WireError("body has no length, expected Content-Length")
    try:
        with _closed_is_reset():
            prefix = await content.readexactly(wire.LENGTH.size)
            header_bytes = wire.header_length(prefix, limits.header_bytes)
            read = await content.readexactly(header_bytes)
            traffic.bytes_in += wire.LENGTH.size + header_bytes
            head = wire.decode_header(read)
    except asyncio.IncompleteReadError as error:
        raise WireError(f"message ended after {len(error.partial)} bytes of a header") from None
    expected = wire.LENGTH.size + header_bytes + head.payload_bytes
    if length != expected:
        raise WireError(f"body has {length} bytes, expected {expected}")
    return head


@contextmanager
def _closed_is_reset() -> Iterator[None]:
    """What aiohttp says of reading from a connection that we have just closed ourselves."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from None
