"""The examples run, and say what they need."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

LEARN = """
import sys
from p2pfl.learning.task import build_learner, find_task
learner = build_learner(find_task(sys.argv[1]), run="r", seed=0)
weights = learner.initial()
weights += learner.step(weights, int(sys.argv[2]), None).delta
evaluation = learner.evaluate(weights)
assert evaluation.accuracy > 0.9, evaluation
print("torch" if "torch" in sys.modules else "numpy", *evaluation.metrics)
"""


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-B", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_the_softmax_example_learns_without_torch():
    ran = python("-c", LEARN, EXAMPLES / "softmax_numpy.py", 200)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["numpy", "malignant_found"]


def test_the_convnet_example_learns_from_what_its_neighbour_writes(tmp_path):
    images = tmp_path / "images.npz"
    made = python(EXAMPLES / "make_digits_npz.py", images)
    assert made.stdout.endswith("images.npz: 1438 images to train on, 359 to test on\n")
    ran = python("-c", LEARN, EXAMPLES / "convnet_npz.py", 200, IMAGES_NPZ=str(images))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["torch"]


def test_the_convnet_example_says_how_to_make_its_images(tmp_path):
    ran = python("-c", LEARN, EXAMPLES / "convnet_npz.py", 1, IMAGES_NPZ=str(tmp_path / "none.npz"))
    assert "none.npz: no such file; 'python examples/make_digits_npz.py' makes one" in ran.stderr
