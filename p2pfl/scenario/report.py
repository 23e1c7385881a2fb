"""What stays of a demo: tables, a picture, a report, a summary for tools and one for people.

    curves.csv     twice a second a row for each node: when, who, state, accuracy, age, ...
    swarm.csv      one row a second: how many answer, mean, worst, consensus distance
    accuracy.png   the picture (chart.py)
    report.html    the report, the same as of `p2pfl run` (pages.py)
    summary.json   everything that was expected and measured, and the command that does it again

Rule of the file: figures are written as they were measured, and what could not be measured stays
empty. Journals and logs of the nodes lie beside these files and are not touched.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

import p2pfl
from p2pfl.scenario.chart import draw
from p2pfl.scenario.display import number
from p2pfl.scenario.expect import Verdict, without_bound
from p2pfl.scenario.pages import write_html
from p2pfl.scenario.record import Plan, Record, Sample, What
from p2pfl.scenario.retold import final_distance, retold
from p2pfl.scenario.watching import Together

CURVES, SWARM, PICTURE, SUMMARY = "curves.csv", "swarm.csv", "accuracy.png", "summary.json"
REPORT = "report.html"

_SEEN = (
    *("accuracy", "age", "own_steps", "cycles", "loss", "neighbours", "alive", "exchanges"),
    *("staleness", "bytes_in", "bytes_out", "incarnation"),
)
_TOGETHER = ("answering", "mean", "worst", "distance")


def write(record: Record, verdicts: Sequence[Verdict]) -> None:
    """Write all files into the folder of the run.

    Raises:
        OSError: one of them cannot be written.
    """
    folder = record.plan.folder
    _table(folder / CURVES, ("time_s", "node", "state", *_SEEN), map(_curve, record.samples))
    _table(folder / SWARM, ("time_s", *_TOGETHER), map(_common, record.history))
    text = json.dumps(summary(record, verdicts), indent=2, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    draw(record, folder / PICTURE)
    write_html(retold(record), verdicts, folder / REPORT, command=command(record.plan))


def summary(record: Record, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The record without its curves, as plain JSON values."""
    plan = record.plan
    known = record.accuracies
    return {
        "ok": all(verdict.held for verdict in verdicts),
        "expectations": [asdict(verdict) for verdict in verdicts],
        "mean_accuracy": fmean(known) if known else None,
        "worst_accuracy": min(known, default=None),
        "consensus_distance": final_distance(record),
        "local_only": asdict(record.local) if record.local else None,
        "nodes": {
            name: {
                "role": role,
                "accuracy": record.finals[name],
                "longest_stall_s": record.stalls.get(name),
            }
            for name, role in plan.roles.items()
        },
        "happenings": [asdict(happening) for happening in record.happenings],
        "ended_by_itself": list(record.untimely),
        "killed_at_end": list(record.killed_at_end),
        "starting_s": round(record.starting_s, 3),
        "wall_s": round(record.wall_s, 3),
        "started": datetime.fromtimestamp(record.started, UTC).isoformat(timespec="seconds"),
        "command": command(plan),
        "run": plan.run,
        "task": plan.task,
        "seed": plan.seed,
        "seconds": plan.seconds,
        "partition": plan.partition,
        "with_faults": plan.with_faults,
        "versions": {"p2pfl": p2pfl.__version__, "python": platform.python_version()},
        "cores": os.cpu_count(),
    }


def command(plan: Plan) -> str:
    """What does the same again."""
    words = ["p2pfl", "demo", "--task", plan.task, "--nodes", f"{plan.nodes}"]
    words += ["--seconds", f"{plan.seconds:g}", "--seed", f"{plan.seed}"]
    return shlex.join([*words, *["--no-faults"] * (not plan.with_faults)])


def tell(record: Record, verdicts: Sequence[Verdict], console: Console) -> None:
    """The summary for people."""
    plan = record.plan
    table = Table(
        Column("expected"),
        Column("bound", no_wrap=True),
        Column("measured", no_wrap=True),
        Column("", no_wrap=True),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
    for one in verdicts:
        mark = Text("held", "green") if one.held else Text("MISSED", "bold red")
        table.add_row(one.what, one.bound, one.value, mark)
    for happening in record.happenings:
        if happening.what is What.DIED:
            console.print(Text(f"\n{happening.text}"))
    console.print()
    console.print(table)
    console.print()
    times = f"{record.wall_s:.0f} s, of which {record.starting_s:.0f} s to start"
    lines = {"together": _together(record), "alone": _alone(record), "took": times}
    if reason := without_bound(plan):
        lines["note"] = reason
    if slow := ", ".join(record.killed_at_end):
        lines["slow"] = f"{slow} had to be killed at the end: not gone when asked to stop"
    grid = Table.grid(padding=(0, 2))
    for title, text in lines.items():
        grid.add_row(title, text)
    console.print(grid)
    # never wrapped, so that it can be copied
    files = f"{REPORT}, {PICTURE}, {CURVES}, ..."
    console.print(Text(f"files     {plan.folder}: {files}"), soft_wrap=True)


def _together(record: Record) -> str:
    known = record.accuracies
    if not known:
        return "no accuracy: this task has none"
    distance = number(final_distance(record))
    return f"mean {fmean(known):.3f}, worst {min(known):.3f}, consensus distance {distance}"


def _alone(record: Record) -> str:
    local = record.local
    if local is None:
        return "not measured"
    steps = f"each shard by itself for {local.steps:,} steps, same learner and test set"
    return f"mean {local.mean:.3f}, best {max(local.accuracies):.3f}  ({steps})"


def _curve(sample: Sample) -> list[Any]:
    seen = sample.seen
    figures = [None if seen is None else getattr(seen, name) for name in _SEEN]
    return [sample.at, sample.node, sample.state, *figures]


def _common(one: Together) -> list[Any]:
    return [one.at, *(getattr(one, name) for name in _TOGETHER)]


def _table(path: Path, columns: Sequence[str], rows: Iterable[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([round(v, 6) if isinstance(v, float) else v for v in row])
