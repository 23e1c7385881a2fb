"""What a node counts for `/v1/status`: exchanges by outcome, refusals by peer and reason.

Rule of the file: counters only, all bounded, because strangers choose the keys.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from p2pfl.core.meters import smoothed

_REASONS = 32
"""Reasons told apart for one peer: the text of a `WireError` shows what was sent."""


@dataclass(slots=True)
class Tally:
    """Counters of one node; `limit` bounds the peers that are told apart."""

    limit: int
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    by_peer: dict[str, Counter[str]] = field(default_factory=dict)
    staleness: float = 0.0
    distance: float = 0.0

    def exchange(self, role: str, outcome: str, staleness: float, distance: float | None) -> None:
        """Count one end of an exchange; `distance` is None where nothing flowed.

        A distance that is not a number (weights so huge that their squares overflow) would stay in
        the mean for ever: it is left out.
        """
        (self.asked if role == "asked" else self.answered)[outcome] += 1
        if distance is not None and math.isfinite(distance):
            self.staleness = smoothed(self.staleness, staleness)
            self.distance = smoothed(self.distance, distance)

    def against(self, peer: str, reason: str) -> None:
        """Count a peer's fault; beyond the limits strangers share one entry, and so do reasons."""
        if peer not in self.by_peer and len(self.by_peer) >= self.limit:
            peer = "others"
        reasons = self.by_peer.setdefault(peer, Counter())
        reasons[reason if reason in reasons or len(reasons) < _REASONS else "other"] += 1
