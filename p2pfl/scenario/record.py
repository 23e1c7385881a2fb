"""What a demo was asked to do (`Plan`), and all that was seen of it (`Record`).

Rule of the file: data only. Times are seconds since the swarm was complete, that is, since the
first nodes were all up and had found each other; what came before has negative ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from p2pfl.scenario.alone import LocalOnly
from p2pfl.scenario.timeline import Role, Step, faults, roles
from p2pfl.scenario.watching import Look, Together


class What(StrEnum):
    """Kinds of happenings; the first five are what the timeline does.

    `STARTS` comes before time begins: nobody knows yet how long before.
    """

    KILLED = "killed"
    RESTARTED = "restarted"
    JOINS = "joins"
    FROZEN = "frozen"
    THAWED = "thawed"
    BACK = "back"
    JOINED = "joined"
    DIED = "died"
    STARTS = "starts"
    PHASE = "phase"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something a viewer should know; `node` is empty where it is about all of them."""

    at: float
    node: str
    what: What
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One node at one time, as a viewer saw it; `seen` is None where it did not answer."""

    at: float
    node: str
    state: str
    seen: Look | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to show.

    Attributes:
        task: what is learned, as `p2pfl node` takes it.
        run: a name that no other run has.
        folder: where everything goes; does not exist yet.
        nodes: how many run from the beginning, >= 2.
        seconds: how long, counted from when they are complete.
        seed: of the shards, and of every node's choices.
        partition: how the data are split.
        with_faults: whether anything happens to them, and one more joins.
    """

    task: str
    run: str
    folder: Path
    nodes: int = 5
    seconds: float = 45.0
    seed: int = 0
    partition: str = "dirichlet:0.1"
    with_faults: bool = True

    @property
    def first(self) -> list[str]:
        """Names of the nodes that run from the beginning."""
        return [f"node-{number}" for number in range(1, self.nodes + 1)]

    @property
    def late(self) -> str:
        """Name of the one that joins, if there are faults."""
        return f"node-{self.nodes + 1}"

    @property
    def names(self) -> list[str]:
        """Names of all nodes, each with its own shard."""
        return [*self.first, self.late] if self.with_faults else self.first

    @property
    def steps(self) -> tuple[Step, ...]:
        """What happens to them."""
        return faults(self.first, self.late, self.seconds) if self.with_faults else ()

    @property
    def roles(self) -> dict[str, Role]:
        """What that makes of each."""
        return roles(self.names, self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was seen.

    Attributes:
        samples: all nodes at regular times.
        looks: all answers of each node, by time.
        history: of the swarm, by time.
        happenings: by time.
        finals: accuracy of each node at the end; None where it has none, or the node was gone.
        stalls: longest pause between two training cycles, in seconds, of each survivor.
        resumed: the age at which restarted nodes continued their checkpoint, 0 if they began anew.
        local: the local-only level, None where it could not be measured.
        starting_s: until the swarm was complete.
        wall_s: everything, from the first process to the last.
        started: seconds since 1970.
        untimely: nodes that ended though nobody asked them to.
        killed_at_end: nodes that did not end in time when asked to.
    """

    plan: Plan
    samples: list[Sample]
    looks: dict[str, list[Look]]
    history: list[Together]
    happenings: list[Happening]
    finals: dict[str, float | None]
    stalls: dict[str, float]
    resumed: dict[str, int]
    local: LocalOnly | None
    starting_s: float
    wall_s: float
    started: float
    untimely: tuple[str, ...] = ()
    killed_at_end: tuple[str, ...] = ()

    @property
    def accuracies(self) -> list[float]:
        """Those of `finals` that are known."""
        return [accuracy for accuracy in self.finals.values() if accuracy is not None]
