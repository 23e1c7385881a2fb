"""A picture of who talks to whom: places for the nodes of a rule, and links drawn between them.

Rules whose ids stand in a circle are drawn as one, a torus as a grid, a star around its centre; all
others by stress majorization, which puts nodes as far apart as they are hops apart (Gansner, Koren
& North, "Graph drawing by stress majorization", GD 2004), starting from pivot MDS (Brandes & Pich,
GD 2006). Where nothing but chance would tell links apart, those of one node are drawn in red.

Rule of the file: as in `chart`, matplotlib's own objects on an Agg canvas. Layouts are numpy alone
and functions of their arguments: the same graph has the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from p2pfl.core.graph import Shape, adjacency, hops
from p2pfl.core.neighbours import Rule

Floats: TypeAlias = NDArray[np.float64]
Links: TypeAlias = NDArray[np.bool_]

_NODE, _ACCENT, _LINK = "#4477aa", "#cc3311", "#8a8f98"
_INK, _FAINT = "#222222", "#777777"
_BY_DEGREE = LinearSegmentedColormap.from_list("degree", ["#a9c8e4", "#4477aa", "#16294a"])
"""One hue from light to dark: told apart by colour-blind people and on paper."""

_SIDE_INCHES, _DPI = 8.0, 150
_MOST_DRAWN = 12_000
"""Links; more than that are one grey area, and cost seconds."""
_MOST_NAMED = 40
_MOST_RED = 64
_LONGEST_NAME = 14
_MOST_CHECKED = 20_000_000
_SIDES = np.array([(0.0, -1.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0)])
_CIRCLES = ("ring", "exponential", "small-world", "full", "random")


# --- where nodes stand --------------------------------------------------------------------------


def layout(topology: Rule, members: Sequence[str]) -> Floats:
    """Where to draw every member: (n, 2) float64, y upwards, next ones about 1 apart.

    Args:
        topology: the rule.
        members: n >= 1 ids, sorted.
    """
    n = len(members)
    if topology.name in _CIRCLES:
        return _circle(n, 0.0)
    if topology.name == "torus":
        columns = min(topology.parameter or math.isqrt(n - 1) + 1, n)
        places = np.arange(n)
        return np.stack([places % columns, -(places // columns)], axis=1).astype(np.float64)
    if topology.name == "star":
        leaves = _circle(n - 1, 1.0) if n <= _MOST_NAMED else _sunflower(n - 1)
        return np.concatenate([np.zeros((1, 2)), leaves])
    return _by_stress(hops(adjacency(topology, members)))


def _circle(n: int, least: float) -> Floats:
    """n places on a circle, from the top and clockwise, 1 apart; its radius is `least` or more."""
    radius = max(n / (2 * math.pi), least)
    angle = 2 * math.pi * np.arange(n) / max(n, 1)
    return radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _sunflower(n: int) -> Floats:
    """n places that fill a disc evenly, about 1 apart, and leave its middle free."""
    number = np.arange(n, dtype=np.float64)
    turn = math.pi * (3 - math.sqrt(5)) * number
    return np.stack([np.sin(turn), np.cos(turn)], axis=1) * np.sqrt((number[:, None] + 4) / 2.8)


def _by_stress(far: Floats) -> Floats:
    """Places as far apart as `far` says, near ones above all; connected graphs only.

    Args:
        far: (n, n) hops.
    """
    n = len(far)
    if n < 3:
        return np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.float64)
    rng = np.random.default_rng(0)
    # a weight of hops**-2 for each pair, as in Kamada & Kawai's springs
    weight = 1.0 / np.maximum(far, 1.0) ** 2
    np.fill_diagonal(weight, 0.0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = np.asarray(np.linalg.inv(laplacian + 1.0 / n), np.float64)
    # leaves of one node start at one place: a little noise lets them part
    starts = [_pivot_mds(far) + rng.normal(scale=0.05, size=(n, 2))]
    if n <= 64:
        starts += [rng.normal(scale=far.max() / 2, size=(n, 2)) for _ in range(7)]
    rounds = int(np.clip(1e8 / n**2, 10, 200))
    solved = [_majorized(start, far, weight, inverse, rounds) for start in starts]
    _, best = min(solved, key=lambda one: round(one[0], 6))
    return _apart(_upright(best))


def _pivot_mds(far: Floats) -> Floats:
    """A start near the optimum: the two main axes of the squared hops to a few pivots."""
    n = len(far)
    squares = far[:, np.unique(np.linspace(0, n - 1, min(n, 64)).astype(int))] ** 2
    centred = squares - squares.mean(axis=0) - squares.mean(axis=1, keepdims=True) + squares.mean()
    u, scale, _ = np.linalg.svd(centred, full_matrices=False)
    places: Floats = u[:, :2] * np.sqrt(scale[:2])
    spread = _distances(places).mean()
    places *= far.mean() / spread if spread > 0 else 0.0
    return places


def _majorized(
    start: Floats, far: Floats, weight: Floats, inverse: Floats, rounds: int
) -> tuple[float, Floats]:
    """The stress that is left, and the places, after some rounds of X <- V⁺ B(X) X."""
    places, pull = start, weight * far
    for _ in range(rounds):
        apart = np.maximum(_distances(places), 1e-9)
        b = -pull / apart
        np.fill_diagonal(b, 0.0)
        np.fill_diagonal(b, -b.sum(axis=1))
        places = inverse @ (b @ places)
    return float((weight * (_distances(places) - far) ** 2).sum()), places


def _upright(places: Floats) -> Floats:
    """Centred, with the longest extent lying."""
    centred = places - places.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    turned = centred @ axes[:, ::-1]
    # a mirror image is as good; the first node decides which one, always the same way
    return np.asarray(turned * np.where(turned[0] < 0, (1.0, -1.0), (-1.0, 1.0)))


def _apart(places: Floats) -> Floats:
    """Push those asunder that stand nearer than dots of a readable size."""
    n = len(places)
    sides = np.maximum(np.ptp(places, axis=0), 0.3)
    least = min(0.6, 0.65 * math.sqrt(float(sides.prod()) / n))
    for _ in range(int(np.clip(3e7 / n**2, 5, 60))):
        apart = _distances(places)
        np.fill_diagonal(apart, np.inf)
        first, second = np.nonzero(apart < least)
        if not len(first):
            break
        gap = apart[first, second]
        away = (places[first] - places[second]) / np.maximum(gap, 1e-9)[:, None]
        push = np.zeros_like(places)
        np.add.at(push, first, away * ((least - gap) / 2)[:, None])
        places = places + push
    return places


def _distances(places: Floats) -> Floats:
    squares = (places**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * places @ places.T, 0.0)
    return np.asarray(np.sqrt(apart))


# --- drawing ------------------------------------------------------------------------------------


def draw_rule(
    topology: Rule, members: Sequence[str], where: Path | Axes, measured: Shape, name: str = ""
) -> None:
    """Draw a rule on some members, with what it is worth above it.

    Args:
        topology: the rule.
        members: n >= 1 ids, sorted; an edge list's are named in the picture, others numbered.
        where: as for `draw_graph`.
        measured: its shape on these members.
        name: what to call it; the rule as it is written if empty.

    Raises:
        OSError: the file cannot be written.
    """
    links = adjacency(topology, members)
    name = _short(name or (topology.name if topology.links else topology.text), 60)
    accent: list[tuple[int, int]] = []
    note = ""
    if topology.name not in ("star", "edges") and len(members) > 3:
        others = np.flatnonzero(links[0])
        if len(others) <= _MOST_RED:
            note = "red: the links of one node"
        if topology.draws is not None:
            draws = min(topology.draws, len(others))
            others = np.random.default_rng(0).choice(others, draws, replace=False)
            note = f"red: whom one node happens to ask in one cycle, {draws} of {len(links) - 1}"
        accent = [(0, int(other)) for other in others] if note else []
    draw_graph(
        links,
        where,
        layout(topology, members),
        title=f"{name}: {measured.nodes:,} {'node' if measured.nodes == 1 else 'nodes'}",
        subtitle=_worth(measured),
        note=note,
        names=list(members) if topology.links else [str(i) for i in range(len(members))],
        accent=accent,
    )


def _worth(measured: Shape) -> str:
    low, high = measured.degree_min, measured.degree_max
    degree = f"degree {low}" if low == high else f"degree {low}-{high}"
    ways = "link" if measured.links == 1 else "links"
    return (
        f"{measured.links:,} {ways}, {degree}, diameter {measured.diameter:g}, "
        f"spectral gap {measured.gap:.3g}"
    )


def draw_graph(
    links: Links,
    where: Path | Axes,
    positions: Floats,
    *,
    title: str = "",
    subtitle: str = "",
    note: str = "",
    names: Sequence[str] = (),
    accent: Sequence[tuple[int, int]] = (),
) -> None:
    """Draw a graph, as a PNG file or into axes that somebody else has made.

    Nodes of different degree differ in colour. A link that would run through a third node is bent
    around it. Of very many links an even choice is drawn, and the note says so.

    Args:
        links: (n, n) bool, symmetric, n >= 1.
        where: a file to write, or axes to draw into.
        positions: (n, 2), as from `layout`.
        title, subtitle: above the picture.
        note: below it.
        names: of the nodes, n or none; drawn only while there is room for them.
        accent: links to draw in red, as (node, other).

    Raises:
        OSError: the file cannot be written.
    """
    degree = links.sum(axis=1)
    positions = _filling(positions)
    if isinstance(where, Axes):
        axes, figure, inches = where, None, _side_inches(where)
    else:
        wide, high = np.ptp(positions, axis=0)
        tall = float(np.clip(high / max(wide, 1e-9), 0.4, 1.0))
        size = (_SIDE_INCHES + 0.9 * _differ(degree), _SIDE_INCHES * tall + 0.9)
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes, inches = figure.subplots(), _SIDE_INCHES - 0.6
    dot = _dot_points(positions, inches)
    shown, left_out = _chosen(links)
    if left_out:
        drawn = f"{len(shown):,} of {len(shown) + left_out:,} links are drawn"
        note = f"{note}; {drawn}" if note else drawn
    axes.add_collection(_lines(shown, positions, dot))
    if accent:
        red = _lines(np.array(accent), positions, dot)
        red.set(color=_ACCENT, alpha=1.0, linewidth=float(np.clip(dot / 7, 0.9, 2.2)), zorder=2)
        axes.add_collection(red)
    dots = _dots(axes, positions, degree, dot, {node for node, _ in accent})
    if len(names) == len(positions) <= _MOST_NAMED:
        _write_names(axes, positions, links, names, dot, dots)
    _frame(axes, positions, title, subtitle, note)
    if figure is not None and not isinstance(where, Axes):
        if _differ(degree):
            _legend(figure, axes, dots)
        figure.savefig(where, facecolor="white")


def _differ(degree: NDArray[np.intp]) -> bool:
    return bool(degree.min() != degree.max())


def _filling(positions: Floats) -> Floats:
    """The same, long strips widened until they are no longer than three times their width."""
    sides = np.ptp(positions, axis=0)
    if sides.min() <= 1e-9 or sides.max() <= 3 * sides.min():
        return positions
    stretch = np.where(sides == sides.max(), 1.0, sides.max() / 3 / sides)
    return np.asarray(positions * stretch)


def _side_inches(axes: Axes) -> float:
    box = axes.get_window_extent()
    return float(min(box.width, box.height)) / float(axes.figure.dpi)


def _nearest(positions: Floats) -> float:
    if len(positions) < 2:
        return 1.0
    apart = _distances(positions - positions.mean(axis=0))
    np.fill_diagonal(apart, np.inf)
    return float(apart.min())


def _margin(positions: Floats) -> float:
    return 0.5 * _nearest(positions) + 0.03 * float(np.ptp(positions, axis=0).max())


def _dot_points(positions: Floats, inches: float) -> float:
    """The diameter of a dot: no two of them touch."""
    side = float(np.ptp(positions, axis=0).max()) + 2 * _margin(positions)
    return float(np.clip(0.62 * _nearest(positions) * 72 * inches / side, 0.8, 26.0))


def _chosen(links: Links) -> tuple[NDArray[np.intp], int]:
    """(m, 2) links to draw, and how many are left out, evenly over all."""
    pairs = np.argwhere(np.triu(links, 1))
    if len(pairs) <= _MOST_DRAWN:
        return pairs, 0
    kept = np.random.default_rng(0).choice(len(pairs), _MOST_DRAWN, replace=False)
    return pairs[np.sort(kept)], len(pairs) - _MOST_DRAWN


def _lines(pairs: NDArray[np.intp], positions: Floats, dot: float) -> LineCollection:
    starts, ends = positions[pairs[:, 0]], positions[pairs[:, 1]]
    lines = [np.array(line) for line in zip(starts, ends, strict=True)]
    near = _nearest(positions)
    for place, side in _blocked(pairs, positions).items():
        lines[place] = _around(starts[place], ends[place], side, near)
    crowd = len(pairs) / max(len(positions), 1)
    return LineCollection(
        lines,
        color=_LINK,
        linewidth=float(np.clip(dot / 12, 0.3, 1.3)),
        alpha=float(np.clip(3 / max(crowd, 1.0), 0.05, 0.8)),
        zorder=1,
    )


def _blocked(pairs: NDArray[np.intp], positions: Floats) -> dict[int, int]:
    """Which links would run through a third node, and on which side to pass it: 1 left, -1 right.

    Among many nodes only what is hidden by standing in one line counts.
    """
    if len(pairs) * len(positions) > _MOST_CHECKED:
        return {}
    blocked = {}
    near = _nearest(positions)
    exact = 1e-6 * near
    tolerance = 0.25 * near if len(positions) <= _MOST_NAMED else exact
    for place, (a, b) in enumerate(pairs):
        way, to = positions[b] - positions[a], positions - positions[a]
        length = math.hypot(*way)
        along, left = to @ way / length, (way[0] * to[:, 1] - way[1] * to[:, 0]) / length
        within = (np.abs(left) < tolerance) & (along > exact) & (along < length - exact)
        if within.any():
            first = left[np.flatnonzero(within)[0]]
            # lying ways in one line with others pass above, standing ones on the right
            upwards = 1 if way[0] > abs(way[1]) or way[1] < 0 else -1
            blocked[place] = upwards if abs(first) < exact else -int(np.sign(first))
    return blocked


def _around(start: Floats, end: Floats, side: int, near: float) -> Floats:
    """A way beside the straight one: out in a quarter of an ellipse, along, and back."""
    length = math.hypot(*(end - start))
    way = (end - start) / length
    aside = side * 0.38 * near * np.array([-way[1], way[0]])
    reach = min(length / 2, 1.2 * near) * way
    turn = np.linspace(0, math.pi / 2, 16)[:, None]
    out = start + reach * (1 - np.cos(turn)) + aside * np.sin(turn)
    back = end - reach * (1 - np.cos(turn)) + aside * np.sin(turn)
    return np.concatenate([out, back[::-1]])


def _dots(
    axes: Axes, positions: Floats, degree: NDArray[np.intp], dot: float, accented: set[int]
) -> PathCollection:
    edge = float(np.clip(dot / 14, 0.0, 1.2))
    norm = Normalize(degree.min(), degree.max())
    colours = _BY_DEGREE(norm(degree)) if _differ(degree) else [_NODE]
    x, y = positions.T
    dots = axes.scatter(x, y, s=dot**2, c=colours, edgecolors="white", linewidths=edge, zorder=3)
    dots.set(norm=norm, cmap=_BY_DEGREE)
    if accented:
        x, y = positions[sorted(accented)].T
        size = max(dot, 5.0) ** 2
        axes.scatter(x, y, s=size, c=_ACCENT, edgecolors="white", linewidths=edge, zorder=4)
    return dots


def _write_names(
    axes: Axes,
    positions: Floats,
    links: Links,
    names: Sequence[str],
    dot: float,
    dots: PathCollection,
) -> None:
    """Inside the dots if they are short, else beside them, on the side without links."""
    inside = max(map(len, names)) <= 2 and dot >= 9
    fills = np.resize(np.asarray(dots.get_facecolor()), (len(names), 4))
    for node, name in enumerate(names):
        shift = np.zeros(2)
        if not inside:
            ways = positions[links[node]] - positions[node]
            ways = ways / np.maximum(np.hypot(*ways.T), 1e-9)[:, None]
            crossed = [(ways @ side).max(initial=-1.0) for side in _SIDES]
            shift = _SIDES[int(np.argmin(np.round(crossed, 6)))]
        text = axes.annotate(
            _short(name, _LONGEST_NAME),
            (float(positions[node, 0]), float(positions[node, 1])),
            (float(shift[0]) * (dot / 2 + 4), float(shift[1]) * (dot / 2 + 4)),
            textcoords="offset points",
            ha=("center", "left", "right")[int(shift[0])],
            va=("center_baseline", "bottom", "top")[int(shift[1])],
            fontsize=float(np.clip(0.46 * dot, 5.0, 10.0)) if inside else 9,
            color="white" if inside and fills[node, :3].mean() < 0.62 else _INK,
            parse_math=False,
            zorder=5,
        )
        if not inside:
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _frame(axes: Axes, positions: Floats, title: str, subtitle: str, note: str) -> None:
    low, high = positions.min(axis=0), positions.max(axis=0)
    margin = _margin(positions)
    axes.update_datalim([low - margin, high + margin])
    axes.margins(0)
    axes.autoscale_view()
    axes.set_aspect("equal", adjustable="datalim")
    axes.axis("off")
    above = [(title, 12, _INK, "bold", 24), (subtitle, 9.5, _FAINT, "normal", 8)]
    for text, size, colour, weight, offset in above:
        axes.annotate(
            text,
            (0, 1),
            (0, offset),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=size,
            fontweight=weight,
            color=colour,
            parse_math=False,
        )
    axes.annotate(
        note,
        (0, 0),
        (0, -14),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=_FAINT,
    )


def _legend(figure: Figure, axes: Axes, dots: PathCollection) -> None:
    bar = figure.colorbar(
        dots,
        ax=axes,
        shrink=min(0.8, 2.6 / figure.get_figheight()),
        aspect=14,
        pad=0.01,
        anchor=(0.0, 0.0),
        ticks=MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]),
    )
    bar.set_label("neighbours of a node", color=_FAINT, fontsize=9)
    bar.outline.set(visible=False)
    bar.ax.tick_params(colors=_FAINT, labelcolor=_INK, labelsize=9, length=0)
