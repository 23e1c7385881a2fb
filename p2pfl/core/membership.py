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
- Whoever never spoke to us and does not answer when asked was perhaps made up: it is dead to us at
  once, which we tell nobody, and only its own words make it alive. It is asked again like others.
- Hearsay is bounded: it may be ahead of what the member itself told us by `HEARSAY_JUMP`, and not
  at all once the member's words have shown it wrong. A lie lasts until the next direct contact, and
  the dead are asked again, at least every `RETRY_MAX_S`, until they are forgotten.
- A caller that comes late was not running: that is held against our health, not against others.

SWIM: Das, Gupta & Motivala, DSN 2002. Lifeguard: Dadgar, Phillips & Currey, arXiv:1707.00788.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from heapq import heapify, heappop, heappush

import numpy as np

from p2pfl.config import MembershipConfig
from p2pfl.core.events import MemberChanged
from p2pfl.core.members import HEARSAY_JUMP, UNTOLD, Member, Members, Version
from p2pfl.core.messages import Rumour, Status
from p2pfl.core.news import News
from p2pfl.core.probing import Ask, Probing

__all__ = ["Ask", "Member", "Membership"]

GREETING = 56
"""Rumours a newcomer gets at once from each one it meets; a message holds no more than 64."""
GREETINGS = 4
"""Newcomers that are greeted so per probe interval: when all start at once, none needs it."""
GONE = 0.5
"""Part of a suspect's time that it has where its device says that nobody listens there."""

_RANK = {Status.ALIVE: 0, Status.SUSPECT: 1, Status.DEAD: 2}


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
        self._banned: set[str] = set()
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

    def ban(self, node: str, now: float) -> list[MemberChanged]:
        """Whatever this member or others say from now on, it does not exist for us."""
        self._banned.add(node)
        member = self._known.get(node)
        if member is not None:
            if member.status is not Status.DEAD:
                self._become(member, Status.DEAD, "denied", now)
            self._members.forget(node)
            self._news.withhold(node)
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

    def answered(self, target: str) -> None:
        """A probe was answered by its target; `heard` takes in what it said."""
        self._probing.answered(target)

    def helped(self, target: str) -> None:
        """Somebody asked to probe for us answered that it could not reach the target either."""
        self._probing.helped(target)

    def unanswered(self, target: str, now: float, *, is_gone: bool = False) -> list[MemberChanged]:
        """A probe failed; an indirect one also ends by itself if nobody says so.

        Args:
            is_gone: a direct one was refused by the device: no process listens there.
        """
        member = self._known.get(target)
        if member is not None:
            member.is_gone |= is_gone
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

    def met(self) -> tuple[str, ...]:
        """Of `live`, those that ever spoke to us, this node included; kept until it changes.

        Neighbours are chosen among these: whoever is only heard of may be made up.
        """
        return self._members.met()

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
        if member.told == UNTOLD:
            member.is_mute = False
            self._members.somebody_new_spoke()
        member.told, member.told_steps, member.heard = version, own_steps, now
        restarted = version[0] > before[0]
        if was is not Status.ALIVE or restarted:
            reason = "met" if before == UNTOLD else "restarted" if restarted else "heard"
            self._become(member, Status.ALIVE, reason, now)
        if was is Status.DEAD or restarted:
            if now >= self._next_greetings:
                self._next_greetings = now + self._config.probe_interval_s
                self._greetings = GREETINGS
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
        if status is not Status.DEAD and member.is_mute:
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

        A farewell is not doubted if it is the member's own word; passed on, it may be made up.
        """
        is_farewell = sender == member.node
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
        if status is Status.ALIVE:
            member.is_gone = False
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
        if node == self._me or node in self._banned:
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
        Where its device refused our probe nothing was lost and nobody is slow: what is left to
        wait for is a restart, and `GONE` of that time is enough.
        """
        expected = max(0, round(self._config.suspicion_mult) - 2)
        if self._members.live_count - 2 < expected:
            expected = 0
        is_enough = len(member.accusers) > expected
        if accuser in member.accusers or (is_enough and accuser != self._me):
            return
        member.accusers += (accuser,)
        confirmed = len(member.accusers) - 1
        least = self._suspicion_s() * (GONE if member.is_gone else 1.0)
        most = least * max(1.0, self._config.suspicion_max_mult)
        share = min(1.0, math.log(confirmed + 1) / math.log(expected + 1)) if expected else 1.0
        self._expire_at(member, member.since + most - share * (most - least))
        if accuser == self._me or confirmed >= expected:
            self._news.spread(member.node)

    def _no_answer(self, target: str, now: float) -> None:
        if self._probing.failed(target, now):
            member = self._known[target]
            if member.told == UNTOLD:
                member.is_mute = True
                self._become(member, Status.DEAD, "never answered", now)
                return
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
