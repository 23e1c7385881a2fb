"""Quasi-global momentum against PROTOCOL section 3, written down as dumbly as possible.

Lin et al., ICML 2021, arXiv:2102.04761, algorithm 1; the gate is ours.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.momentum import QuasiGlobalMomentum
from p2pfl.core.weights import PIECE
from tests.core.world import finished, gossip_state

ETA = 0.05
TARGET = np.array([3.0, -1.0, 0.5, 8.0])


class Twin:
    """Section 3, one coordinate and one step at a time, in float64."""

    def __init__(self, x: np.ndarray, beta: float) -> None:
        self.trained = 0.0
        self.x = [float(v) for v in x]
        self.m = [0.0] * len(self.x)
        self.x_previous: list[float] | None = None
        self.beta = beta
        self.exchanges_since_last_cycle = 0

    def cycle(self, steps: int) -> None:
        s = list(self.x)
        z = list(s)
        b = self.beta if self.exchanges_since_last_cycle > 0 else 0.0
        for _ in range(steps):
            for k in range(len(z)):
                z[k] -= ETA * (b * self.m[k] + (z[k] - TARGET[k]))
        for k in range(len(z)):
            self.x[k] += z[k] - s[k]
        own = sum((a - c) ** 2 for a, c in zip(z, s, strict=True)) ** 0.5
        self.trained = own if self.trained == 0 else 0.8 * self.trained + 0.2 * own
        if b and self.x_previous is not None:
            pairs = zip(self.x_previous, self.x, strict=True)
            far = sum((a - c) ** 2 for a, c in pairs) ** 0.5
            shortened = min(1.0, 2 * self.trained / far) if far else 1.0
            for k in range(len(z)):
                moved = shortened * (self.x_previous[k] - self.x[k]) / (ETA * steps)
                self.m[k] = self.beta * self.m[k] + (1 - self.beta) * moved
        self.x_previous = list(self.x)
        self.exchanges_since_last_cycle = 0


def local_steps(x: np.ndarray, steps: int, drift: np.ndarray | None) -> np.ndarray:
    """What a learner does: the delta of K steps on a quadratic, float32."""
    z = x.copy()
    for _ in range(steps):
        z -= np.float32(ETA) * (z - TARGET.astype(np.float32))
        if drift is not None:
            z -= np.float32(ETA) * drift
    return z - x


@settings(deadline=None)
@given(
    st.floats(0.05, 0.95),
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=25),
)
def test_momentum_is_section_3_step_by_step(beta, cycles):
    state = gossip_state(np.ones(4), beta=beta)
    twin = Twin(state.x, beta)
    finished(state.apply(np.zeros(4, np.float32), 1, ETA, state.lineage))
    twin.x_previous = list(twin.x)
    for steps, mixed in cycles:
        if mixed:
            flow = np.array([0.5, -0.25, 0.125, 1.0], np.float32)
            state.x += flow
            state.mixes += 1
            twin.x = [a + float(f) for a, f in zip(twin.x, flow, strict=True)]
            twin.exchanges_since_last_cycle += 1
        delta = local_steps(state.x, steps, state.drift())
        finished(state.apply(delta, steps, ETA, state.lineage))
        twin.cycle(steps)
        assert np.allclose(state.x, twin.x, rtol=1e-3, atol=1e-4)
        if state.momentum.drift is not None:
            assert np.allclose(state.momentum.drift, beta * np.array(twin.m), rtol=1e-2, atol=1e-3)


def test_momentum_carries_on_in_the_direction_the_swarm_moved():
    momentum = QuasiGlobalMomentum(0.5)
    x = np.zeros(3, np.float32)
    finished(momentum.learn(x, 0.1, 2, mixed=True))
    assert momentum.gated(True) is None, "one point is no movement"
    x -= np.float32(0.4)
    finished(momentum.learn(x, 0.1, 2, mixed=True))
    drift = momentum.gated(True)
    assert drift is not None
    # beta m = 0.5 x 0.5 x 0.4 / (0.1 x 2)
    assert np.allclose(drift, 0.5)


def test_the_gate_is_closed_without_an_exchange_and_what_was_learnt_is_kept():
    momentum = QuasiGlobalMomentum(
        0.5, drift=np.ones(2, np.float32), previous=np.zeros(2, np.float32)
    )
    assert momentum.gated(False) is None
    finished(momentum.learn(np.full(2, 7, np.float32), 0.1, 1, mixed=False))
    assert np.array_equal(momentum.drift, np.ones(2)), "local movement alone teaches nothing"
    assert np.array_equal(momentum.previous, np.full(2, 7)), (
        "and is not taken for the swarm's later"
    )


def test_an_exchange_during_a_cycle_opens_the_gate_of_the_next_one_only():
    state = gossip_state(np.zeros(2), beta=0.9)
    state.momentum.drift = np.ones(2, np.float32)
    used = []
    for mixes_while_training in (0, 3, 0, 0, 1, 1, 0):
        used.append(state.drift() is not None)
        state.mixes += mixes_while_training
        finished(state.apply(np.zeros(2, np.float32), 1, 0.1, state.lineage))
    assert used == [False, False, True, False, False, True, True]


def test_an_exchange_between_cycles_opens_the_gate_once():
    state = gossip_state(np.zeros(2), beta=0.9)
    state.momentum.drift = np.ones(2, np.float32)
    state.mixes += 1
    assert state.drift() is not None
    finished(state.apply(np.zeros(2, np.float32), 1, 0.1, state.lineage))
    assert state.drift() is None


def test_beta_zero_keeps_no_memory_at_all():
    momentum = QuasiGlobalMomentum(0.0)
    for _ in range(3):
        finished(momentum.learn(np.ones(2, np.float32), 0.1, 1, mixed=True))
    assert momentum.drift is None
    assert momentum.previous is None
    assert momentum.gated(True) is None


def test_a_learning_rate_that_ran_down_to_zero_teaches_nothing_and_breaks_nothing():
    momentum = QuasiGlobalMomentum(
        0.9, drift=np.ones(2, np.float32), previous=np.zeros(2, np.float32)
    )
    finished(momentum.learn(np.ones(2, np.float32), 0.0, 5, mixed=True))
    assert np.array_equal(momentum.drift, np.ones(2))
    assert np.array_equal(momentum.previous, np.ones(2))


def test_what_a_worker_was_given_cannot_be_written_and_outlives_a_reset():
    momentum = QuasiGlobalMomentum(
        0.9, drift=np.arange(3, dtype=np.float32), previous=np.zeros(3, np.float32)
    )
    given_away = momentum.gated(True)
    assert given_away is not None
    with pytest.raises(ValueError, match="read-only"):
        given_away[0] = 1
    momentum.reset()
    assert momentum.gated(True) is None
    for _ in range(3):
        finished(momentum.learn(np.ones(3, np.float32), 0.1, 1, mixed=True))
    assert np.array_equal(given_away, [0, 1, 2])


def test_what_is_not_learnt_to_its_end_is_not_shown_to_a_checkpoint():
    momentum = QuasiGlobalMomentum(0.9)
    work = momentum.learn(np.ones(2 * PIECE, np.float32), 0.1, 1, mixed=True)
    next(work)
    assert momentum.previous is None
    finished(work)
    assert np.array_equal(momentum.previous, np.ones(2 * PIECE))


def test_piece_by_piece_is_like_all_at_once():
    rng = np.random.default_rng(3)
    xs = [rng.normal(size=PIECE + 5).astype(np.float32) for _ in range(4)]
    whole, tail = QuasiGlobalMomentum(0.9), QuasiGlobalMomentum(0.9)
    for x in xs:
        finished(whole.learn(x, 0.1, 3, mixed=True))
        finished(tail.learn(x[PIECE:].copy(), 0.1, 3, mixed=True))
    assert np.array_equal(whole.drift[PIECE:], tail.drift)


def test_a_jump_is_learnt_only_as_far_as_training_goes() -> None:
    """Whoever comes back from an absence must not be followed with acceleration."""
    momentum, x = QuasiGlobalMomentum(0.9), np.zeros(4, np.float32)
    finished(momentum.learn(x, 0.1, 1, mixed=True, trained=0.5))
    x += np.float32(100)
    finished(momentum.learn(x, 0.1, 1, mixed=True, trained=0.5))
    assert momentum.drift is not None
    assert np.linalg.norm(momentum.drift) == pytest.approx(0.9 * 0.1 * 2 * 0.5 / 0.1, rel=1e-5)
