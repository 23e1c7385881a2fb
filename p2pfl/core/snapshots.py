"""The weights as they were, encoded once per version and codec, and sent to many.

Rule of the file: who leases a snapshot drives its work and releases it; only its last user may have
its memory (`take_over`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from p2pfl.core.buffers import Buffers
from p2pfl.core.compression import CODECS, Bytes, Encoded
from p2pfl.core.statements import new_digest
from p2pfl.core.weights import Vector, pieces


@dataclass(slots=True)
class Snapshot:
    """One version of the weights in the words of one codec.

    Attributes:
        encoded: complete once `work` was driven to its end.
        version: changes with every change of the weights.
        age, own_steps: of the model then.
        taken: when.
        users: who reads it.
        digest: of the encoded bytes (`core.statements`), once `digested` was driven to its end.
    """

    encoded: Encoded
    version: int
    age: int
    own_steps: int
    taken: float
    work: Iterator[None]
    users: int = 0
    digest: bytes = b""

    def digested(self) -> Iterator[None]:
        """Compute the digest, piece by piece, unless that was done."""
        if not self.digest:
            digest = new_digest()
            for at in pieces(self.encoded.size):
                digest.update(self.encoded.piece(at).data)
                yield
            self.digest = digest.digest()


class Snapshots:
    """The newest snapshot of each codec; `rng` is for codecs that round by chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.buffers = Buffers()
        self._rng = rng
        self._newest: dict[str, Snapshot] = {}

    def lease(
        self, x: Vector, codec: str, *, version: int, age: int, own_steps: int, now: float
    ) -> Snapshot:
        """The snapshot of this version, a new one if there is none yet."""
        known = self._newest.get(codec)
        if known is None or known.version != version:
            encoded = self.blank(codec, x.size)
            known = Snapshot(encoded, version, age, own_steps, now, self.encode(x, encoded))
            self._newest[codec] = known
        known.users += 1
        return known

    def release(self, snapshot: Snapshot) -> None:
        """The caller has read what it wanted; what nobody reads and is out of date is let go."""
        snapshot.users -= 1

    def take_over(self, snapshot: Snapshot, nbytes: int) -> Bytes | None:
        """The snapshot's memory, to be overwritten by its only user, or None if it is shared."""
        if snapshot.users != 1 or snapshot.encoded.data.nbytes != nbytes:
            return None
        if self._newest.get(snapshot.encoded.codec) is snapshot:
            del self._newest[snapshot.encoded.codec]
        return snapshot.encoded.data

    def blank(self, codec: str, size: int) -> Encoded:
        """Room for `size` values, with anything in it."""
        return Encoded(codec, size, self.buffers.take(CODECS[codec].nbytes(size)))

    def encode(self, x: Vector, encoded: Encoded) -> Iterator[None]:
        """Write `x`, (d,) float32, into `encoded`, piece by piece."""
        codec = CODECS[encoded.codec]
        for at in pieces(x.size):
            codec.encode(x[at], self._rng, encoded.piece(at))
            yield
