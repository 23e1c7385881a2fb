"""Which member is asked whether it is there, and when.

Rule of the file: one probe per interval in turn, a bounded number out of turn, and one attempt per
interval to reach somebody dead; the worse our own health, the slower and the more patient
(Lifeguard, LHA-Probe). A probe that fails directly is tried through others before it counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from p2pfl.config import MembershipConfig
from p2pfl.core.members import UNTOLD, Member, Members
from p2pfl.core.messages import Status

RETRY_MAX_S = 30.0
"""Longest pause between two attempts to reach a dead member, and so how long healing may take."""
URGENT_PROBES = 4
"""Members asked out of turn per probe interval: the most that accusations make us send."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A probe to send now.

    Attributes:
        target: who is asked for.
        addresses: where it is reached, best first; trying the first one is enough.
        timeout_s: how long to wait before it is `unanswered`.
        via: (id, address) of the members to ask for an indirect probe; empty for a direct one.
    """

    target: str
    addresses: tuple[str, ...]
    timeout_s: float
    via: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Flight:
    """A probe on its way: `given_up` is when it ends even if nobody reports about it."""

    sent: float
    deadline: float
    given_up: float
    helped: bool = False

    @property
    def is_direct(self) -> bool:
        return self.given_up > self.deadline


class Probing:
    """Which member is asked when: in turn, out of turn, through others, and again once dead.

    Attributes:
        health: Lifeguard's local health, 0 is well; probes take 1 + health times as long.
    """

    def __init__(
        self, members: Members, config: MembershipConfig, rng: np.random.Generator
    ) -> None:
        self.health = 0
        self._members, self._config, self._rng = members, config, rng
        self._next_turn = self._next_retry = -math.inf
        self._round: list[str] = []
        self._urgent: dict[str, None] = {}
        self._budget = URGENT_PROBES
        self._indirect: dict[str, float] = {}
        self._flights: dict[str, _Flight] = {}
        self._retries: list[tuple[float, str]] = []

    def asks(self, now: float) -> list[Ask]:
        """Probes to send now."""
        return [
            *self._in_turn(now),
            *self._out_of_turn(now),
            *self._through_others(now),
            *self._again(now),
        ]

    def due(self) -> float:
        """When `asks` or `overdue` will have something next."""
        due = min([self._next_turn, *(flight.given_up for flight in self._flights.values())])
        return min(due, max(self._retries[0][0], self._next_retry)) if self._retries else due

    def enter(self, node: str) -> None:
        """A new one takes its place in the round by chance."""
        if len(self._round) < self._members.live_count:
            self._round.insert(int(self._rng.integers(len(self._round) + 1)), node)

    def hurry(self, node: str) -> None:
        """Ask a member out of turn."""
        self._urgent[node] = None

    @property
    def is_idle(self) -> bool:
        """Whether there is room for a question that does not matter much."""
        return len(self._urgent) < URGENT_PROBES

    def worse(self) -> None:
        """Something speaks against our own health."""
        self.health = min(self.health + 1, self._config.awareness_max - 1)

    def was_away(self) -> None:
        """We did not run, so nobody could answer us."""
        self.worse()
        self._flights.clear()
        self._indirect.clear()

    def answered(self, target: str) -> None:
        """A probe succeeded."""
        if self._flights.pop(target, None) is not None:
            self.health = max(0, self.health - 1)

    def helped(self, target: str) -> None:
        """Somebody asked to probe for us told that it could not: our own network works."""
        if target in self._flights:
            self._flights[target].helped = True

    def overdue(self, now: float) -> list[str]:
        """Targets whose probe nobody reported about in time."""
        return [target for target, flight in self._flights.items() if now >= flight.given_up]

    def failed(self, target: str, now: float) -> bool:
        """A probe failed; whether that makes its target suspect, all ways having been tried."""
        flight, member = self._flights.pop(target, None), self._members.known.get(target)
        if flight is None or member is None:
            return False
        if flight.is_direct:
            member.rotate()
        if member.status is Status.DEAD or member.heard > flight.sent:
            return False
        if now > flight.given_up + self._config.probe_interval_s:
            self.worse()
            return False
        others = len(self._members.alive()) - 1 - (member.status is Status.ALIVE)
        if flight.is_direct and self._config.indirect_probes and others:
            self._indirect[target] = flight.sent
            return False
        if not flight.helped:
            self.worse()
        return True

    def retry(self, member: Member, now: float) -> None:
        """Plan to ask a dead member again, after ever longer pauses."""
        if member.due == math.inf:
            member.retry_s = RETRY_MAX_S if member.left else self._config.probe_interval_s
        member.due = now + member.retry_s * self._rng.uniform(0.75, 1.0)
        member.retry_s = min(2 * member.retry_s, RETRY_MAX_S)
        heappush(self._retries, (member.due, member.node))

    def _in_turn(self, now: float) -> Iterator[Ask]:
        """Every interval, the next of a shuffled round of all who did not speak just now."""
        if now < self._next_turn:
            return
        interval = self._config.probe_interval_s
        if self._next_turn == -math.inf:
            # nodes that start together do not probe together
            self._next_turn = now + interval * self._rng.random()
            return
        self._next_turn = now + interval * (1 + self.health)
        self._budget = URGENT_PROBES
        for refilled in (False, True):
            if refilled:
                live = self._members.live()
                self._round = [live[i] for i in self._rng.permutation(len(live))]
            while self._round:
                member = self._members.living(self._round.pop())
                if member is None or member.node in self._flights:
                    continue
                is_fresh = now - member.heard < self._config.probe_timeout_s
                if not is_fresh or member.told == UNTOLD or member.status is Status.SUSPECT:
                    yield self._direct(member, now)
                    return

    def _out_of_turn(self, now: float) -> Iterator[Ask]:
        while self._urgent and self._budget:
            node = next(iter(self._urgent))
            del self._urgent[node]
            member = self._members.living(node)
            if member is not None and node not in self._flights:
                self._budget -= 1
                yield self._direct(member, now)

    def _through_others(self, now: float) -> Iterator[Ask]:
        """Indirect probes may take twice as long: there are two requests to wait for."""
        most, alive = self._config.indirect_probes, self._members.alive()
        timeout = 2 * self._config.probe_timeout_s * (1 + self.health)
        for target, sent in self._indirect.items():
            member = self._members.living(target)
            if member is None or member.heard > sent:
                continue
            chosen = self._rng.choice(len(alive), min(len(alive), most + 2), replace=False)
            relays = [alive[i] for i in chosen if alive[i] not in (self._members.me, target)]
            via = tuple((n, self._members.known[n].addresses[0]) for n in relays[:most])
            self._flights[target] = _Flight(sent, now + timeout, now + timeout)
            yield Ask(target, member.addresses, timeout, via)
        self._indirect.clear()

    def _again(self, now: float) -> Iterator[Ask]:
        """The dead, one per interval."""
        while self._retries and max(self._retries[0][0], self._next_retry) <= now:
            at, node = heappop(self._retries)
            member = self._members.known.get(node)
            if member is None or member.status is not Status.DEAD or member.due != at:
                continue
            if now - member.since > self._config.forget_dead_after_s:
                self._members.forget(node)
                continue
            self.retry(member, now)
            if member.addresses:
                self._next_retry = now + self._config.probe_interval_s
                yield self._direct(member, now)

    def _direct(self, member: Member, now: float) -> Ask:
        timeout = self._config.probe_timeout_s * (1 + self.health)
        given_up = now + timeout + self._config.probe_interval_s
        self._flights[member.node] = _Flight(now, now + timeout, given_up)
        return Ask(member.node, member.addresses, timeout)
