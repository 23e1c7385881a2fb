"""Templates: what `p2pfl init` writes runs as it is, and overwrites nothing."""

import subprocess
import sys

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.task import build_learner, find_task
from p2pfl.learning.template import TEMPLATES, write_template

LEARN = """
import sys
from p2pfl.learning.task import build_learner, find_task
learner = build_learner(find_task(sys.argv[1]), run="r", seed=0)
weights = learner.initial()
weights += learner.step(weights, 300, None).delta
evaluation = learner.evaluate(weights)
assert evaluation.accuracy > 0.85, evaluation
assert evaluation.metrics["wrong"] == round((1 - evaluation.accuracy) * evaluation.samples)
assert ("torch" in sys.modules) == (sys.argv[2] == "torch")
"""


def run(program, *arguments):
    subprocess.run([sys.executable, "-B", "-c", program, *map(str, arguments)], check=True)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_learns_as_it_is(kind, tmp_path):
    path = tmp_path / "my_task.py"
    write_template(path, kind)
    run(LEARN, path, kind)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_takes_the_users_file_once_it_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / f"my_{kind}_task.py"
    write_template(path, kind)
    text = path.read_text()
    given = text.replace("DATA_FILE: str | None = None", 'DATA_FILE: str | None = "mine.npz"')
    assert given != text
    path.write_text(given)
    with pytest.raises(TaskError, match=r"mine.npz: no such file"):
        build_learner(find_task(str(path)), run="r", seed=0)
    x, y = np.zeros((50, 2)), np.arange(50) % 3
    np.savez(tmp_path / "mine.npz", x=x, y=y, x_test=x[:7], y_test=y[:7])
    learner = build_learner(find_task(str(path)), run="r", seed=0)
    assert learner.evaluate(learner.initial()).samples == 7


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "my_task.py"
    path.write_text("mine")
    with pytest.raises(TaskError, match=r"my_task.py exists already; choose another name"):
        write_template(path)
    assert path.read_text() == "mine"
    write_template(path, overwrite=True)
    assert "def model" in path.read_text()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("task.py", "jax", "no template 'jax', there are torch, numpy"),
        ("task.txt", "torch", "its name must end in .py"),
        ("no/folder/task.py", "torch", "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_said_and_nothing_is_left(tmp_path, name, kind, said):
    with pytest.raises(TaskError) as caught:
        write_template(tmp_path / name, kind)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())
