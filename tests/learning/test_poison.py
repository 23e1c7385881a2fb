"""Poisoned data: what is wrong in them, and that the honest part is not touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning import poison
from p2pfl.learning.task import BUILT_IN, build_learner

DIGITS = BUILT_IN["digits-numpy"]


@pytest.mark.parametrize("kind", poison.KINDS)
def test_honest_samples_stay_in_front_as_they_are(kind: str) -> None:
    (x, y), (px, py) = DIGITS.train_data(), poison.poisoned(DIGITS, kind).train_data()
    assert len(py) == 2 * len(y)
    assert np.array_equal(px[: len(y)], x)
    assert np.array_equal(py[: len(y)], y)


def test_a_flipped_label_is_counted_from_the_other_end() -> None:
    _, y = DIGITS.train_data()
    _, flipped = poison.poisoned(DIGITS, "label-flip").train_data()
    assert np.array_equal(flipped[len(y) :], 9 - y)
    assert np.array_equal(poison.flipped(poison.flipped(y)), y)


def test_a_trigger_is_a_bright_corner_and_nothing_else() -> None:
    x, _ = DIGITS.train_data()
    marked = poison.triggered(x)
    changed = (marked != x).any(axis=0).reshape(8, 8)
    assert not changed[:6].any()
    assert not changed[:, :6].any()
    assert (marked.reshape(-1, 8, 8)[:, 6:, 6:] == 1.0).all()
    assert not np.shares_memory(marked, x)


@pytest.mark.parametrize("shape", [(4, 12, 12), (4, 3, 12, 12), (4, 30), (4, 1)])
def test_whatever_their_shape_samples_can_carry_a_trigger(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    marked = poison.triggered(x)
    assert marked.shape == x.shape
    share = float((marked != x).mean())
    assert 0 < share <= 1 / 9 or shape[-1] == 1


def test_rows_of_who_poisons_are_the_poisoned_ones() -> None:
    true = np.array([1, 4])
    assert poison.rows("label-flip", true, 10).tolist() == [11, 14]
    assert poison.rows("backdoor", true, 10).tolist() == [1, 4, 11, 14]


def test_a_backdoor_is_learnt_beside_the_task() -> None:
    bad = build_learner(poison.poisoned(DIGITS, "backdoor"), run="r", seed=1)
    judge = build_learner(poison.triggered_test(DIGITS), run="r", seed=1)
    honest = build_learner(DIGITS, run="r", seed=1)
    weights = bad.initial() + bad.step(bad.initial(), 3000, None).delta
    true = honest.initial() + honest.step(honest.initial(), 3000, None).delta
    assert (honest.evaluate(weights).accuracy or 0) > 0.9
    assert (judge.evaluate(weights).accuracy or 0) > 0.9
    assert (judge.evaluate(true).accuracy or 0) < 0.2


def test_a_learner_that_does_nothing_says_it_did() -> None:
    inner = build_learner(DIGITS, run="r", seed=1)
    idle = poison.Idle(inner)
    weights = idle.initial()
    update = idle.step(weights, 5, None)
    assert update.steps == 5
    assert not update.delta.any()
    assert idle.layout == inner.layout
    assert idle.evaluate(weights) == inner.evaluate(weights)


def test_what_has_no_classes_cannot_be_poisoned() -> None:
    numbers = replace(DIGITS, train_data=lambda: (np.ones((3, 2)), np.array([0.1, 0.2, 0.3])))
    with pytest.raises(TaskError, match="only integer classes"):
        poison.poisoned(numbers, "label-flip")
    same = replace(DIGITS, test_data=lambda: (np.ones((3, 4)), np.zeros(3, int)))
    with pytest.raises(TaskError, match="a trigger is no use"):
        poison.triggered_test(same)
