"""The topology, drawn: who is whose neighbour, and how well each node does at the end.

Rule of the file: the same links give the same picture. A walk along the links orders the nodes on
a circle where there are many of them, or where they are a ring anyway; elsewhere springs do.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

from p2pfl.scenario.page_drawing import FONT, Drawing, evenly, packed
from p2pfl.scenario.trace import Floats, Presence, Trace

SPRINGS_MAX = 300
LINKS_MAX = 6000
NODES_MAX = 3000


def topology(trace: Trace) -> Drawing:
    """Nodes coloured by their last accuracy (by cycles where there is none), and their links."""
    n = trace.scenario.nodes
    shown = evenly(n, NODES_MAX)
    links = _among(trace.links, set(shown))
    places = positions(n, trace.links)
    drawn = [links[row] for row in evenly(len(links), LINKS_MAX)] if links else []
    values, called = _final(trace)
    is_up = _is_up_at_end(trace)
    well = [place for place in shown if is_up[place] and np.isfinite(values[place])]
    gone = [place for place in shown if place not in set(well)]
    size = float(np.clip(110 / np.sqrt(max(len(shown), 1)), 5, 18))
    data = [_edges(places, drawn), _nodes(trace, places, well, values, called, size)]
    if gone:
        data.append(_gone(trace, places, gone, is_up, size))
    hidden: dict[str, Any] = {"visible": False, "fixedrange": False}
    layout = {
        "margin": {"l": 8, "r": 8, "t": 28, "b": 8},
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "font": {"color": "@ink", "size": 13, "family": FONT},
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@soft", "font": {"color": "@ink"}},
        "modebar": {"bgcolor": "@paper", "color": "@soft", "activecolor": "@ink"},
        "hovermode": "closest",
        "dragmode": "pan",
        "xaxis": hidden,
        "yaxis": {**hidden, "scaleanchor": "x"},
        "showlegend": bool(gone),
        "legend": {"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
    }
    most = "higher its last accuracy" if called == "accuracy" else "more cycles it has done"
    rule = trace.scenario.topology
    lines = "Each line joins two neighbours"
    if rule.startswith("random-") and "regular" not in rule:
        lines = "Whom a node asks is drawn anew each time, and the lines are one such draw"
    reading = f"{lines}; the yellower a node, the {most}"
    reading += ", and crosses were not up at the end" if gone else ""
    if len(drawn) < len(trace.links):
        reading += f" ({len(drawn):,} of {len(trace.links):,} links are drawn)"
    return Drawing("topology", "Topology", f"{reading}.", data, layout, height=480, over_time=False)


def positions(n: int, links: tuple[tuple[int, int], ...]) -> Floats:
    """(n, 2) where to draw each node; the same for the same links."""
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(links)
    is_ring = max((degree for _, degree in graph.degree), default=0) <= 2
    if n <= SPRINGS_MAX and not is_ring and links:
        found = nx.spring_layout(graph, seed=0, iterations=120)
        return np.array([found[place] for place in range(n)], np.float64)
    angles = np.empty(n)
    angles[_walk(graph)] = np.pi / 2 - 2 * np.pi * np.arange(n) / max(n, 1)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _walk(graph: nx.Graph) -> list[int]:
    """All nodes, neighbours after each other where that is possible."""
    order: dict[int, None] = {}
    ends = sorted(graph, key=lambda place: (graph.degree[place], place))
    for start in ends:
        if start not in order:
            order |= dict.fromkeys(nx.dfs_preorder_nodes(graph, start))
    return list(order)


def _among(links: tuple[tuple[int, int], ...], shown: set[int]) -> list[tuple[int, int]]:
    return [link for link in links if link[0] in shown and link[1] in shown]


def _final(trace: Trace) -> tuple[Floats, str]:
    """(n,) the last known accuracy of each node, or else its cycles; and how that is called."""
    if np.isfinite(trace.accuracy).any():
        return _last_known(trace.accuracy), "accuracy"
    return _last_known(trace.cycles), "cycles"


def _last_known(values: Floats) -> Floats:
    if not len(values):
        return np.full(values.shape[1], np.nan)
    known = np.isfinite(values)
    last = len(values) - 1 - np.argmax(known[::-1], axis=0)
    return np.where(known.any(axis=0), values[last, np.arange(values.shape[1])], np.nan)


def _is_up_at_end(trace: Trace) -> Any:
    if not len(trace.times):
        return np.zeros(trace.scenario.nodes, bool)
    return trace.presence[-1] == Presence.UP


def _edges(places: Floats, links: list[tuple[int, int]]) -> dict[str, Any]:
    ends = np.full((len(links), 3, 2), np.nan)
    if links:
        ends[:, :2] = places[np.array(links)]
    flat = ends.reshape(-1, 2)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": packed(flat[:, 0]),
        "y": packed(flat[:, 1]),
        "line": {"color": "@link", "width": 1 if len(links) < 1500 else 0.5},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _nodes(
    trace: Trace, places: Floats, who: list[int], values: Floats, called: str, size: float
) -> dict[str, Any]:
    shown = "%{marker.color:.3f}" if called == "accuracy" else "%{marker.color:.0f}"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": packed(places[who, 0]),
        "y": packed(places[who, 1]),
        "text": [trace.names[place] for place in who],
        "marker": {
            "color": packed(values[who]),
            "colorscale": "Cividis",
            "size": size,
            "line": {"color": "@soft", "width": 1},
            "showscale": bool(who),
            "colorbar": {
                "title": {"text": called, "side": "right"},
                "thickness": 12,
                "outlinewidth": 0,
                "len": 0.9,
            },
        },
        "hovertemplate": f"%{{text}}: {shown}<extra></extra>",
        "showlegend": False,
    }


def _gone(trace: Trace, places: Floats, who: list[int], is_up: Any, size: float) -> dict[str, Any]:
    words = ["up, not measured" if is_up[place] else "not up at the end" for place in who]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "not up at the end" if not any(is_up[place] for place in who) else "unknown",
        "x": packed(places[who, 0]),
        "y": packed(places[who, 1]),
        "text": [f"{trace.names[p]}: {w}" for p, w in zip(who, words, strict=True)],
        "marker": {"symbol": "x", "color": "@soft", "size": 0.75 * size},
        "hovertemplate": "%{text}<extra></extra>",
    }
