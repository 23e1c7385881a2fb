"""What a node counts for `/v1/status`: exchanges by outcome, refusals by peer and reason.

Rule of the file: counters only, all bounded, because strangers choose the keys.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from p2pfl.core.meters import smoothed

_REASONS = 32
"""Reasons told apart for one peer: the text of a `WireError` shows what was sent."""

STALENESS_EDGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
"""Cycles: an exchange is counted where edge <= staleness < next edge."""


@dataclass(slots=True)
class Tally:
    """Counters of one node; `limit` bounds the peers that are told apart.

    Attributes:
        asked, answered: exchanges by outcome, at either end.
        faults: our own, by kind.
        by_peer: faults of others, by reason.
        staleness, distance: moving averages over exchanges that moved something.
        staleness_counts: these exchanges, by bins of their staleness (`STALENESS_EDGES`).
    """

    limit: int
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    by_peer: dict[str, Counter[str]] = field(default_factory=dict)
    staleness: float = 0.0
    distance: float = 0.0
    staleness_counts: list[int] = field(default_factory=lambda: [0] * (len(STALENESS_EDGES) - 1))

    def exchange(self, role: str, outcome: str, staleness: float, distance: float | None) -> None:
        """Count one end of an exchange; `distance` is None where nothing flowed.

        A distance that is not a number (weights so huge that their squares overflow) would stay in
        the mean for ever: it is left out.
        """
        (self.asked if role == "asked" else self.answered)[outcome] += 1
        if distance is not None and math.isfinite(distance):
            self.staleness = smoothed(self.staleness, staleness)
            self.distance = smoothed(self.distance, distance)
            place = bisect_right(STALENESS_EDGES, staleness) - 1
            self.staleness_counts[min(max(place, 0), len(self.staleness_counts) - 1)] += 1

    def against(self, peer: str, reason: str) -> None:
        """Count a peer's fault; beyond the limits strangers share one entry, and so do reasons."""
        if peer not in self.by_peer and len(self.by_peer) >= self.limit:
            peer = "others"
        reasons = self.by_peer.setdefault(peer, Counter())
        reasons[reason if reason in reasons or len(reasons) < _REASONS else "other"] += 1
