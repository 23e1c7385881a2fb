"""The wire: every packet comes back as it was, and any bytes are a packet or a `WireError`."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import get_args

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Encoded, encode
from p2pfl.core.members import ADDRESSES
from p2pfl.core.membership import GREETING
from p2pfl.core.messages import (
    FIGURES,
    Ack,
    Adopt,
    Adopted,
    Body,
    Busy,
    Cancelled,
    Denial,
    Exchange,
    Figures,
    Flow,
    Model,
    Packet,
    Probe,
    Pull,
    Reason,
    Recent,
    Refused,
    Report,
    Resolve,
    Rumour,
    Statement,
    Status,
    Swap,
    mismatch,
    payload_of,
)
from p2pfl.errors import WireError

# --- any packet ---------------------------------------------------------------------------------

COUNT = st.integers(0, 2**63 - 1)
AGE = st.integers(0, 2**53)
REAL = st.floats(0, allow_nan=False, allow_infinity=False)
NODE = st.text("0123456789abcdef", min_size=8, max_size=64)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
ADDRESS = st.text(st.characters(exclude_categories=["Cs"]), max_size=32)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
CODEC = st.sampled_from(list(CODECS))


def exactly(*lengths: int) -> st.SearchStrategy[bytes]:
    """Bytes of one of these lengths."""
    return st.one_of(*(st.binary(min_size=n, max_size=n) for n in lengths))


@st.composite
def payloads(draw: st.DrawFn) -> Encoded:
    size = draw(st.sampled_from([1, 2, 255, 256, 257, 600]))
    vector = np.random.default_rng(draw(st.integers(0, 99))).normal(size=size).astype(np.float32)
    return encode(draw(CODEC), vector, np.random.default_rng(0))


BODIES: dict[type, st.SearchStrategy[Body]] = {
    Exchange: st.builds(
        Exchange,
        seq=COUNT,
        age=AGE,
        own_steps=COUNT,
        cycle_steps=COUNT,
        residence_s=REAL,
        lag_cycles=REAL,
        weight=REAL,
        payload=payloads(),
        clip=REAL,
        digest=exactly(0, 32),
        proof=exactly(0, 96),
    ),
    Resolve: st.builds(Resolve, COUNT),
    Probe: st.builds(Probe, st.none() | NODE),
    Pull: st.builds(Pull, CODEC),
    Flow: st.builds(Flow, COUNT, AGE, REAL, REAL, payloads()),
    Swap: st.builds(Swap, COUNT, AGE, COUNT, payloads()),
    Adopt: st.builds(Adopt, COUNT, AGE, payloads()),
    Adopted: st.builds(Adopted, COUNT),
    Cancelled: st.builds(Cancelled, COUNT),
    Busy: st.builds(Busy, REAL),
    Refused: st.builds(Refused, st.sampled_from(Reason), st.text(max_size=99)),
    Ack: st.builds(Ack, AGE, COUNT),
    Model: st.builds(Model, AGE, st.none() | payloads()),
}
RUMOUR = st.builds(
    Rumour,
    NODE,
    st.lists(ADDRESS, max_size=8).map(tuple),
    st.sampled_from(Status),
    COUNT,
    COUNT,
    COUNT,
)
STATEMENT = st.builds(Statement, NODE, COUNT, COUNT, AGE, exactly(32), exactly(96))
DENIAL = st.builds(Denial, NODE, COUNT, exactly(64))


def shown(longest: int) -> st.SearchStrategy[str]:
    """Text that everybody can be shown."""
    return st.text(st.characters().filter(str.isprintable), max_size=longest)


REPORT = st.builds(
    Report,
    node=NODE,
    incarnation=COUNT,
    number=COUNT,
    ago_s=REAL,
    name=shown(64),
    state=shown(16),
    age=AGE,
    own_steps=COUNT,
    cycles=COUNT,
    cycle_s=REAL,
    loss=st.none() | st.floats(-1e9, 1e9),
    accuracy=st.none() | st.floats(0, 1),
    staleness=REAL,
    distance=st.none() | REAL,
    bytes_in=COUNT,
    bytes_out=COUNT,
    recent=st.lists(st.builds(Recent, NODE, REAL), max_size=3).map(tuple),
    holding=shown(160),
)
FLOWS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(size=FIGURES, scale=1e3).astype("<f4").tobytes()
)
FIGURE = st.builds(Figures, COUNT, COUNT, FLOWS, st.just(b"") | FLOWS)


def packets(body: st.SearchStrategy[Body]) -> st.SearchStrategy[Packet]:
    return st.builds(
        Packet,
        run=TEXT,
        layout=st.text("0123456789abcdef", min_size=16, max_size=16),
        sender=NODE,
        address=ADDRESS,
        incarnation=COUNT,
        body=body,
        recipient=st.just("") | NODE,
        refutation=COUNT,
        floor=COUNT,
        own_steps=COUNT,
        rumours=st.lists(RUMOUR, max_size=3).map(tuple),
        statements=st.lists(STATEMENT, max_size=3).map(tuple),
        denials=st.lists(DENIAL, max_size=3).map(tuple),
        reports=st.lists(REPORT, max_size=3).map(tuple),
        figures=st.none() | FIGURE,
    )


def same(a: Packet, b: Packet) -> bool:
    """Equal in every field, payloads byte by byte."""
    first, second = payload_of(a.body), payload_of(b.body)
    if first is not None and second is not None:
        if not np.array_equal(first.data, second.data):
            return False
        # arrays have no truth value: one and the same array is compared as an object
        first = replace(first, data=second.data)
        a = replace(a, body=replace(a.body, payload=first))
    return a == b


def test_every_body_has_a_strategy_here():
    assert set(BODIES) == {kind for union in get_args(Body) for kind in get_args(union) or [union]}


@pytest.mark.parametrize("kind", BODIES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_packet_comes_back_as_it_was(kind, data):
    packet = data.draw(packets(BODIES[kind]))
    assert same(wire.decode(wire.encode(packet)), packet)
    assert len(wire.header(packet)) < 65_536


# --- the head of a message ----------------------------------------------------------------------

PLAIN = Packet(
    run="digits",
    layout="0123456789abcdef",
    sender="aaaaaaaa",
    address="10.0.0.1:4000",
    incarnation=3,
    body=Resolve(7),
    recipient="bbbbbbbb",
    floor=2,
    own_steps=90,
    rumours=(Rumour("cccccccc", ("10.0.0.3:1",), Status.SUSPECT, 1),),
    statements=(Statement("dddddddd", 1, 2, 3, b"d" * 32, b"p" * 96),),
    denials=(Denial("eeeeeeee", 1_700_000_000, b"a" * 64),),
    reports=(
        Report(
            "ffffffff", 3, 9, 0.5, "anna", "training", 100, 90, 18, 0.1, -1.5, 0.9, 0.5, None, 7, 8,
            (Recent("aaaaaaaa", 2.5),), "rests at night",
        ),
    ),
    figures=Figures(4, 3, bytes(4 * FIGURES), bytes(4 * FIGURES)),
)  # fmt: skip
ONES = encode("int8", np.ones(300, np.float32), np.random.default_rng(0))
SENT = replace(PLAIN, body=Flow(7, 100, 0.5, 1.5, ONES))
ASKED = replace(
    PLAIN, body=Exchange(7, 100, 90, 20, 0.5, 1.5, 0.5, ONES, 2.5, b"d" * 32, b"p" * 96)
)


def head(packet: Packet = PLAIN) -> list:
    """The header's fields, to be spoilt."""
    fields: list = msgpack.unpackb(wire.header(packet)[4:])
    return fields


