"""The transport alone, on loopback: two of them, and strangers with plain sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import numpy as np
import pytest

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Bytes, Encoded
from p2pfl.core.messages import (
    Ack,
    Adopt,
    Adopted,
    Body,
    Busy,
    Cancelled,
    Exchange,
    Flow,
    Model,
    Packet,
    Probe,
    Pull,
    Reason,
    Refused,
    Resolve,
    Rumour,
    Status,
    payload_of,
)
from p2pfl.core.weights import PIECE
from p2pfl.edge.connections import ACCEPTS_PER_S
from p2pfl.edge.http import HttpTransport
from p2pfl.errors import NetworkError, PeerTimeout, PeerUnreachable, WireError
from p2pfl.ports import Answered, Forward, Reply

PATIENCE_S = 20.0
ANNA, BORIS = "aaaa" * 4, "bbbb" * 4
BIG = 3 * PIECE + 77
"""Three pieces and an odd tail."""
IMPATIENT = LimitsConfig(first_byte_s=0.3, body_min_bytes_per_s=1e9, connections=4)


def encoded(size: int, codec: str = "float32", seed: int = 0) -> Encoded:
    values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    data = np.empty(CODECS[codec].nbytes(size), np.uint8)
    CODECS[codec].encode(values, np.random.default_rng(seed), data)
    return Encoded(codec, size, data)


def packet(body: Body, address: str = "0.0.0.0:4000") -> Packet:
    rumour = Rumour(BORIS, ("10.0.0.9:4000",), Status.ALIVE, 3, 1, 99)
    return Packet("kitchen", "9a8b7c6d5e4f3a2b", ANNA, address, 7, body, rumours=(rumour,))


def exchange(payload: Encoded) -> Exchange:
    return Exchange(11, 500, 250, 10, 0.25, 1.5, 0.5, payload)


@dataclass
class Someone:
    """A service that answers with what `says` makes of a packet."""

    says: Callable[[Packet], Body | Reply] = lambda _: Ack(1, 1)
    refuses: Refused | None = None
    heard: list[Packet] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    charged: list[str] = field(default_factory=list)
    rooms: list[Bytes] = field(default_factory=list)
    arriving: int = 0

    def admit(self, packet: Packet) -> Packet | None:
        return None if self.refuses is None else replace(packet, body=self.refuses)

    @contextmanager
    def room(self, nbytes: int, sender: str = "") -> Iterator[Bytes]:
        self.arriving += nbytes
        self.rooms.append(np.empty(nbytes, np.uint8))
        try:
            yield self.rooms[-1]
        finally:
            self.arriving -= nbytes

    def handle(self, packet: Packet) -> Reply:
        self.heard.append(packet)
        said = self.says(packet)
        if isinstance(said, Forward | Answered):
            return said
        return Answered(replace(packet, body=said))

    needs_whole = False

    def faulty(self, address: str, error: Exception, sender: str = "") -> None:
        self.faults.append((address, str(error)))
        if sender:
            self.charged.append(sender)

    def status(self) -> dict[str, Any]:
        return {"faults": len(self.faults)}


@asynccontextmanager
async def serving(
    service: Someone | None = None, bind: str = "127.0.0.1", limits: LimitsConfig | None = None
) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(bind, 0, limits or LimitsConfig())
    with closing(transport):
        async with transport.serve(service or Someone()):
            yield transport


@asynccontextmanager
async def two(
    service: Someone, limits: LimitsConfig | None = None
) -> AsyncIterator[tuple[HttpTransport, HttpTransport]]:
    """One who asks, and one who answers with `service`."""
    async with serving() as asker, serving(service, limits=limits) as answerer:
        yield asker, answerer


async def come_true(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not claim():  # noqa: ASYNC110 (what is counted tells nobody)
            await asyncio.sleep(0.02)


# --- there and back ------------------------------------------------------------------------------

SMALL = encoded(1000)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (exchange(SMALL), Flow(11, 510, 0.5, 0.75, encoded(1000, seed=1))),
        (exchange(SMALL), Adopt(11, 9000, encoded(1000, seed=2))),
        (exchange(SMALL), Adopted(11)),
        (exchange(SMALL), Busy(0.5)),
        (exchange(SMALL), Refused(Reason.RUN, "other run 'küche'")),
        (Resolve(11), Cancelled(11)),
        (Resolve(11), Flow(11, 510, 0.5, 0.75, encoded(1000, seed=1))),
        (Probe(), Ack(12, 34)),
        (Probe(BORIS), Ack(12, 34)),
        (Pull("int8"), Model(9000, encoded(1000, "int8"))),
        (Pull(), Model(0, None)),
    ],
    ids=lambda body: type(body).__name__,
)
async def test_every_question_and_answer_arrives_as_it_was_sent(
    question: Body, answer: Body
) -> None:
    boris = Someone(lambda _: answer)
    async with two(boris) as (asker, answerer):
        sent = packet(question, "10.0.0.1:4000")
        got = await asker.request(answerer.address, sent)
    (heard,) = boris.heard
    assert wire.encode(heard) == wire.encode(sent)
    assert wire.encode(got) == wire.encode(replace(sent, body=answer))
    assert boris.faults == []


@pytest.mark.parametrize("codec", CODECS)
async def test_a_large_payload_arrives_bit_for_bit_in_both_directions(codec: str) -> None:
    there, back = encoded(BIG, codec, seed=1), encoded(BIG, codec, seed=2)
    boris = Someone(lambda _: Flow(11, 1, 0.5, 0.0, back))
    async with two(boris) as (asker, answerer):
        got = await asker.request(answerer.address, packet(exchange(there)))
    arrived, returned = payload_of(boris.heard[0].body), payload_of(got.body)
    assert arrived is not None
    assert returned is not None
    assert arrived.data.tobytes() == there.data.tobytes()
    assert returned.data.tobytes() == back.data.tobytes()
    assert boris.arriving == 0


async def test_payloads_are_received_into_the_buffers_that_were_given() -> None:
    mine: list[Bytes] = []

    def room(nbytes: int) -> Bytes:
        mine.append(np.empty(nbytes, np.uint8))
        return mine[-1]

    boris = Someone(lambda _: Flow(11, 1, 0.5, 0.0, encoded(BIG)))
    async with two(boris) as (asker, answerer):
        got = await asker.request(answerer.address, packet(exchange(encoded(BIG))), room)
    arrived, returned = payload_of(boris.heard[0].body), payload_of(got.body)
    assert arrived is not None
    assert returned is not None
    assert np.shares_memory(arrived.data, boris.rooms[0])
    assert np.shares_memory(returned.data, mine[0])


async def test_what_one_sends_is_what_the_other_receives_in_bytes() -> None:
    question, answer = packet(exchange(encoded(BIG))), Flow(11, 1, 0.5, 0.0, encoded(BIG, seed=1))
    async with two(Someone(lambda _: answer)) as (asker, answerer):
        got = await asker.request(answerer.address, question)
        there, back = len(wire.encode(question)), len(wire.encode(got))
        assert (asker.traffic.bytes_out, asker.traffic.bytes_in) == (there, back)
        assert (answerer.traffic.bytes_in, answerer.traffic.bytes_out) == (there, back)


async def test_a_refusal_comes_before_the_payload_is_read() -> None:
    boris = Someone(refuses=Refused(Reason.LAYOUT, "other model"))
    async with two(boris) as (asker, answerer):
        got = await asker.request(answerer.address, packet(exchange(SMALL)))
    assert got.body == boris.refuses
    assert boris.heard == boris.rooms == []


async def test_many_requests_at_once_do_not_mix_up_their_answers() -> None:
    def echo(heard: Packet) -> Body:
        assert isinstance(heard.body, Exchange)
        return Flow(heard.body.seq, 1, 0.5, 0.0, heard.body.payload)

    async with two(Someone(echo)) as (asker, answerer):

        async def ask(seq: int) -> bool:
            sent = replace(exchange(encoded(1000 + seq, seed=seq)), seq=seq)
            got = (await asker.request(answerer.address, packet(sent))).body
            assert isinstance(got, Flow)
            return got.seq == seq and bool((got.payload.data == sent.payload.data).all())

        assert all(await asyncio.gather(*map(ask, range(50))))


async def test_the_status_is_json_for_people() -> None:
    async with serving() as transport, aiohttp.ClientSession() as session:
        async with session.get(f"http://{transport.address}/v1/status") as response:
            assert await response.json() == {"faults": 0}
        async with session.get(f"http://{transport.address}/") as response:
            assert response.status == 404


# --- answered while it arrives -------------------------------------------------------------------


@dataclass
class Work:
    """Counts how far it was driven: the first step begins, each further one does a piece."""

    steps: int = 0
    is_over: bool = False

    def __call__(self, _: Packet) -> Iterator[None]:
        try:
            for _ in range(5):
                self.steps += 1
                yield
        finally:
            self.is_over = True


def streamed(work: Work) -> Someone:
    """Answers an exchange with its own payload, as it comes."""

    def says(heard: Packet) -> Reply:
        payload = payload_of(heard.body)
        assert payload is not None
        return Answered(replace(heard, body=Flow(11, 1, 0.5, 0.0, payload)), work(heard), True)

    return Someone(says)


async def test_an_answer_begins_before_its_question_has_ended() -> None:
    work, asked = Work(), wire.encode(packet(exchange(encoded(BIG))))
    half = len(asked) - 2 * 4 * PIECE
    boris = streamed(work)
    async with serving(boris) as transport, connected(transport) as (reader, writer):
        writer.write(post(asked[:half], length=len(asked)))
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            head = await reader.readuntil(b"\r\n\r\n")
            await come_true(lambda: work.steps == 2)
            writer.write(asked[half:])
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            answer = wire.decode(await reader.readexactly(length))
    returned = payload_of(answer.body)
    assert returned is not None
    assert returned.data.tobytes() == encoded(BIG).data.tobytes()
    assert work.is_over
    assert boris.faults == []


async def test_work_ends_where_the_question_breaks_off() -> None:
    work, asked = Work(), wire.encode(packet(exchange(encoded(BIG))))
    boris = streamed(work)
    async with serving(boris) as transport:
        async with connected(transport) as (_, writer):
            writer.write(post(asked[: -2 * 4 * PIECE], length=len(asked)))
            await come_true(lambda: work.steps == 2)
        await come_true(lambda: boris.faults)
        assert (work.steps, work.is_over, boris.arriving) == (2, True, 0)


async def test_the_asker_works_on_an_answer_while_it_arrives() -> None:
    work = Work()
    async with two(streamed(Work())) as (asker, answerer):
        asked = packet(exchange(encoded(BIG)))
        await asker.request(answerer.address, asked, begin=work)
    assert (work.steps, work.is_over) == (5, True)


async def test_the_askers_work_ends_where_the_answer_breaks_off() -> None:
    work, answer = Work(), wire.encode(packet(Flow(11, 1, 0.5, 0.0, encoded(BIG))))
    broken = http(answer[: -2 * 4 * PIECE], length=len(answer))
    async with serving() as asker, saying(broken) as address:
        with pytest.raises(PeerTimeout, match="broke off"):
            await asker.request(address, packet(Probe()), begin=work)
    assert (work.steps, work.is_over) == (2, True)


# --- probes on behalf of others ------------------------------------------------------------------


CARLA = "cccc" * 4
ONWARD = replace(packet(Probe()), sender=BORIS, recipient=CARLA)
NOT_REACHED = Refused(Reason.UNREACHABLE, "that member did not answer")


def speaking_as(node: str, body: Body) -> Someone:
    """A service that says this in the name of `node`."""
    return Someone(lambda heard: Answered(replace(heard, sender=node, body=body)))


async def relayed(target: Someone) -> Packet:
    """What Anna is told when Boris asks Carla for her, and `target` lives where she should."""
    async with serving(target) as there:
        relay_says = Someone(lambda _: Forward(there.address, ONWARD))
        async with two(relay_says) as (asker, relay):
            return await asker.request(relay.address, packet(Probe(CARLA)))


async def test_a_forwarded_probe_gives_the_answer_of_its_target() -> None:
    target = speaking_as(CARLA, Ack(77, 7))
    got = await relayed(target)
    assert (got.sender, got.body) == (CARLA, Ack(77, 7))
    assert target.heard[0].sender == BORIS


@pytest.mark.parametrize(
    ("node", "body"),
    [
        ("dddd" * 4, Ack(77, 7)),
        ("dddd" * 4, Refused(Reason.RECIPIENT, "another node lives here now")),
        (CARLA, Refused(Reason.RUN, "other run 'secret plans'")),
        (CARLA, Model(5, None)),
    ],
    ids=["another", "another refuses", "refuses", "no answer to a probe"],
)
async def test_a_relay_does_not_tell_what_others_say_where_its_target_should_be(
    node: str, body: Body
) -> None:
    got = await relayed(speaking_as(node, body))
    assert (got.sender, got.recipient, got.body) == (BORIS, ANNA, NOT_REACHED)


@pytest.mark.parametrize("listens", ["to nobody", "in silence", "and speaks no HTTP"])
async def test_a_relay_says_that_its_target_did_not_answer_and_not_why(listens: str) -> None:
    async with AsyncExitStack() as there:
        if listens == "and speaks no HTTP":
            address = await there.enter_async_context(saying(b"SSH-2.0-OpenSSH_9.9\r\n"))
        else:
            nobody = there.enter_context(closing(socket.socket()))
            nobody.bind(("127.0.0.1", 0))
            if listens == "in silence":
                nobody.listen()
            address = f"127.0.0.1:{nobody.getsockname()[1]}"
        relay_says = Someone(lambda _: Forward(address, ONWARD))
        async with two(relay_says) as (asker, relay):
            got = await asker.request(relay.address, packet(Probe(CARLA)))
    assert got.body == NOT_REACHED
    assert (got.sender, got.recipient, got.floor, got.rumours) == (BORIS, ANNA, 0, ())
    assert relay_says.faults == [], "it was held against whoever asked"


# --- those that cannot be reached, or break off --------------------------------------------------


async def test_a_closed_port_is_unreachable() -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with serving() as asker:
            with pytest.raises(PeerUnreachable, match="cannot connect to 127"):
                await asker.request(f"127.0.0.1:{nobody.getsockname()[1]}", packet(Probe()))


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:port", "fd00::1:4000", "127.0.0.1:80/admin?x="],
)
async def test_what_is_not_host_and_port_is_unreachable(address: str) -> None:
    async with serving() as asker:
        with pytest.raises(PeerUnreachable, match="is not host:port"):
            await asker.request(address, packet(Probe()))


async def test_a_transport_that_does_not_serve_any_more_asks_nobody() -> None:
    async with serving() as other:
        async with serving() as asker:
            pass
        with pytest.raises(PeerUnreachable, match="not serving"):
            await asker.request(other.address, packet(Probe()))


@asynccontextmanager
async def saying(answer: bytes, *, stays: bool = False) -> AsyncIterator[str]:
    """A stranger that gives these bytes for an answer and goes; its address."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(answer)
        await writer.drain()
        if stays:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(body: bytes, *, length: int | None = None, more: bytes = b"") -> bytes:
    length = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (length, more) + body


