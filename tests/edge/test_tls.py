"""The transport of a run with a key: members among themselves, and those who are none."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import Bytes
from p2pfl.core.messages import Ack, Flow, Packet, Probe, Reason, Refused, payload_of
from p2pfl.edge import certificates
from p2pfl.edge.certificates import Chain, authority_certificate, chain, leaf_certificate
from p2pfl.edge.credentials import CLOCK_ERROR_S, Credentials
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.listening import HANDSHAKE_S
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import PeerError, PeerTimeout, PeerUnreachable, WireError
from p2pfl.ports import Answered, Forward, Reply
from tests.edge.test_http import (
    BIG,
    PATIENCE_S,
    Someone,
    come_true,
    connected,
    encoded,
    exchange,
    packet,
    post,
    serving,
    told,
)

HOUR_S = 3600.0
OURS, THEIRS = RunKey.new(), RunKey.new()


@cache
def member(name: str, run: RunKey = OURS, shift_s: float = 0.0) -> Credentials:
    """A node of a run, by a clock that is ahead by so much."""
    return Credentials.member(NodeKey.new(), run, time.time() + shift_s)


ANNA, BORIS = member("anna").node, member("boris").node


def said(words: Packet, sender: str = ANNA) -> Packet:
    return replace(words, sender=sender)


def speaking(who: Credentials, says: Callable[[Packet], Reply] | None = None) -> Someone:
    """A service that speaks for `who`."""

    def answer(heard: Packet) -> Reply:
        return Answered(replace(heard, sender=who.node, body=Ack(1, 1)))

    return Someone(says or answer)


@asynccontextmanager
async def keyed(
    who: Credentials,
    service: Someone | None = None,
    limits: LimitsConfig | None = None,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[HttpTransport]:
    limits = limits or LimitsConfig()
    transport = HttpTransport("127.0.0.1", 0, limits, credentials=who, wall=wall)
    with closing(transport):
        async with transport.serve(service or speaking(who)):
            yield transport


@asynccontextmanager
async def anna_and_boris(
    boris: Someone | None = None, limits: LimitsConfig | None = None
) -> AsyncIterator[tuple[HttpTransport, HttpTransport, Someone]]:
    boris = boris or speaking(member("boris"))
    async with (
        keyed(member("anna")) as asker,
        keyed(member("boris"), boris, limits) as answerer,
    ):
        yield asker, answerer, boris


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever strangers do, it is counted and not told to the log."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- among members -------------------------------------------------------------------------------


async def test_a_large_exchange_between_members_arrives_bit_for_bit() -> None:
    there, back = encoded(BIG, seed=1), encoded(BIG, seed=2)

    def says(heard: Packet) -> Reply:
        flow = Flow(11, 1, 0.5, 0.0, back)
        return Answered(replace(heard, sender=BORIS, body=flow), iter(()), False)

    async with anna_and_boris(speaking(member("boris"), says)) as (asker, answerer, boris):
        assert asker.authenticates
        got = await asker.request(answerer.address, said(packet(exchange(there))))
    arrived, returned = payload_of(boris.heard[0].body), payload_of(got.body)
    assert arrived is not None
    assert returned is not None
    assert arrived.data.tobytes() == there.data.tobytes()
    assert returned.data.tobytes() == back.data.tobytes()
    assert boris.faults == []


async def test_many_questions_share_few_handshakes() -> None:
    async with anna_and_boris() as (asker, answerer, boris):
        for _ in range(5):
            await asyncio.gather(
                *(asker.request(answerer.address, said(packet(Probe()))) for _ in range(8))
            )
        assert len(boris.heard) == 40
        assert len(answerer_connections(asker)) <= 8


def answerer_connections(asker: HttpTransport) -> set[object]:
    """The connections that a transport keeps."""
    session = asker._session
    assert session is not None
    assert session.connector is not None
    return {handler for pool in session.connector._conns.values() for handler, *_ in pool}


async def test_a_clock_that_is_an_hour_off_does_no_harm() -> None:
    for shift_s in (-HOUR_S, HOUR_S):
        ahead = member("carla", OURS, shift_s)
        async with keyed(ahead) as asker, keyed(member("boris")) as answerer:
            there = await asker.request(answerer.address, said(packet(Probe()), ahead.node))
            back = await answerer.request(asker.address, said(packet(Probe()), BORIS))
        assert (there.sender, back.sender) == (BORIS, ahead.node)


async def test_a_renewed_certificate_is_shown_without_a_restart() -> None:
    mine = Credentials.member(NodeKey.new(), OURS, time.time() - 20 * HOUR_S)
    async with keyed(mine) as asker, keyed(member("boris")) as answerer:
        await asker.request(answerer.address, said(packet(Probe()), mine.node))
        assert mine.renew(time.time())
        assert mine.expires_at > time.time() + 20 * HOUR_S
        await answerer.request(asker.address, said(packet(Probe()), BORIS))


# --- certificates that end while they are in use -------------------------------------------------


@dataclass
class Wall:
    """The clock on the wall of one device; TLS itself goes by the real one."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


