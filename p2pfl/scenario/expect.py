"""What must hold at the end of a demo: each expectation with its bound, its value, its verdict.

Rule of the file: pure functions of a `Record`. A bound is stated before the run; a value that could
not be measured does not hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from p2pfl.edge.journal import read
from p2pfl.scenario.record import Plan, Record
from p2pfl.scenario.timeline import Role

BOUNDS = {"digits": 0.93, "digits-numpy": 0.93}
"""Mean accuracy that a built-in task reaches in a demo, faults included."""

STALL_S = 3.0
BEHIND = 0.03


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation and what became of it, in words, and whether it held."""

    what: str
    bound: str
    value: str
    held: bool


def judged(record: Record) -> list[Verdict]:
    """Every expectation of the record's plan."""
    plan = record.plan
    verdicts = []
    if plan.task in BOUNDS:
        verdicts.append(_accuracy(record, BOUNDS[plan.task]))
    verdicts.append(_stalls(record))
    for name, role in plan.roles.items():
        if role in (Role.RESTARTED, Role.LATE) and record.accuracies:
            verdicts.append(_caught_up(record, name, role))
    for name, age in record.resumed.items():
        what = f"checkpoint of {name}"
        verdicts.append(Verdict(what, "age > 0", f"age {age:,}", age > 0))
    if lost := ", ".join(record.untimely):
        verdicts.append(Verdict("ended by itself", "nobody", lost, held=False))
    return verdicts


def _accuracy(record: Record, bound: float) -> Verdict:
    what = f"mean accuracy, {len(record.finals)} nodes"
    if len(record.accuracies) < len(record.finals):
        missing = ", ".join(n for n, accuracy in record.finals.items() if accuracy is None)
        return Verdict(what, f">= {bound:.3f}", f"{missing} not known", held=False)
    mean = fmean(record.accuracies)
    return Verdict(what, f">= {bound:.3f}", f"{mean:.3f}", mean >= bound)


def _stalls(record: Record) -> Verdict:
    worst = max(record.stalls, key=lambda name: record.stalls[name])
    longest = record.stalls[worst]
    what = "longest stall"
    return Verdict(what, f"<= {STALL_S:.1f} s", f"{longest:.1f} s ({worst})", longest <= STALL_S)


def _caught_up(record: Record, name: str, role: Role) -> Verdict:
    what, bound = f"{role} {name}", f">= mean - {BEHIND:g}"
    accuracy = record.finals[name]
    if accuracy is None:
        return Verdict(what, bound, "not known", held=False)
    behind = accuracy - fmean(record.accuracies)
    return Verdict(what, bound, f"{accuracy:.3f}, mean {behind:+.3f}", behind >= -BEHIND)


# --- measures -----------------------------------------------------------------------------------


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


def settled(evaluations: Sequence[tuple[float, float]], since: float) -> float | None:
    """A node's accuracy at the end: single evaluations wobble, so it is the mean of the last few.

    Args:
        evaluations: (time, accuracy), by time.
        since: from when on they count; if none is as late, the last one counts.
    """
    late = [accuracy for at, accuracy in evaluations if at >= since]
    return fmean(late or [accuracy for _, accuracy in evaluations[-1:]]) if evaluations else None


def without_bound(plan: Plan) -> str:
    """Why no accuracy is expected, for the summary; empty if one is."""
    if plan.task in BOUNDS:
        return ""
    return "no accuracy is expected of a task of your own; only that the swarm lives"
