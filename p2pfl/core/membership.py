"""Who is alive: SWIM with Lifeguard's local health, told the time and never asking it.

    packet arrives    heard(sender, ...) and learn(rumours, sender), then answer with rumours_for
    request failed    failed(peer)
    every moment      tick() -> probes to send; report them: answered, helped, unanswered
    goodbye           leave()

Beliefs are ordered by version = (incarnation, refutation), then by status, dead over suspect over
alive; the larger one wins, so rumours may come in any order and any number of times. Only the
member itself makes versions: an incarnation when it starts, a refutation when it learns that it is
suspected, or when it leaves (it is dead then, and has no address).

Rules of the file:
- Direct contact is proof. Whoever speaks to us is alive for us at once, whatever is said of it. The
  others learn it from the member: we tell it first thing (`rumours_for`) that it is suspected, it
  takes the next refutation, and that rides on everything it says and spreads as news.
- A suspicion is vouched for, never just passed on: who hears one asks the member itself, and
  spreads it only if that fails or enough others vouch. So whoever sends us a suspicion confirms it,
  and Lifeguard's timeout shrinks with the number of senders.
- Hearsay is bounded: it may be ahead of what the member itself told us by `HEARSAY_JUMP`, and not
  at all once the member's words have shown it wrong. A lie lasts until the next direct contact, and
  the dead are asked again, at least every `RETRY_MAX_S`, until they are forgotten.
- A caller that comes late was not running: that is held against our health, not against others.

SWIM: Das, Gupta & Motivala, DSN 2002. Lifeguard: Dadgar, Phillips & Currey, arXiv:1707.00788.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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
"""Hearsay may be ahead by this many starts, refutations or local steps; honest news is not, unless
the member has not spoken to us for so long that it will be asked anyway."""
RETRY_MAX_S = 30.0
"""Longest pause between two attempts to reach a dead member, and so how long healing may take."""
URGENT_PROBES = 4
"""Members asked out of turn per probe interval: the most that accusations make us send."""
GREETING = 64
"""Members that a newcomer is told of at once by each one it meets, if so many are known; also the
most that fit into one message."""
GREETINGS = 4
"""Newcomers that are greeted so per probe interval: when all start at once, none needs it."""
ADDRESSES = 4
"""Addresses kept of a member, best first."""

UNTOLD: Version = (-1, -1)
_RANK = {Status.ALIVE: 0, Status.SUSPECT: 1, Status.DEAD: 2}


# --- what is believed ---------------------------------------------------------------------------


@dataclass(slots=True)
class Member:
    """What is believed of one member.

    Attributes:
        since: when it took its status.
        heard: when it last spoke to us, or when we first heard of it.
        version: of the belief.
        own_steps: local steps it has taken, newest known by any route.
        told, told_steps: version and steps in its own words; `UNTOLD` before the first of them.
        slack: how far hearsay may be ahead of `told`.
        left: it said goodbye.
        accused: it spoke to us while it was believed suspect or dead, and has yet to refute that.
        accusers: whose suspicions are counted.
        due: when a suspect is dead, or a dead one is asked again.
        retry_s: the pause before the retry after that.
        is_new: it has to be told who else there is.
    """

    node: str
    addresses: tuple[str, ...]
    status: Status
    since: float
    heard: float
    version: Version = UNTOLD
    own_steps: int = 0
    told: Version = UNTOLD
    told_steps: int = 0
    slack: int = HEARSAY_JUMP
    left: bool = False
    accused: bool = False
    accusers: tuple[str, ...] = ()
    due: float = math.inf
    retry_s: float = 0.0
    is_new: bool = False

    @property
    def incarnation(self) -> int:
        """How often it was started."""
        return self.version[0]

    def found(self, addresses: tuple[str, ...], *, best: bool) -> None:
        """Add addresses, in front of the known ones if they are the best."""
        order = (*addresses, *self.addresses) if best else (*self.addresses, *addresses)
        self.addresses = tuple(dict.fromkeys(order))[:ADDRESSES]

    def rotate(self) -> None:
        """The first address failed; another one's turn."""
        self.addresses = self.addresses[1:] + self.addresses[:1]

    def rumour(self) -> Rumour:
        """The belief, as others are told of it."""
        addresses = () if self.left else self.addresses
        return Rumour(self.node, addresses, self.status, *self.version, self.own_steps)

    def may_believe(self, rumour: Rumour) -> bool:
        """Whether hearsay is not too far ahead of what the member itself told us."""
        if self.told == UNTOLD:
            return True
        incarnation, refutation = self.told
        if rumour.incarnation == incarnation:
            return rumour.refutation <= refutation + self.slack
        return rumour.incarnation <= incarnation + self.slack


