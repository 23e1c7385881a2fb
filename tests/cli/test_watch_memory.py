from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cli.watching.memory import Memory
from p2pfl.cli.watching.picture import Merged, Row
from p2pfl.cli.watching.plain import jsonable
from p2pfl.cli.watching.reading import HEARD_OF, read_happening, read_merge, read_view
from p2pfl.cli.watching.source import Contact, Said, Tie
from p2pfl.cli.watching.tracks import MERGES_MAX, POINTS_MAX, TIMELINE_MAX
from tests.cli.watch_server import heard_of, id_of, merge, told, view

NOW = 5000.0


def tells(memory: Memory, place: int, body: dict[str, Any], at: float = NOW) -> None:
    """The node at this place says this."""
    memory.take(Said(f"at-{place}", at, read_view(body)))


def changed(place: int, nodes: int = 3, **others: dict[str, Any]) -> dict[str, Any]:
    """A view with other figures of some nodes, which are named `node_1`, ..."""
    body = view(place, nodes)
    for key, changes in others.items():
        one = int(key.removeprefix("node_"))
        body["nodes"][one] |= changes
    return body


def row(found: Merged, place: int) -> Row:
    return next(one for one in found.rows if one.node == id_of(place))


# --- one node ------------------------------------------------------------------------------------


def test_what_one_node_tells_is_shown_as_it_is() -> None:
    memory = Memory()
    tells(memory, 0, view(0, 3))
    found = memory.merged(NOW)
    assert found.run == "kitchen"
    assert [one.label for one in found.watched] == ["anna"]
    assert [(one.label, one.state, one.is_watched) for one in found.rows] == [
        ("anna", "training", True),
        ("boris", "training", False),
        ("chloe", "training", False),
    ]
    assert row(found, 1).told_by == id_of(0)
    assert row(found, 0).told_by is None


def test_figures_grow_older_while_nobody_tells() -> None:
    memory = Memory()
    tells(memory, 0, view(0, 2))
    found = memory.merged(NOW + 30)
    assert row(found, 0).told_ago_s == 30
    assert row(found, 1).told_ago_s == 32
    assert row(found, 1).heard_ago_s == 31


def test_times_by_a_nodes_clock_are_shifted_to_ours() -> None:
    memory = Memory()
    tells(memory, 0, view(0, 2, at=77.0))
    found = memory.merged(NOW)
    assert found.merges[0].at == NOW - 1
    assert found.timeline[0].at == NOW - 60
    assert found.curves[id_of(1)][-1][0] == NOW - 1
    assert found.swarm_curve[0][0] == NOW - 30


def test_nothing_known_is_a_picture_too() -> None:
    found = Memory().merged(NOW)
    assert (found.run, found.rows, found.swarm, found.watched) == ("", (), None, ())


# --- several -------------------------------------------------------------------------------------


def test_the_newest_figure_of_each_node_wins() -> None:
    memory = Memory()
    tells(memory, 0, changed(0, node_2={"accuracy": 0.1, "told_ago_s": 9.0}))
    tells(memory, 1, changed(1, node_2={"accuracy": 0.2, "told_ago_s": 3.0}))
    found = row(memory.merged(NOW), 2)
    assert (found.told.accuracy, found.told_ago_s, found.told_by) == (0.2, 3.0, id_of(1))
    # what was told before is older by now
    tells(memory, 0, changed(0, node_2={"accuracy": 0.3, "told_ago_s": 4.0}), NOW + 5)
    assert row(memory.merged(NOW + 5), 2).told.accuracy == 0.3


@given(st.lists(st.integers(0, 100), min_size=2, max_size=5, unique=True), st.randoms())
def test_who_tells_first_does_not_matter(ages: list[int], chance: Any) -> None:
    order = list(range(len(ages)))
    chance.shuffle(order)
    memory = Memory()
    for place in order:
        about = {"node_9": {"told_ago_s": ages[place], "accuracy": place / 10}}
        tells(memory, place, changed(place, 10, **about))
    newest = ages.index(min(ages))
    assert row(memory.merged(NOW), 9).told.accuracy == newest / 10


