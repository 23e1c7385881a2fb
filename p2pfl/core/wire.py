"""Messages to bytes and back (PROTOCOL section 8).

    body := u32 header length (little-endian) | header (msgpack) | payload

The header is one msgpack array: version, type, the packet's fields, the body's fields, codec and
size of the payload where the body has one, and, where anything of it rides, what nodes tell for
people to see. The payload is the raw bytes of `Encoded`: it is received straight into a buffer and
sent from views, so this module never holds a copy of it.

Rules of the file: whatever the bytes, the result is a `Packet` or a `WireError` that says what was
expected; every length is checked before it is believed; a field's check (`fields.py`) stands beside
its name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import msgpack
import numpy as np

from p2pfl.core.compression import CODECS, Bytes, Encoded
from p2pfl.core.fields import (
    Check,
    address,
    age,
    between,
    codec_name,
    count,
    floats,
    label,
    many,
    matches,
    one_of,
    optional,
    raw,
    real,
    record,
    shown,
    text,
)
from p2pfl.core.messages import (
    FIGURES,
    LOSS_MAX,
    Ack,
    Adopt,
    Adopted,
    Body,
    Busy,
    Cancelled,
    Denial,
    Exchange,
    Figures,
    Flow,
    Model,
    Packet,
    Probe,
    Pull,
    Reason,
    Recent,
    Refused,
    Report,
    Resolve,
    Rumour,
    Statement,
    Status,
    Swap,
    payload_of,
)
from p2pfl.errors import WireError

VERSION = 3
LENGTH = struct.Struct("<I")
MAX_PAYLOAD_VALUES = 1 << 34
"""A bound on what a header may claim; the receiver's own layout is the real one."""

_MAX_RUMOURS = 64
_MAX_STATEMENTS = _MAX_DENIALS = 16
_MAX_ADDRESSES = 8
_MAX_REPORTS, _MAX_RECENT = 8, 3
_MAX_LIST = 256
"""Above every list of ours, so that its own check can name it; a list is allocated when its length
is read, and a header of nested ones must not claim hundreds of megabytes."""
_NODE = re.compile(r"[0-9a-f]{8,64}")
_NODE_OR_NONE = re.compile(r"([0-9a-f]{8,64})?")
_DIGEST = re.compile(r"[0-9a-f]{16}")


def _rumour(name: str, value: Any) -> Rumour:
    return Rumour(**record(name, value, _RUMOUR))


def _statement(name: str, value: Any) -> Statement:
    return Statement(**record(name, value, _STATEMENT))


def _denial(name: str, value: Any) -> Denial:
    return Denial(**record(name, value, _DENIAL))


def _recent(name: str, value: Any) -> Recent:
    return Recent(**record(name, value, _RECENT))


def _report(name: str, value: Any) -> Report:
    return Report(**record(name, value, _REPORT))


def _figures(name: str, value: Any) -> Figures:
    return Figures(**record(name, value, _FIGURES))


