"""How far a received model may be, and how much of a difference counts.

Two gates. Among members that may fail but do not lie, a model so far away that it can only be
broken is stopped (`Gate.farthest`). Among members that may lie (`trust = "byzantine"`, PROTOCOL
section 4) a model farther than `reach` times our own norm is refused (BALANCE without its decay,
Fang et al., CCS 2024, arXiv:2406.10416), and what passes is shortened to a clip radius that both
ends agree on, a quantile of the distances this node has measured itself (self-centred clipping: He,
Karimireddy & Jaggi 2022, arXiv:2202.01545). Distances that peers only tell are never taken, and of
each peer the newest counts alone: however often the hostile speak, they are a fifth of the
quantile's sample and no more.

Rule of the file: numbers about models, no models; bounded, because strangers choose the keys.
"""

from __future__ import annotations

import math

import numpy as np

from p2pfl.config import RobustConfig
from p2pfl.core.compression import Encoded
from p2pfl.core.meters import smoothed
from p2pfl.core.mixing import squared
from p2pfl.core.weights import Vector, pieces

BROKEN = 30.0
"""A model so many times as far away as we are from zero, or usually from others, is broken."""

STRIDES = 4.0
"""A model so many training cycles away is within reach, whatever its norm."""

SHORTER = 0.6
"""The clip is so much of the quantile: a smaller quantile would do as much against ALIE (0.93 where
the quantile itself gives 0.88), but below the share of the hostile they choose it: 12 % with 20 %
hostile, and `mimic` takes accuracy from 0.95 to 0.41."""

_KNOWN_LEAST = 4
"""Peers whose distance was measured before a quantile of them means anything."""
_UNTRIED = 0.1
"""Of the reach, what a difference counts for until then: after every restart a node is here."""


def distance_and_norm(x: Vector, received: Encoded) -> tuple[float, float]:
    """Of a received model v: |v - x| and |x|; both (d,) float32, in pieces."""
    away = own = 0.0
    for at in pieces(x.size):
        mine = x[at]
        own += squared(mine)
        away += squared(received.values(at) - mine)
    return math.sqrt(away), math.sqrt(own)


class Gate:
    """What one node knows of distances.

    Args:
        config: of robust mode; its quantile and reach.
        limit: peers told apart; the one measured longest ago is forgotten first.

    Attributes:
        norm: largest l2 norm that our own weights had when they were measured; 0 if never. The
            present one would do, but for a swarm that is pushed towards zero: as it shrinks, so
            would its reach, until honest nodes refuse each other (20 % answering with -x: accuracy
            0.10, with the largest 0.94).
        trained: how far our own training moves in a cycle, on average.
        refused_by: peers that refused us for our distance, since one last mixed with us.
    """

    def __init__(self, config: RobustConfig, limit: int) -> None:
        self.norm = 0.0
        self.trained = 0.0
        self.refused_by: set[str] = set()
        self._config = config
        self._limit = limit
        self._peers: dict[str, tuple[float, int]] = {}
        self._usual = 0.0

    def passed(self, peer: str, distance: float, age: int) -> None:
        """A model of `peer` was mixed; it was so far away, and said to be so old."""
        self.usual(distance)
        self._peers.pop(peer, None)
        if len(self._peers) >= self._limit:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = (distance, age)
        self.refused_by.clear()

    def measured(self, norm: float) -> None:
        """Our own weights have this norm now."""
        if math.isfinite(norm):
            self.norm = max(self.norm, norm)

    def usual(self, distance: float) -> None:
        """A model was mixed, whoever sent it; it was so far away."""
        if math.isfinite(distance):
            self._usual = smoothed(self._usual, distance)

    def farthest(self) -> float:
        """Beyond this distance a model is broken, whatever its owner means; inf if unknown."""
        usual = max(self.norm, self._usual)
        return BROKEN * usual if usual > 0 else math.inf

    @property
    def reach(self) -> float:
        """Beyond this distance a model is refused in robust mode.

        When learning begins a few cycles take honest models farther apart than their norm says.
        """
        return max(self._config.reach * self.norm, STRIDES * self.trained)

    def clip(self) -> float:
        """A difference counts for so much at most; > 0 once our own norm is known."""
        if len(self._peers) < _KNOWN_LEAST:
            return self.reach * _UNTRIED
        distances = [distance for distance, _ in self._peers.values()]
        return min(SHORTER * float(np.quantile(distances, self._config.quantile)), self.reach)

    def believed_age(self, claimed: int) -> int:
        """An age that one peer claims, as far as most others bear it out; 0 while few are known."""
        if len(self._peers) < _KNOWN_LEAST:
            return 0
        ages = sorted(age for _, age in self._peers.values())
        return min(claimed, ages[(len(ages) - 1) // 2])

    def needs_rescue(self) -> bool:
        """Whether so many peers refused us in a row that the stray one must be us."""
        return len(self.refused_by) >= self._config.rescue_after
