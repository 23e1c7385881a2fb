"""What must hold at the end of a demo: each expectation with its bound, its value, its verdict.

Rule of the file: pure functions of a `Record`. A bound is stated before the run; a value that could
not be measured does not hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from p2pfl.scenario.record import Plan, Record
from p2pfl.scenario.timeline import Role

BOUNDS = {"digits": 0.93, "digits-numpy": 0.93, "mnist5k": 0.90, "breast-cancer": 0.95}
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


def without_bound(plan: Plan) -> str:
    """Why no accuracy is expected, for the summary; empty if one is."""
    if plan.task in BOUNDS:
        return ""
    return "no accuracy is expected of a task of your own; only that the swarm lives"