_NODE_ID = matches(_NODE)
_RUMOUR: dict[str, Check] = {
    "node": _NODE_ID,
    "addresses": many(address, _MAX_ADDRESSES),
    "status": one_of(Status),
    "incarnation": count,
    "refutation": count,
    "own_steps": count,
}
_STATEMENT: dict[str, Check] = {
    "node": _NODE_ID,
    "incarnation": count,
    "seq": count,
    "age": age,
    "digest": raw(32),
    "proof": raw(96),
}
_DENIAL: dict[str, Check] = {"node": _NODE_ID, "at": count, "proof": raw(64)}
_RECENT: dict[str, Check] = {"peer": _NODE_ID, "ago_s": real}
_REPORT: dict[str, Check] = {
    "node": _NODE_ID,
    "incarnation": count,
    "number": count,
    "ago_s": real,
    "name": label(64),
    "state": label(16),
    "age": age,
    "own_steps": count,
    "cycles": count,
    "cycle_s": real,
    "loss": optional(between(-LOSS_MAX, LOSS_MAX)),
    "accuracy": optional(between(0.0, 1.0)),
    "staleness": real,
    "distance": optional(real),
    "bytes_in": count,
    "bytes_out": count,
    "recent": many(_recent, _MAX_RECENT),
    "holding": label(160),
}
_FIGURES: dict[str, Check] = {
    "number": count,
    "answered": count,
    "given": floats(FIGURES),
    "estimate": floats(FIGURES, 0),
    "tick": count,
}
_PACKET: dict[str, Check] = {
    "run": text(64),
    "layout": matches(_DIGEST),
    "sender": _NODE_ID,
    "recipient": matches(_NODE_OR_NONE),
    "address": address,
    "incarnation": count,
    "refutation": count,
    "floor": count,
    "own_steps": count,
    "rumours": many(_rumour, _MAX_RUMOURS),
    "statements": many(_statement, _MAX_STATEMENTS),
    "denials": many(_denial, _MAX_DENIALS),
}
_TOLD: dict[str, Check] = {
    "reports": many(_report, _MAX_REPORTS),
    "figures": optional(_figures),
}
_BODIES: dict[str, tuple[type[Any], dict[str, Check]]] = {
    "exchange": (
        Exchange,
        {
            "seq": count,
            "age": age,
            "own_steps": count,
            "cycle_steps": count,
            "residence_s": real,
            "lag_cycles": real,
            "weight": real,
            "clip": real,
            "digest": raw(0, 32),
            "proof": raw(0, 96),
        },
    ),
    "resolve": (Resolve, {"seq": count}),
    "probe": (Probe, {"target": optional(_NODE_ID)}),
    "pull": (Pull, {"codec": codec_name}),
    "flow": (Flow, {"seq": count, "age": age, "weight": real, "staleness": real}),
    "swap": (Swap, {"seq": count, "age": age, "own_steps": count}),
    "adopt": (Adopt, {"seq": count, "age": age}),
    "adopted": (Adopted, {"seq": count}),
    "cancelled": (Cancelled, {"seq": count}),
    "busy": (Busy, {"retry_after_s": real}),
    "refused": (Refused, {"reason": one_of(Reason), "detail": text(512)}),
    "ack": (Ack, {"age": age, "own_steps": count}),
    "model": (Model, {"age": age}),
}


