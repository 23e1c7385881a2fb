"""Whole nodes of a run with a key, over real HTTP, and members of it that do as they like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from p2pfl.config import LimitsConfig, NodeConfig
from p2pfl.core.compression import Encoded, encode
from p2pfl.core.messages import (
    Ack,
    Body,
    Exchange,
    Flow,
    Packet,
    Probe,
    Reason,
    Refused,
    Rumour,
    Statement,
    Status,
)
from p2pfl.core.statements import new_digest, statement_bytes
from p2pfl.core.weights import Vector
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.runkey import RunKey
from p2pfl.edge.static import StaticPeers
from p2pfl.edge.worker import Worker
from p2pfl.errors import PeerTimeout
from p2pfl.node import Node
from p2pfl.ports import Answered, Reply, Saved
from tests.edge.test_http import Someone
from tests.node.swarm import Memory, Quadratic

RUN = RunKey.new()
PATIENCE_S = 30.0
LARGE = 40_000
"""Values of a model that is not sent as a whole: 160 kB."""

ROBUST = {"trust": "byzantine"}
GHOST = Rumour("9" * 32, ("127.0.0.1:9",), Status.ALIVE, 1)


def member() -> Credentials:
    return Credentials.member(NodeKey.new(), RUN, time.time())


def model(size: int, seed: int = 1) -> Vector:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@asynccontextmanager
async def living(x: Vector, who: Credentials | None = None, **config: Any) -> AsyncIterator[Node]:
    """A node of the run that learns nothing, so that only mixing changes its model `x`."""
    who = who or member()
    settings = {"name": "x", "train": {"cycle_min_s": 60, "momentum": 0}, **config}
    with ExitStack() as closed:
        transport = HttpTransport("127.0.0.1", 0, LimitsConfig(), credentials=who)
        closed.enter_context(closing(transport))
        node = Node(
            node_id=who.node,
            incarnation=1,
            config=NodeConfig.model_validate(settings),
            learner=Quadratic(np.zeros_like(x), learning_rate=0.0),
            transport=transport,
            discovery=StaticPeers([]),
            journal=Memory(),
            store=None,
            clock=time.monotonic,
            run=closed.enter_context(closing(Worker())),
            rng=np.random.default_rng(2),
            saved=Saved(x.copy(), None, None, 100, 100, 10),
            notary=who,
        )
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE_S):
            life = tasks.create_task(node.run())
            while node.vitals.cycles == 10:  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.02)
            yield node
            assert not life.done()
            life.cancel()
            with suppress(asyncio.CancelledError):
                await life


@asynccontextmanager
async def stranger(
    who: Credentials, says: Callable[[Packet], Reply] | None = None, port: int = 0
) -> AsyncIterator[HttpTransport]:
    """A member that is no node: it says what it likes, and answers with what `says` makes."""

    def lives(heard: Packet) -> Reply:
        return Answered(replace(heard, sender=who.node, recipient="", body=Ack(100, 100)))

    transport = HttpTransport("127.0.0.1", port, LimitsConfig(), credentials=who)
    with closing(transport):
        async with transport.serve(Someone(says or lives)):
            yield transport


def words(node: Node, who: Credentials, home: HttpTransport, body: Body) -> Packet:
    """What `who` says to a node."""
    run, layout = node.vitals.config.run, node.vitals.layout.digest
    return Packet(run, layout, who.node, home.address, 1, body, own_steps=100)


def question(node: Node, who: Credentials, x: Vector, seq: int) -> Exchange:
    """Average with me, signed as members do."""
    payload = encode("float32", x, np.random.default_rng(0))
    digest = new_digest()
    digest.update(payload.data.data)
    said = Statement(who.node, 1, seq, 100, digest.digest(), b"")
    proof = who.sign(statement_bytes(node.vitals.config.run, said))
    return Exchange(seq, 100, 100, 10, 0.0, 0.0, 0.5, payload, 0.0, said.digest, proof)


async def meet(node: Node, who: Credentials, home: HttpTransport) -> None:
    await home.request(node.vitals.transport.address, words(node, who, home, Probe()))
    assert who.node in node.vitals.members.met()


# --- a model that arrives in pieces --------------------------------------------------------------


@pytest.mark.parametrize("trust", ["byzantine", "cooperative"])
async def test_members_mix_a_large_model_and_their_sum_stays(trust: str) -> None:
    """In robust mode it is judged as a whole, at both ends, though it arrives in pieces."""
    x = model(LARGE)
    apart = 1e-3 * model(LARGE, seed=2)
    async with living(x, trust=trust) as anna, living(x + apart, trust=trust) as boris:
        ours, theirs = anna.vitals, boris.vitals
        ours.members.heard(theirs.id, (theirs.transport.address,), 1, 0, 100, ours.clock())
        before = ours.state.x.astype(np.float64) + theirs.state.x
        for _ in range(5):
            if ours.state.can_ask():
                await anna.asking.exchange(theirs.id)
        assert ours.tally.asked["flow"] > 0, ours.tally
        assert theirs.tally.answered["flow"] > 0, theirs.tally
        assert np.allclose(ours.state.x.astype(np.float64) + theirs.state.x, before, atol=1e-6)
        left = np.linalg.norm(ours.state.x - theirs.state.x)
        assert left < 0.6 * np.linalg.norm(apart)
        # every piece of it was mixed
        moved = ours.state.x != x
        assert moved[:10].any()
        assert moved[-10:].any()
        for vitals in (ours, theirs):
            assert not vitals.reputation
            assert vitals.state.inbox.arriving_bytes == 0


# --- somebody else lives there -------------------------------------------------------------------


async def test_who_lives_where_a_member_lived_is_not_believed_and_not_blamed() -> None:
    x, boris, carla = model(100), member(), member()

    def lies(heard: Packet) -> Reply:
        told = replace(heard, sender=boris.node, recipient="", incarnation=7, rumours=(GHOST,))
        flow = Flow(0, 500, 0.5, 0.0, encode("float32", 0 * x, np.random.default_rng(0)))
        return Answered(replace(told, body=flow if isinstance(heard.body, Exchange) else Ack(9, 9)))

    async with living(x) as anna:
        vitals = anna.vitals
        async with stranger(boris) as home:
            await meet(anna, boris, home)
            port = home.port
        async with stranger(carla, lies, port):
            assert not await anna.asking.exchange(boris.node)
            assert vitals.tally.by_peer[boris.node]["unreachable"] >= 1
            assert carla.node not in vitals.tally.by_peer
            assert np.array_equal(vitals.state.x, x)
            assert vitals.members.status_of(GHOST.node) is None
            (belief,) = vitals.members.members()
            assert (belief.node, belief.told) == (boris.node, (1, 0))
            assert not vitals.reputation


# --- what is no number ---------------------------------------------------------------------------


def poisoned(x: Vector) -> Vector:
    x = x.copy()
    x[-1] = np.nan
    return x


@pytest.mark.parametrize("size", [100, LARGE, 400_000])
@pytest.mark.parametrize("trust", ["byzantine", "cooperative"])
async def test_a_member_that_sends_what_is_no_number_is_charged_by_name(
    size: int, trust: str
) -> None:
    x, boris = model(size), member()
    async with living(x, trust=trust) as anna, stranger(boris) as home:
        vitals, address = anna.vitals, anna.vitals.transport.address
        await meet(anna, boris, home)
        for seq in range(9):
            said = question(anna, boris, poisoned(x), seq)
            with pytest.raises(PeerTimeout, match=r"400|broke off"):
                await home.request(address, words(anna, boris, home, said))
            if seq == 0:
                status = anna._answering.status()
                assert status["refusals"][boris.node] == {Reason.MALFORMED: 1}
                assert 0 < vitals.reputation.points(boris.node, vitals.clock()) <= 1
                assert status["suspended"] == {}
        assert set(anna._answering.status()["suspended"]) == {boris.node}
        # all but what came before the bad piece: that flowed, at this end
        assert np.isfinite(vitals.state.x).all()
        assert np.allclose(vitals.state.x, x, atol=1e-6)


async def test_a_member_that_answers_with_what_is_no_number_is_charged_by_name() -> None:
    x, boris = model(LARGE), member()

    def lies(heard: Packet) -> Reply:
        data = poisoned(0 * x).view(np.uint8)
        flow = Flow(0, 100, 0.5, 0.0, Encoded("float32", LARGE, data))
        return Answered(replace(heard, sender=boris.node, recipient="", incarnation=1, body=flow))

    async with living(x) as anna, stranger(boris, lies) as home:
        await meet(anna, boris, home)
        assert not await anna.asking.exchange(boris.node)
        refusals = anna._answering.status()["refusals"]
        assert refusals[boris.node][Reason.MALFORMED] >= 1
        assert anna.vitals.reputation.points(boris.node, anna.vitals.clock()) > 0
        assert np.isfinite(anna.vitals.state.x).all()


# --- nobody speaks for another -------------------------------------------------------------------


async def test_a_member_that_speaks_for_another_is_charged_and_the_other_is_not() -> None:
    boris, carla = member(), member()
    async with living(model(100)) as anna, stranger(boris) as home:
        for who in (carla, boris):
            said = words(anna, who, home, Probe())
            await home.request(anna.vitals.transport.address, said)
        refusals = anna._answering.status()["refusals"]
        assert refusals[boris.node] == {Reason.MALFORMED: 1}
        assert carla.node not in refusals
        assert anna.vitals.reputation.points(carla.node, anna.vitals.clock()) == 0
        assert carla.node not in anna.vitals.members.live()


async def test_nobody_learns_from_a_node_what_there_is_at_an_address() -> None:
    """Neither of one that a rumour gives, nor of one that a member says it lives at."""
    boris, carla = member(), member()

    async def opened(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-secret\r\n")
        writer.close()

    server = await asyncio.start_server(opened, "127.0.0.1", 0)
    async with server, living(model(100)) as anna, stranger(boris) as home:
        there = anna.vitals.transport.address
        victim = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ghost = replace(GHOST, addresses=(victim,))
        ask = replace(words(anna, boris, home, Probe(ghost.node)), rumours=(ghost,))
        answer = await home.request(there, ask)
        assert (answer.sender, answer.body) == (
            anna.vitals.id,
            Refused(Reason.UNREACHABLE, "never met that member"),
        )
        await home.request(there, replace(words(anna, boris, home, Probe()), address=victim))
        assert anna.vitals.members.addresses(boris.node)[0] == victim
        async with stranger(carla) as other:
            answer = await other.request(there, words(anna, carla, other, Probe(boris.node)))
        assert (answer.sender, answer.body) == (
            anna.vitals.id,
            Refused(Reason.UNREACHABLE, "that member did not answer"),
        )
