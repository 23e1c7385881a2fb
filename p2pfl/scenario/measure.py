"""What is measured of a run when it is over: from the nodes' journals, and from what was seen.

Rule of the file: pure functions, but for the journals they read. Journals say when a node trained
(a gap between two cycles is a stall, whoever was looking), looks from outside say how good it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from p2pfl.edge.journal import read
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
