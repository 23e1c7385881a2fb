"""Strangers who mean harm, against a running node that exchanges with an honest one meanwhile.

Each of them is refused and counted in `/v1/status`; nothing else changes: memory stays bounded, the
honest exchange goes on, and the model stays finite and learns.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from p2pfl.core import wire
from p2pfl.core.compression import Encoded
from p2pfl.core.messages import (
    Ack,
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
)
from tests.integration.nodes import (
    PATIENCE_S,
    NodeProcess,
    Nodes,
    accuracy,
    belief,
    mixed,
    refusals,
)

MIB = 2**20
MEMORY_MAX = 48 * MIB
"""What any attack may add to a node that held about 80 MiB: its tables are bounded."""
HOST = "127.0.0.1"


@dataclass
class Stranger:
    """Somebody who knows the node's run and model, as anybody can.

    Attributes:
        victim: the node.
        knows: its status when the stranger came.
        id: the id it gives itself.
        address: where it claims to serve.
    """

    victim: NodeProcess
    knows: dict[str, Any]
    session: aiohttp.ClientSession
    id: str
    address: str = "127.0.0.1:1"

    def packet(self, body: Body, **changes: Any) -> Packet:
        packet = Packet(self.knows["run"], self.knows["layout"], self.id, self.address, 1, body)
        return replace(packet, **changes)

    def exchange(self, scale: float = 0.1, **changes: Any) -> Exchange:
        """A model of noise: nothing is known in it, but it can be trained."""
        size = self.knows["parameters"]
        noise = np.random.default_rng(0).standard_normal(size, np.float32) * np.float32(scale)
        payload = Encoded("float32", size, noise.view(np.uint8))
        age = self.knows["age"]
        return replace(Exchange(0, age, age, 10, 0.0, 0.0, 0.5, payload), **changes)

    async def send(self, packet: Packet) -> bytes:
        """Its answer, whole."""
        url = f"http://{self.victim.address}/v1/{wire.name_of(packet.body)}"
        async with self.session.post(url, data=wire.encode(packet)) as response:
            assert response.status == 200, await response.text()
            return await response.read()

    async def ask(self, packet: Packet) -> Body:
        return wire.decode(await self.send(packet)).body

    async def say(self, words: bytes) -> bytes:
        """Write these bytes on a connection of their own, and read until it is closed."""
        async with asyncio.timeout(PATIENCE_S), self.connection() as (reader, writer):
            writer.write(words)
            return await reader.read()

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        host, _, port = self.victim.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def besieged(
    nodes: Nodes, *options: str, least_accuracy: float = 0.9
) -> AsyncIterator[tuple[Stranger, NodeProcess]]:
    """A node and an honest peer that exchange, before, during and after what a stranger does."""
    where = ("--partition", "dirichlet:0.5", "--set", "train.evaluate_every_s=0.3", *options)
    anna = nodes.start("anna", "--shard", "1/2", *where)
    boris = nodes.start("boris", "--shard", "2/2", *where)
    await nodes.ready()
    now = await anna.until(lambda now: mixed(now) > 20)
    memory = anna.memory_bytes
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
        yield Stranger(anna, dict(now), session, secrets.token_hex(16)), boris
    for node in (anna, boris):
        before = await node.status()
        await node.until(
            lambda now, before=before: (
                mixed(now) > mixed(before) + 20
                and now["cycles"] > before["cycles"]
                and accuracy(now) > least_accuracy
            )
        )
        assert math.isfinite(node.last["loss"])
    assert anna.memory_bytes < memory + MEMORY_MAX


def counted(node: NodeProcess, who: str) -> dict[str, int]:
    """What the node's last status holds against somebody."""
    found: dict[str, int] = node.last["refusals"].get(who, {})
    return found


# --- what is no message --------------------------------------------------------------------------


