"""What several nodes told, as one picture: who there is, what happened, what is estimated.

Rule of the file: values only; `merging` makes them, the screen and the lines show them.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from p2pfl.cli.watching.reading import (
    HEARD_OF,
    STATES,
    Estimate,
    Histogram,
    Merge,
    Point,
    Rates,
    SwarmPoint,
    Told,
)
from p2pfl.cli.watching.source import Tie


@dataclass(frozen=True, slots=True)
class Watched:
    """A node that we ask, and how that goes.

    Attributes:
        node: its id, once it told. label: its name, or its address. since_s: for how long it is so.
    """

    place: str
    address: str
    node: str | None
    label: str
    tie: Tie
    since_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """A node of the swarm, as far as known.

    Attributes:
        label: what people call it.
        state: one of `STATES`.
        told: its newest figures.
        told_ago_s: how old they are; None: there are none.
        told_by: who told them; None: itself.
        heard_ago_s: since somebody heard of it.
        is_watched: we ask it ourselves.
        known_by: nodes among those watched that know it.
    """

    node: str
    label: str
    state: str
    told: Told
    told_ago_s: float | None
    told_by: str | None
    heard_ago_s: float | None
    is_watched: bool
    known_by: int
    addresses: tuple[str, ...]
    incarnation: int | None
    refusals: Mapping[str, int]
    suspended: Mapping[str, int]
    denied: bool

    @property
    def is_met(self) -> bool:
        """Whether it ever spoke to one of those who tell; whoever did not may be made up."""
        return self.state != HEARD_OF


@dataclass(frozen=True, slots=True)
class Mixed:
    """An exchange of one of those watched; `at` by our clock."""

    at: float
    by: str
    merge: Merge


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the timeline; `at` by our clock, `by`: those who tell."""

    at: float
    kind: str
    node: str
    detail: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """All that is known at one time.

    Attributes:
        at: Unix seconds by our clock.
        run: "" before the first view.
        rows: of nodes; those that were only heard of come last.
        unlisted: more of those, which are not among the rows.
        estimates: how many nodes' estimates `swarm` is the median of.
        curves: of each node, by our clock. swarm_curve: of the one that has watched longest.
        rates: of those watched, together.
        holding: who holds back what, and why.
        labels: name of each node that told one; with part of its id if another has the same name.
    """

    at: float
    run: str
    is_keyed: bool
    trust: str
    topology: str
    parameters: int | None
    watched: tuple[Watched, ...]
    rows: tuple[Row, ...]
    unlisted: int
    others: Mapping[str, str]
    swarm: Estimate | None
    estimates: int
    staleness: Histogram
    merges: tuple[Mixed, ...]
    timeline: tuple[Entry, ...]
    curves: Mapping[str, tuple[Point, ...]]
    swarm_curve: tuple[SwarmPoint, ...]
    rates: Rates
    holding: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]

    @property
    def live(self) -> int:
        """Nodes that tell now."""
        return sum(one.tie is Tie.LIVE for one in self.watched)

    @property
    def met(self) -> tuple[Row, ...]:
        """Those that spoke to one of those who tell."""
        return tuple(row for row in self.rows if row.is_met)

    @property
    def heard_of(self) -> int:
        """How many never did, all together."""
        return len(self.rows) - len(self.met) + self.unlisted

    @property
    def states(self) -> dict[str, int]:
        """How many of those that were met are in each state; the best first."""
        found = Counter(row.state for row in self.met)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def mean_accuracy(self) -> float | None:
        """Of the nodes that were met, told one and are not gone."""
        known = [
            row.told.accuracy
            for row in self.met
            if row.told.accuracy is not None and row.state not in ("dead", "left")
        ]
        return statistics.fmean(known) if known else None

    def label(self, node: str) -> str:
        """What people call a node."""
        return self.labels.get(node, node[:8])
