"""What an engine gives back: everything that was measured of a run, as arrays over time and nodes.

Rule of the file: data only. Times are seconds of the nodes' own time since the run began. What was
not measured, or belongs to a node that was not there, is NaN; nothing is ever filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfl.scenario.spec import Scenario
from p2pfl.sim.presence import Presence

__all__ = ["Mark", "Presence", "Progress", "Trace"]

Floats: TypeAlias = NDArray[np.float64]

STALENESS_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""In cycles; the last bin of `Trace.staleness` holds all that is above the last edge."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done to the swarm, to be drawn over the curves.

    Attributes:
        at, until: begin and end; `until` is None for what happens at one moment or never ends.
        text: in words, as in "partition of n1-n5".
        nodes: places of those it was done to; empty if it is about all.
        kind: kill, stop, start, attack, or one of `spec.FAULTS`; background churn by chance has no
            marks.
    """

    at: float
    until: float | None
    text: str
    nodes: tuple[int, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One run. T looks at n nodes.

    Attributes:
        scenario: as it was run, overrides included.
        engine: "virtual", "processes" or "demo".
        times: (T,) seconds.
        presence: (T, n) int8 of `Presence`.
        accuracy: (T, n) on the common test set.
        cycles, age: (T, n) training cycles done by each node's present life and before; ages.
        sent: (T, n) bytes of message bodies each node has sent since the beginning.
        messages: (T, n) messages each node has sent, or NaN where nobody counts.
        distance: (T,) consensus distance of the models that are up.
        pending: (T,) the most unresolved exchanges any node has.
        drift: (T,) mass drift, only where nothing is learnt.
        optimum: (T,) distance of the mean model from the optimum, only of quadratic tasks.
        staleness: (len(STALENESS_EDGES),) int64, answered exchanges by staleness.
        outcomes: asked exchanges by how they ended.
        stalls: (n,) longest pause between two cycles while up, in seconds.
        deaths: names of nodes that ended though nobody asked them to, and their last words.
        links: pairs of places that are neighbours under the scenario's topology, all present.
        marks: what was done, by time.
        events, event_hash: how many events the run had and their hash; None with processes.
        hostile: places of the hostile nodes, which no other figure but `deaths` is about.
        backdoor: (T,) mean share of triggered samples that honest models give to the trigger's
            class; empty where there is no trigger.
        suspended: (T,) mean share of the hostile nodes that an honest node keeps away from; empty
            where nobody is hostile.
        labels: the nodes' names by place, where they are not the scenario's.
        wall_s: how long the run took us.
        steps: local steps taken by all nodes together.
        notes: what the engine had to do otherwise than the scenario says.
    """

    scenario: Scenario
    engine: str
    times: Floats
    presence: NDArray[np.int8]
    accuracy: Floats
    cycles: Floats
    age: Floats
    sent: Floats
    messages: Floats
    distance: Floats
    pending: Floats
    drift: Floats
    optimum: Floats
    staleness: NDArray[np.int64]
    outcomes: Mapping[str, int]
    stalls: Floats
    links: tuple[tuple[int, int], ...]
    marks: tuple[Mark, ...]
    events: int | None
    event_hash: str | None
    wall_s: float
    steps: int
    deaths: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    hostile: tuple[int, ...] = ()
    backdoor: Floats = field(default_factory=lambda: np.zeros(0))
    suspended: Floats = field(default_factory=lambda: np.zeros(0))
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the nodes, by place."""
        return self.labels or self.scenario.names

    @property
    def seconds(self) -> float:
        """How long the run took its nodes."""
        return float(self.times[-1]) if len(self.times) else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands, for whoever shows it.

    Attributes:
        done: 0 .. 1.
        seconds: of the nodes' time.
        up: nodes that are up.
        mean, worst_tenth: accuracy, None where there is none yet.
        distance: consensus distance.
        cycles: mean over nodes.
        said: what has just been done to the swarm, in words; empty if nothing.
    """

    done: float
    seconds: float
    up: int
    mean: float | None
    worst_tenth: float | None
    distance: float | None
    cycles: float
    said: str = ""
