"""Softmax regression in numpy, for devices without torch: is a tumour malignant?

    p2pfl node examples/softmax_numpy.py --run tumours

The data are scikit-learn's breast cancer set, 30 features per sample; for your own, see `load_npz`.
"""

import numpy as np

from p2pfl.learning.datasets import breast_cancer
from p2pfl.learning.numpy_learner import SoftmaxRegression

learning_rate = 0.05
weight_decay = 0.001


def train_data() -> tuple[np.ndarray, np.ndarray]:
    return breast_cancer().train


def test_data() -> tuple[np.ndarray, np.ndarray]:
    return breast_cancer().test


def model() -> SoftmaxRegression:
    return SoftmaxRegression(inputs=30, classes=2)


def metrics(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    malignant = targets == 0
    found = outputs.argmax(axis=1)[malignant] == 0
    return {"malignant_found": float(found.mean())}
