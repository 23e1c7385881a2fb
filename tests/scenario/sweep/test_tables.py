"""Rows as tables."""

from __future__ import annotations

from pathlib import Path

from p2pfl.scenario.sweep import markdown, rows, run_table, table
from tests.scenario.sweep.made import answer, grid


def test_tables_have_a_line_for_every_cell_and_every_run_that_was_tried(file: Path) -> None:
    sweep = grid(file, "nodes=4,8")
    known = {run.id: answer(run) for run in sweep.runs[:3]}
    failed = {sweep.runs[3].id: "oh no"}
    found = rows(sweep, known, failed)
    lines = table(sweep, found)
    assert lines[0][:5] == ["nodes", "runs", "failed", "held_share", "consensus_distance"]
    assert [line[:4] for line in lines[1:]] == [[4, 2, 0, 1.0], [8, 1, 1, 1.0]]
    runs = run_table(sweep, known, failed)
    assert len(runs) == 5
    by_name = dict(zip(runs[0], runs[4], strict=True))
    assert (by_name["state"], by_name["error"], by_name["held"]) == ("failed", "oh no", None)
    assert all(len(line) == len(lines[0]) for line in lines)
    text = markdown(sweep, found, "p2pfl sweep ring")
    assert "| nodes | runs | held | consensus distance (<= 0.5) |" in text
    assert "| 8 | 1 (1 failed) | 1/1 | 0.1 | 4 |" in text
