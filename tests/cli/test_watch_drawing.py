from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cli.watching.columns import COLUMNS, GAP, MARKS, arranged, chosen, name_width
from p2pfl.cli.watching.drawing import Curve, Spans, bars, bounds, plot
from p2pfl.cli.watching.memory import Memory
from p2pfl.cli.watching.picture import Merged, Row
from p2pfl.cli.watching.plain import estimated, line, lonely, refusals, table
from p2pfl.cli.watching.reading import STATES, read_view
from p2pfl.cli.watching.source import Contact, Said, Tie
from p2pfl.cli.watching.wording import counted, entry, figure, fit, span, tied, volume, whole, width
from tests.cli.watch_server import heard_of, id_of, told, view

NUMBER = st.floats(0, 1e12)


def merged(count: int = 3, **changes: object) -> Merged:
    memory = Memory()
    memory.take(Contact("127.0.0.1:4000", "127.0.0.1:4000", 900.0, Tie.LIVE))
    memory.take(Said("127.0.0.1:4000", 1000.0, read_view(view(0, count) | changes)))
    return memory.merged(1000.0)


# --- figures -------------------------------------------------------------------------------------


@given(NUMBER)
def test_no_figure_is_wider_than_its_column(value: float) -> None:
    assert len(figure(value)) <= 6
    assert len(whole(int(value))) <= 5
    assert len(volume(value)) <= 6
    assert len(span(value / 1e4)) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0.000"),
        (0.5, "0.500"),
        (0.00012, "1.2e-4"),
        (9.9951, "10.0"),
        (99.96, "100"),
        (99_999, "99999"),
        (1.234e7, "1.2e7"),
    ],
)
def test_a_figure_has_the_digits_that_matter(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_counts_bytes_and_times_are_short() -> None:
    assert [whole(n) for n in (None, 999, 9999, 10_000, 123_456, 99_999_999)] == [
        *("-", "999", "9,999", "10.0k", "123k", "100M"),
    ]
    assert [volume(n) for n in (None, 0, 999, 1000, 12_345, 3.1e6)] == [
        *("-", "0 B", "999 B", "1.0 kB", "12 kB", "3.1 MB"),
    ]
    assert [span(s) for s in (None, 0.4, 99, 150, 7200, 200_000)] == [
        *("-", "0 s", "99 s", "2 min", "2 h", "2 d"),
    ]


@given(st.text(max_size=40), st.integers(0, 30), st.booleans())
def test_a_text_fits_exactly(text: str, columns: int, right: bool) -> None:
    assert width(fit(text, columns, right=right)) == columns


def test_wide_letters_take_two_columns() -> None:
    assert width("結節") == 4
    assert fit("結節結節", 6) == "結節… "


# --- curves and bars -----------------------------------------------------------------------------


def text(lines: list[Spans]) -> list[str]:
    return ["".join(part for part, _ in one) for one in lines]


def test_a_rising_line_is_drawn_from_the_lower_left_to_the_upper_right() -> None:
    found = text(plot([Curve([(0.0, 0.0), (100.0, 1.0)], "a")], 40, 9, 100.0))
    body = [one[6:] for one in found[:-1]]
    firsts = [len(one) - len(one.lstrip()) for one in body]
    assert firsts == sorted(firsts, reverse=True)
    assert body[0].rstrip()[-1] != " "
    assert found[0].startswith(" 1.00┤")
    assert found[-2].startswith(" 0.00┤")
    assert found[-1].split() == ["-1.7", "min", "-50", "s", "now"]


def test_what_is_not_known_is_a_gap() -> None:
    points = [(float(at), None if 40 <= at <= 60 else 0.5) for at in range(101)]
    drawn = max(
        (one[6:].strip() for one in text(plot([Curve(points)], 56, 6, 100.0))[:-1]), key=len
    )
    assert "     " in drawn


def test_a_long_silence_is_a_gap_however_dense_the_curve_is() -> None:
    points = [(float(at), 0.5) for at in [*range(30), *range(70, 101)]]
    drawn = max(
        (one[6:].strip() for one in text(plot([Curve(points)], 56, 6, 100.0))[:-1]), key=len
    )
    assert "     " in drawn


def test_the_later_curve_is_seen_where_two_cross() -> None:
    flat = [(0.0, 0.5), (100.0, 0.5)]
    styles = {
        style
        for one in plot([Curve(flat, "under"), Curve(flat, "over")], 40, 6, 100.0, axis="axis")
        for part, style in one
        if part.strip()
    }
    assert styles == {"axis", "over"}


@pytest.mark.parametrize("size", [(23, 10), (40, 3), (0, 0)])
def test_without_room_nothing_is_drawn(size: tuple[int, int]) -> None:
    assert plot([Curve([(0.0, 0.5)])], *size, 10.0) == []
    assert plot([], 40, 10, 10.0) == []


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.none() | st.floats(-1e9, 1e9)), max_size=30),
    st.integers(0, 120),
    st.integers(0, 40),
)
def test_a_plot_stays_in_its_room(
    points: list[tuple[float, float | None]], columns: int, lines: int
) -> None:
    found = text(plot([Curve(sorted(points, key=lambda one: one[0]))], columns, lines, 1000.0))
    assert len(found) in (0, lines)
    assert all(len(one) <= columns for one in found)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_scale_holds_all_values(low: float, more: float) -> None:
    bottom, top, step = bounds(low, low + more)
    slack = 1e-6 * max(1.0, abs(low) + more)
    assert bottom <= low + slack
    assert top >= low + more - slack
    assert top > bottom
    assert step > 0


