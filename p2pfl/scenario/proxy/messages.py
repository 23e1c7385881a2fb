"""HTTP, as far as needed: where a message begins and ends, and its bytes in pieces.

Rule of the file: of a head only the length of the body is read, and nothing of a body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE_BYTES = 1 << 14
"""Of the largest piece."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP message: its head, what was read of its body, and how much is left (-1: to the end).

    Attributes:
        source, target: nodes; None is somebody else.
    """

    head: bytes
    first: bytes
    left: int
    source: int | None
    target: int | None


async def next_head(reader: asyncio.StreamReader) -> bytes:
    """Start line and headers of the next message; empty at the end.

    Raises:
        asyncio.LimitOverrunError: they are longer than the reader takes.
        OSError: the connection broke.
    """
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def body_length(head: bytes) -> int | None:
    """Bytes of the body that a head announces; None if it says nothing."""
    found = _LENGTH.search(head)
    return int(found[1]) if found else None


async def pieces(
    message: Message, reader: asyncio.StreamReader, piece_bytes: int
) -> AsyncIterator[bytes]:
    """The whole message, at most so many bytes at a time.

    Raises:
        asyncio.IncompleteReadError: it ended before its time.
        OSError: the connection broke.
    """
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


async def skip(reader: asyncio.StreamReader, nbytes: int) -> None:
    """Take so many bytes, -1 for all until the end, and pass none on.

    Raises:
        OSError: the connection broke.
    """
    while nbytes and (
        piece := await reader.read(PIECE_BYTES if nbytes < 0 else min(PIECE_BYTES, nbytes))
    ):
        nbytes -= len(piece) if nbytes > 0 else 0


async def deaf(reader: asyncio.StreamReader) -> None:
    """Take whatever comes, until it ends.

    Raises:
        OSError: the connection broke.
    """
    while await reader.read(PIECE_BYTES):
        pass