SHORT_S = 60.0


def short_lived() -> Credentials:
    """Of a member whose certificate ends in a minute, and is not renewed."""
    key, now = NodeKey.new(), time.time()
    leaf = leaf_certificate(OURS.authority, key.public, now - SHORT_S, now + SHORT_S)
    whole = chain(leaf, authority_certificate(OURS.authority))
    return Credentials(key=key, chain=whole, file=Path("carla.crt"))


async def test_whoever_asks_under_a_certificate_that_has_ended_is_not_answered() -> None:
    carla, boris, wall = short_lived(), speaking(member("boris")), Wall()
    async with keyed(carla) as asker, keyed(member("boris"), boris, wall=wall) as answerer:
        for ahead_s in (0.0, SHORT_S + CLOCK_ERROR_S - 10.0):
            wall.ahead_s = ahead_s
            await asker.request(answerer.address, said(packet(Probe()), carla.node))
        assert len(answerer_connections(asker)) == 1
        wall.ahead_s = SHORT_S + CLOCK_ERROR_S + 10.0
        with pytest.raises(PeerTimeout, match=r"broke off|Server disconnected"):
            await asker.request(answerer.address, said(packet(Probe()), carla.node))
    assert boris.faults == [("127.0.0.1:0", "its certificate has ended since it connected")]
    assert boris.charged == [], "a wrong clock is no malice"
    assert len(boris.heard) == 2


@pytest.mark.parametrize("asks_again", [True, False])
async def test_a_connection_does_not_outlive_its_certificate(asks_again: bool) -> None:
    carla, boris, wall = short_lived(), speaking(member("boris")), Wall()
    async with keyed(member("boris"), boris, wall=wall) as transport:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", transport.port, ssl=carla.client_context()
        )
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"}")
            wall.ahead_s = SHORT_S + CLOCK_ERROR_S + 10.0
            if asks_again:
                writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.transport.abort()
    assert [complaint for _, complaint in boris.faults] == [
        "its certificate has ended since it connected"
    ]


async def test_a_connection_to_a_peer_whose_certificate_has_ended_is_not_used_again() -> None:
    carla, wall = short_lived(), Wall()
    service = speaking(carla)
    async with keyed(member("anna"), wall=wall) as asker, keyed(carla, service) as answerer:
        for _ in range(2):
            await asker.request(answerer.address, said(packet(Probe())))
        (first,) = answerer_connections(asker)
        wall.ahead_s = SHORT_S + CLOCK_ERROR_S + 10.0
        await asker.request(answerer.address, said(packet(Probe())))
        (second,) = answerer_connections(asker)
    assert second is not first
    assert len(service.heard) == 3
    assert service.faults == []