WHOLE = wire.encode(packet(Flow(11, 1, 0.5, 0.0, SMALL)))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        http(b"", length=100),
        http(WHOLE[:2], length=len(WHOLE)),
        http(WHOLE[:50], length=len(WHOLE)),
        http(WHOLE[:-1], length=len(WHOLE)),
    ],
)
async def test_an_answer_that_breaks_off_leaves_its_end_open(answer: bytes) -> None:
    async with serving() as asker, saying(answer) as address:
        with pytest.raises(PeerTimeout, match=r"broke off|Server disconnected"):
            await asker.request(address, packet(Probe()))


POISON = wire.encode(
    packet(Flow(11, 1, 0.5, 0.0, Encoded("float32", 2, np.frombuffer(b"\0\0\xc0\x7f" * 2, "u1"))))
)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (http(b"garbage, and quite a lot of it"), "header has 1651663207 bytes"),
        (http(b"\xff\xff\xff\xff" + WHOLE), "header has 4294967295 bytes, expected 1 to 65536"),
        (http(b"\x08\0\0\0" + b"\xc1" * 8), "header is not msgpack"),
        (http(WHOLE + b"\0"), f"body has {len(WHOLE) + 1} bytes, expected {len(WHOLE)}"),
        (http(WHOLE[:-4]), f"body has {len(WHOLE) - 4} bytes, expected {len(WHOLE)}"),
        (http(POISON), "payload has a value that is not finite"),
        (http(gzip.compress(WHOLE, mtime=0), more=b"Content-Encoding: gzip\r\n"), "header has "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "body has no length"),
    ],
)
async def test_an_answer_that_is_no_message_is_the_peers_fault(
    answer: bytes, complaint: str
) -> None:
    async with serving() as asker, saying(answer, stays=True) as address:
        with pytest.raises(WireError) as error:
            await asker.request(address, packet(Probe()))
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno thanks", "400: no thanks"),
        (b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "307"),
    ],
)
async def test_another_status_is_no_answer_and_nobodys_malice(
    answer: bytes, complaint: str
) -> None:
    async with serving() as asker, saying(answer, stays=True) as address:
        with pytest.raises(PeerTimeout) as error:
            await asker.request(address, packet(Probe()))
    assert complaint in str(error.value)


