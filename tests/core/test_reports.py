"""What nodes say of themselves: it spreads like a rumour, ages honestly, and lies do not last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.messages import Report
from p2pfl.core.reports import Reports


def node(place: int) -> str:
    return f"{place:08x}"


def report(of: str, number: int = 1, incarnation: int = 1, ago_s: float = 0.0) -> Report:
    return Report(
        of, incarnation, number, ago_s, "anna", "training", 9, 9, 3, 0.1, 0.5, 0.9, 0.5, 1.0, 5, 6
    )


def reports(me: str = "me", *, live: int = 50, per_message: int = 4, limit: int = 100) -> Reports:
    """A table of a node that believes so many others live."""
    table = Reports(me, per_message, limit)
    table.keep(frozenset(node(place) for place in range(live)))
    return table


def known(table: Reports) -> dict[str, Report]:
    return {told.report.node: told.report for told in table.newest()}


# --- telling ------------------------------------------------------------------------------------


def test_our_own_report_goes_first_and_once_to_each_reader_until_it_is_renewed() -> None:
    table = reports()
    assert table.is_due(0.0)
    table.renew(report("me"), 0.0)
    assert not table.is_due(0.9)
    assert table.is_due(1.0)
    assert table.ride(node(1), 0.5) == (report("me", ago_s=0.5),)
    assert table.ride(node(1), 0.6) == ()
    assert table.ride(node(2), 0.75) == (report("me", ago_s=0.75),)
    table.renew(report("me", 2), 1.0)
    assert table.number == 2
    assert table.ride(node(1), 1.0) == (report("me", 2),)


def test_the_newest_of_those_passed_on_least_often_go_first() -> None:
    table = reports(per_message=2)
    for place in range(5):
        table.hear((report(node(place)),), node(40), place)
    told = [[r.node for r in table.ride(node(30), 10.0)] for _ in range(6)]
    assert told[:2] == [[node(4), node(3)], [node(2), node(1)]]
    assert told[2] == [node(0), node(2)], "when all were passed on once they come a second time"
    table.hear((report(node(2), 2),), node(40), 10.0)
    assert table.ride(node(30), 10.0)[0] == report(node(2), 2)


def test_each_is_passed_on_a_few_times_and_then_in_turn() -> None:
    table = reports()
    for place in range(10):
        table.hear((report(node(place)),), node(40), 0.0)
    riding = [r.node for _ in range(10) for r in table.ride(node(30), 1.0)]
    assert sorted(riding) == sorted(node(place) for place in range(10) for _ in range(4))
    later = [[r.node for r in table.ride(node(30), 1.0)] for _ in range(30)]
    assert all(len(each) == 1 for each in later)
    assert {each[0] for each in later} == {node(place) for place in range(10)}


def test_nobody_is_told_its_own_report_and_the_dead_are_told_of_to_nobody() -> None:
    table = reports()
    table.hear((report(node(1)), report(node(2))), node(40), 0.0)
    assert [r.node for r in table.ride(node(1), 0.0)] == [node(2)]
    table.keep(frozenset([node(1), node(30)]))
    for _ in range(8):
        assert {r.node for r in table.ride(node(30), 0.0)} <= {node(1)}
    assert set(known(table)) == {node(1), node(2)}, "people may still see its last words"


def test_nothing_rides_where_nothing_may() -> None:
    table = reports(per_message=0)
    table.renew(report("me"), 0.0)
    table.hear((report(node(1)),), node(1), 0.0)
    assert table.ride(node(2), 0.0) == ()


def test_a_message_is_bounded_and_costs_the_same_among_a_thousand() -> None:
    table = reports(live=1000, limit=1024)
    table.renew(report("me"), 0.0)
    for place in range(1000):
        table.hear((report(node(place)),), node(999), 0.0)
    for _ in range(1200):
        assert len(table.ride(node(7), 0.0)) <= 4


def test_news_of_all_reaches_all_within_a_few_messages_each() -> None:
    rng, n = np.random.default_rng(0), 40
    tables = [reports(node(place)) for place in range(n)]
    for place, table in enumerate(tables):
        table.renew(report(node(place)), 0.0)
    shares = []
    for _ in range(80):
        for i in range(n):
            j = int((i + rng.integers(1, n)) % n)
            tables[j].hear(tables[i].ride(node(j), 0.0), node(i), 0.0)
            tables[i].hear(tables[j].ride(node(i), 0.0), node(j), 0.0)
        shares.append(np.mean([len(table) / (n - 1) for table in tables]))
    assert shares[15] > 0.9, "each had 16 of the 39 others to itself"
    assert shares[-1] == 1.0


# --- hearing ------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_ages_add_up_from_hop_to_hop(rests: list[float]) -> None:
    """Clocks start anywhere: only what rested where is counted."""
    tables = [reports(f"t{place}") for place in range(len(rests))]
    clocks = np.random.default_rng(1).uniform(-1e4, 1e4, len(rests)).tolist()
    told: tuple[Report, ...] = (report(node(1), ago_s=2.0),)
    for table, clock, rest in zip(tables, clocks, rests, strict=True):
        table.hear(told, node(40), clock)
        told = table.ride(node(30), clock + rest)
    assert told[0].ago_s == pytest.approx(2.0 + sum(rests), abs=1e-6)


def test_the_newer_report_wins_whatever_the_order() -> None:
    newest = report(node(1), 1, incarnation=2)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        table = reports()
        some = [report(node(1), 5), report(node(1), 7), newest]
        for at in order:
            table.hear((some[at],), node(40), 0.0)
        assert known(table) == {node(1): newest}


def test_only_of_live_members_anything_is_heard_and_nothing_of_ourselves() -> None:
    table = reports(node(3))
    table.hear((report(node(3)), report("ff" * 4), report(node(4))), node(40), 0.0)
    assert set(known(table)) == {node(4)}


def test_the_table_is_bounded_and_forgets_what_it_learnt_longest_ago() -> None:
    table = reports(live=20, limit=5)
    for place in range(20):
        table.hear((report(node(place)),), node(40), 0.0)
    assert set(known(table)) == {node(place) for place in range(15, 20)}
    for _ in range(40):
        assert all(r.node in known(table) for r in table.ride(node(19), 0.0))


def test_what_its_author_says_itself_replaces_what_others_say_of_it() -> None:
    table = reports()
    lie = replace(report(node(1), 9), accuracy=0.01)
    table.hear((lie,), node(40), 0.0)
    assert known(table)[node(1)] == lie, "nothing better is known"
    for honest in (report(node(1), 9), report(node(1), 10)):
        table.hear((honest,), node(1), 1.0)
        assert known(table)[node(1)] == honest


@pytest.mark.parametrize(
    "lie",
    [{"number": 2**62}, {"incarnation": 2**62}, {"number": 1000}, {"incarnation": 1002}],
)
def test_hearsay_is_not_newer_than_its_author_can_have_made_it(lie: dict[str, Any]) -> None:
    """A number from the far future would keep all true reports out for ever."""
    table = reports()
    table.hear((report(node(1), 5),), node(1), 100.0)
    table.hear((replace(report(node(1), 6), **lie),), node(40), 101.0)
    assert known(table)[node(1)] == report(node(1), 5)
    later = report(node(1), 100 + 5)
    table.hear((later,), node(40), 200.0)
    assert known(table)[node(1)] == later, "it made one each second"
    table.hear((report(node(1), 1, incarnation=3),), node(40), 200.0)
    assert known(table)[node(1)] == report(node(1), 1, incarnation=3), "it was started again"


def test_a_lie_about_somebody_never_met_lasts_until_it_is_met() -> None:
    table = reports()
    table.hear((report(node(1), 2**62, incarnation=2**62),), node(40), 0.0)
    table.hear((report(node(1), 3),), node(1), 1.0)
    assert known(table)[node(1)] == report(node(1), 3)
    table.hear((report(node(1), 2**62, incarnation=2**62),), node(40), 2.0)
    assert known(table)[node(1)] == report(node(1), 3)


def test_old_words_of_the_author_that_come_late_change_nothing() -> None:
    table = reports()
    table.hear((report(node(1), 5),), node(1), 0.0)
    table.hear((report(node(1), 4),), node(1), 0.1)
    assert known(table)[node(1)].number == 5
