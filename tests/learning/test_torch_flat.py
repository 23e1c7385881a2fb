"""A module in one flat buffer: views stay views, and what travels is chosen."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors import TaskError
from p2pfl.learning.torch_flat import FlatModule, drawn, seeded, warn_of_batch_norm


class WithBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 1)


def test_writing_the_buffer_writes_the_parameters_and_the_other_way_round():
    flat = FlatModule(nn.Linear(3, 2), "local")
    flat.weights[:] = np.arange(8)
    np.testing.assert_array_equal(flat.module.weight.detach(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(flat.module.bias.detach(), [6, 7])
    with torch.no_grad():
        flat.module.bias += 10
    np.testing.assert_array_equal(flat.weights[6:], [16, 17])


def test_binding_keeps_the_values_and_the_order_of_named_parameters():
    module = WithBuffers()
    values = {name: p.detach().clone() for name, p in module.named_parameters()}
    flat = FlatModule(module, "local")
    assert [entry.name for entry in flat.layout.entries] == list(values)
    for name, view in flat.layout.views(flat.weights).items():
        np.testing.assert_array_equal(view, values[name])


def test_floating_buffers_are_local_or_behind_the_parameters_and_integer_ones_always_local():
    local, averaged = (FlatModule(WithBuffers(), choice) for choice in ("local", "average"))
    assert len(local.local) == 2
    assert averaged.local == []
    names = [entry.name for entry in averaged.layout.entries]
    assert names[: len(local.layout.entries)] == [entry.name for entry in local.layout.entries]
    assert names[len(local.layout.entries) :] == ["norm.running_mean", "norm.running_var"]
    averaged.module.norm(torch.full((4, 3), 5.0))
    views = averaged.layout.views(averaged.weights)
    np.testing.assert_allclose(views["norm.running_mean"], 0.5)
    assert local.layout.digest != averaged.layout.digest


def test_tied_parameters_are_laid_flat_once():
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    flat = FlatModule(module, "local")
    assert flat.layout.size == 16
    flat.weights[:] = 3
    assert (module[1].weight == 3).all()


def test_frozen_parameters_travel_but_are_not_trained():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].requires_grad_(False)
    flat = FlatModule(module, "local")
    assert flat.layout.size == 18
    assert flat.trained == [slice(0, 6), slice(12, 18)]


def test_other_floating_types_are_cast_to_float32_and_this_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        flat = FlatModule(nn.Linear(2, 2).double(), "local")
    assert flat.module.weight.dtype == torch.float32
    assert "torch.float64 are cast to float32" in caplog.text
    caplog.clear()
    FlatModule(nn.Linear(2, 2), "local")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(), "Sequential with no parameter to train"),
        (nn.Linear(2, 2).requires_grad_(False), "Linear with no parameter to train"),
        (nn.Linear(2, 2, dtype=torch.complex64), "'weight' has dtype torch.complex64"),
    ],
)
def test_a_module_that_cannot_be_laid_flat_is_refused(module, said):
    with pytest.raises(TaskError, match=said):
        FlatModule(module, "local")


def test_a_lazy_module_is_refused_by_the_name_of_its_parameter():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.LazyLinear(3)

    with pytest.raises(TaskError, match=r"the shape of 'head.weight' is not known yet"):
        FlatModule(Lazy(), "local")


def test_a_parameter_with_new_memory_is_found():
    flat = FlatModule(nn.Linear(2, 2), "local")
    assert flat.lost() is None
    flat.module.bias.data = torch.zeros(2)
    assert flat.lost() == "bias"


def test_drawing_under_a_seed_repeats_itself_and_leaves_torchs_own_chance_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    one, same, other = (drawn(lambda: torch.rand(2), seed) for seed in (7, 7, 8))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    with pytest.raises(KeyError), seeded(1):
        raise KeyError
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("module", "warnings"),
    [
        (WithBuffers(), 1),
        (nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)), 1),
        (nn.BatchNorm1d(3, track_running_stats=False), 0),
        (nn.GroupNorm(1, 3), 0),
    ],
)
def test_batch_norm_is_warned_of_once_with_a_better_choice(module, warnings, caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_batch_norm(module, "local")
    assert len(caplog.records) == warnings
    assert ("GroupNorm" in caplog.text) == bool(warnings)