def test_bars_are_as_high_as_their_values() -> None:
    assert bars([0, 1, 2, 4], 8, 1) == ["  ▂▂▄▄██"]
    assert bars([1, 8], 2, 2) == [" █", "▂█"]
    assert bars([1, 1000], 2, 1) == ["▁█"]
    assert bars([0, 0], 2, 1) == ["  "]
    assert bars([], 10, 2) == bars([1, 2, 3], 2, 2) == bars([1], 1, 0) == []


# --- the table -----------------------------------------------------------------------------------


def test_every_state_has_a_shape_and_every_column_a_meaning() -> None:
    assert set(MARKS) == set(STATES)
    assert len(set(MARKS.values())) == len(STATES)
    assert all(column.meaning for column in COLUMNS)
    assert sorted(column.rank for column in COLUMNS) == list(range(len(COLUMNS)))


@given(st.integers(30, 200), st.sampled_from([column.key for column in COLUMNS]))
def test_columns_fit_and_the_sorted_one_is_always_there(room: int, sort: str) -> None:
    columns = chosen(room, sort)
    names = name_width(columns, merged().rows, room)
    assert names + sum(c.columns for c in columns[1:]) + GAP * (len(columns) - 1) <= room
    assert {"node", sort} <= {column.key for column in columns}


def test_with_room_there_are_all_columns() -> None:
    assert chosen(100, "node") == COLUMNS
    assert [column.title for column in chosen(58, "node")] == [
        *("node", "state", "acc", "loss", "age", "stale", "told"),
    ]


def rows() -> tuple[Row, ...]:
    body = view(0, 4)
    body["nodes"][1] |= {"accuracy": None, "state": "dead"}
    body["nodes"][2] |= {"accuracy": 0.1}
    return merged(nodes=body["nodes"]).rows


def labels(found: list[Row]) -> list[str]:
    return [row.label for row in found]


def test_rows_are_sorted_and_whoever_has_no_figure_comes_last() -> None:
    order = arranged(rows(), "accuracy", is_reversed=False)
    assert labels(order) == ["chloe", "dora", "anna", "boris"]
    order = arranged(rows(), "accuracy", is_reversed=True)
    assert labels(order) == ["anna", "dora", "chloe", "boris"]


