"""The account of shares: whatever happens, a model stays a convex combination."""

from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.shares import LEAST_WEIGHT, Shares


@given(st.lists(st.tuples(st.sampled_from(["ask", "answer", "settle"]), st.floats(0, 1))))
def test_what_is_left_always_covers_what_is_set_aside(happenings):
    """kappa >= Q after any sequence of asks, answers and settlements."""
    shares, promised, left = Shares(0.5), [], 1.0
    for what, fraction in happenings:
        set_aside = sum(promised)
        if what == "ask" and (q := shares.to_ask_with(set_aside)):
            promised.append(q)
        elif what == "answer" and (most := shares.to_answer_with(set_aside)):
            shares.answered(most * fraction)
            left *= 1 - most * fraction
        elif what == "settle" and promised:
            weight = promised.pop() * fraction
            shares.settled(weight)
            left -= weight
        if not promised:
            shares.none_in_flight()
            left = 1.0
        assert left - sum(promised) >= -1e-9


def test_an_idle_node_answers_with_all_it_has_and_asks_with_its_weight():
    assert Shares(0.5).to_answer_with(0.0) == 1.0
    assert Shares(0.5).to_ask_with(0.0) == 0.5
    assert Shares(0.2).to_ask_with(0.0) == 0.2


def test_what_is_not_worth_its_bytes_is_nothing():
    shares = Shares(0.5)
    shares.answered(0.5)
    assert shares.to_answer_with(0.5 * (1 - LEAST_WEIGHT / 2)) == 0
    assert shares.to_answer_with(0.5 * (1 - 2 * LEAST_WEIGHT)) > 0
    assert shares.to_ask_with(0.5 - LEAST_WEIGHT) == 0


def test_a_small_configured_weight_is_still_worth_asking_with():
    assert Shares(0.01).to_ask_with(0.9) == 0.01
