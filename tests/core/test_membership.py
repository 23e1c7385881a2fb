import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.config import MembershipConfig
from p2pfl.core.events import MemberChanged
from p2pfl.core.members import ADDRESSES, HEARSAY_JUMP
from p2pfl.core.membership import GONE, GREETING, GREETINGS, Membership
from p2pfl.core.messages import Rumour, Status
from p2pfl.core.probing import RETRY_MAX_S, URGENT_PROBES, Ask

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
                self.nodes[node].answered(ask.target)

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
                self.nodes[node].answered(ask.target)

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


def noticed_s(n: int) -> float:
    """By when everybody knows of a crash, in an idle swarm.

    4 intervals until somebody's turn falls on it (n - 1 nodes miss that with probability e^-4);
    a direct probe, an indirect one of twice the timeout, and the poll that follows each; from then
    the least suspicion, or another 4 intervals and probe until two others confirm it; 8 intervals
    until the verdict has ridden to everybody on two messages a second.
    """
    verdict = 3 * TIMEOUT + 2 * 0.2
    confirmed = 4 * INTERVAL + verdict
    return 4 * INTERVAL + verdict + max(suspicion_s(n), confirmed) + 8 * INTERVAL


@pytest.mark.parametrize("n", [3, 5, 10, 20, 50])
def test_a_crash_is_noticed_by_everybody_within_the_bound(n):
    for seed in range(4):
        swarm = Swarm(n, seed=seed)
        swarm.run(5 + seed / 3)
        assert not swarm.deaths()
        swarm.crash("0001")
        swarm.run(noticed_s(n), until=lambda swarm=swarm: set(swarm.seen("0001")) == {DEAD})
        assert {event.peer for _, event in swarm.deaths()} == {"0001"}


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_falsely_dead_in_200_s_with_10_percent_loss(seed):
    swarm = Swarm(20, seed=seed, loss=0.1)
    swarm.run(200)
    assert not swarm.deaths()
    assert any(event.status == SUSPECT for _, event in swarm.events)


@pytest.mark.parametrize("n", [3, 20])
def test_a_node_frozen_for_10_s_is_back_at_once_and_declares_nobody_dead(n):
    for seed in range(4):
        swarm = Swarm(n, seed=seed)
        swarm.run(10 + seed / 4)
        swarm.freeze("0001", 10)
        swarm.run(10)
        swarm.run(3, until=swarm.is_whole)
        swarm.run(30)
        assert swarm.is_whole()
        assert {event.peer for _, event in swarm.deaths()} <= {"0001"}


