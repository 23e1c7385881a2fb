"""Figures of a trace: what they are, when they are unknown, and what a bound on them means."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.scenario.spec import Expect
from p2pfl.scenario.trace import Mark, Presence
from p2pfl.scenario.verdicts import (
    figures,
    judged,
    mean_accuracy,
    nodewise,
    passed,
    recovery_s,
    up,
    worst_tenth,
)
from tests.scenario.traces import EXPECT, empty, made, made_scenario, without_accuracy


def test_every_expectation_that_can_be_written_has_a_figure() -> None:
    assert set(figures(made())) == set(Expect.model_fields)


def test_a_run_as_expected_passes() -> None:
    trace = made()
    verdicts = judged(trace)
    assert [one.name for one in verdicts] == list(EXPECT)
    assert all(one.held for one in verdicts)
    assert passed(verdicts, trace)


def test_one_missed_bound_fails_the_run() -> None:
    trace = made(scenario=made_scenario(expect=EXPECT | {"mean_accuracy": "> 0.99"}))
    verdicts = judged(trace)
    assert [one.name for one in verdicts if not one.held] == ["mean_accuracy"]
    assert not passed(verdicts, trace)


def test_a_death_fails_a_run_that_expected_nothing_of_it() -> None:
    trace = made(scenario=made_scenario(expect={}), deaths={"n01": "gone"})
    assert not passed(judged(trace), trace)
    asked = made(scenario=made_scenario(expect={"deaths": "<= 1"}), deaths={"n01": "gone"})
    assert passed(judged(asked), asked)


def test_what_was_not_measured_is_unknown_and_no_bound_on_it_holds() -> None:
    trace = without_accuracy()
    found = figures(trace)
    assert found["mean_accuracy"] is None
    assert found["recovery_s"] is None
    missed = {one.name for one in judged(trace) if not one.held}
    assert missed == {"mean_accuracy", "worst_tenth_accuracy", "recovery_s"}


def test_a_run_nobody_looked_at_has_no_figures_but_its_deaths() -> None:
    assert {name for name, value in figures(empty()).items() if value is not None} == {"deaths"}


def test_final_figures_are_means_over_the_last_share_of_the_run() -> None:
    accuracy = np.tile(np.linspace(0, 1, 11)[:, None], (1, 4))
    trace = made(
        4,
        11,
        10.0,
        accuracy=accuracy,
        marks=(),
        scenario=made_scenario(4, 10.0, measure={"last_share": 0.2}),
    )
    assert figures(trace)["mean_accuracy"] == pytest.approx((0.8 + 0.9 + 1.0) / 3)


def test_models_that_ran_away_are_not_left_out_of_the_consensus_distance() -> None:
    distance = np.full(100, 1.0)
    distance[95:] = np.inf
    verdict = {one.name: one for one in judged(made(distance=distance))}["consensus_distance"]
    assert verdict.value == math.inf
    assert not verdict.held


def test_nodes_that_are_not_up_do_not_count() -> None:
    accuracy = np.array([[0.2, np.nan, 0.4], [np.nan, np.nan, np.nan]])
    trace = made(3, 2, marks=(), accuracy=accuracy)
    np.testing.assert_allclose(mean_accuracy(trace), [0.3, np.nan])
    presence = np.array([[1, 2, 3], [0, 1, 1]], np.int8)
    assert up(replace(trace, presence=presence)).tolist() == [1.0, 2.0]


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=40))
def test_the_worst_tenth_is_between_the_minimum_and_the_mean(values: list[float]) -> None:
    row = np.array([values])
    found = worst_tenth(row)[0]
    known = row[~np.isnan(row)]
    if not len(known):
        assert math.isnan(found)
    else:
        assert known.min() - 1e-12 <= found <= known.mean() + 1e-12
        assert found == pytest.approx(np.sort(known)[: max(1, round(len(known) / 10))].mean())


def test_a_statistic_over_nobody_is_unknown() -> None:
    found = nodewise(np.nanmean, np.array([[np.nan, np.nan], [1.0, np.nan]]))
    np.testing.assert_array_equal(found, [np.nan, 1.0])


# --- recovery -----------------------------------------------------------------------------------


def recovered(accuracy: list[float], *marks: Mark) -> float | None:
    """Of two nodes that are looked at once a second."""
    looks = len(accuracy)
    both = np.tile(np.array(accuracy)[:, None], (1, 2))
    return recovery_s(made(2, looks, looks - 1.0, churn=0, accuracy=both, marks=tuple(marks)))


def test_recovery_is_from_the_end_of_a_fault_until_accuracy_was_what_it_had_been() -> None:
    fault = Mark(1.0, 3.0, "partition", (), "partition")
    assert recovered([0.8, 0.8, 0.5, 0.5, 0.6, 0.795, 0.8], fault) == 2.0


def test_recovery_is_the_longest_of_all_faults() -> None:
    first, second = Mark(0.0, 1.0, "a", (), "pause"), Mark(2.0, None, "b", (), "kill")
    assert recovered([0.8, 0.8, 0.8, 0.1, 0.8], first, second) == 2.0
    assert recovered([0.8, 0.1, 0.8, 0.8, 0.8], first, second) == 1.0


def test_accuracy_that_does_not_come_back_has_recovered_never() -> None:
    assert recovered([0.8, 0.8, 0.5, 0.5], Mark(1.0, 2.0, "a", (), "kill")) == math.inf


def test_without_a_fault_there_is_no_recovery_to_measure() -> None:
    assert recovered([0.8, 0.8], Mark(1.0, None, "n3 joins", (), "start")) is None


def test_a_builder_of_traces_keeps_its_promises() -> None:
    trace = made(1000, 50)
    gone = trace.presence != Presence.UP
    assert gone.any()
    assert np.isnan(trace.accuracy[gone]).all()
    assert np.isfinite(trace.accuracy[~gone]).all()