def test_a_node_that_tells_itself_is_believed_over_what_others_say() -> None:
    memory = Memory()
    tells(memory, 1, changed(1, node_1={"accuracy": 0.9}), NOW)
    tells(
        memory, 0, changed(0, node_1={"accuracy": 0.1, "state": "dead", "told_ago_s": 0}), NOW + 0.5
    )
    found = row(memory.merged(NOW + 1), 1)
    assert (found.told.accuracy, found.state) == (0.9, "training")


def test_of_a_node_that_is_gone_others_say_what_became_of_it() -> None:
    memory = Memory()
    tells(memory, 0, view(0))
    tells(memory, 1, view(1))
    memory.take(Contact("at-1", "b:1", NOW + 1, Tie.GONE, "it broke off"))
    assert row(memory.merged(NOW + 1), 1).state == "training"
    tells(memory, 0, changed(0, node_1={"state": "dead", "heard_ago_s": 9.0}), NOW + 9)
    found = memory.merged(NOW + 9)
    assert row(found, 1).state == "dead"
    assert (found.live, found.watched[1].since_s) == (1, 8)


def test_a_gone_node_that_nobody_else_knows_is_unknown() -> None:
    memory = Memory()
    tells(memory, 0, view(0, 1))
    memory.take(Contact("at-0", "a:1", NOW, Tie.GONE, "it broke off"))
    found = row(memory.merged(NOW + 4), 0)
    assert (found.state, found.told.accuracy, found.told_ago_s) == ("unknown", 0.9, 4)


def test_who_heard_of_a_node_last_knows_its_state() -> None:
    memory = Memory()
    tells(memory, 0, changed(0, node_2={"state": "dead", "heard_ago_s": 40.0}))
    tells(memory, 1, changed(1, node_2={"state": "training", "heard_ago_s": 1.0}))
    found = row(memory.merged(NOW), 2)
    assert (found.state, found.heard_ago_s, found.known_by) == ("training", 1.0, 2)


def test_whoever_spoke_to_one_of_them_was_not_only_heard_of() -> None:
    memory = Memory()
    tells(memory, 0, changed(0, node_2={"state": HEARD_OF, "heard_ago_s": 0.0}))
    assert row(memory.merged(NOW), 2).state == HEARD_OF
    tells(memory, 1, changed(1, node_2={"state": "training", "heard_ago_s": 9.0}))
    assert row(memory.merged(NOW), 2).state == "training"


def test_invented_members_come_last_and_count_for_nothing() -> None:
    memory = Memory()
    body = view(0, unlisted=312)
    body["nodes"] += heard_of(20)
    tells(memory, 0, body)
    found = memory.merged(NOW)
    assert [one.label for one in found.rows[:4]] == ["anna", "boris", "chloe", "a-000"]
    assert (len(found.met), found.heard_of, found.unlisted) == (3, 332, 312)
    assert found.states == {"training": 3}
    assert found.mean_accuracy == pytest.approx(0.89)


def test_what_several_leave_out_is_not_counted_twice() -> None:
    memory = Memory()
    tells(memory, 0, view(0, unlisted=300))
    tells(memory, 1, view(1, unlisted=280))
    assert memory.merged(NOW).unlisted == 300


def test_refusals_add_up_and_one_denial_is_a_denial() -> None:
    memory = Memory()
    tells(memory, 0, changed(0, node_2={"refusals": {"far": 2}, "suspended": {"far": 1}}))
    tells(memory, 1, changed(1, node_2={"refusals": {"far": 3, "slow": 1}, "denied": True}))
    found = row(memory.merged(NOW), 2)
    assert (found.refusals, found.suspended, found.denied) == ({"far": 5, "slow": 1}, {"far": 1}, 1)


def test_the_estimate_is_the_median_of_those_who_are_there() -> None:
    memory = Memory()
    for place, mean in enumerate((0.5, 0.6, 0.99)):
        body = view(place)
        body["swarm"]["mean_accuracy"] = mean
        tells(memory, place, body)
    found = memory.merged(NOW)
    assert found.swarm is not None
    assert (found.swarm.mean_accuracy, found.estimates) == (0.6, 3)
    memory.take(Contact("at-1", "b:1", NOW, Tie.GONE))
    memory.take(Contact("at-2", "c:1", NOW, Tie.GONE))
    found = memory.merged(NOW)
    assert found.swarm is not None
    assert (found.swarm.mean_accuracy, found.estimates) == (0.5, 1)


