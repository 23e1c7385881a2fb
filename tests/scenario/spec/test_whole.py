"""What is bounded in a scenario, and what belongs together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from p2pfl.scenario.spec import Scenario
from tests.scenario.spec.made import refused, scenario


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
