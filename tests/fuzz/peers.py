"""What peers send: messages, whole conversations with a node, announcements, statuses."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.cli.look import readable
from p2pfl.config import NodeConfig
from p2pfl.core import wire
from p2pfl.core.compression import CODECS, encode
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
    payload_of,
)
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.announcement import Announcement, compatible, sighting
from p2pfl.errors import NetworkError, PeerUnreachable, WireError
from p2pfl.node import Node
from p2pfl.ports import Answered, Evaluation, Sighting, Traffic, Update
from p2pfl.sim.faults import Conditions
from p2pfl.sim.loop import run
from p2pfl.sim.network import Network
from tests.fuzz.feeding import Target

RUN, LAYOUT = "digits", Layout((Entry("w", (300,)),))
NODE, PEER, THIRD = "a" * 32, "b" * 32, "c" * 32
SAID_MOST = 400
"""Characters of an error that is built of a stranger's words."""

# --- one message --------------------------------------------------------------------------------


def packet(body: Body, **fields: Any) -> Packet:
    """A sound packet of a peer to our node."""
    plain = Packet(
        run=RUN,
        layout=LAYOUT.digest,
        sender=PEER,
        address="10.0.0.2:4000",
        incarnation=3,
        body=body,
        recipient=NODE,
        floor=1,
        own_steps=90,
    )
    return replace(plain, **fields)


def conversation() -> list[Packet]:
    """One packet of every kind, and what else a header can carry."""
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, 300, dtype=np.float32)
    model = {codec: encode(codec, x, rng) for codec in CODECS}
    signed = (b"d" * 32, b"p" * 96)
    ask = Exchange(1, 100, 90, 5, 0.1, 1.0, 0.5, model["float32"])
    news = {
        "rumours": (Rumour(THIRD, ("10.0.0.3:1", "[fd00::3]:1"), Status.SUSPECT, 2, 1, 50),),
        "statements": (Statement(THIRD, 1, 2, 3, *signed), Statement(THIRD, 1, 2, 4, *signed)),
        "denials": (Denial(THIRD, 1_700_000_000, b"a" * 64),),
        "reports": (_report(PEER), _report(THIRD)),
        "figures": Figures(2, 1, np.ones(FIGURES, "<f4").tobytes(), bytes(4 * FIGURES)),
    }
    return [
        packet(ask),
        packet(replace(ask, seq=2, payload=model["int8"], clip=2.5), **news),
        packet(Exchange(3, 200, 190, 5, 0.0, 0.0, 0.5, model["float16"], 0.5, *signed)),
        packet(Resolve(1)),
        packet(Probe(), **{**news, "figures": Figures(3, 1, bytes(4 * FIGURES))}),
        packet(Probe(THIRD)),
        packet(Pull("int8")),
        packet(Flow(1, 100, 0.5, 1.5, model["int8"])),
        packet(Swap(1, 100, 90, model["float32"])),
        packet(Adopt(1, 100, model["float16"])),
        packet(Adopted(1)),
        packet(Cancelled(1)),
        packet(Busy(0.5)),
        packet(Refused(Reason.RATE, "too many")),
        packet(Ack(100, 90)),
        packet(Model(0, None)),
        packet(Model(100, model["float32"])),
    ]


def _report(node: str) -> Report:
    recent = (Recent(THIRD, 1.5), Recent(NODE, 2.5))
    return Report(
        node,
        3,
        7,
        0.5,
        "bob",
        "holding",
        100,
        90,
        18,
        0.1,
        1.5,
        0.9,
        0.5,
        2.0,
        5,
        6,
        recent,
        "rests",
    )


def _messages() -> list[bytes]:
    return [wire.encode(each) for each in conversation()]


def _message(data: bytes, _: Path) -> None:
    for message in (data, wire.LENGTH.pack(len(data)) + data):
        try:
            found = wire.decode(message)
        except WireError as error:
            assert len(str(error)) < SAID_MOST
            continue
        again = wire.encode(found)
        assert wire.encode(wire.decode(again)) == again
        payload = payload_of(found.body)
        if payload is not None:
            assert np.isfinite(payload.values()).all()


# --- a conversation -----------------------------------------------------------------------------


class _Learner:
    """Nothing is trained here."""

    layout = LAYOUT

    def initial(self) -> Any:
        return np.zeros(LAYOUT.size, np.float32)

    def step(self, *_: Any) -> Update:
        raise AssertionError

    def evaluate(self, _: Any) -> Evaluation:
        raise AssertionError


class _Nowhere:
    """Finds nobody."""

    async def events(self) -> AsyncGenerator[Sighting, None]:
        return
        yield


class _Unread:
    """A journal that forgets."""

    def record(self, event: object) -> None:
        """Take it."""


def _node(trust: str, transport: Any = None, clock: Any = None) -> Node:
    network = Network(np.random.default_rng(0), Conditions())
    return Node(
        node_id=NODE,
        incarnation=1,
        config=NodeConfig.model_validate({"run": RUN, "name": "us", "trust": trust}),
        learner=_Learner(),
        transport=transport or network.host("10.0.0.1:4000"),
        discovery=_Nowhere(),
        journal=_Unread(),
        store=None,
        clock=clock or iter(range(10**9)).__next__,
        run=None,  # type: ignore[arg-type]  # nothing runs but the handler
        rng=np.random.default_rng(1),
    )


