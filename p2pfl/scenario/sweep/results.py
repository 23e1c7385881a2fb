"""What the runs of a sweep show together: a row for every cell.

Rule of the file: it counts what was measured. A figure a run could not measure is left out of its
mean, and the n that stands beside it says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias

from p2pfl.scenario.sweep.grid import Cell, Run, Sweep
from p2pfl.scenario.sweep.interval import Estimate, estimate

Summary: TypeAlias = Mapping[str, Any]
"""Of one run, as `tables.summary` makes it: figures, ok, wall_s, event_hash, ..."""

USUAL = ("mean_accuracy", "worst_tenth_accuracy", "consensus_distance", "bytes_per_node_per_s")
"""Figures that are shown if the scenario expects nothing."""


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
