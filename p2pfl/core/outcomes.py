"""What became of one message, in the words of the journal.

Rule of the file: an outcome begins with who had the say: `REFUSED` is the peer's word, `REJECTED`
ours. Nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.core.mixing import FlowNorm

REFUSED = "refused: "
"""Begins the outcome of what a peer did not take from us; its reason follows."""

REJECTED = "rejected: "
"""Begins the outcome of what we did not take from a peer; its reason follows."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """What one message did, for the journal.

    Attributes:
        outcome: as in `events.Exchanged`; `REFUSED` is the peer's word, `REJECTED` is ours.
        norm: size of the flow, complete once the work was driven to its end; None if none flowed.
        distance, reach: how far away a model was that was refused for it, and what was the most.
    """

    outcome: str
    weight: float = 0.0
    staleness: float = 0.0
    norm: FlowNorm | None = None
    distance: float = 0.0
    reach: float = 0.0
