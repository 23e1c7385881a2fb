"""How a hostile member does harm: something around its transport that lies for it.

    its node ── question ──► Liar ── another model, age, bytes ──► the network
    its node ◄─ what it would have got ── Liar ◄──────── answer ──
    the network ── question ──► its node's own answer ──► Liar ── another ──► the network

Its node is an ordinary `Node` that trains truly (but for `learning.poison`) and never notices: what
its lies did to the flows is taken out again before it sees them, so the attacker always knows what
an honest member would. What is sent is an attack's business (`attacks.py`), and what is sent
besides that of `nuisance.py`.

Rule of the file: a wrapper, never a subclass of Node; chance is each attacker's own, and outside
the time of the attack nothing is touched.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from p2pfl.core.compression import CODECS, Bytes, Encoded, encode
from p2pfl.core.messages import (
    AGE_MAX,
    Ack,
    Adopt,
    Body,
    Busy,
    Exchange,
    Flow,
    Model,
    Packet,
    Refused,
    Resolve,
    Statement,
    Swap,
)
from p2pfl.core.statements import new_digest, statement_bytes
from p2pfl.core.weights import Vector
from p2pfl.errors import PeerError, PeerUnreachable
from p2pfl.node import Node
from p2pfl.ports import Answered, Forward, Notary, Reply, Service, Traffic, Transport
from p2pfl.sim.attacks import ATTACKS, View
from p2pfl.sim.insight import Insight
from p2pfl.sim.nuisance import SENT_BESIDES
from p2pfl.sim.transport import MemoryTransport
from p2pfl.sim.world import Machine, World

_INSIDE = 0.99
"""How much of what a receiver allows is used: its own model moves while the lie is on its way."""
_ANSWERS_KEPT, _PACKETS_KEPT = 200, 16


class Conspiracy:
    """All attackers of one world, and what they agreed on.

    Args:
        world: they are hosts of it; its `around` is this one's from now on.
        attack: one of `ATTACKS`.
        hostile: their places.
        strength: of the attack; its own if None.
        begins_s, ends_s: when they lie; None is for ever.
        adaptive: what they shorten so that a receiver in robust mode takes it: "never" anything,
            answers to the "clip" that the question names, or questions to the receiver's "reach" as
            well, which they need its model for.
    """

    def __init__(
        self,
        world: World,
        attack: str,
        hostile: Collection[int],
        *,
        strength: float | None = None,
        begins_s: float = 0.0,
        ends_s: float | None = None,
        adaptive: Literal["never", "clip", "reach"] = "clip",
    ) -> None:
        self.attack = ATTACKS[attack]
        self.strength = self.attack.strength if strength is None else strength
        self.insight = Insight(world, hostile)
        self.adaptive = adaptive
        self.members = len(world.machines), len(hostile)
        self._world = world
        self._begins_s, self._ends_s = begins_s, ends_s
        world.around = self.around

    def around(self, machine: Machine, transport: MemoryTransport) -> Transport:
        """What a host's new life is given as its transport."""
        attack = self.attack
        lies = attack.tells or attack.spoils or attack.claims_age or attack.extra
        if machine.place not in self.insight.hostile:
            return transport
        if not (lies or attack.doubles or attack.dawdles):
            return transport
        transport.is_strange = True
        rng = self._world.rng("attack", machine.place, machine.starts)
        liar = Liar(self, machine, transport, rng, self._world.notary(transport.owner))
        if attack.dawdles:
            transport.dawdles = liar.dawdles
        return liar

    def is_on(self) -> bool:
        """Whether it is time to lie."""
        now = self.insight.now
        return now >= self._begins_s and (self._ends_s is None or now < self._ends_s)

    def call_later(self, seconds: float, callback: Callable[[], None], liar: Liar) -> None:
        """Run it on a liar's own host, which may be frozen."""
        context = liar.transport.host.context
        self._world.loop.call_later(seconds, callback, context=context)


