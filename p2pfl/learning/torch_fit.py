"""Whether outputs, targets and loss fit each other, what is lost and what is right.

Rule of the file: what does not fit is said before training begins, in one sentence with both
shapes; torch's own message would come from deep inside and speak of matrices the user never named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn

from p2pfl.errors import TaskError

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs (n, ...), targets (n, ...)) -> mean loss, a scalar."""


def usual_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy for integer targets, mean squared error for floating ones."""
    if targets.is_floating_point():
        # a reshape, because (n, 1) against (n,) would silently be broadcast to (n, n)
        return nn.functional.mse_loss(outputs, targets.reshape(outputs.shape))
    return nn.functional.cross_entropy(outputs, targets)


def right_share(outputs: Tensor, targets: Tensor) -> float:
    """Share of the labels that are found.

    Args:
        outputs: (n, classes, ...) scores; the largest is the answer.
        targets: (n, ...) classes.

    Returns:
        0 .. 1; NaN where the targets are not classes or the outputs not scores of them.
    """
    if targets.is_floating_point() or outputs.ndim < 2 or outputs.shape[1] < 2:
        return math.nan
    found = outputs.argmax(dim=1)
    return math.nan if found.shape != targets.shape else (found == targets).double().mean().item()


def check_fit(where: str, outputs: Any, y: Tensor, loss: Loss) -> None:
    """Try a loss on what the model gave for the first few samples.

    Args:
        where: what the data came from, for the error's text.
        outputs: of the model for the first b samples.
        y: (n, ...) all targets, n >= b.
        loss: the loss.

    Raises:
        TaskError: they do not fit; what the user's loss raises passes as it is.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) > len(y):
        raise TaskError(
            f"{where}: the model gives {told(outputs)}, "
            "expected one tensor whose first dimension is the sample"
        )
    if loss is usual_loss:
        _check_usual(where, outputs, y)
    value: Any = loss(outputs, y[: len(outputs)])
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TaskError(f"loss() gives {told(value)}, expected a tensor with one number")
    if not value.requires_grad:
        raise TaskError("loss() gives a number that does not depend on the parameters")


def _check_usual(where: str, outputs: Tensor, y: Tensor) -> None:
    shape = (len(y), *outputs.shape[1:])
    if y.is_floating_point():
        if y[:1].numel() != outputs[:1].numel():
            raise TaskError(
                f"{where}: y has floating targets of shape {tuple(y.shape)}, the model gives "
                f"outputs of shape {shape}, expected equally many per row (classes are integers)"
            )
        return
    if outputs.ndim < 2 or tuple(y.shape) != (shape[0], *shape[2:]):
        raise TaskError(
            f"{where}: y has classes of shape {tuple(y.shape)}, the model gives outputs of shape "
            f"{shape}, expected one class per row and one output per class"
        )
    if (top := int(y.max())) >= outputs.shape[1]:
        raise TaskError(
            f"{where}: y has class {top}, the model gives {outputs.shape[1]} outputs: "
            f"classes must be 0 .. {outputs.shape[1] - 1}"
        )


def told(value: Any) -> str:
    """What a value is, for an error's text: its type, and the shape of a tensor."""
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"{type(value).__name__}{shape}"
