"""An exchange takes effect at both ends or at neither, whatever the link does (PROTOCOL 1 and 4).

`Adversary` is hypothesis at the switch of the link: it loses, repeats and reorders messages, breaks
connections in the middle of a flow, lets members train, time out and resolve in any order. The
seeded worlds are larger and longer; each has a twin that does not resolve, and must fail.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from p2pfl.config import GossipConfig, LimitsConfig
from p2pfl.core.compression import CODECS
from p2pfl.core.messages import Busy, Cancelled, Exchange, Flow, Reason, Refused, Resolve
from p2pfl.core.weights import PIECE
from tests.core.world import World, answered, asked, copied, finished, gossip_state, question

LARGE = PIECE + 257
INDEX = st.integers(0, 63)


def start(n: int, size: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)


def assert_whole(world: World) -> None:
    """What took effect at one end took effect at the other, once, and the mean is where it was."""
    assert len(world.added) == len(set(world.added)), "an exchange was answered twice"
    assert set(world.added) == world.taken
    assert (np.abs(world.drift()) <= world.rounding).all()


class Adversary(RuleBasedStateMachine):
    """Anything may happen in any order; then peace, and then the account must be exact."""

    resolving = True

    @initialize(n=st.integers(2, 3), codec=st.sampled_from(list(CODECS)), many=st.booleans())
    def begin(self, n: int, codec: str, many: bool) -> None:
        options = {"weight": 0.1, "outstanding": 8} if many else {}
        self.world = World.of(
            start(n, 5), codec=codec, resolving=self.resolving, config=GossipConfig(**options)
        )

    @rule(i=INDEX, j=INDEX)
    def ask(self, i: int, j: int) -> None:
        n = len(self.world.members)
        self.world.ask(i % n, (i + 1 + j % (n - 1)) % n)

    @rule(i=INDEX)
    def train(self, i: int) -> None:
        n = len(self.world.members)
        self.world.train(i % n, np.float32([1, -0.5, 0.25, 2, i / 64]))

    @rule(i=INDEX)
    def lose_patience(self, i: int) -> None:
        self.world.now += 0.5
        self.world.time_out(i % len(self.world.members), patience_s=0.0)

    @precondition(lambda self: self.world.letters)
    @rule(at=INDEX)
    def deliver(self, at: int) -> None:
        self.world.deliver(at % len(self.world.letters))

    @precondition(lambda self: self.world.letters)
    @rule(at=INDEX)
    def repeat(self, at: int) -> None:
        self.world.repeat(at % len(self.world.letters))

    @precondition(lambda self: self.world.letters)
    @rule(at=INDEX)
    def drop(self, at: int) -> None:
        self.world.drop(at % len(self.world.letters))

    @precondition(lambda self: self.world.jobs)
    @rule(at=INDEX)
    def work(self, at: int) -> None:
        self.world.work(at % len(self.world.jobs))

    @precondition(lambda self: self.world.jobs)
    @rule(at=INDEX)
    def break_off(self, at: int) -> None:
        self.world.break_off(at % len(self.world.jobs))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.come_to_rest()
            assert_whole(self.world)
            for member in self.world.members:
                assert not member.state.outbox.in_flight


Adversary.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
TestAdversary = Adversary.TestCase


def storm(
    seed: int,
    *,
    resolving: bool = True,
    n: int = 3,
    moves: int = 300,
    size: int = 5,
    codec: str = "float32",
) -> World:
    """A seeded adversary, and then peace."""
    rng = np.random.default_rng(seed)
    world = World.of(start(n, size, seed), resolving=resolving, codec=codec)
    delta = rng.normal(size=size).astype(np.float32)
    for _ in range(moves):
        i, letters, jobs = int(rng.integers(n)), len(world.letters), len(world.jobs)
        match rng.choice(["ask", "train", "wait", "deliver", "repeat", "drop", "work", "break"]):
            case "ask":
                world.ask(i, int((i + rng.integers(1, n)) % n))
            case "train":
                world.train(i, delta)
            case "wait":
                world.now += 0.3
                world.time_out(i)
            case "deliver" if letters:
                world.deliver(int(rng.integers(letters)))
            case "repeat" if letters:
                world.repeat(int(rng.integers(letters)))
            case "drop" if letters and rng.random() < 0.5:
                world.drop(int(rng.integers(letters)))
            case "work" if jobs:
                for _ in range(3):
                    if world.jobs:
                        world.work(int(rng.integers(len(world.jobs))))
            case "break" if jobs:
                world.break_off(int(rng.integers(jobs)))
    world.come_to_rest()
    return world


@pytest.mark.parametrize("seed", range(20))
def test_after_a_storm_every_exchange_took_effect_at_both_ends_or_at_neither(seed):
    world = storm(seed)
    assert len(world.added) > 5, "the storm must let something through"
    assert_whole(world)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("seed", range(3))
def test_models_of_several_pieces_survive_storms_that_break_flows_between_pieces(seed, codec):
    world = storm(seed, n=2, moves=150, size=LARGE, codec=codec)
    assert len(world.added) > 2
    assert_whole(world)


def test_the_twin_that_does_not_resolve_loses_the_mean_in_the_same_storms():
    lost = 0
    for seed in range(10):
        world = storm(seed, resolving=False)
        lost += bool((np.abs(world.drift()) > 1000 * world.rounding).any())
        assert (set(world.added) != world.taken) >= (np.abs(world.drift()) > world.rounding).any()
    assert lost >= 8


# --- invariant 4 --------------------------------------------------------------------------------


def mean_drift(*, resolving: bool, seed: int = 1) -> tuple[float, float]:
    """Twenty nodes, no training, 30% loss, 30% away at any time, delay of about a cycle."""
    n, rng = 20, np.random.default_rng(seed)
    world = World.of(start(n, 16, seed), resolving=resolving)
    world.delay_s = lambda: float(rng.uniform(0.0, 1.0))
    away = rng.random(n) < 0.3
    lost: set[int] = set()
    for cycle in range(400):
        away ^= rng.random(n) < np.where(away, 0.14, 0.06)
        for i in np.flatnonzero(~away):
            for _ in range(2):
                world.ask(int(i), int((i + rng.integers(1, n)) % n))
            world.time_out(int(i), patience_s=4.0)
        for letter in list(world.letters):
            gone = (letter.source in away.nonzero()[0]) | (letter.target in away.nonzero()[0])
            if id(letter) not in lost and (gone or rng.random() < 0.3):
                world.letters.remove(letter)
            lost.add(id(letter))
        world.now += 1.0
        world.deliver_due()
        assert cycle < 5 or world.added
    world.come_to_rest(200.0)
    return float(np.linalg.norm(world.drift()) / n), len(world.added)


def test_the_mean_stays_under_30_percent_loss_and_churn_as_in_section_7_invariant_4():
    drift, exchanges = mean_drift(resolving=True)
    assert exchanges > 500
    assert drift < 1e-3


def test_without_resolve_the_same_network_loses_the_mean():
    drift, _ = mean_drift(resolving=False)
    assert drift > 0.01


# --- one case at a time -------------------------------------------------------------------------


def pair(**options: object) -> World:
    return World.of(start(2), **options)


def test_a_lost_question_is_cancelled_for_good_and_may_come_late():
    world = pair()
    world.ask(0, 1)
    late = world.letters.pop()
    world.now += 2
    world.come_to_rest()
    assert world.outcomes == ["cancelled"]
    late.deliver()
    world.come_to_rest()
    assert world.added == []
    assert_whole(world)


def test_a_lost_answer_is_given_again_and_applied_once():
    world = pair()
    world.ask(0, 1)
    world.deliver(0)
    world.work_all()
    world.drop(0)
    world.now += 2
    world.come_to_rest()
    assert world.outcomes == ["flow", "flow"]
    assert_whole(world)


def test_an_answer_that_comes_twice_while_the_first_is_subtracted_is_applied_once():
    world = pair()
    world.ask(0, 1)
    world.deliver(0)
    world.work_all()
    world.repeat(0)
    world.repeat(0)
    world.deliver(0)
    world.work_all()
    world.come_to_rest()
    assert_whole(world)


def test_a_question_repeated_while_it_is_answered_is_answered_once():
    world = World.of(start(2, LARGE))
    world.ask(0, 1)
    world.repeat(0)
    world.repeat(0)
    world.work(0)
    world.repeat(0)
    world.come_to_rest()
    assert world.outcomes.count("repeated") >= 2
    assert len(world.added) == 1
    assert_whole(world)


@pytest.mark.parametrize("steps", [0, 1])
def test_what_was_not_reached_when_the_question_broke_off_does_not_flow_at_either_end(steps):
    world = World.of(start(2, LARGE))
    models = [m.state.x.copy() for m in world.members]
    world.ask(0, 1)
    world.deliver(0)
    for _ in range(steps):
        world.work(0)
    world.break_off(0)
    world.now += 2
    world.come_to_rest()
    assert_whole(world)
    for member, before in zip(world.members, models, strict=True):
        changed = member.state.x != before
        assert changed[:PIECE].any() == (steps > 0)
        assert not changed[PIECE:].any()


def test_an_answer_that_broke_off_is_finished_from_where_it_stopped():
    world = World.of(start(2, LARGE))
    world.ask(0, 1)
    world.deliver(0)
    world.work_all()
    world.deliver(0)
    world.work(0)
    world.break_off(0)
    (pending,) = world.members[0].state.outbox
    assert pending.settled == PIECE
    world.come_to_rest()
    assert world.outcomes == ["flow", "flow", "flow"]
    assert_whole(world)


def test_resolve_is_told_busy_while_the_arithmetic_runs_and_the_flow_afterwards():
    asker, answerer = gossip_state(np.zeros(LARGE)), gossip_state(np.ones(LARGE))
    pending, ask = asked(asker, "j", 0.0)
    flow, _, work = answerer.answer("i", 1, ask, newest_steps=0, now=0.0)
    next(work)
    asker.unanswered(pending, 1.0)
    busy = answerer.answer_resolve("i", 1, Resolve(pending.seq), 1.0)
    assert isinstance(busy, Busy)
    assert asker.settle(pending, busy)[0].outcome == "busy"
    assert asker.outbox.find("j", pending.seq) is pending
    finished(work)
    told = answerer.answer_resolve("i", 1, Resolve(pending.seq), 2.0)
    assert told is flow
    finished(asker.settle(pending, copied(told))[1])
    assert np.array_equal(asker.x, answerer.x)
    assert len(asker.outbox) == 0


def test_a_refusal_to_say_what_became_of_it_is_no_answer():
    asker = gossip_state(np.zeros(3))
    pending, _ = asked(asker, "j", 0.0)
    asker.unanswered(pending, 1.0)
    mixed, _ = asker.settle(pending, Refused(Reason.RATE))
    assert mixed.outcome == "refused: rate"
    assert asker.outbox.find("j", pending.seq) is pending
    assert asker.outbox.overdue(1.2) == []
    assert asker.outbox.overdue(9.0) == [pending]


def test_replays_of_old_packets_after_the_floor_passed_change_nothing():
    state = gossip_state(np.zeros(3))
    asks = [question(np.ones(3), seq=seq) for seq in range(4)]
    for ask in asks[:3]:
        answered(state, copied(ask))
    state.refuse("aa", 1, 3)
    x, kept = state.x.copy(), state.inbox.nbytes
    for ask in asks[:3]:
        answer, mixed = answered(state, copied(ask))
        assert answer == Refused(Reason.STALE_SEQ, f"{ask.seq} is finished")
        assert mixed.outcome == "repeated"
        assert state.answer_resolve("aa", 1, Resolve(ask.seq), 0.0) == Cancelled(ask.seq)
    assert np.array_equal(state.x, x)
    assert state.inbox.nbytes == kept == 0
    assert isinstance(answered(state, asks[3])[0], Flow)


def test_an_asker_that_was_restarted_counts_anew_and_its_earlier_life_changes_nothing():
    world = pair()
    world.ask(0, 1)
    world.repeat(0)
    world.work_all()
    old = world.letters[0]
    world.letters.clear()
    world.restart(0)
    world.ask(0, 1)
    world.come_to_rest()
    x = world.members[1].state.x.copy()
    old.deliver()
    world.come_to_rest()
    assert np.array_equal(world.members[1].state.x, x)
    assert world.added == [("00000000", 1, 0), ("00000000", 2, 0)]


def test_a_payload_of_an_earlier_life_that_arrives_after_the_restart_is_refused():
    state = gossip_state(np.zeros(3))
    assert state.refuse("aa", 1, 0) is None
    assert state.refuse("aa", 2, 0) is None
    answer, mixed = answered(state, question(np.ones(3)), incarnation=1)
    assert answer == Refused(Reason.INCARNATION, "1 is over")
    assert mixed.outcome == "refused: incarnation"
    assert not state.x.any()


def test_over_the_budget_nothing_is_answered_until_answers_are_acknowledged():
    limits = LimitsConfig(done_bytes=0)
    state = gossip_state(np.zeros(1000), limits=limits)
    nbytes = 4000
    for seq in range(2):
        assert state.inbox.has_room(nbytes)
        answered(state, question(np.ones(1000), seq=seq))
    assert not state.inbox.has_room(nbytes), "two of our own models, however small the limit"
    state.refuse("aa", 1, 1)
    assert state.inbox.has_room(nbytes)


def test_strangers_cannot_fill_our_memory_with_questions_about_nothing():
    limits = LimitsConfig(peers=10)
    state = gossip_state(np.zeros(3), limits=limits)
    for k in range(100):
        for seq in range(300):
            state.answer_resolve(f"{k:08x}", 1, Resolve(seq), 0.0)
    assert len(state.inbox) <= 10 * 256
    assert isinstance(state.answer_resolve("ff", 1, Resolve(0), 0.0), Busy)
    assert isinstance(answered(state, question(np.ones(3)), peer="ff")[0], Busy)
    assert not state.x.any()
    state.expire(1000.0)
    assert isinstance(answered(state, question(np.ones(3)), peer="ff")[0], Flow)


def test_an_exchange_is_a_message_of_its_own_memory_in_these_tests():
    state = gossip_state(np.zeros(3))
    _, ask = asked(state, "j", 0.0)
    assert isinstance(ask, Exchange)
    state.x += 1
    assert not ask.payload.values().any()