class Members:
    """All members but this node, and who of them is live."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.known: dict[str, Member] = {}
        self.dead: dict[str, None] = {}
        self._live: tuple[str, ...] | None = None
        self._alive: tuple[str, ...] | None = None

    def live(self) -> tuple[str, ...]:
        """Sorted ids of the alive and the suspect, and of this node."""
        if self._live is None:
            self._live = tuple(sorted([self.me, *(self.known.keys() - self.dead.keys())]))
        return self._live

    def alive(self) -> tuple[str, ...]:
        """Sorted ids of the alive, and of this node."""
        if self._alive is None:
            known, alive = self.known, Status.ALIVE
            self._alive = tuple(
                [n for n in self.live() if n == self.me or known[n].status is alive]
            )
        return self._alive

    @property
    def live_count(self) -> int:
        """How many are in `live`, without sorting them."""
        return len(self.known) - len(self.dead) + 1

    def living(self, node: str) -> Member | None:
        """A member that is not dead."""
        member = self.known.get(node)
        return None if member is None or member.status is Status.DEAD else member

    def admit(self, node: str, addresses: tuple[str, ...], now: float) -> Member:
        """Enter a stranger: dead until something better is said of it."""
        member = Member(node, addresses[:ADDRESSES], Status.DEAD, now, now)
        self.known[node] = member
        self.dead[node] = None
        return member

    def forget(self, node: str) -> None:
        """Strike a dead member off."""
        del self.known[node], self.dead[node]

    def set_status(self, member: Member, status: Status, now: float) -> None:
        """Change a status, and begin all that is counted from that moment anew."""
        if (member.status is Status.DEAD) != (status is Status.DEAD):
            self._live = None
        self._alive = None
        member.status, member.since, member.due, member.accusers = status, now, math.inf, ()
        if status is Status.DEAD:
            self.dead[member.node] = None
            member.accused = member.is_new = False
        else:
            self.dead.pop(member.node, None)


# --- who is asked -------------------------------------------------------------------------------


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


# --- what is told -------------------------------------------------------------------------------


class News:
    """What rides on messages: fresh news, then members in turn.

    The least often told goes first, and the newest of these.
    """

    def __init__(
        self, members: Members, config: MembershipConfig, rng: np.random.Generator
    ) -> None:
        self._members, self._config = members, config
        self._told: dict[str, int] = {}
        self._cursor = int(rng.integers(1 << 30))

    def spread(self, node: str) -> None:
        """There is something new to be said of `node`, as yet to nobody."""
        self._told.pop(node, None)
        self._told[node] = 0

    def withhold(self, node: str) -> None:
        """Say no more of `node`."""
        self._told.pop(node, None)

    def fresh(self, reader: str, room: int, of_me: Rumour) -> Iterator[Rumour]:
        """News for `reader`, each told mult x ceil(log10(n + 1)) times in all."""
        if not self._told:
            return
        enough = self._config.retransmit_mult * math.ceil(math.log10(self._members.live_count + 1))
        for node in nsmallest(room, reversed(self._told), key=self._told.__getitem__):
            if node == reader:
                continue
            member = self._members.known.get(node)
            self._told[node] += 1
            if self._told[node] >= enough or (member is None and node != self._members.me):
                del self._told[node]
            if node == self._members.me:
                yield of_me
            elif member is not None:
                yield member.rumour()

    def in_passing(self, reader: str, room: int) -> Iterator[Rumour]:
        """Members in turn, so that lost news arrives in the end."""
        alive = self._members.alive()
        for _ in range(min(room, len(alive))):
            node = alive[self._cursor % len(alive)]
            self._cursor += 1
            if node not in (self._members.me, reader):
                yield self._members.known[node].rumour()


# --- all together -------------------------------------------------------------------------------


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
        claimed: the largest incarnation that rumours give this id. More than our own means that
            our state was set back or copied: the next start needs a larger one still.
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
        self._me, self._incarnation = me, incarnation
        self._config, self._max_peers = config, max_peers
        self._members = Members(me)
        self._known = self._members.known
        self._probing = Probing(self._members, config, rng)
        self._news = News(self._members, config, rng)
        self._expiries: list[tuple[float, str]] = []
        self._changes: list[MemberChanged] = []
        self._promised = math.inf
        self._leaving = False
        self._next_greetings, self._greetings = -math.inf, GREETINGS

    # --- evidence

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

        Words older than its last ones change nothing: the packet was late, or of an earlier life.

        Args:
            addresses: where it was reached or says it serves; empty if others passed it on.
        """
        member, version = self._known.get(node), (incarnation, refutation)
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
                    member.found(addresses, best=True)
            return []
        if member is None:
            member = self._admit(node, addresses, now, speaks=True) if addresses else None
        elif version < member.told or (member.left and version == member.told == member.version):
            member = None
        if member is not None and (member.addresses or addresses):
            member.found(addresses, best=True)
            self._take_word(member, version, own_steps, now)
        return self.changes()

    def failed(self, node: str, now: float) -> list[MemberChanged]:
        """A request to a member failed: try its next address, and find out by probes."""
        member = self._known.get(node)
        if member is not None:
            member.rotate()
            if member.status is not Status.DEAD:
                self._hurry(node, now)
        return self.changes()

    def learn(self, rumours: Iterable[Rumour], sender: str, now: float) -> list[MemberChanged]:
        """Take in what `sender` says of members, this node included."""
        for rumour in rumours:
            if rumour.node == self._me:
                self._answer_rumour(rumour)
                continue
            member = self._known.get(rumour.node)
            if member is None and (rumour.addresses or rumour.status is Status.DEAD):
                member = self._admit(rumour.node, rumour.addresses, now, speaks=False)
            if member is not None and member.may_believe(rumour):
                self._merge(member, rumour, sender, now)
        return self.changes()

    # --- probing

    def tick(self, now: float) -> list[Ask]:
        """What to send now; what time alone has changed is told by `changes`."""
        if now < self.due:
            return []
        late_s = now - self._promised
        if late_s > self._config.probe_interval_s:
            self._was_away(late_s)
        for target in self._probing.overdue(now):
            self._no_answer(target, now)
        self._expire(now)
        asks = self._probing.asks(now)
        expiry = self._expiries[0][0] if self._expiries else math.inf
        self._promised = self.due = min(self._probing.due(), expiry)
        return asks

    def answered(self, target: str, now: float) -> None:
        """A probe was answered by its target; `heard` takes in what it said."""
        self._probing.answered(target)

    def helped(self, target: str) -> None:
        """Somebody asked to probe for us answered that it could not reach the target either."""
        self._probing.helped(target)

    def unanswered(self, target: str, now: float) -> list[MemberChanged]:
        """A probe failed; an indirect one also ends by itself if nobody says so."""
        self._no_answer(target, now)
        self.due = min(self.due, now)
        return self.changes()

    def changes(self) -> list[MemberChanged]:
        """What changed since somebody was last told."""
        changes, self._changes = self._changes, []
        return changes

    @property
    def health(self) -> int:
        """Lifeguard's local health: 0 is well; probes take 1 + health times as long."""
        return self._probing.health

    # --- news

    def rumours(self, limit: int | None = None) -> tuple[Rumour, ...]:
        """News for a stranger; each call counts as telling."""
        return self.rumours_for("", limit)

    def rumours_for(self, node: str, limit: int | None = None) -> tuple[Rumour, ...]:
        """News for a member, and before all others what it should refute: the belief about itself.

        Args:
            node: who will read it.
            limit: rumours at most, `rumours_per_message` if None; a newcomer gets `GREETING` once.
        """
        limit = self._config.rumours_per_message if limit is None else limit
        told = [self._of_me()] if self._leaving else []
        reader = self._known.get(node)
        if reader is not None and (reader.accused or reader.status is not Status.ALIVE):
            status = Status.DEAD if reader.status is Status.DEAD else Status.SUSPECT
            told.append(replace(reader.rumour(), status=status))
        told += self._news.fresh(node, max(0, limit - len(told)), self._of_me())
        if len(told) < limit:
            told += self._news.in_passing(node, 1)
        if reader is not None and reader.is_new:
            reader.is_new = False
            told += self._news.in_passing(node, GREETING - len(told))
        return tuple(told)

    def leave(self) -> Rumour:
        """Refute no more: the farewell, which comes first in all rumours from now on."""
        if not self._leaving:
            self._leaving = True
            self.refutation += 1
        return self._of_me()

    # --- beliefs

    def live(self) -> tuple[str, ...]:
        """Sorted ids of the alive and the suspect, this node included; kept until it changes."""
        return self._members.live()

    def alive(self) -> tuple[str, ...]:
        """Sorted ids of those nobody suspects, this node included; kept until it changes."""
        return self._members.alive()

    def members(self) -> tuple[Member, ...]:
        """Copies of all beliefs, in the order of the ids."""
        return tuple(replace(self._known[node]) for node in sorted(self._known))

    def status_of(self, node: str) -> Status | None:
        """What is believed of a member; None for a stranger."""
        member = self._known.get(node)
        return None if member is None else member.status

    def steps_of(self, node: str) -> int:
        """Local steps a member has taken itself, newest known by any route; 0 for a stranger."""
        member = self._known.get(node)
        return 0 if member is None else member.own_steps

    def addresses(self, node: str) -> tuple[str, ...]:
        """Where a member is reached, best first; never empty for those in `live`."""
        member = self._known.get(node)
        return () if member is None else member.addresses

    # --- how beliefs change

    def _take_word(self, member: Member, version: Version, own_steps: int, now: float) -> None:
        before, was = member.version, member.status
        if version[0] < before[0] or (version < before and was is not Status.ALIVE):
            member.version, member.slack = version, 0
        else:
            member.version = max(before, version)
            if version > member.told:
                member.slack = HEARSAY_JUMP
        is_new_life = version[0] > member.told[0]
        member.own_steps = own_steps if is_new_life else max(member.own_steps, own_steps)
        member.told, member.told_steps, member.heard = version, own_steps, now
        restarted = version[0] > before[0]
        if was is not Status.ALIVE or restarted:
            reason = "met" if before == UNTOLD else "restarted" if restarted else "heard"
            self._become(member, Status.ALIVE, reason, now)
        if was is Status.DEAD or restarted:
            if now >= self._next_greetings:
                self._next_greetings, self._greetings = (
                    now + self._config.probe_interval_s,
                    GREETINGS,
                )
            member.is_new = self._greetings > 0
            self._greetings -= member.is_new
        if version > before:
            member.accused = False
            self._news.spread(member.node)
        elif was is not Status.ALIVE:
            member.accused = True

    def _merge(self, member: Member, rumour: Rumour, sender: str, now: float) -> None:
        version = (rumour.incarnation, rumour.refutation)
        before, was, status = member.version, member.status, rumour.status
        if (version, _RANK[status]) < (before, _RANK[was]):
            return
        restarted, steps = version[0] > before[0], rumour.own_steps
        if member.told[0] == version[0]:
            steps = min(steps, member.told_steps + HEARSAY_JUMP)
        member.own_steps = steps if restarted else max(member.own_steps, steps)
        if member.addresses != rumour.addresses:
            member.found(rumour.addresses, best=restarted)
        if version == before and status is was:
            if was is Status.SUSPECT:
                self._accuse(member, sender, now)
            return
        if status is not Status.DEAD and not member.addresses:
            return
        member.version = version
        if sender == member.node:
            member.told = version
        if status is Status.ALIVE:
            member.accused = False
            if was is not Status.ALIVE or restarted:
                self._become(member, Status.ALIVE, "rumour", now)
            self._news.spread(member.node)
        elif status is Status.SUSPECT:
            self._become(member, Status.SUSPECT, f"suspected by {sender}", now)
            self._accuse(member, sender, now)
            self._hurry(member.node, now)
        elif was is not Status.DEAD and self._doubts(member, rumour, sender, before, now):
            if was is Status.ALIVE:
                self._become(member, Status.SUSPECT, f"dead to {sender}", now)
            self._expire_at(member, now + self._suspicion_s())
            self._hurry(member.node, now)
        else:
            left = not rumour.addresses
            if was is not Status.DEAD or left != member.left or before == UNTOLD:
                reason = "left" if left else "rumour"
                self._become(member, Status.DEAD, reason, now, left=left)
            self._news.spread(member.node)

    def _doubts(
        self, member: Member, verdict: Rumour, sender: str, before: Version, now: float
    ) -> bool:
        """Whether it spoke to us more recently than others can have waited for it in vain.

        A farewell is not doubted: only the member itself makes one.
        """
        is_farewell = sender == member.node or not verdict.addresses
        is_own_word = member.told == member.version == before
        return is_own_word and not is_farewell and now - member.heard < self._suspicion_s()

    def _answer_rumour(self, rumour: Rumour) -> None:
        """Refute what is said against us, as far as our own counter can."""
        if self._incarnation < rumour.incarnation <= self._incarnation + HEARSAY_JUMP:
            self.claimed = max(self.claimed, rumour.incarnation)
        if rumour.incarnation != self._incarnation or rumour.status is Status.ALIVE:
            return
        if 0 <= rumour.refutation - self.refutation <= HEARSAY_JUMP and not self._leaving:
            self.refutation = rumour.refutation + 1
            self._probing.worse()
            self._news.spread(self._me)

    def _become(
        self, member: Member, status: Status, reason: str, now: float, *, left: bool = False
    ) -> None:
        was_dead = member.status is Status.DEAD
        member.left = left
        self._members.set_status(member, status, now)
        self._news.withhold(member.node)
        if status is Status.DEAD:
            self._probing.retry(member, now)
            self.due = min(self.due, member.due)
        elif was_dead:
            self._probing.enter(member.node)
            if member.told == UNTOLD and self._probing.is_idle:
                self._hurry(member.node, now)
        self._changes.append(
            MemberChanged(now, member.node, status.value, member.incarnation, reason)
        )

    def _admit(
        self, node: str, addresses: tuple[str, ...], now: float, *, speaks: bool
    ) -> Member | None:
        """Make room for a stranger: the oldest dead goes, or for one who speaks, who never did."""
        if node == self._me:
            return None
        if len(self._known) >= self._max_peers:
            leaves = next(iter(self._members.dead), None)
            if leaves is None and speaks:
                leaves = next((m.node for m in self._known.values() if m.told == UNTOLD), None)
                if leaves is not None:
                    self._become(self._known[leaves], Status.DEAD, "made room", now)
            if leaves is None:
                return None
            self._members.forget(leaves)
            self._news.withhold(leaves)
        return self._members.admit(node, addresses, now)

    # --- suspicion

    def _suspicion_s(self) -> float:
        """How long a suspect has at least: mult x log10(n + 1) intervals, and at least mult."""
        scale = max(1.0, math.log10(self._members.live_count + 1))
        return self._config.suspicion_mult * scale * self._config.probe_interval_s

    def _accuse(self, member: Member, accuser: str, now: float) -> None:
        """Count a suspicion (Lifeguard, LHA-Suspicion).

        With c of k expected confirmations, a suspect has max - (max - min) log(c+1) / log(k+1).
        """
        expected = max(0, round(self._config.suspicion_mult) - 2)
        if self._members.live_count - 2 < expected:
            expected = 0
        is_enough = len(member.accusers) > expected
        if accuser in member.accusers or (is_enough and accuser != self._me):
            return
        member.accusers += (accuser,)
        confirmed = len(member.accusers) - 1
        least = self._suspicion_s()
        most = least * max(1.0, self._config.suspicion_max_mult)
        share = min(1.0, math.log(confirmed + 1) / math.log(expected + 1)) if expected else 1.0
        self._expire_at(member, member.since + most - share * (most - least))
        if accuser == self._me or confirmed >= expected:
            self._news.spread(member.node)

    def _no_answer(self, target: str, now: float) -> None:
        if self._probing.failed(target, now):
            member = self._known[target]
            if member.status is Status.ALIVE:
                self._become(member, Status.SUSPECT, "no answer", now)
            self._accuse(member, self._me, now)

    def _expire_at(self, member: Member, at: float) -> None:
        if at < member.due:
            member.due = at
            heappush(self._expiries, (at, member.node))
            self.due = min(self.due, at)

    def _expire(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            at, node = heappop(self._expiries)
            member = self._known.get(node)
            if member is not None and member.status is Status.SUSPECT and member.due == at:
                self._become(member, Status.DEAD, "suspicion confirmed", now)
                self._news.spread(node)

    def _was_away(self, late_s: float) -> None:
        """We did not run for a while, so nobody's time is up."""
        self._probing.was_away()
        suspects = [m for m in self._known.values() if m.status is Status.SUSPECT]
        for member in suspects:
            member.since += late_s
            member.due += late_s
        self._expiries = [(member.due, member.node) for member in suspects]
        heapify(self._expiries)

    def _hurry(self, node: str, now: float) -> None:
        self._probing.hurry(node)
        self.due = min(self.due, now)

    def _of_me(self) -> Rumour:
        status = Status.DEAD if self._leaving else Status.ALIVE
        return Rumour(self._me, (), status, self._incarnation, self.refutation)
