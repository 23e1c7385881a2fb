"""A simulated host's own end of the network: the `Transport` that its node is given.

Rule of the file: a host knows how its own connection is and what it sent; what becomes of a
message is for the network to say (`network.py`). A request ends when `done` is told, which may be
never: the patience is the asker's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from p2pfl.core.compression import Bytes
from p2pfl.core.messages import Packet
from p2pfl.errors import PeerError, PeerUnreachable
from p2pfl.ports import Service, Traffic
from p2pfl.sim.loop import Host

if TYPE_CHECKING:
    from p2pfl.sim.network import Network

Done: TypeAlias = Callable[[Packet | PeerError], None]
"""Told the answer, or what went wrong."""


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way; `done` gets the answer or what went wrong, at the asker."""

    source: MemoryTransport
    target: MemoryTransport
    packet: Packet
    done: Done


@dataclass(slots=True, eq=False)
class MemoryTransport:
    """The `Transport` of one life of a simulated host; a request to an earlier one breaks off.

    Attributes:
        is_unplugged: its process was killed: it hears nothing and nobody hears it.
        is_asleep: its device sleeps: what is sent to it is lost.
        latency_s, loss_probability: of this host's connection, where it differs.
        up_bytes_per_s, down_bytes_per_s: None is no limit.
        messages: sent.
        owner: id of the node that lives here; nobody in particular if empty.
        is_strange: what it sends may be no message, and always travels as real bytes.
        dawdles: how many seconds its answer to a packet waits; None for none.
    """

    network: Network
    address: str
    host: Host
    traffic: Traffic = field(default_factory=Traffic)
    service: Service | None = None
    is_unplugged: bool = False
    is_asleep: bool = False
    latency_s: float | None = None
    loss_probability: float | None = None
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    messages: int = 0
    owner: str = ""
    is_strange: bool = False
    dawdles: Callable[[Packet], float] | None = None

    @property
    def is_special(self) -> bool:
        """Whether its connection differs from the rest's."""
        return self.latency_s is not None or self.loss_probability is not None

    @property
    def authenticates(self) -> bool:
        """Whether a simulated host is who it says it is."""
        return self.network.is_keyed

    @property
    def is_serving(self) -> bool:
        """Whether somebody answers here."""
        return self.service is not None and not self.is_unplugged

    @asynccontextmanager
    async def serve(self, service: Service) -> AsyncIterator[None]:
        """Answer requests while the context is open."""
        self.service = service
        try:
            yield
        finally:
            self.service = None

    async def request(
        self,
        address: str,
        packet: Packet,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Packet:
        """Send a packet and await the answer; see `ports.Transport`."""
        waiter: asyncio.Future[Packet] = self.network.loop.create_future()

        def done(answer: Packet | PeerError) -> None:
            if waiter.done():
                return
            if isinstance(answer, PeerError):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)

        self.call(address, packet, done)
        answer = await waiter
        for _ in begin(answer) if begin is not None else ():
            pass
        return answer

    def call(self, address: str, packet: Packet, done: Done) -> None:
        """Send a packet; `done` is told how it ended, if anybody ever knows.

        Raises:
            PeerUnreachable: this host is unplugged, or nobody has such an address.
        """
        target = self.network.hosts.get(address)
        if self.is_unplugged or target is None:
            raise PeerUnreachable(f"there is no way to {address}")
        self.network.send(Call(self, target, packet, done))