async def test_members_that_renew_themselves_never_ask_under_a_certificate_that_has_ended() -> None:
    """A day and a half of steady use, by clocks that are half a day apart."""
    late, early = Wall(-24 * HOUR_S), Wall(-12 * HOUR_S)
    anna = Credentials.member(NodeKey.new(), OURS, late())
    boris = Credentials.member(NodeKey.new(), OURS, early())
    ours, theirs = speaking(anna), speaking(boris)
    used: set[object] = set()
    async with (
        keyed(anna, ours, wall=late) as asker,
        keyed(boris, theirs, wall=early) as answerer,
    ):
        for _ in range(36):
            for who, wall in (anna, late), (boris, early):
                wall.ahead_s += HOUR_S
                who.renew(wall())
            await asker.request(answerer.address, said(packet(Probe()), anna.node))
            await answerer.request(asker.address, said(packet(Probe()), boris.node))
            used |= answerer_connections(asker)
    assert ours.faults == theirs.faults == []
    assert len(ours.heard) == len(theirs.heard) == 36
    assert len(used) == 3, "the first, and one more each time that our own was renewed"


async def test_a_certificate_is_read_once_for_each_end_of_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[bytes] = []
    load = x509.load_der_x509_certificate

    def counted(der: bytes) -> x509.Certificate:
        read.append(der)
        return load(der)

    monkeypatch.setattr(x509, "load_der_x509_certificate", counted)
    async with anna_and_boris() as (asker, answerer, _):
        for _ in range(5):
            await asker.request(answerer.address, said(packet(Probe())))
    assert len(read) == 2


# --- nobody speaks for another -------------------------------------------------------------------


async def test_a_member_that_speaks_for_another_is_refused_counted_and_cut_off() -> None:
    async with anna_and_boris() as (asker, answerer, boris):
        got = await asker.request(answerer.address, said(packet(Probe()), "c" * 32))
        assert isinstance(got.body, Refused)
        assert got.body.reason is Reason.IDENTITY
        assert (got.sender, got.recipient) == (BORIS, ANNA)
        complaint = f"sender is {'c' * 32}, the certificate of {ANNA}"
        assert boris.faults == [("127.0.0.1:0", complaint)]
        assert boris.charged == [ANNA], "and never the innocent one it spoke for"
        assert boris.heard == boris.rooms == []
        await come_true(lambda: not answerer_connections(asker))
        # and may speak for itself
        assert (await asker.request(answerer.address, said(packet(Probe())))).sender == BORIS


async def test_a_question_in_anothers_name_does_not_get_room_for_its_payload() -> None:
    async with anna_and_boris() as (asker, answerer, boris):
        asked = said(packet(exchange(encoded(BIG))), "c" * 32)
        got = await asker.request(answerer.address, asked)
        assert isinstance(got.body, Refused)
        assert boris.rooms == []


async def test_an_answer_in_anothers_name_is_not_believed() -> None:
    liar = speaking(member("boris"), lambda heard: Answered(replace(heard, body=Ack(9, 9))))
    async with anna_and_boris(liar) as (asker, answerer, _):
        with pytest.raises(WireError, match=f"answer is of {ANNA}, the certificate of {BORIS}"):
            await asker.request(answerer.address, said(packet(Probe())))


