"""What a node counts for `/v1/status`: exchanges by outcome, refusals by peer and reason.

Rule of the file: counters only, all bounded, because strangers choose the keys.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from p2pfl.core.gossip import smoothed


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
        """Count one end of an exchange; `distance` is None where nothing flowed."""
        (self.asked if role == "asked" else self.answered)[outcome] += 1
        if distance is not None:
            self.staleness = smoothed(self.staleness, staleness)
            self.distance = smoothed(self.distance, distance)

    def against(self, peer: str, reason: str) -> None:
        """Count a peer's fault; beyond the limit strangers share one entry."""
        if peer not in self.by_peer and len(self.by_peer) >= self.limit:
            peer = "others"
        self.by_peer.setdefault(peer, Counter())[reason] += 1