class Liar:
    """The `Transport` of one life of a hostile host.

    Attributes:
        plot: what all attackers agreed on.
        transport: the true one.
        place: of its host.
        rng: chance of this attacker.
        heard: packets of others that came lately, each with a payload of its own.
        said: own questions that went out lately.
        masks: invented node ids that this host answers for, besides its own.
        number: of things sent besides.
    """

    def __init__(
        self,
        plot: Conspiracy,
        machine: Machine,
        transport: MemoryTransport,
        rng: np.random.Generator,
        notary: Notary,
    ) -> None:
        self.plot = plot
        self.transport = transport
        self.place = machine.place
        self.rng = rng
        self.heard: deque[Packet] = deque(maxlen=_PACKETS_KEPT)
        self.said: deque[tuple[str, Packet]] = deque(maxlen=_PACKETS_KEPT)
        self.masks: dict[str, None] = {}
        self.number = 0
        self._machine = machine
        self._notary = notary
        self._node: Node | None = None
        self._old: Vector | None = None
        self._received: Vector | None = None

    # --- what it is to its node -----------------------------------------------------------------

    @property
    def traffic(self) -> Traffic:
        """What was moved so far."""
        return self.transport.traffic

    @property
    def address(self) -> str:
        """Where its node serves."""
        return self.transport.address

    @property
    def authenticates(self) -> bool:
        """As the true transport."""
        return self.transport.authenticates

    @asynccontextmanager
    async def serve(self, service: Service) -> AsyncIterator[None]:
        """Answer requests with lies while the context is open."""
        async with self.transport.serve(_LyingService(self, service)):
            if self.plot.attack.extra:
                self._send_besides()
            yield

    async def request(
        self,
        address: str,
        packet: Packet,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Packet:
        """Send a lie in the packet's place; see `ports.Transport`."""
        if not isinstance(packet.body, Exchange) or not self.plot.is_on():
            return await self.transport.request(address, packet, room, begin)
        told = self._asked(packet)
        self.said.append((address, told))
        if self.plot.attack.doubles:
            self._say_otherwise(told)
        answer = await self.transport.request(address, told)
        answer = self._as_if_true(packet.body, told.body, answer)
        for _ in begin(answer) if begin is not None else ():
            pass
        return answer

    # --- its words ------------------------------------------------------------------------------

    @property
    def node(self) -> Node | None:
        """The node behind it; None before it is there."""
        if self._node is None:
            self._node = self._machine.node
        return self._node

    def tell(self, theirs: Vector | None) -> Vector | None:
        """(d,) the model it passes off as its own to somebody whose model is `theirs`."""
        plot, node = self.plot, self.node
        if plot.attack.tells is None or node is None:
            return None
        own = node.vitals.state.x
        if self._old is None:
            self._old = own.copy()
        received = self._received if self._received is not None else own
        view = View(plot.insight, own, theirs, self._old, received, plot.members, self.rng)
        with np.errstate(over="ignore", invalid="ignore"):
            lie = plot.attack.tells(view, plot.strength)
        return None if lie is None else np.ascontiguousarray(lie, np.float32)

    def signed(self, packet: Packet) -> Packet:
        """A question with another payload, age or sender, signed anew if it was signed at all."""
        ask = packet.body
        if not isinstance(ask, Exchange) or not ask.proof:
            return packet
        digest = new_digest()
        digest.update(ask.payload.data.data)
        said = Statement(packet.sender, packet.incarnation, ask.seq, ask.age, digest.digest(), b"")
        proof = self._notary.sign(statement_bytes(packet.run, said))
        return replace(packet, body=replace(ask, digest=digest.digest(), proof=proof))

    def send(self, address: str, packet: Packet) -> None:
        """Say something and do not wait for the answer."""
        with suppress(PeerUnreachable):
            self.transport.call(address, packet, _ignored)

    def saw(self, model: Vector) -> None:
        """(d,) somebody's model came."""
        if model.size:
            self._received = model

    def _asked(self, packet: Packet) -> Packet:
        """The question that goes out in its node's place."""
        ask, plot = packet.body, self.plot
        assert isinstance(ask, Exchange)
        theirs = plot.insight.of(packet.recipient)
        lie = self.tell(theirs)
        if lie is not None and theirs is not None and plot.adaptive == "reach":
            lie = theirs + shortened(lie - theirs, _INSIDE * plot.insight.reach(packet.recipient))
        payload = ask.payload
        if lie is not None:
            payload = encode(payload.codec, lie, self.rng)
        if plot.attack.spoils is not None:
            copy = Encoded(payload.codec, payload.size, payload.data.copy())
            payload = plot.attack.spoils(copy, self.rng)
        age = AGE_MAX - 1 if plot.attack.claims_age else ask.age
        if payload is ask.payload and age == ask.age:
            return packet
        return self.signed(replace(packet, body=replace(ask, payload=payload, age=age)))

    def _as_if_true(self, true: Exchange, told: Body, answer: Packet) -> Packet:
        """What an honest answerer of the true question would have answered."""
        flow = answer.body
        assert isinstance(told, Exchange)
        if isinstance(flow, Swap) and flow.payload.size == true.payload.size:
            self.saw(flow.payload.values().copy())
        if not isinstance(flow, Flow) or flow.payload.size != true.payload.size:
            return answer
        lie, values = told.payload.values(), flow.payload.values()
        weight = np.float32(flow.weight)
        if weight > 0:
            self.saw(lie - values / weight)
        if told.payload is true.payload:
            return answer
        honest = values + weight * (true.payload.values() - lie)
        if true.clip > 0:
            honest = shortened(honest, flow.weight * true.clip)
        return _with_payload(answer, encode(flow.payload.codec, honest, self.rng))

    def _say_otherwise(self, packet: Packet) -> None:
        """Ask somebody else with the same number, and with the opposite of our model."""
        node, ask = self.node, packet.body
        others = [m for m in self.plot.insight.machines() if m.disk.node != packet.recipient]
        if node is None or not others or not isinstance(ask, Exchange):
            return
        other = others[int(self.rng.integers(len(others)))]
        opposite = np.float32(-self.plot.strength) * node.vitals.state.x
        body = replace(ask, payload=encode(ask.payload.codec, opposite, self.rng))
        packet = replace(packet, recipient=other.disk.node or "", rumours=(), body=body)
        self.send(other.address, self.signed(packet))

    def dawdles(self, packet: Packet) -> float:
        """How long its answer waits: almost as long as the asker would."""
        if not isinstance(packet.body, Exchange) or not self.plot.is_on():
            return 0.0
        usual = self.plot.insight.patience_s(packet.sender, self.transport.owner)
        return self.plot.strength * usual

    def _send_besides(self) -> None:
        """One thing more, and the next one in a while, as long as the host lives."""
        plot, transport = self.plot, self.transport
        if not transport.is_serving:
            return
        if plot.is_on() and self.node is not None:
            SENT_BESIDES[plot.attack.extra](self)
            self.number += 1
        plot.call_later(1 / max(plot.strength, 1e-3), self._send_besides, self)


class _LyingService:
    """Answers for a hostile host; see `ports.Service`."""

    def __init__(self, liar: Liar, service: Service) -> None:
        self._liar = liar
        self._true = service
        self._answered: OrderedDict[tuple[str, int, int], Flow | Swap | None] = OrderedDict()
        self._unwanted: Packet | None = None

    @property
    def needs_whole(self) -> bool:
        """As its node does."""
        return self._true.needs_whole

    def admit(self, packet: Packet) -> Packet | None:
        """Whoever can be lied to is not refused, whatever its own node thinks of it."""
        refusal = self._true.admit(self._unmasked(packet))
        self._unwanted = None
        if refusal is None:
            return None
        if isinstance(packet.body, Exchange) and self._lies_to(packet.body):
            self._unwanted = refusal
            return None
        return self._masked(packet, refusal)

    def _lies_to(self, ask: Exchange) -> bool:
        plot, node = self._liar.plot, self._liar.node
        fits = node is not None and ask.payload.size == node.vitals.layout.size
        return fits and plot.is_on() and plot.attack.tells is not None

    def room(self, nbytes: int, sender: str = "") -> AbstractContextManager[Bytes]:
        """As its node gives it."""
        return self._true.room(nbytes, sender)

    def faulty(self, address: str, error: Exception, sender: str = "") -> None:
        """As its node counts it."""
        self._true.faulty(address, error, sender)

    def status(self) -> dict[str, Any]:
        """Its node's own."""
        return self._true.status()

    def handle(self, packet: Packet) -> Reply:
        """Let its node answer, and answer otherwise."""
        liar, ask = self._liar, packet.body
        theirs: Vector | None = None
        if isinstance(ask, Exchange):
            # the answer is written over the question
            theirs = ask.payload.values().copy()
            copy = Encoded(ask.payload.codec, ask.payload.size, ask.payload.data.copy())
            liar.heard.append(_with_payload(packet, copy))
        if self._unwanted is not None:
            answer, self._unwanted = self._unwanted, None
        else:
            reply = self._true.handle(self._unmasked(packet))
            if isinstance(reply, Forward):
                return reply
            for _ in reply.work:
                pass
            answer = reply.packet
        if liar.plot.is_on():
            answer = self._otherwise(packet, theirs, answer)
        if theirs is not None:
            liar.saw(theirs)
        return Answered(self._masked(packet, answer))

    def _otherwise(self, packet: Packet, theirs: Vector | None, answer: Packet) -> Packet:
        """A lie; but what was said once is said again, to a question or a RESOLVE that repeats."""
        ask = packet.body
        if not isinstance(ask, Exchange | Resolve):
            return self._lied(packet, theirs, answer)
        key = packet.sender, packet.incarnation, ask.seq
        if key in self._answered:
            said = self._answered[key]
            return answer if said is None else replace(answer, body=said)
        if isinstance(ask, Resolve):
            return answer
        willing = self._willing(packet, ask, answer)
        told = self._lied(packet, theirs, willing)
        if isinstance(told.body, Flow | Swap):
            # its own node remembers what it answered itself
            self._answered[key] = None if willing is answer else told.body
            if len(self._answered) > _ANSWERS_KEPT:
                self._answered.popitem(last=False)
        return told

    def _lied(self, packet: Packet, theirs: Vector | None, answer: Packet) -> Packet:
        body, plot = answer.body, self._liar.plot
        if plot.attack.claims_age and isinstance(body, Flow | Swap | Adopt | Ack | Model):
            answer = replace(answer, body=replace(body, age=AGE_MAX - 1))
        if not isinstance(body, Flow | Swap | Adopt | Model) or body.payload is None:
            return answer
        lie = self._liar.tell(theirs)
        if lie is not None:
            if isinstance(body, Flow) and isinstance(packet.body, Exchange) and theirs is not None:
                lie = self._flow(packet.body, theirs, lie)
            # written over the true one, so that a RESOLVE is answered with the same
            CODECS[body.payload.codec].encode(lie, self._liar.rng, body.payload.data)
        if plot.attack.spoils is not None:
            answer = _with_payload(answer, plot.attack.spoils(body.payload, self._liar.rng))
        return answer

    def _willing(self, packet: Packet, ask: Exchange, answer: Packet) -> Packet:
        """A flow, or a swap, in place of what its node would rather not answer."""
        node = self._liar.node
        if node is None or not isinstance(answer.body, Refused | Busy) or not self._lies_to(ask):
            return answer
        state = node.vitals.state
        zeros = np.zeros(ask.payload.size, np.float32)
        nothing = encode(ask.payload.codec, zeros, self._liar.rng)
        body: Flow | Swap
        if state.judging is not None and not state.judging.clips:
            body = Swap(ask.seq, state.age, state.own_steps, nothing)
        else:
            body = Flow(ask.seq, state.age, ask.weight, 0.0, nothing)
        return replace(answer, recipient=packet.sender, body=body)

    def _flow(self, ask: Exchange, theirs: Vector, lie: Vector) -> Vector:
        """(d,) what takes the asker as far towards the lie as one answer may."""
        away = theirs - lie
        if ask.clip > 0 and self._liar.plot.adaptive != "never":
            away = shortened(away, ask.clip)
        return np.float32(ask.weight) * away

    def _unmasked(self, packet: Packet) -> Packet:
        """What is meant for an invented node is its own business."""
        if packet.recipient in self._liar.masks:
            return replace(packet, recipient=self._liar.transport.owner)
        return packet

    def _masked(self, packet: Packet, answer: Packet) -> Packet:
        if packet.recipient in self._liar.masks:
            return replace(
                answer, sender=packet.recipient, incarnation=1, refutation=0, floor=0, rumours=()
            )
        return answer


def shortened(vector: Vector, most: float) -> Vector:
    """The vector, (d,) float32, with an l2 norm of at most `most`."""
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if norm <= most:
        return vector
    return vector * np.float32(most / norm)


def _with_payload(packet: Packet, payload: Encoded) -> Packet:
    body = packet.body
    assert isinstance(body, Exchange | Flow | Swap | Adopt | Model)
    return replace(packet, body=replace(body, payload=payload))


def _ignored(_: Packet | PeerError) -> None:
    """Nobody waits for an answer."""
