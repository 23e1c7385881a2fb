"""Changes msgpack or JSON value by value: what bytes flipped at random seldom do.

Rule of the file: chance is an argument; what comes out is well-formed wherever what went in was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from p2pfl.core import wire
from p2pfl.errors import WireError

_NO_TREE = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    WireError,
    msgpack.UnpackException,
)
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63),
    0.0, -0.5, 1e-320, 1e38, 1e308, float("nan"), float("inf"), "", "A", "\x1b[2J", "\ud800",
    "a" * 32, "b" * 32, "a" * 64, "é" * 64, "0.0.0.0:0", "[::]:1", "exchange", "resolve", "pull",
    "int8", "float16", "alive", "dead", b"", b"p" * 96, b"d" * 32, [], {}, [[]] * 65,
)  # fmt: skip


def changed(kind: str, data: bytes, rng: np.random.Generator) -> bytes | None:
    """The same tree with one to three values changed; None if it is none.

    Args:
        kind: `msgpack` (any number of values), `json`, or `wire` (messages one after the other).
    """
    try:
        return _KINDS[kind](data, rng)
    except _NO_TREE:
        return None


def _msgpack(data: bytes, rng: np.random.Generator) -> bytes:
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogatepass")
    unpacker.feed(data)
    values = _twisted(list(unpacker), rng)
    return b"".join(_packed(value) for value in values)


def _json(data: bytes, rng: np.random.Generator) -> bytes:
    (value,) = _twisted([json.loads(data)], rng, grows=False)
    return json.dumps(value, default=str).encode()


def _wire(data: bytes, rng: np.random.Generator) -> bytes:
    """One of the messages changed, moved or said again."""
    messages: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(data):
        length = wire.header_length(data[at : at + 4], len(data) - at - 4)
        packed, at = data[at + 4 : at + 4 + length], at + 4 + length
        nbytes = _payload_bytes(packed)
        messages.append((packed, data[at : at + nbytes]))
        at += nbytes
    chosen = int(rng.integers(len(messages)))
    packed, payload = messages[chosen]
    if rng.random() < 0.2:
        messages.insert(int(rng.integers(len(messages) + 1)), (packed, payload))
    else:
        (head,) = _twisted([msgpack.unpackb(packed)], rng, grows=False)
        messages[chosen] = _packed(head), payload
    return b"".join(wire.LENGTH.pack(len(head)) + head + rest for head, rest in messages)


def _payload_bytes(packed: bytes) -> int:
    try:
        return wire.decode_header(packed).payload_bytes
    except WireError:
        return 0


_KINDS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "msgpack": _msgpack,
    "json": _json,
    "wire": _wire,
}


def _twisted(root: list[Any], rng: np.random.Generator, *, grows: bool = True) -> list[Any]:
    for _ in range(int(rng.integers(1, 4))):
        places = [*_places(root)]
        if not grows:
            places = [(inside, key) for inside, key in places if inside is not root] or places
        inside, key = places[int(rng.integers(len(places)))]
        other, theirs = places[int(rng.integers(len(places)))]
        match int(rng.integers(6)):
            case 0 | 1:
                inside[key] = _copied(_ODD[int(rng.integers(len(_ODD)))])
            case 2:
                inside[key] = _near(inside[key], rng)
            case 3:
                inside[key] = _copied(other[theirs])
            case 4 if isinstance(inside, list) and (grows or inside is not root):
                inside.insert(key, _copied(inside[key]))
            case 5 if grows or inside is not root:
                del inside[key]
            case _:
                inside[key] = [inside[key]]
        if not root:
            return [None]
    return root


def _copied(value: Any) -> Any:
    """A copy of a tree, so that a tree does not hold itself."""
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value


def _near(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + int(rng.integers(-2, 3)) if rng.random() < 0.5 else value * 2
    if isinstance(value, str | bytes) and value:
        cut = int(rng.integers(len(value)))
        return value[:cut] + value[cut + 1 :] if rng.random() < 0.5 else value + value[cut:]
    return value


def _places(inside: Any) -> Any:
    pairs = list(enumerate(inside)) if isinstance(inside, list) else list(inside.items())
    for key, value in pairs:
        yield inside, key
        if isinstance(value, list | dict):
            yield from _places(value)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass", default=str)
    return packed
