"""What is known of a real run: lives, estimates with their evidence, and what each node saw.

Rule of the file: data only. Times of a `Recording` count from its beginning; a `Life` that was not
yet put into one has wall times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from p2pfl.config import NodeConfig

Ending: TypeAlias = Literal["stopped", "crashed", "present"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A node was silent; `slept` if its own clock stood still as well."""

    begin: float
    end: float
    slept: bool


@dataclass(frozen=True, slots=True)
class Life:
    """From one start of a node to its end.

    Attributes:
        begin, end: wall time; of a recording, seconds since its beginning.
        ending: stopped in order, crashed, or present until the recording's end.
        resumed: it continued from a checkpoint.
        lost: it did not, though the life before must have left one.
        age: of the model it began with.
        gaps: when it was silent.
    """

    begin: float
    end: float
    ending: Ending = "present"
    resumed: bool = False
    lost: bool = False
    age: int = 0
    gaps: tuple[Gap, ...] = ()

    def shifted(self, zero: float, end: float) -> Life:
        """The part within zero .. end, in seconds since `zero`."""
        gaps = (Gap(max(g.begin, zero), min(g.end, end), g.slept) for g in self.gaps)
        return replace(
            self,
            begin=max(self.begin, zero) - zero,
            end=min(self.end, end) - zero,
            ending="present" if self.end > end else self.ending,
            gaps=tuple(Gap(g.begin - zero, g.end - zero, g.slept) for g in gaps if g.end > g.begin),
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and what it was concluded from."""

    value: Any
    why: str


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was observed of one node; times count from the recording's beginning.

    Attributes:
        name: in the scenario, n1 ..
        label, where: its own name, and its state directory.
        ids: its node ids; one, unless its identity was deleted.
        steps: (cycles,) local steps of each cycle that counts, cold ones left out.
        step_s: (cycles,) seconds of a step in it.
        periods: seconds from a cycle's end to the next one's.
        evaluations, evaluated_every: seconds an evaluation took, and from one to the next.
        trips: seconds of the round trips with each peer that it asked, by node id.
        exchanges: that it asked for, and that took effect.
        asked: that were answered, or should have been: the peer was up.
        losses: those of them that were not answered.
        sizes: bytes of the models it sent.
    """

    name: str
    label: str
    where: str
    ids: frozenset[str]
    lives: tuple[Life, ...]
    cycles: int = 0
    steps: list[int] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    periods: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    evaluated_every: list[float] = field(default_factory=list)
    trips: dict[str, list[float]] = field(default_factory=dict)
    exchanges: int = 0
    asked: int = 0
    losses: int = 0
    sizes: Counter[int] = field(default_factory=Counter)

    @property
    def up_s(self) -> float:
        """How long it was up and not silent."""
        gaps = (gap.end - gap.begin for life in self.lives for gap in life.gaps)
        return sum(life.end - life.begin for life in self.lives) - sum(gaps)

    @property
    def median_step_s(self) -> float | None:
        """Of a local step; None if it never trained."""
        return float(np.median(self.step_s)) if self.step_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A real run.

    Attributes:
        run, layout: its name, and the digest of its model.
        zero: wall time of its beginning.
        seconds: how long it was.
        nodes: by name.
        estimates: by key of a scenario, dotted.
        slow: latency of nodes that are much farther away than most, by name.
        config: of the nodes, as far as it was given.
        notes: what a reader should know.
    """

    run: str
    layout: str
    zero: float
    seconds: float
    nodes: tuple[Seen, ...]
    estimates: Mapping[str, Estimate]
    slow: Mapping[str, Estimate]
    config: NodeConfig | None
    notes: tuple[str, ...]


def median(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return float(np.median(values)) if values else 0.0