def test_equal_rows_stay_in_the_order_of_their_names() -> None:
    for is_reversed in (False, True):
        order = arranged(rows(), "bytes_out", is_reversed=is_reversed)
        assert labels(order) == ["anna", "boris", "chloe", "dora"]


def test_whoever_was_only_heard_of_comes_last_however_it_is_sorted() -> None:
    found = merged(nodes=[*heard_of(2), *view(0, 3)["nodes"]]).rows
    for column in COLUMNS:
        for is_reversed in (False, True):
            order = labels(arranged(found, column.key, is_reversed=is_reversed))
            assert set(order[3:]) == {"a-000", "a-001"}, column.key


def test_every_column_sorts() -> None:
    for column in COLUMNS:
        assert len(arranged(rows(), column.key, is_reversed=True)) == 4


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ["anna", "boris", "chloe", "dora"]),
        (" OR", ["boris", "dora"]),
        ("dead", ["boris"]),
        (id_of(2)[:9], ["chloe"]),
        ("127.0.0.1:4003", ["dora"]),
        ("nobody", []),
    ],
)
def test_rows_are_found_by_name_id_address_or_state(wanted: str, found: list[str]) -> None:
    assert labels(arranged(rows(), "node", is_reversed=False, wanted=wanted)) == found


# --- sentences -----------------------------------------------------------------------------------


def test_a_table_of_lines_tells_all() -> None:
    body = view(0, 3, others={"10.0.0.9:4000": "other run 'garden'"}, holding=["rests until 07:00"])
    body["nodes"][2] |= {"state": "dead", "refusals": {"too far away": 12}, "denied": True}
    memory = Memory()
    memory.take(Said("127.0.0.1:4000", 1000.0, read_view(body)))
    memory.take(Contact("127.0.0.1:9", "127.0.0.1:9", 1000.0, Tie.GONE, "nothing runs there"))
    lines = table(memory.merged(1000.0)).splitlines()
    assert lines[:2] == [
        "run 'kitchen'  3 nodes: 2 training, 1 dead",
        "open, cooperative, topology random-3, 12,345 weights",
    ]
    assert lines[3].split() == [column.title for column in COLUMNS]
    assert lines[4].split() == [
        *("anna*", "training", "0.900", "0.500", "1,000", "10", "0.500", "1.50"),
        *("1.0", "MB", "2.0", "MB", "0", "s"),
    ]
    assert lines[6].startswith("chloe  dead")
    rest = "\n".join(lines[7:])
    assert "swarm     mean accuracy ~0.875, worst tenth ~0.810" in rest
    assert "holding   anna: rests until 07:00" in rest
    assert "anna ← boris  mixed with weight 0.42" in rest
    assert "against   chloe: too far away, 12 times" in rest
    assert "against   chloe: denied" in rest
    assert "left out  10.0.0.9:4000: other run 'garden'" in rest
    assert "silent    127.0.0.1:9: nothing runs there" in rest
    assert all(one.isprintable() for one in lines)


def test_those_only_heard_of_are_one_figure_besides_the_nodes() -> None:
    found = merged(nodes=[*view(0, 3)["nodes"], *heard_of(20)], unlisted=1312)
    lines = table(found).splitlines()
    assert lines[0] == "run 'kitchen'  3 nodes: 3 training, and 1,332 only heard of"
    assert lines[7].split()[:4] == ["a-000", "only", "heard", "of"]
    assert lines[27:29] == ["and 1,312 more that were only heard of", ""]
    assert "3 nodes: 3 training, and 1,332 only heard of" in line(found)
    assert "only heard of" not in table(merged())


