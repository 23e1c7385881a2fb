"""Who is meant by names, numbers and shares."""

from __future__ import annotations

import math
from typing import Any

import pytest

from p2pfl.errors import ConfigError
from p2pfl.scenario.spec import named, names
from tests.scenario.spec.made import refused, scenario


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
