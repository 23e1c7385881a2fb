"""What the page shows, from events and a status: no network, no clock of its own."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.events import (
    Cycle,
    Event,
    Exchanged,
    Fault,
    Measured,
    MemberChanged,
    Started,
    Stopped,
)
from p2pfl.edge.page.feed import MERGES, TIMELINE, Feed
from p2pfl.edge.page.view import HEARD_OF, number
from tests.node.swarm import Memory

ANNA, BORIS, CHLOE, DORA = (letter * 32 for letter in "abcd")
STARTED = Started(0.0, ANNA, "laptop", "kitchen", "9a8b", "127.0.0.1:4000", 3, 120, True)
FLOW = Exchanged(1.0, BORIS, "asked", "flow", 0.42, 1.3, 2.1, 4000, 4000, 0.05)


def member(node: str, **more: Any) -> dict[str, Any]:
    return {
        "node": node,
        "name": "tablet",
        "addresses": ["192.168.1.6:4000"],
        "status": "alive",
        "left": False,
        "incarnation": 2,
        "own_steps": 500,
        "heard_ago_s": 0.4,
        "is_met": True,
    } | more


def report(node: str, **more: Any) -> dict[str, Any]:
    return {
        "node": node,
        "name": "its own name",
        "state": "training",
        "incarnation": 2,
        "number": 7,
        "told_ago_s": 2.5,
        "age": 900,
        "own_steps": 450,
        "cycles": 40,
        "cycle_s": 0.1,
        "loss": 0.3,
        "accuracy": 0.9,
        "staleness": 1.1,
        "distance": 0.7,
        "bytes_in": 10,
        "bytes_out": 20,
        "recent": [],
        "holding": "",
    } | more


def status(*members: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "node": ANNA,
        "name": "laptop",
        "run": "kitchen",
        "layout": "9a8b7c6d5e4f3a2b",
        "parameters": 2410,
        "version": "0.1.0",
        "state": "training",
        "address": "192.168.1.5:4000",
        "incarnation": 3,
        "uptime_s": 60.0,
        "age": 1000,
        "own_steps": 400,
        "cycles": 80,
        "cycle_s": 0.11,
        "loss": 0.2,
        "accuracy": 0.95,
        "topology": "random-2",
        "members": list(members),
        "others": {"192.168.1.9:4000": "other run 'garden'"},
        "staleness_cycles": 0.9,
        "distance": 0.5,
        "bytes_in": 1000,
        "bytes_out": 2000,
        "trust": "cooperative",
        "is_keyed": False,
        "suspended": {},
        "denied": [],
        "refusals": {},
    } | more


@dataclass
class Looked:
    """A feed whose clocks and status are ours."""

    status: dict[str, Any] = field(default_factory=status)
    now: float = 100.0
    asked: int = 0

    def __post_init__(self) -> None:
        self.memory = Memory()
        self.feed = Feed(self.memory, wall=lambda: 1e9 + self.now, clock=lambda: self.now)
        self.feed.attach(self._told)

    def _told(self) -> dict[str, Any]:
        self.asked += 1
        return self.status

    def record(self, *happened: Event) -> Looked:
        for event in happened:
            self.feed.record(event)
        return self

    def later(self, seconds: float = 1.0) -> Looked:
        self.now += seconds
        return self

    def view(self, since: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.feed.json(since)[0], parse_constant=lambda name: pytest.fail(f"{name} in JSON")
        )
        return found

    @property
    def timeline(self) -> list[tuple[str, str | None, str]]:
        """Oldest first."""
        return [
            (each["kind"], each["node"], each["detail"])
            for each in reversed(self.view()["timeline"])
        ]


def test_every_event_goes_on_to_the_journal() -> None:
    looked = Looked()
    happened: list[Event] = [
        STARTED,
        Cycle(1.0, 1, 5, 5, 5, 0.4, 0.1),
        FLOW,
        MemberChanged(1.0, BORIS, "alive", 1, "met"),
        Fault(2.0, "checkpoint", "disk full"),
        Measured(3.0, 1, 5, 0.4, None, 10),
        Stopped(4.0, "cancelled"),
    ]
    looked.record(*happened)
    assert looked.memory.events == happened


# --- what the view says --------------------------------------------------------------------------


def test_the_view_has_every_key_of_its_format() -> None:
    view = Looked().record(STARTED).view()
    assert set(view) == {
        *("format", "at", "node", "name", "run", "is_keyed", "version", "trust", "topology"),
        *("parameters", "uptime_s", "started", "incarnation", "nodes", "unlisted", "others"),
        *("links", "swarm", "staleness", "merges", "timeline", "curves", "rates", "holding"),
    }
    assert view["format"] == 1
    assert view["at"] == 1e9 + 100
    assert set(view["nodes"][0]) == {
        *("node", "name", "is_self", "state", "incarnation", "addresses", "age", "own_steps"),
        *("cycles", "cycle_s", "loss", "accuracy", "staleness", "distance", "bytes_in"),
        *("bytes_out", "holding", "told_ago_s", "heard_ago_s", "refusals", "suspended", "denied"),
    }


def test_without_reports_and_estimates_what_is_not_known_is_null() -> None:
    view = Looked(status(member(BORIS, name=None))).view()
    boris = view["nodes"][1]
    assert boris["state"] == "unknown"
    assert boris["told_ago_s"] is None
    assert boris["own_steps"] == 500
    silent = ("name", "age", "cycles", "cycle_s", "loss", "accuracy", "staleness", "bytes_in")
    assert all(boris[key] is None for key in silent)
    assert view["swarm"] is None
    assert view["staleness"] == {"edges": [], "counts": []}
    assert view["holding"] == []


def test_what_others_tell_of_themselves_is_shown_with_its_age() -> None:
    looked = Looked(status(member(BORIS, name=None), reports=[report(BORIS)]))
    boris = looked.view()["nodes"][1]
    assert boris["name"] == "its own name"
    assert (boris["state"], boris["accuracy"], boris["told_ago_s"]) == ("training", 0.9, 2.5)
    assert boris["own_steps"] == 500, "the newest that is known by any route"


@pytest.mark.parametrize("believed", ["suspect", "dead"])
def test_what_is_believed_of_a_member_outweighs_what_it_said_last(believed: str) -> None:
    found = status(member(BORIS, status=believed), reports=[report(BORIS)])
    assert Looked(found).view()["nodes"][1]["state"] == believed


def test_whoever_said_goodbye_has_left_and_whoever_is_silent_is_dead() -> None:
    gone = [member(BORIS, status="dead", left=True), member(CHLOE, status="dead")]
    told = [report(BORIS, state="leaving"), report(CHLOE)]
    found = Looked(status(*gone, member(DORA, is_met=False, status="dead", left=True)))
    found.status["reports"] = told
    assert [node["state"] for node in found.view()["nodes"][1:]] == ["left", "dead", HEARD_OF]


def test_small_figures_keep_their_digits() -> None:
    small = {"loss": 2.345678e-6, "accuracy": 0.91234567, "distance": 1.2345678e-9}
    swarm = {"mean_loss": 3.4567891e-7, "consensus_distance": 4.5678912e-8}
    found = status(
        member(BORIS), reports=[report(BORIS, **small)], swarm=swarm, uptime_s=98765.4321
    )
    view = Looked(found).record(replace(FLOW, distance=5.6789123e-7)).view()
    boris = view["nodes"][1]
    assert (boris["loss"], boris["accuracy"], boris["distance"]) == (
        *(2.34568e-6, 0.912346, 1.23457e-9),
    )
    assert view["swarm"]["mean_loss"] == 3.45679e-7
    assert view["swarm"]["consensus_distance"] == 4.56789e-8
    assert view["merges"][0]["distance"] == 5.67891e-7
    assert view["uptime_s"] == 98765.432, "a time loses nothing before the point"


def test_who_is_denied_is_shown_though_it_is_no_member_any_more() -> None:
    found = status(member(BORIS), denied=[CHLOE, BORIS], refusals={CHLOE: {"clip": 2}})
    nodes = {node["node"]: node for node in Looked(found).view()["nodes"]}
    assert nodes[BORIS]["denied"]
    assert nodes[CHLOE]["denied"]
    assert nodes[CHLOE]["refusals"] == {"clip": 2}
    assert not nodes[ANNA]["denied"]


def test_estimates_and_the_staleness_histogram_are_passed_on() -> None:
    swarm = {
        "count": 3.1,
        "reporting": 0.9,
        "mean_accuracy": 0.91,
        "worst_tenth_accuracy": 0.8,
        "mean_loss": math.nan,
        "histogram": {"edges": [0, 0.5, 1], "share": [0.25, 0.75]},
        "consensus_distance": 1.5,
    }
    histogram = {"edges": [0, 1, math.inf], "counts": [4, 1]}
    view = Looked(status(swarm=swarm, staleness_histogram=histogram, holding=["it rests"])).view()
    assert view["swarm"] == swarm | {"mean_loss": None}
    assert view["staleness"] == {"edges": [0, 1, None], "counts": [4, 1]}
    assert view["holding"] == ["it rests"]
    assert view["curves"]["swarm"] == [[1e9 + 100, 0.91, 0.8, 1.5]]


def test_the_newest_exchange_of_each_pair_is_a_link_for_a_minute() -> None:
    told = report(
        BORIS,
        recent=[{"peer": CHLOE, "ago_s": 5.0}, {"peer": ANNA, "ago_s": 3.0}],
    )
    echo = report(CHLOE, recent=[{"peer": BORIS, "ago_s": 4.0}, {"peer": DORA, "ago_s": 61.0}])
    looked = Looked(status(member(BORIS), member(CHLOE), reports=[told, echo]))
    looked.record(FLOW, replace(FLOW, peer=DORA, outcome="busy")).later(1.5)
    links = {(link["a"], link["b"]): link["ago_s"] for link in looked.view()["links"]}
    assert links == {(ANNA, BORIS): 1.5, (BORIS, CHLOE): 4.0}
    looked.later(60)
    looked.status["reports"] = []
    assert looked.view()["links"] == []


def test_rates_are_of_the_last_seconds() -> None:
    looked = Looked()
    looked.view()
    for _ in range(30):
        looked.later().record(FLOW, FLOW)
        looked.status = looked.status | {"bytes_in": looked.status["bytes_in"] + 500}
        rates = looked.view()["rates"]
    assert rates == {"bytes_in_per_s": 500, "bytes_out_per_s": 0, "exchanges_per_s": 2}


def test_the_first_view_gives_the_rates_since_the_start() -> None:
    looked = Looked(status(bytes_in=5000)).record(FLOW).later(50)
    assert looked.view()["rates"]["bytes_in_per_s"] == 100


# --- members that were only heard of -------------------------------------------------------------


def invented(place: int) -> str:
    return f"{place:032x}"


def heard_of(count: int, **more: Any) -> list[dict[str, Any]]:
    return [member(invented(place), is_met=False, **more) for place in range(count)]


def test_whoever_never_spoke_was_only_heard_of_whatever_others_say() -> None:
    members = [*heard_of(1), member(BORIS, is_met=False, status="dead")]
    looked = Looked(status(*members, reports=[report(invented(0))]))
    assert [node["state"] for node in looked.view()["nodes"][1:]] == [HEARD_OF, HEARD_OF]
    assert looked.view()["unlisted"] == 0


@pytest.mark.parametrize(("met", "listed"), [(0, 20), (3, 20), (20, 20), (21, 21), (150, 150)])
def test_of_those_only_heard_of_no_more_are_listed_than_have_spoken(met: int, listed: int) -> None:
    spoke = [member(f"f{place:031x}") for place in range(met)]
    view = Looked(status(*heard_of(300), *spoke)).view()
    states = [node["state"] for node in view["nodes"][1:]]
    assert states == [HEARD_OF] * listed + ["unknown"] * met
    assert view["unlisted"] == 300 - listed


def test_the_alive_with_fresh_figures_are_listed_first() -> None:
    members = heard_of(60)
    for place in range(40):
        members[place]["status"] = "dead"
    fresh, old = [invented(place) for place in range(50, 60)], invented(49)
    told = [report(node) for node in fresh] + [report(old, told_ago_s=600.0)]
    looked = Looked(status(*members, reports=told))
    found = [node["node"] for node in looked.view()["nodes"][1:]]
    assert found == [invented(place) for place in range(40, 60)]
    looked.status["members"].append(member(BORIS, is_met=False))
    looked.status["reports"].append(report(BORIS))
    later = [node["node"] for node in looked.later().view()["nodes"][1:]]
    assert later == [*(each for each in found if each != old), BORIS]


def test_links_and_curves_are_of_those_that_are_listed() -> None:
    members, last = heard_of(30), invented(29)
    shown = report(invented(0), recent=[{"peer": invented(1), "ago_s": 1.0}])
    hidden = report(last, told_ago_s=600.0, recent=[{"peer": ANNA, "ago_s": 1.0}])
    looked = Looked(status(*members, member(BORIS), reports=[shown, hidden, report(BORIS)]))
    view = looked.view()
    assert [(link["a"], link["b"]) for link in view["links"]] == [(invented(0), invented(1))]
    assert set(view["curves"]["nodes"]) == {invented(0), BORIS}


# --- merges and their why ------------------------------------------------------------------------


def test_the_newest_merges_come_first_each_with_its_why() -> None:
    looked = Looked()
    looked.record(FLOW).later(2).record(replace(FLOW, peer=CHLOE, outcome="busy", weight=0.0))
    newest, oldest = looked.view()["merges"]
    assert newest["peer"] == CHLOE
    assert not newest["is_accepted"]
    assert newest["why"] == "it was busy, tried again later"
    assert oldest == {
        "at": 1e9 + 100,
        "peer": BORIS,
        "role": "asked",
        "outcome": "flow",
        "weight": 0.42,
        "staleness": 1.3,
        "distance": 2.1,
        "bytes_in": 4000,
        "bytes_out": 4000,
        "seconds": 0.05,
        "is_accepted": True,
        "why": "mixed with weight 0.42: 1.3 cycles old, 2.1 away",
    }


def test_memory_of_merges_and_of_the_timeline_is_bounded() -> None:
    looked = Looked()
    for count in range(500):
        looked.record(replace(FLOW, seconds=float(count)), Fault(1.0, "checkpoint", f"{count}"))
    view = looked.view()
    assert [merge["seconds"] for merge in view["merges"]] == [499 - at for at in range(MERGES)]
    assert len(view["timeline"]) == TIMELINE
    assert view["timeline"][0]["detail"] == "checkpoint: 499"


def test_a_distance_without_end_is_null() -> None:
    looked = Looked().record(replace(FLOW, distance=math.inf, staleness=math.nan))
    assert looked.view()["merges"][0]["distance"] is None


# --- the timeline --------------------------------------------------------------------------------


def changed(state: str, incarnation: int, reason: str, peer: str = BORIS) -> MemberChanged:
    return MemberChanged(1.0, peer, state, incarnation, reason)


def test_the_timeline_tells_the_life_of_a_member() -> None:
    looked = Looked().record(
        STARTED,
        changed("alive", 1, "met"),
        changed("suspect", 1, "no answer"),
        changed("alive", 1, "heard"),
        changed("suspect", 1, f"suspected by {CHLOE}"),
        changed("dead", 1, "suspicion confirmed"),
        changed("alive", 2, "restarted"),
        changed("dead", 2, "left"),
        Stopped(9.0, "2 cycles are done"),
    )
    assert looked.timeline == [
        ("started", ANNA, "start 3, goes on at age 120"),
        ("joined", BORIS, "met"),
        ("suspect", BORIS, "it does not answer"),
        ("back", BORIS, "it speaks again"),
        ("suspect", BORIS, "cccccccc suspects it"),
        ("dead", BORIS, "it did not answer, nor refute it in time"),
        ("restarted", BORIS, "it was started again"),
        ("left", BORIS, "it said goodbye"),
        ("left", ANNA, "this node stopped: 2 cycles are done"),
    ]


def test_who_was_dead_before_this_node_came_is_no_news_until_it_speaks() -> None:
    looked = Looked().record(changed("dead", 1, "rumour"))
    assert looked.timeline == []
    looked.later().record(changed("alive", 1, "heard"))
    assert looked.timeline == [("joined", BORIS, "met")]


def test_whoever_is_only_heard_of_comes_and_dies_without_an_entry() -> None:
    looked = Looked().record(
        changed("alive", 1, "rumour"),
        changed("suspect", 1, "no answer"),
        changed("dead", 1, "suspicion confirmed"),
        changed("suspect", 1, f"suspected by {BORIS}", CHLOE),
        changed("alive", 1, "rumour", CHLOE),
        changed("dead", 1, "left", CHLOE),
    )
    assert looked.timeline == []


def test_whoever_was_only_heard_of_joins_with_its_first_word() -> None:
    looked = Looked(status(member(BORIS, is_met=False), member(CHLOE, status="dead")))
    looked.record(changed("alive", 1, "rumour"))
    assert looked.timeline == []
    # membership says nothing of the first word of somebody that it believes alive already
    looked.later().status = status(member(BORIS), member(CHLOE, status="dead"))
    assert looked.timeline == [("joined", BORIS, "met")]
    looked.later().record(changed("dead", 1, "suspicion confirmed"))
    assert [kind for kind, _, _ in looked.timeline] == ["joined", "dead"]


def test_a_flood_of_invented_members_does_not_push_out_what_is_known_of_the_others() -> None:
    looked = Looked().record(changed("alive", 1, "met"), changed("dead", 1, "no answer"))
    for place in range(3000):
        looked.record(changed("alive", 1, "rumour", invented(place)))
    looked.record(changed("alive", 2, "restarted"))
    assert [kind for kind, _, _ in looked.timeline] == ["joined", "dead", "restarted"]


def test_faults_suspensions_and_denials_are_told_once() -> None:
    looked = Looked().record(
        changed("alive", 1, "met"),
        changed("dead", 1, "denied"),
        Fault(1.0, "denied", "denied here", BORIS),
        Fault(2.0, "suspended", "too many faults, lately clip", CHLOE),
        Fault(3.0, "rescued", "refused by all: 5 models"),
        Fault(4.0, "kept-out", "other run 'garden'", "192.168.1.9:4000"),
        Fault(5.0, "checkpoint", "not written"),
        Fault(6.0, "held", "training rests"),
    )
    assert looked.timeline[1:] == [
        ("denied", BORIS, "denied here"),
        ("suspended", CHLOE, "too many faults, lately clip"),
        ("rescued", None, "refused by all: 5 models"),
        ("refused", None, "192.168.1.9:4000: other run 'garden'"),
        ("fault", None, "checkpoint: not written"),
        ("held", None, "training rests"),
    ]


def test_whoever_is_refused_again_and_again_is_told_of_once_a_minute() -> None:
    looked, refused = Looked(), replace(FLOW, outcome="rejected: distance", weight=0.0)
    for _ in range(90):
        looked.record(refused, replace(refused, peer=CHLOE)).later()
    assert [node for _, node, _ in looked.timeline] == [BORIS, CHLOE, BORIS, CHLOE]
    assert looked.timeline[0][0] == "refused"


def test_a_stranger_that_comes_from_many_ports_is_told_of_once_a_minute() -> None:
    looked = Looked()
    for port in range(1000, 1100):
        looked.record(Fault(1.0, "kept-out", "other run 'garden'", f"192.168.1.9:{port}"))
    looked.record(Fault(1.0, "kept-out", "other run 'garden'", "192.168.1.8:1000"))
    assert [detail for _, _, detail in looked.timeline] == [
        "192.168.1.9:1000: other run 'garden'",
        "192.168.1.8:1000: other run 'garden'",
    ]


# --- curves --------------------------------------------------------------------------------------


def test_curves_hold_what_was_measured_here_and_what_others_told() -> None:
    looked = Looked(status(member(BORIS), reports=[report(BORIS)])).record(STARTED)
    looked.record(Measured(1.0, 1, 5, 0.4, 0.8, 10)).later(0.1)
    assert looked.view()["curves"]["nodes"] == {
        ANNA: [[1e9 + 100, 0.8, 0.4]],
        BORIS: [[1e9 + 97.6, 0.9, 0.3]],
    }


def test_the_same_report_is_one_point_however_often_it_is_seen() -> None:
    looked = Looked(status(member(BORIS), reports=[report(BORIS)]))
    for _ in range(5):
        looked.later().view()
    looked.status["reports"] = [report(BORIS, number=8, accuracy=0.92, told_ago_s=0.0)]
    looked.later()
    points = looked.view()["curves"]["nodes"][BORIS]
    assert [accuracy for _, accuracy, _ in points] == [0.9, 0.92]


def test_a_later_view_has_only_points_that_are_newer() -> None:
    looked = Looked().record(STARTED, Measured(1.0, 1, 5, 0.4, 0.8, 10))
    _, serial = looked.feed.json()
    looked.later()
    assert looked.view(serial)["curves"] == {"nodes": {}, "swarm": []}
    looked.later().record(Measured(2.0, 2, 9, 0.3, 0.85, 10))
    assert looked.view(serial)["curves"]["nodes"] == {ANNA: [[1e9 + 102, 0.85, 0.3]]}
    assert len(looked.view()["curves"]["nodes"][ANNA]) == 2


def test_curves_of_members_that_are_forgotten_go() -> None:
    looked = Looked(status(member(BORIS), reports=[report(BORIS)]))
    looked.view()
    looked.later().status = status()
    assert looked.view()["curves"]["nodes"] == {}


# --- what it costs -------------------------------------------------------------------------------


def test_nobody_is_asked_for_a_status_while_nobody_looks() -> None:
    looked = Looked()
    for _ in range(100):
        looked.record(FLOW).later(0.01)
    assert looked.asked == 0


def test_many_who_look_at_about_the_same_time_get_the_same_view() -> None:
    looked = Looked()
    first = looked.feed.json()[0]
    for _ in range(10):
        looked.later(0.04)
        assert looked.feed.json()[0] is first
    assert looked.asked == 1
    looked.later(0.2).view()
    assert looked.asked == 2


def test_a_view_that_takes_long_is_made_more_rarely() -> None:
    looked = Looked()
    slow, told = 0.2, looked.status

    def slowly() -> dict[str, Any]:
        looked.asked += 1
        looked.now += slow
        return told

    looked.feed.attach(slowly)
    looked.view()
    looked.later(20 * slow - 0.3).view()
    assert looked.asked == 1
    looked.later(0.5).view()
    assert looked.asked == 2


async def test_a_watcher_is_told_and_a_slow_one_loses_events() -> None:
    looked = Looked()
    with looked.feed.watched() as watcher:
        looked.record(FLOW, changed("alive", 1, "met"))
        await asyncio.wait_for(watcher.has_news.wait(), 1)
        kinds = [line for line in watcher.take().split(b"\n") if line.startswith(b"event")]
        assert kinds == [b"event: merge", b"event: timeline"]
        assert not watcher.has_news.is_set()
        for _ in range(10_000):
            looked.record(FLOW)
        assert watcher.take().count(b"event: merge") <= 256
        watcher.end()
        assert watcher.is_over
        assert watcher.has_news.is_set()
    assert looked.feed.watchers == 0


@given(st.floats() | st.integers() | st.none() | st.text() | st.booleans())
def test_whatever_is_no_finite_number_is_none(value: Any) -> None:
    found = number(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    assert (found is not None) == (is_number and abs(value) != math.inf and value == value)
