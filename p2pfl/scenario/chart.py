"""One picture of a demo: every node's accuracy over time, and what happened to whom.

Rule of the file: matplotlib's own objects on an Agg canvas; no pyplot, no global state, no display.
A node that said nothing for a while has a gap in its curve there, not a line across it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from p2pfl.scenario.measure import evaluations
from p2pfl.scenario.record import Record, What

Floats: TypeAlias = NDArray[np.float64]

_SPANS = {
    What.KILLED: (What.BACK, "killed and\nrestarted"),
    What.FROZEN: (What.THAWED, "frozen"),
    What.JOINS: (What.JOINED, "joins\nlate"),
    What.DIED: (None, "died"),
}
"""What begins with a happening, which one ends it, and how it is called."""

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Tol's bright scheme: told apart by colour-blind people and on paper."""
_INK, _FAINT = "#222222", "#777777"
_GAP_S, _STEP_S = 3.0, 0.25
_LEGEND_MAX = 12


def draw(record: Record, path: Path) -> None:
    """Write the picture of a record as PNG.

    Raises:
        OSError: it cannot be written.
    """
    colours = dict(zip(record.plan.names, cycle(_COLOURS), strict=False))
    figure = Figure(figsize=(10, 6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _spans(record, above, below, colours)
    _accuracies(record, above, colours)
    _distances(record, below)
    figure.suptitle(_title(record), x=0.012, ha="left", fontsize=11, color=_INK)
    figure.savefig(path, facecolor="white")


def _title(record: Record) -> str:
    plan = record.plan
    nodes = f"{len(plan.names)} nodes, {plan.partition} shards, seed {plan.seed}"
    return f"p2pfl demo: {plan.task}, {nodes}. Nobody is in charge, nobody waits."


def _accuracies(record: Record, axes: Axes, colours: dict[str, str]) -> None:
    times = np.arange(0.0, record.plan.seconds, _STEP_S)
    grid = np.full((len(record.plan.names), len(times)), np.nan)
    for place, name in enumerate(record.plan.names):
        known = evaluations(record.looks.get(name, []))
        if known:
            at, values = with_gaps(known)
            # with dots, because a single evaluation between two gaps is no line
            axes.plot(at, values, ".-", ms=2.5, color=colours[name], lw=1.1, label=name)
            grid[place] = np.interp(times, at, values, left=np.nan, right=np.nan)
    axes.plot(times, _mean_of_known(grid), color=_INK, lw=2.6, label="mean", zorder=3)
    if record.local is not None:
        level = record.local.mean
        axes.axhline(level, color=_FAINT, ls="--", lw=1.3, zorder=1)
        axes.text(
            0.99 * record.plan.seconds,
            level - 0.012,
            f"alone each would reach {level:.2f} (mean, {record.local.steps:,} steps)",
            ha="right",
            va="top",
            fontsize=9,
            color=_FAINT,
        )
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_ylabel("accuracy on the common test set")
    if len(colours) <= _LEGEND_MAX:
        axes.legend(
            loc="lower right", ncols=2, frameon=True, framealpha=0.9, edgecolor="none", fontsize=9
        )
    _tidy(axes)


def _distances(record: Record, axes: Axes) -> None:
    known = [(one.at, one.distance) for one in record.history if one.distance]
    if known:
        axes.plot(*zip(*known, strict=True), color=_INK, lw=1.4)
        axes.set_yscale("log")
    axes.set_xlim(-0.01 * record.plan.seconds, record.plan.seconds)
    axes.set_ylabel("consensus\ndistance")
    axes.set_xlabel("seconds since all first nodes had found each other")
    _tidy(axes)


def _spans(record: Record, above: Axes, below: Axes, colours: dict[str, str]) -> None:
    """Shade what happened to a node in its own colour, and say it above."""
    for begin in record.happenings:
        if begin.what not in _SPANS:
            continue
        until, words = _SPANS[begin.what]
        ends = [
            one.at
            for one in record.happenings
            if one.node == begin.node and one.what is until and one.at > begin.at
        ]
        end = min(ends, default=record.plan.seconds)
        colour = colours[begin.node]
        for axes in (above, below):
            axes.axvspan(begin.at, end, color=colour, alpha=0.13, lw=0)
        above.annotate(
            f"{begin.node}\n{words}",
            ((begin.at + end) / 2, 1),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=colour,
            annotation_clip=False,
        )


def with_gaps(points: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Times and values, with NaN between two that are more than `_GAP_S` apart.

    Args:
        points: (time, value) by time, n >= 1.
    """
    at, values = (np.array(column, float) for column in zip(*points, strict=True))
    breaks = np.flatnonzero(np.diff(at) > _GAP_S) + 1
    return np.insert(at, breaks, at[breaks - 1] + _STEP_S), np.insert(values, breaks, np.nan)


def _mean_of_known(grid: Floats) -> Floats:
    """Mean of each column of (nodes, times), over those that have a value there."""
    known = ~np.isnan(grid)
    count = known.sum(axis=0)
    total = np.where(known, grid, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _tidy(axes: Axes) -> None:
    axes.grid(axis="y", color="#e5e5e5", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    axes.tick_params(colors=_FAINT, labelcolor=_INK, labelsize=9)
