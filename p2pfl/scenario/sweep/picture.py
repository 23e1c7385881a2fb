"""The picture of a sweep: a panel for every main figure, a line for every other combination.

Rule of the file: means with their intervals, every run as a faint dot; what could not be measured
is not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfl.scenario.spec import Bound
from p2pfl.scenario.sweep.grid import Axis, Sweep
from p2pfl.scenario.sweep.results import Row, shown
from p2pfl.scenario.sweep.tables import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Tol's bright scheme, as in chart.py."""
_INK, _FAINT = "#222222", "#777777"
_MARKS = "osD^vP"
_LOG_FROM = 8.0
_LOG_HEIGHT_FROM = 50.0
_MANY = 10_000
_APART = 0.08


def draw(sweep: Sweep, found: Sequence[Row], path: Path) -> None:
    """Write the picture as PNG: a panel for every main figure, a line for every other combination.

    The first numeric axis runs to the right; without one the first axis does, by its names.

    Raises:
        OSError: it cannot be written.
    """
    # here, because the processes that run things know this package and draw nothing
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = shown(sweep, found)
    across = next((one for one in sweep.axes if one.is_numeric), None)
    across = across or next(iter(sweep.axes), None)
    columns = {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    height = math.ceil(len(names) / columns) or 1
    size = (4.6 * max(columns, 1.5) + 0.4, 3.1 * height + 0.9)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    lines = _lines(found, across)
    drawn: Any = None
    for place, name in enumerate(names):
        axes = figure.add_subplot(height, columns, place + 1)
        _panel(axes, sweep, across, lines, name)
        drawn = drawn or axes
    if drawn is not None and len(lines) > 1:
        handles, labels = drawn.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9
        )
    n = len(sweep.seeds)
    words = f"{n} seed{'s' * (n != 1)}: means with 95 % confidence intervals, faint dots are runs"
    figure.suptitle(
        f"p2pfl sweep: {sweep.name}, {words}", x=0.012, ha="left", fontsize=10, color=_INK
    )
    figure.savefig(path, facecolor="white")


def _lines(found: Sequence[Row], across: Axis | None) -> dict[str, list[Row]]:
    """Rows by what they have in common, the axis that runs to the right left out."""
    lines: dict[str, list[Row]] = {}
    for row in found:
        rest = [
            f"{key}={value}"
            for key, value in row.cell.values
            if across is None or key != across.key
        ]
        lines.setdefault(", ".join(rest), []).append(row)
    return lines


def _panel(
    axes: Axes, sweep: Sweep, across: Axis | None, lines: Mapping[str, Sequence[Row]], name: str
) -> None:
    from matplotlib.ticker import EngFormatter

    is_log = across is not None and _is_log(across)
    everything: list[float] = []
    for place, (label, line) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        aside = place - (len(lines) - 1) / 2
        at, means, halves = [], [], []
        for row in line:
            one = row.figures.get(name)
            if one is None or not math.isfinite(one.mean):
                continue
            x = _at(row, across, aside / max(len(lines), 4), is_log=is_log)
            axes.plot([x] * one.n, one.values, "o", ms=5, mew=0, color=colour, alpha=0.22, zorder=1)
            everything += one.values
            at.append(x)
            means.append(one.mean)
            halves.append(one.half or 0.0)
        # when the colours are used up, other marks begin
        mark = _MARKS[place // len(_COLOURS) % len(_MARKS)]
        style = "-" if across is not None and across.is_numeric else ""
        axes.errorbar(
            at,
            means,
            yerr=halves,
            fmt=mark + style,
            ms=4.5,
            lw=1.2,
            capsize=3,
            color=colour,
            label=label or "mean",
            zorder=2,
        )
    _bound(axes, sweep.bounds().get(name))
    if everything and min(everything) > 0 and max(everything) > _LOG_HEIGHT_FROM * min(everything):
        axes.set_yscale("log")
    elif everything and max(everything) >= _MANY:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    _scale(axes, across, is_log=is_log)
    axes.set_title(title(name), fontsize=10, color=_INK, loc="left")
    axes.grid(axis="y", color="#e5e5e5", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    axes.tick_params(colors=_FAINT, labelcolor=_INK, labelsize=9)


def _bound(axes: Axes, bound: Bound | None) -> None:
    if bound is not None:
        axes.axhline(bound.value, color=_FAINT, ls="--", lw=1.1, zorder=0)
        axes.set_title(f"expected {bound}", fontsize=8, color=_FAINT, loc="right")


def _is_log(across: Axis) -> bool:
    values = across.values
    return across.is_numeric and min(values) > 0 and max(values) >= _LOG_FROM * min(values)


def _at(row: Row, across: Axis | None, aside: float, *, is_log: bool) -> float:
    """Where a row stands from left to right, lines a little apart so that bars do not overlap."""
    if across is None:
        return aside
    value = dict(row.cell.values)[across.key]
    if not across.is_numeric:
        return across.values.index(value) + 2 * aside / 4
    low, high = min(across.values), max(across.values)
    if is_log:
        return float(value * (high / low) ** (aside * _APART))
    return float(value + aside * _APART * ((high - low) or 1))


def _scale(axes: Axes, across: Axis | None, *, is_log: bool) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    if across is None:
        axes.set_xticks([])
        axes.set_xlim(-1, 1)
        return
    axes.set_xlabel(across.key, fontsize=9, color=_INK)
    if is_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    places = across.values if across.is_numeric else range(len(across.values))
    axes.set_xticks(list(places), [text.strip("\"'") for text in across.texts])
    if not across.is_numeric:
        axes.set_xlim(-0.5, len(across.values) - 0.5)
