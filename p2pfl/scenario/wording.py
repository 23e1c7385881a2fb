"""How figures of a run are called and written, wherever people read them.

Rule of the file: one name and one way of writing for each figure of `verdicts.figures`, so that a
terminal, a page and a picture never call the same thing differently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from p2pfl.scenario.deeds import deeds_told
from p2pfl.scenario.display import volume
from p2pfl.scenario.spec import Bound, Expect
from p2pfl.scenario.trace import Trace

_TITLES = {
    "std_accuracy": "spread of accuracy",
    "worst_tenth_accuracy": "worst tenth's accuracy",
    "optimum_distance": "distance from the optimum",
    "stall_s": "longest stall",
    "bytes_per_node_per_s": "sent per node",
    "pending": "unresolved exchanges",
    "recovery_s": "longest recovery",
    "deaths": "ended by themselves",
}
UNKNOWN = "not measured"


def title(name: str) -> str:
    """A figure's name in words: `stall_s` is the longest stall."""
    return _TITLES.get(name, name.replace("_", " "))


def meaning(name: str) -> str:
    """What a figure is, in half a sentence."""
    return str(Expect.model_fields[name].description or "")


def told(name: str, value: float | None) -> str:
    """A figure with its unit; what could not be measured says so."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "never" if name == "recovery_s" else "without bound"
    if name.endswith("_accuracy"):
        return f"{value:.3f}"
    if name.endswith("_per_s"):
        return f"{volume(round(value))}/s"
    if name.endswith("_s"):
        return f"{value:.3g} s"
    return f"{value:.3g}"


def bound_told(name: str, bound: Bound) -> str:
    """A bound as the figure is written: `<= 80 kB/s`."""
    sign = {">=": "≥", "<=": "≤"}.get(bound.sign, bound.sign)
    if name.endswith("_per_s"):
        return f"{sign} {volume(round(bound.value))}/s"
    return f"{sign} {bound.value:g}" + (" s" if name.endswith("_s") else "")


def without_bound(trace: Trace, measured: Mapping[str, float | None]) -> dict[str, str]:
    """The figures that were measured and nothing was expected of, by title; and what was done."""
    bounds = trace.scenario.expect.bounds()
    known = {name: value for name, value in measured.items() if name not in bounds}
    found = {title(name): told(name, value) for name, value in known.items() if value is not None}
    done = deeds_told(trace)
    return {**found, "done to nodes": done} if done else found


def percent(share: float) -> str:
    """A share of 0 .. 1; what is little is not nothing."""
    return "< 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def size(trace: Trace) -> str:
    """How much ran: `20 nodes for 60 s in 4.2 s, 24,000 steps`."""
    wall = f"{trace.wall_s:.3g}" if trace.wall_s < 100 else f"{trace.wall_s:,.0f}"
    nodes, seconds = trace.scenario.nodes, f"{trace.seconds:,.4g}"
    counted = f"{nodes:,} node" + "s" * (nodes != 1)
    return f"{counted} for {seconds} s, computed in {wall} s, {trace.steps:,} local steps"
