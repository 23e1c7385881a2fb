"""A device takes as long as it says, and tells early what it will be asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from p2pfl.core.weights import Layout, Vector
from p2pfl.errors import LearnerError
from p2pfl.learning.quadratic import Quadratic
from p2pfl.ports import Evaluation, Update
from p2pfl.sim.device import EVALUATION_STEPS, Device
from p2pfl.sim.loop import run

WEIGHTS = np.zeros(2, np.float32)


def learner() -> Quadratic:
    return Quadratic(np.ones(2, np.float32), WEIGHTS, 0.1)


def device(of: Any, step_s: float = 0.25, jitter: float = 0.0, seed: int = 0) -> Device:
    return Device(of, step_s, jitter, np.random.default_rng(seed))


def step(of: Any, weights: Vector, steps: int, drift: Vector | None) -> Update:
    return of.step(weights, steps, drift)  # type: ignore[no-any-return]


async def took(running: Any) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await running
    return loop.time() - began


def test_training_takes_its_steps_times_the_time_of_one() -> None:
    of = learner()

    async def main() -> list[float]:
        return [await took(device(of)(step, of, WEIGHTS, steps, None)) for steps in (1, 4)]

    assert run(main()) == [0.25, 1.0]


def test_an_evaluation_takes_as_long_as_two_steps_and_everything_else_nothing() -> None:
    of = learner()

    async def main() -> list[float]:
        evaluation = await took(device(of)(of.evaluate, WEIGHTS))
        return [evaluation, await took(device(of)(np.copy, WEIGHTS))]

    assert run(main()) == [EVALUATION_STEPS * 0.25, 0.0]


def test_the_result_is_that_of_the_function_and_so_is_its_error() -> None:
    of = learner()

    def broken(*_: Any) -> Update:
        raise LearnerError("loss is nan")

    async def main() -> None:
        found = await device(of)(step, of, WEIGHTS, 1, None)
        assert np.array_equal(found.delta, of.step(WEIGHTS, 1, None).delta)
        with pytest.raises(LearnerError, match="loss is nan"):
            await device(of)(broken, of, WEIGHTS, 1, None)

    run(main())


def test_jitter_is_lognormal_with_the_stated_median_and_sigma() -> None:
    of = learner()

    async def main() -> list[float]:
        worker = device(of, step_s=0.1, jitter=0.3)
        return [await took(worker(step, of, WEIGHTS, 1, None)) for _ in range(2000)]

    logs = np.log(run(main()))
    assert np.exp(logs.mean()) == pytest.approx(0.1, rel=0.03)
    assert logs.std() == pytest.approx(0.3, rel=0.06)


def test_a_killed_device_ends_what_it_does_at_once() -> None:
    of = learner()

    async def main() -> float:
        worker = device(of)
        worker.is_off = True
        return await took(worker(step, of, WEIGHTS, 4, None))

    assert run(main()) == 0.0


class Told:
    """A learner that notes when it is told, and when it is asked."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, float]] = []
        self.layout: Layout = learner().layout

    def _note(self, what: str) -> None:
        self.notes.append((what, asyncio.get_running_loop().time()))

    def initial(self) -> Vector:
        return WEIGHTS.copy()

    def begin(self, weights: Vector, steps: int, drift: Vector | None) -> None:
        self._note("begin")

    def begin_evaluation(self, weights: Vector) -> None:
        self._note("begin evaluation")

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        self._note("step")
        return Update(weights, steps, 0.0, 1.0)

    def evaluate(self, weights: Vector) -> Evaluation:
        self._note("evaluate")
        return Evaluation(0.0, None, 1)


def test_a_learner_is_told_when_a_job_begins_and_asked_when_it_is_due() -> None:
    of = Told()

    async def main() -> None:
        worker = device(of)
        await worker(step, of, WEIGHTS, 2, None)
        await worker(of.evaluate, WEIGHTS)
        await worker(np.copy, WEIGHTS)

    run(main())
    assert of.notes == [
        ("begin", 0.0),
        ("step", 0.5),
        ("begin evaluation", 0.5),
        ("evaluate", 1.0),
    ]