def complaint(parts: object) -> str:
    """What is said about a header made of these parts."""
    with pytest.raises(WireError) as caught:
        wire.decode_header(msgpack.packb(parts))
    return str(caught.value)


def test_a_head_says_how_many_bytes_follow_before_they_are_there():
    for packet, nbytes in ((PLAIN, 0), (SENT, 2 * 260)):
        found = wire.decode_header(wire.header(packet)[4:])
        assert found.payload_bytes == nbytes
    data = payload_of(SENT.body).data
    whole = found.with_payload(data)
    assert same(whole, SENT)
    assert payload_of(whole.body).data is data, "nothing is copied"
    assert wire.decode_header(wire.header(PLAIN)[4:]).with_payload(data) == PLAIN


def test_the_longest_header_that_an_honest_node_can_be_made_to_send_is_accepted_by_all():
    """Whatever liars planted in what it passes on: a greeting, reports and statements at once."""
    node, wide = "a" * 64, "\U0001f600"
    rumour = Rumour(node, ("x" * 128,) * ADDRESSES, Status.SUSPECT, *(2**63 - 1,) * 3)
    report = replace(
        PLAIN.reports[0],
        node=node,
        name=wide * 64,
        state=wide * 16,
        holding=wide * 160,
        recent=(Recent(node, 1.5),) * 3,
        **dict.fromkeys(("incarnation", "number", "own_steps", "cycles"), 2**63 - 1),
    )
    packet = replace(
        ASKED,
        run=wide * 64,
        sender=node,
        recipient=node,
        address="x" * 128,
        rumours=(rumour,) * (GREETING + 1),
        statements=PLAIN.statements * 2,
        denials=PLAIN.denials * 2,
        reports=(report,) * 8,
    )
    assert len(wire.header(packet)) < 65_536 - 1024
    assert same(wire.decode(wire.encode(packet)), packet)