def test_counts_and_rates_add_up() -> None:
    memory = Memory()
    tells(memory, 0, view(0))
    tells(memory, 1, view(1))
    found = memory.merged(NOW)
    assert found.staleness.values[1] == 18
    assert found.rates.exchanges_per_s == 2.5
    memory.take(Contact("at-1", "b:1", NOW, Tie.GONE))
    assert memory.merged(NOW).rates.exchanges_per_s == 1.25


def test_one_death_that_all_notice_is_one_entry() -> None:
    memory = Memory()
    for place, noticed in enumerate((990.0, 993.0, 996.0)):
        death = {"at": noticed, "kind": "dead", "node": id_of(3), "detail": "silent"}
        tells(memory, place, view(place, 4, timeline=[death]))
    (found,) = memory.merged(NOW).timeline
    assert (found.at, found.by) == (NOW - 10, (id_of(0), id_of(1), id_of(2)))


def test_two_deaths_of_one_node_are_two_entries() -> None:
    memory = Memory()
    deaths = [{"at": at, "kind": "dead", "node": id_of(1), "detail": ""} for at in (995, 990)]
    tells(memory, 0, view(0, timeline=deaths))
    assert len(memory.merged(NOW).timeline) == 2
    # and what another noticed much later is another one
    late = [{"at": 999.0, "kind": "dead", "node": id_of(2), "detail": ""}]
    tells(memory, 0, view(0, timeline=[*deaths, late[0] | {"at": 900.0}]))
    tells(memory, 1, view(1, timeline=late))
    assert len(memory.merged(NOW).timeline) == 4


def test_equal_names_are_told_apart() -> None:
    memory = Memory()
    tells(memory, 0, changed(0, node_1={"name": "pi"}, node_2={"name": "pi"}))
    found = memory.merged(NOW)
    assert [one.label for one in found.rows] == [
        "anna",
        f"pi ({id_of(1)[:6]})",
        f"pi ({id_of(2)[:6]})",
    ]
    assert found.label("feedfeedfeed") == "feedfeed"


def test_one_node_at_two_addresses_is_one_node() -> None:
    memory = Memory()
    memory.take(Said("a:1", NOW, read_view(view(0))))
    memory.take(Said("b:1", NOW + 1, read_view(view(0))))
    found = memory.merged(NOW + 1)
    assert len(found.watched) == 2
    assert len(found.rows) == 3
    assert found.rates.exchanges_per_s == 1.25


def test_a_node_of_another_run_is_left_out() -> None:
    memory = Memory()
    tells(memory, 0, view(0))
    tells(memory, 7, view(7, 9, run="garden"))
    found = memory.merged(NOW)
    assert len(found.rows) == 3
    assert (found.watched[1].tie, found.watched[1].why) == (Tie.FOREIGN, "it is in run 'garden'")


def test_the_run_that_was_asked_for_is_the_one_that_is_shown() -> None:
    memory = Memory("garden")
    tells(memory, 0, view(0))
    assert memory.merged(NOW).rows == ()
    tells(memory, 1, view(1, run="garden"))
    assert len(memory.merged(NOW).rows) == 3


# --- over time -----------------------------------------------------------------------------------


def test_a_restarted_node_goes_on_where_it_was() -> None:
    memory = Memory()
    tells(memory, 0, view(0, at=1000.0))
    before = memory.merged(NOW)
    again = view(0, at=1100.0, incarnation=2, started=1090.0, merges=[], timeline=[])
    again["nodes"][0]["incarnation"] = 2
    again["curves"]["nodes"] = {id_of(0): [[1099.0, 0.95, 0.1]]}
    again["curves"]["swarm"] = []
    tells(memory, 0, again, NOW + 100)
    found = memory.merged(NOW + 100)
    assert found.merges == before.merges
    assert found.timeline == before.timeline
    assert len(found.curves[id_of(0)]) == 31
    assert found.curves[id_of(0)][-1] == (NOW + 99, 0.95, 0.1)
    assert row(found, 0).incarnation == 2


