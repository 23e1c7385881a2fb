"""Whether two sweeps ask the same."""

from __future__ import annotations

from pathlib import Path

from p2pfl.scenario.sweep import differences
from tests.scenario.sweep.made import SCENARIO, grid


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