def test_where_nothing_is_told_for_people_to_see_it_takes_no_byte():
    quiet = replace(PLAIN, reports=(), figures=None)
    assert len(head(quiet)) == 5
    assert same(wire.decode(wire.encode(quiet)), quiet)
    parts = [*head(quiet), [[], None]]
    assert wire.decode_header(msgpack.packb(parts)).packet == quiet


def test_what_cannot_be_shown_of_a_report_is_replaced():
    parts = head()
    parts[5][0][0][4], parts[5][0][0][17] = "an\x1b[2Jna", "a\nb\u202ec"
    (found,) = wire.decode_header(msgpack.packb(parts)).packet.reports
    assert (found.name, found.holding) == ("an?[2Jna", "a?b?c")


def test_the_length_of_a_header_is_bounded_before_it_is_read():
    assert wire.header_length(wire.header(PLAIN), 65_536) == len(wire.header(PLAIN)) - 4
    for prefix, words in (
        (b"", "message has 0 bytes, expected at least 4"),
        (b"abc", "message has 3 bytes, expected at least 4"),
        (wire.LENGTH.pack(0), "header has 0 bytes, expected 1 to 65536"),
        (wire.LENGTH.pack(65_537), "header has 65537 bytes, expected 1 to 65536"),
        (wire.LENGTH.pack(2**32 - 1), "header has 4294967295 bytes"),
    ):
        with pytest.raises(WireError, match=words):
            wire.header_length(prefix, 65_536)


