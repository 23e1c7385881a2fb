"""K follows the measured time of a step, PROTOCOL section 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.config import TrainConfig
from p2pfl.core.pace import Pace


def pace(**options: float) -> Pace:
    return Pace(TrainConfig(**options))


def test_the_first_cycle_is_one_step_to_measure():
    assert pace().steps == 1


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [(0.001, 20), (0.005, 20), (0.0051, 20), (0.01, 10), (0.03, 3), (0.04, 2), (0.1, 1), (9.0, 1)],
)
def test_k_is_the_target_over_the_time_of_a_step_rounded_and_clamped(step_s, expected):
    found = pace(cycle_target_s=0.1, steps_max=20)
    found.took(4, 4 * step_s)
    assert found.steps == expected


def test_steps_too_fast_for_the_clock_are_the_most_allowed():
    found = pace(steps_max=50)
    found.took(1, 0.0)
    assert found.steps == 50


def test_devices_of_unequal_speed_take_similar_time_for_a_cycle():
    slow, fast = pace(cycle_target_s=0.2), pace(cycle_target_s=0.2)
    slow.took(1, 0.1)
    fast.took(1, 0.01)
    assert (slow.steps, fast.steps) == (2, 20)
    assert slow.steps * 0.1 == pytest.approx(fast.steps * 0.01)


def test_a_cold_first_cycle_is_forgotten_with_the_second():
    found = pace(cycle_target_s=0.1, steps_max=20)
    found.took(1, 2.0)
    assert found.steps == 1
    found.took(1, 0.005)
    assert found.steps == 20


def test_one_cycle_that_was_held_up_later_on_lowers_k_but_does_not_decide_it():
    found = pace(cycle_target_s=0.1, steps_max=20)
    for seconds in (0.01, 0.01, 0.02):
        found.took(1, seconds)
    assert found.steps == 8
    for _ in range(10):
        found.took(1, 0.01)
    assert found.steps == 10


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1e6)), max_size=20))
def test_k_is_always_between_one_and_the_most_allowed(cycles):
    found = pace(steps_max=7)
    for steps, seconds in cycles:
        found.took(steps, seconds)
        assert 1 <= found.steps <= 7
        assert isinstance(found.steps, int)


def test_a_cycle_waits_for_what_is_missing_to_its_least_time():
    assert pace(cycle_min_s=0.1).pause(0.03) == pytest.approx(0.07)
    assert pace(cycle_min_s=0.1).pause(0.3) == 0
    assert pace(cycle_min_s=0).pause(0.0) == 0
