"""The grid, its numbers, its tables and its picture; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from p2pfl.errors import ConfigError
from p2pfl.scenario.sweep import (
    Run,
    Sweep,
    as_json,
    axis,
    differences,
    draw,
    estimate,
    figures,
    left_s,
    markdown,
    planned,
    plus_minus,
    rows,
    run_table,
    said,
    shown,
    student_t,
    table,
)

SCENARIO = """
description = "a ring"
nodes = 8
seed = 3
task = "averaging"
topology = "ring"
[duration]
cycles = 20
[expect]
consensus_distance = "<= 0.5"
stall_s = "<= 3"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ring.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def grid(file: Path, *over: str, seeds: int = 2, changes: Sequence[str] = ()) -> Sweep:
    return planned(str(file), over, changes, seeds)


def answer(run: Run, distance: float | str | None = 0.1, *, ok: bool = True) -> dict[str, Any]:
    return {
        "ok": ok,
        "figures": {"consensus_distance": distance, "stall_s": 1.0 + run.seed, "recovery_s": None},
        "wall_s": 0.5,
        "event_hash": "ab",
        "seed": run.seed,
    }


# --- the grid -----------------------------------------------------------------------------------


def test_every_value_meets_every_other_with_the_same_seeds_and_runs_go_seed_by_seed(
    file: Path,
) -> None:
    sweep = grid(file, "nodes=4,8", "gossip.codec=float32,int8")
    assert [str(cell) for cell in sweep.cells] == [
        "nodes=4 gossip.codec=float32",
        "nodes=4 gossip.codec=int8",
        "nodes=8 gossip.codec=float32",
        "nodes=8 gossip.codec=int8",
    ]
    assert sweep.seeds == (3, 4)
    assert [run.seed for run in sweep.runs] == [3] * 4 + [4] * 4
    assert [run.cell for run in sweep.runs] == [*sweep.cells, *sweep.cells]
    last = sweep.runs[-1].scenario
    assert (last.nodes, last.node.gossip.codec, last.seed) == (8, "int8", 4)


def test_a_run_says_the_command_that_does_it_alone(file: Path) -> None:
    run = grid(file, "nodes=4,8", changes=["task.size=7"]).runs[-1]
    words = f"p2pfl run {file} --seed 4 --set task.size=7 --set nodes=8"
    assert run.command == words


def test_ids_are_folder_names_and_no_two_are_equal(file: Path) -> None:
    sweep = grid(file, "topology=ring,random-2", "task.partition=iid,IID,a/b,a:b", seeds=3)
    ids = [run.id.lower() for run in sweep.runs]
    assert len(set(ids)) == len(ids) == 24
    assert not any(set(one) & set("/\\: ") for one in ids)


def test_without_axes_there_is_one_cell(file: Path) -> None:
    sweep = grid(file, seeds=3)
    assert [str(cell) for cell in sweep.cells] == ["ring"]
    assert [run.id for run in sweep.runs] == ["ring-seed3", "ring-seed4", "ring-seed5"]


def test_a_comma_in_brackets_or_quotes_separates_nothing() -> None:
    found = axis("compute.factors=[1, 2],[3]")
    assert found.values == ([1, 2], [3])
    assert axis("k='a,b',c").values == ("a,b", "c")
    assert axis("churn.offline = 0, 0.5").values == (0, 0.5)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        (["topologie=ring"], "--over topologie=ring: .*unknown key 'topologie', did you mean"),
        (["gossip.codek=int8"], r"unknown key 'node\.gossip\.codek', did you mean 'codec'"),
        (["nodes=4,many"], "--over nodes=many: .*'nodes' is 'many'"),
        (["nodes"], "--over nodes: expected KEY=VALUE,VALUE"),
        (["nodes=4,,8"], "expected KEY=VALUE,VALUE"),
        (["nodes=4,8,4"], "4 stands there twice"),
        (["nodes=4", "nodes=8"], "--over nodes is given twice"),
        (["task.size=4"], "'task.size' is in --over and in --set"),
        (["seed=1,2"], "give --seeds N"),
    ],
)
def test_a_mistaken_axis_is_named(file: Path, over: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        planned(str(file), over, ["task.size=5"])


def test_what_is_wrong_without_the_axes_is_no_fault_of_theirs(file: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'tsk'") as raised:
        planned(str(file), ["nodes=4"], ["tsk=1"])
    assert "--over" not in str(raised.value)


# --- the question -------------------------------------------------------------------------------


def test_words_and_seeds_do_not_change_the_question(file: Path) -> None:
    one = grid(file, "nodes=4,8")
    file.write_text(SCENARIO.replace("a ring", "another text"), encoding="utf-8")
    other = grid(file, "nodes=4,8", seeds=9, changes=["seed=100", 'topology="ring"'])
    assert one.digest == other.digest
    assert differences(one.question, other.question) == ""


def test_another_question_is_told_from_this_one(file: Path) -> None:
    one = grid(file, "nodes=4,8")
    assert differences(one.question, grid(file, "nodes=4,9").question) == (
        "--over was nodes=4,8, now it is nodes=4,9"
    )
    more = grid(file, "nodes=4,8", changes=["task.size=7"])
    assert differences(one.question, more.question) == "--set was nothing, now it is task.size=7"
    file.write_text(SCENARIO.replace("0.5", "0.4"), encoding="utf-8")
    changed = grid(file, "nodes=4,8")
    assert differences(one.question, changed.question) == f"{file} has changed since"
    older = {**one.question, "p2pfl": "0.0.1"}
    assert differences(older, one.question).startswith("it was made by p2pfl 0.0.1, this is")
    assert len({one.digest, more.digest, changed.digest}) == 3


def test_what_a_file_of_the_scenario_holds_is_part_of_the_question(file: Path) -> None:
    trace = file.parent / "steps.csv"
    trace.write_text("step_s\n0.1\n", encoding="utf-8")
    changes = ["compute.distribution=trace", "compute.trace=steps.csv"]
    one = grid(file, changes=changes)
    trace.write_text("step_s\n0.2\n", encoding="utf-8")
    other = grid(file, changes=changes)
    assert one.digest != other.digest
    assert differences(one.question, other.question) == f"{trace} has changed since"


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2
    [(1, 12.706), (4, 2.776), (19, 2.093), (30, 2.042), (31, 2.040), (60, 2.000), (100, 1.984)],
)
def test_quantiles_are_those_of_the_table(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, abs=6e-4)


def test_quantiles_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs scipy: pip install 'p2pfl-node[demo]'")
    for freedom in (*range(1, 60), 99, 499, 9999):
        assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-4)


