"""What becomes of a message in memory: latency, loss, bandwidth, cuts and holds; and Discovery.

Rules of the file: all chance is one generator; what is lost is lost silently, as on a real network,
and the asker's time-out tells; a host that is up but serves nothing refuses, as a closed port does;
a request that was on its way to a process that ended breaks off. Sizes are those of the real codec,
and one message in a hundred really goes through the wire's encode and decode, so that what is
simulated is what travels; of a host whose words may be no message (`is_strange`) all do. What
arrives is run in the context of the host it arrives at, so that a paused host is silent, and
answers late. A host speaks for itself only, unless the network is one without keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from p2pfl.core import wire
from p2pfl.core.compression import Encoded
from p2pfl.core.messages import (
    Exchange,
    Packet,
    Reason,
    Refused,
    not_reached,
    payload_of,
)
from p2pfl.errors import PeerError, PeerGone, PeerTimeout, WireError
from p2pfl.ports import Forward, Sighting
from p2pfl.sim.faults import Conditions, Ways
from p2pfl.sim.links import Links
from p2pfl.sim.loop import NS, Host, VirtualLoop
from p2pfl.sim.packets import nbytes_of, with_body, with_payload
from p2pfl.sim.transport import Call, MemoryTransport

FORWARD_S = 0.5
"""A relay waits so long for the member it asks on another's behalf, as the real transport does."""
LATE_LATENCIES = 10
"""A reordered message is late by up to so many latencies."""

_CHECKED_EVERY = 100


