"""My task, without torch: what my devices learn together, on small devices too.

Put the same file on every device and start a node there:

    p2pfl node my_task.py --run my-run

As it is, this file learns to tell three made-up clouds of points apart, so that you can try it at
once. Then make it yours, from top to bottom: the data, then the model.
"""

from pathlib import Path

import numpy as np

from p2pfl.learning.datasets import load_npz
from p2pfl.learning.numpy_learner import MLP

# 1. DATA ----------------------------------------------------------------------------------------
# Your data stay on this device; only the model travels. Give a file that holds four arrays, as
#     numpy.savez("my_data.npz", x=..., y=..., x_test=..., y_test=...)
# writes it. x has one sample per row, FEATURES numbers of about -1 .. 1; y has one class per row:
# 0, 1, 2, ... None stands for the made-up points.
DATA_FILE: str | None = None  # for example "my_data.npz", looked for beside this file

FEATURES = 2
CLASSES = 3


def train_data() -> tuple[np.ndarray, np.ndarray]:
    """What this device learns from: (x, y), finite, with equally many rows."""
    if DATA_FILE is None:
        return made_up_points(count=600, seed=1)
    return load_npz(Path(__file__).with_name(DATA_FILE))


def test_data() -> tuple[np.ndarray, np.ndarray]:
    """What the model is measured on, never trained on; best the same on all devices."""
    if DATA_FILE is None:
        return made_up_points(count=300, seed=2)
    return load_npz(Path(__file__).with_name(DATA_FILE), x="x_test", y="y_test")


def made_up_points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds around the corners of a triangle; delete this once you have data."""
    rng = np.random.default_rng(seed)
    y = rng.integers(CLASSES, size=count)
    corners = np.array([[0, 1], [-0.9, -0.5], [0.9, -0.5]])
    return corners[y] + 0.3 * rng.standard_normal((count, FEATURES)), y


# 2. MODEL ---------------------------------------------------------------------------------------
# One hidden layer of 16 units. SoftmaxRegression(FEATURES, CLASSES), from the same module, is
# smaller still: no hidden layer. All devices need the same model.
def model() -> MLP:
    """The model, new."""
    return MLP(FEATURES, 16, CLASSES)


# 3. IF YOU NEED IT ------------------------------------------------------------------------------
# Everything below may be deleted. Take a smaller learning_rate first if the loss jumps about or
# training "went non-finite".
batch_size = 16
learning_rate = 0.1


def metrics(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """More figures on the test data, shown beside the accuracy."""
    return {"wrong": float((outputs.argmax(axis=1) != targets).sum())}
