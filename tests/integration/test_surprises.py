"""A bug while a question is answered, over real HTTP: the asker is told, the node goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from p2pfl.config import LimitsConfig, NodeConfig
from p2pfl.core.compression import encode
from p2pfl.core.messages import Ack, Body, Exchange, Flow, Packet, Probe, Resolve
from p2pfl.core.weights import PIECE
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.static import StaticPeers
from p2pfl.edge.worker import Worker
from p2pfl.errors import PeerTimeout
from p2pfl.node import Node
from p2pfl.ports import Service
from tests.node.swarm import Memory, Quadratic

ASKER = "f" * 32
PATIENCE_S = 20.0


class Buggy:
    """A transport in which a bug comes to light when it is armed."""

    def __init__(self, true: HttpTransport) -> None:
        self._true = true
        self.is_armed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._true, name)

    @property
    def address(self) -> str:
        if self.is_armed:
            raise KeyError("of nobody")
        return self._true.address


class Chance:
    """A generator that fails after it has rounded so many pieces; None is never."""

    def __init__(self) -> None:
        self._true = np.random.default_rng(2)
        self.left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._true, name)

    def random(self, *args: Any, **options: Any) -> Any:
        if self.left == 0:
            raise KeyError("of nobody")
        if self.left is not None:
            self.left -= 1
        return self._true.random(*args, **options)


class Silent:
    """A service that nobody asks."""

    needs_whole = False

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@asynccontextmanager
async def living(
    size: int, chance: Any = None, **config: Any
) -> AsyncIterator[tuple[Node, Buggy, HttpTransport]]:
    """A node, its transport, and another's to ask it with."""
    model = np.random.default_rng(1).normal(size=size).astype(np.float32)
    memory = Memory(awaits_bugs=True)
    ours, theirs = (HttpTransport("127.0.0.1", 0, LimitsConfig()) for _ in range(2))
    buggy, silent = Buggy(ours), Silent()
    service: Service = silent  # type: ignore[assignment]
    with closing(Worker()) as worker, closing(ours), closing(theirs):
        node = Node(
            node_id="a" * 32,
            incarnation=1,
            config=NodeConfig.model_validate({"name": "a", "train": {"cycle_min_s": 60}, **config}),
            learner=Quadratic(model),
            transport=buggy,  # type: ignore[arg-type]
            discovery=StaticPeers([]),
            journal=memory,
            store=None,
            clock=time.monotonic,
            run=worker,
            rng=chance or np.random.default_rng(2),
        )
        async with theirs.serve(service), asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE_S):
            life = tasks.create_task(node.run())
            while node.vitals.cycles < 1:  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.02)
            yield node, buggy, theirs
            assert not life.done()
            life.cancel()
            with suppress(asyncio.CancelledError):
                await life


@pytest.mark.parametrize("size", [100, 400_000])
@pytest.mark.parametrize("trust", ["cooperative", "byzantine"])
async def test_a_bug_in_an_answer_is_told_counted_and_holds_no_place(size: int, trust: str) -> None:
    async with living(size, trust=trust) as (node, buggy, asker):
        vitals = node.vitals

        def packet(body: Body, floor: int = 0) -> Packet:
            layout = vitals.layout.digest
            return Packet("default", layout, ASKER, asker.address, 1, body, floor=floor)

        async def asked(body: Body, floor: int = 0) -> Any:
            return (await asker.request(home, packet(body, floor))).body

        home = vitals.transport.address
        near = vitals.state.x + np.float32(1e-4)
        payload = encode("float32", near, np.random.default_rng(0))
        ask = Exchange(3, vitals.state.age, 5, 5, 0.0, 0.0, 0.5, payload)
        buggy.is_armed = True
        with pytest.raises(PeerTimeout, match=r"500|broke off"):
            await asked(ask)
        buggy.is_armed = False
        assert vitals.tally.faults["bug"] == 1
        inbox = vitals.state.inbox
        assert inbox.arriving_bytes == 0
        kept = inbox.find(ASKER, 3)
        assert kept is not None
        assert not kept.is_mixing
        # both ends agree that nothing flowed
        flow = await asked(Resolve(3))
        assert isinstance(flow, Flow)
        assert not flow.payload.values().any()
        assert isinstance(await asked(Probe(), floor=4), Ack)
        assert inbox.find(ASKER, 3) is None
        assert inbox.nbytes == 0


async def test_a_bug_in_the_work_behind_an_answer_is_counted_and_the_rest_does_not_flow() -> None:
    chance = Chance()
    async with living(400_000, chance, gossip={"codec": "int8"}) as (node, _, asker):
        vitals = node.vitals
        home = vitals.transport.address
        near = vitals.state.x + np.float32(1e-4)
        payload = encode("int8", near, np.random.default_rng(0))
        ask = Exchange(3, vitals.state.age, 5, 5, 0.0, 0.0, 0.5, payload)
        packet = Packet("default", vitals.layout.digest, ASKER, asker.address, 1, ask)
        before = vitals.state.x.copy()
        chance.left = 2
        with pytest.raises(PeerTimeout):
            await asker.request(home, packet)
        assert vitals.tally.faults["bug"] == 1
        assert vitals.state.inbox.arriving_bytes == 0
        reply = await asker.request(home, replace(packet, body=Resolve(3)))
        assert isinstance(reply.body, Flow)
        flow = reply.body.payload.values()
        assert flow[: 2 * PIECE].any()
        assert not flow[2 * PIECE :].any()
        assert np.array_equal(vitals.state.x, before + flow)