def test_an_interval_of_known_numbers() -> None:
    found = estimate([5.0, 6.0, 7.0, 8.0, 9.0])
    assert (found.n, found.mean) == (5, 7.0)
    # 2.7764 · 1.5811 / √5
    assert found.half == pytest.approx(1.9632, abs=1e-4)
    assert estimate([4.0]).half is None
    assert estimate([4.0, 4.0]).half == 0.0
    assert estimate([4.0, math.inf]) == estimate([4.0, math.inf])
    assert (estimate([4.0, math.inf]).mean, estimate([4.0, math.inf]).half) == (math.inf, None)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.floats(-1e6, 1e6))
def test_an_interval_moves_with_its_values(values: list[float], by: float) -> None:
    one, other = estimate(values), estimate([value + by for value in values])
    assert one.half is not None and other.half is not None
    assert other.half == pytest.approx(one.half, rel=1e-6, abs=1e-6)
    assert other.mean == pytest.approx(one.mean + by, rel=1e-6, abs=1e-6)
    assert one.half == pytest.approx(
        student_t(len(values) - 1) * stdev(values) / len(values) ** 0.5
    )
    assert one.mean == fmean(values)


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.95312, 0.00412, "0.9531 ±0.0041"),
        (0.95312, 0.0412, "0.953 ±0.041"),
        (0.95312, None, "0.9531"),
        (0.5, 0.0, "0.5"),
        (44620.7, 983.8, "44,621 ±984"),
        (1.234e-6, 2.1e-8, "(1.234 ±0.021)e-6"),
        (0.0, 2.5, "0.0 ±2.5"),
        (0.0, 0.0, "0"),
        (math.inf, None, "inf"),
    ],
)
def test_a_figure_has_as_many_digits_as_its_interval_leaves(
    mean: float, half: float | None, text: str
) -> None:
    assert plus_minus(mean, half) == text


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12) | st.none())
def test_every_number_can_be_written(mean: float, half: float | None) -> None:
    assert plus_minus(mean, half)


# --- rows and tables ----------------------------------------------------------------------------


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


def test_the_rest_takes_as_long_as_its_cells_took(file: Path) -> None:
    sweep = grid(file, "nodes=4,8", seeds=3)
    small, large = sweep.cells
    assert left_s([], sweep.runs, 2) is None
    assert left_s([(small, 1.0), (large, 10.0), (small, 3.0)], sweep.runs[3:], 2) == 11.0
    assert left_s([(small, 1.0)], sweep.runs[1:3], 1) == 2.0


# --- the picture --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "over",
    [
        [],
        ["nodes=4,64"],
        ["nodes=4,8", "gossip.codec=float32,int8"],
        ["gossip.codec=float32,int8", "task.partition=iid,classes:2"],
        ["gossip.codec=float32,int8", "network.loss_probability=0,0.1,0.2", "nodes=4,8"],
    ],
)
def test_whatever_the_axes_there_is_a_picture(file: Path, over: list[str]) -> None:
    sweep = grid(file, *over, seeds=3)
    known = {
        run.id: answer(run, 10.0 ** (place % 4 - 2)) for place, run in enumerate(sweep.runs[:-1])
    }
    path = file.parent / "picture.png"
    draw(sweep, rows(sweep, known), path)
    assert imread(path).std() > 0.01


def test_a_sweep_of_which_nothing_came_has_a_picture_all_the_same(file: Path) -> None:
    sweep = grid(file, "nodes=4,8")
    path = file.parent / "picture.png"
    draw(sweep, rows(sweep, {}), path)
    assert path.read_bytes().startswith(b"\x89PNG")