async def test_a_certificate_in_anothers_name_ends_a_connection_at_either_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has the run key can make one; its key is not the one of that name."""
    key, now = NodeKey.new(), time.time()
    monkeypatch.setattr(certificates, "fingerprint", lambda _: BORIS)
    leaf = leaf_certificate(OURS.authority, key.public, now - HOUR_S, now + HOUR_S)
    monkeypatch.undo()
    authority = authority_certificate(OURS.authority)
    liar = Credentials(
        key=key,
        chain=Chain(leaf, authority, BORIS, OURS.tag, now - HOUR_S, now + HOUR_S),
        file=Path("liar.crt"),
    )
    anna, boris = speaking(member("anna")), speaking(member("boris"))
    complaint = f"certificate for .*{BORIS}.* holds the key of {key.node}"
    async with keyed(member("anna"), anna) as honest, keyed(liar, boris) as there:
        for _ in range(2):
            with pytest.raises(PeerError, match=complaint):
                await honest.request(there.address, replace(said(packet(Probe())), recipient=BORIS))
        assert answerer_connections(honest) == set()
        with suppress(PeerError):
            await there.request(honest.address, said(packet(Probe()), BORIS))
        await come_true(lambda: anna.faults)
    assert re.search(complaint, anna.faults[0][1])
    assert anna.heard == anna.charged == boris.heard == []


async def test_nobody_answers_for_the_member_that_was_meant() -> None:
    """Addresses change hands; what the new one says is not even read."""
    carla, rooms = member("carla"), []

    def room(nbytes: int) -> Bytes:
        rooms.append(nbytes)
        return np.empty(nbytes, np.uint8)

    def says(heard: Packet) -> Reply:
        flow = Flow(11, 1, 0.5, 0.0, encoded(BIG))
        return Answered(replace(heard, sender=BORIS, body=flow))

    async with keyed(member("anna")) as asker, keyed(carla, speaking(carla, says)) as there:
        asked = replace(said(packet(exchange(encoded(BIG)))), recipient=BORIS)
        with pytest.raises(PeerUnreachable, match=f"{carla.node} lives there, not {BORIS}"):
            await asker.request(there.address, asked, room)
    assert rooms == []


async def test_a_relay_may_pass_on_what_its_target_says_and_nothing_else() -> None:
    carla = member("carla")
    async with keyed(carla, speaking(carla)) as there:
        asked = replace(said(packet(Probe()), BORIS), recipient=carla.node)
        onward = Forward(there.address, asked)
        relay = speaking(member("boris"), lambda _: onward)
        async with anna_and_boris(relay) as (asker, answerer, _):
            got = await asker.request(answerer.address, said(packet(Probe(carla.node))))
            assert (got.sender, got.body) == (carla.node, Ack(1, 1))
            with pytest.raises(WireError, match=f"answer is of {carla.node}"):
                await asker.request(answerer.address, said(packet(Probe("d" * 32))))


# --- strangers -----------------------------------------------------------------------------------


def stranger(certificate: Credentials | None = None) -> ssl.SSLContext:
    """Somebody who believes everybody, and shows a certificate or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        # the context of a member, with its certificate in it, that checks nothing
        context = Credentials.member(certificate.key, THEIRS, time.time()).client_context()
        context.verify_mode = ssl.CERT_NONE
    return context


async def shut_out(transport: HttpTransport, context: ssl.SSLContext) -> bool:
    """Whether nothing comes back to a question that was asked with this context."""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", transport.port, ssl=context)
        try:
            writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read() == b""
        finally:
            writer.transport.abort()
    return True


def old_tls() -> ssl.SSLContext:
    context = stranger()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize(
    ("context", "complaint"),
    [
        (stranger, "showed no certificate of this run"),
        (lambda: stranger(member("eve", THEIRS)), "its certificate is of another run's key"),
        (old_tls, "no TLS 1.3 handshake: unsupported protocol"),
    ],
    ids=["no certificate", "another run's", "TLS 1.2"],
)
async def test_who_is_no_member_gets_no_answer_and_is_counted(
    context: Callable[[], ssl.SSLContext], complaint: str
) -> None:
    boris = speaking(member("boris"))
    async with keyed(member("boris"), boris) as transport:
        assert await shut_out(transport, context())
        await come_true(lambda: boris.faults)
    assert boris.faults == [("127.0.0.1:0", complaint)]
    assert boris.heard == []


async def test_a_node_of_another_run_is_told_so_when_it_connects() -> None:
    boris = speaking(member("boris"))
    eve = member("eve", THEIRS)
    async with keyed(eve) as asker, keyed(member("boris"), boris) as answerer:
        with pytest.raises(PeerUnreachable, match="certificate is of another run's key"):
            await asker.request(answerer.address, said(packet(Probe()), eve.node))
        await come_true(lambda: boris.faults)
    assert boris.faults == [("127.0.0.1:0", "broke off its handshake")]


@pytest.mark.parametrize(
    ("shift_s", "complaint"),
    [(48 * HOUR_S, "not yet valid: check the clocks"), (-48 * HOUR_S, "expired: check the clocks")],
)
async def test_clocks_that_are_days_apart_are_named(shift_s: float, complaint: str) -> None:
    late, boris = member("late", OURS, shift_s), speaking(member("boris"))
    async with keyed(late) as asker, keyed(member("boris"), boris) as answerer:
        with pytest.raises(PeerUnreachable, match=f"its certificate is {complaint}"):
            await answerer.request(asker.address, said(packet(Probe()), BORIS))
        with suppress(Exception):
            await asker.request(answerer.address, said(packet(Probe()), late.node))
        await come_true(lambda: boris.faults)
    assert boris.heard == []
    assert boris.faults[0][1].startswith(f"its certificate is {complaint}")


