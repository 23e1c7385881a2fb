"""A small convnet on your own images.

Your images are in an `.npz` file with x, y, x_test and y_test: x has shape (samples, channels,
height, width), float32 of about 0 .. 1, y has classes 0, 1, 2, ... The file is `images.npz` beside
this one, or wherever the environment variable IMAGES_NPZ says. No images at hand?

    python examples/make_digits_npz.py
    p2pfl node examples/convnet_npz.py --run convnet
"""

import os
from pathlib import Path

import numpy as np
from torch import nn

from p2pfl.errors import TaskError
from p2pfl.learning.datasets import load_npz

IMAGES = Path(os.environ.get("IMAGES_NPZ") or Path(__file__).with_name("images.npz"))

learning_rate = 0.05


def train_data() -> tuple[np.ndarray, np.ndarray]:
    return images("x", "y")


def test_data() -> tuple[np.ndarray, np.ndarray]:
    return images("x_test", "y_test")


def model() -> nn.Module:
    x, y = train_data()
    _, channels, height, width = x.shape
    # GroupNorm, not BatchNorm: it keeps no statistics that averaging of models would spoil
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 2) * (width // 2), int(y.max()) + 1),
    )


def images(x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    if not IMAGES.exists():
        raise TaskError(
            f"{IMAGES}: no such file; 'python examples/make_digits_npz.py' makes one of digits, "
            "and IMAGES_NPZ=PATH names another"
        )
    pixels, labels = load_npz(IMAGES, x, y)
    if pixels.ndim != 4:
        raise TaskError(
            f"{IMAGES}: {x} has shape {pixels.shape}, expected (samples, channels, height, width)"
        )
    return pixels, labels