@pytest.mark.parametrize("version", [0, 2, 4, -1, True, 3.0, "3", None, [3], {}])
def test_another_version_is_told_what_was_expected(version):
    parts = head()
    parts[0] = version
    if version == {}:
        assert "expected" in complaint(parts) or "not msgpack" in complaint(parts)
    else:
        assert complaint(parts).endswith("expected 3")
        assert complaint(parts).startswith("version is")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda h: h.append(1), "header has 7 parts, expected 5 or 6"),
        (lambda h: h.__setitem__(5, 1), "packet is 1, expected 2 fields"),
        (lambda h: h.__setitem__(1, "exchang"), "type is 'exchang', expected one of exchange, "),
        (lambda h: h.__setitem__(1, ["flow"]), "type is ['flow'], expected one of"),
        (lambda h: h[2].pop(), "packet is"),
        (lambda h: h.__setitem__(2, "x"), "packet is 'x', expected 12 fields"),
        (lambda h: h[2].__setitem__(0, "x" * 65), "packet.run is 'xxx"),
        (lambda h: h[2].__setitem__(1, "xyz"), "packet.layout is 'xyz', expected [0-9a-f]{16}"),
        (lambda h: h[2].__setitem__(2, "AAAAAAAA"), "packet.sender is 'AAAAAAAA', expected"),
        (lambda h: h[2].__setitem__(2, "aaaaaaaa\n"), "packet.sender is 'aaaaaaaa\\n', expected"),
        (lambda h: h[2].__setitem__(3, "b" * 65), "packet.recipient is 'bbb"),
        (lambda h: h[2].__setitem__(4, b"10.0.0.1:1"), "packet.address is b'10.0.0.1:1'"),
        (lambda h: h[2].__setitem__(5, -1), "packet.incarnation is -1, expected an integer"),
        (lambda h: h[2].__setitem__(6, True), "packet.refutation is True, expected an integer"),
        (lambda h: h[2].__setitem__(7, 1.0), "packet.floor is 1.0, expected an integer"),
        (lambda h: h[2].__setitem__(8, 2**63), "packet.own_steps is 9223372036854775808"),
        (lambda h: h[2].__setitem__(9, [h[2][9][0]] * 65), "packet.rumours is"),
        (lambda h: h[2].__setitem__(9, [[]]), "packet.rumours is [], expected 6 fields"),
        (lambda h: h[2][9][0].__setitem__(0, 5), "packet.rumours.node is 5, expected"),
        (lambda h: h[2][9][0].__setitem__(1, ["a"] * 9), "packet.rumours.addresses is"),
        (lambda h: h[2][9][0].__setitem__(1, ["a" * 129]), "packet.rumours.addresses is 'aaa"),
        (lambda h: h[2][9][0].__setitem__(2, "ill"),
         "packet.rumours.status is 'ill', expected one of alive, suspect, dead"),
        (lambda h: h[2][9][0].__setitem__(2, []), "packet.rumours.status is [], expected one of"),
        (lambda h: h[2][9][0].__setitem__(2, [[[[]]]] * 9), "packet.rumours.status is"),
        (lambda h: h[2].__setitem__(10, [h[2][10][0]] * 17), "packet.statements is"),
        (lambda h: h[2].__setitem__(10, None), "packet.statements is None, expected a list of at"),
        (lambda h: h[2][10][0].pop(), "packet.statements is ['dddddddd', 1, 2, 3, "),
        (lambda h: h[2][10][0].__setitem__(0, "D" * 8), "packet.statements.node is 'DDDDDDDD'"),
        (lambda h: h[2][10][0].__setitem__(3, 2**53 + 1),
         "packet.statements.age is 9007199254740993, expected at most 2^53"),
        (lambda h: h[2][10][0].__setitem__(4, b""), "packet.statements.digest is b'', expected 32"),
        (lambda h: h[2][10][0].__setitem__(4, "d" * 32), "packet.statements.digest is 'ddd"),
        (lambda h: h[2][10][0].__setitem__(5, b"p" * 97), "packet.statements.proof is b'ppp"),
        (lambda h: h[2].__setitem__(11, [h[2][11][0]] * 17), "packet.denials is"),
        (lambda h: h[2].__setitem__(11, [7]), "packet.denials is 7, expected 3 fields"),
        (lambda h: h[2][11][0].__setitem__(0, ""), "packet.denials.node is '', expected"),
        (lambda h: h[2][11][0].__setitem__(1, -1), "packet.denials.at is -1, expected an integer"),
        (lambda h: h[2][11][0].__setitem__(2, b"a" * 96), "packet.denials.proof is b'aaa"),
        (lambda h: h[2][9][0].__setitem__(1, ["é" * 65]), "packet.rumours.addresses is 'ééé"),
        (lambda h: h[5].__setitem__(0, [h[5][0][0]] * 9), "packet.reports is"),
        (lambda h: h[5].__setitem__(0, None), "packet.reports is None, expected a list of at"),
        (lambda h: h[5][0][0].pop(), "packet.reports is ['ffffffff', 3, 9, "),
        (lambda h: h[5][0][0].__setitem__(0, ""), "packet.reports.node is '', expected"),
        (lambda h: h[5][0][0].__setitem__(3, -0.5), "packet.reports.ago_s is -0.5, expected a"),
        (lambda h: h[5][0][0].__setitem__(4, "x" * 65), "packet.reports.name is 'xxx"),
        (lambda h: h[5][0][0].__setitem__(5, None), "packet.reports.state is None, expected at"),
        (lambda h: h[5][0][0].__setitem__(6, 2**53 + 1), "packet.reports.age is 900"),
        (lambda h: h[5][0][0].__setitem__(10, float("nan")),
         "packet.reports.loss is nan, expected a finite number"),
        (lambda h: h[5][0][0].__setitem__(11, True), "packet.reports.accuracy is True, expected"),
        (lambda h: h[5][0][0].__setitem__(11, 1.5), "packet.reports.accuracy is 1.5, expected 0"),
        (lambda h: h[5][0][0].__setitem__(10, -1e300), "packet.reports.loss is -1e+300, expected"),
        (lambda h: h[5][0][0].__setitem__(16, h[5][0][0][16] * 4), "packet.reports.recent is"),
        (lambda h: h[5][0][0][16][0].__setitem__(0, "b"), "packet.reports.recent.peer is 'b'"),
        (lambda h: h[5][0][0].__setitem__(17, "x" * 161), "packet.reports.holding is 'xxx"),
        (lambda h: h[5].__setitem__(1, 5), "packet.figures is 5, expected 5 fields"),
        (lambda h: h[5][1].__setitem__(0, -1), "packet.figures.number is -1, expected an integer"),
        (lambda h: h[5][1].__setitem__(1, None), "packet.figures.answered is None, expected an"),
        (lambda h: h[5][1].__setitem__(2, b""), "packet.figures.given is b'', expected 316 bytes"),
        (lambda h: h[5][1].__setitem__(2, b"\xff" * 316),
         "packet.figures.given has a value that is not finite"),
        (lambda h: h[5][1].__setitem__(3, b"x"), "packet.figures.estimate is b'x', expected 316"),
        (lambda h: h[5][1].__setitem__(3, b"\xff" * 316),
         "packet.figures.estimate has a value that is not finite"),
        (lambda h: h[3].append(1), "resolve is [7, 1], expected 1 fields"),
        (lambda h: h[3].__setitem__(0, None), "resolve.seq is None, expected an integer"),
        (lambda h: h.__setitem__(4, ["float32", 5]), "resolve has a payload, expected none"),
    ],
)  # fmt: skip
def test_every_check_names_the_field_and_its_value(spoil, words):
    parts = head()
    spoil(parts)
    assert complaint(parts).startswith(words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda h: h[3].__setitem__(2, float("nan")), "flow.weight is nan, expected a finite"),
        (lambda h: h[3].__setitem__(2, float("inf")), "flow.weight is inf, expected a finite"),
        (lambda h: h[3].__setitem__(3, -0.1), "flow.staleness is -0.1, expected a finite"),
        (lambda h: h[3].__setitem__(3, True), "flow.staleness is True, expected a finite"),
        (lambda h: h.__setitem__(4, None), "flow has no payload"),
        (lambda h: h.__setitem__(4, ["int8"]), "payload is ['int8'], expected [codec, size]"),
        (lambda h: h.__setitem__(4, ["int4", 5]), "codec is 'int4', expected one of float32"),
        (lambda h: h.__setitem__(4, [[], 5]), "codec is [], expected one of float32"),
        (lambda h: h.__setitem__(4, ["int8", 0]), "size is 0, expected 1 to"),
        (lambda h: h.__setitem__(4, ["int8", -1]), "size is -1, expected an integer"),
        (lambda h: h.__setitem__(4, ["int8", 2**60]), "size is 1152921504606846976, expected 1"),
    ],
)
def test_every_check_of_a_payload_names_the_field_and_its_value(spoil, words):
    parts = head(SENT)
    spoil(parts)
    assert complaint(parts).startswith(words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda h: h[3].pop(), "exchange is [7, 100, 90, 20, 0.5, 1.5, "),
        (lambda h: h[3].__setitem__(7, -0.5), "exchange.clip is -0.5, expected a finite"),
        (lambda h: h[3].__setitem__(7, float("nan")), "exchange.clip is nan, expected a finite"),
        (lambda h: h[3].__setitem__(8, b"d" * 31), "exchange.digest is b'ddd"),
        (lambda h: h[3].__setitem__(8, None), "exchange.digest is None, expected 0 or 32 bytes"),
        (lambda h: h[3].__setitem__(9, b"p"), "exchange.proof is b'p', expected 0 or 96 bytes"),
        (lambda h: h[3].__setitem__(9, "p" * 96), "exchange.proof is 'ppp"),
    ],
)
def test_every_check_of_what_is_signed_names_the_field_and_its_value(spoil, words):
    parts = head(ASKED)
    spoil(parts)
    assert complaint(parts).startswith(words)