async def test_no_redirection_is_followed() -> None:
    victim = Someone()
    async with serving(victim) as there:
        target = b"http://%s/v1/probe" % there.address.encode()
        answer = b"HTTP/1.1 307 Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % target
        async with serving() as asker, saying(answer, stays=True) as address:
            with pytest.raises(PeerTimeout, match="answered 307"):
                await asker.request(address, packet(Probe()))
    assert victim.heard == []


# --- addresses -----------------------------------------------------------------------------------


async def reach(bind: str, host: str, declared: str) -> str:
    """What a node that listens on `bind` makes of an address declared by who came over `host`."""
    boris = Someone()
    async with serving(boris, bind) as answerer, serving() as asker:
        await asker.request(f"{host}:{answerer.port}", packet(Probe(), declared))
    return boris.heard[0].address


needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this device has no IPv6")


async def test_an_unspecified_address_becomes_the_one_it_came_from() -> None:
    assert await reach("127.0.0.1", "127.0.0.1", "0.0.0.0:4000") == "127.0.0.1:4000"
    assert await reach("127.0.0.1", "127.0.0.1", "[::]:4000") == "127.0.0.1:4000"


async def test_an_address_that_was_declared_is_kept() -> None:
    for declared in ("10.0.0.5:4000", "[fd00::5]:4000", "[fe80::5%eth0]:4000"):
        assert await reach("127.0.0.1", "127.0.0.1", declared) == declared


