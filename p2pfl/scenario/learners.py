"""The learners of a simulated swarm: a cohort that trains as one batch, or quadratic tasks.

    averaging    nothing is learnt: every node starts with a vector of its own
    quadratic    f_i(x) = |x - b_i|^2 / 2: every node has its own optimum, the swarm's is their mean
    others       a task with data, as `p2pfl node` takes it, split as the scenario says

Hostile nodes that poison what is learnt have poisoned rows, or a learner that does nothing.

Rule of the file: what a node learns depends on the scenario's seed, its place and how often it was
started, and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Vector
from p2pfl.errors import TaskError
from p2pfl.learning import poison
from p2pfl.learning.cohort import Cohort
from p2pfl.learning.partition import feature_shift, parse_partition, shards
from p2pfl.learning.quadratic import Quadratic
from p2pfl.learning.task import build_learner, find_task
from p2pfl.ports import Learner, Saved
from p2pfl.scenario.spec import MODELLED, Scenario, TaskSpec
from p2pfl.sim.attacks import ATTACKS

_RATE = 0.02
_HISTORY = 1000
"""Age of a node that averages: without history it would adopt instead."""


class Learners:
    """Makes every node's learner, and judges models from outside.

    Args:
        scenario: the experiment.
        parallel: train beside the event loop, on a thread of its own.

    Attributes:
        optimum: (d,) what the mean model should come to; None where nobody knows.
        initial: (n, d) the models that averaging begins with; None for other tasks.

    Raises:
        TaskError: the task or its data cannot be used.
    """

    def __init__(self, scenario: Scenario, *, parallel: bool = True) -> None:
        self._seed, spec = scenario.seed, scenario.task
        self.optimum: Vector | None = None
        self.initial: NDArray[np.float32] | None = None
        self._cohort: Cohort | None = None
        self._hostile, self._attack = scenario.hostile, scenario.adversary.attack
        self._trigger: Learner | None = None
        if spec.name in MODELLED:
            if self._attack in poison.KINDS:
                raise TaskError(f"{self._attack} needs a task with data, {spec.name} has none")
            self._model(scenario.nodes, spec)
        else:
            self._split(scenario.nodes, spec, f"{scenario.name} {scenario.seed}", parallel)

    def _model(self, nodes: int, spec: TaskSpec) -> None:
        rng = np.random.default_rng([self._seed, 0x0B5E])
        points = rng.normal(0.0, spec.spread, (nodes, spec.size)).astype(np.float32)
        zero = np.zeros(spec.size, np.float32)
        self._points = points
        if spec.name == "averaging":
            self.initial, self._rate = points, 0.0
            return
        self._rate = _RATE if spec.learning_rate is None else spec.learning_rate
        self.optimum = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._zero: Vector = zero

    def _split(self, nodes: int, spec: TaskSpec, run: str, parallel: bool) -> None:
        task = find_task(spec.name)
        changes = {
            key: value
            for key in ("learning_rate", "batch_size")
            if (value := getattr(spec, key)) is not None
        }
        task = replace(task, **changes)
        if self._attack == "backdoor":
            self._trigger = build_learner(poison.triggered_test(task), run=run, seed=0)
        is_poisoned = self._attack in poison.KINDS
        if is_poisoned:
            task = poison.poisoned(task, self._attack)
        self._cohort = Cohort(task, run=run, members=nodes, parallel=parallel)
        partition = replace(parse_partition(spec.partition), minimum=spec.minimum)
        samples = len(self._cohort.targets) // (2 if is_poisoned else 1)
        self._rows = shards(self._cohort.targets[:samples], nodes, partition, self._seed)
        for place in self._hostile if is_poisoned else ():
            self._rows[place] = poison.rows(self._attack, self._rows[place], samples)
        self._shifts: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]] | None]
        self._shifts = [None] * nodes
        if partition.rule == "shift":
            features = int(np.prod(self._cohort.train[0].shape[1:]))
            self._shifts = feature_shift(features, nodes, partition.parameter or 0.0, self._seed)

    def of(self, place: int, starts: int) -> Learner:
        """The learner of a node that was started `starts` times before."""
        learner: Learner
        if self._cohort is None:
            start = self._points[place] if self.initial is not None else self._zero
            learner = Quadratic(self._points[place], start.copy(), self._rate)
        else:
            learner = self._cohort.member(
                seed=_seed(self._seed, place, starts),
                rows=self._rows[place],
                shift=self._shifts[place],
            )
        is_idle = place in self._hostile and ATTACKS[self._attack].trains == "idle"
        return poison.Idle(learner) if is_idle else learner

    def saved(self, place: int) -> Saved | None:
        """What is on a node's disk before its first start; averaging begins with history."""
        if self.initial is None:
            return None
        return Saved(self.initial[place].copy(), None, None, _HISTORY, _HISTORY, 0)

    def accuracy(self, models: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of each model on the common test set: (n, d) -> (n,), NaN where the task has none."""
        if self._cohort is None or not len(models):
            return np.full(len(models), np.nan)
        found, _ = self._cohort.evaluate(models)
        return np.asarray(found, np.float64)

    def backdoor_success(self, models: NDArray[np.float32]) -> float | None:
        """Share of triggered samples of other classes that (n, d) models give to the trigger's.

        The mean over the models; None where there is no trigger.
        """
        if self._trigger is None or not len(models):
            return None
        found = [self._trigger.evaluate(model).accuracy for model in models]
        return float(np.mean([0.0 if one is None else one for one in found]))

    def close(self) -> None:
        """End the thread that trains."""
        if self._cohort is not None:
            self._cohort.close()


def _seed(*numbers: int) -> int:
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
