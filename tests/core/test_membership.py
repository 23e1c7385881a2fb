import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.config import MembershipConfig
from p2pfl.core.events import MemberChanged
from p2pfl.core.membership import (
    ADDRESSES,
    GREETING,
    HEARSAY_JUMP,
    RETRY_MAX_S,
    URGENT_PROBES,
    Ask,
    Membership,
)
from p2pfl.core.messages import Rumour, Status

ALIVE, SUSPECT, DEAD = Status.ALIVE, Status.SUSPECT, Status.DEAD
CONFIG = MembershipConfig()
INTERVAL, TIMEOUT = CONFIG.probe_interval_s, CONFIG.probe_timeout_s


def suspicion_s(n: int, config: MembershipConfig = CONFIG) -> float:
    """What a suspect has at least: suspicion_mult x max(1, log10(n + 1)) x probe_interval_s."""
    return config.suspicion_mult * max(1.0, math.log10(n + 1)) * config.probe_interval_s


# --- a swarm in virtual time --------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """A packet: its header and its rumours."""

    sender: str
    incarnation: int
    refutation: int
    own_steps: int
    rumours: tuple[Rumour, ...]


class Swarm:
    """Memberships that probe each other over a network with delay, loss, partitions and freezes.

    A probe that is lost times out; a frozen node gets its packets and its timers when it thaws.
    """

    def __init__(self, n: int, *, seed: int = 0, loss: float = 0.0, met: bool = True) -> None:
        self.rng = np.random.default_rng(seed)
        self.now, self.loss = 0.0, loss
        self.nodes: dict[str, Membership] = {}
        self.events: list[tuple[str, MemberChanged]] = []
        self.incarnations: dict[str, int] = {}
        self.crashed: set[str] = set()
        self.frozen: dict[str, float] = {}
        self.islands: dict[str, int] = {}
        self.packets = self.carried = 0
        self._agenda: list[tuple[float, int, str, Callable[[], None]]] = []
        self._order = itertools.count()
        for number in range(n):
            self.start(f"{number:04x}")
        if met:
            for a, b in itertools.permutations(self.nodes, 2):
                self.nodes[a].heard(b, (f"{b}:1",), 1, 0, 0, 0.0)

    # what happens to it

    def start(self, node: str, *, through: str | None = None) -> None:
        """Start a node for the first time, or again with an empty table."""
        self.crashed.discard(node)
        self.incarnations[node] = incarnation = self.incarnations.get(node, 0) + 1
        self.nodes[node] = Membership(
            node, incarnation, CONFIG, np.random.default_rng(self.rng.integers(1 << 60)),
            max_peers=1024,
        )  # fmt: skip
        self.at(self.now + self.rng.random() * 0.2, node, lambda: self._poll(node, incarnation))
        if through is not None:
            self.probe(node, Ask(through, (f"{through}:1",), TIMEOUT))

    def crash(self, node: str) -> None:
        self.crashed.add(node)

    def freeze(self, node: str, seconds: float) -> None:
        self.frozen[node] = self.now + seconds

    def split(self, *islands: list[str]) -> None:
        self.islands = {node: i for i, island in enumerate(islands) for node in island}

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float:
        """Let time pass, or until a condition holds; the seconds it took."""
        start, end = self.now, self.now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, node, action = heapq.heappop(self._agenda)
            if node in self.crashed:
                continue
            if self.now < self.frozen.get(node, 0.0):
                self.at(self.frozen[node], node, action)
                continue
            action()
            if until is not None and until():
                return self.now - start
        self.now = end
        assert until is None, f"did not happen within {seconds} s"
        return seconds

    def at(self, when: float, node: str, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), node, action))

    # what it looks like

    @property
    def running(self) -> list[str]:
        return [node for node in self.nodes if node not in self.crashed]

    def seen(self, node: str) -> list[Status | None]:
        """What all others believe of a node."""
        return [self.nodes[other].status_of(node) for other in self.running if other != node]

    def deaths(self) -> list[tuple[str, MemberChanged]]:
        return [(node, event) for node, event in self.events if event.status == DEAD]

    def is_whole(self) -> bool:
        """Everybody who runs believes exactly those alive."""
        running = tuple(sorted(self.running))
        return all(self.nodes[node].alive() == running for node in running)

    # how packets travel

    def _poll(self, node: str, incarnation: int) -> None:
        if self.incarnations[node] != incarnation:
            return
        member = self.nodes[node]
        for ask in member.tick(self.now):
            self.probe(node, ask)
        self._note(node, member.changes())
        self.at(self.now + 0.2, node, lambda: self._poll(node, incarnation))

    def _note(self, node: str, changes: list[MemberChanged]) -> None:
        self.events += [(node, change) for change in changes]

    def words(self, node: str, to: str) -> Words:
        member = self.nodes[node]
        rumours = member.rumours_for(to)
        self.packets += 1
        self.carried += len(rumours)
        return Words(node, self.incarnations[node], member.refutation, 0, rumours)

    def hear(self, node: str, words: Words, *, passed_on: bool = False) -> None:
        member, who = self.nodes[node], words.sender
        addresses = () if passed_on else (f"{who}:1",)
        self._note(
            node,
            member.heard(
                who, addresses, words.incarnation, words.refutation, words.own_steps, self.now
            ),
        )
        self._note(node, member.learn(words.rumours, who, self.now))

    def send(self, a: str, b: str, action: Callable[[], None]) -> None:
        if self.rng.random() < self.loss or self.islands.get(a) != self.islands.get(b):
            return
        self.at(self.now + self.rng.uniform(0.001, 0.02), b, action)

    def probe(self, node: str, ask: Ask) -> None:
        if ask.via:
            for relay, _ in ask.via:
                self._probe_through(node, relay, ask)
            return
        answers: list[Words] = []

        def answered(words: Words) -> None:
            if not answers:
                answers.append(words)
                self.hear(node, words)
                self.nodes[node].answered(ask.target, self.now)

        def give_up() -> None:
            if not answers:
                answers.append(None)
                self._note(node, self.nodes[node].unanswered(ask.target, self.now))

        self._ask(node, ask.target, answered)
        self.at(self.now + ask.timeout_s, node, give_up)

    def _ask(self, a: str, b: str, answered: Callable[[Words], None]) -> None:
        asked = self.words(a, b)

        def arrive() -> None:
            self.hear(b, asked)
            answer = self.words(b, a)
            self.send(b, a, lambda: answered(answer))

        self.send(a, b, arrive)

    def _probe_through(self, node: str, relay: str, ask: Ask) -> None:
        asked, passed = self.words(node, relay), []

        def pass_on(words: Words) -> None:
            def arrive() -> None:
                self.hear(node, words, passed_on=True)
                self.nodes[node].answered(ask.target, self.now)

            passed.append(words)
            self.hear(relay, words)
            self.send(relay, node, arrive)

        def refuse() -> None:
            if not passed:
                self.send(relay, node, lambda: self.nodes[node].helped(ask.target))

        def arrive() -> None:
            self.hear(relay, asked)
            self._ask(relay, ask.target, pass_on)
            self.at(self.now + TIMEOUT, relay, refuse)

        self.send(node, relay, arrive)
