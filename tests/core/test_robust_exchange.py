"""An exchange in robust mode: the gate, the agreed clip, models that wait to be judged, rescue."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.config import RobustConfig
from p2pfl.core.compression import CODECS, encode
from p2pfl.core.gossip import GossipState
from p2pfl.core.messages import Adopt, Adopted, Busy, Flow, Model, Reason, Refused, Swap
from tests.core.world import answered, asked, finished, gossip_state, question

CLIP = RobustConfig()
MEDIAN = RobustConfig(rule="median", models=4)
RNG = np.random.default_rng(0)


def model(scale: float = 1.0, seed: int = 0, size: int = 300) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=size)).astype(np.float32)


def near(x: np.ndarray, distance: float, seed: int = 1) -> np.ndarray:
    way = np.random.default_rng(seed).normal(size=x.size)
    return (x + distance * way / np.linalg.norm(way)).astype(np.float32)


def robust(x: np.ndarray, config: RobustConfig = CLIP, **options: int) -> GossipState:
    return gossip_state(x, robust=config, **options)


def sound(payload: np.ndarray):
    return encode("float32", payload, RNG)


def test_a_model_out_of_reach_is_refused_and_changes_nothing():
    x = model()
    state = robust(x)
    answer, mixed = answered(state, question(near(x, 0.31 * np.linalg.norm(x))))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.DISTANCE
    assert mixed.outcome == "rejected: distance"
    size = np.linalg.norm(x)
    assert (mixed.distance, mixed.reach) == pytest.approx((0.31 * size, 0.3 * size), rel=1e-3)
    assert (state.x == x).all()


def test_a_refused_exchange_never_takes_effect_later():
    x = model()
    state = robust(x)
    ask = question(-x)
    answered(state, ask)
    state.x = -x
    again, _ = answered(state, ask)
    assert type(again).__name__ == "Cancelled"
    assert (state.x == -x).all()


@pytest.mark.parametrize("codec", CODECS)
def test_what_flows_is_at_most_the_weight_times_the_agreed_clip_and_keeps_the_sum(codec):
    x = model()
    state = robust(x)
    v = near(x, 0.2 * np.linalg.norm(x))
    ask = replace(question(v, codec=codec, weight=0.5), clip=0.05)
    sent = ask.payload.values().copy()
    answer, mixed = answered(state, ask)
    assert isinstance(answer, Flow)
    flow = answer.payload.values()
    assert np.linalg.norm(flow) <= 1.06 * 0.5 * 0.05
    assert np.allclose(state.x - x, flow, atol=1e-6)
    assert answer.weight == pytest.approx(0.5 * 0.05 / np.linalg.norm(sent - x), rel=1e-3)
    assert mixed.norm is not None
    distance = mixed.norm.norm / mixed.weight
    assert distance == pytest.approx(np.linalg.norm(sent - x), rel=0.01)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.001, 0.29))
def test_two_honest_members_keep_their_sum_whatever_clips_they_have(seed, share):
    x = model(seed=seed)
    i, j = robust(x, seed=1), robust(near(x, share * np.linalg.norm(x), seed), seed=2)
    for state, first in ((i, 0), (j, 10)):
        for number in range(5):
            state.gate.passed(f"p{first + number}", 0.01 * (1 + number + seed % 7), 900)
    before = i.x.astype(np.float64) + j.x
    pending, ask = asked(i, "j", 0.0)
    answer, _ = answered(j, ask, peer="i")
    mixed, work = i.settle(pending, answer)
    finished(work)
    assert mixed.outcome == "flow"
    assert np.allclose(i.x.astype(np.float64) + j.x, before, atol=1e-5)


def test_a_flow_larger_than_what_was_agreed_is_rejected():
    x = model()
    i = robust(x)
    pending, ask = asked(i, "j", 0.0)
    assert ask.clip == pytest.approx(0.03 * np.linalg.norm(x), rel=1e-4)
    honest = near(np.zeros_like(x), 0.99 * pending.weight * ask.clip)
    lie = near(np.zeros_like(x), 1.2 * pending.weight * ask.clip)
    mixed, work = i.settle(pending, Flow(pending.seq, 1000, 0.5, 0.0, sound(lie)))
    finished(work)
    assert mixed.outcome == "rejected: clip"
    assert (mixed.distance, mixed.reach) == pytest.approx(
        (1.2 * ask.clip, 1.05 * ask.clip), rel=1e-3
    )
    assert (i.x == x).all()
    pending, _ = asked(i, "j", 0.0)
    mixed, work = i.settle(pending, Flow(pending.seq, 1000, 0.5, 0.0, sound(honest)))
    finished(work)
    assert mixed.outcome == "flow"


@pytest.mark.parametrize(
    "answer",
    [
        Adopt(0, 2**53, sound(model(9))),
        Adopted(0),
        Swap(0, 5, 5, sound(model())),
    ],
)
def test_nothing_is_adopted_and_nothing_judged_because_one_answer_says_so(answer):
    x = model()
    i = robust(x)
    pending, _ = asked(i, "j", 0.0)
    mixed, work = i.settle(pending, replace(answer, seq=pending.seq))
    finished(work)
    assert mixed.outcome == "ignored"
    assert (i.x == x).all()
    assert len(i.outbox) == 0


def test_a_huge_age_makes_nobody_adopt_and_nobody_old():
    x = model()
    j = robust(x, age=1000)
    for number in range(9):
        j.gate.passed(f"p{number}", 0.5, 1000 + number)
    answer, _ = answered(j, replace(question(near(x, 0.1)), age=2**53))
    assert isinstance(answer, Flow)
    assert j.age == 1004


def test_who_has_no_history_neither_mixes_nor_is_mixed():
    x = model()
    assert isinstance(answered(robust(x, age=0), question(x))[0], Busy)
    assert isinstance(answered(robust(x), question(x, age=0))[0], Busy)


def test_refused_by_several_in_a_row_a_node_needs_rescue_and_the_median_rescues_it():
    i = robust(model(5.0))
    for peer in "abc":
        pending, _ = asked(i, peer, 0.0)
        i.settle(pending, Refused(Reason.DISTANCE, ""))
    assert i.gate.needs_rescue()
    truth = model(seed=7)
    models = [Model(500 + n, sound(near(truth, 0.01, n))) for n in range(3)]
    lies = [Model(2**53, sound(-50 * truth)), Model(2**53, sound(99 * truth)), Model(0, None)]
    finished(i.adopt_together([*models, *lies]))
    assert not i.gate.needs_rescue()
    assert np.linalg.norm(i.x - truth) < 0.05
    assert i.age == 502


def test_models_wait_to_be_judged_each_once_and_only_the_newest_of_a_peer():
    x = model()
    j = robust(x, MEDIAN)
    for seq, peer in enumerate(["a", "a", "b"]):
        answer, mixed = answered(j, question(near(x, 0.1, seq), seq=seq), peer=peer)
        assert isinstance(answer, Swap)
        assert mixed.outcome == "swap"
        assert (answer.payload.values() == x).all()
        assert (j.x == x).all()
        assert j.judging.take_arrived(9) is None
    pending, _ = asked(j, "c", 0.0)
    j.settle(pending, Swap(pending.seq, 1000, 5, sound(near(x, 0.1, 9))))
    arrived = j.judging.take_arrived(9)
    assert arrived is not None
    assert list(arrived) == ["a", "b", "c"]
    assert (arrived["a"] == near(x, 0.1, 1)).all()
    assert j.judging.take_arrived(9) is None


def test_in_a_small_swarm_no_more_models_are_waited_for_than_there_are_neighbours():
    x = model()
    j = robust(x, MEDIAN)
    answered(j, question(near(x, 0.1), seq=0), peer="a")
    assert j.judging.take_arrived(1) is None  # of one other's model and our own, one could decide
    answered(j, question(near(x, 0.1), seq=1), peer="b")
    assert j.judging.take_arrived(3) is None
    assert set(j.judging.take_arrived(2) or ()) == {"a", "b"}


def test_a_broken_model_is_not_even_judged():
    x = model()
    j = robust(x, MEDIAN)
    answer, mixed = answered(j, question(1e6 * x))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.NORM
    assert mixed.outcome == "rejected: norm"
    assert j.judging.arrived == {}


def test_no_more_models_wait_than_are_judged_together():
    x = model()
    j = robust(x, MEDIAN)
    for number in range(20):
        answered(j, question(near(x, 0.1, number)), peer=f"{number:02}")
    assert list(j.judging.arrived) == ["17", "18", "19"]


# --- among members that do not lie --------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_a_broken_model_is_stopped_before_it_ruins_the_other_and_the_sum_is_kept(codec):
    x = model(1.0)
    j = gossip_state(x)
    answer, mixed = answered(j, question(model(1e3, seed=3), codec=codec))
    assert isinstance(answer, Flow)
    assert mixed.norm is not None
    assert mixed.norm.is_cut
    assert (j.x == x).all()
    assert (answer.payload.values() == 0).all()


def test_a_broken_flow_is_not_subtracted():
    x = model(1.0)
    i = gossip_state(x)
    pending, _ = asked(i, "j", 0.0)
    mixed, work = i.settle(pending, Flow(pending.seq, 1000, 0.5, 0.0, sound(model(1e3))))
    finished(work)
    assert mixed.norm is not None
    assert mixed.norm.is_cut
    assert (i.x == x).all()
    assert len(i.outbox) == 0


def test_distances_that_are_usual_are_no_reason_to_stop():
    i, j = gossip_state(np.full(10, 100.0)), gossip_state(np.full(10, -90.0))
    answer, mixed = answered(j, question(i.x))
    assert mixed.norm is not None
    assert not mixed.norm.is_cut
    assert math.isclose(float(j.x[0]), 5.0)
    assert isinstance(answer, Flow)
