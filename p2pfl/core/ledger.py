"""Exactly once: what we asked and do not know the end of, and what we answered and may be asked
about again.

An exchange must take effect at both ends or at neither, over a network that loses, repeats and
delays. The asker numbers its exchanges (`seq`, within its incarnation) and never forgets one until
it knows its end; the answerer keeps its answer until the asker says it has finished with it: each
packet carries a cumulative *floor*, as TCP acknowledges. What was neither answered nor cancelled is
settled by RESOLVE, where a seq never seen is cancelled for good.

Rule of the file: bookkeeping only, no arithmetic; time is `now`; everything is bounded, and the
answerer forgets later than the asker does, because both count the same horizon and the asker
began first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from p2pfl.core.messages import Adopted, Answer, Cancelled, Flow, payload_of

_OWED_MOST = 8
"""Exchanges with one peer whose end is not known; beyond it the peer is left alone."""
_MOST_KEPT = 256
"""Answers kept for one asker: several times what one that acknowledges and resolves can need."""


@dataclass(slots=True)
class Pending:
    """An exchange we asked for and do not know the end of.

    Attributes:
        own_steps: our local steps when it left, to measure how much we moved meanwhile.
        lineage: which lineage of weights it spoke for; a flow for a replaced one means nothing.
        weight: share of our model set aside for it.
        clip: the bound on distance that was sent with it, 0 for none.
        unresolved: no answer came in time; RESOLVE asks.
        settled: values of the flow that were subtracted before its answer broke off.
        is_settling: a flow is being subtracted; a repeated answer must not do the same.
    """

    peer: str
    seq: int
    started: float
    own_steps: int
    lineage: int
    weight: float
    clip: float = 0.0
    unresolved: bool = False
    unresolved_since: float = 0.0
    attempts: int = 0
    settled: int = 0
    is_settling: bool = False
    next_attempt: float = 0.0


class Outbox:
    """The asker's half: numbers exchanges and remembers the open ones."""

    def __init__(self, *, horizon_s: float, limit: int) -> None:
        self._horizon_s = horizon_s
        self._limit = limit
        self._next_seq = 0
        self._open: dict[str, dict[int, Pending]] = {}
        self._in_flight: dict[int, Pending] = {}
        self._slow: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    @property
    def in_flight(self) -> Collection[Pending]:
        """Exchanges that wait for their answer, unresolved ones not counted: a dead peer must not
        hold a slot."""
        return self._in_flight.values()

    def owing(self) -> set[str]:
        """Peers that are being asked, or whose earlier answers we wait for more than once: a link
        that is jammed is not cleared by asking more."""
        asked = {pending.peer for pending in self._in_flight.values()} | self._slow.keys()
        return asked | {peer for peer, by_seq in self._open.items() if len(by_seq) >= _OWED_MOST}

    def set_aside(self, lineage: int) -> float:
        """Q: shares of our model that answers on their way may still take."""
        return sum([p.weight for p in self._in_flight.values() if p.lineage == lineage])

    def __iter__(self) -> Iterator[Pending]:
        for by_seq in self._open.values():
            yield from by_seq.values()

    def open(self, peer: str, own_steps: int, lineage: int, weight: float, now: float) -> Pending:
        """Number a new exchange with `peer`; at the limit the oldest unresolved one is given up."""
        if len(self) >= self._limit:
            self.close(min(self, key=lambda p: (not p.unresolved, p.started)))
        pending = Pending(peer, self._next_seq, now, own_steps, lineage, weight)
        self._next_seq += 1
        self._open.setdefault(peer, {})[pending.seq] = pending
        self._in_flight[pending.seq] = pending
        return pending

    def let_go_on(self, pending: Pending) -> None:
        """Its answer may still come, but holds no slot and no share any more; its peer is not asked
        again before it has ended."""
        if self._in_flight.pop(pending.seq, None) is not None:
            self._slow[pending.peer] = pending.seq

    def left_to_resolve(self, pending: Pending, since: float) -> None:
        """No answer came in time; it is asked about from now on."""
        if not pending.unresolved:
            pending.unresolved, pending.unresolved_since = True, since
            self._ends_waiting(pending)

    def find(self, peer: str, seq: int) -> Pending | None:
        """The open exchange `seq` with `peer`, if it is open."""
        return self._open.get(peer, {}).get(seq)

    def close(self, pending: Pending) -> None:
        """Its end is known."""
        self._ends_waiting(pending)
        by_seq = self._open.get(pending.peer, {})
        by_seq.pop(pending.seq, None)
        if not by_seq:
            self._open.pop(pending.peer, None)

    def _ends_waiting(self, pending: Pending) -> None:
        self._in_flight.pop(pending.seq, None)
        if self._slow.get(pending.peer) == pending.seq:
            del self._slow[pending.peer]

    def floor(self, peer: str) -> int:
        """All our exchanges with `peer` below this seq are finished."""
        return min(self._open.get(peer, ()), default=self._next_seq)

    def overdue(self, now: float) -> list[Pending]:
        """Unresolved exchanges whose next RESOLVE is due."""
        return [p for p in self if p.unresolved and p.next_attempt <= now]

    def expire(self, now: float) -> list[Pending]:
        """Give up, and return, what was left to RESOLVE for longer than the horizon."""
        late = [p for p in self if p.unresolved and now - p.unresolved_since > self._horizon_s]
        for pending in late:
            self.close(pending)
        return late


