"""A sweep: one scenario at every point of a grid, with many seeds, and what that shows together.

    axis      one --over: a key of the scenario and the values it takes
    cell      one value of every axis, hence one scenario
    run       a cell with a seed; cells share their seeds, so that they differ in nothing else
    question  everything that decides the answers but the seeds; its digest names the folder

Of every cell and figure stand the mean over seeds and its 95 % confidence interval, by Student's t:

    mean ± t(0.975, n-1) · s / √n          s with n-1 in its denominator; none for n = 1

Rule of the file: it plans and counts, it runs nothing. Runs are ordered seed by seed, so that a
sweep that was broken off knows something of every cell. A figure a run could not measure is left
out of its mean, and the n that stands beside it says so.

Quantile of t: a table up to 30 degrees of freedom, above it Abramowitz & Stegun 26.7.5.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, TypeAlias

import p2pfl
from p2pfl.config import plain
from p2pfl.errors import ConfigError
from p2pfl.scenario.load import load
from p2pfl.scenario.spec import Bound, Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Summary: TypeAlias = Mapping[str, Any]
"""Of one run, as `tables.summary` makes it: figures, ok, wall_s, event_hash, ..."""

USUAL = ("mean_accuracy", "worst_tenth_accuracy", "consensus_distance", "bytes_per_node_per_s")
"""Figures that are shown if the scenario expects nothing."""

TABLE, MARKDOWN, RUNS, PICTURE = "table.csv", "table.md", "runs.csv", "sweep.png"

_ID_MAX = 80


# --- the grid -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Axis:
    """One key and the values it takes.

    Attributes:
        key: dotted, as in `--set`.
        texts: the values as they were written.
        values: the same as TOML reads them.
    """

    key: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether its values can stand on a scale."""
        return all(isinstance(value, int | float) for value in self.values) and not any(
            isinstance(value, bool) for value in self.values
        )

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.texts)}"


def axis(text: str) -> Axis:
    """The axis of a `KEY=V,V,...`; a comma inside brackets or quotes separates nothing.

    Raises:
        ConfigError: there is no key, no value, the same value twice, or the key is the seed.
    """
    key, equals, rest = text.partition("=")
    key, texts = key.strip(), _split(rest)
    if not equals or not key or not all(texts):
        raise ConfigError(f"--over {text}: expected KEY=VALUE,VALUE, as in nodes=16,64,256")
    if key == "seed":
        raise ConfigError(f"--over {text}: seeds are counted, not listed; give --seeds N")
    values = tuple(plain(part) for part in texts)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"--over {text}: {texts[place]} stands there twice")
    return Axis(key, texts, values)


def _split(text: str) -> tuple[str, ...]:
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += sign
    return tuple(part.strip() for part in parts)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid.

    Attributes:
        values: key and value of every axis.
        scenario: what that makes of the scenario; its seed is the first one.
        changes: what `p2pfl run --set` needs to do the same.
    """

    values: tuple[tuple[str, Any], ...]
    scenario: Scenario
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.values) or self.scenario.name


@dataclass(frozen=True, slots=True)
class Run:
    """One cell with one seed.

    Attributes:
        id: a name for its folder, unique in the sweep.
        command: what does it alone.
    """

    id: str
    cell: Cell
    seed: int
    command: str

    @property
    def scenario(self) -> Scenario:
        """What is run."""
        return self.cell.scenario.model_copy(update={"seed": self.seed})

    def __str__(self) -> str:
        return f"{self.cell} seed={self.seed}"


@dataclass(frozen=True)
class Sweep:
    """The whole grid.

    Attributes:
        text: the scenario as it was asked for.
        cells: in the order of the axes, the last one fastest.
        files: digests of the files that the scenarios name, as they were when this was planned.
    """

    text: str
    axes: tuple[Axis, ...]
    changes: tuple[str, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of the scenario."""
        return self.cells[0].scenario.name

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """All of them, seed by seed."""
        ids = _distinct([_slug(cell) for cell in self.cells])
        return tuple(
            Run(f"{name}-seed{seed}", cell, seed, self._command(cell, seed))
            for seed in self.seeds
            for name, cell in zip(ids, self.cells, strict=True)
        )

    def _command(self, cell: Cell, seed: int) -> str:
        changes = itertools.chain.from_iterable(("--set", change) for change in cell.changes)
        return shlex.join(["p2pfl", "run", self.text, "--seed", str(seed), *changes])

    @cached_property
    def question(self) -> dict[str, Any]:
        """What decides the answers, as JSON values; seeds only say how often it is asked."""
        return {
            "scenario": self.text,
            "over": [str(axis) for axis in self.axes],
            "set": list(self.changes),
            "p2pfl": p2pfl.__version__,
            "files": dict(self.files),
            "cells": {str(cell): _digest(_meaning(cell.scenario)) for cell in self.cells},
        }

    @property
    def digest(self) -> str:
        """Of the question; how it was worded makes no difference."""
        return _digest([self.question[part] for part in _DECIDING])[:8]

    def bounds(self) -> dict[str, Bound | None]:
        """Figures of which something is expected, with the bound where it is the same in all."""
        found: dict[str, Bound | None] = {}
        for cell in self.cells:
            for name, bound in cell.scenario.expect.bounds().items():
                found[name] = bound if found.get(name, bound) == bound else None
        return found