@needs_ipv6
async def test_without_an_address_it_listens_to_ipv4_and_ipv6() -> None:
    assert await reach("", "127.0.0.1", "[::]:4000") == "127.0.0.1:4000"
    assert await reach("", "[::1]", "[::]:4000") == "[::1]:4000"


@needs_ipv6
async def test_an_ipv6_address_is_written_in_brackets() -> None:
    async with serving(bind="::1") as transport, serving() as asker:
        assert transport.address == f"[::1]:{transport.port}"
        assert (await asker.request(transport.address, packet(Probe()))).body == Ack(1, 1)


@pytest.mark.parametrize(
    "declared", ["nonsense", "10.0.0.5", "10.0.0.5:0", "10.0.0.5:70000", "example.org:80", ":80"]
)
async def test_an_address_that_is_none_is_refused_and_counted(declared: str) -> None:
    boris = Someone()
    async with two(boris) as (asker, answerer):
        with pytest.raises(PeerTimeout, match="400: address is"):
            await asker.request(answerer.address, packet(Probe(), declared))
    assert boris.heard == []
    assert [address for address, _ in boris.faults] == ["127.0.0.1:0"]


def test_a_port_in_use_is_an_error_with_the_fix() -> None:
    with closing(HttpTransport("127.0.0.1", 0, LimitsConfig())) as first:
        message = f"port {first.port} is in use; give another --port, or 0 for any free one"
        with pytest.raises(NetworkError, match=message):
            HttpTransport("127.0.0.1", first.port, LimitsConfig())


