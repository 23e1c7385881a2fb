"""What is signed, and what convicts: a node that says two things of one snapshot.

    a snapshot   every EXCHANGE carries (run, node, incarnation, seq, age, digest of its payload),
                 signed by the sender's key
    a denial     (run's tag, node, since when), signed by the run's admission key

An honest node never uses a number twice. Whoever signs two statements for one (incarnation, seq)
that differ is caught by anyone who sees both, and the two are evidence that everybody can check:
the node's id is the fingerprint of the key that signed them. Nodes therefore pass on a few of the
statements they heard, as Certificate Transparency's logs do (RFC 9162; fork consistency: Li,
Krohn, Mazieres, Shasha, SUNDR, OSDI 2004).

Rule of the file: nothing is believed here: the caller has checked the signatures (`ports.Notary`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgpack
import numpy as np
from blake3 import blake3

from p2pfl.core.messages import Denial, Statement

DIGEST_BYTES = 32


def new_digest() -> blake3:
    """To be told a payload piece by piece.

    BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020): several times as fast as SHA-256, also
    on small devices, whose processors have no instructions for the latter.
    """
    return blake3()


def statement_bytes(run: str, statement: Statement) -> bytes:
    """What the node signs: every field but the proof, for one run and for nothing else."""
    fields = (
        "p2pfl-snapshot-1",
        run,
        statement.node,
        statement.incarnation,
        statement.seq,
        statement.age,
        statement.digest,
    )
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def denial_bytes(denial: Denial) -> bytes:
    """What the admission key signs; the key is of one run only, so the run need not be named."""
    packed: bytes = msgpack.packb(("p2pfl-denial-1", denial.node, denial.at), use_bin_type=True)
    return packed


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two statements of one node for one seq: no honest node makes them."""

    first: Statement
    second: Statement


def contradict(first: Statement, second: Statement) -> bool:
    """Whether both are about the same snapshot and say different things of it."""
    about = (first.node, first.incarnation, first.seq)
    said = (first.age, first.digest)
    return about == (second.node, second.incarnation, second.seq) and said != (
        second.age,
        second.digest,
    )


class Witness:
    """Remembers the newest statements of each node, and notices a contradiction.

    Newest by (incarnation, seq), in whatever order they came: a node moves us to forget one of its
    own only by going on to later ones, and what is as old as what was forgotten is `has_forgotten`
    from then on, so it cannot be said a second time to us.

    Args:
        nodes: nodes whose statements are remembered; the one heard of longest ago is forgotten.
        each: statements remembered of one node; nobody can talk others out of our memory.
    """

    def __init__(self, nodes: int, each: int = 32) -> None:
        self._nodes = nodes
        self._each = each
        self._heard: OrderedDict[str, dict[tuple[int, int], Statement]] = OrderedDict()
        self._forgotten: dict[str, tuple[int, int]] = {}
        self._recent: tuple[Statement, ...] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._heard.values()))

    def known(self, statement: Statement) -> bool:
        """Whether exactly this was heard before: then its signature need not be checked again."""
        heard = self._heard.get(statement.node)
        return heard is not None and heard.get(_about(statement)) == statement

    def has_forgotten(self, node: str, incarnation: int, seq: int) -> bool:
        """Whether what `node` says of this number can no longer be held against what it said."""
        forgotten = self._forgotten.get(node)
        return forgotten is not None and (incarnation, seq) <= forgotten

    def hear(self, statement: Statement) -> Evidence | None:
        """Take in a statement whose signature was checked; evidence if it contradicts another."""
        heard = self._heard.get(statement.node)
        if heard is None:
            if len(self._heard) >= self._nodes:
                self._forgotten.pop(self._heard.popitem(last=False)[0], None)
            heard = self._heard[statement.node] = {}
        self._heard.move_to_end(statement.node)
        about = _about(statement)
        earlier = heard.get(about)
        if earlier is not None:
            return Evidence(earlier, statement) if contradict(earlier, statement) else None
        if self.has_forgotten(statement.node, *about):
            return None
        heard[about] = statement
        if len(heard) > self._each:
            oldest = self._forgotten[statement.node] = min(heard)
            del heard[oldest]
        self._recent = None
        return None

    def some(self, count: int, rng: np.random.Generator, *, not_of: str) -> tuple[Statement, ...]:
        """Up to `count` of those heard, by chance, to pass on to another than `not_of`."""
        if self._recent is None:
            self._recent = tuple([s for heard in self._heard.values() for s in heard.values()])
        if not self._recent or count == 0:
            return ()
        drawn = rng.integers(len(self._recent), size=count)
        chosen = {int(at): self._recent[int(at)] for at in drawn}
        return tuple(s for _, s in sorted(chosen.items()) if s.node != not_of)


def _about(statement: Statement) -> tuple[int, int]:
    return statement.incarnation, statement.seq