@pytest.mark.parametrize(("n", "apart_s"), [(4, 60), (20, 60), (20, 600)])
def test_two_islands_go_on_alone_and_find_each_other_again(n, apart_s):
    for seed in range(2):
        swarm = Swarm(n, seed=seed)
        swarm.run(5)
        ids = list(swarm.nodes)
        swarm.split(ids[: n // 2], ids[n // 2 :])
        swarm.run(apart_s)
        for node, membership in swarm.nodes.items():
            mine = ids[: n // 2] if node in ids[: n // 2] else ids[n // 2 :]
            assert membership.live() == tuple(mine)
        swarm.split()
        swarm.run(RETRY_MAX_S + 10 * INTERVAL, until=swarm.is_whole)


def test_a_restarted_node_is_alive_again_for_everybody_within_seconds():
    swarm = Swarm(10)
    swarm.run(5)
    swarm.crash("0003")
    swarm.run(60)
    assert set(swarm.seen("0003")) == {DEAD}
    swarm.start("0003", through="0000")
    swarm.run(0.5)
    assert swarm.nodes["0000"].status_of("0003") is ALIVE
    swarm.run(10, until=swarm.is_whole)
    assert all(m.incarnation == 2 for v in swarm.nodes.values() for m in v.members()
               if m.node == "0003")  # fmt: skip


def test_a_node_that_leaves_is_dead_at_once_and_soon_for_everybody():
    swarm = Swarm(10)
    swarm.run(5)
    swarm.nodes["0003"].leave()
    for other in ("0001", "0002"):
        swarm.probe("0003", Ask(other, (f"{other}:1",), TIMEOUT))
    swarm.run(0.1)
    assert [swarm.nodes[node].status_of("0003") for node in ("0001", "0002")] == [DEAD, DEAD]
    swarm.crash("0003")
    swarm.run(10, until=lambda: set(swarm.seen("0003")) == {DEAD})
    assert {event.reason for _, event in swarm.deaths()} == {"left"}


@pytest.mark.parametrize(
    "lie",
    [
        Rumour("0003", ("evil:1",), DEAD, 2),
        Rumour("0003", ("evil:1",), DEAD, 2**40),
        Rumour("0003", ("evil:1",), SUSPECT, 1, HEARSAY_JUMP),
        Rumour("0003", (), DEAD, 1, 7),
        Rumour("0003", ("evil:1",), ALIVE, HEARSAY_JUMP, 0),
    ],
    ids=["next life", "huge", "suspect", "left", "alive"],
)
def test_a_lie_cannot_lock_a_node_out(lie):
    swarm = Swarm(10)
    swarm.run(5)
    for listener in ("0001", "0007"):
        swarm.nodes[listener].learn([lie], "liar", swarm.now)
    swarm.run(RETRY_MAX_S, until=lambda: swarm.is_whole() and swarm.now > 10)
    swarm.run(20)
    quiet_since, swarm.events = swarm.now, []
    swarm.run(60)
    assert swarm.is_whole()
    assert not swarm.events, f"still talked about after {quiet_since} s"
    swarm.crash("0003")
    swarm.run(noticed_s(10), until=lambda: set(swarm.seen("0003")) == {DEAD})
    swarm.start("0003", through="0000")
    swarm.run(RETRY_MAX_S, until=swarm.is_whole)


def test_a_newcomer_learns_everybody_from_the_first_answer():
    swarm = Swarm(30)
    swarm.run(20)
    swarm.start("ffff", through="0004")
    swarm.run(0.1)
    assert swarm.nodes["ffff"].live() == tuple(sorted(swarm.nodes))


def test_nodes_that_know_one_address_find_all_others():
    swarm = Swarm(1)
    for number in range(1, 12):
        swarm.start(f"{number:04x}", through="0000")
    swarm.run(20, until=swarm.is_whole)
    assert not swarm.deaths()


@pytest.mark.parametrize("n", [2, 10, 50])
def test_an_idle_node_sends_less_than_1_kb_per_second(n):
    swarm = Swarm(n)
    swarm.run(60)
    swarm.packets = swarm.carried = 0
    swarm.run(60)
    # a probe and its answer are 150 bytes without rumours; one rumour is about 100
    rate = (75 * swarm.packets + 100 * swarm.carried) / 60 / n
    assert 0 < rate < 1000


def test_the_same_seed_gives_the_same_history():
    histories = []
    for _ in range(2):
        swarm = Swarm(8, seed=3, loss=0.2)
        swarm.run(60)
        histories.append((swarm.events, swarm.packets, swarm.carried))
    assert histories[0] == histories[1]
    assert histories[0][0]


# --- one view, step by step ---------------------------------------------------------------------


def view(peers: str = "bcde", *, config: MembershipConfig = CONFIG, max_peers: int = 64):
    """The view of node "a" at time 0, when it has heard these peers and told everything."""
    membership = Membership("a", 5, config, np.random.default_rng(7), max_peers=max_peers)
    for peer in peers:
        hear(membership, peer)
    while any(rumour.node != "a" for rumour in membership.rumours(64)[1:]):
        pass
    for peer in peers:
        membership.rumours_for(peer)
    membership.tick(0.0)
    return membership


def hear(membership, peer, now=0.0, *, incarnation=1, refutation=0, steps=0, addresses=None):
    addresses = (f"{peer}:1",) if addresses is None else addresses
    return membership.heard(peer, addresses, incarnation, refutation, steps, now)


def say(peer, status=ALIVE, incarnation=1, refutation=0, steps=0, addresses=None) -> Rumour:
    addresses = (f"{peer}:1",) if addresses is None else addresses
    return Rumour(peer, addresses, status, incarnation, refutation, steps)


def member(membership, peer):
    return next(m for m in membership.members() if m.node == peer)


def watch(membership, start: float, end: float, *, answering: str = ""):
    """Tick every 0.1 s; who is in `answering` answers, all others never do.

    Returns:
        [(time, ask)] and the changes.
    """
    asks, changes, due = [], [], []
    for step in range(round((end - start) / 0.1)):
        now = start + 0.1 * step
        for at, ask in [entry for entry in due if entry[0] <= now]:
            due.remove((at, ask))
            changes += membership.unanswered(ask.target, now)
        for ask in membership.tick(now):
            asks.append((now, ask))
            if ask.target in answering:
                hear(membership, ask.target, now)
                membership.answered(ask.target)
            else:
                due.append((now + ask.timeout_s, ask))
        changes += membership.changes()
    return asks, changes


def test_a_stranger_that_speaks_is_met_and_a_known_one_is_no_news():
    membership = Membership("a", 1, CONFIG, np.random.default_rng(0), max_peers=9)
    assert membership.live() == ("a",)
    [met] = hear(membership, "b", 2.5)
    assert met == MemberChanged(2.5, "b", "alive", 1, "met")
    assert membership.live() == membership.alive() == ("a", "b")
    assert hear(membership, "b", 3.0) == []
    assert member(membership, "b").heard == 3.0
    assert hear(membership, "a", 3.0) == []


def test_live_is_kept_until_it_changes():
    membership = view("bc")
    before = membership.live()
    hear(membership, "b", 1.0)
    membership.learn([say("c", SUSPECT)], "b", 1.0)
    assert membership.live() is before
    assert membership.alive() == ("a", "b")
    hear(membership, "d", 2.0)
    assert membership.live() == ("a", "b", "c", "d")


def test_an_earlier_life_and_earlier_words_are_no_evidence():
    membership = view("b")
    hear(membership, "b", 1.0, incarnation=3, refutation=2)
    membership.learn([say("b", DEAD, 3, 2)], "c", 100.0)
    assert hear(membership, "b", 101.0, incarnation=2, refutation=9) == []
    assert hear(membership, "b", 101.0, incarnation=3, refutation=1) == []
    assert membership.status_of("b") is DEAD
    [back] = hear(membership, "b", 101.0, incarnation=3, refutation=2)
    assert (back.status, back.reason) == ("alive", "heard")


def test_a_higher_incarnation_is_a_restart_even_of_a_live_member():
    membership = view("b")
    [change] = hear(membership, "b", 1.0, incarnation=2)
    assert (change.status, change.incarnation, change.reason) == ("alive", 2, "restarted")


def test_direct_contact_clears_a_suspicion_and_the_member_is_told_until_it_refutes():
    membership, accused = view("bc"), Membership("b", 1, CONFIG, np.random.default_rng(1),
                                                 max_peers=9)  # fmt: skip
    membership.learn([say("b", SUSPECT)], "c", 1.0)
    assert membership.status_of("b") is SUSPECT
    hear(membership, "b", 1.1)
    assert membership.status_of("b") is ALIVE
    first = membership.rumours_for("b")[0]
    assert (first.node, first.status, first.refutation) == ("b", SUSPECT, 0)
    accused.learn([first], "a", 1.2)
    assert accused.refutation == 1
    assert accused.rumours()[0] == Rumour("b", (), ALIVE, 1, 1)
    hear(membership, "b", 1.3, refutation=1)
    assert all(rumour.node != "b" for rumour in membership.rumours_for("b"))
    assert membership.rumours_for("c")[0] == say("b", ALIVE, 1, 1)
    assert membership.learn([say("b", SUSPECT)], "c", 1.4) == []


def test_a_refutation_by_hearsay_ends_the_accusation_too():
    membership = view("bc")
    membership.learn([say("b", SUSPECT)], "c", 1.0)
    hear(membership, "b", 1.1)
    membership.learn([say("b", ALIVE, 1, 1)], "c", 1.2)
    assert all(rumour.node != "b" for rumour in membership.rumours_for("b"))


def test_a_probe_goes_direct_then_through_three_others_then_its_target_is_suspect_then_dead():
    membership = view("bcdef")
    asks, changes = watch(membership, 0.0, 60.0, answering="bcde")
    mine = [(at, ask) for at, ask in asks if ask.target == "f"]
    (at, direct), (later, indirect) = mine[:2]
    assert direct == Ask("f", ("f:1",), TIMEOUT)
    assert later == pytest.approx(at + TIMEOUT, abs=0.11)
    assert indirect.timeout_s == 2 * TIMEOUT
    assert len(indirect.via) == CONFIG.indirect_probes
    assert {node for node, _ in indirect.via} < set("bcde")
    assert all(address == f"{node}:1" for node, address in indirect.via)
    suspect, dead = changes
    assert (suspect.peer, suspect.status, suspect.reason) == ("f", "suspect", "no answer")
    assert suspect.at == pytest.approx(later + 2 * TIMEOUT, abs=0.11)
    most = CONFIG.suspicion_max_mult * suspicion_s(6)
    assert (dead.peer, dead.status) == ("f", "dead")
    assert dead.at == pytest.approx(suspect.at + most, abs=0.11)
    assert membership.live() == ("a", "b", "c", "d", "e")


def test_an_indirect_probe_nobody_reports_about_ends_by_itself():
    membership = view("bcd")
    [ask] = [ask for now in (1.0, 2.0) for ask in membership.tick(now)][:1]
    membership.unanswered(ask.target, 2.5)
    assert [a.target for a in membership.tick(2.5) if a.via] == [ask.target]
    membership.tick(2.5 + 2 * TIMEOUT + 0.01)
    assert membership.status_of(ask.target) is SUSPECT


@pytest.mark.parametrize("confirmations", [0, 1, 2, 3])
def test_the_time_of_a_suspect_shrinks_with_every_sender_that_confirms(confirmations):
    """Lifeguard, LHA-Suspicion: max - (max - min) log(c + 1) / log(k + 1), k = 2 expected."""
    membership = view("bcdefg")
    membership.tick(1.0)
    for sender in "bcde"[: confirmations + 1]:
        membership.learn([say("g", SUSPECT), say("g", SUSPECT)], sender, 1.0)
    least, most = suspicion_s(7), CONFIG.suspicion_max_mult * suspicion_s(7)
    share = min(1.0, math.log(confirmations + 1) / math.log(3))
    assert member(membership, "g").due == pytest.approx(1 + most - share * (most - least))


def test_in_a_swarm_of_three_nobody_can_confirm_so_a_suspect_has_the_least_time():
    membership = view("bc")
    membership.learn([say("c", SUSPECT)], "b", 1.0)
    assert member(membership, "c").due == pytest.approx(1 + suspicion_s(3))


def test_a_suspect_whose_device_refused_our_probe_has_a_part_of_the_time():
    for is_gone, part in ((False, 1.0), (True, GONE)):
        membership = view("bc")
        [ask] = [ask for now in (1.0, 2.0) for ask in membership.tick(now)][:1]
        membership.unanswered(ask.target, 2.5, is_gone=is_gone)
        assert [each.target for each in membership.tick(2.5) if each.via] == [ask.target]
        membership.unanswered(ask.target, 3.0)
        suspect = member(membership, ask.target)
        assert (suspect.status, suspect.since) == (SUSPECT, 3.0)
        assert suspect.due == pytest.approx(3.0 + part * suspicion_s(3))


def test_a_suspect_that_refused_and_came_back_has_the_whole_time_again():
    membership = view("bc")
    [ask] = [ask for now in (1.0, 2.0) for ask in membership.tick(now)][:1]
    membership.unanswered(ask.target, 2.5, is_gone=True)
    membership.tick(2.5)
    membership.unanswered(ask.target, 3.0)
    hear(membership, ask.target, 3.1)
    assert member(membership, ask.target).status is ALIVE
    assert not member(membership, ask.target).is_gone


def test_who_never_spoke_and_does_not_answer_is_dead_at_once_and_not_by_our_word():
    membership = view("bcde")
    membership.learn([say("x")], "b", 1.0)
    assert "x" in membership.live()
    while any(rumour.node != "a" for rumour in membership.rumours(64)[1:]):
        pass
    _, changes = watch(membership, 1.0, 4.0, answering="bcde")
    assert [(change.peer, change.reason) for change in changes] == [("x", "never answered")]
    assert all(rumour.node != "x" for rumour in membership.rumours(64))


def test_hearsay_does_not_bring_back_who_never_answered_but_its_own_word_does():
    membership = view("bcde")
    membership.learn([say("x")], "b", 1.0)
    watch(membership, 1.0, 4.0, answering="bcde")
    membership.learn([say("x", ALIVE, 1, 9), say("x", SUSPECT, 2)], "b", 5.0)
    membership.learn([say("x", ALIVE, 900)], "c", 5.0)
    assert membership.status_of("x") is DEAD
    hear(membership, "x", 6.0)
    assert membership.status_of("x") is ALIVE
    membership.learn([say("x", DEAD, 2)], "b", 60.0)
    membership.learn([say("x", ALIVE, 3)], "b", 61.0)
    assert membership.status_of("x") is ALIVE, "once met, hearsay counts again"


def test_who_never_answered_is_asked_again():
    membership = view("bcde")
    membership.learn([say("x")], "b", 1.0)
    asks, _ = watch(membership, 1.0, 20.0, answering="bcde")
    assert len([at for at, ask in asks if ask.target == "x" and not ask.via]) >= 3


def test_a_suspicion_is_passed_on_only_by_who_vouches_for_it():
    membership = view("bcdefg")
    membership.learn([say("g", SUSPECT)], "b", 1.0)
    assert all(rumour.node != "g" for rumour in membership.rumours(64))
    membership.learn([say("g", SUSPECT)], "c", 1.0)
    membership.learn([say("g", SUSPECT)], "d", 1.0)
    assert membership.rumours()[0] == say("g", SUSPECT)

    waiting = view("bcdefg")
    hear(waiting, "g", 1.0, incarnation=2)
    waiting.learn([say("g", SUSPECT, 2)], "b", 1.0)
    assert all(rumour.node != "g" for rumour in waiting.rumours(64))

    doubting = view("bcdefg")
    doubting.learn([say("g", SUSPECT)], "b", 1.0)
    watch(doubting, 1.0, 3.0, answering="bcdef")
    assert doubting.rumours()[0] == say("g", SUSPECT)


def test_whoever_hears_a_suspicion_asks_out_of_turn_and_an_answer_ends_it():
    membership = view("bcdefg")
    membership.learn([say("g", SUSPECT)], "b", 0.0)
    [(at, ask)] = watch(membership, 0.0, 0.1, answering="g")[0]
    assert (at, ask.target) == (0.0, "g")
    assert membership.status_of("g") is ALIVE


def test_accusations_cannot_make_us_send_more_than_a_few_probes_per_interval():
    peers = [f"{number:02x}" for number in range(40)]
    membership = view(peers)
    asks = []
    for step in range(50):
        now = 1 + step / 10
        membership.learn([say(peer, SUSPECT, 1, step) for peer in peers], "x", now)
        for ask in membership.tick(now):
            asks.append(ask)
            membership.answered(ask.target)
    assert 4 * URGENT_PROBES <= len(asks) <= (URGENT_PROBES + 1) * 6


def test_a_stranger_known_by_hearsay_is_asked_at_once():
    membership = view("bcd")
    membership.learn([say("e")], "b", 0.0)
    assert [ask.target for ask in membership.tick(0.0)] == ["e"]


def test_a_target_that_spoke_meanwhile_is_not_suspected_for_an_unanswered_probe():
    membership = view("b")
    [ask] = membership.tick(1.0)
    hear(membership, "b", 1.2)
    assert membership.unanswered(ask.target, 1.5) == []
    assert membership.status_of("b") is ALIVE


def test_an_unanswered_probe_rotates_the_addresses():
    membership = view("")
    hear(membership, "b", 0.0, addresses=("b:1", "b:2"))
    [ask] = [ask for now in (1.0, 2.0) for ask in membership.tick(now)]
    membership.unanswered(ask.target, 2.5)
    assert membership.addresses("b") == ("b:2", "b:1")


def test_a_dead_verdict_on_somebody_who_just_spoke_makes_a_suspect_and_not_a_dead_one():
    membership = view("bcde")
    watch(membership, 0.0, 10.0, answering="bcde")
    hear(membership, "e", 10.0)
    membership.learn([say("e", DEAD)], "b", 11.0)
    assert membership.status_of("e") is SUSPECT
    asks, _ = watch(membership, 11.0, 11 + suspicion_s(5) + 0.2, answering="bcd")
    assert asks[0][0] == 11.0
    assert "e" in [ask.target for at, ask in asks if at == 11.0]
    assert membership.status_of("e") is DEAD


def test_a_farewell_is_believed_of_the_member_itself_and_doubted_when_others_pass_it_on():
    passed_on, first_hand = view("bc"), view("bc")
    hear(passed_on, "b", 10.0, refutation=1)
    passed_on.learn([say("b", DEAD, 1, 1, addresses=())], "c", 10.1)
    first_hand.learn([say("b", ALIVE, 1, 1), say("b", DEAD, 1, 1)], "b", 0.1)
    assert passed_on.status_of("b") is SUSPECT
    assert first_hand.status_of("b") is DEAD
    hear(passed_on, "b", 10.2, refutation=1)
    assert passed_on.status_of("b") is ALIVE


def test_a_dead_verdict_on_somebody_silent_is_believed():
    membership = view("bcde")
    membership.learn([say("e", DEAD)], "b", suspicion_s(5) + 0.1)
    assert membership.status_of("e") is DEAD
    assert "e" not in membership.live()


def test_a_round_asks_everybody_once_in_an_order_that_changes():
    config = replace_config(probe_timeout_s=0.05)
    membership = view("bcdefg", config=config)
    asks, _ = watch(membership, 0.0, 31.0, answering="bcdefg")
    rounds = [tuple(ask.target for _, ask in asks[i : i + 6]) for i in (0, 6, 12, 18, 24)]
    assert all(sorted(each) == list("bcdefg") for each in rounds)
    assert len(set(rounds)) > 1


def replace_config(**values) -> MembershipConfig:
    return MembershipConfig(**{**CONFIG.model_dump(), **values})


def test_a_member_that_comes_and_goes_takes_no_more_turns_than_there_are_members():
    membership = view("bc")
    for refutation in range(1000):
        membership.learn([say("b", DEAD, 1, refutation, addresses=())], "b", 0.0)
        assert membership.status_of("b") is DEAD
        hear(membership, "b", 0.0, refutation=refutation + 1)
    asks, _ = watch(membership, 0.0, 8.0, answering="bc")
    assert {"b", "c"} == {ask.target for _, ask in asks[-4:]}


def test_an_exchange_is_itself_a_probe():
    membership = view("bc")
    for step in range(100):
        now = step / 10
        hear(membership, "b", now)
        assert all(ask.target == "c" for ask in membership.tick(now))
        hear(membership, "c", now) if step % 10 == 9 else None
        membership.answered("c")


def test_our_own_missed_answers_slow_our_probes_down_and_answers_speed_them_up_again():
    """Lifeguard, LHA-Probe: interval and timeout grow with the local health multiplier."""
    peers = "bcdefghijklmno"
    membership = view(peers)
    asks, _ = watch(membership, 0.0, 60.0)
    assert membership.health == CONFIG.awareness_max - 1
    slowest = [ask.timeout_s for _, ask in asks if not ask.via][-1]
    assert slowest == TIMEOUT * CONFIG.awareness_max
    for peer in peers:
        hear(membership, peer, 60.0)
    asks, _ = watch(membership, 60.0, 120.0, answering=peers)
    assert membership.health == 0
    assert asks[-1][1].timeout_s == TIMEOUT
    assert asks[-1][0] - asks[-2][0] == pytest.approx(INTERVAL, abs=0.11)


def test_a_relay_that_answers_clears_us_of_blame():
    membership = view("bcd")
    [ask] = [ask for now in (1.0, 2.0) for ask in membership.tick(now)][:1]
    membership.unanswered(ask.target, 2.5)
    membership.tick(2.5)
    membership.helped(ask.target)
    membership.unanswered(ask.target, 3.5)
    assert membership.status_of(ask.target) is SUSPECT
    assert membership.health == 0


def test_a_caller_that_comes_late_holds_it_against_itself():
    membership = view("bcde")
    for sender in "bcd":
        membership.learn([say("e", SUSPECT)], sender, 0.0)
    at = member(membership, "e").due
    membership.tick(0.1)
    [ask] = membership.tick(1.0)[:1]
    late = at + 20
    assert membership.unanswered(ask.target, late) == []
    membership.tick(late)
    assert membership.status_of("e") is SUSPECT
    assert membership.health > 0
    watch(membership, late, late + suspicion_s(5) + 0.2, answering="bcd")
    assert membership.status_of("e") is DEAD

    alone_with_one = view("b")
    [ask] = alone_with_one.tick(1.0)
    assert alone_with_one.unanswered(ask.target, late) == []
    assert (alone_with_one.status_of("b"), alone_with_one.health) == (ALIVE, 1)


def test_the_dead_are_asked_again_after_growing_pauses_until_they_are_forgotten():
    membership = view("bc", config=replace_config(forget_dead_after_s=300.0))
    membership.learn([say("c", DEAD)], "b", 100.0)
    asks, _ = watch(membership, 100.0, 500.0, answering="b")
    times = [at for at, ask in asks if ask.target == "c"]
    pauses = np.diff([100.0, *times])
    assert pauses[0] <= INTERVAL + 0.1
    assert all(0.7 * 2**i <= pause <= 2**i + 0.2 for i, pause in enumerate(pauses[:5]))
    assert max(pauses) <= RETRY_MAX_S + 0.2
    assert 370 <= times[-1] + RETRY_MAX_S <= 500
    assert membership.status_of("c") is None


def test_many_dead_ones_cost_no_more_than_one_attempt_per_interval():
    peers = [f"{number:02x}" for number in range(60)]
    membership = view(peers)
    membership.learn([say(peer, DEAD) for peer in peers], "x", 100.0)
    asks, _ = watch(membership, 100.0, 130.0)
    assert 20 <= len(asks) <= 31


def test_a_failed_request_tries_the_next_address_and_asks_out_of_turn():
    membership = view("")
    hear(membership, "b", addresses=("b:1", "b:2"))
    assert membership.failed("b", 0.5) == []
    assert membership.addresses("b") == ("b:2", "b:1")
    [ask] = membership.tick(0.5)
    assert ask.addresses == ("b:2", "b:1")
    assert membership.failed("nobody", 0.5) == []


def test_addresses_are_kept_best_first_and_bounded():
    membership = view("b")
    hear(membership, "b", 1.0, addresses=("b:2",))
    assert membership.addresses("b") == ("b:2", "b:1")
    membership.learn([say("b", ALIVE, 1, 1, addresses=("b:3", "b:4", "b:5"))], "c", 1.0)
    assert membership.addresses("b") == ("b:2", "b:1", "b:3", "b:4")
    assert len(membership.addresses("b")) == ADDRESSES
    assert membership.addresses("nobody") == ()


def test_everybody_in_live_has_an_address():
    membership = view("")
    assert hear(membership, "b", 1.0, addresses=()) == []
    assert membership.learn([say("c", addresses=())], "d", 1.0) == []
    membership.learn([say("e", DEAD, addresses=())], "d", 1.0)
    membership.learn([say("e", ALIVE, 2, addresses=())], "d", 1.0)
    hear(membership, "e", 1.0, incarnation=2, addresses=())
    assert membership.live() == ("a",)


# --- what is told -------------------------------------------------------------------------------


def test_news_rides_on_a_bounded_number_of_messages_then_members_go_in_turn():
    membership = view("bcd")
    hear(membership, "e", 1.0)
    told = [rumour.node for _ in range(14) for rumour in membership.rumours(1)]
    assert told[:4] == ["e"] * 4  # retransmit_mult x ceil(log10(5 + 1))
    assert sorted(told[4:]) == ["b", "b", "c", "c", "d", "d", "e", "e"]  # the fifth was ourselves


def test_the_least_told_news_goes_first():
    membership = view("bcd")
    hear(membership, "e", 1.0)
    assert membership.rumours(1)[0].node == "e"
    hear(membership, "f", 1.0)
    assert [membership.rumours(1)[0].node for _ in range(3)] == ["f", "f", "e"]


def test_a_message_holds_no_more_than_its_limit_but_for_a_newcomer():
    peers = [f"{number:02x}" for number in range(80)]
    membership = view(peers, max_peers=100)
    membership.learn([say(peer, ALIVE, 2) for peer in peers], "00", 1.0)
    assert len(membership.rumours_for("05")) == CONFIG.rumours_per_message
    assert len(membership.rumours_for("05", 3)) == 3
    hear(membership, "zz", 1.0)
    assert len(membership.rumours_for("zz")) <= GREETING
    assert len({rumour.node for rumour in membership.rumours_for("zz")}) <= 8


def test_when_all_start_at_once_only_a_few_newcomers_are_greeted_at_length():
    peers = [f"{number:02x}" for number in range(30)]
    membership = Membership("a", 1, CONFIG, np.random.default_rng(0), max_peers=64)
    for peer in peers:
        hear(membership, peer, 1.0)
    long = [peer for peer in peers if len(membership.rumours_for(peer)) > 9]
    assert len(long) == GREETINGS


def test_a_reader_is_not_told_of_itself_unless_it_is_accused():
    membership = view("bc")
    hear(membership, "b", 1.0, incarnation=2)
    assert all(rumour.node != "b" for _ in range(9) for rumour in membership.rumours_for("b"))
    membership.learn([say("b", DEAD, 2)], "c", 100.0)
    assert membership.rumours_for("b")[0] == say("b", DEAD, 2)


def test_a_farewell_comes_first_in_everything_and_is_not_refuted():
    membership = view("bc")
    goodbye = membership.leave()
    assert goodbye == Rumour("a", (), DEAD, 5, 1)
    assert membership.leave() == goodbye
    assert membership.rumours()[0] == membership.rumours_for("b")[0] == goodbye
    membership.learn([goodbye], "b", 1.0)
    assert membership.refutation == 1


def test_whoever_left_is_not_alive_again_by_its_own_late_packets_but_by_a_restart():
    membership = view("bc")
    hear(membership, "b", 1.0, refutation=1)
    [left] = membership.learn([say("b", DEAD, 1, 1, addresses=())], "b", 1.0)
    assert (left.status, left.reason) == ("dead", "left")
    assert hear(membership, "b", 1.1, refutation=1) == []
    assert membership.status_of("b") is DEAD
    assert next(r for r in membership.rumours() if r.node == "b").addresses == ()
    [back] = hear(membership, "b", 2.0, incarnation=2)
    assert (back.status, back.reason) == ("alive", "restarted")
    assert membership.addresses("b") == ("b:1",)


# --- what is learnt -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "told", "wins"),
    [
        ((ALIVE, 1, 0), (ALIVE, 1, 0), False),
        ((ALIVE, 1, 0), (SUSPECT, 1, 0), True),
        ((ALIVE, 1, 0), (DEAD, 1, 0), True),
        ((SUSPECT, 1, 0), (ALIVE, 1, 0), False),
        ((SUSPECT, 1, 0), (DEAD, 1, 0), True),
        ((DEAD, 1, 0), (SUSPECT, 1, 0), False),
        ((DEAD, 1, 0), (ALIVE, 1, 0), False),
        ((DEAD, 1, 0), (ALIVE, 1, 1), True),
        ((DEAD, 1, 9), (ALIVE, 2, 0), True),
        ((ALIVE, 1, 1), (DEAD, 1, 0), False),
        ((ALIVE, 2, 0), (DEAD, 1, 9), False),
    ],
)
def test_the_later_version_wins_and_at_equal_ones_dead_over_suspect_over_alive(known, told, wins):
    membership = view("")
    membership.learn([say("b", *known)], "c", 0.0)
    membership.learn([say("b", *told)], "c", 0.0)
    believed = member(membership, "b")
    assert (believed.status, *believed.version) == (told if wins else known)


RUMOURS = st.lists(
    st.builds(
        say,
        st.sampled_from("abcd"),
        st.sampled_from(Status),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(0, 100),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(RUMOURS, st.randoms(use_true_random=False), st.sampled_from("bcx"))
def test_learning_is_idempotent_and_does_not_depend_on_order(rumours, random, sender):
    def believed(*batches):
        membership = view("")
        for batch in batches:
            membership.learn(batch, sender, 0.0)
        return {m.node: (m.version, m.status) for m in membership.members()}

    shuffled = random.sample(rumours, len(rumours))
    expected = {}
    for r in rumours:
        if r.node != "a":
            rank = [ALIVE, SUSPECT, DEAD].index(r.status)
            entry = ((r.incarnation, r.refutation), rank, r.status)
            expected[r.node] = max(expected.get(r.node, entry), entry)
    expected = {node: (version, status) for node, (version, _, status) in expected.items()}
    assert believed(rumours) == believed(shuffled) == believed(rumours, shuffled) == expected


@settings(deadline=None)
@given(RUMOURS)
def test_whatever_is_learnt_the_ids_are_sorted_and_we_are_among_them(rumours):
    membership = view("b")
    membership.learn(rumours, "b", 1.0)
    assert list(membership.live()) == sorted(set(membership.live()) | {"a"})
    assert set(membership.alive()) <= set(membership.live())
    assert all(membership.addresses(node) for node in membership.live() if node != "a")


@pytest.mark.parametrize(
    ("rumour", "refutation"),
    [
        (say("a", SUSPECT, 5, 0), 1),
        (say("a", DEAD, 5, 3), 4),
        (say("a", ALIVE, 5, 3), 0),
        (say("a", DEAD, 4, 9), 0),
        (say("a", DEAD, 6, 0), 0),
        (say("a", DEAD, 5, HEARSAY_JUMP + 1), 0),
    ],
)
def test_we_refute_what_is_said_against_this_life_of_ours(rumour, refutation):
    membership = view("b")
    membership.learn([rumour], "b", 1.0)
    assert membership.refutation == refutation
    assert membership.health == (refutation > 0)
    if refutation:
        assert membership.rumours()[0] == Rumour("a", (), ALIVE, 5, refutation)
        membership.learn([rumour], "b", 1.0)
        assert membership.refutation == refutation


def test_a_rumour_of_a_later_life_of_ours_is_remembered_for_the_next_start():
    membership = view("b")
    membership.learn([say("a", ALIVE, 9), say("a", DEAD, 7), say("a", DEAD, 2**50)], "b", 1.0)
    assert membership.claimed == 9


def test_hearsay_may_not_run_far_ahead_of_what_the_member_said_itself():
    membership = view("bc")
    too_far = [say("b", DEAD, 2 + HEARSAY_JUMP), say("b", DEAD, 1, 1 + HEARSAY_JUMP)]
    assert membership.learn(too_far, "c", 100.0) == []
    assert len(membership.learn([say("b", DEAD, 1 + HEARSAY_JUMP)], "c", 100.0)) == 1


def test_hearsay_that_the_member_disproved_is_not_believed_again_before_it_says_more():
    membership = view("bc")
    membership.learn([say("b", DEAD, 2)], "c", 100.0)
    [back] = hear(membership, "b", 101.0)
    assert (back.status, back.incarnation) == ("alive", 1)
    assert membership.learn([say("b", DEAD, 2)], "c", 200.0) == []
    hear(membership, "b", 201.0, refutation=1)
    assert len(membership.learn([say("b", DEAD, 2)], "c", 300.0)) == 1


def test_own_steps_are_the_newest_known_by_any_route_within_reason():
    membership = view("bc")
    hear(membership, "b", 1.0, steps=100)
    membership.learn([say("b", steps=140)], "c", 1.0)
    assert membership.steps_of("b") == 140
    hear(membership, "b", 1.0, steps=120)
    assert membership.steps_of("b") == 140
    membership.learn([say("b", steps=2**60)], "c", 1.0)
    assert membership.steps_of("b") == 120 + HEARSAY_JUMP
    hear(membership, "b", 2.0, incarnation=2, steps=30)
    assert membership.steps_of("b") == 30
    assert membership.steps_of("nobody") == 0


def test_a_stranger_known_by_hearsay_counts_its_steps_by_its_own_words_once_it_speaks():
    membership = view("b")
    membership.learn([say("c", steps=2**60)], "b", 1.0)
    hear(membership, "c", 2.0, steps=10)
    assert membership.steps_of("c") == 10


# --- how many -----------------------------------------------------------------------------------


def test_a_flood_of_made_up_ids_stays_within_bounds_and_displaces_no_live_member():
    membership = view("bcdefg", max_peers=64)
    for number in range(100_000):
        rumour = say(f"x{number}", (ALIVE, DEAD, SUSPECT)[number % 3])
        membership.learn([rumour], "g", 1.0)
    assert len(membership.members()) == 64
    assert set("abcdefg") <= set(membership.alive())
    assert len(membership.rumours(64)) <= 64


def test_the_oldest_dead_make_room_for_strangers():
    membership = view("bcd", max_peers=3)
    membership.learn([say("c", DEAD)], "b", 100.0)
    membership.learn([say("b", DEAD)], "d", 101.0)
    membership.learn([say("e")], "d", 102.0)
    assert [m.node for m in membership.members()] == ["b", "d", "e"]


def test_whoever_speaks_takes_the_place_of_somebody_who_never_did_but_hearsay_does_not():
    membership = view("b", max_peers=2)
    membership.learn([say("c")], "b", 1.0)
    assert membership.learn([say("d")], "b", 1.0) == []
    gone, met = hear(membership, "d", 1.0)
    assert (gone.peer, gone.status, gone.reason) == ("c", "dead", "made room")
    assert (met.peer, met.status) == ("d", "alive")
    assert hear(membership, "e", 1.0) == []
    assert membership.live() == ("a", "b", "d")


def test_the_beliefs_given_out_are_copies():
    membership = view("b")
    member(membership, "b").addresses = ()
    assert membership.addresses("b") == ("b:1",)
    assert replace(member(membership, "b")) == member(membership, "b")