def _taken(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads these fields; an enumeration's value is a string, which is how it is packed."""
    first, *more = names
    if more:
        return attrgetter(first, *more)
    return lambda said: (getattr(said, first),)


_fields_of_packet, _fields_of_rumour = _taken(_PACKET), _taken(_RUMOUR)
_fields_of_body = {kind: _taken(checks) for kind, (_, checks) in _BODIES.items()}
_fields_of_statement, _fields_of_denial = _taken(_STATEMENT), _taken(_DENIAL)
_fields_of_report, _fields_of_recent = _taken(_REPORT), _taken(_RECENT)
_fields_of_figures = _taken(_FIGURES)
assert list(_PACKET)[-3:] == ["rumours", "statements", "denials"]
_RECENT_AT = list(_REPORT).index("recent")
_NAMES: dict[type[Any], str] = {kind: name for name, (kind, _) in _BODIES.items()}
_WITH_PAYLOAD = {
    kind for kind, _ in _BODIES.values() if "payload" in {f.name for f in fields(kind)}
}


@dataclass(frozen=True, slots=True)
class Head:
    """A header that was read: a packet whose payload, if any, is still to come.

    Attributes:
        packet: its body's payload has no data yet.
        payload_bytes: exactly how many bytes follow.
    """

    packet: Packet
    payload_bytes: int

    def with_payload(self, data: Bytes) -> Packet:
        """The whole packet: `data` is (payload_bytes,) uint8, was checked, and is not copied."""
        body = self.packet.body
        if not isinstance(body, Exchange | Flow | Swap | Adopt | Model) or body.payload is None:
            return self.packet
        encoded = replace(body.payload, data=data)
        return replace(self.packet, body=replace(body, payload=encoded))


def name_of(body: Body) -> str:
    """The body's name on the wire, as in `exchange`."""
    return _NAMES[type(body)]


def header(packet: Packet) -> bytes:
    """Everything but the payload, its length in front."""
    kind = name_of(packet.body)
    payload = payload_of(packet.body)
    *fields, rumours, statements, denials = _fields_of_packet(packet)
    head: tuple[Any, ...] = (
        VERSION,
        kind,
        (
            *fields,
            [_fields_of_rumour(rumour) for rumour in rumours],
            [_fields_of_statement(statement) for statement in statements],
            [_fields_of_denial(denial) for denial in denials],
        ),
        _fields_of_body[kind](packet.body),
        (payload.codec, payload.size) if payload is not None else None,
    )
    if packet.reports or packet.figures is not None:
        figures = packet.figures and _fields_of_figures(packet.figures)
        head += (([_packed_report(report) for report in packet.reports], figures),)
    packed: bytes = msgpack.packb(head, use_bin_type=True)
    return LENGTH.pack(len(packed)) + packed


def _packed_report(report: Report) -> list[Any]:
    values = list(_fields_of_report(report))
    values[_RECENT_AT] = [_fields_of_recent(recent) for recent in report.recent]
    return values


def encode(packet: Packet) -> bytes:
    """A whole small packet as one string of bytes."""
    payload = payload_of(packet.body)
    return header(packet) + (payload.data.tobytes() if payload is not None else b"")


def header_length(prefix: bytes, longest: int) -> int:
    """How long the header is, from the first four bytes.

    Raises:
        WireError: longer than `longest` bytes, or empty.
    """
    if len(prefix) < LENGTH.size:
        raise WireError(f"message has {len(prefix)} bytes, expected at least {LENGTH.size}")
    (length,) = LENGTH.unpack(prefix[: LENGTH.size])
    if not 0 < length <= longest:
        raise WireError(f"header has {length} bytes, expected 1 to {longest}")
    return int(length)


def decode_header(packed: bytes) -> Head:
    """Read a header (without its length).

    Raises:
        WireError: anything but a complete, well-formed header of this version.
    """
    try:
        head = msgpack.unpackb(
            packed, raw=False, strict_map_key=True, max_array_len=_MAX_LIST, max_map_len=0
        )
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"header is not msgpack: {str(error) or type(error).__name__}") from None
    if not isinstance(head, list) or not head:
        raise WireError(f"header is {shown(head)}, expected a list")
    if type(head[0]) is not int or head[0] != VERSION:
        raise WireError(f"version is {shown(head[0])}, expected {VERSION}")
    if len(head) not in (5, 6):
        raise WireError(f"header has {len(head)} parts, expected 5 or 6")
    _, kind, packet, body, shape, *told = head
    if not isinstance(kind, str) or kind not in _BODIES:
        raise WireError(f"type is {shown(kind)}, expected one of {', '.join(_BODIES)}")
    cls, checks = _BODIES[kind]
    values = record(kind, body, checks)
    payload_bytes = 0
    if cls in _WITH_PAYLOAD:
        payload = _payload(kind, shape)
        payload_bytes = 0 if payload is None else payload.nbytes
        values["payload"] = payload
    elif shape is not None:
        raise WireError(f"{kind} has a payload, expected none")
    riding = record("packet", packet, _PACKET)
    for part in told:
        riding |= record("packet", part, _TOLD)
    return Head(Packet(**riding, body=cls(**values)), payload_bytes)


def decode(message: bytes) -> Packet:
    """Read one whole packet; the payload is copied.

    Raises:
        WireError: whatever is wrong with the bytes.
    """
    length = header_length(message, len(message))
    end = LENGTH.size + length
    head = decode_header(message[LENGTH.size : end])
    if len(message) != end + head.payload_bytes:
        raise WireError(f"payload has {len(message) - end} bytes, expected {head.payload_bytes}")
    data = np.frombuffer(message, np.uint8, offset=end).copy()
    check_finite(head, data)
    return head.with_payload(data)


def check_finite(head: Head, data: Bytes) -> None:
    """Check payload bytes as they arrive: `data` starts and ends at blocks of the codec.

    Raises:
        WireError: a value is not finite.
    """
    awaited = payload_of(head.packet.body)
    if awaited is not None and data.size and not CODECS[awaited.codec].finite(data):
        raise WireError("payload has a value that is not finite")


def _payload(kind: str, shape: Any) -> Encoded | None:
    if shape is None:
        if kind == "model":
            return None
        raise WireError(f"{kind} has no payload")
    if not isinstance(shape, list) or len(shape) != 2:
        raise WireError(f"payload is {shown(shape)}, expected [codec, size]")
    codec, size = codec_name("codec", shape[0]), count("size", shape[1])
    if not 0 < size <= MAX_PAYLOAD_VALUES:
        raise WireError(f"size is {size}, expected 1 to {MAX_PAYLOAD_VALUES}")
    return Encoded(codec, size, np.empty(0, np.uint8))
