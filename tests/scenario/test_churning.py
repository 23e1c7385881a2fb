"""Who comes and goes: shares that are right, files that are read, and the same for every engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import ConfigError
from p2pfl.scenario.churning import ChurnAction, absent, chosen, schedule
from p2pfl.scenario.spec import Scenario, names


def scenario(nodes: int = 4, **churn: Any) -> Scenario:
    return Scenario.model_validate(
        {"nodes": nodes, "duration": {"seconds": 1000.0}, "churn": churn}
    )


def planned(
    given: Scenario, horizon_s: float = 1000.0, seed: int = 1
) -> list[tuple[float, str, int]]:
    found = schedule(given, horizon_s, np.random.default_rng(seed))
    return [(action.at, action.what, action.node) for action in found]


def absences(given: Scenario, horizon_s: float) -> list[list[tuple[float, float]]]:
    """From when until when each node is away."""
    found: list[list[tuple[float, float]]] = [[] for _ in range(given.nodes)]
    left: dict[int, float] = {}
    for at, what, node in planned(given, horizon_s):
        if what in ("kill", "pause"):
            assert node not in left, "it left twice"
            left[node] = at
        elif what in ("start", "resume"):
            found[node].append((left.pop(node), at))
    for node, at in left.items():
        found[node].append((at, horizon_s))
    return found


def share_away(given: Scenario, begin: float, end: float) -> float:
    away = sum(
        max(0.0, min(until, end) - max(since, begin))
        for of_node in absences(given, end)
        for since, until in of_node
    )
    return away / (given.nodes * (end - begin))


def test_without_churn_nothing_happens() -> None:
    assert planned(scenario()) == []
    assert planned(scenario(mode="on-off", offline=0.0)) == []
    assert planned(scenario(mode="diurnal", offline=0.0)) == []


@pytest.mark.parametrize("offline", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("state", ["kept", "checkpoint", "lost"])
def test_on_off_keeps_the_stated_share_away(offline: float, state: str) -> None:
    given = scenario(400, mode="on-off", offline=offline, session_s=20.0, state=state)
    # 400 nodes, 1000 s, means of tens of seconds: standard error below 0.004
    assert share_away(given, 200.0, 1200.0) == pytest.approx(offline, abs=0.015)


def test_on_off_sessions_have_the_stated_mean_and_begin_with_everybody_there() -> None:
    given = scenario(500, mode="on-off", offline=0.3, session_s=20.0)
    found = absences(given, 2000.0)
    firsts = np.array([of_node[0][0] for of_node in found])
    assert firsts.mean() == pytest.approx(20.0, rel=0.15)
    assert firsts.min() < 1.0
    away = [until - since for of_node in found for since, until in of_node[:-1]]
    assert np.mean(away) == pytest.approx(20.0 * 0.3 / 0.7, rel=0.05)
    # exponential: the standard deviation equals the mean
    assert np.std(away) == pytest.approx(np.mean(away), rel=0.05)


def test_at_any_hour_of_the_day_the_stated_chance_of_being_away_holds() -> None:
    given = scenario(4000, mode="diurnal", offline=0.5, period_s=100.0)
    found = absences(given, 300.0)
    for at in (0.0, 25.0, 50.0, 90.0, 125.0, 250.0):
        away = sum(any(a <= at < b for a, b in of_node) for of_node in found) / 4000
        expected = 0.5 * (1 - math.cos(2 * math.pi * at / 100.0)) / 2
        assert away == pytest.approx(expected, abs=0.03), at


def test_every_state_has_its_own_way_of_coming_back() -> None:
    for state, whats in {
        "kept": ["pause", "resume"],
        "checkpoint": ["kill", "start"],
        "lost": ["kill", "wipe", "start"],
    }.items():
        found = planned(scenario(1, mode="on-off", state=state), horizon_s=500.0)
        whole = len(found) // len(whats) * len(whats)
        assert [what for _, what, _ in found[:whole]] == whats * (whole // len(whats)), state
        assert whole >= len(whats)


def test_the_stated_share_of_comebacks_forgets() -> None:
    given = scenario(300, mode="on-off", state="kept", amnesia=0.25)
    whats = [what for _, what, _ in planned(given, horizon_s=2000.0)]
    wiped, resumed = whats.count("wipe"), whats.count("resume")
    assert wiped / (wiped + resumed) == pytest.approx(0.25, abs=0.02)
    assert whats.count("start") == wiped


def test_nobody_leaves_before_the_beginning_or_after_the_end_and_all_return() -> None:
    given = scenario(100, mode="on-off", begins_s=100.0, ends_s=200.0, session_s=5.0)
    found = planned(given, horizon_s=1000.0)
    assert found[0][0] >= 100.0
    assert found[-1][0] == 200.0
    assert all(what != "kill" for at, what, _ in found if at >= 200.0)
    assert all(until <= 200.0 for of_node in absences(given, 1000.0) for _, until in of_node)


def test_who_is_away_at_the_beginning_by_the_hour_leaves_then() -> None:
    given = scenario(300, mode="diurnal", offline=0.9, period_s=100.0, begins_s=50.0)
    found = absences(given, 100.0)
    leaving = [of_node[0][0] for of_node in found if of_node]
    assert min(leaving) == 50.0
    assert sum(at == 50.0 for at in leaving) / 300 == pytest.approx(0.9, abs=0.06)


@given(horizon=st.floats(1.0, 400.0), longer=st.floats(1.0, 400.0), seed=st.integers(0, 99))
@pytest.mark.parametrize("mode", ["on-off", "diurnal"])
def test_a_longer_run_has_the_same_beginning(
    mode: str, horizon: float, longer: float, seed: int
) -> None:
    given = scenario(5, mode=mode, session_s=15.0, period_s=40.0, amnesia=0.5)
    short, long = (planned(given, h, seed) for h in (horizon, horizon + longer))
    assert short == [action for action in long if action[0] < horizon]
    assert short == planned(given, horizon, seed)
    assert [at for at, _, _ in short] == sorted(at for at, _, _ in short)


def test_another_seed_is_another_story() -> None:
    given = scenario(mode="on-off")
    assert planned(given, seed=1) != planned(given, seed=2)


# --- traces -------------------------------------------------------------------------------------


def traced(tmp_path: Path, text: str, **churn: Any) -> list[tuple[float, str, int]]:
    path = tmp_path / "phones.csv"
    path.write_text(text)
    return planned(scenario(3, mode="trace", trace=str(path), **churn))


def test_a_trace_is_played_as_it_stands(tmp_path: Path) -> None:
    text = "node,at,up\nn2,30,1\nn2, 10, 0\nn2,12,0\n3,0,0\nn1,5,1\n3,20.5,1\nn2,40,0\n"
    assert traced(tmp_path, text) == [
        (0.0, "kill", 2),
        (10.0, "kill", 1),
        (20.5, "start", 2),
        (30.0, "start", 1),
        (40.0, "kill", 1),
    ]


def test_a_trace_too_keeps_within_the_bounds(tmp_path: Path) -> None:
    text = "node,at,up\n1,0,0\n1,5,1\n2,8,0\n2,50,1\n3,60,0\n"
    assert traced(tmp_path, text, begins_s=10.0, ends_s=40.0, state="kept") == [
        (10.0, "pause", 1),
        (40.0, "resume", 1),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node,at\n1,2\n", "has no column 'up', its first line is node, at"),
        ("node,at,up\n", "has no line below the first"),
        ("node,at,up\nn9,1,0\n", r"line 2: node 'n9' is not within n1 \.\. n3"),
        ("node,at,up\nbob,1,0\n", "line 2: node 'nbob' names nobody"),
        ("node,at,up\n1,1,0\n1,soon,1\n", "line 3: at is 'soon', expected a number >= 0"),
        ("node,at,up\n1,-1,0\n", "line 2: at is '-1', expected a number >= 0"),
        ("node,at,up\n1,1,yes\n", "line 2: up is 'yes', expected 0 or 1"),
        ("node,at,up\n1,1\n", "line 2: too short, expected node, at, up"),
    ],
)
def test_what_is_wrong_in_a_trace_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        traced(tmp_path, text)


def test_a_trace_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read: No such file"):
        planned(scenario(mode="trace", trace="none.csv"))


# --- who is meant -------------------------------------------------------------------------------


def meant(who: Any, up: list[int], seed: int = 0, nodes: int = 10) -> list[int]:
    return chosen(who, names(nodes), up, np.random.default_rng(seed))


def test_names_mean_exactly_these_whether_up_or_not() -> None:
    assert meant(("n7", "n2-n4"), up=[0]) == [1, 2, 3, 6]
    assert meant(("all",), up=[]) == list(range(10))


def test_numbers_and_shares_are_drawn_among_those_who_are_up() -> None:
    up = [1, 3, 5, 7, 9]
    assert meant(2, up) != meant(2, up, seed=1) or meant(2, up) != meant(2, up, seed=2)
    for seed in range(20):
        assert set(meant(2, up, seed)) < set(up)
        assert len(meant(2, up, seed)) == 2
        assert len(meant(0.4, up, seed)) == 2
    assert meant(99, up, nodes=100) == meant(1.0, up) == up
    assert len(meant(0.01, up)) == 1
    assert meant(0.5, up=[]) == meant(3, up=[]) == []


def test_names_ask_no_chance() -> None:
    rng = np.random.default_rng(5)
    chosen(("n1",), names(3), [0, 1], rng)
    assert rng.random() == np.random.default_rng(5).random()


@pytest.mark.parametrize(
    ("who", "places"), [(None, []), (2, [4, 5]), (0.5, [3, 4, 5]), (["n2", "n4"], [1, 3])]
)
def test_those_who_come_later_are_the_last_ones_unless_named(who: Any, places: list[int]) -> None:
    assert absent(scenario(6, absent=who)) == places


def test_somebody_must_be_there_at_the_beginning() -> None:
    with pytest.raises(ConfigError, match="all 4 nodes, at least one must be there"):
        absent(scenario(4, absent=["all"]))


def test_actions_are_plain_values() -> None:
    assert ChurnAction(1.0, "kill", 0) == ChurnAction(1.0, "kill", 0)
