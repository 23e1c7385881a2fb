"""What rides on messages: infection-style dissemination (SWIM, section 4.1).

Rule of the file: a rumour is made when it is told, from what is believed then; the queue knows only
of whom there is news, and how often it was told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import nsmallest

import numpy as np

from p2pfl.config import MembershipConfig
from p2pfl.core.members import Members
from p2pfl.core.messages import Rumour


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