def _conversation(data: bytes, _: Path) -> None:
    """Messages one after the other, as a transport hands them to a node."""
    for trust in ("cooperative", "byzantine"):
        node, at = _node(trust), 0
        service = node._answering  # what a transport is given, without an event loop
        while at < len(data):
            try:
                length = wire.header_length(data[at : at + 4], len(data) - at - 4)
            except WireError as error:
                service.faulty("10.0.0.2:4000", error)
                break
            packed, at = data[at + 4 : at + 4 + length], at + 4 + length
            try:
                head = wire.decode_header(packed)
            except WireError as error:
                service.faulty("10.0.0.2:4000", error)
                continue
            refusal = service.admit(head.packet)
            if refusal is not None:
                wire.encode(refusal)
                at += head.payload_bytes
                continue
            with service.room(head.payload_bytes, head.packet.sender) as room:
                came = np.frombuffer(data[at : at + head.payload_bytes], np.uint8)
                at += head.payload_bytes
                room[: came.size] = came
                room[came.size :] = 0
                try:
                    wire.check_finite(head, room)
                except WireError as error:
                    service.faulty("10.0.0.2:4000", error)
                    continue
                reply = service.handle(head.with_payload(room))
                if isinstance(reply, Answered):
                    for _step in reply.work:
                        pass
                wire.encode(reply.packet)
        weights = node.vitals.state.x
        assert np.isfinite(weights).all(), "weights are not finite"
        json.dumps(service.status(), allow_nan=False)


def _conversations() -> list[bytes]:
    asks = [each for each in conversation() if isinstance(each.body, Exchange | Resolve | Pull)]
    return [*_messages(), b"".join(map(wire.encode, asks)), b"".join(_messages())]


# --- a peer that answers ------------------------------------------------------------------------


class _Answers:
    """A transport whose every peer says what stands in the bytes, message by message."""

    address = "10.0.0.1:4000"
    authenticates = False

    def __init__(self, data: bytes) -> None:
        self.traffic = Traffic()
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)

    async def request(
        self, address: str, packet: Packet, room: Any = None, begin: Any = None
    ) -> Packet:
        data, at = self._data, self._at
        if at >= len(data):
            raise PeerUnreachable(f"{address}: nothing more is said")
        self._at = len(data)
        length = wire.header_length(data[at : at + 4], len(data) - at - 4)
        self._at = at = at + 4 + length
        head = wire.decode_header(data[at - length : at])
        if head.payload_bytes == 0:
            return head.packet
        self._at += head.payload_bytes
        taken = (room or (lambda nbytes: np.empty(nbytes, np.uint8)))(head.payload_bytes)
        came = np.frombuffer(data[at : self._at], np.uint8)
        taken[: came.size] = came
        taken[came.size :] = 0
        wire.check_finite(head, taken)
        reply = head.with_payload(taken)
        for _ in begin(reply) if begin is not None else ():
            pass
        return reply


async def _asked(trust: str, answers: _Answers) -> None:
    """A life in small: hello, exchanges, what became of them, and a newcomer's pull."""
    node = _node(trust, answers, asyncio.get_running_loop().time)
    vitals, asking, meeting = node.vitals, node.asking, node._meeting
    async with asyncio.TaskGroup() as node._tasks:
        await meeting._hello("10.0.0.2:4000", None)
        vitals.heard(packet(Ack(100, 90), rumours=()), ("10.0.0.2:4000",))
        while not answers.is_over:
            if vitals.state.can_ask() and vitals.members.addresses(PEER):
                await asking.exchange(PEER)
            for pending in list(vitals.state.outbox.in_flight)[:2]:
                await asking.resolve(pending)
            await meeting._hello("10.0.0.2:4000", PEER)
            await meeting.rescue()
    weights = vitals.state.x
    assert np.isfinite(weights).all(), "weights are not finite"
    json.dumps(node._answering.status(), allow_nan=False)


def _answered(data: bytes, _: Path) -> None:
    for trust in ("cooperative", "byzantine"):
        # virtual time: nobody really waits, and to wait for ever is an error
        run(_asked(trust, _Answers(data)))


def _answers() -> list[bytes]:
    said = [each for each in conversation() if not isinstance(each.body, Exchange | Resolve | Pull)]
    ack, rest = packet(Ack(100, 90)), [packet(Ack(100, 90)), *said]
    return [
        *(wire.encode(ack) + wire.encode(each) for each in said),
        b"".join(map(wire.encode, rest)),
    ]


# --- mDNS ---------------------------------------------------------------------------------------


def _announced(data: bytes, _: Path) -> None:
    seen = sighting(data, ["10.0.0.2:4000"])
    if seen is not None:
        assert all(text.isprintable() for text in (seen.node, seen.run or "", seen.name or ""))
        compatible(seen, RUN, LAYOUT.digest, str(wire.VERSION))


def _announcements() -> list[bytes]:
    ours = Announcement(NODE, "kitchen", RUN, LAYOUT.digest, str(wire.VERSION))
    return [ours.txt(), replace(ours, name="Küche", run="key-0123456789abcdef").txt(), b"\x03v=1"]


# --- a stranger's status ------------------------------------------------------------------------


def _stranger(data: bytes, _: Path) -> None:
    found: Any = None
    with suppress(ValueError, RecursionError):  # found before: aiohttp reads the JSON
        found = json.loads(data)
    if isinstance(found, dict) and "node" in found:
        shown = readable(found)
        assert all(line.isprintable() for line in shown.splitlines())


def _statuses() -> list[bytes]:
    node = _node("byzantine")
    for each in conversation()[:2]:
        node._answering.handle(each)
    found = node._answering.status()
    return [json.dumps(found).encode(), json.dumps(found | {"accuracy": math.nan}).encode()]


PEERS: dict[str, Target] = {
    "wire": Target(_message, _messages, (WireError,), is_tree="wire"),
    "node": Target(_conversation, _conversations, is_tree="wire"),
    "answers": Target(_answered, _answers, is_tree="wire"),
    "announcement": Target(_announced, _announcements),
    "status": Target(_stranger, _statuses, (NetworkError,), is_tree="json"),
}
