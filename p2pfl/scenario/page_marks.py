"""How what was done to a swarm is drawn over its curves: spans, lines, and numbers that name them.

Rule of the file: a mark has the number of its line in the list of all marks, everywhere. Text is
not drawn over a curve, since it has no room on a phone; the list says what a number means.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from p2pfl.scenario.spec import FAULTS
from p2pfl.scenario.trace import Mark, Trace

FAULT = frozenset((*FAULTS, "kill"))
DRAWN_MAX = 200
"""More lines than that hide the curves; the first ones are drawn, all are listed."""
_CLEAR_MAX = 24
"""More lines than that over what a figure draws are faint, or it could not be seen."""
_CHARACTER = 0.024
"""Width of a digit on a phone, as a share of the run; numbers that would touch share one label."""


def drawn_marks(trace: Trace) -> list[Mark]:
    """The marks that figures show, cut off where the run ends."""
    end = trace.seconds
    return [
        mark if mark.until is None else replace(mark, until=min(mark.until, end))
        for mark in trace.marks[:DRAWN_MAX]
        if mark.at <= end
    ]


def shapes(trace: Trace, *, above: bool = False) -> list[dict[str, Any]]:
    """A line or span for every mark, over the whole height of a plotly figure.

    Args:
        above: over what the figure draws, where that would hide it; then spans are only framed.
    """
    found = []
    marks = drawn_marks(trace)
    for mark in marks:
        colour = "@fault" if mark.kind in FAULT else "@event"
        dotted = {"color": "@ink" if above else colour, "width": 1.2, "dash": "dot"}
        if mark.until is None:
            look: dict[str, Any] = {"type": "line", "x1": mark.at, "line": dotted}
        else:
            look = {"type": "rect", "x1": mark.until, "line": {"width": 0}}
            look |= {"line": dotted} if above else {"fillcolor": f"{colour}-span"}
        where = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
        layer: dict[str, Any] = {"layer": "above" if above else "below"}
        if above and len(marks) > _CLEAR_MAX:
            layer["opacity"] = 0.25
        found.append({**where, "x0": mark.at, **layer, **look})
    return found


def labels(trace: Trace) -> list[dict[str, Any]]:
    """The numbers of the marks, above a plotly figure; `3–5` where they are close."""
    return [
        {
            "x": at,
            "y": 1,
            "xref": "x",
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
            "text": text,
            "font": {"size": 12, "color": "@ink"},
        }
        for at, text in numbers(drawn_marks(trace), trace.seconds)
    ]


def numbers(marks: list[Mark], seconds: float) -> list[tuple[float, str]]:
    """Where to write which numbers so that no two touch, for marks in order of time."""
    found: list[tuple[float, int, int]] = []
    for number, mark in enumerate(marks, 1):
        if found:
            at, first, last = found[-1]
            if mark.at - at < _CHARACTER * seconds * (1 + len(_span(first, last))):
                found[-1] = (at, first, number)
                continue
        found.append((mark.at, number, number))
    return [(at, _span(first, last)) for at, first, last in found]


def when(mark: Mark) -> str:
    """`12 s`, or `12–20 s`."""
    return f"{mark.at:.4g} s" if mark.until is None else f"{mark.at:.4g}–{mark.until:.4g} s"


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"
