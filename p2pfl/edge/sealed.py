"""A model as one sealed safetensors file: every byte of it is what was written, or it is damaged.

    8 bytes   length of the header
    header    JSON, padded to 8 bytes: `__metadata__` (who, when, ages, checksum), then the tensors
    data      the weights in the layout's order, then `p2pfl:momentum` and `p2pfl:previous` if used

Rule of the file: the checksum (BLAKE2b, RFC 7693: fast without special instructions) covers the
whole file and stands at a fixed place inside it; it is taken with zeros in that place. The model is
never copied: bytes go from the vector to the file, and from the file to the vector, piece by piece.
The format is https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, NonNegativeInt, TypeAdapter, ValidationError
from pydantic_core import from_json

from p2pfl.core.weights import Entry, Layout, Vector, is_finite, pieces
from p2pfl.edge.identity import unwatched
from p2pfl.errors import StateError
from p2pfl.ports import Saved

FORMAT = "p2pfl-checkpoint-1"

METADATA = "__metadata__"  # the one name that safetensors itself reserves
RESERVED = "p2pfl:"  # begins what is no parameter; a parameter of such a name is refused

HEADER_BYTES_MAX = 100_000_000
"""What the safetensors library allows; a damaged length beyond it is not even read."""

_OPENING = b'{"__metadata__":{"blake2b":"'
_NO_SEAL = b"0" * 32
_SEAL = slice(len(_OPENING), len(_OPENING) + len(_NO_SEAL))


_COUNT = re.compile(r"[0-9]{1,100}")


class _Tensor(BaseModel):
    dtype: Literal["F32"]
    shape: tuple[NonNegativeInt, ...]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_TENSORS = TypeAdapter(dict[str, _Tensor])
_STRINGS = TypeAdapter(dict[str, str])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        path: where it lay.
        layout: names and shapes; every dtype is float32, as the file has it.
        saved: the node's state; without momentum and previous where only the model was asked for.
        about: format, run, layout, node, incarnation, age, own_steps, cycles, saved_at (ISO 8601),
            p2pfl (version), blake2b (checksum).
    """

    path: Path
    layout: Layout
    saved: Saved
    about: Mapping[str, str]


def write(
    file: BinaryIO,
    layout: Layout,
    weights: Vector,
    about: Mapping[str, str],
    flats: Mapping[str, Vector] | None = None,
    *,
    step: Callable[[str], None] = unwatched,
) -> None:
    """Write a model as safetensors into an empty file that can seek.

    Args:
        file: opened for writing.
        layout: names and shapes of the weights.
        weights: (d,) float32.
        about: the metadata; the checksum is added.
        flats: name -> (n,) float32, further tensors.
        step: called after every write.

    Raises:
        OSError: it could not be written.
    """
    flats = flats or {}
    digest = blake2b(digest_size=16)
    header = _header(layout, about, {name: flat.size for name, flat in flats.items()})
    for data in chain([header], *map(_data, (weights, *flats.values()))):
        digest.update(data)
        file.write(data)
        step("written")
    file.seek(8 + _SEAL.start)
    file.write(digest.hexdigest().encode())
    step("sealed")


