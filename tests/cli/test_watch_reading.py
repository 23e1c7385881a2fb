from __future__ import annotations

import json
import math
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cli.watching.reading import (
    LIST_MAX,
    NODES_MAX,
    STATES,
    TEXT_MAX,
    Told,
    View,
    read_happening,
    read_merge,
    read_view,
)
from p2pfl.cli.watching.stream import Events
from p2pfl.errors import WireError
from tests.cli.watch_server import id_of, merge, told, view

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


# --- a view --------------------------------------------------------------------------------------


def test_a_view_is_read_as_the_contract_says() -> None:
    found = read_view(json.loads(json.dumps(view(0, 3))))
    assert (found.node, found.name, found.run, found.topology) == (
        *(id_of(0), "anna", "kitchen", "random-3"),
    )
    assert [one.node for one in found.nodes] == [id_of(0), id_of(1), id_of(2)]
    assert found.nodes[1].accuracy == 0.89
    assert found.nodes[1].bytes_in == 1_000_001
    assert found.swarm is not None
    assert found.swarm.histogram.values[17] == 0.5
    assert found.staleness.edges[-1] == math.inf
    assert found.merges[0].why.startswith("mixed with weight 0.42")
    assert found.timeline[0].kind == "started"
    assert len(found.curves[id_of(2)]) == len(found.swarm_curve) == 30
    assert found.rates.exchanges_per_s == 1.25
    assert found.unlisted == 0
    assert [read_view(view(0, unlisted=more)).unlisted for more in (7, -7, "7", None)] == [
        *(7, 0, 0, 0),
    ]


def test_what_is_null_is_unknown() -> None:
    nothing = {key: None for key in told(1) if key != "node"}
    body = view(0, 1, swarm=None, started=None, incarnation=None)
    body["nodes"].append({"node": id_of(1), **nothing})
    found = read_view(body)
    assert found.swarm is None
    assert found.nodes[1] == Told(id_of(1))


@pytest.mark.parametrize("body", [None, [], "node", {}, {"node": 3}, {"node": ["a"]}])
def test_what_is_no_view_is_told_from_one(body: Any) -> None:
    with pytest.raises(WireError, match="no p2pfl node"):
        read_view(body)


def test_a_view_of_a_later_format_says_what_to_do() -> None:
    with pytest.raises(WireError, match="format 2, this p2pfl knows 1: use the same version"):
        read_view(view(0, format=2))


def test_a_text_of_a_stranger_plays_no_tricks() -> None:
    body = view(0, 1, holding=["\x1b[2Jhello\n" + "x" * 1000], others={"\x07": "\x1b]0;\x07"})
    body["nodes"][0] |= {"name": "\x1b[31mred", "holding": "\r\n", "addresses": ["\x00:1", 7]}
    found = read_view(body)
    assert found.nodes[0].name == "?[31mred"
    assert found.nodes[0].addresses == ("?:1",)
    assert found.holding[0].startswith("?[2Jhello?")
    assert len(found.holding[0]) == TEXT_MAX
    assert found.others == {"?": "?]0;?"}


def test_what_a_stranger_sends_is_bounded() -> None:
    body = view(0, 0)
    body["nodes"] = [{"node": f"{i:x}"} for i in range(NODES_MAX + 9)]
    body["timeline"] = [{"at": i, "kind": "dead", "node": None} for i in range(LIST_MAX + 9)]
    body["curves"]["nodes"] = {"a": [[i, 0.5, None] for i in range(5000)]}
    found = read_view(body)
    assert len(found.nodes) == NODES_MAX
    assert len(found.timeline) == LIST_MAX
    assert len(found.curves["a"]) < 5000


@pytest.mark.parametrize("value", ["0.5", True, [], {}, math.nan, math.inf, 10**400])
def test_a_figure_that_is_no_number_is_unknown(value: Any) -> None:
    body = view(0, 1)
    body["nodes"][0] |= {"accuracy": value, "age": value}
    found = read_view(body).nodes[0]
    assert found.accuracy is None
    assert found.age is None


def test_an_unknown_state_is_unknown_and_a_node_is_there_once() -> None:
    body = view(0, 0)
    body["nodes"] = [told(1, state="dancing"), told(1, state="dead"), {"name": "nobody"}, 3]
    (found,) = read_view(body).nodes
    assert found.state == "unknown"


@given(st.dictionaries(st.sampled_from([field.name for field in fields(View)]), JSON))
def test_any_json_is_a_view_or_an_error(changes: dict[str, Any]) -> None:
    try:
        found = read_view(view(0, 1) | changes)
    except WireError:
        return
    for text in (found.node, found.name, found.run, *found.holding, *found.others.values()):
        assert text.isprintable() or not text
    assert all(one.state in STATES for one in found.nodes)
    assert found.staleness.values == () or len(found.staleness.edges) > len(found.staleness.values)


@given(st.dictionaries(st.sampled_from(list(told(1))), JSON))
def test_any_json_of_a_node_is_read(changes: dict[str, Any]) -> None:
    body = view(0, 0)
    body["nodes"] = [told(1) | changes]
    for one in read_view(body).nodes:
        assert one.accuracy is None or math.isfinite(one.accuracy)
        assert (one.name or "").isprintable()


@given(JSON)
def test_a_merge_and_an_entry_of_the_timeline_are_read_or_refused(body: Any) -> None:
    for reader in (read_merge, read_happening):
        with pytest.raises(WireError):
            reader(body)
    assert read_merge(merge(1.0, "ab", weight=body if isinstance(body, str) else None)).peer == "ab"


# --- a stream ------------------------------------------------------------------------------------

STREAM = (
    b"retry: 1000\n\n"
    b": still here\n\n"
    b'event: view\ndata: {"a": 1}\n\n'
    b"event: merge\r\ndata: one\r\ndata: two\r\n\r\n"
    b"data:bare\n\n"
    b"event: nothing\n\n"
    b"event: timeline\nid: 7\ndata: last\n\n"
    b"event: view\ndata: cut off"
)
TOLD = [
    ("view", b'{"a": 1}'),
    ("merge", b"one\ntwo"),
    ("message", b"bare"),
    ("timeline", b"last"),
]


def test_a_stream_is_read_as_events() -> None:
    assert list(Events().feed(STREAM)) == TOLD


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_however_a_stream_is_cut_its_events_are_the_same(cuts: list[int]) -> None:
    events, found = Events(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        found += events.feed(STREAM[start:end])
    assert found == TOLD


@pytest.mark.parametrize("chunk", [b"x", b"data: x\n"])
def test_an_event_without_end_is_not_kept(chunk: bytes) -> None:
    events = Events(most=1000)
    with pytest.raises(WireError, match="over 1000 bytes"):
        for _ in range(1000):
            list(events.feed(chunk * 3))
