"""What is measured of a run when it is over: from the nodes' journals, and from what was seen.

Rule of the file: pure functions, but for the journals they read. Journals say when a node trained
(a gap between two cycles is a stall, whoever was looking), looks from outside say how good it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from p2pfl.edge.journal import read
from p2pfl.errors import StateError
from p2pfl.scenario.trace import STALENESS_EDGES
from p2pfl.scenario.watching import Look

LAST_SHARE = 0.1
"""A node's final accuracy is the mean over this last share of the run: single evaluations wobble
between an own step and the next mixing."""
AWAY_S = 3.0
"""A node whose last word is older than this at the end was not there any more."""

_SAME_S = 0.1


def longest_gap(times: Iterable[float], begin: float, end: float) -> float:
    """The longest pause between events within begin .. end, both ends of it included.

    A node that stopped for good has a gap that lasts until `end`.
    """
    inside = sorted(at for at in times if begin < at < end)
    return max(after - before for before, after in pairwise([begin, *inside, end]))


def stall(journal: Path, begin: float, end: float) -> float:
    """The longest pause between two training cycles of a node, in seconds.

    Args:
        journal: of the node.
        begin, end: seconds since 1970, begin < end.

    Raises:
        StateError: the journal cannot be read.
    """
    return longest_gap((row["wall"] for row in read(journal, "cycle")), begin, end)


@dataclass(slots=True)
class Tallied:
    """What the journals of one node say of a while.

    Attributes:
        outcomes: exchanges it asked for, by how they ended.
        staleness: (len(STALENESS_EDGES),) int64, exchanges it answered, by staleness.
        cycles: when each training cycle ended, seconds since 1970, by time.
        steps, training_s: local steps, and how long they took.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    staleness: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(STALENESS_EDGES), np.int64)
    )
    cycles: list[float] = field(default_factory=list)
    steps: int = 0
    training_s: float = 0.0


def tallied(journals: Iterable[Path], begin: float, end: float) -> Tallied:
    """Count what the journals of one node hold; one that cannot be read says nothing.

    Args:
        journals: of all its lives.
        begin, end: seconds since 1970.
    """
    found = Tallied()
    for journal in journals:
        with suppress(StateError):
            for row in read(journal, "cycle"):
                if begin < row["wall"] < end:
                    found.cycles.append(row["wall"])
                    found.steps += row["steps"]
                    found.training_s += row["seconds"]
            for row in read(journal, "exchanged"):
                if not begin < row["wall"] < end:
                    continue
                if row["role"] == "asked":
                    found.outcomes[row["outcome"]] += 1
                elif row["outcome"] == "flow":
                    found.staleness[bisect_right(STALENESS_EDGES, row["staleness"]) - 1] += 1
    found.cycles.sort()
    return found


@dataclass(slots=True)
class Counted:
    """What a node did since time zero, over all its lives, as far as we saw it.

    Attributes:
        cycles: training cycles.
        sent: bytes of message bodies.
        taken: looks that were taken up.
        last: the latest of them.
    """

    cycles: float = 0.0
    sent: float = 0.0
    taken: int = 0
    last: Look | None = None

    def take(self, looks: Sequence[Look]) -> None:
        """Add what is new in all looks at the node so far."""
        for seen in looks[self.taken :]:
            last = self.last
            if last is None or seen.node != last.node:
                self.cycles += seen.cycles
                self.sent += seen.bytes_out
            elif seen.incarnation != last.incarnation:
                # how many of its cycles are those of an earlier life nobody knows
                self.sent += seen.bytes_out
            else:
                self.cycles += seen.cycles - last.cycles
                self.sent += max(seen.bytes_out - last.bytes_out, 0)
            self.last = seen
        self.taken = len(looks)


def longest_stall(cycles: Sequence[float], spans: Iterable[tuple[float, float]]) -> float:
    """The longest pause between two training cycles while the node was up; NaN if it never was.

    Args:
        cycles: when they ended.
        spans: from when until when it was up; both ends count as the end of a pause.
    """
    gaps = [longest_gap(cycles, *span) for span in spans if span[0] < span[1]]
    return max(gaps, default=float("nan"))


def resumed(journal: Path) -> int:
    """The age at which the latest start of a node continued; 0 if it began anew.

    Raises:
        StateError: the journal cannot be read.
    """
    starts = read(journal, "started")
    return int(starts[-1]["age"]) if len(starts) > 1 and starts[-1]["resumed"] else 0


def final(looks: Sequence[Look], seconds: float) -> float | None:
    """A node's accuracy at the end; None if it was not there any more, or has none.

    Args:
        looks: at this node, by time; `at` and `measured_at` count from the run's beginning.
        seconds: how long the run took.
    """
    if not looks or looks[-1].at < seconds - AWAY_S:
        return None
    known = evaluations(looks)
    late = [accuracy for at, accuracy in known if at >= seconds * (1 - LAST_SHARE)]
    return fmean(late or [known[-1][1]]) if known else None


def evaluations(looks: Iterable[Look]) -> list[tuple[float, float]]:
    """(time, accuracy) of every evaluation of one node, by time.

    An evaluation is seen in several looks, and its time varies by as long as an answer takes.
    """
    found: list[tuple[float, float]] = []
    for seen in looks:
        if seen.measured_at is None or seen.accuracy is None:
            continue
        if not found or seen.measured_at - found[-1][0] > _SAME_S:
            found.append((seen.measured_at, seen.accuracy))
    return found


def shifted(looks: Iterable[Look], zero: float) -> list[Look]:
    """The same looks, by time, with `zero` as the beginning of it."""
    return sorted(
        (
            replace(
                seen,
                at=seen.at - zero,
                measured_at=None if seen.measured_at is None else seen.measured_at - zero,
            )
            for seen in looks
        ),
        key=lambda seen: seen.at,
    )