def read(path: Path, *, training: bool = True) -> Checkpoint:
    """Read a checkpoint and check every byte of it.

    Args:
        path: the file.
        training: whether momentum and previous weights are kept, or only checked.

    Raises:
        OSError: it cannot be read.
        StateError: it is not, byte for byte, what was written; the text says what was found.
    """
    vectors = {}
    try:
        with path.open("rb") as file:
            header, layout, flats, about = _parsed(file, os.fstat(file.fileno()).st_size)
            digest = blake2b(header, digest_size=16)
            weights = _vector(file, layout.size, digest)
            for name, size in flats.items():
                if training:
                    vectors[name] = _vector(file, size, digest)
                else:
                    for at in pieces(size):
                        _vector(file, at.stop - at.start, digest)
        if digest.hexdigest() != about.get("blake2b"):
            raise ValueError(f"its checksum is {digest.hexdigest()}, not {about.get('blake2b')}")
        if about.get("format") != FORMAT:
            raise ValueError(f"its format is '{about.get('format')}', expected '{FORMAT}'")
        if not all(is_finite(vector) for vector in (weights, *vectors.values())):
            raise ValueError("it holds values that are not finite")
        ages = [_count(about, name) for name in ("age", "own_steps", "cycles")]
        if not about.keys() >= {"run", "layout"}:
            raise ValueError("it does not say of which run and model it is")
        momentum, previous = (vectors.get(RESERVED + name) for name in ("momentum", "previous"))
        if any(v is not None and v.size != weights.size for v in (momentum, previous)):
            raise ValueError("its momentum is not of its model")
    except ValueError as error:
        raise StateError(f"{path} is damaged: {error}") from None
    return Checkpoint(path, layout, Saved(weights, momentum, previous, *ages), about)


def _header(layout: Layout, about: Mapping[str, str], flats: Mapping[str, int]) -> bytes:
    shapes = [(e.name, e.shape) for e in layout.entries] + [(n, (d,)) for n, d in flats.items()]
    fields: dict[str, object] = {METADATA: {"blake2b": _NO_SEAL.decode(), **about}}
    start = 0
    for name, shape in shapes:
        end = start + 4 * math.prod(shape)
        fields[name] = {"dtype": "F32", "shape": shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _parsed(file: BinaryIO, total: int) -> tuple[bytes, Layout, dict[str, int], dict[str, str]]:
    """The header without its seal, the parameters, sizes of the further tensors, the metadata.

    Sizes are believed only if they add up to the size of the file, `total`; the metadata (but for
    the seal) only once the checksum was found right.

    Raises:
        ValueError: it is not a header that `_header` would write.
    """
    length = int.from_bytes(file.read(8), "little")
    if not _SEAL.stop < length <= min(total - 8, HEADER_BYTES_MAX):
        raise ValueError(f"its header would have {length} bytes, the file has {total}")
    text = file.read(length)
    if not text.startswith(_OPENING):
        raise ValueError("it has no header of p2pfl")
    try:
        fields = from_json(text)
        about = _STRINGS.validate_python(fields.pop(METADATA))
        tensors = _TENSORS.validate_python(fields)
    except ValidationError as error:
        raise ValueError("its header does not list float32 tensors") from error
    entries, flats, start = [], {}, 0
    for name, tensor in tensors.items():
        end = start + 4 * math.prod(tensor.shape)
        if tensor.data_offsets != (start, end):
            raise ValueError(f"'{name}' lies at {tensor.data_offsets}, expected ({start}, {end})")
        if name.startswith(RESERVED):
            flats[name] = math.prod(tensor.shape)
        else:
            entries.append(Entry(name, tensor.shape))
        start = end
    if 8 + length + start != total:
        raise ValueError(f"it has {total} bytes, expected {8 + length + start}")
    header = length.to_bytes(8, "little") + text[: _SEAL.start] + _NO_SEAL + text[_SEAL.stop :]
    return header, Layout(tuple(entries)), flats, about


def _count(about: Mapping[str, str], name: str) -> int:
    text = about.get(name, "")
    if not _COUNT.fullmatch(text):
        raise ValueError(f"its {name} is '{text[:40]}', expected a number")
    return int(text)


def _data(vector: Vector) -> Iterator[bytes]:
    for at in pieces(vector.size):
        # a copy of one piece: what is hashed is what is written, whatever the owner does meanwhile
        yield np.asarray(vector[at], "<f4").tobytes()


def _vector(file: BinaryIO, size: int, digest: blake2b) -> Vector:
    vector = np.empty(size, "<f4")
    for at in pieces(size):
        room = vector[at].data.cast("B")
        if file.readinto(room) != room.nbytes:  # type: ignore[attr-defined]
            raise ValueError("it became shorter while it was read")
        digest.update(room)
    return vector.astype(np.float32, copy=False)