def test_a_node_that_is_alone_does_not_speak_of_a_swarm() -> None:
    swarm = view(0)["swarm"] | {"count": None, "consensus_distance": None}
    entries = [told(0, is_self=True, state="alone")]
    single = merged(nodes=entries, swarm=swarm)
    assert estimated(single) == [
        "no other node yet: these are this node's own figures",
        "accuracy 0.875, loss 0.520",
    ]
    assert "accuracy 0.900" in line(single)
    assert "~" not in line(single)
    # whoever was only heard of is no company
    assert lonely(merged(nodes=[*entries, *heard_of(3)], swarm=swarm)) == lonely(single)
    for state in ("dead", "left"):
        gone = merged(nodes=[*entries, told(1, state=state)], swarm=swarm)
        assert estimated(gone)[0] == "all others are gone"
        assert gone.mean_accuracy == 0.9
        assert counted(gone) == f"2 nodes: 1 alone, 1 {state}"
    assert lonely(merged()) == ""
    assert lonely(merged(nodes=entries, swarm=None)) == "no other node yet"


def test_a_swarm_without_estimates_has_a_table_and_a_line() -> None:
    found = merged(swarm=None, staleness=None, merges=[], timeline=[], curves=None, rates=None)
    assert "no estimate yet" in table(found)
    assert "accuracy 0.890" in line(found)


def test_a_line_says_how_it_stands() -> None:
    said = line(merged(holding=["rests"]))
    assert "\n" not in said
    assert "kitchen  3 nodes: 3 training  accuracy ~0.875 worst tenth ~0.810" in said
    assert said.endswith("in 100 kB/s out 200 kB/s  anna: rests")
    assert "no run yet  no node" in line(Memory().merged(0.0))


def test_ties_are_sentences() -> None:
    memory = Memory()
    for tie in Tie:
        memory.take(Contact(tie.value, "h:1", 0.0, tie, "why"))
    assert [tied(one) for one in memory.merged(12.0).watched] == [
        "connecting to h:1",
        "h:1 waits: enough others tell",
        "h:1 is live",
        "h:1 is gone for 12 s: why; trying again",
        "h:1 left 12 s ago",
        "h:1 is left out: why",
    ]


def test_an_entry_says_who_tells_it_if_that_is_of_interest() -> None:
    death = {"at": 990.0, "kind": "dead", "node": id_of(2), "detail": "no answer for 5 s"}
    alone = merged(timeline=[death])
    assert entry(alone, alone.timeline[0]) == "chloe is dead: no answer for 5 s"
    memory = Memory()
    for place in range(2):
        memory.take(Said(f"{place}", 1000.0, read_view(view(place, timeline=[death]))))
    found = memory.merged(1000.0)
    assert entry(found, found.timeline[0]).endswith("(said by all)")
    memory.take(Said("3", 1000.0, read_view(view(3, 4, timeline=[]))))
    found = memory.merged(1000.0)
    assert entry(found, found.timeline[0]).endswith("(said by anna, boris)")


def test_a_kind_that_is_not_known_is_said_as_it_is() -> None:
    who = "127.0.0.1:9: other run 'x' instead of 'kitchen'"
    kept = merged(timeline=[{"at": 990.0, "kind": "refused", "node": None, "detail": who}])
    assert entry(kept, kept.timeline[0]) == f"anna refused {who}"
    theirs = {"kind": "refused", "node": id_of(2), "detail": "it refused: denied there"}
    told = merged(timeline=[{"at": 990.0, **theirs}])
    assert entry(told, told.timeline[0]) == "chloe: it refused: denied there"
    odd = merged(timeline=[{"at": 990.0, "kind": "danced", "node": None, "detail": ""}])
    assert entry(odd, odd.timeline[0]) == "anna danced"
    assert counted(odd) == "3 nodes: 3 training"


def test_what_is_held_against_a_node_is_told_in_sentences() -> None:
    one = told(1, refusals={"far": 1}, suspended={"lies": 2}, denied=True)
    (row,) = merged(nodes=[one]).rows
    assert refusals(row) == [
        "far, once",
        "suspended: lies, 2 times",
        "denied: it may not take part",
    ]
    assert math.isclose(row.told_ago_s or 0, 2.0)
