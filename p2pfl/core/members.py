"""What is believed of every other member, and who of them is live.

Rule of the file: a table and no decisions; `membership` decides, `probing` and `news` read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from p2pfl.core.messages import Rumour, Status

Version: TypeAlias = tuple[int, int]
"""(incarnation, refutation)."""

HEARSAY_JUMP = 1000
"""Hearsay may be ahead by this many starts, refutations or local steps; honest news is not, unless
the member has not spoken to us for so long that it will be asked anyway."""
ADDRESSES = 4
"""Addresses kept of a member, best first."""

UNTOLD: Version = (-1, -1)


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
        is_gone: since it spoke last, its device refused a direct probe: nobody listens there.
        is_mute: we were told of it and asked it, and it never spoke to us.
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
    is_gone: bool = False
    is_mute: bool = False

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
        self._met: tuple[str, ...] | None = None

    def met(self) -> tuple[str, ...]:
        """Sorted ids of the live that have ever spoken to us, and of this node."""
        if self._met is None:
            known = self.known
            self._met = tuple([n for n in self.live() if n == self.me or known[n].told != UNTOLD])
        return self._met

    def somebody_new_spoke(self) -> None:
        """A member that was only heard of has been met."""
        self._met = None

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
            self._live = self._met = None
        self._alive = None
        member.status, member.since, member.due, member.accusers = status, now, math.inf, ()
        if status is Status.DEAD:
            self.dead[member.node] = None
            member.accused = member.is_new = False
        else:
            self.dead.pop(member.node, None)
