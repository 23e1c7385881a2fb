"""The events of a virtual run as bytes: their hash, their file, and whether a replay is the same.

Every event of every node is packed in the order in which it happened, (nanoseconds, node, kind,
fields), and hashed. Two runs with equal hashes did the same things at the same times, down to the
last bit of every loss and distance.

Rule of the file: nothing that differs between two runs of one seed gets in here: no wall clock, no
memory address, no path.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, get_args

import msgpack

from p2pfl.core.events import Event, Measured
from p2pfl.errors import ConfigError

LOG = "events.msgpack.gz"
"""Name of the file in a run's folder."""

_AT_ONCE = 1024
_KINDS = {kind: re.sub(r"(?<!^)([A-Z])", r"-\1", kind.__name__).lower() for kind in get_args(Event)}
# the node's own clock is left out: it may have been made to leap
_NAMES = {k: tuple(f.name for f in fields(k) if f.name not in ("at", "metrics")) for k in _KINDS}
_FIELDS = {kind: attrgetter(*names) for kind, names in _NAMES.items()}


_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,  # a time that is not finite
    zlib.error,
    msgpack.UnpackException,
)


class Diverged(Exception):  # noqa: N818 (says what happened)
    """A replay did something else than what was recorded."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One event as it was packed."""

    ns: int
    place: int
    kind: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        names = next((_NAMES[k] for k, name in _KINDS.items() if name == self.kind), ())
        told = ", ".join(f"{n}={v!r}" for n, v in zip(names, self.values, strict=False))
        return f"{self.ns / 1e9:.9f} s, node {self.place + 1}: {self.kind} {told}"


class EventLog:
    """Takes events, and hashes, writes or compares them.

    Args:
        path: where they are written; None keeps nothing.
        recorded: events of an earlier run that these must be equal to.

    Attributes:
        count: events so far.
        diverged: the first difference, or that the record could not be read, once there was one.
    """

    def __init__(
        self, path: Path | None = None, recorded: Iterator[Happened] | None = None
    ) -> None:
        self.count = 0
        self.diverged: Diverged | ConfigError | None = None
        self._hash = hashlib.blake2b(digest_size=16)
        self._packer = msgpack.Packer(default=_plain)
        self._buffer: list[bytes] = []
        self._recorded = recorded
        self._file: IO[bytes] | None = None
        if path is not None:
            # no time in the header: equal runs give equal files
            self._file = gzip.GzipFile(path, "wb", compresslevel=1, mtime=0)  # type: ignore[assignment]

    def add(self, ns: int, place: int, event: Event) -> None:
        """Take one event.

        Raises:
            Diverged: the recorded run had another one here.
        """
        kind = type(event)
        values = _FIELDS[kind](event)
        if kind is Measured and event.metrics:  # type: ignore[union-attr]
            values += tuple(sorted(event.metrics.items()))  # type: ignore[union-attr]
        packed = self._packer.pack((ns, place, _KINDS[kind], values))
        self.count += 1
        self._buffer.append(packed)
        if len(self._buffer) >= _AT_ONCE:
            self._flush()
        if self._recorded is not None:
            self._compare(packed)

    def digest(self) -> str:
        """The hash of all events so far: 32 hex digits."""
        self._flush()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Nothing more comes.

        Raises:
            Diverged: the recorded run had more.
        """
        self.put_down()
        if self.diverged is not None:
            raise self.diverged
        missing = next(self._recorded, None) if self._recorded is not None else None
        if missing is not None:
            raise Diverged(f"event {self.count + 1} is missing; recorded was {missing}")

    def put_down(self) -> None:
        """Write what there is; also of a run that failed, so that it can be looked at."""
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._hash.update(data)
        if self._file is not None:
            self._file.write(data)

    def _compare(self, packed: bytes) -> None:
        assert self._recorded is not None
        try:
            now, then = _happened(msgpack.unpackb(packed)), next(self._recorded, None)
        except ConfigError as error:
            self.diverged = error  # the record itself is damaged
            raise
        if now != then and self.diverged is None:
            was = f"recorded was {then}" if then is not None else "the record ends before it"
            self.diverged = Diverged(f"event {self.count} differs: {now}; {was}")
        if self.diverged is not None:
            raise self.diverged


def read(path: Path) -> Iterator[Happened]:
    """The events of a run's file, in order.

    Raises:
        ConfigError: it is missing, damaged, or not such a file.
    """
    try:
        with gzip.open(path, "rb") as file:
            unpacker = msgpack.Unpacker(file, raw=False)
            for item in unpacker:
                yield _happened(item)
            if unpacker.read_bytes(1):
                raise EOFError("its last event is not whole")
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing; the run was made with --no-events") from None
    except _DAMAGED as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def _happened(item: Any) -> Happened:
    ns, place, kind, values = item
    return Happened(int(ns), int(place), str(kind), tuple(_frozen(value) for value in values))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
