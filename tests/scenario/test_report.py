"""The files that stay: every figure as it was measured, and what was not measured stays empty."""

from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from p2pfl.scenario.expect import judged
from p2pfl.scenario.record import Happening, Record, What
from p2pfl.scenario.report import (
    CURVES,
    PICTURE,
    REPORT,
    SUMMARY,
    SWARM,
    command,
    summary,
    tell,
    write,
)
from tests.scenario.made import made_plan, made_record


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def told(record: Record) -> str:
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        tell(record, judged(record), console)
    return captured.get()


def test_all_files_are_written_and_read_back(tmp_path: Path) -> None:
    record = made_record(made_plan(folder=tmp_path))
    write(record, judged(record))
    curves, swarm = rows(tmp_path / CURVES), rows(tmp_path / SWARM)
    assert [(row["node"], row["state"]) for row in curves] == [
        ("node-1", "training"),
        ("node-2", "killed"),
    ]
    assert float(curves[0]["accuracy"]) == 0.5
    assert int(curves[0]["bytes_in"]) == 1_234_567
    assert {curves[1][key] for key in curves[1] if key not in ("time_s", "node", "state")} == {""}
    assert len(swarm) == len(record.history)
    assert float(swarm[1]["distance"]) == 0.5
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert json.loads((tmp_path / SUMMARY).read_text())["ok"] is True
    report = (tmp_path / REPORT).read_text(encoding="utf-8")
    assert "<title>demo: passed</title>" in report
    assert f"{tmp_path}: {REPORT}, {PICTURE}, {CURVES}, ..." in told(record)


def test_the_summary_is_json_and_says_what_was_expected_and_measured() -> None:
    record = made_record()
    found = json.loads(json.dumps(summary(record, judged(record)), allow_nan=False))
    assert found["mean_accuracy"] == found["worst_accuracy"] == 0.93
    assert found["local_only"] == {"steps": 400, "mean": 0.4, "accuracies": [0.3, 0.4, 0.5, 0.4]}
    assert found["nodes"]["node-2"] == {
        "role": "restarted",
        "accuracy": 0.93,
        "longest_stall_s": None,
    }
    assert [one["held"] for one in found["expectations"]] == [True] * 5


def test_one_missed_expectation_makes_the_summary_not_ok() -> None:
    record = made_record(stalls={"node-1": 9.0})
    assert summary(record, judged(record))["ok"] is False


def test_a_run_without_any_figures_is_still_told(tmp_path: Path) -> None:
    plan = made_plan(folder=tmp_path, task="mine.py")
    record = made_record(
        plan, looks={}, history=[], local=None, finals=dict.fromkeys(plan.names, None)
    )
    write(record, judged(record))
    found = json.loads((tmp_path / SUMMARY).read_text())
    assert found["mean_accuracy"] is found["local_only"] is found["consensus_distance"] is None
    text = told(record)
    assert "not measured" in text
    assert "no accuracy is expected of a task of your own" in " ".join(text.split())


def test_the_command_does_the_same_again() -> None:
    plan = made_plan(task="my task.py", seed=7, seconds=12.5, with_faults=False)
    assert shlex.split(command(plan))[2:] == [
        *("--task", "my task.py", "--nodes", "3", "--seconds", "12.5", "--seed", "7"),
        "--no-faults",
    ]


def test_people_are_told_bound_value_and_verdict_in_eighty_columns() -> None:
    text = told(made_record(stalls={"node-1": 9.0}))
    assert max(len(line) for line in text.splitlines() if not line.startswith("files")) <= 80
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "mean accuracy, 4 nodes >= 0.930 0.930 held" in lines
    assert "longest stall <= 3.0 s 9.0 s (node-1) MISSED" in lines
    assert any(line.startswith("together mean 0.930, worst 0.930") for line in lines)
    assert any(line.startswith("alone mean 0.400, best 0.500") for line in lines)
    assert any("runs/demo-x" in line for line in lines)


def test_whoever_died_has_the_last_word() -> None:
    record = made_record()
    died = Happening(5.0, "node-1", What.DIED, "node-1 ended by itself; its log:\n[bold]oh no")
    assert "[bold]oh no" in told(replace(record, happenings=[*record.happenings, died]))
