"""A small convnet on your own images.

Your images are in an `.npz` file with x, y, x_test and y_test: x has shape (samples, channels,
height, width), float32 of about 0 .. 1, y has classes 0, 1, 2, ... The file is `images.npz` beside
this one, or wherever the environment variable IMAGES_NPZ says; the constants below say what is in
it. No images at hand?

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

# the same on all devices, whatever classes their own images have
CHANNELS, HEIGHT, WIDTH = 1, 8, 8
CLASSES = 10
learning_rate = 0.05


def train_data() -> tuple[np.ndarray, np.ndarray]:
    return images("x", "y")


def test_data() -> tuple[np.ndarray, np.ndarray]:
    return images("x_test", "y_test")


def model() -> nn.Module:
    # GroupNorm, not BatchNorm: it keeps no statistics that averaging of models would spoil
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 16, kernel_size=3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (HEIGHT // 2) * (WIDTH // 2), CLASSES),
    )


def images(x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    if not IMAGES.exists():
        raise TaskError(
            f"{IMAGES}: no such file; 'python examples/make_digits_npz.py' makes one of digits, "
            "and IMAGES_NPZ=PATH names another"
        )
    pixels, labels = load_npz(IMAGES, x, y)
    if pixels.shape[1:] != (CHANNELS, HEIGHT, WIDTH):
        raise TaskError(
            f"{IMAGES}: {x} has shape {pixels.shape}, "
            f"expected (samples, {CHANNELS}, {HEIGHT}, {WIDTH})"
        )
    return pixels, labels
