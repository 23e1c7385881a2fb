"""Ways that differ from the rest: which one counts, and what repairing them sets free."""

from __future__ import annotations

import pytest

from p2pfl.sim.faults import Way, Ways


def way(**changes: object) -> Way:
    return Way(frozenset({"a"}), frozenset({"b"}), **changes)  # type: ignore[arg-type]


def test_where_nothing_differs_there_are_no_ways() -> None:
    assert list(Ways().between("a", "b")) == []


def test_a_way_has_a_direction() -> None:
    ways = Ways()
    cut = ways.cut(["a"], ["b", "c"])
    assert list(ways.between("a", "c")) == [cut]
    assert list(ways.between("c", "a")) == []
    assert list(ways.between("b", "c")) == []


def test_islands_are_cut_off_both_ways_and_not_within() -> None:
    ways = Ways()
    cuts = ways.part(["a", "b"], ["c"], ["d"])
    assert len(cuts) == 6
    for source, target in ("ac", "ca", "bd", "db", "cd", "dc"):
        assert [found.is_cut for found in ways.between(source, target)] == [True]
    assert list(ways.between("a", "b")) == []
    ways.repair(*cuts)
    assert list(ways.between("a", "c")) == []


def test_repairing_one_fault_leaves_the_other_that_looks_the_same() -> None:
    ways = Ways()
    first, second = ways.cut(["a"], ["b"]), ways.cut(["a"], ["b"])
    ways.repair(first)
    assert list(ways.between("a", "b")) == [second]


def test_the_second_of_two_equal_faults_can_be_repaired_first() -> None:
    ways = Ways()
    first, second = ways.hold(["a"], ["b"]), ways.hold(["a"], ["b"])
    ways.repair(second)
    (left,) = ways.between("a", "b")
    assert left is first


def test_of_several_over_the_same_pair_the_last_one_comes_last() -> None:
    ways = Ways()
    found = [ways.open(way(latency_s=latency_s)) for latency_s in (0.1, 0.2)]
    assert list(ways.between("a", "b")) == found


def test_released_messages_go_in_the_order_in_which_they_came() -> None:
    ways, told = Ways(), []
    held = ways.hold(["a"], ["b"])
    assert held.held is not None
    for number in range(5):
        held.held.append(lambda number=number: told.append(number))
    assert told == []
    ways.repair(held)
    assert told == [0, 1, 2, 3, 4]


def test_what_was_repaired_cannot_be_repaired_again() -> None:
    ways = Ways()
    cut = ways.cut(["a"], ["b"])
    ways.repair(cut)
    with pytest.raises(ValueError, match="not in list"):
        ways.repair(cut)