class Network:
    """All hosts of one world.

    Args:
        rng: chance.
        conditions: what it is like.

    Attributes:
        hosts: by address, each in its newest life.
        ways: where it is otherwise than that.
        messages: sent so far.
        is_keyed: members have keys, as with mutual TLS: nobody can speak for another.
    """

    def __init__(self, rng: np.random.Generator, conditions: Conditions | None = None) -> None:
        self.rng = rng
        self.conditions = conditions or Conditions()
        self.ways = Ways()
        self.links = Links()
        self.messages = 0
        self.is_keyed = True
        self.hosts: dict[str, MemoryTransport] = {}
        self._listening: dict[str, asyncio.Queue[Sighting]] = {}
        self._sighted: dict[str, Sighting] = {}
        self._last: dict[tuple[str, str], int] = {}

    def host(self, address: str, host: Host | None = None) -> MemoryTransport:
        """The transport of one host, `host:port`; a new one replaces that of an earlier life."""
        transport = self.hosts[address] = MemoryTransport(self, address, host or Host(address))
        return transport

    @cached_property
    def loop(self) -> VirtualLoop:
        """Of the world; asked for once, because asking is a system call."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    # --- discovery ------------------------------------------------------------------------------

    async def announce(self, sighting: Sighting) -> AsyncGenerator[Sighting, None]:
        """A discovery that everybody hears at once, or as many as `Conditions.sees` says."""
        me, news = sighting.addresses[0], asyncio.Queue[Sighting]()
        others, sees = list(self._sighted.values()), self.conditions.sees
        if sees is not None and len(others) > sees:
            chosen = self.rng.choice(len(others), sees, replace=False)
            others = [others[place] for place in sorted(chosen)]
        elif sees is None:
            for queue in self._listening.values():
                queue.put_nowait(sighting)
        for known in others:
            news.put_nowait(known)
        self._sighted[me] = sighting
        self._listening[me] = news
        try:
            while True:
                yield await news.get()
        finally:
            if self._listening.get(me) is news:
                del self._listening[me], self._sighted[me]

    # --- messages -------------------------------------------------------------------------------

    def send(self, call: Call) -> None:
        """Carry a request; `call.done` will be called, or never if something is lost."""
        source, target = call.source, call.target
        if not target.is_serving:
            # a closed port answers at once, unless the answer gets lost too
            refused = PeerGone(f"{target.address} refuses connections")
            self._carry(source, target, 0, target.host, self._tell, call, refused)
            return
        nbytes = nbytes_of(call.packet)
        self._count(source, target, nbytes)
        self._carry(source, target, nbytes, target.host, self._arrive, call)
        probability = self.conditions.duplicate_probability
        if probability and self.rng.random() < probability:
            again = Call(source, target, call.packet, _nobody)
            self._carry(source, target, nbytes, target.host, self._arrive, again)

    def _arrive(self, call: Call) -> None:
        """At the target: its service answers, synchronously."""
        target, service = call.target, call.target.service
        if target.is_asleep:
            return
        if service is None or target.is_unplugged:
            self._tell(call, PeerTimeout(f"{target.address} broke off"))
            return
        try:
            packet = self._travelled(call.packet, call.source)
        except WireError as error:
            service.faulty(call.source.address, error)
            self._tell(call, PeerTimeout(f"{target.address} broke off: {error}"))
            return
        answer = self._unmasked(packet, call) or service.admit(packet)
        if answer is None:
            payload = payload_of(packet.body)
            with service.room(payload.nbytes if payload is not None else 0):
                reply = service.handle(packet)
            if isinstance(reply, Forward):
                self._forward(call, reply, packet.sender)
                return
            for _ in reply.work:
                pass
            answer = reply.packet
        late_s = target.dawdles(packet) if target.dawdles is not None else 0.0
        if late_s > 0:
            self.loop.call_later(late_s, self._answer, call, answer, context=target.host.context)
        else:
            self._answer(call, answer)

    def _unmasked(self, packet: Packet, call: Call) -> Packet | None:
        """What somebody is told who speaks for another, though everybody has a key."""
        owner, target = call.source.owner, call.target
        if not self.is_keyed or packet.sender == owner or not owner or target.service is None:
            return None
        detail = f"sender is {packet.sender}, the certificate of {owner}"
        target.service.faulty(call.source.address, WireError(detail))
        return Packet(
            run=packet.run,
            layout=packet.layout,
            sender=target.owner,
            address=target.address,
            incarnation=0,
            body=Refused(Reason.IDENTITY, detail),
            recipient=owner,
        )

    def _answer(self, call: Call, answer: Packet) -> None:
        nbytes = nbytes_of(answer)
        self._count(call.target, call.source, nbytes)
        self._carry(
            call.target, call.source, nbytes, call.source.host, self._come_back, call, answer
        )

    def _come_back(self, call: Call, answer: Packet) -> None:
        try:
            call.done(self._travelled(answer, call.target))
        except WireError as error:
            call.done(error)

    def _tell(self, call: Call, error: PeerError) -> None:
        """The asker's own system tells it that a connection broke."""
        self._carry(call.target, call.source, 0, call.source.host, call.done, error)

    def _forward(self, call: Call, wish: Forward, asker: str) -> None:
        """The relay asks on the asker's behalf, and passes on what it hears in time."""
        relay, is_over = call.target, False

        def done(answer: Packet | PeerError) -> None:
            nonlocal is_over
            if is_over or relay.is_unplugged:
                return
            is_over = True
            patience.cancel()
            if isinstance(answer, PeerError):
                answer = not_reached(wish.packet, asker)
            self._answer(call, answer)

        patience = self.loop.call_later(
            FORWARD_S, done, PeerTimeout("no answer"), context=relay.host.context
        )
        try:
            relay.call(wish.address, wish.packet, done)
        except PeerError as error:
            done(error)

    def _count(self, source: MemoryTransport, target: MemoryTransport, nbytes: int) -> None:
        self.messages += 1
        source.messages += 1
        source.traffic.bytes_out += nbytes
        target.traffic.bytes_in += nbytes

    def _carry(
        self,
        source: MemoryTransport,
        target: MemoryTransport,
        nbytes: int,
        host: Host,
        deliver: Callable[..., None],
        *args: Any,
    ) -> None:
        """One message's way: `deliver(*args)` is run where it arrives, or never if it is lost.

        Args:
            nbytes: that bandwidth is needed for.
            host: in whose context it is run.
        """
        if target.is_asleep:
            return
        conditions, rng = self.conditions, self.rng
        latency_s, loss = conditions.latency_s, conditions.loss_probability
        if source.is_special or target.is_special:
            own = [end.latency_s for end in (source, target) if end.latency_s is not None]
            latency_s = max(own, default=latency_s)
            own = [e.loss_probability for e in (source, target) if e.loss_probability is not None]
            loss = max(own, default=loss)
        held: list[Callable[[], None]] | None = None
        for way in self.ways.between(source.address, target.address):
            if way.is_cut:
                return
            latency_s = way.latency_s if way.latency_s is not None else latency_s
            loss = way.loss_probability if way.loss_probability is not None else loss
            held = way.held if way.held is not None else held
        if held is not None:
            # let go, it finds its way as if it had been sent then
            held.append(partial(self._carry, source, target, nbytes, host, deliver, *args))
            return
        if loss and rng.random() < loss:
            return
        if conditions.latency_sigma:
            latency_s *= float(np.exp(conditions.latency_sigma * rng.standard_normal()))
        late = conditions.reorder_probability
        is_late = bool(late) and rng.random() < late
        if is_late:
            latency_s *= 1 + LATE_LATENCIES * rng.random()
        keeps_order = conditions.fifo and not is_late and bool(conditions.latency_sigma or late)
        leave = _Leave(
            self, source, target, nbytes > 0, int(latency_s * NS), keeps_order, host, deliver, args
        )
        begin: Callable[[], None] = leave
        if nbytes and (source.up_bytes_per_s or target.down_bytes_per_s):
            begin = _Transfer(self.links, source, target, nbytes, leave).begin
        begin()

    def _travelled(self, packet: Packet, source: MemoryTransport) -> Packet:
        """What arrives: a question's payload in memory of its own, now and then by real bytes.

        The answerer writes its answer over the question; nobody writes over an answer.

        Raises:
            WireError: a flipped byte was noticed, or `source` sent what is no message.
        """
        corrupt = self.conditions.corrupt_probability
        if corrupt and self.rng.random() < corrupt:
            data = bytearray(wire.encode(packet))
            data[int(self.rng.integers(len(data)))] ^= 1 << int(self.rng.integers(8))
            return wire.decode(bytes(data))
        if source.is_strange or self.messages % _CHECKED_EVERY == 0:
            return wire.decode(wire.encode(packet))
        body = packet.body
        if type(body) is not Exchange:
            return packet
        sent = body.payload
        mine = Encoded(sent.codec, sent.size, sent.data.copy())
        return with_body(packet, with_payload(body, mine))


