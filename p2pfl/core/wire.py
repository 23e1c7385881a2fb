"""Messages to bytes and back (PROTOCOL section 8).

    body := u32 header length (little-endian) | header (msgpack) | payload

The header is one msgpack array: version, type, the packet's fields, the body's fields, codec and
size of the payload where the body has one, and, where anything of it rides, what nodes tell for
people to see. The payload is the raw bytes of `Encoded`: it is
received straight into a buffer and sent from views, so this module never holds a copy of it.

Rules of the file: whatever the bytes, the result is a `Packet` or a `WireError` that says what was
expected; every length is checked before it is believed; a field's check stands beside its name.
"""

from __future__ import annotations

import math
import re
import reprlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, TypeAlias

import msgpack
import numpy as np

from p2pfl.core.compression import CODECS, Bytes, Encoded
from p2pfl.core.messages import (
    AGE_MAX,
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

_MAX_COUNT = 2**63 - 1
_MAX_RUMOURS = 64
_MAX_STATEMENTS = _MAX_DENIALS = 16
_MAX_ADDRESSES = 8
_MAX_REPORTS, _MAX_RECENT = 8, 3
_ADDRESS_BYTES = 128
_MAX_LIST = 256
"""Above every list of ours, so that its own check can name it; a list is allocated when its length
is read, and a header of nested ones must not claim hundreds of megabytes."""
_NODE = re.compile(r"[0-9a-f]{8,64}")
_NODE_OR_NONE = re.compile(r"([0-9a-f]{8,64})?")
_DIGEST = re.compile(r"[0-9a-f]{16}")

_BRIEF = reprlib.Repr()
"""Shows what strangers sent: to a bounded depth and length, whatever it is."""
_BRIEF.maxstring = _BRIEF.maxother = 60

Check: TypeAlias = Callable[[str, Any], Any]


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise WireError(f"{name} is {_shown(value)}, expected an integer from 0 to 2^63 - 1")
    return value


def _age(name: str, value: Any) -> int:
    if _count(name, value) > AGE_MAX:
        raise WireError(f"{name} is {_shown(value)}, expected at most 2^53")
    return int(value)


def _real(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise WireError(f"{name} is {_shown(value)}, expected a finite number >= 0")
    return float(value)


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise WireError(f"{name} is {_shown(value)}, expected a finite number")
    return float(value)


def _between(least: float, most: float) -> Check:
    def check(name: str, value: Any) -> float:
        if not least <= _number(name, value) <= most:
            raise WireError(f"{name} is {_shown(value)}, expected {least:g} to {most:g}")
        return float(value)

    return check


def _text(longest: int) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise WireError(f"{name} is {_shown(value)}, expected at most {longest} characters")
        return value

    return check


def _label(longest: int) -> Check:
    """Text for people to read; what cannot be shown is replaced, because not all Pythons agree."""
    text = _text(longest)

    def check(name: str, value: Any) -> str:
        found: str = text(name, value)
        return (
            found if found.isprintable() else "".join(c if c.isprintable() else "?" for c in found)
        )

    return check


def _address(name: str, value: Any) -> str:
    """Bounded in bytes: a header full of addresses that others told us must fit what all accept."""
    if not isinstance(value, str) or len(value.encode()) > _ADDRESS_BYTES:
        raise WireError(f"{name} is {_shown(value)}, expected at most {_ADDRESS_BYTES} bytes")
    return value


def _matches(pattern: re.Pattern[str]) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise WireError(f"{name} is {_shown(value)}, expected {pattern.pattern}")
        return value

    return check


def _one_of(kind: type[Reason] | type[Status]) -> Check:
    known = {member.value: member for member in kind}

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in known:
            raise WireError(f"{name} is {_shown(value)}, expected one of {', '.join(known)}")
        return known[value]

    return check


def _codec(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in CODECS:
        raise WireError(f"{name} is {_shown(value)}, expected one of {', '.join(CODECS)}")
    return value


def _bytes(*lengths: int) -> Check:
    def check(name: str, value: Any) -> bytes:
        if type(value) is not bytes or len(value) not in lengths:
            wanted = " or ".join(map(str, lengths))
            raise WireError(f"{name} is {_shown(value)}, expected {wanted} bytes")
        return value

    return check


def _floats(*sizes: int) -> Check:
    check = _bytes(*(4 * size for size in sizes))

    def checked(name: str, value: Any) -> bytes:
        found: bytes = check(name, value)
        if not np.isfinite(np.frombuffer(found, "<f4")).all():
            raise WireError(f"{name} has a value that is not finite")
        return found

    return checked


def _optional(inner: Check) -> Check:
    return lambda name, value: None if value is None else inner(name, value)


def _many(inner: Check, most: int) -> Check:
    def check(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise WireError(f"{name} is {_shown(value)}, expected a list of at most {most}")
        return tuple(inner(name, item) for item in value)

    return check


def _rumour(name: str, value: Any) -> Rumour:
    return Rumour(**_record(name, value, _RUMOUR))


def _statement(name: str, value: Any) -> Statement:
    return Statement(**_record(name, value, _STATEMENT))


def _denial(name: str, value: Any) -> Denial:
    return Denial(**_record(name, value, _DENIAL))


def _recent(name: str, value: Any) -> Recent:
    return Recent(**_record(name, value, _RECENT))


def _report(name: str, value: Any) -> Report:
    return Report(**_record(name, value, _REPORT))


def _figures(name: str, value: Any) -> Figures:
    return Figures(**_record(name, value, _FIGURES))


_NODE_ID, _ADDRESS = _matches(_NODE), _address
_RUMOUR: dict[str, Check] = {
    "node": _NODE_ID,
    "addresses": _many(_ADDRESS, _MAX_ADDRESSES),
    "status": _one_of(Status),
    "incarnation": _count,
    "refutation": _count,
    "own_steps": _count,
}
_STATEMENT: dict[str, Check] = {
    "node": _NODE_ID,
    "incarnation": _count,
    "seq": _count,
    "age": _age,
    "digest": _bytes(32),
    "proof": _bytes(96),
}
_DENIAL: dict[str, Check] = {"node": _NODE_ID, "at": _count, "proof": _bytes(64)}
_RECENT: dict[str, Check] = {"peer": _NODE_ID, "ago_s": _real}
_REPORT: dict[str, Check] = {
    "node": _NODE_ID,
    "incarnation": _count,
    "number": _count,
    "ago_s": _real,
    "name": _label(64),
    "state": _label(16),
    "age": _age,
    "own_steps": _count,
    "cycles": _count,
    "cycle_s": _real,
    "loss": _optional(_between(-LOSS_MAX, LOSS_MAX)),
    "accuracy": _optional(_between(0.0, 1.0)),
    "staleness": _real,
    "distance": _optional(_real),
    "bytes_in": _count,
    "bytes_out": _count,
    "recent": _many(_recent, _MAX_RECENT),
    "holding": _label(160),
}
_FIGURES: dict[str, Check] = {
    "number": _count,
    "answered": _count,
    "given": _floats(FIGURES),
    "estimate": _floats(FIGURES, 0),
    "tick": _count,
}
_PACKET: dict[str, Check] = {
    "run": _text(64),
    "layout": _matches(_DIGEST),
    "sender": _NODE_ID,
    "recipient": _matches(_NODE_OR_NONE),
    "address": _ADDRESS,
    "incarnation": _count,
    "refutation": _count,
    "floor": _count,
    "own_steps": _count,
    "rumours": _many(_rumour, _MAX_RUMOURS),
    "statements": _many(_statement, _MAX_STATEMENTS),
    "denials": _many(_denial, _MAX_DENIALS),
}
_TOLD: dict[str, Check] = {
    "reports": _many(_report, _MAX_REPORTS),
    "figures": _optional(_figures),
}
_BODIES: dict[str, tuple[type[Any], dict[str, Check]]] = {
    "exchange": (
        Exchange,
        {
            "seq": _count,
            "age": _age,
            "own_steps": _count,
            "cycle_steps": _count,
            "residence_s": _real,
            "lag_cycles": _real,
            "weight": _real,
            "clip": _real,
            "digest": _bytes(0, 32),
            "proof": _bytes(0, 96),
        },
    ),
    "resolve": (Resolve, {"seq": _count}),
    "probe": (Probe, {"target": _optional(_NODE_ID)}),
    "pull": (Pull, {"codec": _codec}),
    "flow": (Flow, {"seq": _count, "age": _age, "weight": _real, "staleness": _real}),
    "swap": (Swap, {"seq": _count, "age": _age, "own_steps": _count}),
    "adopt": (Adopt, {"seq": _count, "age": _age}),
    "adopted": (Adopted, {"seq": _count}),
    "cancelled": (Cancelled, {"seq": _count}),
    "busy": (Busy, {"retry_after_s": _real}),
    "refused": (Refused, {"reason": _one_of(Reason), "detail": _text(512)}),
    "ack": (Ack, {"age": _age, "own_steps": _count}),
    "model": (Model, {"age": _age}),
}


def _taken(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads these fields; an enumeration's value is a string, which is how it is packed."""
    first, *more = names
    if more:
        return attrgetter(first, *more)
    return lambda record: (getattr(record, first),)


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
        raise WireError(f"header is {_shown(head)}, expected a list")
    if type(head[0]) is not int or head[0] != VERSION:
        raise WireError(f"version is {_shown(head[0])}, expected {VERSION}")
    if len(head) not in (5, 6):
        raise WireError(f"header has {len(head)} parts, expected 5 or 6")
    _, kind, packet, body, shape, *told = head
    if not isinstance(kind, str) or kind not in _BODIES:
        raise WireError(f"type is {_shown(kind)}, expected one of {', '.join(_BODIES)}")
    cls, checks = _BODIES[kind]
    values = _record(kind, body, checks)
    payload_bytes = 0
    if cls in _WITH_PAYLOAD:
        payload = _payload(kind, shape)
        payload_bytes = 0 if payload is None else payload.nbytes
        values["payload"] = payload
    elif shape is not None:
        raise WireError(f"{kind} has a payload, expected none")
    riding = _record("packet", packet, _PACKET)
    for part in told:
        riding |= _record("packet", part, _TOLD)
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
        raise WireError(f"payload is {_shown(shape)}, expected [codec, size]")
    codec, size = _codec("codec", shape[0]), _count("size", shape[1])
    if not 0 < size <= MAX_PAYLOAD_VALUES:
        raise WireError(f"size is {size}, expected 1 to {MAX_PAYLOAD_VALUES}")
    return Encoded(codec, size, np.empty(0, np.uint8))


def _record(name: str, values: Any, checks: dict[str, Check]) -> dict[str, Any]:
    if not isinstance(values, list) or len(values) != len(checks):
        raise WireError(f"{name} is {_shown(values)}, expected {len(checks)} fields")
    return {
        field: check(f"{name}.{field}", value)
        for (field, check), value in zip(checks.items(), values, strict=True)
    }


def _shown(value: Any) -> str:
    text = _BRIEF.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
