"""What a peer's faults cost it here: points that fade, and suspension while there are too many.

A local opinion. It is never told to others as truth, because whoever can ruin a reputation by words
needs no other attack (bad-mouthing; Hoffman, Zage & Nita-Rotaru, ACM Computing Surveys 42(1),
2009). One fault proves nothing: after a partition honest models are refused for their distance.
Proof (`core.statements.Evidence`) and the run's denial are for good.

Who can be convicted: the node's own key must have signed both statements, and a node hears only
statements of members that spoke to it and of whoever asks it, whose certificate the run accepts.
So each conviction costs an attacker a key that the run admitted; where every member holds the run
key, it can make such keys.

Rule of the file: bounded, because strangers choose the keys, and what is proved is never pushed out
by what is not, nor by more of its kind; time is `now`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from p2pfl.config import ReputationConfig
from p2pfl.core.messages import Reason

POINTS: Mapping[str, float] = {
    Reason.MALFORMED: 1.0,
    Reason.SHAPE: 4.0,
    Reason.NORM: 2.0,
    Reason.CLIP: 4.0,
    Reason.PROOF: 4.0,
    Reason.RATE: 0.1,
    Reason.DISTANCE: 0.1,
}
"""What a fault costs. Crashes, slowness and lost messages cost nothing: that is churn."""

CONVICTS = 65_536
"""Convicted peers remembered, by their ids alone: some ten megabytes if all of them come."""

_REASONS_SHOWN = 8


@dataclass(slots=True)
class _Record:
    points: float = 0.0
    since: float = 0.0
    is_suspended: bool = False
    reasons: dict[str, int] = field(default_factory=dict)


class Reputation:
    """What is held against peers.

    Args:
        config: what faults cost.
        limit: peers whose points are kept; the one whose fault is longest ago is forgotten first.
        convicts: peers that are convicted for good, besides those; who is convicted beyond is
            suspended as for its faults, until that has faded.
    """

    def __init__(self, config: ReputationConfig, limit: int, convicts: int = CONVICTS) -> None:
        self._config = config
        self._limit = limit
        self._most_convicts = convicts
        self._records: dict[str, _Record] = {}
        self._convicts: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Whether there is anything against anybody."""
        return bool(self._records or self._convicts)

    def fault(self, peer: str, reason: str, now: float) -> bool:
        """Count a fault; True if the peer is suspended from now on."""
        return self._count(peer, reason, POINTS.get(reason, 0.0), now)

    def convict(self, peer: str, reason: str, now: float) -> bool:
        """Suspend for good; True if it was not yet."""
        if peer in self._convicts:
            return False
        if len(self._convicts) >= self._most_convicts:
            return self._count(peer, reason, self._config.suspend_at, now)
        self._convicts[peer] = reason
        self._records.pop(peer, None)
        return True

    def points(self, peer: str, now: float) -> float:
        """What is left of a peer's points: 0 for one without fault."""
        record = self._records.get(peer)
        if record is None:
            return 0.0
        return float(record.points * 0.5 ** ((now - record.since) / self._config.half_life_s))

    def is_suspended(self, peer: str, now: float) -> bool:
        """Whether we neither ask nor answer a peer for now."""
        if peer in self._convicts:
            return True
        record = self._records.get(peer)
        if record is None or not record.is_suspended:
            return False
        if self.points(peer, now) <= self._config.resume_at:
            record.is_suspended = False
        return record.is_suspended

    def suspended(self, now: float) -> dict[str, dict[str, int]]:
        """Who is suspended, and for how many of which faults; of the convicted the newest."""
        told = {
            peer: dict(record.reasons)
            for peer, record in self._records.items()
            if self.is_suspended(peer, now)
        }
        for peer in islice(reversed(self._convicts), self._limit):
            told[peer] = {self._convicts[peer]: 1}
        return told

    def _count(self, peer: str, reason: str, points: float, now: float) -> bool:
        """True if the peer is suspended from now on."""
        if not points or peer in self._convicts:
            return False
        record = self._record(peer, now)
        record.points += points
        if reason in record.reasons or len(record.reasons) < _REASONS_SHOWN:
            record.reasons[reason] = record.reasons.get(reason, 0) + 1
        if record.points < self._config.suspend_at or record.is_suspended:
            return False
        record.is_suspended = True
        return True

    def _record(self, peer: str, now: float) -> _Record:
        faded = self.points(peer, now)
        record = self._records.pop(peer, None)
        if record is None:
            record = _Record()
            if len(self._records) >= self._limit:
                del self._records[next(iter(self._records))]
        record.points, record.since = faded, now
        self._records[peer] = record
        return record