async def test_an_open_node_that_asks_a_keyed_one_is_told_what_it_lacks() -> None:
    boris = speaking(member("boris"))
    async with serving() as asker, keyed(member("boris"), boris) as answerer:
        with pytest.raises(PeerTimeout, match="400: this node is in a run with a key: start yours"):
            await asker.request(answerer.address, packet(Probe()))
        await come_true(lambda: boris.faults)
    assert boris.faults == [("127.0.0.1:0", "spoke no TLS to a node that has a key")]
    assert boris.heard == []


async def test_a_keyed_node_that_asks_an_open_one_is_told_so() -> None:
    open_one = Someone()
    async with keyed(member("anna")) as asker, serving(open_one) as answerer:
        with pytest.raises(PeerUnreachable, match="it is not in a run with a key"):
            await asker.request(answerer.address, said(packet(Probe())))
        await come_true(lambda: open_one.faults)
    assert open_one.heard == []


@pytest.mark.parametrize(
    "words", [b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 64]
)
async def test_nothing_is_served_in_plain_text(words: bytes) -> None:
    boris = speaking(member("boris"))
    async with keyed(member("boris"), boris) as transport:
        answer = await told(transport, words)
        await come_true(lambda: boris.faults)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"--key" in answer
    assert BORIS.encode() not in answer


# --- handshakes that do not end ------------------------------------------------------------------

HELLO = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(99)


@pytest.mark.slow
@pytest.mark.parametrize("words", [b"", HELLO[:1], HELLO])
async def test_a_handshake_that_does_not_go_on_is_given_up(words: bytes) -> None:
    boris = speaking(member("boris"))
    async with keyed(member("boris"), boris) as transport, connected(transport) as (reader, writer):
        writer.write(words)
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        assert time.monotonic() - began < 2 * HANDSHAKE_S
        await come_true(lambda: boris.faults)
    ((_, complaint),) = boris.faults
    assert complaint == f"no handshake within {HANDSHAKE_S:g} s"


async def test_half_open_connections_do_not_keep_a_member_out() -> None:
    boris = speaking(member("boris"))
    limits = LimitsConfig(connections=64, first_byte_s=60.0)
    async with anna_and_boris(boris, limits) as (asker, answerer, _), AsyncExitStack() as crowd:
        for _ in range(100):
            _, writer = await crowd.enter_async_context(connected(answerer, "127.0.0.66"))
            writer.write(HELLO)
        got = await asker.request(answerer.address, said(packet(Probe())))
        assert got.body == Ack(1, 1)
        await come_true(lambda: len(boris.faults) >= 100 - 16)
    assert {address for address, _ in boris.faults} == {"127.0.0.66:0"}
    assert {complaint for _, complaint in boris.faults} == {
        "more than 16 that ask nothing",
        "more than 16 connections a second",
    }


async def test_a_transport_closes_in_the_middle_of_handshakes() -> None:
    async with AsyncExitStack() as crowd, keyed(member("boris")) as transport:
        for words in (b"", HELLO):
            _, writer = await crowd.enter_async_context(connected(transport))
            writer.write(words)
        await asyncio.sleep(0)
    # that nothing was left open is checked by whoever runs this: warnings are errors


# --- a member gone bad ---------------------------------------------------------------------------


async def test_bytes_that_are_no_message_are_counted_under_tls_too() -> None:
    boris = speaking(member("boris"))
    probe = wire.encode(said(packet(Probe())))
    async with keyed(member("boris"), boris) as transport:
        for words in (post(probe[:-1], "probe"), post(probe), b"GET\r\n\r\n"):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", transport.port, ssl=member("anna").client_context()
            )
            writer.write(words)
            async with asyncio.timeout(PATIENCE_S):
                assert (await reader.readline()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
            writer.transport.abort()
    assert [complaint[:9] for _, complaint in boris.faults] == [
        "message e",
        "probe at ",
        "not HTTP:",
    ]
    assert boris.heard == []
