"""The quadratic learner: every step in closed form."""

import numpy as np
import pytest

from p2pfl.core.momentum import QuasiGlobalMomentum
from p2pfl.core.weights import read_only
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.quadratic import Quadratic
from p2pfl.ports import Learner

TARGET = np.arange(5, dtype=np.float32)
START = np.full(5, 2, np.float32)


def test_steps_go_to_the_target_by_the_closed_form():
    made: Learner = Quadratic(TARGET, START, 0.1)
    update = made.step(read_only(START), 7, None)
    np.testing.assert_allclose(update.delta, (1 - 0.9**7) * (TARGET - START), rtol=1e-5)
    losses = [0.5 * ((0.9**k * (START - TARGET)) ** 2).sum() for k in range(7)]
    assert update.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert (update.steps, update.learning_rate) == (7, 0.1)
    assert made.layout.size == 5


def test_the_drift_moves_the_point_where_steps_come_to_rest():
    made = Quadratic(TARGET, START, 0.5)
    drift = np.linspace(-1, 1, 5, dtype=np.float32)
    delta = made.step(START, 60, read_only(drift)).delta
    np.testing.assert_allclose(START + delta, TARGET - drift, atol=1e-5)


def test_without_a_learning_rate_nothing_moves_and_momentum_stays_without_effect():
    made = Quadratic(TARGET, START, 0.0, noise=1.0)
    momentum = QuasiGlobalMomentum(0.9)
    x = START
    for _ in range(3):
        update = made.step(read_only(x), 4, momentum.gated(True))
        assert not update.delta.any()
        assert update.learning_rate > 0
        x = x + np.float32(0.25)
        for _ in momentum.learn(x, update.learning_rate, update.steps, mixed=True):
            pass
    assert np.isfinite(momentum.drift).all()
    assert update.loss == pytest.approx(made.evaluate(START + np.float32(0.5)).loss)


def test_evaluation_is_the_loss_alone():
    evaluation = Quadratic(TARGET, START, 0.1).evaluate(START)
    assert (evaluation.loss, evaluation.accuracy, evaluation.samples) == (5.0, None, 1)


def test_noise_comes_from_the_seed_and_has_the_stated_deviation():
    zeros = np.zeros(10_000, np.float32)
    one, same, other = (Quadratic(zeros, zeros, 0.5, 2.0, seed) for seed in (1, 1, 2))
    deltas = [made.step(zeros, 1, None).delta for made in (one, same, other)]
    np.testing.assert_array_equal(deltas[0], deltas[1])
    assert not np.array_equal(deltas[0], deltas[2])
    assert deltas[0].std() == pytest.approx(1.0, rel=0.05)


def test_arguments_are_left_alone():
    made = Quadratic(TARGET, START, 0.1)
    kept = made.initial()
    kept += 1
    weights = START.copy()
    made.step(weights, 2, TARGET)
    np.testing.assert_array_equal(weights, START)
    np.testing.assert_array_equal(made.initial(), START)


def test_what_is_not_finite_is_refused_and_the_next_step_is_unharmed():
    made = Quadratic(TARGET, START, 0.1)
    with pytest.raises(LearnerError, match="loss is nan in local step 1 of 3"):
        made.step(np.full(5, np.nan, np.float32), 3, None)
    with pytest.raises(LearnerError, match="weights are not finite after 1 local steps"):
        made.step(START, 1, np.full(5, np.inf, np.float32))
    assert np.isfinite(made.step(START, 3, None).delta).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TARGET, START[:3], 0.1), r"target has shape \(5,\) and initial \(3,\)"),
        ((TARGET, START, -0.1), "learning_rate is -0.1, must be >= 0"),
        ((TARGET, START, 0.1, float("nan")), "noise is nan"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, said):
    with pytest.raises(TaskError, match=said):
        Quadratic(*arguments)
