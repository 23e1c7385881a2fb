"""What a bound means, and what is none."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pfl.scenario.spec import Bound, Expect


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
