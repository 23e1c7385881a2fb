"""TOML that somebody wrote: plain values, or one sentence about what is wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import ConfigError
from p2pfl.toml import DEPTH_MAX, parsed


def test_text_and_bytes_give_the_same_values() -> None:
    text = 'name = "Küche"\n[a.b]\nc = [1, 2.5, true]\nd = 2020-01-01\n'
    assert parsed(text) == parsed(text.encode())
    assert parsed(text)["a"]["b"]["c"] == [1, 2.5, True]


def test_integers_of_64_bits_are_taken_and_no_longer_ones() -> None:
    assert parsed(f"a = {2**63 - 1}\nb = {-(2**63)}") == {"a": 2**63 - 1, "b": -(2**63)}
    assert math.isinf(parsed("a = inf")["a"])
    for value in (2**63, -(2**63) - 1):
        with pytest.raises(ConfigError, match=r"'a.b' is an integer of 64 bits, expected -2\^63"):
            parsed(f"[a]\nb = [{value}]")
    with pytest.raises(ConfigError, match=r"'a' is an integer of 20000 bits"):
        parsed("a = 0x" + "f" * 5000)
    with pytest.raises(ConfigError, match=r"not TOML: Exceeds the limit"):
        parsed("a = " + "9" * 5000)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "{b = " * 5000,
        "a = " + "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1),
        ".".join("a" * 3000) + " = 1",
        "[" + ".".join("a" * 3000) + "]",
    ],
)
def test_what_is_nested_without_end_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=f"nested deeper than {DEPTH_MAX}|not TOML"):
        parsed(text)


def test_what_is_nested_as_deep_as_it_may_be_is_taken() -> None:
    assert parsed("a = " + "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1))


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_anything_is_a_table_or_a_sentence(text: str | bytes) -> None:
    try:
        found = parsed(text)
    except ConfigError as error:
        assert str(error)
    else:
        assert isinstance(found, dict)
