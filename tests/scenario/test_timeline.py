"""The demo's faults: never two at once, time to recover, and somebody who is never hit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import ConfigError
from p2pfl.scenario.timeline import Action, Role, faults, roles

LENGTHS = st.floats(1.0, 3600.0)
COUNTS = st.integers(2, 40)


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


@given(COUNTS, LENGTHS)
def test_no_fault_begins_before_the_one_before_it_was_ended(count: int, seconds: float) -> None:
    actions = [step.action for step in faults(names(count), "late", seconds)]
    assert actions == [Action.KILL, Action.RESTART, Action.JOIN, Action.FREEZE, Action.THAW]


@given(COUNTS, LENGTHS)
def test_steps_are_in_order_of_time_and_leave_the_last_third_to_recover(
    count: int, seconds: float
) -> None:
    times = [step.at for step in faults(names(count), "late", seconds)]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] <= 0.7 * seconds


@given(COUNTS, LENGTHS)
def test_what_is_killed_is_restarted_and_what_is_frozen_is_thawed(
    count: int, seconds: float
) -> None:
    of = {step.action: step.node for step in faults(names(count), "late", seconds)}
    assert of[Action.KILL] == of[Action.RESTART]
    assert of[Action.FREEZE] == of[Action.THAW]
    assert of[Action.JOIN] == "late"


@given(COUNTS, LENGTHS)
def test_at_least_one_of_the_first_nodes_survives_untouched(count: int, seconds: float) -> None:
    everybody = [*names(count), "late"]
    found = roles(everybody, faults(names(count), "late", seconds))
    assert list(found) == everybody
    assert found["n0"] is Role.SURVIVOR
    assert found["late"] is Role.LATE
    hit = [name for name, role in found.items() if role is not Role.SURVIVOR]
    assert len(hit) == min(count, 3)


def test_a_node_is_frozen_for_ten_seconds_in_a_run_of_forty_five() -> None:
    freeze, thaw = faults(names(5), "late", 45.0)[-2:]
    assert thaw.at - freeze.at == pytest.approx(10.0)


@given(st.floats(45.0, 3600.0))
def test_a_longer_run_does_not_freeze_anybody_for_longer(seconds: float) -> None:
    freeze, thaw = faults(names(5), "late", seconds)[-2:]
    assert thaw.at - freeze.at == pytest.approx(10.0)


def test_without_faults_everybody_is_a_survivor() -> None:
    assert set(roles(names(3), ()).values()) == {Role.SURVIVOR}


def test_one_node_is_no_swarm() -> None:
    with pytest.raises(ConfigError, match="1 nodes are no swarm, at least 2"):
        faults(["n0"], "late", 45.0)


def test_a_run_takes_time() -> None:
    with pytest.raises(ConfigError, match="seconds is 0"):
        faults(names(3), "late", 0.0)
