"""One picture of a run: accuracy, consensus distance and how many nodes are up, over time.

Rule of the file: matplotlib's own objects on an Agg canvas; no pyplot, no global state, no display.
What a node did not measure is a gap in its curve, never a line across it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullLocator

from p2pfl.scenario.page_drawing import band
from p2pfl.scenario.page_marks import FAULT, drawn_marks
from p2pfl.scenario.trace import Mark, Trace
from p2pfl.scenario.verdicts import judged, mean_accuracy, passed, up, worst_tenth

BLUE, ORANGE = "#33669c", "#b8560f"
_INK, _FAINT, _SHADE = "#1b1f24", "#6a737d", "#b8860b"
_LINES_MAX = 100
_ROWS, _CHARACTER = 3, 0.0068
"""Of labels above the axes; a character's width as a share of theirs."""


def draw(trace: Trace, path: Path) -> None:
    """Write the picture of a trace as PNG.

    Raises:
        OSError: it cannot be written.
    """
    known = bool(np.isfinite(trace.accuracy).any())
    figure = Figure(figsize=(10, 6.8 if known else 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    heights = [4.0, 1.4, 0.8] if known else [2.6, 0.8]
    axes = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    if known:
        _accuracy(trace, axes[0])
    _distance(trace, axes[-2])
    _up(trace, axes[-1])
    for one in axes:
        _shade(trace, one)
        _tidy(one)
    _label(trace, axes[0])
    axes[-1].set_xlim(0, trace.seconds or 1.0)
    axes[-1].set_xlabel("seconds of the nodes' time", color=_INK)
    figure.suptitle(_title(trace), x=0.012, ha="left", fontsize=11, color=_INK)
    figure.savefig(path, facecolor="white")


def _title(trace: Trace) -> str:
    scenario = trace.scenario
    verdict = "passed" if passed(judged(trace), trace) else "FAILED"
    nodes = f"{scenario.nodes:,} nodes, {scenario.topology}, {trace.engine}, seed {scenario.seed}"
    return _literal(f"{scenario.name} ({nodes}): {verdict}")


def _accuracy(trace: Trace, axes: Axes) -> None:
    times, n = trace.times, trace.scenario.nodes
    if n <= _LINES_MAX:
        alpha = float(np.clip(6 / n, 0.16, 0.5))
        lines = axes.plot(times, trace.accuracy, color=BLUE, lw=0.8, alpha=alpha, zorder=2)
        lines[0].set_label("each node")
    else:
        low, high = band(trace.accuracy)
        axes.fill_between(
            times, low, high, color=BLUE, alpha=0.25, lw=0, label="nine nodes of ten", zorder=2
        )
    worst = worst_tenth(trace.accuracy)
    axes.plot(times, worst, color=ORANGE, lw=1.8, label="worst tenth", zorder=3)
    axes.plot(times, mean_accuracy(trace), color=_INK, lw=2.6, label="mean", zorder=4)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_ylabel("accuracy on the\ncommon test set", color=_INK)
    legend = axes.legend(
        loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9
    )
    if legend.legend_handles[0] is not None:
        legend.legend_handles[0].set_alpha(0.6)  # as faint as one node is, nobody would see it


def _distance(trace: Trace, axes: Axes) -> None:
    curves = {
        "consensus distance": (trace.distance, _INK, "-"),
        "from the optimum": (trace.optimum, BLUE, "--"),
        "mass drift": (trace.drift, ORANGE, ":"),
    }
    drawn = 0
    for name, (values, colour, style) in curves.items():
        positive = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        if np.isfinite(positive).any():
            axes.plot(trace.times, positive, color=colour, lw=1.5, ls=style, label=name)
            drawn += 1
    if drawn:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    if drawn > 1:
        axes.legend(loc="upper right", frameon=False, fontsize=9)
    axes.set_ylabel("distance" if drawn > 1 else "consensus\ndistance", color=_INK)


def _up(trace: Trace, axes: Axes) -> None:
    axes.fill_between(trace.times, up(trace), step="post", color=BLUE, alpha=0.35, lw=0)
    axes.set_ylim(0, trace.scenario.nodes * 1.05)
    axes.set_yticks([0, trace.scenario.nodes])
    axes.set_ylabel("nodes up", color=_INK)


def _shade(trace: Trace, axes: Axes) -> None:
    for mark in drawn_marks(trace):
        colour = _SHADE if mark.kind in FAULT else _FAINT
        if mark.until is None:
            axes.axvline(mark.at, color=colour, lw=0.9, ls="--", alpha=0.8, zorder=1)
        else:
            axes.axvspan(mark.at, mark.until, color=colour, alpha=0.16, lw=0, zorder=0)


def _label(trace: Trace, axes: Axes) -> None:
    """Say above what was done, in as many rows as there are, where there is room."""
    free = [0.0] * _ROWS
    untold = 0
    for mark in trace.marks:
        begin, width = _place(mark, trace.seconds)
        row = next((row for row in range(_ROWS) if free[row] <= begin), None)
        if row is None:
            untold += 1
            continue
        free[row] = begin + width
        axes.annotate(
            _literal(_short(mark.text)),
            (begin, 1),
            (0, 5 + 11 * row),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=_INK,
            annotation_clip=False,
        )
    if untold:
        axes.annotate(
            f"and {untold} more",
            (1, 1),
            (0, 5 + 11 * _ROWS),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            ha="right",
            color=_FAINT,
            annotation_clip=False,
        )


def _place(mark: Mark, seconds: float) -> tuple[float, float]:
    """Where a label begins and how wide it is, as shares of the axes' width; it ends within."""
    width = _CHARACTER * (len(_short(mark.text)) + 2)
    return max(0.0, min(mark.at / (seconds or 1.0), 1 - width)), width


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _literal(text: str) -> str:
    return text.replace("$", r"\$")


def _tidy(axes: Axes) -> None:
    axes.grid(axis="y", color="#e5e5e5", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    axes.tick_params(colors=_FAINT, labelcolor=_INK, labelsize=9)