def test_a_payload_of_another_length_than_codec_and_size_imply_is_refused():
    message = wire.encode(SENT)
    for wrong, nbytes in ((message[:-1], 519), (message + b"\0", 521)):
        with pytest.raises(WireError, match=f"payload has {nbytes} bytes, expected 520"):
            wire.decode(wrong)


@pytest.mark.parametrize("codec", CODECS)
def test_a_payload_that_is_not_finite_is_refused(codec):
    payload = encode(codec, np.ones(300, np.float32), np.random.default_rng(0))
    word = np.array([np.inf], "<f2" if codec == "float16" else "<f4").view(np.uint8)
    payload.data[: word.size] = word
    with pytest.raises(WireError, match="not finite"):
        wire.decode(wire.encode(replace(SENT, body=Adopt(1, 2, payload))))


# --- any bytes ----------------------------------------------------------------------------------


def is_handled(message: bytes) -> None:
    """Bytes are a packet that can be said again, or a WireError; nothing else."""
    try:
        packet = wire.decode(message)
    except WireError as error:
        assert str(error)
        assert len(str(error)) < 400
    else:
        assert same(wire.decode(wire.encode(packet)), packet)


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x01\x00\x00\x00")
@example(wire.LENGTH.pack(1) + b"\xc1")
def test_any_bytes_are_a_packet_or_a_wire_error(message):
    is_handled(message)
    is_handled(wire.LENGTH.pack(len(message)) + message)


