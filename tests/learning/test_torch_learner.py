"""The torch learner: weights in, a delta by the formula out, in one flat buffer."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.core.weights import read_only
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.ports import Learner

OPTIMIZERS = {
    "plain": None,
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, foreach=False),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=3),
}


def perceptron():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def normalised():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def data(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 6), dtype=np.float32), rng.integers(3, size=rows)


def learner(model=perceptron, train=None, test=None, **options):
    options = {"run_seed": 1, "seed": 2} | options
    return TorchLearner(model, train or data(), test or data(30, 1), **options)


def mean_gradient(made, weights, train):
    """The gradient by autograd on a module of its own."""
    module = perceptron()
    views = made.layout.views(weights)
    module.load_state_dict({name: torch.from_numpy(view.copy()) for name, view in views.items()})
    loss = nn.functional.cross_entropy(module(torch.from_numpy(train[0])), torch.tensor(train[1]))
    loss.backward()
    return np.concatenate([p.grad.numpy().ravel() for p in module.parameters()])


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("with_drift", [False, True])
def test_one_sgd_step_is_the_formula(explicit, decay, with_drift):
    sgd = lambda p: torch.optim.SGD(p, lr=0.2, weight_decay=decay)  # noqa: E731
    options = {"optimizer": sgd} if explicit else {"learning_rate": 0.2, "weight_decay": decay}
    made = learner(batch_size=40, **options)
    weights = made.initial()
    drift = np.linspace(-1, 1, weights.size, dtype=np.float32) if with_drift else None
    update = made.step(read_only(weights), 1, None if drift is None else read_only(drift))
    expected = mean_gradient(made, weights, data()) + decay * weights
    expected += drift if with_drift else 0
    np.testing.assert_allclose(update.delta, -0.2 * expected, atol=1e-6)
    assert (update.steps, update.learning_rate) == (1, 0.2)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_large_model_takes_the_same_steps_as_a_small_one(monkeypatch, decay):
    plain = learner(weight_decay=decay)
    monkeypatch.setattr("p2pfl.learning.torch_learner.LARGE", 1)
    torchs = learner(weight_decay=decay)
    weights = plain.initial()
    drift = np.full_like(weights, 0.05)
    one, other = (made.step(weights, 20, drift) for made in (plain, torchs))
    np.testing.assert_allclose(one.delta, other.delta, atol=1e-5)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_stay_in_the_flat_buffer_whatever_the_optimizer(name):
    module = perceptron()
    made = learner(optimizer=OPTIMIZERS[name], module=module)
    weights = made.initial()
    for _ in range(3):
        update = made.step(weights, 2, np.full_like(weights, 0.01))
        expected = torch.cat([p.detach().ravel() for p in module.parameters()]).numpy()
        weights = weights + update.delta
        np.testing.assert_allclose(weights, expected, atol=1e-6)
        assert np.abs(update.delta).max() > 0
    assert all(parameter.grad is None for parameter in module.parameters())


def test_an_optimizer_that_takes_parameters_out_of_the_buffer_is_named():
    class Leaver(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            for parameter in self.param_groups[0]["params"]:
                parameter.data = parameter.data.clone()
            return loss

    made = learner(optimizer=lambda p: Leaver(p, lr=0.1))
    with pytest.raises(LearnerError, match=r"Leaver gave '0.weight' new memory"):
        made.step(made.initial(), 1, None)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_and_evaluate_leave_weights_and_earlier_deltas_alone(name):
    made = learner(optimizer=OPTIMIZERS[name])
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
    torch.manual_seed(0)
    one = learner(seed=1)
    torch.manual_seed(99)
    other, stranger = learner(seed=2), learner(run_seed=5)
    np.testing.assert_array_equal(one.initial(), other.initial())
    assert not np.array_equal(one.initial(), stranger.initial())
    steps = [x.step(one.initial(), 2, None).delta for x in (one, other, learner(seed=1))]
    assert not np.array_equal(steps[0], steps[1])
    np.testing.assert_array_equal(steps[0], steps[2])


def test_dropout_is_drawn_from_the_learners_seed():
    def model():
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))

    deltas = []
    for noise in (3, 4):
        torch.manual_seed(noise)
        made = learner(model)
        deltas.append(made.step(made.initial(), 4, None).delta)
    np.testing.assert_array_equal(*deltas)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_that_is_not_finite_raises_and_the_next_step_is_that_of_a_new_learner(name):
    made = learner(optimizer=OPTIMIZERS[name], batch_size=40)
    good = made.initial()
    with pytest.raises(LearnerError, match="loss is nan in local step 1 of 3"):
        made.step(np.full_like(good, np.nan), 3, None)
    with pytest.raises(LearnerError, match="weights are not finite after 1 local steps"):
        made.step(good, 1, np.full_like(good, np.inf))
    fresh = learner(optimizer=OPTIMIZERS[name], batch_size=40)
    after = made.step(good, 1, None).delta
    np.testing.assert_allclose(after, fresh.step(good, 1, None).delta, atol=1e-5)


def test_local_statistics_survive_a_step_that_is_not_finite():
    module = normalised()
    made = learner(normalised, module=module)
    made.step(made.initial(), 2, None)
    kept = module[1].running_mean.clone()
    with pytest.raises(LearnerError):
        made.step(np.full_like(made.initial(), np.nan), 1, None)
    assert torch.equal(module[1].running_mean, kept)


def test_averaged_statistics_travel_in_the_delta_and_take_no_drift():
    local, averaged = (learner(normalised, buffers=b) for b in ("local", "average"))
    assert averaged.layout.size == local.layout.size + 10
    start = averaged.initial()
    drifted = averaged.step(start, 1, np.full_like(start, 1e3)).delta
    plain = learner(normalised, buffers="average").step(start, 1, None).delta
    statistics = slice(local.layout.size, None)
    assert np.abs(plain[statistics]).max() > 0
    np.testing.assert_array_equal(drifted[statistics], plain[statistics])
    assert np.abs(drifted - plain)[: local.layout.size].min() > 10


def test_evaluation_changes_no_statistics_and_returns_to_training():
    module = normalised()
    made = learner(normalised, module=module)
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    made.try_out()
    made.evaluate(made.initial())
    assert module.training
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, kept[name]), name


def test_frozen_parameters_do_not_move():
    module = perceptron()
    module[0].requires_grad_(False)
    made = learner(perceptron, module=module, weight_decay=0.1)
    start = made.initial()
    views = made.layout.views(made.step(start, 3, np.ones_like(start)).delta)
    assert not views["0.weight"].any()
    assert views["2.weight"].all()


def test_batch_norm_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING):
        made = learner(normalised)
        made.step(made.initial(), 1, None)
        made.initial()
    assert caplog.text.count("GroupNorm") == 1


def test_evaluation_in_pieces_is_evaluation_at_once(monkeypatch):
    weights = learner().initial()
    whole = learner().evaluate(weights)
    monkeypatch.setattr("p2pfl.learning.torch_learner.EVALUATION_ROWS", 7)
    parts = learner(metrics=lambda o, t: {"rows": len(o), "right": (o.argmax(1) == t).mean()})
    got = parts.evaluate(weights)
    assert got.loss == pytest.approx(whole.loss)
    assert got.accuracy == pytest.approx(whole.accuracy)
    assert got.metrics == {"rows": 30, "right": pytest.approx(whole.accuracy)}


def test_floating_targets_are_fitted_by_squares_and_have_no_accuracy():
    x, _ = data(200)
    y = (x @ np.arange(6, dtype=np.float32)) + 1
    made = learner(lambda: nn.Linear(6, 1), (x, y), (x, y), learning_rate=0.05)
    made.try_out()
    weights = made.initial()
    evaluation = made.evaluate(weights + made.step(weights, 500, None).delta)
    assert evaluation.loss < 1e-3
    assert evaluation.accuracy is None


def test_the_users_loss_is_what_is_descended():
    made = learner(loss=lambda outputs, _: outputs.square().mean(), learning_rate=1.0)
    weights = made.initial()
    before = made.evaluate(weights).loss
    assert made.evaluate(weights + made.step(weights, 50, None).delta).loss < before / 10


def test_the_rate_is_that_of_the_optimizers_first_group():
    made = learner(optimizer=lambda p: torch.optim.Adam([{"params": p, "lr": 0.003}], lr=1.0))
    assert made.step(made.initial(), 1, None).learning_rate == 0.003


@pytest.mark.parametrize("given", [None, "SGD", 0.1])
def test_an_optimizer_function_that_gives_something_else_is_refused(given):
    with pytest.raises(TaskError, match=r"optimizer\(\) gives \w+, expected a torch.optim one"):
        learner(optimizer=lambda p: given)


def test_what_does_not_fit_is_found_before_training():
    with pytest.raises(TaskError, match=r"test_data\(\): y has class 3, the model gives 3 outputs"):
        learner(test=(data()[0], np.full(40, 3))).try_out()


def test_threads_are_set_only_when_asked():
    before = torch.get_num_threads()
    try:
        learner(threads=1)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        learner(threads=None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_read_only_data_are_accepted():
    x, y = data()
    x.flags.writeable = y.flags.writeable = False
    made: Learner = learner(train=(x, y), test=(x, y))
    assert made.layout.size == made.initial().size == 6 * 5 + 5 + 5 * 3 + 3
