"""Whoever was away is away in the replay, in the same way."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.scenario.churning import schedule
from p2pfl.scenario.spec import Scenario, named
from tests.scenario.recording.made import Made, record, replayed


def done(scenario: Scenario) -> list[tuple[float, str, int]]:
    """All that is done to nodes, by time, whether a trace or an event says so."""
    horizon = scenario.duration.seconds
    assert horizon is not None
    by_trace = schedule(scenario, horizon, np.random.default_rng(0))
    found = [(action.at, str(action.what), action.node) for action in by_trace]
    for event in scenario.churn.events:
        for what in ("kill", "stop", "start"):
            if (who := getattr(event, what)) is not None:
                assert isinstance(who, tuple)
                if event.lost_state:
                    found += [(event.at, "wipe", place) for place in named(who, scenario.nodes)]
                found += [(event.at, what, place) for place in named(who, scenario.nodes)]
    return sorted(found, key=lambda action: action[0])


def test_a_kill_and_a_restart_are_replayed_from_the_checkpoint(tmp_path: Path) -> None:
    found = record(Made("a").lives(0, 30), Made("b").lives(0, 10).lives(14, 30))
    first, second = found.nodes[1].lives
    assert (first.ending, second.ending, second.resumed) == ("crashed", "present", True)
    scenario = replayed(found, tmp_path)
    assert scenario.churn.state == "checkpoint"
    assert [(what, node) for _, what, node in done(scenario)] == [("kill", 1), ("start", 1)]
    kill, start = (at for at, _, _ in done(scenario))
    assert kill == pytest.approx(10, abs=0.3)
    assert start == pytest.approx(14, abs=0.01)


def test_silence_before_the_others_end_is_a_crash_without_a_return(tmp_path: Path) -> None:
    found = record(Made("a").lives(0, 30), Made("b").lives(0, 20))
    assert found.nodes[1].lives[0].ending == "crashed"
    assert [what for _, what, _ in done(replayed(found, tmp_path))] == ["kill"]


def test_stopping_in_order_is_replayed_in_order_and_in_time_for_the_next_start(
    tmp_path: Path,
) -> None:
    scenario = replayed(
        record(Made("a").lives(0, 30), Made("b").lives(0, 10, stops=True).lives(11, 30)), tmp_path
    )
    assert scenario.churn.mode == "none"
    assert [what for _, what, _ in done(scenario)] == ["stop", "start"]
    stop, start = (at for at, _, _ in done(scenario))
    assert start == pytest.approx(11, abs=0.01)
    assert stop == pytest.approx(9.5, abs=0.01)


def test_everybody_told_to_stop_is_the_end_and_nothing_else(tmp_path: Path) -> None:
    found = record(Made("a").lives(0, 30, stops=True), Made("b").lives(0, 31.5, stops=True))
    assert found.seconds == pytest.approx(30)
    assert done(replayed(found, tmp_path)) == []


def test_a_lost_checkpoint_is_replayed_with_an_empty_disk(tmp_path: Path) -> None:
    dead = Made("b").lives(0, 15).lives(20, 40, resumed=False)
    scenario = replayed(record(Made("a").lives(0, 40), dead), tmp_path)
    assert [what for _, what, _ in done(scenario)] == ["kill", "wipe", "start"]


def test_a_crash_before_the_first_checkpoint_loses_nothing_that_was_there(tmp_path: Path) -> None:
    dead = Made("b").lives(0, 5).lives(8, 40, resumed=False)
    assert replayed(record(Made("a").lives(0, 40), dead), tmp_path).churn.state == "checkpoint"


def test_the_state_of_most_comebacks_is_the_rule_and_the_rest_are_events(tmp_path: Path) -> None:
    dead = Made("b").lives(0, 15).lives(20, 35).lives(40, 60).lives(64, 80, resumed=False)
    scenario = replayed(record(Made("a").lives(0, 80), dead), tmp_path)
    assert scenario.churn.state == "checkpoint"
    whats = [what for _, what, _ in done(scenario)]
    assert whats == ["kill", "start", "kill", "start", "kill", "wipe", "start"]
    assert [event.lost_state for event in scenario.churn.events] == [False, True]


def test_a_frozen_process_is_a_pause_and_no_absence(tmp_path: Path) -> None:
    frozen = Made("b").lives(0, 30, silent=(10, 16))
    found = record(Made("a").lives(0, 30), frozen)
    (gap,) = found.nodes[1].lives[0].gaps
    assert not gap.slept
    assert found.nodes[1].up_s == pytest.approx(24, abs=0.5)
    scenario = replayed(found, tmp_path)
    (fault,) = scenario.faults.events
    assert fault.pause == ("n2",)
    assert fault.at == pytest.approx(10, abs=0.3)
    assert fault.until == pytest.approx(16, abs=0.3)
    assert done(scenario) == []


def test_a_device_whose_own_clock_stood_still_slept(tmp_path: Path) -> None:
    asleep = Made("b").lives(0, 40, silent=(10, 30), asleep=True)
    found = record(Made("a").lives(0, 40), asleep)
    assert found.nodes[1].lives[0].gaps[0].slept
    scenario = replayed(found, tmp_path)
    assert scenario.churn.state == "kept"
    assert scenario.faults.events == ()
    assert [what for _, what, _ in done(scenario)] == ["pause", "resume"]


def test_sleep_that_is_not_the_rule_is_a_pause(tmp_path: Path) -> None:
    asleep = Made("b").lives(0, 60, silent=(10, 30), asleep=True)
    dead = Made("c").lives(0, 20).lives(25, 40).lives(45, 60)
    scenario = replayed(record(Made("a").lives(0, 60), asleep, dead), tmp_path)
    assert scenario.churn.state == "checkpoint"
    assert [fault.pause for fault in scenario.faults.events] == [("n2",)]


def test_a_late_one_is_absent_and_started(tmp_path: Path) -> None:
    late = Made("b").lives(8, 20).lives(24, 30)
    scenario = replayed(record(Made("a").lives(0, 30), late), tmp_path)
    assert scenario.churn.absent == ("n2",)
    assert [(round(at), what) for at, what, _ in done(scenario)] == [
        (8, "start"),
        (20, "kill"),
        (24, "start"),
    ]


def test_who_starts_within_a_second_of_the_first_is_there_from_the_beginning(
    tmp_path: Path,
) -> None:
    nodes = [Made(f"n-{at}").lives(at / 10, 20) for at in range(10)]
    assert replayed(record(*nodes), tmp_path).churn.absent is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(4, 20), st.integers(4, 20), st.booleans()), max_size=4),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 15), min_size=4, max_size=4),
)
def test_whoever_was_up_is_up_in_the_replay(
    plans: list[list[tuple[int, int, bool]]], begins: list[int]
) -> None:
    end = 200.0
    nodes = [Made("a").lives(0, end)]
    for number, plan in enumerate(plans):
        node, at = Made(f"b{number}"), float(begins[number])
        for up, away, stops in plan:
            node.lives(at, at + up, stops=stops)
            at += up + away
        nodes.append(node.lives(at, end))
    found = record(*nodes)
    with TemporaryDirectory() as folder:
        scenario = replayed(found, Path(folder))
        actions = done(scenario)
    absent = named(scenario.churn.absent or (), scenario.nodes)  # type: ignore[arg-type]
    for place, seen in enumerate(found.nodes):
        up: dict[float, bool] = {0.0: place not in absent}
        up |= {at: what == "start" for at, what, whom in actions if whom == place}
        for life in seen.lives:
            middle = (life.begin + life.end) / 2
            assert up[max(at for at in up if at <= middle)]
        for after in seen.lives[1:]:
            almost = after.begin - 0.1
            assert not up[max(at for at in up if at <= almost)]
        assert list(up.values()) == [n % 2 == (place in absent) for n in range(len(up))]