def test_another_node_at_an_address_begins_anew() -> None:
    memory = Memory()
    tells(memory, 0, view(0, 2))
    memory.take(Said("at-0", NOW + 1, read_view(view(5, 1, nodes=[told(5, is_self=True)]))))
    found = memory.merged(NOW + 1)
    assert [one.label for one in found.rows] == ["fritz"]


def test_points_that_were_told_already_are_not_added_again() -> None:
    memory = Memory()
    for second in range(4):
        tells(memory, 0, view(0, 1, at=1000.0 + second), NOW + second)
    times = [at for at, _, _ in memory.merged(NOW + 3).curves[id_of(0)]]
    assert times == sorted(set(times))
    assert len(times) == 33


def test_a_clock_that_was_set_back_does_not_stop_the_curves() -> None:
    memory = Memory()
    tells(memory, 0, view(0, 1, at=1_000_000.0))
    tells(memory, 0, view(0, 1, at=500.0), NOW + 1)
    assert memory.merged(NOW + 1).curves[id_of(0)][-1][0] == NOW


def test_news_between_two_views_count_once() -> None:
    memory = Memory()
    tells(memory, 0, view(0, merges=[], timeline=[]))
    one = merge(1000.0, id_of(1))
    death = {"at": 1000.0, "kind": "dead", "node": id_of(2), "detail": ""}
    memory.take(Said("at-0", NOW, read_merge(one)))
    memory.take(Said("at-0", NOW, read_happening(death)))
    tells(memory, 0, view(0, at=1001.0, merges=[one], timeline=[death]), NOW + 1)
    found = memory.merged(NOW + 1)
    assert len(found.merges) == len(found.timeline) == 1


def test_news_of_somebody_who_has_not_shown_a_view_are_not_kept() -> None:
    memory = Memory()
    memory.take(Said("at-0", NOW, read_merge(merge(1.0, id_of(1)))))
    assert memory.merged(NOW).merges == ()


def test_a_long_watch_keeps_a_bounded_past() -> None:
    memory = Memory()
    for second in range(3000):
        at = 1000.0 + second
        body = view(0, 1, at=at, merges=[merge(at, id_of(1))])
        body["timeline"] = [{"at": at, "kind": "back", "node": id_of(1), "detail": ""}]
        body["curves"] = {"nodes": {id_of(0): [[at, 0.5, None]]}, "swarm": []}
        tells(memory, 0, body, NOW + second)
    found = memory.merged(NOW + 3000)
    assert (len(found.merges), len(found.timeline)) == (MERGES_MAX, TIMELINE_MAX)
    points = found.curves[id_of(0)]
    assert len(points) <= POINTS_MAX
    # from the beginning to now, and fine at the end
    assert points[0][0] == NOW
    assert points[-1][0] - points[-2][0] == 1


@pytest.mark.parametrize("tie", [Tie.GONE, Tie.LEFT, Tie.WAITING, Tie.CONNECTING])
def test_how_long_a_node_has_been_gone_counts_from_the_first_failure(tie: Tie) -> None:
    memory = Memory()
    memory.take(Contact("a:1", "a:1", NOW, tie, "first"))
    memory.take(Contact("a:1", "a:1", NOW + 5, tie, "second"))
    (found,) = memory.merged(NOW + 9).watched
    assert (found.since_s, found.why, found.label) == (9, "second", "a:1")


def test_the_picture_as_json_has_the_names_of_a_view() -> None:
    memory = Memory()
    tells(memory, 0, view(0))
    body, found = view(0), jsonable(memory.merged(NOW))
    shared = {"format", "at", "run", "is_keyed", "trust", "topology", "parameters", "nodes"}
    shared |= {
        "unlisted",
        "others",
        "swarm",
        "staleness",
        "merges",
        "timeline",
        "curves",
        "rates",
        "holding",
    }
    assert shared <= set(body) & set(found)
    assert found["swarm"] == body["swarm"]
    assert found["staleness"] == body["staleness"]
    assert set(body["nodes"][0]) - set(found["nodes"][0]) == {"is_self"}
    assert set(body["merges"][0]) <= set(found["merges"][0])
    assert set(body["timeline"][0]) <= set(found["timeline"][0])
