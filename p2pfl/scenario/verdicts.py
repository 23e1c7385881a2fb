"""What a trace's figures are, and whether the scenario's expectations held.

Rule of the file: pure functions of a `Trace`. A figure that could not be measured is None, and a
bound on it does not hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.scenario.spec import Bound
from p2pfl.scenario.trace import Floats, Presence, Trace


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation and what became of it."""

    name: str
    bound: Bound
    value: float | None
    held: bool


def judged(trace: Trace) -> list[Verdict]:
    """Every expectation of the trace's scenario, and that nobody died who was not killed."""
    measured = figures(trace)
    bounds = trace.scenario.expect.bounds()
    return [
        Verdict(name, bound, measured[name], bound.holds(measured[name]))
        for name, bound in bounds.items()
    ]


def passed(verdicts: list[Verdict], trace: Trace) -> bool:
    """Whether all expectations held; a node that ended by itself fails a run that did not ask."""
    asked = any(verdict.name == "deaths" for verdict in verdicts)
    return all(verdict.held for verdict in verdicts) and (asked or not trace.deaths)


def figures(trace: Trace) -> dict[str, float | None]:
    """Every figure that can be expected something of, by name; None where it is not known."""
    last = _last(trace)
    accuracy = trace.accuracy[last]
    seconds = max(trace.seconds, 1e-9)
    cycles = float(np.nansum(trace.cycles[-1])) if len(trace.times) else 0.0
    return {
        "mean_accuracy": _mean(nodewise(np.nanmean, accuracy)),
        "worst_tenth_accuracy": _mean(worst_tenth(accuracy)),
        "std_accuracy": _mean(nodewise(np.nanstd, accuracy)),
        "consensus_distance": _mean(trace.distance[last]),
        "optimum_distance": _mean(trace.optimum[last]),
        "stall_s": _most(trace.stalls),
        "bytes_per_node_per_s": _known(np.nanmean(trace.sent[-1]) / seconds)
        if _any(trace.sent)
        else None,
        "messages_per_cycle": _known(np.nansum(trace.messages[-1]) / cycles)
        if _any(trace.messages) and cycles
        else None,
        "pending": _known(trace.pending[-1]) if len(trace.pending) else None,
        "mass_drift": _known(trace.drift[-1]) if len(trace.drift) else None,
        "recovery_s": recovery_s(trace),
        "deaths": float(len(trace.deaths)),
        "backdoor_success": _late(trace.backdoor, last),
        "suspended": _late(trace.suspended, last),
    }


def mean_accuracy(trace: Trace) -> Floats:
    """(T,) mean over the nodes that were up."""
    return nodewise(np.nanmean, trace.accuracy)


def worst_tenth(accuracy: Floats) -> Floats:
    """(T,) mean accuracy of the worst tenth, at least one, of the nodes known at each time.

    Args:
        accuracy: (T, n), NaN where unknown.
    """
    ordered = np.sort(accuracy, axis=1)  # NaN last
    known = np.isfinite(ordered).sum(axis=1)
    found = np.full(len(ordered), np.nan)
    for row, count in enumerate(known):
        if count:
            found[row] = ordered[row, : max(1, round(count / 10))].mean()
    return found


def nodewise(what: Any, values: Floats) -> Floats:
    """A statistic over the nodes at each time, NaN where nobody is known: (T, n) -> (T,)."""
    found = np.full(len(values), np.nan)
    rows = np.isfinite(values).any(axis=1)
    if rows.any():
        found[rows] = what(values[rows], axis=1)
    return found


def recovery_s(trace: Trace) -> float | None:
    """The longest time from the end of a fault until mean accuracy was what it was before.

    A fault that struck while learning had only begun asks for no more than it found; one that the
    run's end left open, or an attack without end, asks for nothing; another that has no end is
    counted from its beginning. None if there was no fault, infinite if accuracy did not come back.
    """
    mean, times = mean_accuracy(trace), trace.times
    within = trace.scenario.measure.recovered_within
    longest: float | None = None
    for mark in trace.marks:
        is_open = mark.until is not None and mark.until > trace.seconds
        lasts = mark.kind == "attack" and mark.until is None
        if mark.kind == "start" or is_open or lasts or not len(times):
            continue
        before = mean[(times < mark.at) & np.isfinite(mean)]
        if not len(before):
            continue
        end = mark.at if mark.until is None else mark.until
        back = times[(times > end) & (mean >= before[-1] - within)]
        took = float(back[0] - end) if len(back) else math.inf
        longest = took if longest is None else max(longest, took)
    return longest


def _last(trace: Trace) -> NDArray[np.bool_]:
    """The looks whose means are the final figures."""
    begin = trace.seconds * (1 - trace.scenario.measure.last_share)
    late: NDArray[np.bool_] = trace.times >= begin
    if not late.any() and len(late):
        late[-1] = True
    return late


def _late(values: Floats, last: NDArray[np.bool_]) -> float | None:
    """The mean over the last looks of what is not measured in every run."""
    return _mean(values[last]) if len(values) else None


def _mean(values: Floats) -> float | None:
    """Infinity counts: models that ran away must not be left out of what is expected of them."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _most(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else None


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _any(values: Floats) -> bool:
    return bool(len(values)) and bool(np.isfinite(values[-1]).any())


def up(trace: Trace) -> Floats:
    """(T,) how many nodes were up."""
    counts: Floats = (trace.presence == Presence.UP).sum(axis=1).astype(np.float64)
    return counts
