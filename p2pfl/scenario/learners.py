"""The learners of a simulated swarm: a cohort that trains as one batch, or quadratic tasks.

    averaging    nothing is learnt: every node starts with a vector of its own
    quadratic    f_i(x) = |x - b_i|^2 / 2: every node has its own optimum, the swarm's is their mean
    others       a task with data, as `p2pfl node` takes it, split as the scenario says

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
from p2pfl.learning.cohort import Cohort
from p2pfl.learning.partition import feature_shift, parse_partition, shards
from p2pfl.learning.quadratic import Quadratic
from p2pfl.learning.task import find_task
from p2pfl.ports import Learner, Saved
from p2pfl.scenario.spec import MODELLED, Scenario, TaskSpec

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
        if spec.name in MODELLED:
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
        self._cohort = Cohort(replace(task, **changes), run=run, members=nodes, parallel=parallel)
        partition = replace(parse_partition(spec.partition), minimum=spec.minimum)
        self._rows = shards(self._cohort.targets, nodes, partition, self._seed)
        self._shifts: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]] | None]
        self._shifts = [None] * nodes
        if partition.rule == "shift":
            features = int(np.prod(self._cohort.train[0].shape[1:]))
            self._shifts = feature_shift(features, nodes, partition.parameter or 0.0, self._seed)

    def of(self, place: int, starts: int) -> Learner:
        """The learner of a node that was started `starts` times before."""
        if self._cohort is None:
            start = self._points[place] if self.initial is not None else self._zero
            return Quadratic(self._points[place], start.copy(), self._rate)
        return self._cohort.member(
            seed=_seed(self._seed, place, starts), rows=self._rows[place], shift=self._shifts[place]
        )

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

    def close(self) -> None:
        """End the thread that trains."""
        if self._cohort is not None:
            self._cohort.close()


def _seed(*numbers: int) -> int:
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
