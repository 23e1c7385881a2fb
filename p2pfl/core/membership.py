"""Who is alive: SWIM with Lifeguard's local health, told the time and never asking it.

    packet arrives    heard(sender, ...), learn(rumours, sender), then answer with rumours_for(sender)
    request failed    failed(peer)
    every moment      tick() -> probes to send now; answered(), helped() or unanswered() report them
    goodbye           leave()

What is believed of a member is ordered by version = (incarnation, refutation), then by status, dead
over suspect over alive: the larger belief wins, so rumours may come in any order and any number of
times. Only the member itself makes new versions: an incarnation when it starts, a refutation when
it learns that it is suspected, or when it leaves (dead, and no address to be found at).

Rules of the file:
- Direct contact is proof. Whoever speaks to us is alive for us at once, whatever is said of it. The
  others learn it from the member: we tell it first thing (`rumours_for`) that it is suspected, it
  takes the next refutation, and that rides on everything it says and spreads as news.
- A suspicion is vouched for, never just passed on: who hears one asks the member itself, and spreads
  it only if that fails, or if enough others vouched. So whoever sends us a suspicion confirms it,
  and Lifeguard's timeout shrinks with the number of senders.
- Hearsay is bounded: it may run ahead of what the member itself told us by `HEARSAY_JUMP`, and not
  at all once the member's own words have shown it wrong. A lie lasts until the next direct contact,
  and everybody who is dead is asked again, at least every `RETRY_MAX_S`.
- A caller that comes late was not running: that is held against our health, not against others.

SWIM: Das, Gupta & Motivala, DSN 2002. Lifeguard: Dadgar, Phillips & Currey, arXiv:1707.00788.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, nsmallest
from typing import TypeAlias

import numpy as np

from p2pfl.config import MembershipConfig
from p2pfl.core.events import MemberChanged
from p2pfl.core.messages import Rumour, Status

Version: TypeAlias = tuple[int, int]
"""(incarnation, refutation)."""

HEARSAY_JUMP = 1000
"""Hearsay may be ahead by this many starts, refutations or local steps; honest news never is, or
only of a member that has not spoken to us for so long that asking it again is due anyway."""
RETRY_MAX_S = 30.0
"""Longest pause between two attempts to reach a dead member: how long healing may take."""
URGENT_PROBES = 4
"""Members asked out of turn per probe interval: what accusations may make us send."""
GREETING = 64
"""Members that a newcomer is told of by each one it meets; the rest it hears by and by."""
ADDRESSES = 4
"""Addresses kept of a member, best first."""

_RANK = {Status.ALIVE: 0, Status.SUSPECT: 1, Status.DEAD: 2}
_UNTOLD: Version = (-1, -1)


@dataclass(frozen=True, slots=True)
class Ask:
    """A probe to send now.

    Attributes:
        target: who is asked for.
        addresses: where it is reached, best first; the first one is enough.
        timeout_s: how long to wait before it counts as `unanswered`.
        via: (id, address) of members to ask for an indirect probe; empty for a direct one.
    """

    target: str
    addresses: tuple[str, ...]
    timeout_s: float
    via: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Member:
    """What is believed of one member.

    Attributes:
        version: of the belief.
        own_steps: local steps it has taken, newest known by any route.
        since: when it took its status.
        heard: when it last spoke to us, or when we first heard of it.
        told, told_steps: version and steps in its own words, (-1, -1) before the first of them.
        slack: how far hearsay may be ahead of `told`.
        left: it said goodbye.
        accusers: whose suspicions are counted.
        due: when a suspect is dead, or a dead one is asked again.
        retry_s: pause before the retry after that.
    """

    node: str
    addresses: tuple[str, ...]
    status: Status
    since: float
    heard: float
    version: Version = _UNTOLD
    own_steps: int = 0
    told: Version = _UNTOLD
    told_steps: int = 0
    slack: int = HEARSAY_JUMP
    left: bool = False
    accusers: tuple[str, ...] = ()
    due: float = math.inf
    retry_s: float = 0.0

    @property
    def incarnation(self) -> int:
        """How often it was started."""
        return self.version[0]


@dataclass(slots=True)
class _Probe:
    sent: float
    deadline: float
    direct: bool
    helped: bool = False


class Membership:
    """One node's view of all others.

    Args:
        me: own id.
        incarnation: how often this id was started.
        config: intervals, timeouts and multipliers.
        rng: chance.
        max_peers: others known at most, alive or dead.

    Attributes:
        refutation: how often this incarnation had to say that it is alive; goes into every packet.
        claimed: largest incarnation that rumours give this id. More than our own means that our
            state was set back, or copied: start next time with a larger one.
        due: when `tick` has something to do; before that it returns at once.
    """

    def __init__(
        self,
        me: str,
        incarnation: int,
        config: MembershipConfig,
        rng: np.random.Generator,
        *,
        max_peers: int,
    ) -> None:
        self.refutation, self.claimed, self.due = 0, incarnation, -math.inf
        self._me, self._incarnation, self._config, self._rng = me, incarnation, config, rng
        self._max_peers = max_peers
        self._members: dict[str, Member] = {}
        self._dead: dict[str, None] = {}
        self._live: tuple[str, ...] | None = None
        self._alive: tuple[str, ...] | None = None
        self._changes: list[MemberChanged] = []
        self._leaving = False
        # probing
        self._health = 0
        self._next_probe = self._next_retry = -math.inf
        self._promised = math.inf
        self._round: list[str] = []
        self._urgent: dict[str, None] = {}
        self._budget = URGENT_PROBES
        self._indirect: dict[str, float] = {}
        self._probes: dict[str, _Probe] = {}
        self._expiries: list[tuple[float, str]] = []
        self._retries: list[tuple[float, str]] = []
        # news
        self._news: dict[str, int] = {}
        self._accused: set[str] = set()
        self._greetings: dict[str, tuple[int, int]] = {}
        self._cursor = int(rng.integers(1 << 30))

    # --- evidence -------------------------------------------------------------------------------

    def heard(
        self,
        node: str,
        addresses: tuple[str, ...],
        incarnation: int,
        refutation: int,
        own_steps: int,
        now: float,
    ) -> list[MemberChanged]:
        """A member spoke to us: a request or an answer of its own, with these fields.

        Older words than the last ones change nothing: a packet was late, or of an earlier life.

        Args:
            addresses: where it was reached or says it serves; may be empty if others passed it on.
        """
        member, version = self._members.get(node), (incarnation, refutation)
        if (
            member is not None
            and member.told == version == member.version
            and member.status is Status.ALIVE
        ):
            member.heard = now
            if own_steps > member.told_steps:
                member.told_steps = own_steps
                member.own_steps = max(member.own_steps, own_steps)
            for address in addresses:
                if address not in member.addresses:
                    self._found(member, addresses, best=True)
            return []
        if member is None:
            member = self._admit(node, addresses, now, speaks=True) if addresses else None
        elif version < member.told or (member.left and version == member.told == member.version):
            member = None
        if member is not None and (member.addresses or addresses):
            self._take_word(member, addresses, version, own_steps, now)
        return self.changes()

    def _take_word(
        self,
        member: Member,
        addresses: tuple[str, ...],
        version: Version,
        own_steps: int,
        now: float,
    ) -> None:
        before, was = member.version, member.status
        if version[0] < before[0] or (version < before and was is not Status.ALIVE):
            member.version, member.slack = version, 0
        else:
            member.version = max(before, version)
            if version > member.told:
                member.slack = HEARSAY_JUMP
        if version[0] > member.told[0]:
            member.own_steps = own_steps
        member.own_steps = max(member.own_steps, own_steps)
        member.told, member.told_steps, member.heard = version, own_steps, now
        self._found(member, addresses, best=True)
        restarted = version[0] > before[0]
        if was is not Status.ALIVE or restarted:
            member.left = False
            reason = "met" if before == _UNTOLD else "restarted" if restarted else "heard"
            self._become(member, Status.ALIVE, reason, now)
        if was is Status.DEAD or restarted:
            self._greetings[member.node] = (int(self._rng.integers(1 << 30)), GREETING)
        if member.version > before:
            self._accused.discard(member.node)
            self._spread(member.node)
        elif was is not Status.ALIVE:
            self._accused.add(member.node)

    def failed(self, node: str, now: float) -> list[MemberChanged]:
        """A request to a member failed: try its next address, and find out by probes."""
        member = self._members.get(node)
        if member is not None:
            member.addresses = member.addresses[1:] + member.addresses[:1]
            if member.status is not Status.DEAD:
                self._hurry(node, now)
        return self.changes()

    def learn(self, rumours: Iterable[Rumour], sender: str, now: float) -> list[MemberChanged]:
        """Take in what `sender` says of members, ourselves included."""
        for rumour in rumours:
            if rumour.node == self._me:
                self._answer_rumour(rumour)
                continue
            member = self._members.get(rumour.node)
            if member is None:
                if not rumour.addresses and rumour.status is not Status.DEAD:
                    continue
                member = self._admit(rumour.node, rumour.addresses, now, speaks=False)
            elif not _is_plausible(member, rumour):
                continue
            if member is not None:
                self._merge(member, rumour, sender, now)
        return self.changes()

    def _merge(self, member: Member, rumour: Rumour, sender: str, now: float) -> None:
        version, before, was = (
            (rumour.incarnation, rumour.refutation),
            member.version,
            member.status,
        )
        if (version, _RANK[rumour.status]) < (before, _RANK[was]):
            return
        steps = rumour.own_steps
        if member.told[0] == rumour.incarnation:
            steps = min(steps, member.told_steps + HEARSAY_JUMP)
        restarted = rumour.incarnation > before[0]
        member.own_steps = steps if restarted else max(member.own_steps, steps)
        self._found(member, rumour.addresses, best=restarted)
        if version == before and rumour.status is was:
            if was is Status.SUSPECT:
                self._accuse(member, sender, now)
            return
        member.version = version
        if sender == rumour.node:
            member.told = version
        if rumour.status is Status.SUSPECT:
            self._become(member, Status.SUSPECT, f"suspected by {sender}", now)
            self._accuse(member, sender, now)
            self._hurry(member.node, now)
            return
        if rumour.status is Status.ALIVE:
            member.left = False
            if was is not Status.ALIVE or restarted:
                self._become(member, Status.ALIVE, "rumour", now)
        elif was is not Status.DEAD and self._knows_better(member, before, now):
            if was is Status.ALIVE:
                self._become(member, Status.SUSPECT, f"dead to {sender}", now)
            self._expire_at(member, now + self._suspicion_s())
            self._hurry(member.node, now)
            return
        else:
            member.left = not rumour.addresses
            if was is not Status.DEAD:
                self._become(member, Status.DEAD, "left" if member.left else "rumour", now)
        self._spread(member.node)

    def _knows_better(self, member: Member, before: Version, now: float) -> bool:
        """Whether it spoke to us more recently than others can have waited for it in vain."""
        return member.told == member.version == before and now - member.heard < self._suspicion_s()

    def _answer_rumour(self, rumour: Rumour) -> None:
        """Refute what is said against us; only our own counter can."""
        if rumour.incarnation > self._incarnation:
            if rumour.incarnation <= self._incarnation + HEARSAY_JUMP:
                self.claimed = max(self.claimed, rumour.incarnation)
            return
        ahead = rumour.refutation - self.refutation
        is_current = rumour.incarnation == self._incarnation and 0 <= ahead <= HEARSAY_JUMP
        if is_current and rumour.status is not Status.ALIVE and not self._leaving:
            self.refutation = rumour.refutation + 1
            self._worse()
            self._spread(self._me)

    # --- probing --------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Ask]:
        """What to send now; what time alone decided is told by `changes`."""
        if now < self.due:
            return []
        if now - self._promised > self._config.probe_interval_s:
            self._was_away(now - self._promised)
        for target, probe in list(self._probes.items()):
            if now >= probe.deadline + (self._config.probe_interval_s if probe.direct else 0):
                self._no_answer(target, now)
        self._expire(now)
        asks = [*self._in_turn(now), *self._out_of_turn(now), *self._through_others(now)]
        asks += self._retry(now)
        self.due = min(
            self._next_probe,
            min((probe.deadline for probe in self._probes.values()), default=math.inf),
            self._expiries[0][0] if self._expiries else math.inf,
            max(self._retries[0][0], self._next_retry) if self._retries else math.inf,
        )
        self._promised = self.due = max(self.due, math.nextafter(now, math.inf))
        return asks

    def answered(self, target: str, now: float) -> None:
        """A probe was answered by its target, directly or through others."""
        if self._probes.pop(target, None) is not None:
            self._health = max(0, self._health - 1)

    def helped(self, target: str) -> None:
        """A member asked to probe for us answered that it could not: our own network works."""
        if target in self._probes:
            self._probes[target].helped = True

    def unanswered(self, target: str, now: float) -> list[MemberChanged]:
        """A probe failed, or nobody answered in time; indirect ones also end by themselves."""
        if target in self._probes:
            self._no_answer(target, now)
        return self.changes()

    def changes(self) -> list[MemberChanged]:
        """What changed since somebody was last told."""
        changes, self._changes = self._changes, []
        return changes

    def _no_answer(self, target: str, now: float) -> None:
        probe, member = self._probes.pop(target), self._members.get(target)
        if member is None:
            return
        if probe.direct:
            member.addresses = member.addresses[1:] + member.addresses[:1]
        if member.status is Status.DEAD or member.heard > probe.sent:
            return
        if now > probe.deadline + self._config.probe_interval_s:
            self._worse()
        elif probe.direct and self._config.indirect_probes and len(self.alive()) > 2:
            self._indirect[target] = probe.sent
            self.due = min(self.due, now)
        else:
            if not probe.helped:
                self._worse()
            if member.status is Status.ALIVE:
                self._become(member, Status.SUSPECT, "no answer", now)
            self._accuse(member, self._me, now)

    def _in_turn(self, now: float) -> Iterable[Ask]:
        """Every interval, the next of a shuffled round of all who did not speak just now."""
        if now < self._next_probe:
            return
        interval = self._config.probe_interval_s
        if self._next_probe == -math.inf:
            # nodes that start together do not probe together
            self._next_probe = now + interval * self._rng.random()
            return
        self._next_probe = now + interval * (1 + self._health)
        self._budget = URGENT_PROBES
        for refill in (False, True):
            if refill:
                live = self.live()
                self._round = [live[i] for i in self._rng.permutation(len(live))]
            while self._round:
                member = self._members.get(self._round.pop())
                if member is None or member.status is Status.DEAD or member.node in self._probes:
                    continue
                fresh = now - member.heard < self._config.probe_timeout_s
                if not fresh or member.told == _UNTOLD or member.status is Status.SUSPECT:
                    yield self._direct(member, now)
                    return

    def _out_of_turn(self, now: float) -> Iterable[Ask]:
        while self._urgent and self._budget:
            node = next(iter(self._urgent))
            del self._urgent[node]
            member = self._members.get(node)
            if member and member.status is not Status.DEAD and node not in self._probes:
                self._budget -= 1
                yield self._direct(member, now)

    def _direct(self, member: Member, now: float) -> Ask:
        timeout = self._config.probe_timeout_s * (1 + self._health)
        self._probes[member.node] = _Probe(now, now + timeout, direct=True)
        return Ask(member.node, member.addresses, timeout)

    def _through_others(self, now: float) -> Iterable[Ask]:
        """Indirect probes take twice as long: there are two requests to wait for."""
        timeout = 2 * self._config.probe_timeout_s * (1 + self._health)
        for target, sent in self._indirect.items():
            member, alive = self._members.get(target), self.alive()
            if member is None or member.status is Status.DEAD or member.heard > sent:
                continue
            count = min(len(alive), self._config.indirect_probes + 2)
            chosen = [alive[i] for i in self._rng.choice(len(alive), count, replace=False)]
            relays = [self._members[n] for n in chosen if n not in (self._me, target)]
            via = [(m.node, m.addresses[0]) for m in relays[: self._config.indirect_probes]]
            self._probes[target] = _Probe(sent, now + timeout, direct=False)
            yield Ask(target, member.addresses, timeout, tuple(via))
        self._indirect.clear()

    def _retry(self, now: float) -> Iterable[Ask]:
        """Ask the dead again, one per interval, each after ever longer pauses."""
        while self._retries and max(self._retries[0][0], self._next_retry) <= now:
            at, node = heappop(self._retries)
            member = self._members.get(node)
            if member is None or member.status is not Status.DEAD or member.due != at:
                continue
            if now - member.since > self._config.forget_dead_after_s:
                self._drop(member, now)
                continue
            self._retry_later(member, now)
            if member.addresses:
                self._next_retry = now + self._config.probe_interval_s
                yield self._direct(member, now)

    def _retry_later(self, member: Member, now: float) -> None:
        member.due = now + member.retry_s * self._rng.uniform(0.75, 1.0)
        member.retry_s = min(2 * member.retry_s, RETRY_MAX_S)
        heappush(self._retries, (member.due, member.node))

    def _hurry(self, node: str, now: float) -> None:
        self._urgent[node] = None
        self.due = min(self.due, now)

    def _worse(self) -> None:
        self._health = min(self._health + 1, self._config.awareness_max - 1)

    def _was_away(self, late_s: float) -> None:
        """We did not run for a while: nobody could answer us, so nobody's time is up."""
        self._worse()
        self._probes.clear()
        for member in self._members.values():
            if member.status is Status.SUSPECT:
                member.since += late_s
                member.due += late_s
        self._expiries = [
            (m.due, m.node) for m in self._members.values() if m.status is Status.SUSPECT
        ]
        heapify(self._expiries)

    # --- suspicion ------------------------------------------------------------------------------

    def _suspicion_s(self) -> float:
        """How long a suspect has at least: mult x log10(n + 1) intervals, and no less than mult."""
        n = len(self._members) - len(self._dead) + 1
        config = self._config
        return config.suspicion_mult * max(1.0, math.log10(n + 1)) * config.probe_interval_s

    def _accuse(self, member: Member, accuser: str, now: float) -> None:
        """Count a suspicion (Lifeguard section IV-B).

        With c confirmations of k expected, a suspect has max - (max - min) log(c+1) / log(k+1).
        """
        n = len(self._members) - len(self._dead) + 1
        expected = max(0, round(self._config.suspicion_mult) - 2)
        expected = expected if n - 2 >= expected else 0
        enough = len(member.accusers) > expected
        if accuser in member.accusers or (enough and accuser != self._me):
            return
        member.accusers += (accuser,)
        confirmed = len(member.accusers) - 1
        least = self._suspicion_s()
        most = least * max(1.0, self._config.suspicion_max_mult)
        share = min(1.0, math.log(confirmed + 1) / math.log(expected + 1)) if expected else 1.0
        self._expire_at(member, member.since + most - share * (most - least))
        if accuser == self._me or confirmed >= expected:
            self._spread(member.node)

    def _expire_at(self, member: Member, at: float) -> None:
        if at < member.due:
            member.due = at
            heappush(self._expiries, (at, member.node))
            self.due = min(self.due, at)

    def _expire(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            at, node = heappop(self._expiries)
            member = self._members.get(node)
            if member is not None and member.status is Status.SUSPECT and member.due == at:
                self._become(member, Status.DEAD, "suspicion confirmed", now)
                self._spread(node)

    # --- news -----------------------------------------------------------------------------------

    def rumours(self, limit: int | None = None) -> tuple[Rumour, ...]:
        """News for somebody unknown, the least often told first; each call counts as telling."""
        return self.rumours_for("", limit)

    def rumours_for(self, node: str, limit: int | None = None) -> tuple[Rumour, ...]:
        """News for a member: what is believed of itself, if it should refute that; then as `rumours`.

        Free room holds one member taken in turn, or for a newcomer as many as fit.

        Args:
            limit: rumours at most; None for `rumours_per_message`.
        """
        limit = self._config.rumours_per_message if limit is None else limit
        told: list[Rumour] = [self._of_me()] if self._leaving else []
        member = self._members.get(node)
        if member is not None and (member.status is not Status.ALIVE or node in self._accused):
            status = Status.SUSPECT if member.status is Status.ALIVE else member.status
            told.append(replace(_of(member), status=status))
        if self._news:
            told += self._newest(node, limit - len(told))
        if len(told) < limit:
            told += self._in_passing(node, limit - len(told))
        return tuple(told[:limit])

    def _newest(self, node: str, room: int) -> Iterable[Rumour]:
        times = self._config.retransmit_mult * math.ceil(math.log10(len(self.live()) + 1))
        for name in nsmallest(room + 1, self._news, key=self._news.__getitem__)[: max(0, room)]:
            if name == node:
                continue
            yield self._of_me() if name == self._me else _of(self._members[name])
            self._news[name] += 1
            if self._news[name] >= times:
                del self._news[name]

    def _in_passing(self, node: str, room: int) -> Iterable[Rumour]:
        alive = self.alive()
        start, owed = self._greetings.get(node, (self._cursor, 1))
        for step in range(count := min(room, owed, len(alive))):
            name = alive[(start + step) % len(alive)]
            if name not in (self._me, node) and name not in self._news:
                yield _of(self._members[name])
        if node not in self._greetings:
            self._cursor += count
        elif owed - count <= 0 or GREETING - owed + count >= len(alive):
            del self._greetings[node]
        else:
            self._greetings[node] = (start + count, owed - count)

    def leave(self) -> Rumour:
        """Stop refuting: the farewell, which rides first on everything said from now on."""
        if not self._leaving:
            self._leaving = True
            self.refutation += 1
        return self._of_me()

    def _of_me(self) -> Rumour:
        status = Status.DEAD if self._leaving else Status.ALIVE
        return Rumour(self._me, (), status, self._incarnation, self.refutation)

    def _spread(self, node: str) -> None:
        self._news.pop(node, None)
        self._news[node] = 0

    # --- beliefs --------------------------------------------------------------------------------

    def live(self) -> tuple[str, ...]:
        """Sorted ids of all who are alive or suspect, this node included."""
        if self._live is None:
            self._live = tuple(sorted([self._me, *(self._members.keys() - self._dead.keys())]))
        return self._live

    def alive(self) -> tuple[str, ...]:
        """Sorted ids of all whom nobody suspects, this node included."""
        if self._alive is None:
            known = self._members
            self._alive = tuple(
                [n for n in self.live() if n == self._me or known[n].status is Status.ALIVE]
            )
        return self._alive

    def members(self) -> tuple[Member, ...]:
        """Copies of all that is believed, in the order of the ids."""
        return tuple(replace(self._members[node]) for node in sorted(self._members))

    def status_of(self, node: str) -> Status | None:
        """What is believed of a member; None for a stranger."""
        member = self._members.get(node)
        return None if member is None else member.status

    def steps_of(self, node: str) -> int:
        """Local steps a member has taken itself, newest known by any route; 0 for a stranger."""
        member = self._members.get(node)
        return 0 if member is None else member.own_steps

    def addresses(self, node: str) -> tuple[str, ...]:
        """Where a member is reached, best first; everybody in `live` has one, a stranger none."""
        member = self._members.get(node)
        return () if member is None else member.addresses

    @property
    def health(self) -> int:
        """Lifeguard's local health: 0 is well; probes take this many times longer, plus one."""
        return self._health

    def _become(self, member: Member, status: Status, reason: str, now: float) -> None:
        was, node = member.status, member.node
        member.status, member.since, member.due, member.accusers = status, now, math.inf, ()
        self._news.pop(node, None)
        if status is Status.DEAD:
            self._dead[node] = None
            self._greetings.pop(node, None)
            self._accused.discard(node)
            member.retry_s = RETRY_MAX_S if member.left else self._config.probe_interval_s
            self._retry_later(member, now)
            self.due = min(self.due, member.due)
        elif was is Status.DEAD:
            self._dead.pop(node, None)
            self._round.insert(int(self._rng.integers(len(self._round) + 1)), node)
        if (was is Status.DEAD) != (status is Status.DEAD):
            self._live = None
        self._alive = None
        self._changes.append(MemberChanged(now, node, status.value, member.version[0], reason))

    def _admit(
        self, node: str, addresses: tuple[str, ...], now: float, *, speaks: bool
    ) -> Member | None:
        """Make room for a stranger: the oldest dead goes, or for one who speaks, who never did."""
        if node == self._me:
            return None
        if len(self._members) >= self._max_peers:
            forgotten = next(iter(self._dead), None)
            if forgotten is None and speaks:
                silent = (m.node for m in self._members.values() if m.told == _UNTOLD)
                forgotten = next(silent, None)
            if forgotten is None:
                return None
            self._drop(self._members[forgotten], now)
        member = Member(node, addresses[:ADDRESSES], Status.DEAD, now, now)
        self._members[node] = member
        self._dead[node] = None
        return member

    def _drop(self, member: Member, now: float) -> None:
        if member.status is not Status.DEAD:
            self._become(member, Status.DEAD, "made room", now)
        for table in (self._members, self._dead, self._news, self._greetings, self._urgent):
            table.pop(member.node, None)
        self._accused.discard(member.node)

    def _found(self, member: Member, addresses: tuple[str, ...], *, best: bool) -> None:
        order = (*addresses, *member.addresses) if best else (*member.addresses, *addresses)
        member.addresses = tuple(dict.fromkeys(order))[:ADDRESSES]


def _of(member: Member) -> Rumour:
    addresses = () if member.left else member.addresses
    return Rumour(member.node, addresses, member.status, *member.version, member.own_steps)


def _is_plausible(member: Member, rumour: Rumour) -> bool:
    """Whether hearsay is not too far ahead of what the member itself told us."""
    incarnation, refutation = member.told
    if member.told == _UNTOLD:
        return True
    if rumour.incarnation == incarnation:
        return rumour.refutation <= refutation + member.slack
    return rumour.incarnation <= incarnation + member.slack
