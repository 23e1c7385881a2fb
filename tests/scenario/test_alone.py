"""The local-only figure: same learner, nobody to talk to, and honest about how many steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from p2pfl.learning.partition import Shard, parse_partition
from p2pfl.learning.task import BUILT_IN, build_learner
from p2pfl.ports import Learner
from p2pfl.scenario.alone import local_only, train_alone


def learners(count: int) -> list[Learner]:
    rule = parse_partition("dirichlet:0.1")
    return [
        build_learner(BUILT_IN["digits-numpy"], run="r", seed=i, shard=Shard(i, count, rule))
        for i in range(count)
    ]


def said(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_it_is_the_learners_own_steps_and_nothing_else() -> None:
    (measured,) = train_alone(learners(3), 40, block=40)
    expected = []
    for learner in learners(3):
        weights = learner.initial()
        expected.append(learner.evaluate(weights + learner.step(weights, 40, None).delta).accuracy)
    assert measured.steps == 40
    assert list(measured.accuracies) == expected


def test_all_shards_advance_together_and_one_class_or_two_are_not_ten() -> None:
    found = list(train_alone(learners(6), 400, block=100))
    assert [one.steps for one in found] == [100, 200, 300, 400]
    assert {len(one.accuracies) for one in found} == {6}
    assert fmean(found[-1].accuracies) < 0.75


@pytest.mark.parametrize(("own_steps", "steps"), [(100, 100), (199, 100), (250, 200), (9e9, 200)])
def test_never_more_steps_than_the_nodes_took_themselves(
    tmp_path: Path, own_steps: float, steps: int
) -> None:
    path = said(
        tmp_path / "a.jsonl",
        {"steps": 100, "accuracies": [0.2, 0.4]},
        {"steps": 200, "accuracies": [0.3, 0.5]},
    )
    found = local_only(path, own_steps)
    assert found is not None
    assert found.steps == steps
    assert found.mean == fmean(found.accuracies)


def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    path = said(tmp_path / "a.jsonl", {"steps": 100, "accuracies": [0.2, 0.4]})
    with path.open("a") as file:
        file.write('{"steps": 200, "accur')
    found = local_only(path, 1000)
    assert found is not None
    assert found.steps == 100


def test_what_was_never_measured_is_none(tmp_path: Path) -> None:
    assert local_only(said(tmp_path / "a.jsonl"), 1000) is None
    assert local_only(said(tmp_path / "a.jsonl", {"steps": 100, "accuracies": [0.2]}), 99) is None


def test_as_a_process_it_says_the_same_and_is_polite() -> None:
    arguments = ["digits-numpy", "r", "2", "dirichlet:0.1", "0", "200"]
    command = [sys.executable, "-m", "p2pfl.scenario.alone", *arguments]
    out = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    found = [json.loads(line) for line in out.splitlines()]
    ours = list(train_alone(learners(2), 200))
    assert [one["steps"] for one in found] == [100, 200]
    np.testing.assert_allclose(found[-1]["accuracies"], ours[-1].accuracies)
