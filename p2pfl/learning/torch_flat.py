"""A torch module whose weights live in one flat float32 buffer.

Parameters become views into the buffer, so that reading or writing the weights of the whole model
is one copy, and subtracting a vector from them is one pass. Optimizers change parameters in place
and never notice.

Rule of the file: the layout is `named_parameters()` in its order, then (with `buffers="average"`)
the floating buffers; integer buffers always stay where they are. Everything is on the CPU, and
everything floating is float32: a module that is not is cast, and this is logged.

BatchNorm statistics belong to the data they were taken from and do not survive averaging (Hsieh et
al., ICML 2020, arXiv:1910.00189): GroupNorm is recommended, and buffers stay local unless asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from p2pfl.core.weights import Entry, Layout, Vector
from p2pfl.errors import TaskError

log = logging.getLogger(__name__)

T = TypeVar("T")
Buffers: TypeAlias = Literal["local", "average"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw from `seed` inside, and leave its own generator as it was.

    `torch.random.fork_rng` does the same, but looks for accelerators and costs as much as a step.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def drawn(model: Callable[[], T], run_seed: int) -> T:
    """What `model()` gives under the run's seed: equal at all nodes of a run."""
    with seeded(run_seed):
        return model()


class FlatModule:
    """A module bound to a flat buffer.

    Args:
        module: taken over; put into training mode.
        buffers: whether floating buffers are part of the flat vector.

    Attributes:
        module: the module.
        parameters: its parameters, in order.
        layout: names and shapes of the flat vector, d values.
        tensor: (d,) float32, the memory of all of it.
        weights: the same memory in numpy.
        trained: the parts of it that training changes, as few slices as possible.
        local: floating buffers outside of it.

    Raises:
        TaskError: nothing to train, or parameters that have no float32 values to average.
    """

    def __init__(self, module: nn.Module, buffers: Buffers) -> None:
        _cast(module)
        named = dict(module.named_parameters())
        floating = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
        flat = named | floating if buffers == "average" else named
        self.module = module.train()
        self.parameters = list(named.values())
        self.layout = Layout(tuple(Entry(name, tuple(t.shape)) for name, t in flat.items()))
        self.tensor = torch.empty(self.layout.size, dtype=torch.float32)
        self.weights: Vector = self.tensor.numpy()
        self.trained = _runs(self.parameters)
        self.local = [] if buffers == "average" else list(floating.values())
        for held, view in zip(flat.values(), views(self.tensor, flat.values()), strict=True):
            view.copy_(held.detach())
            held.data = view

    def lost(self) -> str | None:
        """The name of a parameter that is not in the buffer any more, if there is one."""
        held = self.module.named_parameters()
        for (name, parameter), view in zip(held, views(self.tensor, self.parameters), strict=True):
            if parameter.data_ptr() != view.data_ptr():
                return name
        return None


def views(flat: Tensor, like: Iterable[Tensor]) -> Iterator[Tensor]:
    """Views into `flat`, (d,), one behind the other, shaped like the given tensors."""
    start = 0
    for tensor in like:
        yield flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()


def warn_of_batch_norm(module: nn.Module, buffers: Buffers) -> None:
    """One warning for a module whose statistics do not survive averaging."""
    if any(isinstance(m, _BatchNorm) and m.track_running_stats for m in module.modules()):
        log.warning(
            "%s has BatchNorm, whose statistics do not survive averaging over unlike data (they "
            "are kept %s); nn.GroupNorm has none and is recommended",
            type(module).__name__,
            "local" if buffers == "local" else "averaged",
        )


def _runs(parameters: list[nn.Parameter]) -> list[slice]:
    """The trained parameters' places in the flat vector, neighbouring ones joined."""
    runs: list[slice] = []
    start = 0
    for parameter in parameters:
        stop = start + parameter.numel()
        if parameter.requires_grad:
            joined = bool(runs) and runs[-1].stop == start
            begin = runs.pop().start if joined else start
            runs.append(slice(begin, stop))
        start = stop
    return runs


def _cast(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    if not any(p.requires_grad for p in parameters.values()):
        raise TaskError(f"model() gives {type(module).__name__} with no parameter to train")
    for name, parameter in parameters.items():
        if is_lazy(parameter):
            raise TaskError(f"model(): the shape of '{name}' is not known yet; no lazy modules")
        if not parameter.is_floating_point():
            raise TaskError(f"model(): '{name}' has dtype {parameter.dtype}, expected floating")
    other = sorted({str(p.dtype) for p in parameters.values() if p.dtype != torch.float32})
    devices = sorted({str(p.device) for p in parameters.values() if p.device.type != "cpu"})
    if other or devices:
        log.warning(
            "parameters in %s are cast to float32 on the CPU, which is what is trained and sent",
            ", ".join(other + devices),
        )
    module.to(device="cpu", dtype=torch.float32)