@dataclass(slots=True)
class Kept:
    """An answer that may be asked for again.

    Attributes:
        is_mixing: its arithmetic still runs; only then the answer is whole.
    """

    answer: Flow | Adopted | Cancelled
    nbytes: int
    since: float
    is_mixing: bool = False


@dataclass(slots=True)
class _Asker:
    incarnation: int
    floor: int
    kept: dict[int, Kept]


class Inbox:
    """The answerer's half: answers by (peer, incarnation, seq), inside a byte budget."""

    def __init__(self, *, horizon_s: float, limit_bytes: int, limit_askers: int) -> None:
        # the asker waits for up to one horizon, then resolves for another; a quarter more, so that
        # clocks of slightly different speed do no harm
        self._horizon_s = horizon_s * 2.25
        self.limit = limit_bytes
        self._limit_askers = limit_askers
        self._askers: dict[str, _Asker] = {}
        self.nbytes = 0
        self.arriving_bytes = 0

    def __len__(self) -> int:
        return sum(len(asker.kept) for asker in self._askers.values())

    def has_room(self, nbytes: int) -> bool:
        """Whether an answer of `nbytes` more fits, counting payloads that are arriving."""
        return self.nbytes + self.arriving_bytes + nbytes <= self.limit

    def has_place(self, peer: str) -> bool:
        """Whether one more exchange of `peer` can be kept: strangers choose names and numbers."""
        asker = self._askers.get(peer)
        if asker is not None:
            return len(asker.kept) < _MOST_KEPT
        return len(self._askers) < self._limit_askers or self._idle() is not None

    def hear(self, peer: str, incarnation: int, floor: int) -> bool:
        """Note what the asker has finished with; False for a packet of an earlier incarnation."""
        asker = self._askers.get(peer)
        if asker is None:
            # an empty record is only worth its memory where it can refuse something
            if (floor > 0 or incarnation > 1) and self.has_place(peer):
                self._record(peer, incarnation, floor)
            return True
        if incarnation < asker.incarnation:
            return False
        if incarnation > asker.incarnation:
            # a restarted asker has no pending exchanges: nobody will ask for these answers again
            self._drop(asker, list(asker.kept))
            asker.incarnation, asker.floor = incarnation, floor
            return True
        asker.floor = max(asker.floor, floor)
        self._drop(asker, [seq for seq in asker.kept if seq < floor])
        return True

    def find(self, peer: str, seq: int) -> Kept | None:
        """The kept answer to exchange `seq` of `peer`'s present incarnation."""
        asker = self._askers.get(peer)
        return asker.kept.get(seq) if asker else None

    def is_finished(self, peer: str, seq: int) -> bool:
        """Whether the asker itself said it is done with `seq`: a late or repeated packet."""
        asker = self._askers.get(peer)
        return asker is not None and seq < asker.floor

    def keep(
        self, peer: str, incarnation: int, answer: Flow | Adopted | Cancelled, now: float
    ) -> Kept:
        """Exchange `answer.seq` ends like this, whenever it is asked about again.

        `find` gave None for it, and `has_place` was true.
        """
        asker = self._askers.get(peer) or self._record(peer, incarnation, 0)
        kept = asker.kept[answer.seq] = Kept(answer, kept_bytes(answer), now)
        self.nbytes += kept.nbytes
        return kept

    def expire(self, now: float) -> None:
        """Forget what nobody can ask for any more, and refuse it should it come after all."""
        for asker in self._askers.values():
            late = [
                seq
                for seq, kept in asker.kept.items()
                if now - kept.since > self._horizon_s and not kept.is_mixing
            ]
            if late:
                asker.floor = max(asker.floor, max(late) + 1)
                self._drop(asker, late)

    def _idle(self) -> str | None:
        """The asker known longest of those for whom nothing is kept."""
        return next((peer for peer, asker in self._askers.items() if not asker.kept), None)

    def _record(self, peer: str, incarnation: int, floor: int) -> _Asker:
        if len(self._askers) >= self._limit_askers and (idle := self._idle()) is not None:
            del self._askers[idle]
        asker = self._askers[peer] = _Asker(incarnation, floor, {})
        return asker

    def _drop(self, asker: _Asker, seqs: list[int]) -> None:
        for seq in seqs:
            self.nbytes -= asker.kept.pop(seq).nbytes


def kept_bytes(answer: Answer) -> int:
    """What keeping an answer costs."""
    payload = payload_of(answer)
    return payload.data.nbytes if payload is not None else 0
