"""Who learns what in a simulated swarm: by the seed, the place and the start, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.spec import Scenario


def scenario(nodes: int = 4, seed: int = 1, **task: Any) -> Scenario:
    values = {"nodes": nodes, "seed": seed, "task": task, "duration": {"seconds": 1.0}}
    return Scenario.model_validate(values)


@contextmanager
def learners(**values: Any) -> Iterator[Learners]:
    found = Learners(scenario(**values), parallel=False)
    try:
        yield found
    finally:
        found.close()


def test_nodes_that_average_begin_apart_with_history_and_learn_nothing() -> None:
    with learners(name="averaging", size=7, spread=2.0) as found:
        assert found.initial is not None
        assert found.initial.shape == (4, 7)
        saved = found.saved(2)
        assert saved is not None
        assert np.array_equal(saved.weights, found.initial[2])
        assert saved.age > 0
        assert (saved.momentum, saved.previous, saved.cycles) == (None, None, 0)
        update = found.of(2, 0).step(saved.weights, 5, None)
        assert not update.delta.any()
        assert found.optimum is None
        saved.weights[:] = 0
        assert found.initial[2].any(), "a disk's copy is its own"


def test_their_spread_is_as_stated() -> None:
    with learners(nodes=50, name="averaging", size=100, spread=2.0) as found:
        assert found.initial is not None
        assert found.initial.std() == pytest.approx(2.0, rel=0.03)


def test_quadratics_begin_at_zero_and_their_swarms_optimum_is_the_mean() -> None:
    with learners(name="quadratic", size=5, learning_rate=0.5) as found:
        assert found.saved(0) is None
        assert found.initial is None
        own = []
        for place in range(4):
            learner = found.of(place, 0)
            x = learner.initial()
            assert not x.any()
            for _ in range(60):
                x += learner.step(x, 1, None).delta
            own.append(x)
        assert found.optimum is not None
        assert np.allclose(np.mean(own, axis=0), found.optimum, atol=1e-4)


@pytest.mark.parametrize("name", ["averaging", "quadratic"])
def test_models_without_data_have_no_accuracy(name: str) -> None:
    with learners(name=name, size=3) as found:
        assert np.isnan(found.accuracy(np.zeros((4, 3), np.float32))).all()
        assert found.accuracy(np.empty((0, 3), np.float32)).shape == (0,)


def test_a_seed_is_a_swarm() -> None:
    points = []
    for seed in (1, 1, 2):
        with learners(seed=seed, name="averaging", size=7) as found:
            points.append(found.initial)
    assert np.array_equal(points[0], points[1])
    assert not np.array_equal(points[0], points[2])


def test_every_place_and_every_start_has_batches_of_its_own() -> None:
    with learners(name="digits-numpy", partition="iid") as found:
        x = found.of(0, 0).initial()

        def delta(place: int, starts: int) -> np.ndarray:
            return found.of(place, starts).step(x, 1, None).delta

        first = delta(0, 0)
        assert np.array_equal(first, delta(0, 0))
        assert not np.array_equal(first, delta(0, 1))
        assert not np.array_equal(first, delta(1, 0))


def test_data_are_split_without_overlap_and_all_start_equal() -> None:
    with learners(name="digits-numpy", partition="dirichlet:0.5") as found:
        rows = [set(row.tolist()) for row in found._rows]
        assert sum(map(len, rows)) == len(set.union(*rows))
        starts = {found.of(place, 0).initial().tobytes() for place in range(4)}
        assert len(starts) == 1
        assert found.saved(0) is None


def test_models_are_judged_on_the_common_test_set() -> None:
    with learners(name="digits-numpy", partition="iid") as found:
        learner = found.of(0, 0)
        x = learner.initial()
        before = found.accuracy(x[None])[0]
        for _ in range(40):
            x += learner.step(x, 5, None).delta
        after, nothing = found.accuracy(np.stack([x, np.zeros_like(x)]))
        assert before < 0.3 < 0.7 < after
        assert nothing < 0.3
        assert found.accuracy(x[None])[0] == after == learner.evaluate(x).accuracy


def test_a_shift_gives_everybody_other_features() -> None:
    with learners(name="digits-numpy", partition="shift:0.5") as found:
        shifts = [shift for shift in found._shifts if shift is not None]
        assert len(shifts) == 4
        assert len({shift[0].tobytes() for shift in shifts}) == 4


def test_rate_and_batch_size_of_the_scenario_replace_the_tasks_own() -> None:
    def moved(**task: Any) -> float:
        with learners(name="digits-numpy", partition="iid", **task) as found:
            learner = found.of(0, 0)
            return float(np.linalg.norm(learner.step(learner.initial(), 1, None).delta))

    assert moved(learning_rate=0.2) == pytest.approx(2 * moved(learning_rate=0.1), rel=1e-4)
    assert moved(batch_size=1) != moved()


def test_more_nodes_than_the_data_can_serve_is_one_sentence() -> None:
    with pytest.raises(TaskError), learners(nodes=5000, name="digits-numpy"):
        pass
