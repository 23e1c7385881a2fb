"""A mistake in the user's code, in the middle of a run, names its line."""

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.task import build_learner, find_task

TASK = """
import numpy as np
from p2pfl.learning.numpy_learner import SoftmaxRegression
calls = []

def model():
    return SoftmaxRegression(2, 2)

def train_data():
    return np.zeros((40, 2)), np.arange(40) % 2

def test_data():
    return train_data()

def metrics(outputs, targets):
    calls.append(1)
    if len(calls) > 2:
        raise KeyError("lost")
    return {}
"""


def test_what_the_users_code_raises_later_is_one_sentence_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TASK)
    learner = build_learner(find_task(str(path)), run="t", seed=0)
    weights = learner.initial()
    with pytest.raises(TaskError, match=r"mine\.py, line 18: evaluation: KeyError: 'lost'"):
        for _ in range(4):
            learner.evaluate(weights)
    assert learner.step(weights, 1, None).steps == 1