def post(body: bytes, kind: str = "exchange", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    return head % (kind.encode(), size) + body


async def test_what_is_no_message_is_refused_and_counted(nodes: Nodes) -> None:
    async with besieged(nodes) as (stranger, _):
        asked = wire.encode(stranger.packet(stranger.exchange()))
        poison = wire.encode(stranger.packet(stranger.exchange(math.nan)))
        probe = wire.encode(stranger.packet(Probe()))
        flow = wire.encode(stranger.packet(Flow(0, 1, 0.5, 0.0, stranger.exchange().payload)))
        attacks = [
            (post(b"\xff\xff\xff\x7f" + bytes(64)), "header has 2147483647 bytes"),
            (post(asked[:20]), "message ended after 16 bytes of a header"),
            (post(secrets.token_bytes(2) + b"\0\0" + bytes(2**17)), "header is not msgpack"),
            (post(asked[:4] + b"\x95\x07" + asked[6:]), f"version is 7, expected {wire.VERSION}"),
            (post(probe), "probe at /v1/exchange"),
            (post(flow), "flow at /v1/exchange"),
            (post(asked[:-4]), f"body has {len(asked) - 4} bytes, expected {len(asked)}"),
            (post(asked, length=2**62), f"body has {2**62} bytes, expected {len(asked)}"),
            (post(poison), "payload has a value that is not finite"),
            (
                b"POST /v1/probe HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"4\r\n\0\0\0\0\r\n",
                "body has no length",
            ),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + secrets.token_bytes(99), "not HTTP: "),
            (b"GET / HTTP/9.9\r\n\r\n", "not HTTP: "),
        ]
        for answer in await asyncio.gather(*(stranger.say(words) for words, _ in attacks)):
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        now = await stranger.victim.status()
        found = {complaint: refusals(now, complaint) for _, complaint in attacks}
        assert found == {complaint: [c for _, c in attacks].count(complaint) for complaint in found}
        assert sum(counted(stranger.victim, HOST).values()) == len(attacks)


# --- messages that do not fit --------------------------------------------------------------------


async def test_a_packet_that_does_not_fit_is_refused_with_the_reason(nodes: Nodes) -> None:
    async with besieged(nodes) as (stranger, boris):
        victim, exchange = stranger.victim, stranger.exchange()
        short = replace(exchange, payload=Encoded("float32", 3, np.zeros(12, np.uint8)))
        packets = [
            (stranger.packet(exchange, run="other"), Reason.RUN),
            (stranger.packet(exchange, layout="f" * 16), Reason.LAYOUT),
            (stranger.packet(exchange, recipient=boris.id), Reason.RECIPIENT),
            (stranger.packet(exchange, sender=victim.id), Reason.SELF),
            (stranger.packet(short), Reason.SHAPE),
            (stranger.packet(Probe("f" * 32)), Reason.UNREACHABLE),
        ]
        for packet, reason in packets:
            answer = await stranger.ask(packet)
            assert isinstance(answer, Refused)
            assert answer.reason is reason
        assert isinstance(await stranger.ask(stranger.packet(Probe(), incarnation=5)), Ack)
        late = await stranger.ask(stranger.packet(exchange, incarnation=4))
        assert isinstance(late, Refused)
        assert late.reason is Reason.INCARNATION
        now = await victim.status()
        # the victim may have asked the stranger meanwhile, which is not there
        counts = {why: n for why, n in counted(victim, stranger.id).items() if why != "unreachable"}
        assert counts == dict.fromkeys(("run", "layout", "recipient", "shape", "incarnation"), 1)
        assert counted(victim, victim.id) == {"self": 1}
        assert now["others"][stranger.address].startswith("other model (layout ffff")


async def test_a_replayed_packet_takes_effect_once(nodes: Nodes) -> None:
    async with besieged(nodes) as (stranger, _):
        asked = stranger.packet(stranger.exchange())
        first = await stranger.send(asked)
        for _ in range(20):
            again = await stranger.send(asked)
            assert payload_bytes(again) == payload_bytes(first)
        now = await stranger.victim.status()
        assert now["exchanges"]["answered"]["repeated"] == 20
        assert isinstance(await stranger.ask(stranger.packet(Probe(), floor=1)), Ack)
        late = await stranger.ask(asked)
        assert isinstance(late, Refused)
        assert late.reason is Reason.STALE_SEQ


