"""The picture: gaps stay gaps, and it can be drawn of anything that was recorded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.scenario.chart import draw, with_gaps
from p2pfl.scenario.record import Happening, Record, What
from tests.scenario.made import made_plan, made_record

POINTS = st.lists(
    st.tuples(st.integers(0, 300), st.floats(0, 1)), min_size=1, unique_by=lambda p: p[0]
)


@given(POINTS)
def test_every_point_stays_and_only_long_pauses_are_broken(
    points: list[tuple[float, float]],
) -> None:
    points.sort()
    at, values = with_gaps(points)
    kept = ~np.isnan(values)
    assert list(zip(at[kept], values[kept], strict=True)) == points
    pauses = [after[0] - before[0] for before, after in pairwise(points)]
    assert (~kept).sum() == sum(pause > 3 for pause in pauses)
    assert (np.diff(at) > 0).all()


def drawn(record: Record, path: Path) -> bytes:
    draw(record, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "record",
    [
        made_record(),
        made_record(looks={}, history=[], local=None),
        made_record(made_plan(nodes=20)),
        made_record(made_plan(with_faults=False), happenings=[]),
        made_record(happenings=[Happening(20.0, "node-3", What.DIED, "gone")]),
    ],
    ids=["usual", "nothing seen", "many nodes", "no faults", "a death"],
)
def test_a_picture_is_drawn_of_any_record(record: Record, tmp_path: Path) -> None:
    assert drawn(record, tmp_path / "a.png").startswith(b"\x89PNG\r\n\x1a\n")


def test_a_fault_and_the_local_only_level_leave_their_mark(tmp_path: Path) -> None:
    record = made_record()
    usual = drawn(record, tmp_path / "a.png")
    assert drawn(replace(record, local=None), tmp_path / "b.png") != usual
    assert drawn(replace(record, happenings=[]), tmp_path / "c.png") != usual
    assert drawn(record, tmp_path / "d.png") == usual