_DECIDING = ("cells", "files", "p2pfl")


def planned(text: str, over: Sequence[str], changes: Sequence[str] = (), seeds: int = 1) -> Sweep:
    """The grid of a scenario; every cell is validated.

    Args:
        text: path or name of the scenario.
        over: `KEY=V,V,...` each.
        changes: `KEY=VALUE` each, for all cells.
        seeds: how many, counted from the scenario's own.

    Raises:
        ConfigError: there is no such scenario, a key is unknown or given twice, or a value cannot
            be used.
    """
    axes = tuple(axis(one) for one in over)
    keys = [change.partition("=")[0].strip() for change in changes]
    for place, one in enumerate(axes):
        if one.key in (other.key for other in axes[:place]):
            raise ConfigError(f"--over {one.key} is given twice; list its values in one")
        if one.key in keys:
            raise ConfigError(f"'{one.key}' is in --over and in --set; it can only be in one")
    load(text, changes)  # what is wrong already without the axes is no fault of theirs
    cells = []
    for words in itertools.product(*(one.texts for one in axes)):
        swept = [f"{one.key}={word}" for one, word in zip(axes, words, strict=True)]
        try:
            scenario = load(text, [*changes, *swept])
        except ConfigError as error:
            raise ConfigError(f"--over {' '.join(swept)}: {error}") from None
        values = tuple((one.key, plain(word)) for one, word in zip(axes, words, strict=True))
        cells.append(Cell(values, scenario, (*changes, *swept)))
    first = cells[0].scenario.seed
    return Sweep(
        text=text,
        axes=axes,
        changes=tuple(changes),
        cells=tuple(cells),
        seeds=tuple(range(first, first + seeds)),
        files=_files(cells),
    )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How two questions differ, in words; empty if they are the same."""
    if all(there.get(part) == here[part] for part in _DECIDING):
        return ""
    if there.get("p2pfl") != here["p2pfl"]:
        return f"it was made by p2pfl {there.get('p2pfl')}, this is {here['p2pfl']}"
    for part, option in (("scenario", "scenario"), ("over", "--over"), ("set", "--set")):
        if there.get(part) != here[part]:
            return f"{option} was {_words(there.get(part))}, now it is {_words(here[part])}"
    if there.get("files") != here["files"]:
        old = there.get("files") or {}
        changed = [name for name, digest in here["files"].items() if old.get(name) != digest]
        return f"{', '.join(changed) or 'a file of the scenario'} has changed since"
    return f"{here['scenario']} has changed since"


def _words(value: Any) -> str:
    return " ".join(value) or "nothing" if isinstance(value, list) else str(value)


def _slug(cell: Cell) -> str:
    parts = (f"{key.rpartition('.')[2]}={value}" for key, value in cell.values)
    text = re.sub(r"[^A-Za-z0-9=.+-]+", "_", ",".join(parts).replace(",", "-"))
    return text[:_ID_MAX].strip(".") or cell.scenario.name


def _distinct(names: list[str]) -> list[str]:
    """Names of folders, also where letters' case is not told apart; doubles get their place."""
    lower = [name.lower() for name in names]
    return [
        f"{name}-{place}" if lower.count(name.lower()) > 1 else name
        for place, name in enumerate(names, 1)
    ]


def _meaning(scenario: Scenario) -> dict[str, Any]:
    """All that a run depends on, defaults included: they may change with the program."""
    return scenario.model_dump(mode="json", by_alias=True, exclude={"seed", "description"})


