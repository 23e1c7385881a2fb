"""Journals made up for tests: nodes with the lives, cycles and exchanges that a test says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from p2pfl.config import NodeConfig
from p2pfl.core.events import Cycle, Event, Exchanged, Started, Stopped
from p2pfl.edge.identity import IDENTITY, JOURNAL
from p2pfl.edge.journal import SqliteJournal
from p2pfl.scenario.load import load
from p2pfl.scenario.recording import Estimate, Journal, Recording, Timed, recorded, written
from p2pfl.scenario.spec import Scenario

WALL = 1.7e9
BOOTED = WALL - 5000.0
"""When the devices' own clocks began."""
VALUES = 2410
TASK = Estimate("digits-numpy", "a test says so")
PARTITION = Estimate("dirichlet:0.1", "a test says so")


@dataclass
class Made:
    """A node whose journal is made up; times are seconds since `WALL`."""

    name: str
    step_s: float = 0.01
    steps: int = 10
    period_s: float = 0.2
    trip_s: float = 0.01
    jitter: float = 0.0
    seed: int = 0
    run: str = "kitchen"
    layout: str = "0123456789abcdef"
    events: list[Timed] = field(default_factory=list)
    slept_s: float = 0.0
    age: int = 0
    starts: int = 0

    @property
    def id(self) -> str:
        return self.name.encode().hex().ljust(32, "0")

    def record(self, at: float, kind: type[Event], *values: object) -> None:
        wall = WALL + at
        self.events.append((wall, kind(wall - BOOTED - self.slept_s, *values)))  # type: ignore[arg-type]

    def lives(
        self,
        begin: float,
        end: float,
        *,
        stops: bool = False,
        resumed: bool | None = None,
        silent: tuple[float, float] | None = None,
        asleep: bool = False,
        peer: Made | None = None,
        outcomes: Sequence[str] = ("flow",),
    ) -> Made:
        """One life: cycles, and an exchange after each with `peer`."""
        rng = np.random.default_rng([self.seed, self.starts])
        known = self.starts > 0 if resumed is None else resumed
        self.starts += 1
        at, number = begin + self.period_s, 0
        self.record(
            begin, Started, self.id, self.name, self.run, self.layout, "h:1", self.starts,
            self.age if known else 0, known,
        )  # fmt: skip
        while at <= end:
            cold = 20.0 if number == 0 else 1.0
            seconds = self.steps * self.step_s * math.exp(self.jitter * rng.standard_normal())
            if silent is not None and at > silent[0]:
                if asleep:
                    self.slept_s += silent[1] - silent[0]
                at, silent = silent[1], None
            self.age += self.steps
            self.record(at, Cycle, number, self.steps, self.age, self.age, 0.1, cold * seconds)
            if peer is not None and number:
                outcome = outcomes[number % len(outcomes)]
                trip = 1.0 if outcome == "timeout" else self.trip_s * (1 + rng.random())
                answer = 0 if outcome == "timeout" else 4 * VALUES
                self.record(
                    at + 0.001, Exchanged, peer.id, "asked", outcome, 0.5, 0.0, 1.0,
                    answer, 4 * VALUES, trip,
                )  # fmt: skip
            number += 1
            at += self.period_s
        if stops:
            self.record(end, Stopped, "cancelled")
        return self

    @property
    def journal(self) -> Journal:
        by_time = sorted(self.events, key=lambda timed: timed[0])
        return Journal(f"/state/{self.name}", tuple(by_time), values=VALUES)

    def keep(self, folder: Path) -> Path:
        """The same in a state directory."""
        path = folder / self.name
        path.mkdir(parents=True)
        about = {"node": self.id, "incarnation": 1, "run": "r", "layout": "l", "values": VALUES}
        (path / IDENTITY).write_text(json.dumps(about))
        walls = iter([wall for wall, _ in self.events])
        journal = SqliteJournal(path / JOURNAL, buffered=10**6, wall=lambda: next(walls))
        for _, event in self.events:
            journal.record(event)
        journal.close()
        return path


class Copied(Made):
    """The same node, from a backup."""

    @property
    def journal(self) -> Journal:
        return replace(super().journal, where=f"/backup/{self.name}")


def record(*nodes: Made, config: NodeConfig | None = None) -> Recording:
    return recorded([node.journal for node in nodes], config=config)


def replayed(found: Recording, folder: Path, name: str = "replay", **options: bool) -> Scenario:
    path = written(found, folder, name, task=TASK, partition=PARTITION, **options)
    return load(str(path))


def value(found: Recording, key: str) -> float:
    return float(found.estimates[key].value)
