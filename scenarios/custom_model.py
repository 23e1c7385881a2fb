"""A custom model in a scenario: this file is the task and the scenario at once.

    p2pfl run scenarios/custom_model.py                               in the simulator
    p2pfl run scenarios/custom_model.py --engine processes            with real nodes
    p2pfl node scenarios/custom_model.py --run mine --shard 1/3       on a real device

The model is a small convnet on the 8x8 digits; any `torch.nn.Module` will do. In the simulator
models without buffers, dropout or an optimizer of their own are trained many at a time.
"""

from __future__ import annotations

from p2pfl.config import NodeConfig
from p2pfl.learning.datasets import digits
from p2pfl.scenario.spec import Churn, Compute, Duration, Expect, Scenario, TaskSpec

# --- the task: what `p2pfl node` takes too ------------------------------------------------------

batch_size = 16
learning_rate = 0.1


def model():
    """Two convolutions with GroupNorm, whose statistics survive averaging."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


def train_data():
    """(x, y): 1,437 images of 64 pixels, and their digits."""
    return digits().train


def test_data():
    """(x, y): 360 images that nobody trains on."""
    return digits().test


# --- the scenario -------------------------------------------------------------------------------

scenario = Scenario(
    name="custom-model",
    description="A convnet on 8 nodes, a third of them away at any time.",
    nodes=8,
    task=TaskSpec(name=__file__, partition="dirichlet:0.3"),
    duration=Duration(seconds=20),
    node=NodeConfig.model_validate({"checkpoint_every_s": 2, "train": {"steps_max": 5}}),
    compute=Compute(step_s=0.01, distribution="lognormal", sigma=0.3),
    churn=Churn(mode="on-off", offline=0.3, session_s=5),
    expect=Expect.model_validate({"mean_accuracy": ">= 0.93", "stall_s": "<= 2"}),
)
