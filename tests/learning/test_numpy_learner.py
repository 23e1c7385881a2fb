"""The numpy learner: a delta by the formula, and nothing else changed."""

import numpy as np
import pytest

from p2pfl.core.weights import read_only
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.numpy_learner import MLP, NumpyLearner, SoftmaxRegression
from p2pfl.ports import Learner

MODEL = MLP(6, 5, 3)


def data(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 6), dtype=np.float32), rng.integers(3, size=rows)


def learner(model=MODEL, train=None, test=None, **options):
    options = {"run_seed": 1, "seed": 2} | options
    return NumpyLearner(model, train or data(), test or data(30, 1), **options)


def mean_gradient(model, weights, train):
    out = np.empty_like(weights)
    model.gradient(model.layout.views(weights), *train, model.layout.views(out))
    return out


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("with_drift", [False, True])
def test_one_step_is_the_formula(decay, with_drift):
    made = learner(batch_size=40, learning_rate=0.2, weight_decay=decay)
    weights = made.initial()
    drift = np.linspace(-1, 1, weights.size, dtype=np.float32) if with_drift else None
    update = made.step(read_only(weights), 1, drift)
    expected = mean_gradient(MODEL, weights, data()) + decay * weights
    expected += drift if with_drift else 0
    np.testing.assert_allclose(update.delta, -0.2 * expected, atol=1e-6)
    assert (update.steps, update.learning_rate) == (1, 0.2)


def test_several_steps_are_single_steps_one_after_the_other():
    once, singly = learner(), learner()
    start = once.initial()
    drift = np.full_like(start, 0.1)
    update = once.step(start, 5, drift)
    weights, losses = start, []
    for _ in range(5):
        single = singly.step(weights, 1, drift)
        weights = weights + single.delta
        losses.append(single.loss)
    np.testing.assert_allclose(start + update.delta, weights, atol=1e-6)
    assert update.loss == pytest.approx(np.mean(losses))


def test_step_and_evaluate_leave_weights_and_earlier_deltas_alone():
    made = learner()
    weights = made.initial()
    kept = weights.copy()
    first = made.step(read_only(weights), 3, None)
    delta = first.delta.copy()
    made.evaluate(read_only(weights))
    made.step(read_only(weights), 3, None)
    np.testing.assert_array_equal(weights, kept)
    np.testing.assert_array_equal(first.delta, delta)
    np.testing.assert_array_equal(made.initial(), kept)


def test_learners_of_one_run_start_equal_and_go_their_own_ways():
    one, other, stranger = learner(seed=1), learner(seed=2), learner(run_seed=5)
    np.testing.assert_array_equal(one.initial(), other.initial())
    assert not np.array_equal(one.initial(), stranger.initial())
    steps = [x.step(one.initial(), 2, None).delta for x in (one, other, learner(seed=1))]
    assert not np.array_equal(steps[0], steps[1])
    np.testing.assert_array_equal(steps[0], steps[2])


def test_training_that_is_not_finite_raises_and_the_next_step_is_good():
    made = learner()
    good = made.initial()
    for bad in (np.full_like(good, np.nan), np.full_like(good, 1e30)):
        with pytest.raises(LearnerError, match=r"loss is (nan|inf) in local step 1 of 3"):
            made.step(bad, 3, None)
    with pytest.raises(LearnerError, match="weights are not finite after 1 local steps"):
        made.step(good, 1, np.full_like(good, np.inf))
    assert np.isfinite(made.step(good, 3, None).delta).all()


def test_learning_finds_what_a_linear_model_can_find():
    x, _ = data(400)
    y = x[:, :3].argmax(axis=1)
    made = learner(SoftmaxRegression(6, 3), (x, y), (x, y), learning_rate=0.5)
    weights = made.initial()
    before = made.evaluate(weights)
    after = made.evaluate(weights + made.step(weights, 500, None).delta)
    assert after.accuracy > 0.95 > before.accuracy
    assert after.loss < before.loss
    assert after.samples == 400


def test_evaluation_in_pieces_is_evaluation_at_once(monkeypatch):
    weights = learner().initial()
    whole = learner().evaluate(weights)
    monkeypatch.setattr("p2pfl.learning.numpy_learner.EVALUATION_ROWS", 7)
    parts = learner(metrics=lambda o, t: {"rows": len(o), "right": (o.argmax(1) == t).mean()})
    got = parts.evaluate(weights)
    assert got.loss == pytest.approx(whole.loss)
    assert got.accuracy == pytest.approx(whole.accuracy)
    assert got.metrics == {"rows": 30, "right": pytest.approx(whole.accuracy)}


def test_a_users_accuracy_replaces_the_usual_one():
    made = learner(metrics=lambda o, t: {"accuracy": 0.125})
    evaluation = made.evaluate(made.initial())
    assert (evaluation.accuracy, evaluation.metrics) == (0.125, {})


def test_a_bad_model_is_measured_and_not_raised():
    made = learner()
    evaluation = made.evaluate(np.full_like(made.initial(), np.nan))
    assert np.isnan(evaluation.loss)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((4, 7)), np.zeros(4, int), r"x of shape \(4, 7\) does not fit MLP\(inputs=6"),
        (np.zeros((4, 6)), np.array([0, 1, 2, 3]), r"y has class 3, .* classes must be 0 .. 2"),
        (np.zeros((4, 6)), np.zeros((4, 1), int), r"y has dtype int64 and shape \(4, 1\)"),
        (np.zeros((4, 6)), np.zeros(4), r"y has dtype float64 and shape \(4,\)"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused_at_once(x, y, said):
    with pytest.raises(TaskError, match=r"train_data\(\): " + said):
        learner(train=(x, y))
    with pytest.raises(TaskError, match=r"test_data\(\): " + said):
        learner(test=(x, y))


def test_it_is_a_learner():
    made: Learner = learner()
    assert made.layout.size == made.initial().size == 6 * 5 + 5 + 5 * 3 + 3