@pytest.mark.parametrize("bind", ["192.0.2.77", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_an_error_with_the_fix(bind: str) -> None:
    with pytest.raises(NetworkError, match=f"cannot listen on {bind}:0: .*; give another --bind"):
        HttpTransport(bind, 0, LimitsConfig())


# --- strangers -----------------------------------------------------------------------------------


@asynccontextmanager
async def connected(
    transport: HttpTransport, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", transport.port, local_addr=(host, 0)
    )
    try:
        yield reader, writer
    finally:
        writer.close()


def post(body: bytes, kind: str = "exchange", *, more: bytes = b"", length: int = -1) -> bytes:
    size = len(body) if length < 0 else length
    head = b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n"
    return head % (kind.encode(), size, more) + body


async def told(transport: HttpTransport, request: bytes) -> bytes:
    """All that a server says to these bytes until it closes the connection."""
    async with asyncio.timeout(PATIENCE_S), connected(transport) as (reader, writer):
        writer.write(request)
        return await reader.read()


ASKED = wire.encode(packet(exchange(SMALL)))
PROBE = wire.encode(packet(Probe()))


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (post(b""), "message ended after 0 bytes of a header"),
        (post(b"\xff\xff\xff\xff"), "header has 4294967295 bytes, expected 1 to 65536"),
        (post(b"\x08\0\0\0" + b"\xc1" * 8), "header is not msgpack"),
        (
            post(PROBE.replace(b"%c\xa5probe" % wire.VERSION, b"\x63\xa5probe"), "probe"),
            "version is 99",
        ),
        (post(PROBE), "probe at /v1/exchange"),
        (post(ASKED, "probe"), "exchange at /v1/probe"),
        (post(ASKED[:-4]), f"body has {len(ASKED) - 4} bytes, expected {len(ASKED)}"),
        (post(ASKED, length=2**60), f"body has {2**60} bytes, expected {len(ASKED)}"),
        (post(ASKED[:-4] + b"\0\0\xc0\x7f"), "payload has a value that is not finite"),
        (
            b"POST /v1/probe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "body has no length, expected Content-Length",
        ),
        (
            post(gzip.compress(PROBE), "probe", more=b"Content-Encoding: gzip\r\n"),
            "header has ",
        ),
    ],
)
async def test_a_question_that_is_no_message_is_answered_with_400_and_counted(
    request_: bytes, complaint: str
) -> None:
    boris = Someone()
    async with serving(boris) as transport:
        answer = await told(transport, request_)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert complaint in answer.decode()
    assert boris.heard == []
    ((address, fault),) = boris.faults
    assert address == "127.0.0.1:0"
    assert complaint in fault
    assert boris.arriving == 0


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\0\x01\0", b"GET\r\n\r\n", b"\0" * 9000])
async def test_what_is_not_even_http_is_counted_and_not_logged(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    boris = Someone()
    async with serving(boris) as transport:
        await told(transport, garbage + b"\r\n\r\n")
    assert [fault[:9] for _, fault in boris.faults] == ["not HTTP:"]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_question_that_breaks_off_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    boris = Someone()
    async with serving(boris) as transport:
        async with connected(transport) as (_, writer):
            writer.write(post(ASKED[:-4], length=len(ASKED)))
            await writer.drain()
            await come_true(lambda: boris.arriving)
        await come_true(lambda: boris.faults)
        assert boris.arriving == 0
    assert boris.faults[0][1].startswith("broke off: ")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.slow
async def test_what_drips_is_cut_off_whatever_length_it_claims() -> None:
    boris = Someone()
    drips = (
        post(ASKED[:30], length=len(ASKED)),
        post(ASKED[:30], length=2**60),
        post(ASKED[:-4], length=len(ASKED)),
    )
    async with serving(boris, limits=IMPATIENT) as transport:
        answers = await asyncio.gather(*(told(transport, drip) for drip in drips))
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert boris.faults == [("127.0.0.1:0", "slower than the bound on a body")] * 3
    assert boris.arriving == 0


@pytest.mark.slow
async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    model = Model(1, encoded(8 * BIG))
    boris = Someone(lambda _: model)
    async with serving(boris, limits=IMPATIENT) as transport, connected(transport) as (_, writer):
        pull = wire.encode(packet(Pull()))
        writer.write(post(pull, "pull"))
        await come_true(lambda: boris.faults)
        assert boris.faults == [("127.0.0.1:0", "slower than the bound on a body")]


@pytest.mark.slow
async def test_a_large_answer_may_take_longer_than_a_small_question() -> None:
    """The grace is five seconds; what counts beyond it is the rate, of either direction."""
    model = encoded(BIG)
    slowly = LimitsConfig(body_min_bytes_per_s=model.nbytes / 60)
    async with (
        serving(Someone(lambda _: Model(1, model)), limits=slowly) as transport,
        connected(transport) as (reader, writer),
    ):
        writer.write(post(wire.encode(packet(Pull())), "pull"))
        received = 0
        async with asyncio.timeout(PATIENCE_S):
            began = asyncio.get_running_loop().time()
            while received < model.nbytes // 8 or asyncio.get_running_loop().time() < began + 6:
                received += len(await reader.read(model.nbytes // 64))
                await asyncio.sleep(0.1)


# --- how many, and how long silent ---------------------------------------------------------------


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def test_a_connection_that_asks_nothing_is_closed_and_counted() -> None:
    boris = Someone()
    async with (
        serving(boris, limits=IMPATIENT) as transport,
        connected(transport) as (mute, _),
        connected(transport) as (slow, writer),
    ):
        writer.write(b"POST /v1/probe HTTP/1.1\r\nHost:")
        assert all(await asyncio.gather(is_closed(mute), is_closed(slow)))
    assert boris.faults == [("127.0.0.1:0", "asked nothing for 0.3 s")] * 2


async def test_beyond_the_limit_the_silent_go_first_and_the_longest_silent_of_them() -> None:
    boris = Someone()
    limits = LimitsConfig(connections=4, first_byte_s=60.0)
    async with two(boris, limits) as (asker, answerer), AsyncExitStack() as crowd:

        async def silent(count: int) -> list[asyncio.StreamReader]:
            return [(await crowd.enter_async_context(connected(answerer)))[0] for _ in range(count)]

        early = await silent(3)
        # one who came late and has asked keeps its connection
        await asker.request(answerer.address, packet(Probe()))
        late = await silent(10)
        assert all(await asyncio.gather(*map(is_closed, early + late[:7])))
        await asker.request(answerer.address, packet(Probe()))
        assert Counter(fault for _, fault in boris.faults) == {"more than 4 connections": 10}
        assert len(boris.heard) == 2
        assert not any(reader.at_eof() for reader in late[7:])


async def test_a_connection_that_is_closed_under_its_question_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    boris = Someone()
    limits = LimitsConfig(connections=1, first_byte_s=60.0)
    async with serving(boris, limits=limits) as transport, AsyncExitStack() as crowd:
        for _ in range(6):
            _, writer = await crowd.enter_async_context(connected(transport))
            writer.write(post(ASKED[:30], length=len(ASKED)))
        await come_true(lambda: len(boris.faults) >= 6)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_the_silent_have_a_quarter_of_the_seats() -> None:
    boris = Someone()
    limits = LimitsConfig(connections=64, first_byte_s=60.0)
    async with two(boris, limits) as (asker, answerer), AsyncExitStack() as crowd:
        silent = [(await crowd.enter_async_context(connected(answerer)))[0] for _ in range(20)]
        assert all(await asyncio.gather(*map(is_closed, silent[:4])))
        await asker.request(answerer.address, packet(Probe()))
        complaint = "more than 16 that ask nothing"
        assert set(boris.faults) == {("127.0.0.1:0", complaint)}
        assert len(boris.faults) == 5, "the asker took a seat of the silent, until it had asked"


async def test_an_address_that_takes_all_seats_gives_way_to_another() -> None:
    boris = Someone()
    limits = LimitsConfig(connections=8, first_byte_s=60.0)
    status = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with two(boris, limits) as (asker, answerer), AsyncExitStack() as crowd:
        taken = []
        for _ in range(8):
            stranger = connected(answerer, "127.0.0.66")
            reader, writer = await crowd.enter_async_context(stranger)
            writer.write(status)
            await reader.readuntil(b"}")
            taken.append(reader)
        await asker.request(answerer.address, packet(Probe()))
        assert await is_closed(taken[-1]), "the newest of those went"
        assert boris.faults == [("127.0.0.66:0", "more than 8 connections")]
        # and it cannot come back in the place of the other
        assert await refused(answerer, "127.0.0.66", status)
        await asker.request(answerer.address, packet(Probe()))
        assert len(boris.heard) == 2


async def refused(transport: HttpTransport, host: str, words: bytes) -> bool:
    async with connected(transport, host) as (reader, writer):
        writer.write(words)
        return await is_closed(reader)


async def test_an_address_that_knocks_too_fast_is_sent_away_and_others_are_not() -> None:
    boris = Someone()
    async with two(boris, LimitsConfig(connections=1000)) as (asker, answerer):
        with ExitStack() as knocking:
            for _ in range(3 * int(ACCEPTS_PER_S)):
                knock = socket.create_connection(
                    ("127.0.0.1", answerer.port), source_address=("127.0.0.66", 0)
                )
                knocking.enter_context(closing(knock))
                await asyncio.sleep(0)
            await come_true(lambda: len(boris.faults) >= ACCEPTS_PER_S / 2)
            await asker.request(answerer.address, packet(Probe()))
        assert set(boris.faults) == {("127.0.0.66:0", "more than 64 connections a second")}
        assert len(boris.heard) == 1


# --- more at once than anybody honest asks -------------------------------------------------------


async def test_pipelined_questions_are_answered_in_their_order() -> None:
    model = encoded(BIG)
    boris = Someone(lambda asked: Model(1, model) if isinstance(asked.body, Pull) else Ack(1, 1))
    asked = post(wire.encode(packet(Pull())), "pull") + post(PROBE, "probe") * 40
    async with serving(boris) as transport, connected(transport) as (reader, writer):
        writer.write(asked)
        async with asyncio.timeout(PATIENCE_S):
            answers = [(await answer_from(reader)).body for _ in range(41)]
    assert [type(answer) for answer in answers] == [Model] + 40 * [Ack]
    assert len(boris.heard) == 41
    assert boris.faults == []


async def test_four_pull_at_once_and_whoever_ends_makes_room() -> None:
    model = encoded(16 * BIG)  # more than sockets hold
    boris = Someone(lambda asked: Model(1, model) if isinstance(asked.body, Pull) else Ack(1, 1))
    pull = packet(Pull())
    async with two(boris) as (asker, answerer), AsyncExitStack() as crowd:

        async def pulling() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            heard = len(boris.heard)
            reader, writer = await crowd.enter_async_context(connected(answerer))
            writer.write(post(wire.encode(pull), "pull"))
            await come_true(lambda: len(boris.heard) > heard)
            return reader, writer

        async def is_refused() -> bool:
            heard = len(boris.heard)
            try:
                return not isinstance((await asker.request(answerer.address, pull)).body, Model)
            except PeerTimeout as error:
                assert "answered 503: others pull" in str(error)
                assert len(boris.heard) == heard
                return True

        (reads, _), (_, breaks_off), *others = [await pulling() for _ in range(4)]
        assert await is_refused()
        assert (await asker.request(answerer.address, packet(Probe()))).body == Ack(1, 1)
        async with asyncio.timeout(PATIENCE_S):
            assert isinstance((await answer_from(reads)).body, Model)
        assert not await is_refused()
        # it was one place, and the fifth has left it again
        others.append(await pulling())
        assert await is_refused()
        assert boris.faults == [], "to come fifth is no fault"
        breaks_off.transport.abort()
        await come_true(lambda: boris.faults)
        assert not await is_refused()
        for _, writer in others:
            writer.transport.abort()


async def answer_from(reader: asyncio.StreamReader) -> Packet:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
    return wire.decode(await reader.readexactly(length))


@pytest.mark.slow
async def test_who_reads_no_answer_cannot_send_more_meanwhile() -> None:
    model = Model(1, encoded(32 * BIG))
    boris = Someone(lambda _: model)
    more = 8 << 20
    async with serving(boris) as transport, connected(transport) as (_, writer):
        writer.write(post(wire.encode(packet(Pull())), "pull"))
        await come_true(lambda: boris.heard)
        writer.write(post(PROBE, "probe") * (more // len(post(PROBE, "probe"))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.drain()
        assert len(boris.heard) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/%s HTTP/1.1\r\n\r\n" % (b"x" * 5000),
        b"POST /v1/probe HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 9000),
        b"POST /v1/probe HTTP/1.1\r\n%s\r\n" % (b"X: y\r\n" * 200),
        b"POST /v1/probe HTTP/1.1\r\n%s" % (b"X: %s\r\n" % (b"y" * 3000) * 1000),
    ],
    ids=["line", "field", "fields", "endless"],
)
async def test_an_oversized_http_head_is_refused_and_counted(head: bytes) -> None:
    boris = Someone()
    async with serving(boris) as transport:
        with suppress(ConnectionError):  # it is not read to its end
            assert not (await told(transport, head)).startswith(b"HTTP/1.1 200")
        await come_true(lambda: boris.faults)
    assert [fault[:9] for _, fault in boris.faults] == ["not HTTP:"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_never_inflated(coding: str) -> None:
    """64 MiB of zeros in 64 kB: they are looked at as they are, and are no message."""
    bomb, boris = gzip.compress(bytes(64 << 20)), Someone()
    fields = b"Content-Encoding: %s\r\n" % coding.encode()
    tracemalloc.start()
    try:
        async with serving(boris) as transport:
            answer = await told(transport, post(bomb, "probe", more=fields))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert boris.faults[0][1].startswith("header has ")
    assert peak < 4 << 20


async def test_a_page_of_another_site_can_neither_read_a_node_nor_speak_to_it():
    boris = Someone()
    async with serving(boris) as transport, aiohttp.ClientSession() as browser:
        home = f"http://127.0.0.1:{transport.port}/v1"
        async with browser.get(f"{home}/status", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
            assert "ask by its IP address" in await answer.text()
        async with browser.get(
            f"{home}/status", headers={"Origin": "http://evil.example"}
        ) as answer:
            assert answer.status == 403
        async with browser.get(f"{home}/status") as answer:
            assert answer.status == 200
        said = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
        async with browser.post(f"{home}/probe", data=PROBE, headers=said) as answer:
            assert answer.status == 403
    assert boris.heard == []
