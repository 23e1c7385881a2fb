"""How the swarm is looked at, and what must hold at the end.

    [measure]   how often the swarm is looked at
    [expect]    bounds; a run passes only if every one of them holds

Rule of the file: a figure that could not be measured keeps no bound.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import Field, model_validator

from p2pfl.config import Positive
from p2pfl.scenario.spec.fields import Frozen

_BOUND = re.compile(r"\s*(>=|<=|>|<)\s*([-+0-9.eE_]+)\s*")


class Measure(Frozen):
    """How the swarm is looked at from outside."""

    samples: int = Field(100, ge=2, le=10_000, description="looks over the whole run")
    last_share: Positive = Field(
        0.1, le=1, description="final figures are means over this last share of the run"
    )
    recovered_within: Positive = Field(
        0.01, description="accuracy has recovered when it is so close to what it was"
    )


class Bound(Frozen):
    """One bound, written as in ">= 0.95"."""

    sign: Literal[">=", "<=", ">", "<"]
    value: float

    @model_validator(mode="before")
    @classmethod
    def _read(cls, text: Any) -> Any:
        if not isinstance(text, str):
            if isinstance(text, dict):
                return text
            raise ValueError(f'is {text!r}, expected a bound such as ">= 0.95"')
        match = _BOUND.fullmatch(text)
        try:
            return {"sign": match[1], "value": float(match[2])}  # type: ignore[index]
        except (TypeError, ValueError):
            raise ValueError(f"is '{text}', expected a bound such as \">= 0.95\"") from None

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"

    def holds(self, value: float | None) -> bool:
        """Whether a measured value keeps it; one that could not be measured does not."""
        if value is None or math.isnan(value):
            return False
        return {
            ">=": value >= self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            "<": value < self.value,
        }[self.sign]


class Expect(Frozen):
    """What must hold at the end; every figure is explained in docs/scenarios.md."""

    mean_accuracy: Bound | None = Field(None, description="mean over the nodes that are up")
    worst_tenth_accuracy: Bound | None = Field(None, description="mean over the worst tenth")
    std_accuracy: Bound | None = Field(None, description="standard deviation over nodes")
    consensus_distance: Bound | None = Field(None, description="Ξ of the models that are up")
    optimum_distance: Bound | None = Field(
        None, description="quadratic: distance of the mean model from the mean of the optima"
    )
    stall_s: Bound | None = Field(
        None, description="longest pause between two cycles of a node that was up"
    )
    bytes_per_node_per_s: Bound | None = Field(None, description="sent, message bodies")
    messages_per_cycle: Bound | None = Field(None, description="requests and answers sent")
    pending: Bound | None = Field(
        None, description="most exchanges a node left unresolved at the end"
    )
    mass_drift: Bound | None = Field(
        None, description="averaging: ‖Σx - Σx⁰‖/n over all nodes, flows under way accounted for"
    )
    recovery_s: Bound | None = Field(
        None, description="longest time from a fault's end until accuracy was what it had been"
    )
    deaths: Bound | None = Field(None, description="nodes that ended though nobody asked them to")
    backdoor_success: Bound | None = Field(
        None, description="backdoor: share of triggered samples that go to the trigger's class"
    )
    suspended: Bound | None = Field(
        None, description="share of the hostile nodes that an honest one keeps away from, mean"
    )

    def bounds(self) -> dict[str, Bound]:
        """Those that were given, by name."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: bound for name, bound in given if bound is not None}
