"""There is a picture, whatever came of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from p2pfl.scenario.sweep import draw, rows
from tests.scenario.sweep.made import answer, grid


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
