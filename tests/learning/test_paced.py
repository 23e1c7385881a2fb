"""A slower device: only time changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from p2pfl.core.weights import Vector
from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.paced import Paced
from p2pfl.learning.task import adapted, build_learner, find_task
from p2pfl.ports import Evaluation, Learner, Update


@dataclass
class Device:
    """Takes `takes_s` a step by its own clock, and notes what it was made to wait."""

    takes_s: float
    now: float = 5.0
    waited: list[float] = field(default_factory=list)
    breaks: bool = False
    layout = None

    def initial(self) -> Vector:
        return np.zeros(3, np.float32)

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        self.now += steps * self.takes_s
        if self.breaks:
            raise LearnerError("loss is nan")
        return Update(weights + steps, steps, 0.5, 0.1)

    def evaluate(self, weights: Vector) -> Evaluation:
        return Evaluation(0.25, 0.75, 10)

    def paced(self, step_s: float) -> Paced:
        return Paced(self, step_s, lambda: self.now, self.waited.append)  # type: ignore[arg-type]


def test_steps_last_as_long_as_those_of_the_slower_device() -> None:
    device = Device(takes_s=0.01)
    update = device.paced(0.25).step(np.zeros(3, np.float32), 8, None)
    assert device.waited == [pytest.approx(8 * (0.25 - 0.01))]
    assert update.steps == 8
    np.testing.assert_array_equal(update.delta, np.full(3, 8, np.float32))


def test_a_device_that_is_slow_enough_by_itself_waits_for_nothing() -> None:
    device = Device(takes_s=0.5)
    device.paced(0.25).step(np.zeros(3, np.float32), 4, None)
    assert device.waited == []


def test_evaluating_and_beginning_are_as_they_were() -> None:
    device = Device(takes_s=0.0)
    paced = device.paced(9.0)
    assert paced.evaluate(paced.initial()).accuracy == 0.75
    assert device.waited == []


def test_training_that_went_wrong_is_said_at_once() -> None:
    device = Device(takes_s=0.0, breaks=True)
    with pytest.raises(LearnerError, match="nan"):
        device.paced(9.0).step(np.zeros(3, np.float32), 4, None)
    assert device.waited == []


def test_a_paced_learner_learns_the_very_same_thing() -> None:
    def made() -> Learner:
        return build_learner(find_task("digits-numpy"), run="r", seed=3)

    plain, paced = made(), Paced(made(), 1e-9)
    weights = plain.initial()
    for steps in (1, 5):
        ours, theirs = paced.step(weights, steps, None), plain.step(weights, steps, None)
        np.testing.assert_array_equal(ours.delta, theirs.delta)
    assert paced.layout == plain.layout


def test_a_task_can_be_given_another_learning_rate_and_batch_size() -> None:
    task = adapted(find_task("digits-numpy"), learning_rate=0.01, batch_size=4)
    assert (task.learning_rate, task.batch_size) == (0.01, 4)
    assert adapted(task) is task
    learner = build_learner(task, run="r", seed=3)
    assert learner.step(learner.initial(), 1, None).learning_rate == 0.01


def test_a_learning_rate_for_a_task_with_its_own_optimizer_is_refused() -> None:
    task = adapted(find_task("digits"), batch_size=4)
    own = type(task)(
        name="mine.py",
        model=task.model,
        train_data=task.train_data,
        test_data=task.test_data,
        optimizer=lambda parameters: None,
    )
    assert adapted(own, batch_size=4).batch_size == 4
    with pytest.raises(TaskError, match=r"mine\.py: optimizer\(\) brings its own learning rate"):
        adapted(own, learning_rate=0.01)
