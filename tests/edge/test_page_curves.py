from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2pfl.edge.page.curves import BUDGET, POINTS, Curve, Curves

NUMBERS = st.none() | st.floats(-1e6, 1e6)


def filled(count: int, limit: int) -> list[int]:
    """What is left of so many points that were numbered."""
    curve = Curve()
    for at in range(count):
        curve.add(at + 1, b"%d" % at, limit)
        assert len(curve) <= limit
    found: list[int] = json.loads(b"[%s]" % curve.json())
    return found


def told(curves: Curves, since: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(curves.json(since))
    return found


@given(st.integers(1, 2000), st.integers(2, 50))
def test_a_curve_never_keeps_more_than_its_limit_and_always_its_ends(
    count: int, limit: int
) -> None:
    left = filled(count, limit)
    assert (left[0], left[-1]) == (0, count - 1)
    assert len(left) <= limit + 1


@given(st.integers(3, 2000), st.integers(4, 50))
def test_what_is_kept_spreads_evenly_over_the_whole_time(count: int, limit: int) -> None:
    left = filled(count, limit)
    gaps = [after - before for before, after in pairwise(left)]
    assert len(set(gaps[:-1])) <= 1
    assert len(left) >= min(count, limit // 2)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_points_come_back_as_they_were_and_gaps_as_gaps(values: list[tuple[float, float]]) -> None:
    curves = Curves()
    for at, (accuracy, loss) in enumerate(values):
        curves.node("a", float(at), accuracy, loss)
    for at, (point, meant) in enumerate(zip(told(curves)["nodes"]["a"], values, strict=True)):
        assert point[0] == at
        for shown, value in zip(point[1:], meant, strict=True):
            assert shown is value is None or math.isclose(shown, value, rel_tol=6e-5)


def test_what_is_no_number_is_a_gap() -> None:
    curves = Curves()
    curves.node("a", 1.0, math.nan, math.inf)
    assert told(curves)["nodes"] == {"a": [[1.0, None, None]]}


def test_only_what_is_newer_is_told_again() -> None:
    curves = Curves()
    curves.node("a", 1.0, 0.5, 1.0)
    curves.swarm(1.0, 0.5, 0.4, 2.0)
    seen = curves.serial
    assert told(curves, seen) == {"nodes": {}, "swarm": []}
    curves.node("b", 2.0, 0.6, None)
    assert told(curves, seen) == {"nodes": {"b": [[2.0, 0.6, None]]}, "swarm": []}
    curves.swarm(3.0, 0.5, 0.4, 2.0)
    assert told(curves, seen)["swarm"] == [], "the same figures again are no point"
    curves.swarm(4.0, None, 0.4, 2.0)
    assert told(curves, seen)["swarm"] == [[4.0, None, 0.4, 2.0]]
    curves.swarm(5.0, None, 0.4, 2.0)
    assert len(told(curves)["swarm"]) == 2


def test_a_thousand_curves_take_no_more_than_their_budget() -> None:
    curves = Curves()
    for at in range(60):
        for node in range(1000):
            curves.node(f"{node:032x}", float(at), 0.5, 0.1)
    assert sum(len(points) for points in told(curves)["nodes"].values()) <= BUDGET + 1000


def test_one_curve_has_at_most_four_hundred_points() -> None:
    curves = Curves()
    for at in range(5000):
        curves.node("a", float(at), 0.5, 0.1)
    assert POINTS / 2 <= len(told(curves)["nodes"]["a"]) <= POINTS


def test_curves_of_those_who_are_gone_are_forgotten() -> None:
    curves = Curves()
    for node in "abc":
        curves.node(node, 1.0, 0.5, 1.0)
    curves.forget_all_but({"b"})
    assert list(curves) == ["b"]
