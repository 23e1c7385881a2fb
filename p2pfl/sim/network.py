"""Transport and Discovery in memory: latency, loss and partitions, by chance that is an argument.

Rule of the file: what is lost is lost silently, as on a real network, and the asker's time-out
tells; a host that is down refuses at once, as a closed port does. One message in a hundred really
goes through the wire's encode and decode, so that what is simulated is what travels.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from p2pfl.core import wire
from p2pfl.core.compression import Bytes
from p2pfl.core.messages import Adopt, Exchange, Flow, Model, Packet, not_reached, payload_of
from p2pfl.errors import PeerError, PeerTimeout, PeerUnreachable
from p2pfl.ports import Forward, Service, Sighting, Traffic

_CHECKED_SHARE = 0.01
_FORWARD_S = 0.5


@dataclass(slots=True)
class Network:
    """All hosts of one world.

    Attributes:
        rng: chance of latency and loss.
        latency_s: one way.
        loss_probability: of each message, requests and answers alike.
        parted: pairs of hosts that do not hear each other.
    """

    rng: np.random.Generator
    latency_s: float = 0.002
    loss_probability: float = 0.0
    parted: set[frozenset[str]] = field(default_factory=set)
    _serving: dict[str, Service] = field(default_factory=dict)
    _listening: list[asyncio.Queue[Sighting]] = field(default_factory=list)
    _sighted: dict[str, Sighting] = field(default_factory=dict)

    def host(self, address: str) -> MemoryTransport:
        """The transport of one host, `host:port`."""
        return MemoryTransport(self, address)

    def announce(self, sighting: Sighting) -> AsyncGenerator[Sighting, None]:
        """A discovery that everybody hears at once."""
        return self._announce(sighting)

    async def _announce(self, sighting: Sighting) -> AsyncGenerator[Sighting, None]:
        news: asyncio.Queue[Sighting] = asyncio.Queue()
        for known in self._sighted.values():
            news.put_nowait(known)
        self._sighted[sighting.addresses[0]] = sighting
        for queue in self._listening:
            queue.put_nowait(sighting)
        self._listening.append(news)
        try:
            while True:
                yield await news.get()
        finally:
            self._listening.remove(news)
            self._sighted.pop(sighting.addresses[0], None)

    async def carry(self, source: str, target: str) -> None:
        """One message's way; returns when it arrives, never if it is lost."""
        lost = self.rng.random() < self.loss_probability
        if lost or frozenset((source, target)) in self.parted:
            await asyncio.Event().wait()
        await asyncio.sleep(self.latency_s)


@dataclass(slots=True)
class MemoryTransport:
    """The `Transport` of one simulated host."""

    network: Network
    address: str
    traffic: Traffic = field(default_factory=Traffic)

    @asynccontextmanager
    async def serve(self, service: Service) -> AsyncIterator[None]:
        """Answer requests while the context is open."""
        self.network._serving[self.address] = service
        try:
            yield
        finally:
            del self.network._serving[self.address]

    async def request(
        self,
        address: str,
        packet: Packet,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Packet:
        """Send a packet and await the answer; see `ports.Transport`."""
        network = self.network
        if address not in network._serving and frozenset((self.address, address)) not in (
            network.parted
        ):
            raise PeerUnreachable(f"{address} refuses connections")
        await network.carry(self.address, address)
        service = network._serving.get(address)
        if service is None:
            raise PeerTimeout(f"{address} broke off")
        packet = self._travelled(packet)
        answer = service.admit(packet)
        if answer is None:
            payload = payload_of(packet.body)
            with service.room(payload.nbytes if payload else 0):
                reply = service.handle(packet)
            if isinstance(reply, Forward):
                answer = await self._forward(address, reply, packet.sender)
            else:
                for _ in reply.work:
                    pass
                answer = reply.packet
        answer = self._travelled(answer)
        await network.carry(address, self.address)
        for _ in begin(answer) if begin is not None else ():
            pass
        return answer

    async def _forward(self, relay: str, wish: Forward, asker: str) -> Packet:
        try:
            async with asyncio.timeout(_FORWARD_S):
                return await self.network.host(relay).request(wish.address, wish.packet)
        except (PeerError, TimeoutError) as error:
            return not_reached(wish.packet, asker, str(error) or "no answer")

    def _travelled(self, packet: Packet) -> Packet:
        """What arrives: a copy of the payload, now and then through real bytes."""
        if self.network.rng.random() < _CHECKED_SHARE:
            return wire.decode(wire.encode(packet))
        body = packet.body
        if not isinstance(body, Exchange | Flow | Adopt | Model) or body.payload is None:
            return packet
        copied = replace(body.payload, data=body.payload.data.copy())
        return replace(packet, body=replace(body, payload=copied))
