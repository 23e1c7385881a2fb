"""A cohort: the steps of learners alone, with the same bits whatever is trained beside them."""

import logging
import subprocess
import sys
import threading
from itertools import cycle

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.core.weights import read_only
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.cohort import Cohort, CohortLearner
from p2pfl.learning.cohort_jobs import is_sound, usual_chunk
from p2pfl.learning.numpy_models import MLP, SoftmaxRegression
from p2pfl.learning.partition import Shard, feature_shift, parse_partition, take
from p2pfl.learning.task import Task, build_learner

RUN = "test"
FEATURES = 9


class Residual(nn.Module):
    """No perceptron: `torch.func` has to do."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(x + torch.tanh(self.inner(x)))


def data(rows, seed, shape=(FEATURES,)):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, *shape), dtype=np.float32), rng.integers(3, size=rows)


def task(model, *, rows=90, shape=(FEATURES,), name="made-up", **options):
    train, test = data(rows, 0, shape), data(37, 1, shape)
    return Task(name=name, model=model, train_data=lambda: train, test_data=lambda: test, **options)


def relu():
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, 3))


def wide():
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def deep():
    return nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(16, 32), nn.Tanh()),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


def convolution():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def with_dropout():
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.Dropout(0.3), nn.Linear(5, 3))


def with_batch_norm():
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def squares(outputs, targets):
    return (outputs.softmax(1) - torch.eye(3)[targets]).square().mean()


STACKED = {
    "relu": lambda **o: task(relu, **o),
    "deep": lambda **o: task(deep, shape=(4, 4), **o),
    "linear": lambda **o: task(lambda: nn.Linear(FEATURES, 3), **o),
    "residual": lambda **o: task(Residual, shape=(16,), **o),
    "loss": lambda **o: task(wide, loss=squares, shape=(16,), **o),
    "mlp": lambda **o: task(lambda: MLP(FEATURES, 5, 3), **o),
    "softmax": lambda **o: task(lambda: SoftmaxRegression(FEATURES, 3), **o),
}
ALONE = {
    "dropout": lambda **o: task(with_dropout, **o),
    "batch norm": lambda **o: task(with_batch_norm, **o),
    "optimizer": lambda **o: task(relu, optimizer=sgd, **o),
}
ALL = {**STACKED, **ALONE, "convolution": lambda **o: task(convolution, shape=(1, 4, 4), **o)}


@pytest.fixture
def cohorts():
    """Makes cohorts and closes them."""
    made = []

    def make(what, **options):
        made.append(Cohort(what, run=RUN, **options))
        return made[-1]

    yield make
    for cohort in made:
        cohort.close()


def drifts(size, count):
    rng = np.random.default_rng(3)
    return [
        None if at % 3 == 1 else rng.normal(0, 0.1, size).astype(np.float32) for at in range(count)
    ]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_members_take_the_steps_of_learners_alone(cohorts, name, decay):
    what = ALL[name](weight_decay=decay)
    cohort = cohorts(what, chunk=4)
    split = parse_partition("quantity:1:min=5")
    shards = [Shard(index, 6, split, seed=1) for index in range(6)]
    alone = [build_learner(what, run=RUN, seed=at, shard=shard) for at, shard in enumerate(shards)]
    members = [
        cohort.member(seed=at, rows=take(cohort.targets, shard)) for at, shard in enumerate(shards)
    ]
    assert min(len(take(cohort.targets, shard)) for shard in shards) < what.batch_size
    weights = [cohort.initial()] * 6
    for steps in ([1] * 6, [3, 1, 5, 2, 20, 4], [2, 2, 7, 7, 2, 2]):
        pushed = drifts(cohort.layout.size, 6)
        for member, x, k, drift in zip(members, weights, steps, pushed, strict=True):
            member.begin(read_only(x), k, drift)
        for at, k in enumerate(steps):
            update = members[at].step(weights[at], k, pushed[at])
            expected = alone[at].step(weights[at], k, pushed[at])
            np.testing.assert_allclose(update.delta, expected.delta, atol=1e-5, rtol=1e-4)
            assert update.loss == pytest.approx(expected.loss, rel=1e-4)
            assert (update.steps, update.learning_rate) == (k, expected.learning_rate)
            weights[at] = weights[at] + expected.delta


@pytest.mark.parametrize("name", STACKED)
def test_models_of_these_kinds_are_stacked(cohorts, name):
    assert cohorts(STACKED[name](), chunk=4).chunk == 4


@pytest.mark.parametrize("name", ALONE)
def test_models_with_chance_state_or_an_optimizer_are_not_stacked(cohorts, name):
    assert cohorts(ALONE[name](), chunk=4).chunk == 1


def test_frozen_parameters_and_huge_models_are_not_stacked(cohorts, monkeypatch):
    def frozen():
        module = relu()
        module[0].requires_grad_(False)
        return module

    assert cohorts(task(frozen), chunk=4).chunk == 1
    monkeypatch.setattr("p2pfl.learning.cohort.LARGE", 10)
    assert cohorts(task(relu), chunk=4).chunk == 1


def plans(size):
    """What 23 members do: K, drift, rows, shift; batches of two sizes."""
    rng = np.random.default_rng(8)
    shifts = feature_shift(size, 23, 0.3, 0)
    return [
        (int(rng.integers(1, 9)), rng.choice(90, 6 if at % 5 == 0 else 40, False), shifts[at])
        for at in range(23)
    ]


@pytest.mark.parametrize("name", [*STACKED, "convolution"])
def test_a_result_has_the_same_bits_whatever_shares_its_chunk(cohorts, name):
    """Chunks of other sizes, full or not, in other orders, with other neighbours."""
    what = ALL[name]()
    found = []
    for chunk, order, parallel in (
        (5, range(23), True),
        (64, range(23), False),
        (5, reversed(range(23)), True),
        (8, np.random.default_rng(1).permutation(23), False),
    ):
        cohort = cohorts(what, chunk=chunk, parallel=parallel)
        features = cohort.train[0][0].size
        weights, pushed = cohort.initial(), drifts(cohort.layout.size, 23)
        members, results = {}, {}
        for at, (_, rows, shift) in enumerate(plans(features)):
            given = shift if at % 4 == 0 else None
            members[at] = cohort.member(seed=at, rows=rows, shift=given)
        for at in order:
            members[at].begin(weights, plans(features)[at][0], pushed[at])
        for at in range(23):
            results[at] = members[at].step(weights, plans(features)[at][0], pushed[at])
        found.append([results[at] for at in range(23)])
    # a chunk of another size is another shape to what is not a perceptron
    fixed = name in ("residual", "loss", "convolution")
    for run in found[1:]:
        for one, other in zip(found[0], run, strict=True):
            if fixed:
                np.testing.assert_allclose(one.delta, other.delta, atol=1e-6)
            else:
                np.testing.assert_array_equal(one.delta, other.delta)
                assert one.loss == other.loss
    if fixed:
        for one, other in zip(found[0], found[2], strict=True):
            np.testing.assert_array_equal(one.delta, other.delta)


@pytest.mark.parametrize("name", ["relu", "mlp", "dropout"])
def test_a_step_that_was_not_begun_gives_the_same_as_one_that_was(cohorts, name):
    cohort = cohorts(ALL[name](), chunk=4)
    one, other = cohort.member(seed=5), cohort.member(seed=5)
    x = cohort.initial()
    one.begin(x, 3, None)
    np.testing.assert_array_equal(one.step(x, 3, None).delta, other.step(x, 3, None).delta)
    np.testing.assert_array_equal(one.step(x, 2, None).delta, other.step(x, 2, None).delta)


@pytest.mark.parametrize("parallel", [True, False])
def test_what_was_begun_is_a_copy(cohorts, parallel):
    cohort = cohorts(task(relu), chunk=4, parallel=parallel)
    member, same = cohort.member(seed=5), cohort.member(seed=5)
    x, drift = cohort.initial(), np.full(cohort.layout.size, 0.1, np.float32)
    kept = x.copy()
    expected = same.step(kept, 3, drift.copy())
    member.begin(x, 3, drift)
    member.begin_evaluation(x)
    x.fill(9)
    drift.fill(9)
    np.testing.assert_array_equal(member.step(x, 3, drift).delta, expected.delta)
    assert member.evaluate(x) == same.evaluate(kept)


def test_a_job_that_is_never_asked_for_disturbs_nobody(cohorts):
    cohort = cohorts(task(relu), chunk=3)
    crashing, member, same = (cohort.member(seed=at) for at in (1, 2, 2))
    x = cohort.initial()
    expected = [same.step(x, 2, None).delta for _ in range(6)]
    for delta in expected:
        crashing.begin(x, 4, None)
        member.begin(x, 2, None)
        np.testing.assert_array_equal(member.step(x, 2, None).delta, delta)
    assert crashing.step(x, 4, None).steps == 4


@pytest.mark.parametrize("name", ["relu", "residual", "mlp", "dropout"])
def test_what_goes_wrong_goes_wrong_for_one_learner_only(cohorts, name):
    what = ALL[name]()
    cohort, calm = cohorts(what, chunk=4), cohorts(what, chunk=4)
    x = cohort.initial()
    bad = [x, np.full_like(x, np.nan), x, x]
    drift = [None, None, np.full_like(x, np.inf), None]
    members = [cohort.member(seed=at) for at in range(4)]
    same = [calm.member(seed=at) for at in range(4)]
    for _ in range(2):
        for member, weights, pushed in zip(members, bad, drift, strict=True):
            member.begin(weights, 1, pushed)
        with pytest.raises(LearnerError, match=r"^loss is nan in local step 1 of 1$"):
            members[1].step(bad[1], 1, None)
        with pytest.raises(LearnerError, match=r"^weights are not finite after 1 local steps$"):
            members[2].step(bad[2], 1, drift[2])
        for at in (0, 3):
            expected = same[at].step(x, 1, None)
            np.testing.assert_array_equal(members[at].step(x, 1, None).delta, expected.delta)
    with pytest.raises(LearnerError, match=r"^loss is nan in local step 2 of 3$"):
        members[2].step(x, 3, drift[2])
    assert np.isfinite(members[2].step(x, 3, None).delta).all()


@pytest.mark.parametrize("name", ALL)
def test_evaluations_are_those_of_learners_alone(cohorts, name):
    what = ALL[name]()
    cohort, alone = cohorts(what, chunk=4), build_learner(what, run=RUN, seed=0)
    rng = np.random.default_rng(2)
    stack = rng.normal(0, 0.5, (7, cohort.layout.size)).astype(np.float32)
    stack[3] = np.nan
    accuracy, loss = cohort.evaluate(stack)
    members = [cohort.member(seed=at) for at in range(7)]
    for member, row in zip(members, stack, strict=True):
        member.begin_evaluation(row)
    for at in range(7):
        got, expected = members[at].evaluate(stack[at]), alone.evaluate(stack[at])
        assert got.loss == pytest.approx(expected.loss, rel=1e-4, nan_ok=True)
        np.testing.assert_array_equal([got.loss, got.accuracy], [loss[at], accuracy[at]])
        assert (got.samples, got.metrics) == (37, {})
        if at != 3:
            assert got.accuracy == pytest.approx(expected.accuracy)
    one = [cohort.evaluate(stack[at : at + 1])[1][0] for at in range(7)]
    np.testing.assert_array_equal(one, loss)
    assert [len(part) for part in cohort.evaluate(stack[:0])] == [0, 0]


def test_floating_targets_have_no_accuracy(cohorts):
    x, _ = data(40, 0)
    what = Task(
        name="sum",
        model=lambda: nn.Linear(FEATURES, 1),
        train_data=lambda: (x, x.sum(axis=1)),
        test_data=lambda: (x, x.sum(axis=1)),
    )
    cohort = cohorts(what, chunk=4)
    assert cohort.chunk == 4
    accuracy, loss = cohort.evaluate(cohort.initial()[None])
    assert np.isnan(accuracy).all()
    assert np.isfinite(loss).all()
    assert cohort.member(seed=0).evaluate(cohort.initial()).accuracy is None


@pytest.mark.parametrize("name", ["relu", "mlp"])
def test_a_tasks_own_metrics_are_what_members_report(cohorts, name):
    metrics = lambda o, t: {"accuracy": 0.25, "rows": len(o)}  # noqa: E731
    cohort = cohorts(ALL[name](metrics=metrics), chunk=4)
    member, x = cohort.member(seed=0), cohort.initial()
    member.begin_evaluation(x)
    evaluation = member.evaluate(x)
    assert (evaluation.accuracy, evaluation.metrics) == (0.25, {"rows": 37})
    assert cohort.evaluate(x[None])[0] == [0.25]
    assert cohort.chunk == 4


@pytest.mark.parametrize("name", ["relu", "convolution", "mlp", "dropout"])
def test_a_shifted_member_agrees_with_a_node_whose_partition_is_shift(cohorts, name):
    what = ALL[name]()
    cohort = cohorts(what, chunk=4)
    shard = Shard(1, 3, parse_partition("shift:0.8"), seed=6)
    features = cohort.train[0][0].size
    shift = feature_shift(features, 3, 0.8, 6)[1]
    member = cohort.member(seed=2, rows=take(cohort.targets, shard), shift=shift)
    plain = cohort.member(seed=2, rows=take(cohort.targets, shard))
    alone = build_learner(what, run=RUN, seed=2, shard=shard)
    x = cohort.initial()
    delta = member.step(x, 4, None).delta
    np.testing.assert_allclose(delta, alone.step(x, 4, None).delta, atol=1e-5)
    assert np.abs(delta - plain.step(x, 4, None).delta).max() > 1e-3
    assert member.evaluate(x) == plain.evaluate(x)


def test_members_that_cannot_be_are_refused(cohorts):
    cohort = cohorts(task(relu), chunk=4)
    with pytest.raises(TaskError, match="rows is empty"):
        cohort.member(seed=0, rows=np.array([], np.intp))
    with pytest.raises(TaskError, match="scale has shape"):
        cohort.member(seed=0, shift=(np.ones(2, np.float32), np.ones(2, np.float32)))
    with pytest.raises(TaskError, match="chunk is 0"):
        Cohort(task(relu), run=RUN, chunk=0)


def test_a_users_mistake_is_told_as_a_learner_alone_tells_it(cohorts, tmp_path):
    calls = cycle([False] * 8 + [True])

    def loss(outputs, targets):
        if next(calls):
            raise KeyError("oops")
        return nn.functional.cross_entropy(outputs, targets) + 0 * outputs.sum().item()

    what = task(relu, loss=loss, path=tmp_path / "mine.py")
    cohort = cohorts(what, chunk=4)
    member = cohort.member(seed=0)
    with pytest.raises(TaskError, match=r"mine.py: training: KeyError: 'oops'"):
        member.step(cohort.initial(), 20, None)


def test_what_the_stack_cannot_run_is_trained_alone_and_logged(cohorts, caplog):
    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) * (1 if outputs.sum() > 0 else 2)

    with caplog.at_level(logging.WARNING):
        cohort = cohorts(task(relu, loss=loss), chunk=4)
    assert cohort.chunk == 1
    assert "learners with batches of 16 train their own models: training many" in caplog.text
    assert cohort.member(seed=0).step(cohort.initial(), 2, None).steps == 2


class Partial:
    """A stack that does one thing wrong."""

    def __init__(self, stack, spoil):
        self._stack, self._spoil = stack, spoil
        self.chunk, self.rows, self.evaluate = stack.chunk, stack.rows, stack.evaluate

    def train(self, jobs):
        losses = self._stack.train(jobs)
        self._spoil(jobs)
        return losses


def last_row(jobs):
    jobs.weights[-1, 0] = np.nextafter(jobs.weights[-1, 0], np.float32(9))


def lonely_row(jobs):
    if len(jobs.weights) == 1:
        jobs.weights *= np.float32(1 + 1e-6)


def all_rows(jobs):
    jobs.weights *= np.float32(1.01)


@pytest.mark.parametrize("spoil", [last_row, lonely_row, all_rows, None])
def test_a_stack_whose_rows_notice_their_company_or_are_wrong_is_found_out(cohorts, spoil):
    what = task(relu, rows=16)
    stack = cohorts(what, chunk=4)._chunks.stack
    alone = build_learner(what, run=RUN, seed=0)
    tried = Partial(stack, spoil or (lambda jobs: None))
    assert is_sound(tried, alone, what.batch_size, True) == (spoil is None)


def test_a_machine_on_which_rows_are_not_independent_stacks_nothing(cohorts, caplog, monkeypatch):
    monkeypatch.setattr("p2pfl.learning.cohort.is_sound", lambda *_: False)
    with caplog.at_level(logging.WARNING):
        assert cohorts(task(relu), chunk=4).chunk == 1
    assert "results would depend on which models are trained together" in caplog.text


def test_no_thread_is_started_after_the_cohort_is_made(cohorts):
    cohort = cohorts(task(relu), chunk=4)
    threads = threading.enumerate()
    member = cohort.member(seed=0)
    member.begin(cohort.initial(), 2, None)
    member.step(cohort.initial(), 2, None)
    assert threading.enumerate() == threads
    before = threading.active_count()
    cohorts(task(relu), chunk=4, parallel=False)
    assert threading.active_count() == before


def test_closing_ends_the_thread(cohorts):
    before = threading.active_count()
    cohort = Cohort(task(relu), run=RUN)
    assert threading.active_count() == before + 1
    cohort.close()
    assert threading.active_count() == before


def test_members_are_learners_and_start_from_the_runs_weights(cohorts):
    what = task(relu)
    cohort = cohorts(what)
    member: CohortLearner = cohort.member(seed=0)
    start = member.initial()
    np.testing.assert_array_equal(start, build_learner(what, run=RUN, seed=9).initial())
    start.fill(0)
    assert member.initial().any()
    assert member.layout == cohort.layout


def test_compiled_or_not_the_loop_gives_the_same_bits(cohorts, monkeypatch):
    compiled = cohorts(task(deep, shape=(4, 4)), chunk=4)
    monkeypatch.setattr("p2pfl.learning.cohort_torch._without_lock", lambda function: function)
    plain = cohorts(task(deep, shape=(4, 4)), chunk=4)
    x, drift = compiled.initial(), np.full(compiled.layout.size, 0.1, np.float32)
    one, other = compiled.member(seed=1), plain.member(seed=1)
    for steps in (3, 5, 2):
        expected = one.step(x, steps, drift)
        np.testing.assert_array_equal(other.step(x, steps, drift).delta, expected.delta)


def test_a_torch_that_cannot_compile_runs_the_loop_as_it_is(monkeypatch):
    from p2pfl.learning.cohort_torch import _without_lock

    def refuse(function):
        raise RuntimeError("TorchScript is gone")

    monkeypatch.setattr(torch.jit, "script", refuse)
    assert _without_lock(usual_chunk) is usual_chunk


def test_a_stack_uses_one_thread_of_torch_whatever_was_asked_for(cohorts):
    before = torch.get_num_threads()
    try:
        cohorts(task(relu), chunk=4, threads=2)
        assert torch.get_num_threads() == 1
        cohorts(task(with_dropout), chunk=4, threads=2).member(seed=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_chunks_suit_the_cache():
    assert [usual_chunk(d) for d in (10, 2410, 101_770, 10**7)] == [256, 128, 8, 8]


def test_numpy_models_never_import_torch():
    code = """
import sys
import numpy as np
from p2pfl.learning.cohort import Cohort
from p2pfl.learning.numpy_models import MLP
from p2pfl.learning.task import Task

data = np.ones((20, 4), np.float32), np.arange(20) % 2
task = Task(name="t", model=lambda: MLP(4, 3, 2), train_data=lambda: data, test_data=lambda: data)
cohort = Cohort(task, run="r")
cohort.member(seed=0).step(cohort.initial(), 2, None)
cohort.close()
print(cohort.chunk, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["256", "False"]
