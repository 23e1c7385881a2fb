from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from zeroconf.asyncio import AsyncServiceInfo

from p2pfl.edge.announcement import SERVICE, Announcement, compatible, sighting
from p2pfl.errors import ConfigError
from p2pfl.ports import Sighting

NODE = "0123456789abcdef0123456789abcdef"
LAYOUT = "9a8b7c6d5e4f3a2b"
ANNOUNCEMENT = Announcement(NODE, "laptop", "kitchen", LAYOUT, "1")

hexes = st.text("0123456789abcdef", min_size=8, max_size=57)
texts = st.text(min_size=1, max_size=64).filter(
    lambda text: text.isprintable() and len(text.encode("utf-8", "replace")) <= 250
)
announcements = st.builds(
    Announcement, hexes, texts, texts, hexes, st.from_regex(r"[0-9.]{1,16}", fullmatch=True)
)


def txt(*items: bytes) -> bytes:
    return b"".join(bytes([len(item)]) + item for item in items)


@given(announcements)
def test_what_a_node_announces_is_what_others_read(announcement: Announcement) -> None:
    assert sighting(announcement.txt(), ["10.0.0.5:4000"]) == Sighting(
        ("10.0.0.5:4000",),
        announcement.node,
        announcement.run,
        announcement.layout,
        announcement.version,
        announcement.name,
    )


@given(st.binary(max_size=2000))
@example(b"\xff")
@example(b"\x00\x00\x00")
@example(txt(b"v=1", b"node=\xff\xfe"))
@example(txt(b"v", b"node"))
def test_any_bytes_are_a_sighting_or_nothing(data: bytes) -> None:
    seen = sighting(data, ["a:1"])
    assert seen is None or seen.node is not None


keys = st.sampled_from([b"v", b"node", b"run", b"layout", b"name", b"V", b"", b"x"])
values = st.one_of(
    st.binary(max_size=80), st.text(max_size=80).map(lambda t: t.encode("utf-8", "replace"))
)


@given(st.lists(st.tuples(keys, values), max_size=12))
def test_any_pairs_are_a_sound_sighting_or_nothing(pairs: list[tuple[bytes, bytes]]) -> None:
    items = [txt(b"v=1"), txt(b"node=" + NODE.encode())]
    items += [txt((key + b"=" + value)[:255]) for key, value in pairs]
    seen = sighting(b"".join(items), ["a:1"])
    if seen is not None:
        told = [text for text in (seen.run, seen.name, seen.layout) if text is not None]
        assert all(text.isprintable() and 0 < len(text) <= 64 for text in told)


@pytest.mark.parametrize(
    "items",
    [
        [b"node=" + NODE.encode()],
        [b"v=1"],
        [b"v=", b"node=" + NODE.encode()],
        [b"v=1", b"node="],
        [b"v=1", b"node=0123"],
        [b"v=1", b"node=" + b"a" * 58],
        [b"v=1", b"node=NOT-HEX-AT-ALL"],
        [b"v=12345678901234567", b"node=" + NODE.encode()],
        [b"v=1", b"node=" + NODE.encode(), b"run="],
        [b"v=1", b"node=" + NODE.encode(), b"run=" + b"a" * 65],
        [b"v=1", b"node=" + NODE.encode(), b"run=\x1b[2J"],
        [b"v=1", b"node=" + NODE.encode(), b"run=\xff"],
        [b"v=1", b"node=" + NODE.encode(), b"name=two\nlines"],
        [b"v=1", b"node=" + NODE.encode(), b"layout=zz"],
    ],
)
def test_an_unsound_record_is_ignored(items: list[bytes]) -> None:
    assert sighting(txt(*items), ["a:1"]) is None


def test_a_record_that_is_cut_short_is_ignored() -> None:
    record = ANNOUNCEMENT.txt()
    for end in range(len(record)):
        seen = sighting(record[:end], ["a:1"])
        assert seen is None or seen.node == NODE


def test_a_record_of_another_version_may_say_less_and_more() -> None:
    seen = sighting(txt(b"v=7", b"node=" + NODE.encode(), b"colour=blue", b"flag"), ["a:1"])
    assert seen == Sighting(("a:1",), NODE, version="7")


def test_the_first_of_equal_keys_counts_whatever_their_case() -> None:
    seen = sighting(txt(b"V=1", b"v=2", b"Node=" + NODE.encode(), b"run=a", b"RUN=b"), ["a:1"])
    assert seen is not None
    assert (seen.version, seen.run) == ("1", "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node": "short"}, "node id is 'short'"),
        ({"node": "a" * 58}, "node id"),
        ({"run": ""}, "run is ''"),
        ({"run": "😀" * 64}, "at most 250 bytes"),
        ({"run": "a\tb"}, "printable"),
        ({"name": "x" * 65}, "name is 'x"),
        ({"name": "\udcff"}, "name is '\\udcff'"),
        ({"layout": "?"}, "layout digest is '?'"),
        ({"version": ""}, "protocol version is ''"),
    ],
)
def test_what_cannot_be_announced_is_a_config_error(changes: dict[str, str], message: str) -> None:
    given_values = {"node": NODE, "name": "n", "run": "r", "layout": LAYOUT, "version": "1"}
    with pytest.raises(ConfigError) as caught:
        Announcement(**(given_values | changes))
    assert message in str(caught.value)


@given(announcements)
def test_a_service_name_is_a_valid_label_that_ends_with_the_id(announcement: Announcement) -> None:
    service = announcement.service(["10.0.0.5", "fd00::5"], 4000)
    label = service.name.removesuffix(f".{SERVICE}")
    assert label.endswith(announcement.node)
    assert len(label.encode()) <= 63
    assert "." not in label
    # What zeroconf itself checks of a name that it receives.
    assert AsyncServiceInfo(SERVICE, service.name).name == service.name
    assert service.text == announcement.txt()


def test_two_nodes_of_one_name_are_two_services() -> None:
    twin = Announcement("f" * 32, "laptop", "kitchen", LAYOUT, "1")
    ours, theirs = (a.service(["10.0.0.5"], 1) for a in (ANNOUNCEMENT, twin))
    assert ours.name.startswith("laptop ")
    assert theirs.name.startswith("laptop ")
    assert ours.name != theirs.name
    assert ours.server != theirs.server


SEEN = Sighting(("a:1",), NODE, "kitchen", LAYOUT, "1", "laptop")


@pytest.mark.parametrize(
    ("run", "layout", "version", "reason"),
    [
        ("kitchen", LAYOUT, "1", None),
        (None, None, None, None),
        ("garage", LAYOUT, "1", "other run 'kitchen'"),
        ("kitchen", "3f" * 8, "1", "other model (layout 9a8b7c6d instead of 3f3f3f3f)"),
        ("kitchen", LAYOUT, "2", "other protocol version 1 (this is 2)"),
        ("garage", "3f" * 8, "2", "other protocol version 1 (this is 2)"),
        ("garage", "3f" * 8, "1", "other run 'kitchen'"),
    ],
)
def test_a_peer_that_cannot_be_mixed_with_is_told_why(
    run: str | None, layout: str | None, version: str | None, reason: str | None
) -> None:
    assert compatible(SEEN, run, layout, version) == reason


def test_nothing_speaks_against_a_peer_that_says_nothing() -> None:
    assert compatible(Sighting(("a:1",)), "kitchen", LAYOUT, "1") is None
