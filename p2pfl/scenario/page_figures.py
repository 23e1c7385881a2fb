"""The figures of a page that have time on their x axis.

Rule of the file: pure functions of a `Trace`. Figures have at most `LOOKS_MAX` looks and
`ROWS_MAX` nodes, evenly chosen, so that a page stays small enough to send.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from p2pfl.scenario.page_drawing import (
    Drawing,
    axis,
    banded,
    evenly,
    layout_over_time,
    line,
    packed,
    time_axis,
)
from p2pfl.scenario.page_marks import shapes
from p2pfl.scenario.tables import total
from p2pfl.scenario.trace import Floats, Presence, Trace
from p2pfl.scenario.verdicts import mean_accuracy, nodewise, up, worst_tenth

LOOKS_MAX, ROWS_MAX = 1000, 1000
LINES_MAX, SAMPLE = 100, 30
"""Nodes that are all drawn one by one; of more than that, so many are."""
_WORDS_MAX = 60_000
"""Cells of the heatmap that say their state in words when pointed at."""
STATES = {
    Presence.UP: "up",
    Presence.PAUSED: "paused",
    Presence.DOWN: "down",
    Presence.ABSENT: "not there yet",
}


def thinned(trace: Trace) -> Trace:
    """The trace with at most `LOOKS_MAX` looks."""
    if len(trace.times) <= LOOKS_MAX:
        return trace
    rows = evenly(len(trace.times), LOOKS_MAX)
    nodewise_ = ("presence", "accuracy", "cycles", "age", "sent", "messages")
    common = ("times", "distance", "pending", "drift", "optimum")
    return replace(trace, **{name: getattr(trace, name)[rows] for name in (*nodewise_, *common)})


def over_time(trace: Trace) -> list[Drawing]:
    """All figures with time on the x axis, for a trace that is thinned."""
    found = [accuracy(trace)] if np.isfinite(trace.accuracy).any() else []
    return [*found, distance(trace), liveness(trace), traffic(trace)]


def accuracy(trace: Trace) -> Drawing:
    """Mean, worst tenth, and each node or a band of them."""
    times, n = packed(trace.times), trace.scenario.nodes
    places = evenly(n, n if n <= LINES_MAX else SAMPLE)
    names = trace.names
    data: list[dict[str, Any]] = []
    reading = "Each faint line is one node"
    if n > LINES_MAX:
        data += banded(times, trace.accuracy, "nine nodes of ten")
        reading = f"The band holds nine nodes of ten, the faint lines are {len(places)} of them"
    data += [
        {
            **line(times, trace.accuracy[:, place], names[place], "@node", 1),
            "hovertemplate": f"{names[place]} at %{{x:.1f}} s: %{{y:.3f}}<extra></extra>",
            "showlegend": False,
        }
        for place in places
    ]
    data += [
        line(times, np.full_like(trace.times, np.nan), "one node", "@first", 1),  # for the legend
        line(times, worst_tenth(trace.accuracy), "worst tenth", "@second", 2.2, dash="dash"),
        line(times, mean_accuracy(trace), "mean", "@ink", 3.2),
    ]
    layout = layout_over_time(trace, yaxis=axis("accuracy", range=[0, 1.02]))
    reading += ", the bold one their mean, the dashed one the worst tenth: higher is better."
    return Drawing("accuracy", "Accuracy on the common test set", reading, data, layout, 430)


def distance(trace: Trace) -> Drawing:
    """Consensus distance, and what tasks without data measure."""
    times = packed(trace.times)
    curves = {
        "consensus distance": (trace.distance, "@ink", "solid"),
        "distance of the mean from the optimum": (trace.optimum, "@first", "dash"),
        "mass drift": (trace.drift, "@second", "dot"),
    }
    known = {
        name: (np.where(values > 0, values, np.nan), colour, dash)
        for name, (values, colour, dash) in curves.items()
        if np.isfinite(values).any() or name == "consensus distance"
    }
    data = [
        line(times, values, name, colour, 2.2, dash=dash)
        for name, (values, colour, dash) in known.items()
    ]
    ticks = log_ticks(np.concatenate([values for values, _, _ in known.values()]))
    layout = layout_over_time(trace, yaxis=axis("distance", type="log", tickmode="array", **ticks))
    layout["showlegend"] = len(data) > 1
    reading = (
        "How far the models are from each other, on a logarithmic scale: "
        "it falls as they agree, and leaps when they are kept apart."
    )
    if any((values == 0).any() for values, _, _ in curves.values()):
        reading += " Where they are exactly equal there is a gap: zero has no place on this scale."
    heading = "Distances" if len(data) > 1 else "Consensus distance"
    return Drawing("distance", heading, reading, data, layout)


def log_ticks(values: Floats) -> dict[str, Any]:
    """Where a logarithmic axis has ticks: 1, 2, 5, 10, or fewer where it spans a lot."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return {"tickvals": [], "ticktext": []}
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    decades = np.arange(low, high + 1, max(1, (high - low) // 6))
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [float(f"{step}e{int(decade)}") for decade in decades for step in steps]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def liveness(trace: Trace) -> Drawing:
    """How many nodes are up, and below it who was in which state when."""
    n = trace.scenario.nodes
    rows = evenly(n, ROWS_MAX)
    presence = trace.presence[:, rows].T
    scale: list[list[Any]] = []
    for code in Presence:
        colour = f"@{code.name.lower()}"
        scale += [[code / 4, colour], [(code + 1) / 4, colour]]
    heat: dict[str, Any] = {
        "type": "heatmap",
        "x": packed(trace.times),
        "y": [trace.names[row] for row in rows],
        "z": packed(presence, "i1"),
        "zmin": -0.5,
        "zmax": 3.5,
        "colorscale": scale,
        "showscale": False,
        "yaxis": "y2",
        "hovertemplate": "%{y} at %{x:.1f} s<extra></extra>",
    }
    if presence.size <= _WORDS_MAX:
        words = [STATES[code] for code in sorted(STATES)]
        heat["text"] = [[words[code] for code in row] for row in presence]
        heat["hovertemplate"] = "%{y} at %{x:.1f} s: %{text}<extra></extra>"
    count = line(packed(trace.times), up(trace), "up", "@ink", 2, shape="hv")
    layout = layout_over_time(
        trace,
        xaxis={**time_axis(trace), "anchor": "y2"},
        yaxis=axis("up", domain=[0.8, 1], range=[0, 1.08 * n], tickvals=[0, n]),
        yaxis2=axis("node", domain=[0, 0.74], type="category", autorange="reversed", nticks=20),
        shapes=shapes(trace, above=True),
        showlegend=False,
    )
    reading = "Above, how many nodes are up; below, a row for each node and its state over time"
    reading += f" ({len(rows):,} of {n:,} nodes, evenly chosen)." if len(rows) < n else "."
    key = tuple((f"--{code.name.lower()}", words) for code, words in STATES.items())
    return Drawing(
        "liveness", "Who is there", reading, [count, heat], layout, min(340 + 8 * n, 560), key=key
    )


def traffic(trace: Trace) -> Drawing:
    """Bytes per node and second, and in total."""
    times = trace.times
    took = np.diff(times)
    middles = (times[1:] + times[:-1]) / 2
    grown = np.diff(trace.sent, axis=0) / np.where(took > 0, took, np.nan)[:, None]
    grown = np.where(grown >= 0, grown, np.nan)
    x = packed(middles)
    data = [
        *banded(x, grown, "nine nodes of ten"),
        line(
            x, nodewise(np.nanmean, grown), "mean of the nodes", "@ink", 2.2, shown="%{y:.3~s}B/s"
        ),
        {
            **line(
                packed(times), total(trace.sent), "all together", "@first", 2.2, shown="%{y:.3~s}B"
            ),
            "yaxis": "y2",
            "showlegend": False,
        },
    ]
    layout = layout_over_time(
        trace,
        xaxis={**time_axis(trace), "anchor": "y2"},
        yaxis=axis("per node, B/s", domain=[0.56, 1], rangemode="tozero", exponentformat="SI"),
        yaxis2=axis("in total, B", domain=[0, 0.44], rangemode="tozero", exponentformat="SI"),
    )
    reading = (
        "Above, what a node sends per second of its own time: the mean, and the band of nine "
        "nodes of ten; below, what all have sent since the beginning."
    )
    return Drawing("traffic", "Bytes sent", reading, data, layout, 440)
