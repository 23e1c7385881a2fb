"""Rows in words: a table for CSV, a table for a page, and plain JSON values.

Rule of the file: it writes no file and says nothing that a row does not hold; what was not measured
is empty, or a dash.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from p2pfl.scenario.sweep.grid import Sweep
from p2pfl.scenario.sweep.results import Row, Summary, figures, known_figures, passed, shown

TABLE, MARKDOWN, RUNS, PICTURE = "table.csv", "table.md", "runs.csv", "sweep.png"


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
