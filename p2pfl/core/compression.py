"""Codecs: how a vector of float32 becomes bytes, piece by piece, and comes back.

Rule of the file: a codec is a pair of plain functions over whole blocks. `encode` writes the bytes
of some values, `decode` gives exactly the values that both ends will use; PROTOCOL's invariant 1
needs only that both ends decode the same bytes, so any codec keeps the mean of the models.

`int8` is QSGD's unbiased stochastic rounding (Alistarh et al., NeurIPS 2017, arXiv:1610.02132) with
one float32 scale for each block of 256 values. A new codec is one entry in `CODECS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Vector, is_finite

Bytes: TypeAlias = NDArray[np.uint8]

INT8_BLOCK = 256
_INT8 = np.dtype([("scale", "<f4"), ("q", "i1", (INT8_BLOCK,))])
_INT8_MAX_SCALE = np.finfo(np.float32).max / np.float32(128)
"""Beyond it, 127 scales could round to infinity; the 1/128 of all numbers above are clipped."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to write values as bytes.

    Attributes:
        block: values that are coded together; a piece starts at a multiple of it.
        block_bytes: bytes of one block; the last block is always whole.
        encode: (values (n,) float32, rng, out (nbytes(n),) uint8) -> None.
        decode: (data (nbytes(n),) uint8, n) -> (n,) float32, a view of `data` where it can be.
        finite: (data) -> whether every value it decodes to is a number.
        in_place: decoded values are the very bytes, so changing the ones changes the others.
    """

    block: int
    block_bytes: int
    encode: Callable[[Vector, np.random.Generator, Bytes], None]
    decode: Callable[[Bytes, int], Vector]
    finite: Callable[[Bytes], bool]
    in_place: bool = False

    def nbytes(self, size: int) -> int:
        """Exact number of bytes of `size` values."""
        return -(-size // self.block) * self.block_bytes


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector of `size` values as bytes, in the words of `codec`."""

    codec: str
    size: int
    data: Bytes

    @property
    def nbytes(self) -> int:
        """Bytes it takes, also while `data` is still to come."""
        return CODECS[self.codec].nbytes(self.size)

    def piece(self, at: slice) -> Bytes:
        """The bytes of the values `at`, whose start is a multiple of the codec's block."""
        codec = CODECS[self.codec]
        start = codec.nbytes(at.start)
        return self.data[start : start + codec.nbytes(at.stop - at.start)]

    def values(self, at: slice | None = None) -> Vector:
        """The decoded values, (n,) float32; all of them unless `at` says which."""
        at = at or slice(0, self.size)
        return CODECS[self.codec].decode(self.piece(at), at.stop - at.start)


def encode(codec: str, vector: Vector, rng: np.random.Generator) -> Encoded:
    """Encode a whole vector: (d,) float32."""
    encoded = Encoded(codec, vector.size, np.empty(CODECS[codec].nbytes(vector.size), np.uint8))
    CODECS[codec].encode(vector, rng, encoded.data)
    return encoded


def _encode_float32(values: Vector, _: np.random.Generator, out: Bytes) -> None:
    out.view("<f4")[:] = values


def _decode_float32(data: Bytes, _: int) -> Vector:
    return data.view("<f4")


def _finite_float32(data: Bytes) -> bool:
    return is_finite(data.view("<f4"))


def _encode_float16(values: Vector, _: np.random.Generator, out: Bytes) -> None:
    limit = np.finfo(np.float16).max
    out.view("<f2")[:] = np.clip(values, -limit, limit)


def _decode_float16(data: Bytes, _: int) -> Vector:
    return data.view("<f2").astype(np.float32)


def _finite_float16(data: Bytes) -> bool:
    return is_finite(_decode_float16(data, 0))


def _encode_int8(values: Vector, rng: np.random.Generator, out: Bytes) -> None:
    blocks = out.view(_INT8)
    whole = np.zeros(blocks.size * INT8_BLOCK, np.float32)
    whole[: values.size] = values
    table = whole.reshape(-1, INT8_BLOCK)
    scale = np.minimum(np.abs(table).max(axis=1) / np.float32(127), _INT8_MAX_SCALE)
    table /= np.where(scale > 0, scale, np.float32(1))[:, None]
    table += rng.random(table.shape, dtype=np.float32)
    np.floor(table, out=table)
    # rounding up at the very edge of the scale must not wrap around to -128
    blocks["q"] = np.clip(table, -127, 127, out=table)
    blocks["scale"] = scale


def _decode_int8(data: Bytes, size: int) -> Vector:
    blocks = data.view(_INT8)
    values: Vector = blocks["q"].astype(np.float32)
    values *= blocks["scale"][:, None]
    return values.reshape(-1)[:size]


def _finite_int8(data: Bytes) -> bool:
    blocks = data.view(_INT8)
    if (np.abs(blocks["scale"]) <= _INT8_MAX_SCALE).all():
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return is_finite(_decode_int8(data, blocks.size * INT8_BLOCK))


CODECS: dict[str, Codec] = {
    "float32": Codec(1, 4, _encode_float32, _decode_float32, _finite_float32, in_place=True),
    "float16": Codec(1, 2, _encode_float16, _decode_float16, _finite_float16),
    "int8": Codec(INT8_BLOCK, _INT8.itemsize, _encode_int8, _decode_int8, _finite_int8),
}


def largest_nbytes(size: int) -> int:
    """Bytes of `size` values in the codec that needs most for them."""
    return max(codec.nbytes(size) for codec in CODECS.values())