def payload_bytes(answer: bytes) -> bytes:
    body = wire.decode(answer).body
    assert isinstance(body, Flow)
    return body.payload.data.tobytes()


@pytest.mark.slow
async def test_exchanges_without_end_are_kept_inside_their_bounds(nodes: Nodes) -> None:
    async with besieged(nodes, "--set", "limits.done_bytes=200000") as (stranger, _):
        for seq in range(300):
            await stranger.ask(stranger.packet(Resolve(seq)))
            await stranger.ask(stranger.packet(stranger.exchange(seq=1000 + seq)))
            await stranger.ask(stranger.packet(Pull()))
        now = await stranger.victim.status()
        assert now["kept_bytes"] <= 200_000
        # it acknowledges in the end, and makes room for the honest one
        await stranger.ask(stranger.packet(Probe(), floor=10_000))


@pytest.mark.slow
async def test_an_absurd_age_does_not_silence_a_node(nodes: Nodes) -> None:
    # its model is adopted, whatever it is worth: a run is open to whoever knows its name
    async with besieged(nodes, least_accuracy=0.0) as (stranger, boris):
        await stranger.ask(stranger.packet(stranger.exchange(age=2**53)))
        before = mixed(await boris.status())
        await boris.until(lambda now: mixed(now) > before + 20, 10.0)


# --- too much ------------------------------------------------------------------------------------

TIGHT = (
    *("--set", "limits.first_byte_s=1", "--set", "limits.connections=32"),
    *("--set", "limits.body_min_bytes_per_s=1000000"),
)


@pytest.mark.slow
async def test_connections_that_are_silent_or_drip_are_closed_and_counted(nodes: Nodes) -> None:
    async with besieged(nodes, *TIGHT) as (stranger, _):
        asked = wire.encode(stranger.packet(stranger.exchange()))
        began = mixed(await stranger.victim.status())

        async def drip(words: bytes, every_s: float = 1.0) -> None:
            """One byte a second until the other end has had enough."""
            async with stranger.connection() as (reader, writer):
                with suppress(ConnectionError):
                    for at in range(len(words)):
                        writer.write(words[at : at + 1])
                        await writer.drain()
                        with suppress(TimeoutError):
                            async with asyncio.timeout(every_s):
                                await reader.read()
                                return

        # those that have asked something first: the silent would take their seats, and are as many
        # as one address may send in a burst
        crowds = (
            (
                *(drip(post(asked)) for _ in range(5)),
                *(stranger.say(post(asked[:40], length=len(asked))) for _ in range(5)),
                *(stranger.say(post(asked[:40], length=2**40)) for _ in range(5)),
            ),
            (
                *(stranger.say(b"") for _ in range(100)),
                *(stranger.say(b"POST /v1/exchange HTT") for _ in range(20)),
            ),
        )
        async with asyncio.timeout(PATIENCE_S):
            for crowd in crowds:
                await asyncio.gather(*crowd, return_exceptions=True)
        now = await stranger.victim.status()
        assert mixed(now) > began + 20, "nobody was answered meanwhile"
        assert counted(stranger.victim, HOST)["more than 8 that ask nothing"] >= 50
        assert counted(stranger.victim, HOST)["asked nothing for 1 s"] >= 1
        assert refusals(now, "slower than the bound on a body") >= 5


async def test_a_flood_is_refused_above_the_rate_and_others_are_not(nodes: Nodes) -> None:
    async with besieged(nodes, "--set", "limits.requests_per_peer_per_s=50") as (stranger, boris):
        probe = stranger.packet(Probe())
        began = time.monotonic()
        answers = await asyncio.gather(*(stranger.ask(probe) for _ in range(1000)))
        allowed = 100 + 50 * (time.monotonic() - began)
        refused = [a for a in answers if isinstance(a, Refused) and a.reason is Reason.RATE]
        assert len(refused) >= 1000 - allowed - 1
        await stranger.victim.status()
        assert counted(stranger.victim, stranger.id)["rate"] == len(refused)
        assert "rate" not in counted(stranger.victim, boris.id)


