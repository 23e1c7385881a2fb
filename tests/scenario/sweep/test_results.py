"""A row for every cell, of what was measured."""

from __future__ import annotations

import math
from pathlib import Path

from p2pfl.scenario.sweep import as_json, figures, left_s, rows, said, shown
from tests.scenario.sweep.made import SCENARIO, answer, grid


def test_a_row_counts_what_ran_failed_and_held_and_leaves_out_what_was_not_measured(
    file: Path,
) -> None:
    sweep = grid(file, "nodes=4,8", seeds=4)
    runs = [run for run in sweep.runs if run.cell is sweep.cells[0]]
    known = {
        runs[0].id: answer(runs[0], 0.1),
        runs[1].id: answer(runs[1], None, ok=False),
        runs[2].id: answer(runs[2], 0.3),
    }
    first, second = rows(sweep, known, [runs[3].id])
    assert (first.runs, first.failed, first.held, first.held_share) == (3, 1, 2, 2 / 3)
    assert first.figures["consensus_distance"].values == (0.1, 0.3)
    assert said(first, "consensus_distance").endswith("(n=2)")
    assert "recovery_s" not in first.figures
    assert first.figures["wall_s"].mean == 0.5
    assert (second.runs, second.held_share, dict(second.figures)) == (0, None, {})
    assert said(second, "consensus_distance") == "-"


def test_a_run_that_never_recovered_is_not_forgotten_in_the_mean(file: Path) -> None:
    sweep = grid(file)
    known = {
        run.id: {**answer(run), "figures": {"recovery_s": value}}
        for run, value in zip(sweep.runs, (2.0, "inf"), strict=True)
    }
    (row,) = rows(sweep, known)
    assert row.figures["recovery_s"].mean == math.inf
    assert as_json(sweep, [row])[0]["figures"]["recovery_s"]["mean"] == "inf"
    assert figures({"figures": {"a": "nan"}}) == {"a": None, "wall_s": None}


def test_what_is_expected_is_shown_or_else_the_usual(file: Path) -> None:
    sweep = grid(file)
    known = {run.id: answer(run) for run in sweep.runs}
    assert shown(sweep, rows(sweep, known)) == ["consensus_distance", "stall_s"]
    file.write_text(SCENARIO.partition("[expect]")[0], encoding="utf-8")
    sweep = grid(file)
    assert shown(sweep, rows(sweep, known)) == ["consensus_distance"]


def test_the_rest_takes_as_long_as_its_cells_took(file: Path) -> None:
    sweep = grid(file, "nodes=4,8", seeds=3)
    small, large = sweep.cells
    assert left_s([], sweep.runs, 2) is None
    assert left_s([(small, 1.0), (large, 10.0), (small, 3.0)], sweep.runs[3:], 2) == 11.0
    assert left_s([(small, 1.0)], sweep.runs[1:3], 1) == 2.0
