"""The bars of a page: how stale models were, and how exchanges ended.

Rule of the file: pure functions of a `Trace`; bars are shares, and say the counts when pointed at.
"""

from __future__ import annotations

import html
from itertools import pairwise

import numpy as np

from p2pfl.scenario.page_drawing import Drawing, axis, packed, plain
from p2pfl.scenario.trace import STALENESS_EDGES, Trace
from p2pfl.scenario.wording import percent

_LABEL_MAX = 24


def staleness(trace: Trace) -> Drawing:
    """Answered exchanges by staleness."""
    edges = [f"{edge:g}" for edge in STALENESS_EDGES]
    bins = [f"{a} to {b}" for a, b in pairwise(edges)] + [f"more than {edges[-1]}"]
    counts = trace.staleness.astype(np.float64)
    shares = 100 * counts / max(counts.sum(), 1)
    bar = {
        "type": "bar",
        "x": packed(np.arange(len(bins)) + 0.5),
        "y": packed(shares),
        "text": bins,
        "textposition": "none",
        "customdata": packed(counts, "f8"),
        "marker": {"color": "@first"},
        "hovertemplate": "%{text} cycles: %{y:.1f} % (%{customdata:,.0f} exchanges)<extra></extra>",
    }
    layout = plain(
        bargap=0.04,
        xaxis=axis(
            "staleness in cycles",
            tickvals=list(range(len(edges))),
            ticktext=edges,
            tickangle=0,
            range=[0, len(edges)],
            showgrid=False,
        ),
        yaxis=axis("share of exchanges, %", rangemode="tozero"),
    )
    reading = (
        "How old the models were that nodes mixed with, in training cycles: "
        "the further left, the fresher."
    )
    return Drawing("staleness", "Staleness", reading, [bar], layout, 300, over_time=False)


def outcomes(trace: Trace) -> Drawing:
    """How the exchanges that nodes asked for ended."""
    ordered = sorted(trace.outcomes.items(), key=lambda item: item[1])
    counts = np.array([count for _, count in ordered], np.float64)
    asked = max(counts.sum(), 1.0)
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": [html.escape(_short(how), quote=False) for how, _ in ordered],
        "x": packed(100 * counts / asked),
        "text": [f"{count:,.0f} ({percent(count / asked)})" for count in counts],
        "textposition": "auto",
        "cliponaxis": False,
        "marker": {"color": "@first"},
        "insidetextfont": {"color": "@paper"},
        "outsidetextfont": {"color": "@ink"},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    layout = plain(
        xaxis=axis("share of exchanges, %", range=[0, 100]),
        yaxis=axis("", type="category", showgrid=False),
    )
    reading = "How the exchanges ended that nodes had asked for; longer bars are more of them."
    height = 130 + 34 * len(ordered)
    return Drawing("outcomes", "Exchanges", reading, [bar], layout, height, over_time=False)


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_MAX else text[: _LABEL_MAX - 1] + "…"