@dataclass(slots=True, eq=False)
class _Leave:
    """The last part of a message's way: from when it has left to when it arrives."""

    network: Network
    source: MemoryTransport
    target: MemoryTransport
    is_data: bool
    delay_ns: int
    keeps_order: bool
    host: Host
    deliver: Callable[..., None]
    args: tuple[Any, ...]

    def __call__(self) -> None:
        if self.is_data and self.source.is_unplugged:
            return  # killed while it was sending
        loop = self.network.loop
        when = loop.now_ns + self.delay_ns
        if self.keeps_order:
            last, pair = self.network._last, (self.source.address, self.target.address)
            when = last[pair] = max(when, last.get(pair, 0))
        loop.call_at_ns(when, self.deliver, *self.args, context=self.host.context)


@dataclass(slots=True, eq=False)
class _Transfer:
    """Bytes that have to pass both ends' lines before the latency begins."""

    links: Links
    source: MemoryTransport
    target: MemoryTransport
    nbytes: int
    then: Callable[[], None]

    def begin(self) -> None:
        self.links.begin(
            self.nbytes,
            (
                (f"up {self.source.address}", self.source.up_bytes_per_s),
                (f"down {self.target.address}", self.target.down_bytes_per_s),
            ),
            self.then,
        )


def _nobody(_: Packet | PeerError) -> None:
    """The answer to a request that nobody sent."""
