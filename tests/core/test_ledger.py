"""The ledger: floors, horizons, lives and bytes; whatever happens, its account is exact."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2pfl.core.compression import Encoded
from p2pfl.core.ledger import Inbox, Outbox, Pending, kept_bytes
from p2pfl.core.messages import Ack, Adopted, Cancelled, Flow

HORIZON_S = 100.0
LIMIT_BYTES = 5000
LIMIT_ASKERS = 3


def flow(seq: int, size: int = 4) -> Flow:
    return Flow(seq, 0, 0.5, 0.0, Encoded("float32", size, np.zeros(4 * size, np.uint8)))


def outbox(limit: int = 64) -> Outbox:
    return Outbox(horizon_s=HORIZON_S, limit=limit)


def inbox(askers: int = LIMIT_ASKERS) -> Inbox:
    return Inbox(horizon_s=HORIZON_S, limit_bytes=LIMIT_BYTES, limit_askers=askers)


def opened(box: Outbox, peer: str, now: float = 0.0) -> Pending:
    return box.open(peer, 0, 0, 0.5, now)


# --- the asker ----------------------------------------------------------------------------------


def test_numbers_rise_across_peers_and_the_floor_is_the_oldest_open_one_of_each():
    box = outbox()
    a0, b1, a2, b3 = (opened(box, peer) for peer in "abab")
    assert [p.seq for p in (a0, b1, a2, b3)] == [0, 1, 2, 3]
    assert (box.floor("a"), box.floor("b"), box.floor("stranger")) == (0, 1, 4)
    box.close(b1)
    box.close(a2)
    assert (box.floor("a"), box.floor("b")) == (0, 3)
    box.close(a0)
    assert box.floor("a") == 4
    assert box.find("a", 0) is None
    assert box.find("b", 3) is b3
    assert len(box) == 1


def test_what_is_unresolved_holds_no_slot_but_keeps_the_floor_down():
    box = outbox()
    first, second = opened(box, "a"), opened(box, "b")
    box.left_to_resolve(first, 1.0)
    assert list(box.in_flight) == [second]
    assert box.floor("a") == 0
    box.left_to_resolve(second, 1.0)
    assert not box.in_flight
    assert len(box) == 2


def test_only_unresolved_exchanges_that_are_due_are_asked_about():
    box = outbox()
    now, later, running = (opened(box, "a") for _ in range(3))
    now.unresolved, now.next_attempt = True, 5.0
    later.unresolved, later.next_attempt = True, 5.1
    assert box.overdue(5.0) == [now]
    assert box.overdue(6.0) == [now, later]
    assert running not in box.overdue(1e9)


def test_at_the_limit_the_oldest_unresolved_one_is_given_up_and_never_one_in_flight():
    box = outbox(limit=3)
    oldest = opened(box, "a", now=0.0)
    second, third = opened(box, "b", now=1.0), opened(box, "c", now=2.0)
    second.unresolved = third.unresolved = True
    fourth = opened(box, "d", now=3.0)
    assert {p.seq for p in box} == {oldest.seq, third.seq, fourth.seq}
    opened(box, "e", now=4.0)
    assert box.find("c", third.seq) is None
    assert box.find("a", oldest.seq) is oldest
    assert len(box) == 3


def test_past_the_horizon_an_exchange_is_given_up_and_named():
    box = outbox()
    old, young, flying = (opened(box, "a", now=0.0) for _ in range(3))
    for pending, since in ((old, 5.0), (young, 6.0)):
        box.left_to_resolve(pending, since)
    assert box.expire(5 + HORIZON_S) == []
    assert box.expire(5.5 + HORIZON_S) == [old]
    assert list(box) == [young, flying]
    assert box.floor("a") == young.seq
    assert box.expire(1000 * HORIZON_S) == [young], "what is under way may take its time"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 9))))
def test_everything_below_the_floor_is_closed_and_the_floor_never_falls(moves):
    box, alive, floors = outbox(limit=8), [], dict.fromkeys("abc", 0)
    for now, (peer, opens, which) in enumerate(moves):
        if opens or not alive:
            alive.append(opened(box, peer, now))
        else:
            box.close(alive.pop(which % len(alive)))
        alive = [p for p in alive if box.find(p.peer, p.seq) is p]
        assert len(box) == len(alive) <= 8
        for name, before in floors.items():
            floors[name] = box.floor(name)
            assert floors[name] >= before
            assert all(p.seq >= floors[name] for p in alive if p.peer == name)


# --- the answerer -------------------------------------------------------------------------------


def test_an_answer_is_kept_until_the_asker_says_it_has_finished_with_it():
    box = inbox()
    box.hear("a", 1, 0)
    kept = box.keep("a", 1, flow(5), now=0.0)
    assert box.find("a", 5) is kept
    assert not box.is_finished("a", 5)
    box.hear("a", 1, 5)
    assert box.find("a", 5) is kept
    box.hear("a", 1, 6)
    assert box.find("a", 5) is None
    assert box.is_finished("a", 5)
    assert box.nbytes == 0
    box.hear("a", 1, 2)
    assert box.is_finished("a", 5), "a late packet does not lower the floor"


def test_a_restarted_asker_forgets_and_its_earlier_life_is_refused():
    box = inbox()
    box.hear("a", 1, 4)
    box.keep("a", 1, flow(7), now=0.0)
    assert box.hear("a", 2, 0)
    assert box.find("a", 7) is None
    assert not box.is_finished("a", 3), "a new life counts from zero"
    assert box.nbytes == 0
    assert not box.hear("a", 1, 0)
    box.expire(now=1.0)
    assert not box.hear("a", 1, 9), "housekeeping does not forget which life is over"


def test_an_earlier_life_is_refused_even_if_the_later_one_only_said_hello():
    box = inbox()
    assert box.hear("a", 2, 0)
    assert not box.hear("a", 1, 0)
    assert box.hear("a", 3, 0)
    assert not box.hear("a", 2, 5)


def test_a_stranger_that_only_says_hello_costs_no_memory():
    box = inbox(askers=1)
    for i in range(10):
        assert box.hear(f"{i}", 1, 0)
    box.keep("a", 1, flow(0), now=0.0)
    assert box.find("a", 0) is not None


def test_strangers_push_out_idle_askers_but_never_a_kept_answer():
    box = inbox(askers=3)
    box.hear("idle", 1, 5)
    box.keep("busy", 1, flow(0), now=0.0)
    for i in range(50):
        assert box.hear(f"stranger {i}", 1, 1)
    assert box.find("busy", 0) is not None
    assert not box.is_finished("idle", 0), "an idle asker was forgotten"


def test_when_all_places_are_taken_no_other_asker_is_kept():
    box = inbox(askers=2)
    for peer in "ab":
        assert box.has_place(peer)
        box.keep(peer, 1, Cancelled(0), now=0.0)
    assert not box.has_place("c")
    assert box.has_place("a"), "who is known may go on"
    assert box.hear("c", 1, 9)
    assert not box.is_finished("c", 0)
    box.hear("a", 1, 1)
    assert box.has_place("c"), "an idle place is given away"


def test_one_asker_cannot_make_us_keep_endlessly_many_answers():
    box, kept = inbox(), 0
    while box.has_place("a") and kept < 10_000:
        box.keep("a", 1, Cancelled(kept), now=0.0)
        kept += 1
    assert 64 < kept < 1000
    box.hear("a", 1, kept)
    assert box.has_place("a")


def test_room_counts_what_is_kept_and_what_is_arriving():
    box = inbox()
    assert box.has_room(LIMIT_BYTES)
    assert not box.has_room(LIMIT_BYTES + 1)
    box.keep("a", 1, flow(0, 250), now=0.0)
    box.arriving_bytes += 3000
    assert box.has_room(1000)
    assert not box.has_room(1001)


def test_past_the_horizon_an_answer_is_forgotten_and_refused_should_it_be_asked_after_all():
    box = inbox()
    box.keep("a", 1, flow(3), now=0.0)
    box.expire(now=2.25 * HORIZON_S)
    assert box.find("a", 3) is not None
    box.expire(now=2.25 * HORIZON_S + 1)
    assert box.find("a", 3) is None
    assert box.is_finished("a", 3)
    assert not box.is_finished("a", 4)


@given(
    st.floats(0, HORIZON_S),
    st.floats(0, HORIZON_S),
    st.floats(0, 4 * HORIZON_S),
    st.floats(0.9, 1.1),
)
def test_the_answerer_forgets_later_than_the_asker_even_if_its_clock_is_a_tenth_off(
    way_s, patience_s, asked_s, pace
):
    asker, answerer = outbox(), inbox()
    pending = opened(asker, "b", now=0.0)
    asker.left_to_resolve(pending, patience_s)
    answerer.keep("a", 1, flow(pending.seq), now=way_s * pace)
    asker.expire(asked_s)
    answerer.expire(asked_s * pace)
    if asker.find("b", pending.seq) is not None:
        assert answerer.find("a", pending.seq) is not None


def test_only_payloads_cost_bytes():
    assert kept_bytes(flow(0, 100)) == 400
    assert kept_bytes(Cancelled(0)) == kept_bytes(Adopted(0)) == kept_bytes(Ack(0, 0)) == 0


class Account(RuleBasedStateMachine):
    """A flat list of what is kept, beside the inbox that should agree with it."""

    peers = st.sampled_from(["a", "b", "c", "d"])

    def __init__(self) -> None:
        super().__init__()
        self.box = inbox()
        self.kept: list[tuple[str, int, int, float]] = []
        self.lives: dict[str, int] = {}
        self.now = 0.0
        self.arriving = 0

    @rule(peer=peers, life=st.integers(1, 3), floor=st.integers(0, 12))
    def hear(self, peer, life, floor):
        alive = max(self.lives.get(peer, 0), 0)
        believed = self.box.hear(peer, life, floor)
        holds = any(p == peer for p, *_ in self.kept)
        if holds:
            assert believed == (life >= alive)
        if not believed:
            return
        if life > alive and holds:
            self.kept = [k for k in self.kept if k[0] != peer]
        self.lives[peer] = life
        self.kept = [k for k in self.kept if k[0] != peer or k[1] >= floor]

    @rule(peer=peers, seq=st.integers(0, 12), size=st.integers(0, 300))
    def keep(self, peer, seq, size):
        if self.box.find(peer, seq) or self.box.is_finished(peer, seq):
            return
        if self.box.has_place(peer) and self.box.has_room(4 * size):
            answer = flow(seq, size) if size else Cancelled(seq)
            self.box.keep(peer, self.lives.setdefault(peer, 1), answer, self.now)
            self.kept.append((peer, seq, 4 * size, self.now))

    @rule(seconds=st.floats(0, 80))
    def pass_time(self, seconds):
        self.now += seconds
        self.box.expire(self.now)
        self.kept = [k for k in self.kept if self.now - k[3] <= 2.25 * HORIZON_S]

    @rule(nbytes=st.integers(0, 2000))
    def begin_arriving(self, nbytes):
        if self.box.has_room(nbytes):
            self.box.arriving_bytes += nbytes
            self.arriving += nbytes

    @precondition(lambda self: self.arriving)
    @rule()
    def end_arriving(self):
        self.box.arriving_bytes -= self.arriving
        self.arriving = 0

    @invariant()
    def bytes_are_exact(self):
        assert self.box.nbytes == sum(nbytes for _, _, nbytes, _ in self.kept)
        assert len(self.box) == len(self.kept)
        assert all(self.box.find(peer, seq) is not None for peer, seq, *_ in self.kept)
        assert 0 <= self.box.nbytes + self.arriving <= LIMIT_BYTES
        assert self.box.has_room(LIMIT_BYTES - self.box.nbytes - self.arriving)


Account.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestAccount = Account.TestCase
