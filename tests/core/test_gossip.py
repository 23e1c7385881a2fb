"""GossipState: both ends of an exchange, adoption, lineages, shares and snapshots."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import pytest

from p2pfl.config import GossipConfig
from p2pfl.core.compression import CODECS, encode
from p2pfl.core.gossip import GossipState
from p2pfl.core.messages import (
    Ack,
    Adopt,
    Adopted,
    Busy,
    Cancelled,
    Flow,
    Model,
    Reason,
    Refused,
    Resolve,
)
from p2pfl.core.meters import Pulse
from p2pfl.core.mixing import consensus_distance
from p2pfl.core.weights import PIECE
from tests.core.world import (
    Member,
    World,
    answered,
    asked,
    copied,
    finished,
    gossip_state,
    question,
    ulp,
)

LARGE = 2 * PIECE + 257


def normal(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def constant(value: float, size: int = 3) -> np.ndarray:
    return np.full(size, value, np.float32)


def wide(*vectors: np.ndarray) -> np.ndarray:
    """Their sum in float64: (d,)."""
    return np.sum(vectors, axis=0, dtype=np.float64)


def address(array: np.ndarray) -> int:
    """Where its memory begins."""
    begins: int = array.__array_interface__["data"][0]
    return begins


def exchanged(i: GossipState, j: GossipState, codec: str) -> float:
    """One whole exchange; the weight it had."""
    pending, ask = asked(i, "j", 0.0, codec)
    answer, mixed = answered(j, ask, peer="i")
    finished(i.settle(pending, answer)[1])
    return mixed.weight


# --- invariant 1: the sum of the two models is unchanged ----------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_ten_thousand_random_pairs_keep_their_sum_to_half_a_unit_of_each_result(codec):
    """Both ends add the same float32 numbers, so only the two roundings of x + f and x - f, half a
    unit in the last place each, can differ from exactness."""
    rng = np.random.default_rng(11)
    i, j = gossip_state(np.zeros(1)), gossip_state(np.zeros(1))
    i.gate.norm = j.gate.norm = np.inf  # models of another scale each time are not broken here
    for pair in range(10_000 // len(CODECS) + 1):
        size, scale = int(rng.integers(1, 40)), 10.0 ** rng.integers(-6, 6)
        i.x, j.x = (rng.normal(scale=scale, size=size).astype(np.float32) for _ in "ij")
        i._version += 1
        i.meters.of("j").lag_cycles = float(rng.choice([0, 0.5, 4, 90]))
        j.inbox.hear("i", 1, i.outbox.floor("j"))
        before, apart = wide(i.x, j.x), np.abs(i.x - j.x).max()
        fits = max(np.abs(i.x).max(), np.abs(j.x).max()) < 65504
        weight = exchanged(i, j, codec)
        assert 0 < weight <= 0.5
        allowed = (ulp(i.x) + ulp(j.x)) / 2
        assert (np.abs(wide(i.x, j.x) - before) <= allowed).all(), f"pair {pair}"
        if weight == 0.5 and (codec != "float16" or fits):
            assert np.abs(i.x - j.x).max() < apart


@pytest.mark.parametrize("codec", CODECS)
def test_a_model_of_several_pieces_keeps_the_sum_while_others_change_it_between_pieces(codec):
    i, j = gossip_state(normal(LARGE, 1)), gossip_state(normal(LARGE, 2), seed=1)
    k, delta = gossip_state(normal(LARGE, 3), seed=2), normal(LARGE, 4)
    states = (i, j, k)
    before = wide(*(state.x for state in states))

    (first, ask), (second, other) = (asked(state, "j", 0.0, codec) for state in (i, k))
    answers = [
        j.answer(who, 1, question, newest_steps=0, now=0.0)
        for who, question in (("i", ask), ("k", other))
    ]
    works = [work for _, _, work in answers]
    works += [state.apply(delta, 1, 0.1, state.lineage) for state in states]
    finished(zip_longest(*works))
    works = [
        state.settle(pending, copied(flow))[1]
        for state, pending, (flow, _, _) in zip((i, k), (first, second), answers, strict=True)
    ]
    works.append(i.apply(delta, 1, 0.1, i.lineage))
    finished(zip_longest(*works))

    assert [mixed.outcome for _, mixed, _ in answers] == ["flow", "flow"]
    # three additions at i and j, two at k, half a unit of the next binade each
    allowed = 1.5 * sum(ulp(2 * np.maximum(np.abs(state.x), 8)) for state in states)
    assert (np.abs(wide(*(state.x for state in states)) - before - 4.0 * delta) <= allowed).all()


# --- what is answered ---------------------------------------------------------------------------


def test_the_larger_age_is_taken_at_both_ends():
    for i_age, j_age in ((900, 1000), (1000, 900)):
        i, j = gossip_state(constant(0), age=i_age), gossip_state(constant(1), age=j_age)
        exchanged(i, j, "float32")
        assert i.age == j.age == 1000


def test_each_way_of_being_stale_lowers_the_weight():
    def weight(cycle_s: float = 1.0, trip_s: float = 0.0, whole_s: float = 0.0, **told) -> float:
        state = gossip_state(constant(0))
        state.cycle_s = cycle_s
        state.meters.of("i").small = Pulse(mean_s=trip_s)
        state.meters.of("i").whole = Pulse(mean_s=whole_s)
        ask = question(constant(1))
        for name, value in told.items():
            if name != "newest_steps":
                object.__setattr__(ask, name, value)
        _, mixed, _ = state.answer("i", 1, ask, newest_steps=told.get("newest_steps", 0), now=0.0)
        return mixed.weight

    assert weight() == 0.5
    quarter = pytest.approx(0.25)
    assert weight(newest_steps=4) == quarter
    assert weight(lag_cycles=4.0) == quarter
    assert weight(residence_s=4.0) == quarter
    assert weight(trip_s=4.0) == quarter
    assert weight(whole_s=4.0) == quarter
    assert weight(residence_s=4.0, cycle_s=0.0) == 0.5


def test_the_lag_is_learnt_from_how_far_we_trained_before_an_answer_came():
    i, j = gossip_state(constant(0)), gossip_state(constant(1))
    pending, ask = asked(i, "j", 0.0)
    for _ in range(6):
        finished(i.apply(constant(0), 5, 0.1, i.lineage))
    answer, _ = answered(j, ask)
    i.settle(pending, answer)
    assert i.meters.of("j").lag_cycles == 6
    assert asked(i, "j", 0.0)[1].lag_cycles == 6


def test_a_model_of_another_size_is_refused_with_both_sizes_and_nothing_changes():
    state = gossip_state(constant(1, 10))
    answer, mixed = answered(state, question(constant(0, 7)))
    assert answer == Refused(Reason.SHAPE, "model has 7 values, expected 10")
    assert mixed.outcome == "refused: shape"
    assert np.array_equal(state.x, constant(1, 10))
    assert len(state.inbox) == 0


def test_whatever_is_not_an_answer_ends_the_exchange_without_a_change():
    state = gossip_state(constant(1))
    for answer in (Refused(Reason.SHAPE), Cancelled(1), Adopt(2, 0, question(constant(5)).payload)):
        pending, _ = asked(state, "j", 0.0)
        mixed, work = state.settle(pending, answer)
        finished(work)
        assert mixed.outcome.split(":")[0] == type(answer).__name__.lower()
        assert state.outbox.find("j", pending.seq) is None
    assert np.array_equal(state.x, constant(1))


@pytest.mark.parametrize("answer", [Ack(1, 1), Model(1, None)], ids=["ack", "model"])
def test_what_is_no_answer_to_any_exchange_is_a_fault_and_leaves_it_to_resolve(answer):
    state = gossip_state(constant(1))
    pending, _ = asked(state, "j", 0.0)
    mixed, work = state.settle(pending, answer)
    finished(work)
    assert mixed.outcome == "rejected: malformed"
    assert np.array_equal(state.x, constant(1))
    assert not state.outbox.in_flight
    assert state.outbox.overdue(1.0) == [pending]


def test_an_answer_to_another_exchange_is_not_applied_but_asked_about():
    state = gossip_state(constant(1))
    pending, _ = asked(state, "j", 0.0)
    stray = Flow(pending.seq + 1, 0, 0.5, 0.0, question(constant(5)).payload)
    mixed, work = state.settle(pending, stray)
    finished(work)
    assert mixed.outcome == "mismatched"
    assert np.array_equal(state.x, constant(1))
    assert state.outbox.overdue(1.0) == [pending]


# --- adoption -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_an_asker_without_history_is_given_the_model_and_mixes_nothing(codec):
    newcomer, old = gossip_state(constant(0), age=0), gossip_state(constant(7), age=1000)
    pending, ask = asked(newcomer, "j", 0.0, codec)
    answer, mixed = answered(old, ask)
    assert mixed.outcome == "adopt"
    assert isinstance(answer, Adopt)
    finished(newcomer.settle(pending, answer)[1])
    assert np.allclose(newcomer.x, 7, rtol=1e-2)
    assert newcomer.age == 1000
    assert np.array_equal(old.x, constant(7))
    assert old.inbox.nbytes == 0


def test_an_answerer_without_history_takes_the_askers_model():
    newcomer, old = gossip_state(constant(0), age=0), gossip_state(constant(7), age=1000)
    pending, ask = asked(old, "j", 0.0)
    answer, mixed = answered(newcomer, ask)
    assert answer == Adopted(pending.seq)
    assert mixed.outcome == "adopted"
    assert old.settle(pending, answer)[0].outcome == "adopted"
    assert np.array_equal(newcomer.x, constant(7))
    assert np.array_equal(old.x, constant(7))
    assert newcomer.age == 1000


@pytest.mark.parametrize(
    ("asker", "answerer", "kind"),
    [(0, 0, Flow), (0, 1, Adopt), (1, 0, Adopted), (99, 1000, Adopt), (100, 1000, Flow),
     (1000, 100, Flow), (1000, 99, Adopted)],
)  # fmt: skip
def test_a_tenth_of_the_others_age_is_the_line_below_which_a_model_is_adopted(
    asker, answerer, kind
):
    ask = question(constant(1), age=asker)
    assert type(answered(gossip_state(constant(0), age=answerer), ask)[0]) is kind


def test_a_lost_adopt_is_resolved_as_cancelled_and_a_lost_adopted_as_adopted():
    old, newcomer = gossip_state(constant(7), age=1000), gossip_state(constant(0), age=0)
    answered(old, question(constant(0), age=0))
    assert old.answer_resolve("aa", 1, Resolve(0), 1.0) == Cancelled(0)
    answered(newcomer, question(constant(5)))
    assert newcomer.answer_resolve("aa", 1, Resolve(0), 1.0) == Adopted(0)
    assert np.array_equal(newcomer.x, constant(5))


def test_a_newcomer_that_found_history_meanwhile_no_longer_adopts():
    state = gossip_state(constant(0), age=0)
    pending, _ = asked(state, "j", 0.0)
    finished(state.apply(constant(1), 500, 0.1, state.lineage))
    finished(state.settle(pending, Adopt(pending.seq, 1000, question(constant(9)).payload))[1])
    finished(state.adopt(Model(1000, question(constant(9)).payload)))
    assert np.array_equal(state.x, constant(1))


def test_a_pulled_model_is_adopted_and_a_node_without_history_gives_none():
    old, newcomer = gossip_state(normal(LARGE), age=50), gossip_state(constant(0, LARGE), age=0)
    model, work = old.model("float32")
    finished(work)
    finished(newcomer.adopt(model))
    assert np.array_equal(newcomer.x, old.x)
    assert newcomer.age == 50
    assert gossip_state(constant(0), age=0).model("float32")[0] == Model(0, None)
    finished(newcomer.adopt(Model(0, None)))


def test_while_a_large_model_is_adopted_everybody_sees_the_old_one_whole():
    state = gossip_state(constant(1, LARGE), age=0)
    work = state.adopt(Model(1000, question(constant(9, LARGE)).payload))
    next(work)
    snapshot = state.snapshot("float32", 0.0)
    next(snapshot.work)
    assert snapshot.age == 0
    finished(work)
    finished(snapshot.work)
    assert np.array_equal(snapshot.encoded.values(), constant(1, LARGE))
    assert np.array_equal(state.x, constant(9, LARGE))
    assert state.snapshot("float32", 0.0) is not snapshot


def test_of_two_adoptions_at_the_same_time_one_counts_and_is_whole():
    state = gossip_state(constant(1, LARGE), age=0)
    first = state.adopt(Model(1000, question(constant(8, LARGE)).payload))
    second = state.adopt(Model(2000, question(constant(9, LARGE)).payload))
    for _ in range(5):
        next(first, None)
        next(second, None)
    assert (state.x[0], state.age) in [(8, 1000), (9, 2000)]
    assert np.array_equal(state.x, constant(float(state.x[0]), LARGE))
    assert state.lineage == 1


# --- lineages -----------------------------------------------------------------------------------


def adoption(state: GossipState, value: float = 9.0) -> None:
    state.age = 0
    finished(state.adopt(Model(1000, question(constant(value, state.x.size)).payload)))


def test_flows_and_deltas_of_replaced_weights_are_dropped():
    i, j = gossip_state(constant(0)), gossip_state(constant(1))
    pending, ask = asked(i, "j", 0.0)
    answer, _ = answered(j, ask)
    lineage = i.lineage
    adoption(i)
    mixed, work = i.settle(pending, answer)
    finished(work)
    finished(i.apply(constant(5), 3, 0.1, lineage))
    assert mixed.outcome == "replaced"
    assert np.array_equal(i.x, constant(9))
    assert (i.age, i.own_steps) == (1000, 0)


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_work_on_weights_that_are_replaced_between_two_pieces_ends_on_the_old_ones(begun):
    state = gossip_state(constant(0, LARGE), beta=0.9)
    pending, ask = asked(state, "j", 0.0)
    flow, _ = answered(gossip_state(constant(4, LARGE)), ask)
    works = [
        state.apply(constant(5, LARGE), 3, 0.1, state.lineage),
        state.settle(pending, flow)[1],
        state.answer("k", 1, question(constant(2, LARGE)), newest_steps=0, now=0)[2],
    ]
    for work in works:
        for _ in range(begun):
            next(work)
    old = state.x
    adoption(state)
    age = state.age
    for work in works[:2] if begun == 0 else works:
        finished(work)
    assert np.array_equal(state.x, constant(9, LARGE))
    assert state.age == age
    assert state.momentum.previous is None
    assert begun == 0 or not np.array_equal(old, constant(0, LARGE))


def test_momentum_that_was_being_learnt_when_the_weights_were_replaced_is_forgotten():
    state = gossip_state(constant(0, LARGE), beta=0.9)
    work = state.apply(constant(5, LARGE), 3, 0.1, state.lineage)
    for _ in range(5):
        next(work)
    adoption(state)
    finished(work)
    assert state.momentum.previous is None
    assert state.momentum.drift is None


def test_what_training_reads_does_not_change_while_the_model_is_mixed_and_replaced():
    state = gossip_state(constant(0), beta=0.9)
    state.momentum.drift, state.momentum.previous = constant(2), constant(0)
    state.mixes += 1
    snapshot, drift = state.snapshot("float32", 0.0), state.drift()
    finished(snapshot.work)
    weights = snapshot.encoded.values()
    answered(state, question(constant(4)))
    adoption(state)
    answered(state, question(constant(-4), seq=1))
    finished(state.apply(constant(1), 1, 0.1, state.lineage))
    assert np.array_equal(weights, constant(0))
    assert np.array_equal(drift, constant(2))


def test_rolling_back_begins_a_new_lineage_and_leaves_the_good_weights_alone():
    state = gossip_state(constant(0, LARGE), beta=0.9)
    good = normal(LARGE)
    keep, lineage = good.copy(), state.lineage
    finished(state.roll_back(good))
    assert np.array_equal(state.x, keep)
    finished(state.apply(constant(1, LARGE), 1, 0.1, lineage))
    assert np.array_equal(state.x, keep)
    finished(state.apply(constant(1, LARGE), 1, 0.1, state.lineage))
    assert np.array_equal(good, keep)


# --- shares (invariant 5) -----------------------------------------------------------------------


class Unbounded(GossipState):
    """The twin that keeps no account of shares."""

    def most_weight(self) -> float:
        return 1.0

    def _share(self) -> float:
        return 0.5


def spread_after(
    cycles: int, kind: type[GossipState], outstanding: int, delay: int = 3, n: int = 16
) -> tuple[float, float]:
    """Consensus distance before and after so many cycles in which all ask all they may."""
    rng = np.random.default_rng(8)
    config = GossipConfig.model_construct(
        **(GossipConfig().model_dump() | {"outstanding": outstanding})
    )
    world = World.of(rng.normal(size=(n, 8)).astype(np.float32), kind=kind, config=config)
    world.delay_s = lambda: delay / 2
    before = consensus_distance(np.array([m.state.x for m in world.members]))
    for _ in range(cycles):
        for i in rng.permutation(n):
            for _ in range(outstanding):
                world.ask(int(i), int((i + rng.integers(1, n)) % n))
        world.now += 1
        world.deliver_due()
    after = consensus_distance(np.array([m.state.x for m in world.members]))
    world.come_to_rest()
    assert (np.abs(world.drift()) <= world.rounding).all(), "diverging or not, the mean stays"
    return before, after


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_two_outstanding_exchanges_contract_at_any_delay_even_in_step(delay):
    before, after = spread_after(100, GossipState, outstanding=2, delay=delay)
    assert after < before / 100


def test_sixteen_outstanding_exchanges_diverge_without_the_account_of_shares():
    before, after = spread_after(30, Unbounded, outstanding=16)
    assert after > 1000 * before
    _, bounded = spread_after(30, GossipState, outstanding=16)
    assert bounded < before


def test_no_ask_takes_so_much_that_nothing_is_left_to_answer_with():
    state = gossip_state(constant(0), weight=0.5, outstanding=2)
    shares = []
    while state.can_ask():
        shares.append(asked(state, f"peer {len(shares)}", 0.0)[0].weight)
        assert state.most_weight() > 0
    assert shares == [0.5, 0.25]


def test_who_has_answered_away_what_it_asked_with_is_busy_and_what_it_refused_is_refused_for_good():
    state = gossip_state(constant(0), weight=0.5, outstanding=1)
    pending, _ = asked(state, "j", 0.0)
    first, _ = answered(state, question(constant(1), seq=0))
    second, mixed = answered(state, question(constant(1), seq=1))
    assert isinstance(first, Flow)
    assert isinstance(second, Busy)
    assert mixed.outcome == "busy"
    state.outbox.close(pending)
    assert answered(state, question(constant(1), seq=1))[0] == Cancelled(1)
    assert isinstance(answered(state, question(constant(1), seq=2))[0], Flow)


def test_the_asker_sets_the_largest_weight_it_can_bear():
    state = gossip_state(constant(0))
    assert answered(state, question(constant(1), weight=0.125))[1].weight == 0.125


def test_what_an_answer_took_is_no_longer_there_for_others_while_more_is_in_flight():
    state = gossip_state(constant(0))
    first, ask = asked(state, "j", 0.0)
    second, _ = asked(state, "k", 0.0)
    assert (first.weight, second.weight) == (0.5, 0.25)
    assert state.most_weight() == 0.25
    flow, mixed = answered(gossip_state(constant(1)), ask)
    finished(state.settle(first, flow)[1])
    assert mixed.weight == 0.5
    assert state.most_weight() == pytest.approx(1 - 0.25 / 0.5)
    state.outbox.close(second)
    assert state.most_weight() == 1


def test_a_tiny_weight_can_be_configured():
    state = gossip_state(constant(0), weight=0.01)
    assert state.can_ask()
    assert asked(state, "j", 0.0)[1].weight == 0.01


# --- training and averaging together (invariant 6) ----------------------------------------------


def bias_after(speeds: np.ndarray, *, scaled: bool = False) -> float:
    """Quadratics |x - b_i|^2 / 2, spread 9.5: how far the mean ends from the mean of all b_i."""
    n, d, eta, steps = 20, 10, 0.004, 5
    rng = np.random.default_rng(4)
    b = rng.normal(size=(n, d)).astype(np.float32)
    b *= np.float32(9.5 / consensus_distance(b))
    world = World.of(np.zeros((n, d), np.float32))
    world.delay_s = lambda: 0.3
    credit = np.zeros(n)
    for _ in range(500):
        credit += speeds / speeds.max()
        for i in np.flatnonzero(credit >= 1):
            credit[i] -= 1
            share = 1 - (1 - eta) ** (steps / (speeds[i] / speeds.max() if scaled else 1))
            world.train(int(i), np.float32(share) * (b[i] - world.members[i].state.x))
            world.work_all()
            for _ in range(2):
                world.ask(int(i), int((i + rng.integers(1, n)) % n))
        world.now += 1
        world.deliver_due()
    mean = np.mean([m.state.x for m in world.members], axis=0)
    return float(np.linalg.norm(mean - b.mean(axis=0)))


def test_equal_speeds_end_at_the_mean_of_all_optima_and_unequal_ones_beside_it():
    speeds = np.random.default_rng(0).lognormal(0, 0.8, 20)
    assert bias_after(np.ones(20)) < 0.11
    unequal = bias_after(speeds)
    assert unequal > 0.5
    assert bias_after(speeds, scaled=True) < 0.25


# --- snapshots ----------------------------------------------------------------------------------


def test_a_snapshot_is_encoded_once_for_all_who_want_the_same_version_and_codec():
    state = gossip_state(normal(LARGE))
    first, second = state.snapshot("int8", 0.0), state.snapshot("int8", 1.0)
    assert second is first
    assert first.users == 2
    next(first.work)
    finished(second.work)
    assert next(first.work, "done") == "done"
    assert state.snapshot("float32", 1.0) is not first
    state.snapshots.release(first)
    state.snapshots.release(second)
    assert first.users == 0
    assert state.snapshot("int8", 2.0) is first, "what nobody reads any more is still good"


@pytest.mark.parametrize("change", ["answer", "settle", "apply", "adopt"])
def test_every_change_of_the_weights_makes_a_new_snapshot_also_between_its_pieces(change):
    state = gossip_state(constant(0, LARGE))
    pending, ask = asked(state, "j", 0.0)
    flow, _ = answered(gossip_state(constant(1, LARGE)), ask)
    before = state.snapshot("float32", 0.0)
    finished(before.work)
    if change == "adopt":
        state.age = 0
    work = {
        "answer": lambda: state.answer("k", 1, question(constant(2, LARGE)), newest_steps=0, now=0)[
            2
        ],
        "settle": lambda: state.settle(pending, flow)[1],
        "apply": lambda: state.apply(constant(3, LARGE), 1, 0.1, state.lineage),
        "adopt": lambda: state.adopt(Model(1000, question(constant(4, LARGE)).payload)),
    }[change]()
    next(work)
    during = state.snapshot("float32", 0.0)
    finished(during.work)
    assert (during is before) == (change == "adopt"), "an adoption shows nothing before it is whole"
    finished(work)
    after = state.snapshot("float32", 0.0)
    finished(after.work)
    assert after is not during
    assert np.array_equal(before.encoded.values(), constant(0, LARGE))
    assert np.array_equal(after.encoded.values(), state.x)


def test_only_the_sole_user_of_a_snapshot_may_overwrite_it():
    state = gossip_state(normal(10))
    snapshot, nbytes = state.snapshot("float32", 0.0), 40
    state.snapshot("float32", 0.0)
    assert state.snapshots.take_over(snapshot, nbytes) is None
    state.snapshots.release(snapshot)
    assert state.snapshots.take_over(snapshot, nbytes + 4) is None
    assert state.snapshots.take_over(snapshot, nbytes) is snapshot.encoded.data
    assert state.snapshot("float32", 0.0) is not snapshot, "nobody else may read it now"


def test_memory_of_a_snapshot_is_used_again_only_when_nobody_looks_at_it_any_more():
    state = gossip_state(constant(1, LARGE * 4))
    snapshot = state.snapshot("float32", 0.0)
    finished(snapshot.work)
    half = snapshot.encoded.values()[LARGE:]
    sending = snapshot.encoded.data.data[:10]
    finished(state.apply(constant(1, LARGE * 4), 1, 0.1, 0))
    del snapshot
    state.snapshots.release(state.snapshot("float32", 0.0))
    for _ in range(3):
        new = state.snapshots.buffers.take(LARGE * 16)
        new[:] = 0xFF
        assert not np.shares_memory(new, half)
    assert (half == 1).all()
    assert bytes(sending) == constant(1).tobytes()[:10]
    begins = address(half) - 4 * LARGE
    del half, sending, new
    again = [state.snapshots.buffers.take(LARGE * 16) for _ in range(3)]
    assert begins in map(address, again), "and then it is"


def test_taking_over_an_old_snapshot_leaves_the_newer_one_in_place():
    state = gossip_state(constant(0))
    old = state.snapshot("float32", 0.0)
    finished(old.work)
    finished(state.apply(constant(1), 1, 0.1, 0))
    new = state.snapshot("float32", 0.0)
    assert state.snapshots.take_over(old, 12) is old.encoded.data
    assert state.snapshot("float32", 0.0) is new


def test_what_a_snapshot_says_of_age_and_rest_is_of_the_moment_it_was_taken():
    state = gossip_state(constant(0), age=1000, own_steps=7)
    snapshot = state.snapshot("float32", now=10.0)
    finished(snapshot.work)
    finished(state.apply(constant(1), 5, 0.1, 0))
    ask = state.ask(state.open("j", 12.5), snapshot, now=12.5)
    assert (ask.age, ask.own_steps, ask.residence_s) == (1000, 7, 2.5)
    assert ask.cycle_steps == 5


def test_resolving_is_tried_again_at_growing_pauses_of_at_most_eight_seconds_for_ever():
    state = gossip_state(constant(0))
    pending = state.open("j", 0.0)
    pauses = []
    for _ in range(3000):
        state.unanswered(pending, 100.0)
        pauses.append(pending.next_attempt - 100.0)
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert pauses == sorted(pauses)
    assert pauses[-1] == 8.0


def test_a_world_of_members_is_what_the_tests_think_it_is():
    world = World.of(np.ones((3, 2), np.float32))
    assert [type(m) for m in world.members] == [Member] * 3
    assert world.ask(0, 1)
    world.deliver_due()
    assert world.added == list(world.taken) == [("00000000", 1, 0)]
    assert encode("float32", world.members[0].state.x, np.random.default_rng()).size == 2
