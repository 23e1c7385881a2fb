"""A bound on what a node takes of the LAN, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, closing, suppress

import numpy as np
import pytest

from p2pfl.config import LimitsConfig, NodeConfig
from p2pfl.core.events import Exchanged, Fault, MemberChanged
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.static import StaticPeers
from p2pfl.edge.worker import Worker
from p2pfl.node import Node
from p2pfl.node.vitals import HELD
from p2pfl.ports import Saved
from tests.node.swarm import Quadratic

SIZE, RATE, SECONDS = 1_000_000, 1e6, 10.0
QUICK = {
    "train": {"cycle_min_s": 0.1, "evaluate_every_s": 60},
    "membership": {"probe_interval_s": 0.5, "probe_timeout_s": 0.4},
}


class Kept:
    """A journal that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def record(self, event: object) -> None:
        self.events.append(event)


async def test_a_model_of_4_mb_takes_1_mb_a_second_and_arrives_whole() -> None:
    rng = np.random.default_rng(1)
    given = [rng.standard_normal(SIZE).astype(np.float32) for _ in range(2)]
    nodes, journals, tasks = [], [], []
    async with AsyncExitStack() as ending:
        worker = ending.enter_context(closing(Worker()))
        group = await ending.enter_async_context(asyncio.TaskGroup())
        for place, model in enumerate(given):
            transport = HttpTransport("127.0.0.1", 0, LimitsConfig())
            ending.enter_context(closing(transport))
            courtesy = {"rate_bytes_per_s": RATE} if place == 0 else {}
            journals.append(Kept())
            node = Node(
                node_id=f"{place}" * 32,
                incarnation=1,
                config=NodeConfig.model_validate({**QUICK, "courtesy": courtesy}),
                learner=Quadratic(np.zeros(SIZE, np.float32), 0.0),
                transport=transport,
                discovery=StaticPeers([n.vitals.transport.address for n in nodes]),
                journal=journals[-1],
                store=None,
                clock=time.monotonic,
                run=worker,
                rng=np.random.default_rng(place),
                saved=Saved(model.copy(), None, None, 1000, 1000, 10),
            )
            nodes.append(node)
            tasks.append(group.create_task(node.run()))
        bounded, free = nodes
        async with asyncio.timeout(60):
            while not bounded.vitals.state.mixes:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)
        began, before = time.monotonic(), _moved(bounded)
        free_before = _moved(free)
        await asyncio.sleep(SECONDS)
        seconds = time.monotonic() - began
        assert _moved(bounded) - before == pytest.approx(RATE * seconds, rel=0.1)
        # the other end, which only talks to this one, sees the same, but for what it had given to
        # its system when it heard BUSY
        in_vain = sum(e.outcome == "busy" for e in journals[1].events if isinstance(e, Exchanged))
        assert in_vain <= 3
        assert _moved(free) - free_before <= 1.1 * RATE * seconds + in_vain * 4 * SIZE
        assert any("MB/s" in sentence for sentence in bounded.vitals.holding)
        for node in nodes:
            node.vitals.state._config = node.vitals.config.gossip.model_copy(
                update={"outstanding": 0}
            )
        async with asyncio.timeout(60):
            while any(len(n.vitals.state.outbox) for n in nodes):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        mass = sum(node.vitals.state.x.astype(np.float64) for node in nodes)
        assert np.abs(mass - np.sum(given, axis=0, dtype=np.float64)).max() < 1e-5
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    for journal in journals:
        outcomes = {e.outcome for e in journal.events if isinstance(e, Exchanged)}
        assert outcomes <= {"flow", "busy"}
        assert {e.kind for e in journal.events if isinstance(e, Fault)} <= {HELD}
        changes = [e.status for e in journal.events if isinstance(e, MemberChanged)]
        assert "suspect" not in changes


def _moved(node: Node) -> int:
    traffic = node.vitals.transport.traffic
    return traffic.bytes_in + traffic.bytes_out