def made_up(count: int) -> tuple[Rumour, ...]:
    """Members that do not exist, at ports where nobody is."""
    return tuple(
        Rumour(secrets.token_hex(16), (f"127.0.0.1:{at + 1}",), Status.ALIVE, 1)
        for at in range(count)
    )


@pytest.mark.slow
async def test_ten_thousand_made_up_members_do_not_fit(nodes: Nodes) -> None:
    async with besieged(nodes, "--set", "limits.peers=64") as (stranger, boris):
        for _ in range(160):
            await stranger.ask(stranger.packet(Probe(), rumours=made_up(63)))
            await stranger.ask(stranger.packet(Probe(), sender=secrets.token_hex(16)))
        now = await stranger.victim.status()
        assert len(now["members"]) <= 64
        assert boris.id in {member["node"] for member in now["members"]}
        assert len(now["refusals"]) <= 65


@pytest.mark.slow
async def test_ten_thousand_made_up_members_do_not_stop_the_mixing(nodes: Nodes) -> None:
    async with besieged(nodes) as (stranger, boris):
        quiet = await rate(boris)
        for _ in range(160):
            await stranger.ask(stranger.packet(Probe(), rumours=made_up(63)))
        assert await rate(boris) > quiet / 5


@pytest.mark.slow
async def test_a_thousand_made_up_members_that_speak_do_not_stop_the_mixing(nodes: Nodes) -> None:
    async with besieged(nodes) as (stranger, boris):
        quiet = await rate(boris)
        for victim in (stranger.victim, boris):
            for _ in range(1500):
                probe = stranger.packet(Probe(), sender=secrets.token_hex(16))
                await replace(stranger, victim=victim).ask(probe)
        assert await rate(boris) > quiet / 5


async def rate(node: NodeProcess) -> float:
    """Exchanges a second over five seconds."""
    before = await node.status()
    after = await node.until(lambda now: now["uptime_s"] > before["uptime_s"] + 5)
    return (mixed(after) - mixed(before)) / (after["uptime_s"] - before["uptime_s"])


@pytest.mark.slow
async def test_an_address_that_is_none_is_never_asked(nodes: Nodes) -> None:
    hits = []

    async def hit(request: web.Request) -> web.Response:
        hits.append(request.path_qs)
        return web.Response()

    async with besieged(nodes) as (stranger, _), serving(hit) as address:
        trap = Rumour(secrets.token_hex(16), (f"{address}/admin?x=",), Status.ALIVE, 1)
        await stranger.ask(stranger.packet(Probe(), rumours=(trap,)))
        await stranger.victim.until(lambda now: belief(now, trap.node) in ("suspect", "dead"))
    assert hits == []


# --- those who answer ----------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Any],
) -> AsyncIterator[str]:
    """A server on loopback, whatever is asked of it; its address."""
    app = web.Application(client_max_size=MIB)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


Lie = Callable[[Stranger, Packet], web.StreamResponse | bytes | Body]


