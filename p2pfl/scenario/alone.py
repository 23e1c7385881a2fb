"""What every node would reach alone: the same learner and shard, and nobody to talk to.

    python -m p2pfl.scenario.alone TASK RUN SHARDS PARTITION DATA_SEED STEPS

says one line of JSON for every `BLOCK` steps: {"steps": 200, "accuracies": [0.31, ...]}, measured
on the common test set. All shards advance together, so whenever it is ended every figure in it is
about the same number of steps.

Rule of the file: it starts from the run's own initial weights, and trains by the node's own steps.
It runs beside the nodes, in its own process and at the lowest priority, so that it takes only what
they leave.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ValidationError

from p2pfl.errors import LearnerError
from p2pfl.learning.partition import Shard, parse_partition
from p2pfl.learning.task import build_learner, find_task
from p2pfl.ports import Learner

STEPS_MAX = 2000
BLOCK = 100


class Measured(BaseModel):
    """How good each shard's own model is after so many local steps."""

    steps: int
    accuracies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LocalOnly:
    """The local-only level, to compare with.

    Attributes:
        steps: local steps each shard was trained for.
        mean: accuracy on the common test set, over the shards.
        accuracies: of each shard.
    """

    steps: int
    mean: float
    accuracies: tuple[float, ...]


def train_alone(learners: list[Learner], steps: int, block: int = BLOCK) -> Iterator[Measured]:
    """Train each by itself, and measure after every block of steps.

    Args:
        learners: one for each shard.
        steps: in all, for each.
        block: between two measurements.

    Raises:
        LearnerError: one of them became non-finite.
    """
    weights = [learner.initial() for learner in learners]
    for done in range(block, steps + 1, block):
        accuracies = []
        for place, learner in enumerate(learners):
            weights[place] = weights[place] + learner.step(weights[place], block, None).delta
            accuracies.append(learner.evaluate(weights[place]).accuracy)
        known = tuple(accuracy for accuracy in accuracies if accuracy is not None)
        if len(known) < len(learners):
            return
        yield Measured(steps=done, accuracies=known)


def local_only(path: Path, own_steps: float) -> LocalOnly | None:
    """The last measurement at no more than `own_steps` steps; None if there is none.

    Args:
        path: what this module said, perhaps cut off in a line.
        own_steps: as many as the nodes of the swarm took themselves.
    """
    best: Measured | None = None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            measured = Measured.model_validate_json(line)
        except ValidationError:
            break
        if measured.steps <= own_steps and measured.accuracies:
            best = measured
    if best is None:
        return None
    return LocalOnly(best.steps, fmean(best.accuracies), best.accuracies)


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    os.nice(19)
    task, run, count, partition, data_seed, steps = arguments
    rule, shards = parse_partition(partition), range(int(count))
    learners = [
        build_learner(
            find_task(task),
            run=run,
            seed=place,
            shard=Shard(place, int(count), rule, int(data_seed)),
        )
        for place in shards
    ]
    try:
        for measured in train_alone(learners, int(steps)):
            sys.stdout.write(json.dumps(measured.model_dump()) + "\n")
            sys.stdout.flush()
    except LearnerError as error:
        sys.exit(f"a model that is trained alone broke: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