VALID = st.sampled_from(list(BODIES)).flatmap(lambda kind: packets(BODIES[kind]))


@settings(deadline=None)
@given(
    VALID, st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4), st.data()
)
def test_a_message_with_bytes_changed_is_a_packet_or_a_wire_error(packet, changes, data):
    message = bytearray(wire.encode(packet))
    for at, byte in changes:
        message[at % len(message)] = byte
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8
    is_handled(bytes(message))


@settings(deadline=None)
@given(VALID, st.integers(0, 2**16))
def test_a_message_cut_anywhere_is_a_wire_error(packet, at):
    message = wire.encode(packet)
    with pytest.raises(WireError):
        wire.decode(message[: at % len(message)])


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 999_999_999)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALID, ANYTHING, st.data())
def test_a_header_with_anything_in_place_of_any_part_is_a_packet_or_a_wire_error(
    packet, part, data
):
    parts = head(packet)
    inner = parts
    while data.draw(st.booleans()):
        deeper = [value for value in inner if isinstance(value, list) and value]
        if not deeper:
            break
        inner = data.draw(st.sampled_from(deeper))
    inner[data.draw(st.integers(0, len(inner) - 1))] = part
    message = msgpack.packb(parts)
    is_handled(wire.LENGTH.pack(len(message)) + message)


