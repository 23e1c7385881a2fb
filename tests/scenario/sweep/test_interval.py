"""Means, their intervals, and how both are written."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.scenario.sweep import estimate, plus_minus, student_t


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