def _files(cells: Iterable[Cell]) -> dict[str, str]:
    """Digests of the files that the scenarios name: their content is part of the question."""
    found = {}
    for cell in cells:
        one = cell.scenario
        for name in (one.task.name, one.topology, one.compute.trace, one.churn.trace):
            if name is not None and name not in found and Path(name).is_file():
                found[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- what the runs show together ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of one cell.

    Attributes:
        values: of the runs that measured it, n >= 1; infinite ones make the mean infinite.
        mean: of them.
        half: half the width of the 95 % confidence interval; None for n = 1.
    """

    values: tuple[float, ...]
    mean: float
    half: float | None

    @property
    def n(self) -> int:
        """How many runs measured it."""
        return len(self.values)

    def __str__(self) -> str:
        return plus_minus(self.mean, self.half)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and confidence interval of n >= 1 values."""
    mean, half = fmean(values), None
    if len(values) > 1 and math.isfinite(mean):
        half = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(tuple(values), mean, half)


_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


def student_t(freedom: int) -> float:
    """The 0.975 quantile of Student's t with `freedom` >= 1 degrees of freedom, to 4 digits."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z, v = 1.959964, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one cell.

    Attributes:
        runs, failed: how many gave figures, and how many ended without.
        held: of `runs`, those whose expectations all held.
        figures: by name; those that no run measured are not there.
    """

    cell: Cell
    runs: int
    failed: int
    held: int
    figures: Mapping[str, Estimate]

    @property
    def held_share(self) -> float | None:
        """Of the runs that gave figures."""
        return self.held / self.runs if self.runs else None


def rows(sweep: Sweep, known: Mapping[str, Summary], failed: Iterable[str] = ()) -> list[Row]:
    """A row for every cell, in the order of the grid.

    Args:
        known: summaries by the id of their run.
        failed: ids of runs that gave none.
    """
    lost = set(failed)
    found = []
    for cell in sweep.cells:
        runs = [run for run in sweep.runs if run.cell is cell]
        answers = [known[run.id] for run in runs if run.id in known]
        measured: dict[str, list[float]] = {}
        for answer in answers:
            for name, value in figures(answer).items():
                if value is not None:
                    measured.setdefault(name, []).append(value)
        found.append(
            Row(
                cell=cell,
                runs=len(answers),
                failed=sum(run.id in lost for run in runs),
                held=sum(passed(answer) for answer in answers),
                figures={name: estimate(values) for name, values in measured.items()},
            )
        )
    return found


def passed(answer: Summary) -> bool:
    """Whether every expectation of a run held."""
    return bool(answer.get("ok", answer.get("passed")))


def figures(answer: Summary) -> dict[str, float | None]:
    """The figures of a run and how long it took; JSON has no infinity, hence its name counts."""
    named = {**answer.get("figures", {}), "wall_s": answer.get("wall_s")}
    found: dict[str, float | None] = {}
    for name, value in named.items():
        number = None if value is None else float(value)
        found[name] = None if number is None or math.isnan(number) else number
    return found


def shown(sweep: Sweep, found: Sequence[Row]) -> list[str]:
    """The figures to show: those the scenario expects something of, else the usual ones."""
    measured = known_figures(found)
    wanted = [name for name in sweep.bounds() if name != "deaths"] or list(sweep.bounds())
    return [name for name in wanted or USUAL if name in measured]


def known_figures(found: Iterable[Row]) -> list[str]:
    """Every figure that some run measured, once."""
    return list(dict.fromkeys(name for row in found for name in row.figures))


def left_s(took: Iterable[tuple[Cell, float]], left: Iterable[Run], jobs: int) -> float | None:
    """How long the rest will take: a cell's runs take as long as those of the cell that are done.

    Args:
        took: cell and duration of every run that was done.
        left: runs that are not done.
        jobs: how many run at a time.
    """
    known: dict[int, list[float]] = {}
    for cell, seconds in took:
        known.setdefault(id(cell), []).append(seconds)
    if not known:
        return None
    means = {place: fmean(values) for place, values in known.items()}
    usual = fmean(means.values())
    return sum(means.get(id(run.cell), usual) for run in left) / max(jobs, 1)


# --- in words and tables ------------------------------------------------------------------------


_TINY = 1e-300
"""Nobody measures less, and its powers of ten are no numbers any more."""


def plus_minus(mean: float, half: float | None) -> str:
    """`0.953 ±0.004`: as many digits as the interval leaves, four at most."""
    if not math.isfinite(mean):
        return str(mean)
    if not half or half < 1e-12 * abs(mean) or half < _TINY:
        return f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.4g}"
    largest = max(abs(mean), half)
    power = math.floor(math.log10(largest))
    if power < -3 or power > 8:
        scale = 10.0**power
        return f"({_rounded(mean / scale, half / scale)})e{power}"
    return _rounded(mean, half)