def packed(*parts: bytes) -> bytes:
    """A list of parts, each packed by hand."""
    return bytes([0x90 + len(parts)]) + b"".join(parts)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\x90"


SPOKEN, NONE, PACKET = bytes([wire.VERSION]), b"\xc0", msgpack.packb(head()[2])
DEEP, MOST = nested(990), b"\xff" * 4
BOMBS = {
    "nested lists": nested(1000),
    "lists nested deeper than msgpack can": nested(60_000),
    "nested in the version": packed(DEEP),
    "nested in the type": packed(SPOKEN, DEEP, PACKET, b"\x90", NONE),
    "nested in a reason": packed(SPOKEN, b"\xa7refused", PACKET, packed(DEEP, b"\xa0"), NONE),
    "nested in a count": packed(SPOKEN, b"\xa7resolve", PACKET, packed(DEEP), NONE),
    "nested in a codec": packed(
        SPOKEN, b"\xa5adopt", PACKET, b"\x92\x01\x01", packed(DEEP, SPOKEN)
    ),
    "a list of 2^32 - 1": b"\xdd" + MOST + SPOKEN * 100,
    "nested lists of 65280": b"\xdd\x00\x00\xff\x00" * 1000 + b"\x90" * 60_500,
    "nested lists of 256": b"\xdc\x01\x00" * 1000 + b"\x90" * 60_500,
    "a map of 2^32 - 1": b"\xdf" + MOST + SPOKEN * 100,
    "nested maps": b"\x81\xa1a" * 1000 + b"\x90",
    "a map with a list for a key": b"\x81\x90\x01",
    "a text of 2^32 - 1": b"\xdb" + MOST + b"a" * 100,
    "bytes of 2^32 - 1": b"\xc6" + MOST + b"a" * 100,
    "an extension of 2^32 - 1": b"\xc9" + MOST + b"\x05" + b"a" * 100,
    "a broken text": packed(SPOKEN, b"\xa2\xff\xfe"),
    "half a surrogate": packed(SPOKEN, b"\xa3\xed\xa0\x80"),
    "a timestamp beyond all years": packed(SPOKEN, b"\xc7\x0c\xff\0\0\0\0\x7f" + b"\xff" * 7),
    "a timestamp with too many nanoseconds": packed(SPOKEN, b"\xd7\xff" + b"\xff" * 8),
    "a timestamp of no length": packed(SPOKEN, b"\xc7\x00\xff"),
    "a long text": packed(b"\xda\xff\x00" + b"a" * 0xFF00),
    "more than one value": packed(SPOKEN, b"\xa4pull") + SPOKEN,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_wire_error_and_takes_no_more_memory_than_a_few_headers(name):
    tracemalloc.start()
    try:
        with pytest.raises(WireError) as caught:
            wire.decode_header(BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 400
    assert not str(caught.value).endswith(": ")
    assert peak < 8 * 2**20


def test_a_header_that_claims_a_payload_of_2_to_the_60_values_allocates_nothing():
    for size in (2**60, wire.MAX_PAYLOAD_VALUES):
        parts = head(SENT)
        parts[4] = ["float32", size]
        packed = msgpack.packb(parts)
        tracemalloc.start()
        try:
            with pytest.raises(
                WireError, match=r"size is|payload has 0 bytes, expected 68719476736"
            ):
                wire.decode(wire.LENGTH.pack(len(packed)) + packed)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2**18


# --- who mixes with whom ------------------------------------------------------------------------


def test_another_run_or_layout_is_told_and_what_is_not_known_is_no_mismatch():
    ours = ("digits", "0" * 16)
    assert mismatch(*ours, *ours) is None
    assert mismatch(*ours, None, None) is None
    other_run = mismatch(*ours, "cats", "1" * 16)
    assert other_run == Refused(Reason.RUN, "other run 'cats' instead of 'digits'")
    other_layout = mismatch(*ours, "digits", "1" * 16)
    assert other_layout is not None
    assert other_layout.reason is Reason.LAYOUT
