"""What nodes say of themselves, passed on until everybody has heard it: for people to look at.

Every message to a member carries our own report, if the member has not heard our newest one, and a
few of others: those learnt most recently of those passed on least often, as rumours are spread
(SWIM, section 4.1); once all have been passed on, one more in turn.

All of it is hearsay, except what comes from its author: nobody checks it, and nothing but what
people see depends on it. It is bounded in size and number, and in how wrong it stays: hearsay is
not believed to be newer than its author can have made it since it last spoke to us, and its
author's own words replace it.

Rule of the file: constant time per report, whatever the size of the swarm: nothing is sorted.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from p2pfl.core.messages import Report

RENEWED_S = 1.0
"""A node makes at most one report of itself in this time."""

_TELLINGS = 4
"""So often a report is passed on, to readers by chance; its next one comes in a second or so."""
_JUMP = 1000
"""Starts that hearsay may be ahead of its author's own words, as in `core.members`."""
_SLACK = 10
"""Reports that hearsay may be ahead besides: clocks differ, and words are delayed."""


@dataclass(slots=True, eq=False)
class Told:
    """The newest report of one node.

    Attributes:
        made: when it was made, by our clock: when it came, less its age then.
        own: (incarnation, number) of the newest one that its author gave us itself.
        own_at: when that was.
        tellings: how often this one was passed on.
    """

    report: Report
    made: float
    own: tuple[int, int] = (-1, -1)
    own_at: float = -math.inf
    tellings: int = 0

    @property
    def version(self) -> tuple[int, int]:
        """(incarnation, number); the larger one is newer."""
        return self.report.incarnation, self.report.number

    def may_be(self, incarnation: int, number: int, now: float) -> bool:
        """Whether hearsay may be this much newer than its author's own words."""
        if self.own[0] < 0:
            return True
        if incarnation != self.own[0]:
            return self.own[0] < incarnation <= self.own[0] + _JUMP
        return number <= self.own[1] + _SLACK + 2 * (now - self.own_at) / RENEWED_S


class Reports:
    """The newest report of each node, and what is passed on of them.

    Args:
        me: own id.
        per_message: reports that ride on one message.
        limit: nodes whose reports are kept; the one learnt longest ago is forgotten first.

    Attributes:
        number: of our own newest report; 0 before the first.
    """

    def __init__(self, me: str, per_message: int, limit: int) -> None:
        self._me, self._per_message, self._limit = me, per_message, limit
        self.number = 0
        self._own: Told | None = None
        self._readers: dict[str, int] = {}
        self._told: dict[str, Told] = {}
        # by how often they were passed on: ids, the one learnt or passed on last at the end
        self._waiting: tuple[dict[str, None], ...] = tuple({} for _ in range(_TELLINGS))
        self._live: Container[str] = ()
        self._turn: list[str] = []

    def __len__(self) -> int:
        return len(self._told)

    def keep(self, live: Container[str]) -> None:
        """Who is live: only of these anything is heard or passed on from now on."""
        self._live = live

    def is_due(self, now: float) -> bool:
        """Whether our own report may be renewed."""
        return self._own is None or now - self._own.made >= RENEWED_S

    def renew(self, report: Report, now: float) -> None:
        """Our own newest report; its number is larger than the one before."""
        self.number = report.number
        self._own = Told(report, now)

    def ride(self, reader: str, now: float) -> tuple[Report, ...]:
        """What a message to a member carries; each call counts as telling."""
        room, riding = self._per_message, []
        if room and self._own is not None and self._is_news_to(reader, self._own):
            riding.append(self._own)
            room -= 1
        told = self._fresh(reader, room)
        one = self._in_turn() if len(told) < room else None
        if one is not None and one not in told and one.report.node != reader:
            told.append(one)
        return tuple([_aged(each.report, max(now - each.made, 0.0)) for each in riding + told])

    def hear(self, reports: tuple[Report, ...], sender: str, now: float) -> None:
        """Take in what a member said of itself and of others; what is older changes nothing."""
        for report in reports:
            node, version = report.node, (report.incarnation, report.number)
            if node == self._me or node not in self._live:
                continue
            known, made = self._told.get(node), now - report.ago_s
            if node == sender:
                if known is None or version > known.own:
                    self._learn(Told(report, made, version, now))
            elif known is None:
                self._learn(Told(report, made))
            elif version > known.version and known.may_be(*version, now):
                self._learn(Told(report, made, known.own, known.own_at))

    def newest(self) -> tuple[Told, ...]:
        """What is known of others, in no order."""
        return tuple(self._told.values())

    def _learn(self, told: Told) -> None:
        node = told.report.node
        known = self._told.pop(node, None)
        if known is None:
            if len(self._told) >= self._limit:
                self._told.pop(longest_known := next(iter(self._told)))
                self._withhold(longest_known)
            self._waiting[0][node] = None
        elif known.version == told.version:
            told.tellings = known.tellings  # the author's own words for what others said of it
        else:
            self._withhold(node)
            self._waiting[0][node] = None
        self._told[node] = told

    def _withhold(self, node: str) -> None:
        for waiting in self._waiting:
            waiting.pop(node, None)

    def _is_news_to(self, reader: str, own: Told) -> bool:
        """Whether a reader was not told our newest report; it is from now on."""
        last = self._readers.pop(reader, None)
        if last is None and len(self._readers) >= self._limit:
            del self._readers[next(iter(self._readers))]
        self._readers[reader] = own.report.number
        return last != own.report.number

    def _fresh(self, reader: str, room: int) -> list[Told]:
        """The least often told first, and the newest of these."""
        found: list[Told] = []
        back: list[tuple[int, str]] = []
        for tellings, waiting in enumerate(self._waiting):
            while waiting and len(found) < room:
                node, _ = waiting.popitem()
                if node not in self._live:
                    continue
                if node == reader:
                    back.append((tellings, node))
                    continue
                told = self._told[node]
                told.tellings = tellings + 1
                found.append(told)
                if told.tellings < _TELLINGS:
                    back.append((told.tellings, node))
        # only now, or it would be told again at once; the newest last
        for tellings, node in reversed(back):
            self._waiting[tellings][node] = None
        return found

    def _in_turn(self) -> Told | None:
        """One of the live ones, so that what was lost arrives in the end."""
        if not self._turn:
            self._turn = list(self._told)
        node = self._turn.pop() if self._turn else ""
        return self._told.get(node) if node in self._live else None


def _aged(report: Report, ago_s: float) -> Report:
    """`dataclasses.replace`, several times as fast."""
    return Report(
        report.node,
        report.incarnation,
        report.number,
        ago_s,
        report.name,
        report.state,
        report.age,
        report.own_steps,
        report.cycles,
        report.cycle_s,
        report.loss,
        report.accuracy,
        report.staleness,
        report.distance,
        report.bytes_in,
        report.bytes_out,
        report.recent,
        report.holding,
    )