def _rounded(mean: float, half: float) -> str:
    largest = max(abs(mean), half)
    digits = min(1 - math.floor(math.log10(half)), 3 - math.floor(math.log10(largest)))
    digits = max(digits, 0)
    return f"{mean:,.{digits}f} ±{half:,.{digits}f}"


def title(name: str) -> str:
    """A figure's name and unit."""
    from p2pfl.scenario.wording import title as words

    if name == "wall_s":
        return "time a run took [s]"
    unit = " [B/s]" if name == "bytes_per_node_per_s" else " [s]" if name.endswith("_s") else ""
    return words(name) + unit


def said(row: Row, name: str) -> str:
    """A figure of a row; where not all its runs measured it, how many did."""
    one = row.figures.get(name)
    if one is None:
        return "-"
    return f"{one}" if one.n == row.runs else f"{one} (n={one.n})"


def share(row: Row) -> str:
    """How many runs held, of how many."""
    return f"{row.held}/{row.runs}"


def table(sweep: Sweep, found: Sequence[Row]) -> list[list[Any]]:
    """Everything of every cell, with a head, for CSV."""
    names = known_figures(found)
    columns = itertools.chain.from_iterable((name, f"{name}_ci95", f"{name}_n") for name in names)
    lines: list[list[Any]] = [
        [*(one.key for one in sweep.axes), "runs", "failed", "held_share", *columns]
    ]
    for row in found:
        line = [*(value for _, value in row.cell.values), row.runs, row.failed, row.held_share]
        for name in names:
            one = row.figures.get(name)
            line += [None, None, 0] if one is None else [one.mean, one.half, one.n]
        lines.append(line)
    return lines


def run_table(
    sweep: Sweep, known: Mapping[str, Summary], failed: Mapping[str, str]
) -> list[list[Any]]:
    """A line for every run that was tried, with a head, for CSV."""
    tried = [run for run in sweep.runs if run.id in known or run.id in failed]
    measured = {run.id: figures(known[run.id]) for run in tried if run.id in known}
    names = list(dict.fromkeys(name for one in measured.values() for name in one))
    keys = [one.key for one in sweep.axes]
    lines: list[list[Any]] = [
        ["run", *keys, "seed", "state", "held", *names, "event_hash", "error", "command"]
    ]
    for run in tried:
        answer, values = known.get(run.id, {}), measured.get(run.id, {})
        lines.append(
            [
                run.id,
                *(value for _, value in run.cell.values),
                run.seed,
                "done" if run.id in known else "failed",
                passed(answer) if answer else None,
                *(values.get(name) for name in names),
                answer.get("event_hash"),
                failed.get(run.id),
                run.command,
            ]
        )
    return lines


def markdown(sweep: Sweep, found: Sequence[Row], command: str) -> str:
    """The main figures of every cell, for a page."""
    names, bounds = shown(sweep, found), sweep.bounds()
    heads = [*(one.key for one in sweep.axes), "runs", "held"]
    for name in names:
        bound = bounds.get(name)
        heads.append(f"{title(name)} ({bound})" if bound else title(name))
    lines = [heads, ["---"] * len(sweep.axes) + ["---:"] * (len(heads) - len(sweep.axes))]
    for row in found:
        tried = f"{row.runs}" + (f" ({row.failed} failed)" if row.failed else "")
        figures = [said(row, name) for name in names]
        lines.append([*(str(value) for _, value in row.cell.values), tried, share(row), *figures])
    drawn = "\n".join(f"| {' | '.join(_cell(word) for word in line)} |" for line in lines)
    return (
        f"# Sweep of {sweep.name}\n\n    {command}\n\n{drawn}\n\n"
        f"Mean over seeds ± half the width of its 95 % confidence interval (Student's t); "
        f"*held*: runs in which every expectation held.\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def as_json(sweep: Sweep, found: Sequence[Row]) -> list[dict[str, Any]]:
    """Every cell as plain JSON values."""
    return [
        {
            "values": dict(row.cell.values),
            "runs": row.runs,
            "failed": row.failed,
            "held": row.held,
            "held_share": row.held_share,
            "figures": {
                name: {"mean": finite(one.mean), "ci95": one.half, "n": one.n}
                for name, one in row.figures.items()
            },
        }
        for row in found
    ]


def finite(value: Any) -> Any:
    """A value that JSON can hold: infinity becomes its name."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {key: finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value


# --- the picture --------------------------------------------------------------------------------

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
    # here, because the processes that run things know this module and draw nothing
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
