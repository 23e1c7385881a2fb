"""Curves and bars made of characters: eight dots to a cell (braille), eight steps to a bar.

Rule of the file: pure; a drawing is a list of lines, a line a list of (text, style) with the names
of styles that the caller gave. A gap in what is known is a gap in the curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeAlias

Spans: TypeAlias = list[tuple[str, str]]

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a cell, by row and column (Unicode 15, section 21.1)."""
_STEPS = " ▁▂▃▄▅▆▇█"
_ASIDE = 5
_SPAN_MIN_S = 60.0
_NICE = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over time, by time.

    Attributes:
        style: of its dots; where curves cross, the later one's colour is seen.
    """

    points: Sequence[tuple[float, float | None]]
    style: str = ""


def plot(
    curves: Sequence[Curve], columns: int, lines: int, now: float, *, axis: str = "dim"
) -> list[Spans]:
    """Curves with a scale at the left and the time below.

    Args:
        columns, lines: what there is; with fewer than 24 or 4 nothing is drawn.
        now: the right end of the time.
        axis: style of scale and time.

    Returns:
        At most `lines` lines of at most `columns` columns.
    """
    known = [value for curve in curves for _, value in curve.points if value is not None]
    if columns < 24 or lines < 4 or not known:
        return []
    low, high, step = bounds(min(known), max(known))
    start = min(at for curve in curves for at, value in curve.points if value is not None)
    start = min(start, now - _SPAN_MIN_S)
    wide, tall = columns - _ASIDE - 1, lines - 1
    grid = _Grid(wide, tall)
    for curve in curves:
        grid.draw(curve, start, now, low, high)
    marks = {
        round((high - low - step * i) / (high - low) * (tall - 1)): low + step * i
        for i in range(round((high - low) / step) + 1)
    }
    found: list[Spans] = []
    for line in range(tall):
        label = _label(marks[line]) if line in marks else ""
        found.append([(f"{label:>{_ASIDE}}{'┤' if label else '│'}", axis), *grid.spans(line)])
    left, right = f"-{_span(now - start)}", "now"
    middle = f"-{_span((now - start) / 2)}"
    between = wide - len(left) - len(right)
    scale = middle.center(between) if between > len(middle) + 4 else " " * between
    return [*found, [(" " * (_ASIDE + 1) + left + scale + right, axis)]]


def bounds(low: float, high: float) -> tuple[float, float, float]:
    """Round ends of a scale that holds both, and its step; within 0 and 1 if both are."""
    step = next((step for step in _NICE if (high - low) / step <= 4), (high - low) / 4)
    bottom, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if top - bottom < step / 2:
        bottom, top = bottom - step, top + step
    return (
        max(0.0, bottom) if low >= 0 else bottom,
        min(1.0, top) if high <= 1 else top,
        step,
    )


def bars(values: Sequence[float], columns: int, lines: int) -> list[str]:
    """One bar of whole columns for each value, as high as its share of the largest.

    What is not nothing is seen: it has at least the lowest step.
    """
    if not values or columns < len(values) or lines < 1:
        return []
    most, each = max(values), columns // len(values)
    heights = [
        max(1, round(8 * lines * value / most)) if value > 0 and most > 0 else 0 for value in values
    ]
    gap = " " if each > 2 else ""
    return [
        "".join(
            _STEPS[min(8, max(0, height - 8 * line))] * (each - len(gap)) + gap
            for height in heights
        )
        for line in reversed(range(lines))
    ]


def _label(value: float) -> str:
    """In the five columns beside the plot."""
    if len(f"{value:.0f}") > _ASIDE:
        return f"{value:.0e}".replace("e+0", "e")
    return f"{value:.2f}"[:_ASIDE].removesuffix(".")


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    size, unit = (60, "min") if seconds < 6000 else (3600, "h")
    return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"


def _silence_s(curve: Curve) -> float:
    """From how long on nothing known of a while is a gap, by what is usual in this curve."""
    times = [at for at, _ in curve.points]
    steps = sorted(later - earlier for earlier, later in pairwise(times))
    return 8 * steps[len(steps) // 2] if len(steps) > 4 else math.inf


class _Grid:
    """Cells of two by four dots; each belongs to what was drawn there last, or all would blur."""

    def __init__(self, columns: int, lines: int) -> None:
        self._wide, self._tall = 2 * columns, 4 * lines
        self._bits = [[0] * columns for _ in range(lines)]
        self._styles = [[""] * columns for _ in range(lines)]

    def spans(self, line: int) -> Spans:
        """A line, equal styles in one."""
        cells = zip(self._bits[line], self._styles[line], strict=True)
        return [
            ("".join(chr(_BRAILLE + bits) if bits else " " for bits, _ in group), style)
            for style, group in groupby(cells, key=lambda cell: cell[1])
        ]

    def draw(self, curve: Curve, start: float, end: float, low: float, high: float) -> None:
        """Join its points with lines."""
        before: tuple[int, int] | None = None
        silent_s, last = _silence_s(curve), 0.0
        for at, value in curve.points:
            if value is None or at - last > silent_s:
                before = None
            last = at
            if value is None or not start <= at <= end + 1.0:
                continue
            share = (min(at, end) - start) / (end - start)
            x = round(share * (self._wide - 1))
            y = round((high - min(max(value, low), high)) / (high - low) * (self._tall - 1))
            if before is None:
                self._dot(x, y, curve.style)
            else:
                self._join(before, (x, y), curve.style)
            before = (x, y)

    def _join(self, one: tuple[int, int], other: tuple[int, int], style: str) -> None:
        (x0, y0), (x1, y1) = one, other
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(1, steps + 1):
            x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
            self._dot(round(x), round(y), style)

    def _dot(self, x: int, y: int, style: str) -> None:
        line, column = y // 4, x // 2
        if self._styles[line][column] != style:
            self._bits[line][column], self._styles[line][column] = 0, style
        self._bits[line][column] |= _DOTS[y % 4][x % 2]
