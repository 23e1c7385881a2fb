"""Token buckets: what one peer may ask of us, and what strangers cannot make us remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.rates import Rates


def allowed(rates: Rates, key: str, times: list[float]) -> int:
    return sum(rates.allows(key, now) for now in times)


def test_a_burst_of_twice_the_rate_passes_and_then_the_rate_is_sustained():
    rates = Rates(per_s=10, limit=8)
    assert allowed(rates, "a", [0.0] * 50) == 20
    assert allowed(rates, "a", [1.0] * 50) == 10
    assert allowed(rates, "a", [1 + k / 100 for k in range(1, 1001)]) == pytest.approx(100, abs=1)


def test_peers_do_not_pay_for_each_other():
    rates = Rates(per_s=1, limit=8)
    assert allowed(rates, "greedy", [0.0] * 100) == 2
    assert allowed(rates, "modest", [0.0]) == 1


def test_saved_tokens_do_not_grow_beyond_the_burst():
    rates = Rates(per_s=5, limit=8)
    rates.allows("a", 0.0)
    assert allowed(rates, "a", [1e6] * 100) == 10


@pytest.mark.parametrize("per_s", [0.01, 0.3, 0.5, 0.9])
def test_a_rate_below_one_a_second_still_lets_somebody_in(per_s):
    rates = Rates(per_s=per_s, limit=8)
    assert rates.allows("a", 0.0)
    assert allowed(rates, "a", [k / per_s * 1.001 for k in range(1, 11)]) == 10


def test_beyond_the_limit_the_one_that_was_quiet_longest_starts_afresh():
    rates = Rates(per_s=1, limit=2)
    for key in ("a", "b"):
        assert allowed(rates, key, [0.0] * 5) == 2
    assert not rates.allows("a", 0.0)
    assert rates.allows("c", 0.0)
    assert not rates.allows("a", 0.0), "a spoke after b, so it was b that was forgotten"
    assert rates.allows("b", 0.0)


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(0, 5)), max_size=60))
def test_any_keys_are_kept_within_the_limit_and_no_one_exceeds_burst_plus_rate(asks):
    rates, now, passed = Rates(per_s=2, limit=4), 0.0, {}
    for key, pause in asks:
        now += pause
        passed[key] = passed.get(key, 0) + rates.allows(key, now)
        assert len(rates._buckets) <= 4
    if len(passed) <= 4:
        assert all(count <= 4 + 2 * now for count in passed.values())
