"""How far models are apart, without sending them: a random projection that all nodes share.

    bucket b of S(x) = sum of sign(c) x[c] over the coordinates c with c mod 32 = b

The signs are coin flips from a generator that is seeded by the run and the layout, so all nodes of
a run make the same. S is linear and keeps lengths: E|S(x) - S(y)|^2 = |x - y|^2, with a relative
standard deviation of about sqrt(2/32) = 25 %, and less where several differences are averaged. It
is the count sketch of Charikar, Chen & Farach-Colton (ICALP 2002) with a fixed bucket for each
coordinate: the signs alone make it unbiased, and neighbouring coordinates never share a bucket.
That lengths survive random projections: Johnson & Lindenstrauss 1984; Achlioptas, JCSS 66(4), 2003.

Rule of the file: the same bits on every device and with every numpy: raw output of PCG64, whose
stream numpy promises never to change. One pass over x, piece by piece; no sign is kept; sums are
float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Vector, pieces

BUCKETS = 32

_SIGN_BIT = np.uint32(1 << 31)
_SHIFTS = np.arange(BUCKETS - 1, -1, -1, dtype=np.uint32)
"""Bit b of a word is the sign of the coordinate in bucket b."""


def sketch_seed(run: str, layout: str) -> int:
    """What all nodes of a run whose model has this layout seed their signs with."""
    text = f"p2pfl-sketch-1\n{layout}\n{run}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def sketched(x: Vector, seed: int) -> NDArray[np.float64]:
    """S(x), (BUCKETS,) float64.

    Args:
        x: (d,) float32, contiguous; it is only read.
        seed: the same for all that are compared.
    """
    found = np.zeros(BUCKETS)
    for _ in sketching(x, seed, found):
        pass
    return found


def sketching(x: Vector, seed: int, found: NDArray[np.float64]) -> Iterator[None]:
    """The same piece by piece, for whoever has other things to do meanwhile.

    Args:
        x, seed: see `sketched`.
        found: (BUCKETS,) zeros, to which S(x) is added.
    """
    flips = np.random.PCG64(seed)
    for at in pieces(x.size):
        piece = x[at]
        if piece.size % BUCKETS:  # the last one only
            piece = np.pad(piece, (0, -piece.size % BUCKETS))
        rows = piece.view(np.uint32).reshape(-1, BUCKETS)
        words = flips.random_raw((len(rows) + 1) // 2).astype("<u8", copy=False).view("<u4")
        signs = words[: len(rows), None].astype(np.uint32, copy=False) << _SHIFTS
        signs &= _SIGN_BIT
        signs ^= rows
        found += signs.view(np.float32).sum(axis=0, dtype=np.float64)
        yield
