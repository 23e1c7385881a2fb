"""Scenarios as data: who is meant, what is bounded, and what belongs together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pfl.errors import ConfigError
from p2pfl.scenario.spec import FAULTS, Bound, Expect, FaultEvent, Scenario, named, names


def scenario(**values: Any) -> Scenario:
    whole = {"nodes": 12, "duration": {"seconds": 10.0}}
    return Scenario.model_validate(whole | values)


def refused(words: str, **values: Any) -> None:
    with pytest.raises(ValidationError) as found:
        scenario(**values)
    assert words in str(found.value)


# --- who ----------------------------------------------------------------------------------------


def test_names_sort_by_number() -> None:
    assert names(3) == ("n1", "n2", "n3")
    assert names(12)[:2] == ("n01", "n02")
    assert list(names(120)) == sorted(names(120))
    assert scenario().names == names(12)


@pytest.mark.parametrize(
    ("who", "places"),
    [
        (["n1"], [0]),
        (["n01", "n1"], [0]),
        (["n3-n5"], [2, 3, 4]),
        (["n3-5"], [2, 3, 4]),
        (["n5", "n1-n2", "n2"], [4, 0, 1]),
        (["all"], list(range(12))),
        (["n12-n12"], [11]),
    ],
)
def test_names_and_ranges_mean_places_in_order_each_once(who: list[str], places: list[int]) -> None:
    assert named(who, 12) == places


@pytest.mark.parametrize("who", ["n0", "n13", "n5-n3", "n12-n13", "n0-n1"])
def test_who_is_not_there_is_named(who: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{who}' is not within n1 .. n12"):
        named([who], 12)


@pytest.mark.parametrize("who", [0.3, 1.0, 1, 12, "n3", ["n3", "n5-n8"], "all"])
def test_a_share_a_number_and_names_are_somebody(who: Any) -> None:
    assert scenario(churn={"absent": who}).churn.absent is not None


@pytest.mark.parametrize(
    ("who", "words"),
    [
        (0.0, "a share is > 0 and <= 1, not 0"),
        (1.01, "a share is > 0 and <= 1, not 1.01"),
        (-1, "a number of nodes is >= 1, not -1"),
        (13, "13 nodes are meant, there are 12"),
        (True, "expected a share"),
        (None, ""),
        ([], "expected a share"),
        ([1, 2], "expected a share"),
        ({"n1": 1}, "expected a share"),
        ("node-1", "'node-1' names nobody"),
        (["n1", "m2"], "'m2' names nobody"),
        ("n99", "'n99' is not within n1 .. n12"),
        (math.nan, "a share is > 0 and <= 1"),
    ],
)
def test_whoever_is_nobody_is_refused_in_one_sentence(who: Any, words: str) -> None:
    events = [{"at": 1.0, "kill": who}]
    refused(words, churn={"events": events})


@pytest.mark.parametrize(
    "values",
    [
        {"churn": {"absent": ["n13"]}},
        {"faults": {"events": [{"at": 1, "partition": [["n1"], ["n13"]]}]}},
        {"faults": {"events": [{"at": 1, "one_way": [["n13"], 1]}]}},
        {"faults": {"events": [{"at": 1, "until": 2, "hold": [1, ["n13"]]}]}},
        {"faults": {"events": [{"at": 1, "torn": "n13"}]}},
        {"network": {"nodes": [{"who": "n13"}]}},
        {"network": {"links": [{"from": 1, "to": "n13"}]}},
    ],
)
def test_every_place_where_somebody_is_meant_is_checked(values: dict[str, Any]) -> None:
    refused("'n13' is not within n1 .. n12", **values)


# --- events -------------------------------------------------------------------------------------


def test_one_island_is_enough_and_may_be_a_share() -> None:
    for island in (0.5, 3, "n1-n4"):
        event = FaultEvent.model_validate({"at": 1, "partition": island})
        assert event.partition is not None
        assert len(event.partition) == 1


@pytest.mark.parametrize("kind", FAULTS)
def test_an_event_is_of_one_kind(kind: str) -> None:
    pair = kind in ("one_way", "hold")
    values: dict[str, Any] = {"at": 1.0, kind: [1, 2] if pair else 1}
    if kind not in ("torn", "clock_jump"):
        values["until"] = 2.0
    assert FaultEvent.model_validate(values).kind == kind
    other = next(one for one in ("pause", "torn") if one != kind)
    with pytest.raises(ValidationError, match=f"exactly one of .* is needed, .*{kind}.* given"):
        FaultEvent.model_validate({**values, other: 1})


@pytest.mark.parametrize("kind", ["torn", "clock_jump"])
def test_what_happens_at_one_moment_has_no_end(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"{kind} happens at one moment, it has no 'until'"):
        FaultEvent.model_validate({"at": 1.0, "until": 2.0, kind: 1})


@pytest.mark.parametrize("key", ["run", "name", "topology"])
def test_what_nodes_are_given_cannot_be_set_for_them(key: str) -> None:
    node = {key: "ring"}
    values = {"nodes": 3, "duration": {"cycles": 1}, "node": node}
    with pytest.raises(ValidationError, match=f"'{key}' cannot be set for nodes"):
        Scenario.model_validate(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"churn": {"events": [{"at": 1}]}}, "exactly one of kill, stop, start is needed, none"),
        ({"churn": {"events": [{"at": 1, "kill": 1, "stop": 1}]}}, "kill and stop given"),
        ({"churn": {"events": [{"at": -1, "kill": 1}]}}, "greater than or equal to 0"),
        ({"churn": {"events": [{"at": 11, "kill": 1}]}}, "an event at 11 s comes after the end"),
        ({"churn": {"mode": "trace"}}, "need each other"),
        ({"churn": {"trace": "x.csv"}}, "need each other"),
        ({"compute": {"distribution": "trace"}}, "need each other"),
        ({"compute": {"factors": [1.0]}}, "need each other"),
        ({"compute": {"step_s": 0}}, "greater than 0"),
        ({"compute": {"step_s": math.inf}}, "finite"),
        ({"faults": {"corrupt_probability": 1.0}}, "less than 1"),
        ({"duration": {}}, "exactly one of 'cycles' and 'seconds'"),
        ({"duration": {"cycles": 0}}, "greater than or equal to 1"),
        ({"name": "a b"}, "match pattern"),
        ({"name": "x" * 41}, "at most 40"),
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"nodes": 100_001}, "less than or equal to 100000"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"adversary": {"share": 0.1}}, "Extra inputs"),
        ({"measure": {"samples": 1}}, "greater than or equal to 2"),
    ],
)
def test_what_is_out_of_bounds_or_alone_is_refused(values: dict[str, Any], words: str) -> None:
    refused(words, **values)


def test_a_scenario_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        scenario().nodes = 5  # type: ignore[misc]


# --- bounds -------------------------------------------------------------------------------------


@given(st.sampled_from([">=", "<=", ">", "<"]), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_bound_means_what_it_says(sign: str, value: float, measured: float) -> None:
    bound = Bound.model_validate(f" {sign}{value!r} ")
    assert (bound.sign, bound.value) == (sign, value)
    expected = {
        ">=": measured >= value,
        "<=": measured <= value,
        ">": measured > value,
        "<": measured < value,
    }
    assert bound.holds(measured) is expected[sign]


def test_what_could_not_be_measured_keeps_no_bound() -> None:
    for sign in (">=", "<="):
        bound = Bound.model_validate(f"{sign} 0")
        assert not bound.holds(None)
        assert not bound.holds(math.nan)
    assert not Bound.model_validate("<= 5").holds(math.inf)


@pytest.mark.parametrize(
    "text", ["0.5", "= 5", "=> 5", ">= five", ">= 1 2", "", ">=", 5, None, [1]]
)
def test_what_is_no_bound_says_what_one_is(text: Any) -> None:
    with pytest.raises(ValidationError, match="expected a bound such as"):
        Bound.model_validate(text)


def test_a_bound_is_never_infinite_or_nothing() -> None:
    for text in (">= 1e999", "<= -1e999"):
        with pytest.raises(ValidationError):
            Bound.model_validate(text)


def test_only_what_was_given_is_expected() -> None:
    assert Expect().bounds() == {}
    found = Expect.model_validate({"pending": "< 3", "mean_accuracy": ">= 0.9"}).bounds()
    assert {name: str(bound) for name, bound in found.items()} == {
        "mean_accuracy": ">= 0.9",
        "pending": "< 3",
    }
