"""A bug that one peer's words set off: the node survives it, says so, and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from p2pfl.core.compression import Bytes, encode
from p2pfl.core.events import Exchanged, Fault, Stopped
from p2pfl.core.messages import (
    Body,
    Cancelled,
    Exchange,
    Flow,
    Packet,
    Probe,
    Resolve,
    Statement,
)
from p2pfl.core.statements import Evidence
from p2pfl.core.weights import PIECE
from p2pfl.node import Node
from p2pfl.ports import Answered, Saved, Service, Traffic
from p2pfl.sim.transport import MemoryTransport
from tests.node.swarm import Memory, Quadratic, Swarm

PEER = "f" * 8


class Bug(Exception):  # noqa: N818 (it is one)
    """What nobody thought of."""


@dataclass
class Buggy:
    """A transport that is not as its port promises, while it is armed.

    Attributes:
        before, after: kinds of questions at which `request` raises, before they leave and when
            they are answered.
        halfway: answers break our own arithmetic after the first piece.
        has_address: False, and nobody can say where it serves.
    """

    true: MemoryTransport
    before: tuple[type[Body], ...] = ()
    after: tuple[type[Body], ...] = ()
    halfway: bool = False
    has_address: bool = True
    raised: int = 0
    asked: list[Packet] = field(default_factory=list)

    @property
    def traffic(self) -> Traffic:
        return self.true.traffic

    @property
    def address(self) -> str:
        if not self.has_address:
            self.surprise()
        return self.true.address

    @property
    def authenticates(self) -> bool:
        return self.true.authenticates

    @asynccontextmanager
    async def serve(self, service: Service) -> AsyncIterator[None]:
        async with self.true.serve(service):
            yield

    async def request(
        self,
        address: str,
        packet: Packet,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Packet:
        self.asked.append(packet)
        if isinstance(packet.body, self.before):
            self.surprise()
        answer = await self.true.request(address, packet, room, None if self.halfway else begin)
        if isinstance(packet.body, self.after):
            self.surprise()
        if self.halfway and begin is not None:
            work = begin(answer)
            try:
                next(work, None)
                next(work, None)
                self.surprise()
            finally:
                if isinstance(work, Generator):
                    work.close()  # as every transport ends what it drives
        return answer

    def surprise(self) -> None:
        self.raised += 1
        raise Bug(f"number {self.raised}")


class Pair:
    """Two nodes that only average, the first over a transport with bugs, in a swarm."""

    def __init__(self, swarm: Swarm, size: int = 10, **config: Any) -> None:
        rng = np.random.default_rng(3)
        self.models = rng.normal(size=(2, size)).astype(np.float32)
        self.swarm = swarm
        for name, model in zip(("a1", "b2"), self.models, strict=True):
            swarm.start(
                name,
                Quadratic(model, 0.0),
                saved=Saved(model.copy(), None, None, 1000, 1000, 10),
                around=self._around if name == "a1" else lambda transport: transport,
                awaits_bugs=name == "a1",
                train={"momentum": 0.0},
                **config,
            )

    def _around(self, transport: MemoryTransport) -> Any:
        self.buggy = Buggy(transport)
        return self.buggy

    @property
    def node(self) -> Node:
        return self.swarm.nodes["a1"]

    def bugs(self) -> list[Fault]:
        return [event for event in self.swarm.memories["a1"].of(Fault) if event.kind == "bug"]

    def flows_after(self, at: float) -> int:
        events = self.swarm.memories["a1"].of(Exchanged)
        return sum(e.outcome == "flow" and e.role == "asked" and e.at > at for e in events)

    async def heals(self) -> None:
        """No more bugs; whoever surprised us has rested, and everybody leaves."""
        self.buggy.before = self.buggy.after = ()
        self.buggy.halfway = False
        healed = self.swarm.network.loop.time()
        await asyncio.sleep(45)
        assert self.flows_after(healed) > 3
        state = self.node.vitals.state
        for name in ("a1", "b2"):
            await self.swarm.stop(name)
            assert self.swarm.memories[name].of(Stopped)
        assert len(state.outbox) == 0
        middle = self.models.mean(axis=0)
        assert np.allclose(self.swarm.vectors().mean(axis=0), middle, atol=1e-5)


def test_a_bug_before_a_question_leaves_costs_the_exchange_and_no_share() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        pair.buggy.before = (Exchange,)
        await asyncio.sleep(2)
        assert pair.buggy.raised > 0
        vitals = pair.node.vitals
        assert vitals.tally.faults["bug"] == len(pair.bugs()) == pair.buggy.raised
        assert pair.bugs()[0].detail == "exchanges: Bug: number 1"
        assert not vitals.state.outbox.in_flight
        assert vitals.state.can_ask()
        assert vitals.cycles > 20
        await pair.heals()

    swarm.play(script)


@pytest.mark.parametrize(
    "config", [{}, {"trust": "byzantine", "robust": {"reach": 10.0}}], ids=["cooperative", "robust"]
)
def test_a_bug_after_the_answer_leaves_the_exchange_to_resolve_and_the_mean_where_it_was(
    config: dict[str, Any],
) -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm, **config)
        pair.buggy.after = (Exchange,)
        await asyncio.sleep(2)
        assert pair.bugs()
        await pair.heals()

    swarm.play(script)


def test_a_bug_halfway_through_a_flow_leaves_the_rest_to_resolve() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm, size=2 * PIECE + 5)
        pair.buggy.halfway = True
        await asyncio.sleep(2)
        assert pair.bugs()
        await pair.heals()

    swarm.play(script)


@pytest.mark.parametrize("kind", [Resolve, Probe])
def test_a_bug_that_comes_again_and_again_in_one_kind_of_question_is_survived(
    kind: type[Body],
) -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        await asyncio.sleep(1)
        pair.buggy.before = (kind, Exchange)
        await asyncio.sleep(20)
        # RESOLVE is asked ever more rarely, though it does not come to an answer
        assert 0 < len(pair.bugs()) < 60
        assert pair.node.vitals.cycles > 200
        await pair.heals()

    swarm.play(script)


def test_who_surprised_us_rests_and_the_others_are_asked() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        swarm.start("c3", Quadratic(pair.models[0], 0.0))
        await asyncio.sleep(3)
        bad = swarm.nodes["b2"].vitals.id
        pair.buggy.asked.clear()
        request = pair.buggy.request

        async def surprised_by_one(address: str, packet: Packet, *args: Any) -> Packet:
            answer = await request(address, packet, *args)
            if isinstance(packet.body, Exchange) and packet.recipient == bad:
                pair.buggy.surprise()
            return answer

        pair.buggy.request = surprised_by_one  # type: ignore[method-assign]
        began = swarm.network.loop.time()
        await asyncio.sleep(20)
        asked = [p.recipient for p in pair.buggy.asked if isinstance(p.body, Exchange)]
        assert asked.count(bad) == 1
        assert pair.flows_after(began) > 50

    swarm.play(script)


def test_a_bug_in_the_farewell_costs_neither_the_checkpoint_nor_the_goodbye() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        pair.buggy.before = (Exchange, Resolve)
        await asyncio.sleep(2.0)
        pair.buggy.before = (Resolve, Probe)
        swarm.start("c3", Quadratic(pair.models[0], 0.0))
        await asyncio.sleep(2.0)
        assert len(pair.node.vitals.state.outbox) > 0
        before = len(pair.bugs())
        await swarm.stop("a1")
        assert swarm.memories["a1"].of(Stopped)
        assert swarm.memories["a1"].saved
        assert {"resolve", "goodbye"} <= {e.detail.split()[0] for e in pair.bugs()[before:]}

    swarm.play(script)


def test_a_task_that_is_cancelled_before_its_first_step_leaves_nothing_behind() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        await asyncio.sleep(1)
        pair.node._start_exchanges()
        await swarm.stop("a1")
        pair.node._start_exchanges()
        assert swarm.memories["a1"].of(Stopped)

    swarm.play(script)


@dataclass
class Breaking:
    """A discovery that breaks."""

    async def events(self) -> Any:
        await asyncio.sleep(1)
        raise Bug("of a loop")
        yield


def test_what_is_no_peers_business_still_fails_loudly() -> None:
    swarm = Swarm()

    async def script() -> None:
        swarm.start("a1", Quadratic(np.ones(3, np.float32)), discovery=Breaking())
        await asyncio.sleep(5)

    with pytest.raises(ExceptionGroup) as caught:
        swarm.play(script)
    assert caught.group_contains(Bug, match="of a loop")


def test_a_bug_that_no_test_awaits_ends_the_world_with_its_own_traceback() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        swarm.memories["a1"].awaits_bugs = False
        pair.buggy.before = (Exchange,)
        await asyncio.sleep(5)

    with pytest.raises(Bug) as caught:
        swarm.play(script)
    assert [entry.name for entry in caught.traceback][-2:] == ["request", "surprise"]


# --- what is answered ---------------------------------------------------------------------------


def question(node: Node, seq: int) -> Packet:
    vitals = node.vitals
    model = vitals.state.x + np.float32(0.01)
    payload = encode("float32", model, np.random.default_rng(0))
    body = Exchange(seq, vitals.state.age, 5, 5, 0.0, 0.0, 0.5, payload)
    return Packet("default", vitals.layout.digest, PEER, "10.9.9.9:1", 1, body)


@pytest.mark.parametrize("trust", ["cooperative", "byzantine"])
def test_an_answer_that_could_not_be_given_flows_nothing_and_holds_no_place(trust: str) -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm, trust=trust)
        await asyncio.sleep(1)
        node, service = pair.node, pair.node._answering
        before, x = node.vitals.state.x.copy(), node.vitals.state.x
        ask = question(node, 3)
        assert service.admit(ask) is None
        pair.buggy.has_address = False
        with suppress(Bug):
            service.handle(ask)
        pair.buggy.has_address = True
        assert [event.detail for event in pair.bugs()] == ["the answer to ffffffff: Bug: number 1"]
        told = service.handle(replace(ask, body=Resolve(3)))
        assert isinstance(told, Answered)
        assert isinstance(told.packet.body, Flow)
        assert not told.packet.body.payload.values().any()
        assert np.array_equal(before, x)
        service.handle(replace(ask, body=Resolve(3), floor=4))
        service.admit(replace(ask, body=Resolve(5), floor=4))
        assert node.vitals.state.inbox.find(PEER, 3) is None

    swarm.play(script)


def test_work_that_nobody_drives_ends_all_the_same() -> None:
    swarm = Swarm()

    async def script() -> None:
        pair = Pair(swarm)
        await asyncio.sleep(1)
        service = pair.node._answering
        ask = question(pair.node, 3)
        assert service.admit(ask) is None
        service.handle(ask)  # and the answer is dropped
        told = service.handle(replace(ask, body=Resolve(3)))
        assert isinstance(told, Answered)
        assert isinstance(told.packet.body, Flow)
        assert not told.packet.body.payload.values().any()
        unseen = service.handle(replace(ask, body=Resolve(4)))
        assert isinstance(unseen, Answered)
        assert unseen.packet.body == Cancelled(4)

    swarm.play(script)


# --- evidence -----------------------------------------------------------------------------------


def case(number: int) -> Evidence:
    said = Statement(f"{number:08x}", 1, 1, 1, b"a" * 32, b"p" * 96)
    return Evidence(said, replace(said, digest=b"b" * 32))


def test_evidence_is_kept_off_the_loop_and_by_the_time_the_node_has_stopped() -> None:
    swarm = Swarm()

    async def script() -> None:
        # what it runs takes a second each
        node = swarm.start("a1", Quadratic(np.ones(3, np.float32)), step_s=1.0)
        await asyncio.sleep(3)
        for number in range(4):
            node._convicted(case(number))
        assert swarm.evidence == []
        await asyncio.sleep(1.5)
        assert swarm.evidence == [case(0), case(1)]
        await swarm.stop("a1")
        assert {e.first.node for e in swarm.evidence} == {case(n).first.node for n in range(4)}

    swarm.play(script)


def test_a_case_that_cannot_be_kept_does_not_keep_out_the_next() -> None:
    swarm, kept = Swarm(), list[Evidence]()

    def keep(evidence: Evidence) -> None:
        if evidence == case(0):
            raise Bug("of a keeper")
        kept.append(evidence)

    async def script() -> None:
        target = np.ones(3, np.float32)
        node = swarm.start("a1", Quadratic(target), evidence=keep, awaits_bugs=True)
        await asyncio.sleep(3)
        for number in range(2):
            node._convicted(case(number))
        await asyncio.sleep(1)
        node._convicted(case(2))
        await swarm.stop("a1")
        assert set(kept) == {case(1), case(2)}
        assert node.vitals.tally.faults["bug"] == 1

    swarm.play(script)


def test_the_memory_of_a_test_ends_the_world_at_a_bug_by_default() -> None:
    assert not Memory().awaits_bugs