def lies(stranger: Stranger, asked: Packet) -> list[web.StreamResponse | bytes | Body]:
    """Answers to an exchange, each wrong in its own way."""
    assert isinstance(asked.body, Exchange)
    seq, payload = asked.body.seq, asked.body.payload
    flow = Flow(seq, asked.body.age, 0.5, 0.0, payload)
    nan = np.full(payload.size, math.nan, np.float32).view(np.uint8)
    whole = wire.encode(stranger.packet(flow))
    return [
        web.Response(status=500, text="no"),
        web.Response(status=302, headers={"Location": f"http://{stranger.victim.address}/"}),
        b"garbage, and quite a lot of it",
        whole[: len(whole) // 2],
        replace(flow, seq=seq + 1),
        replace(flow, payload=replace(payload, data=nan)),
        replace(flow, payload=Encoded("float32", 3, np.zeros(12, np.uint8))),
        asked.body,
        Ack(1, 1),
        Cancelled(seq + 7),
    ]


async def deceived(
    nodes: Nodes, says: Callable[[Stranger, Packet, int], web.StreamResponse | bytes | Body]
) -> tuple[dict[str, Any], Counter[str]]:
    """The status of a node that asked a liar twenty times, and went on; and what it asked."""
    asked: Counter[str] = Counter()

    async def lie(request: web.Request) -> web.StreamResponse:
        packet = wire.decode(await request.read())
        asked[wire.name_of(packet.body)] += 1
        if isinstance(packet.body, Probe):
            said: web.StreamResponse | bytes | Body = Ack(0, 0)
        elif isinstance(packet.body, Exchange):
            said = says(stranger, packet, asked["exchange"])
        else:
            said = Cancelled(getattr(packet.body, "seq", 0))
        if isinstance(said, bytes | web.StreamResponse):
            return web.Response(body=said) if isinstance(said, bytes) else said
        body = wire.header(stranger.packet(said))
        with suppress(AttributeError):
            body += said.payload.data.tobytes()  # type: ignore[union-attr]
        return web.Response(body=body)

    async with besieged(nodes) as (stranger, _), serving(lie) as stranger.address:
        await stranger.ask(stranger.packet(Probe()))
        now = await stranger.victim.until(
            lambda now: asked["exchange"] >= 20 and now["refusals"].get(stranger.id)
        )
        return dict(now), asked


@pytest.mark.slow
async def test_a_liar_is_counted_and_believed_nothing(nodes: Nodes) -> None:
    now, _ = await deceived(nodes, lambda stranger, asked, count: lies(stranger, asked)[count % 10])
    assert set(now["faults"]) <= {"unresolved"}


@pytest.mark.slow
async def test_an_answer_to_another_question_is_asked_about_again(nodes: Nodes) -> None:
    def says(_: Stranger, asked: Packet, count: int) -> Body | bytes:
        assert isinstance(asked.body, Exchange)
        flow = Flow(asked.body.seq + 1, asked.body.age, 0.5, 0.0, asked.body.payload)
        return flow if count % 2 else b"garbage"

    now, asked = await deceived(nodes, says)
    assert now["faults"] == {}
    assert asked["resolve"] >= 5


def absurd(packet: Packet) -> web.Response:
    """A header that promises 64 GiB, and nothing behind it."""
    header = wire.header(packet)
    claim = {"Content-Length": str(len(header) + 4 * HUGE.size)}
    return web.Response(body=header, headers=claim)


HUGE = Encoded("float32", 2**34, np.zeros(0, np.uint8))


@pytest.mark.slow
async def test_an_answer_of_absurd_size_is_not_believed(nodes: Nodes) -> None:
    def says(stranger: Stranger, asked: Packet, _: int) -> web.StreamResponse:
        assert isinstance(asked.body, Exchange)
        return absurd(stranger.packet(Flow(asked.body.seq, 1, 0.5, 0.0, HUGE)))

    await deceived(nodes, says)


@pytest.mark.slow
async def test_a_newcomer_does_not_believe_a_model_of_absurd_size(nodes: Nodes) -> None:
    pulled = 0

    async def lie(request: web.Request) -> web.StreamResponse:
        nonlocal pulled
        asked = wire.decode(await request.read())
        said = replace(asked, sender="f" * 32, address=address, recipient=asked.sender)
        match asked.body:
            case Pull():
                pulled += 1
                return absurd(replace(said, body=Model(10**6, HUGE)))
            case Probe():
                return web.Response(body=wire.header(replace(said, body=Ack(10**6, 10**6))))
            case _:
                return web.Response(body=wire.header(replace(said, body=Busy(0.1))))

    async with serving(lie) as address:
        anna = nodes.start("anna", "--no-mdns", "--peer", address)
        await anna.until(lambda now: pulled and now["cycles"] > 20)
        assert anna.last["age"] == anna.last["own_steps"]
        assert anna.memory_bytes < 256 * MIB
