"""What the figures of a page are made of: curves, bands, axes, and the look they share.

Rule of the file: plain data for plotly, nothing of plotly itself. A colour is a name such as
"@ink", which the page looks up when it draws, because a reader may prefer it dark.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pfl.scenario.page_marks import labels, shapes
from p2pfl.scenario.trace import Floats, Trace
from p2pfl.scenario.verdicts import nodewise

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and how to read it.

    Attributes:
        name: an id for the page.
        title, reading: a heading, and one sentence.
        data, layout: as plotly takes them.
        height: in CSS pixels.
        over_time: whether its x axis is the run's time.
        key: colour and meaning, where the figure itself does not say it.
    """

    name: str
    title: str
    reading: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 320
    over_time: bool = True
    key: tuple[tuple[str, str], ...] = ()


def packed(values: Any, kind: str = "f4") -> dict[str, str]:
    """Numbers as plotly reads them in the least space; NaN are gaps."""
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(values).astype(f"<{kind}")
    found = {"dtype": kind, "bdata": b64encode(array.tobytes()).decode()}
    if array.ndim == 2:
        found["shape"] = f"{array.shape[0]}, {array.shape[1]}"
    return found


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly, the first and the last among them."""
    return list(dict.fromkeys(np.linspace(0, count - 1, min(count, most)).round().astype(int)))


def band(values: Floats) -> tuple[Floats, Floats]:
    """(T,) and (T,): between the two are nine nodes of ten, at each time."""

    def between(share: float) -> Floats:
        return nodewise(lambda rows, axis: np.nanpercentile(rows, share, axis=axis), values)

    return between(5), between(95)


def line(
    x: dict[str, str],
    y: Floats,
    name: str,
    colour: str,
    width: float,
    *,
    dash: str = "solid",
    shape: str = "linear",
    shown: str = "%{y:.4~g}",
) -> dict[str, Any]:
    """A curve; what is NaN is a gap in it."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": packed(y),
        "name": name,
        "line": {"color": colour, "width": width, "dash": dash, "shape": shape},
        "hovertemplate": f"%{{x:.1f}} s: {shown}",
    }


def banded(x: dict[str, str], values: Floats, name: str) -> list[dict[str, Any]]:
    """Between which values nine nodes of ten are."""
    low, high = band(values)
    edge = {"hoverinfo": "skip", "hovertemplate": None, "line": {"width": 0}}
    return [
        {**line(x, low, name, "", 0), **edge, "showlegend": False},
        {**line(x, high, name, "", 0), **edge, "fill": "tonexty", "fillcolor": "@band"},
    ]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its title."""
    return {
        "title": {"text": title, "standoff": 8},
        "automargin": True,
        "gridcolor": "@grid",
        "linecolor": "@soft",
        "zeroline": False,
        "tickfont": {"color": "@soft"},
        **more,
    }


def time_axis(trace: Trace) -> dict[str, Any]:
    """The run's time, all of it."""
    end = trace.seconds or 1.0
    return axis("seconds of the nodes' time", range=[0, end], showgrid=False, showline=True)


def plain(**more: Any) -> dict[str, Any]:
    """The layout that all figures share."""
    return {
        "margin": {"l": 12, "r": 14, "t": 28, "b": 12},
        "modebar": {"bgcolor": "@paper", "color": "@soft", "activecolor": "@ink"},
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "font": {"color": "@ink", "size": 13, "family": FONT},
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@soft", "font": {"color": "@ink"}},
        "hovermode": "closest",
        "dragmode": "zoom",
        "showlegend": False,
        **more,
    }


def layout_over_time(trace: Trace, **more: Any) -> dict[str, Any]:
    """The layout of a figure over time, with what was done to the swarm."""
    legend = {"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"}
    return plain(
        **{
            "margin": {"l": 12, "r": 14, "t": 46, "b": 12},
            "xaxis": time_axis(trace),
            "shapes": shapes(trace),
            "annotations": labels(trace),
            "legend": legend,
            "showlegend": True,
            **more,
        }
    )
