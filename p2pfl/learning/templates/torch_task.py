"""My task: what my devices learn together.

Put the same file on every device and start a node there:

    p2pfl node my_task.py --run my-run

As it is, this file learns to tell three made-up clouds of points apart, so that you can try it at
once. Then make it yours, from top to bottom: the data, the model, and only if you need them the
functions at the end.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from p2pfl.learning.datasets import load_npz

# 1. DATA ----------------------------------------------------------------------------------------
# Your data stay on this device; only the model travels. Give a file that holds four arrays, as
#     numpy.savez("my_data.npz", x=..., y=..., x_test=..., y_test=...)
# writes it. x has one sample per row, float32, values of about -1 .. 1; y has one class per row:
# 0, 1, 2, ... (or floating numbers, if a number is to be predicted: then the loss is the mean
# squared error). None stands for the made-up points.
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
# Any nn.Module whose output has one row per sample. All devices need the same one. Draw no random
# numbers yourself: p2pfl seeds torch from the name of the run, so that all of them start equal.
# Prefer GroupNorm to BatchNorm: BatchNorm's statistics do not survive the averaging of models.
def model() -> nn.Module:
    """The model, new."""
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))


# 3. IF YOU NEED IT ------------------------------------------------------------------------------
# Everything below may be deleted; what stands here does the same as if it were not there. Take a
# smaller learning_rate first if the loss jumps about or training "went non-finite".
batch_size = 16
learning_rate = 0.1


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What a step makes smaller: one number, the mean over the batch."""
    return nn.functional.cross_entropy(outputs, targets)


def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Any of torch.optim; its `lr` counts, not the constant above, unless you use it."""
    return torch.optim.SGD(parameters, lr=learning_rate)


def metrics(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """More figures on the test data, shown beside the accuracy."""
    return {"wrong": float((outputs.argmax(axis=1) != targets).sum())}
