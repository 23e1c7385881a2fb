"""What a node measures of itself: plain dataclasses that go to the journal, never log lines.

Rule of the file: `at` is the node's own clock in seconds; journals add the wall time. One event,
one row; a new field is a new column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """The node began to run; `resumed` when it continues from a checkpoint."""

    at: float
    node: str
    name: str
    run: str
    layout: str
    address: str
    incarnation: int
    age: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The node ended on purpose."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Cycle:
    """One training cycle: `steps` local steps that took `seconds` of training."""

    at: float
    cycle: int
    steps: int
    age: int
    own_steps: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One exchange at one end.

    Attributes:
        role: "asked" or "answered".
        outcome: flow, adopt, adopted, cancelled, busy, refused, unreachable, timeout, wire.
        weight: the mixing weight that was applied, 0 where nothing was mixed.
        staleness: tau in cycles, as the answerer measured it.
        distance: l2 norm of the flow divided by its weight: how far apart the two models were; of
            what was refused for it, what was measured.
        bytes_in, bytes_out: of payloads.
        seconds: from the request to its answer, at the asker; arrival of the payload, at the
            answerer.
        reach: the most that `distance` might have been, where it was refused for it; else 0.
    """

    at: float
    peer: str
    role: str
    outcome: str
    weight: float = 0.0
    staleness: float = 0.0
    distance: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    reach: float = 0.0


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """What this node believes of a member changed."""

    at: float
    peer: str
    status: str
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something went wrong and was survived; `peer` is None where it was our own fault."""

    at: float
    kind: str
    detail: str
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The model as it was evaluated: `accuracy` is None where the task has none."""

    at: float
    cycle: int
    age: int
    loss: float
    accuracy: float | None
    samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


Event: TypeAlias = Started | Stopped | Cycle | Exchanged | MemberChanged | Fault | Measured
