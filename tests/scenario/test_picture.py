"""The picture: drawn of any trace, the same of the same one, and marks leave their mark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.scenario.picture import draw
from p2pfl.scenario.trace import Mark, Trace
from tests.scenario.traces import empty, made, made_scenario, without_accuracy


def drawn(trace: Trace, path: Path) -> bytes:
    draw(trace, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "trace",
    [
        made(),
        made(1000, 50),
        made(1, 2, marks=()),
        empty(),
        without_accuracy(),
        made(scenario=made_scenario(topology="$x$ ^_", description="$")),
        made(marks=tuple(Mark(i / 2, i / 2 + 9, f"${i}$ " * 20, (), "kill") for i in range(300))),
    ],
    ids=["usual", "many", "one node", "nobody looked", "nothing learnt", "dollars", "many marks"],
)
def test_a_picture_is_drawn_of_any_trace(trace: Trace, tmp_path: Path) -> None:
    assert drawn(trace, tmp_path / "a.png").startswith(b"\x89PNG\r\n\x1a\n")


def test_the_same_trace_is_the_same_picture_and_a_mark_changes_it(tmp_path: Path) -> None:
    trace = made()
    usual = drawn(trace, tmp_path / "a.png")
    assert drawn(trace, tmp_path / "b.png") == usual
    assert drawn(replace(trace, marks=trace.marks[1:]), tmp_path / "c.png") != usual
    renamed = (replace(trace.marks[0], text="something else"), *trace.marks[1:])
    assert drawn(replace(trace, marks=renamed), tmp_path / "d.png") != usual
