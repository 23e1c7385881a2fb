"""Server-sent events, as bytes come in.

Rule of the file: no I/O; however the bytes are cut, the events are the same; what is kept is
bounded. Of the format (https://html.spec.whatwg.org/multipage/server-sent-events.html) that which
nodes use: lines end with LF or CRLF, comments and `retry` are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pfl.errors import WireError

EVENT_BYTES = 16 << 20
"""A first view of some hundred nodes with all their curves has about 5 MB."""


class Events:
    """A reader of one stream."""

    def __init__(self, most: int = EVENT_BYTES) -> None:
        """Of a stream from its beginning.

        Args:
            most: bytes of one event; a stream that has more in one is not read on.
        """
        self._most = most
        self._line = bytearray()
        self._kind = "message"
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """The events that these bytes complete, each with its kind and its data.

        Raises:
            WireError: an event is too large; nothing more is to be fed.
        """
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._line += piece
            line = bytes(self._line).removesuffix(b"\r")
            self._line.clear()
            event = self._take(line)
            if event is not None:
                yield event
        self._line += rest
        self._check(len(self._line))

    def _take(self, line: bytes) -> tuple[str, bytes] | None:
        """One line; an empty one ends an event."""
        if not line:
            kind, data = self._kind, self._data
            self._kind, self._data, self._size = "message", [], 0
            return (kind, b"\n".join(data)) if data else None
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            self._kind = value[:40].decode("utf-8", "replace")
        elif key == b"data":
            self._data.append(value)
            self._size += len(value) + 1
            self._check(0)
        return None

    def _check(self, more: int) -> None:
        if self._size + more > self._most:
            raise WireError(f"an event has over {self._most} bytes")
