"""What the connections of strangers may cost: how many, how fast, how long silent, how often.

Each connection takes a seat before its first byte is looked at. A seat whose owner has asked
nothing yet (it may be half open, in a handshake, or mute) is one of few, and the oldest of those
goes when there are too many: an honest peer asks within a round trip, so what is dropped is what
waited longest. Where it matters, the seat that goes is one of the address that has the most of
them, so that one device can take what is free but never what others need.

What cannot be read as HTTP is answered with 400 by aiohttp itself, which would log it with a
traceback as if the fault were ours.

A certificate is looked at in the handshake, so a connection that is kept could outlive it: neither
theirs nor ours (`Outgoing`) is used past that.

Rule of the file: each fault is counted against the address it came from, and never waited for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import web
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from p2pfl.config import LimitsConfig
from p2pfl.core.rates import Rates
from p2pfl.edge.bodies import PIECE_BYTES, patience_s
from p2pfl.edge.certificates import Chain
from p2pfl.edge.credentials import Credentials, PeerNode, peer_node
from p2pfl.edge.static import join
from p2pfl.errors import PeerError, WireError
from p2pfl.ports import Service

log = logging.getLogger(__name__)

Wall: TypeAlias = Callable[[], float]
"""Unix seconds: what certificates are measured by, and nothing else."""

ACCEPTS_PER_S = 64.0
"""New connections of one address a second; twice as many in a burst.

A peer keeps its connections and needs a few in all; a hundred nodes that start together on one
device still find a hub among them at once.
"""

HANDSHAKES_PER_S = 16.0
"""The same where each costs a TLS handshake, a few milliseconds on a small device."""

PEERS_PER_ADDRESS = 8
"""One address may ask as often as so many peers; what comes faster waits for its turn.

That bounds what others feel of a flood that no limit by node id can see, because it changes the
ids: a request costs about a third of a millisecond, 800 a second a quarter of a core. The wait is
never longer than all seats over that rate, which is shorter than a probe's patience.
"""

_BURST_S = 0.25
_SILENT_MIN = 8
_EVERY_S = 1.0
_HAS_ENDED = "its certificate has ended since it connected"
_CONNECTIONS_TO_ONE = 8
_KEPT_IDLE_S = 30.0


@dataclass(eq=False, slots=True)
class Seat:
    """One inbound connection.

    Attributes:
        socket: shut down to end what is not open yet.
        host: the address that it came from.
        group: the addresses that count as that one.
        since: when it came, monotonic seconds.
        handler: what serves it.
        transport: None until it is open; before, its bytes are only a handshake.
        peer: who its certificate says it is; None where there is none.
        has_asked: it has sent a complete request head.
        unread_bytes, unread_since: of our answers, and since when none of them were read.
    """

    socket: socket.socket
    host: str
    group: str
    since: float
    handler: web.RequestHandler
    transport: asyncio.Transport | None = None
    peer: PeerNode | None = None
    has_asked: bool = False
    unread_bytes: int = 0
    unread_since: float = 0.0

    @property
    def is_gone(self) -> bool:
        """The connection has ended, by whichever side."""
        if self.transport is None or not self.transport.is_closing():
            return False
        # without TLS, which gives up by itself, the last answer may wait for its reader for ever
        return self.peer is not None or self.transport.get_write_buffer_size() == 0

    def is_stalled(self, now: float, patience_s: float) -> bool:
        """Our answers were not read for so long; to be asked about once in a while."""
        is_mute = self.transport is None or (self.peer is not None and self.transport.is_closing())
        before, self.unread_bytes = self.unread_bytes, 0
        if self.transport is not None and not is_mute:
            self.unread_bytes = self.transport.get_write_buffer_size()
        if self.unread_bytes == 0 or self.unread_bytes < before or before == 0:
            self.unread_since = now
        return now - self.unread_since > patience_s

    def end(self) -> None:
        """Close it at once, whatever the other end has not read yet."""
        if self.transport is None:
            # whoever waits for its handshake finds that it broke off
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        else:
            self.handler.force_close()
            self.transport.abort()


class Connections:
    """The inbound connections of one server.

    Args:
        service: counts the faults.
        limits: how many there may be, and how long one may be silent.
        is_keyed: each begins with a TLS handshake.
        wall: Unix seconds.
    """

    def __init__(
        self, service: Service, limits: LimitsConfig, *, is_keyed: bool, wall: Wall = time.time
    ) -> None:
        self._service = service
        self._wall = wall
        self._patience_s = limits.first_byte_s
        # of a body, whoever sends it finds out first
        self._unread_s = 2 * patience_s(PIECE_BYTES, limits)
        self._most = limits.connections
        self._most_silent = min(max(limits.connections // 4, _SILENT_MIN), limits.connections)
        self._accepts_per_s = HANDSHAKES_PER_S if is_keyed else ACCEPTS_PER_S
        self._rates = Rates(self._accepts_per_s, limits.peers)
        self._asks_per_s = PEERS_PER_ADDRESS * limits.requests_per_peer_per_s
        self._turns: dict[str, float] = {}
        self._seats: dict[web.RequestHandler, Seat] = {}

    def enter(self, accepted: socket.socket, host: str, handler: web.RequestHandler) -> Seat | None:
        """A seat for a new connection, or None where it came too fast or finds none free."""
        seat = Seat(accepted, host, _group(host), time.monotonic(), handler)
        if not self._rates.allows(seat.group, seat.since):
            self._count(seat, f"more than {self._accepts_per_s:g} connections a second")
            return None
        self._sweep()
        self._seats[handler] = seat
        silent = [other for other in self._seats.values() if not other.has_asked]
        if len(silent) > self._most_silent:
            self._drop(_of_greediest(silent)[0], f"more than {self._most_silent} that ask nothing")
        elif len(self._seats) > self._most:
            crowd = _of_greediest(list(self._seats.values()))
            # the silent first, the longest silent of them; else the newest, so that who was here
            # keeps its place
            victim = next((other for other in crowd if not other.has_asked), crowd[-1])
            self._drop(victim, f"more than {self._most} connections")
        return self._seats.get(handler)

    def leave(self, seat: Seat, fault: PeerError) -> None:
        """It failed before it could ask; what was dropped by us was counted before."""
        if self._seats.pop(seat.handler, None) is not None:
            self._service.faulty(join(seat.host, 0), fault)

    async def turn(self, request: web.Request) -> str:
        """Wait until whoever has sent this complete request head may be answered.

        Returns:
            The id in its certificate, "" where there is none.

        Raises:
            web.HTTPForbidden: its connection was closed a moment ago, or is now because its
                certificate has ended; no answer reaches it.
        """
        seat = self._seats.get(request.protocol)
        if seat is not None and seat.peer is not None and seat.peer.is_over(self._wall()):
            self._drop(seat, _HAS_ENDED)
            seat = None
        if seat is None:
            raise web.HTTPForbidden
        seat.has_asked = True
        now = time.monotonic()
        due = max(self._turns.get(seat.group, 0.0), now - _BURST_S)
        self._turns[seat.group] = due + 1 / self._asks_per_s
        if due > now:
            await asyncio.sleep(due - now)
        return "" if seat.peer is None else seat.peer.node

    async def watch(self) -> None:
        """Close what is silent, or reads no answer, for too long, until cancelled.

        So is what goes on under a certificate that has ended: an answer may be a stream.
        """
        while True:
            await asyncio.sleep(_EVERY_S)
            self._sweep()
            now, now_wall = time.monotonic(), self._wall()
            for seat in list(self._seats.values()):
                if not seat.has_asked and now - seat.since > self._patience_s:
                    self._drop(seat, f"asked nothing for {self._patience_s:g} s")
                elif seat.peer is not None and seat.peer.is_over(now_wall):
                    self._drop(seat, _HAS_ENDED)
                elif seat.is_stalled(now, self._unread_s):
                    self._drop(seat, f"read no answer for {self._unread_s:.0f} s")

    def close(self) -> None:
        """End all that did not end when it was asked to."""
        for seat in self._seats.values():
            seat.end()
        self._seats.clear()

    def log(self) -> logging.Logger:
        """A log for the server that does not repeat what strangers got wrong."""
        of_server = logging.Logger(f"{__name__}.server")
        of_server.parent = log
        of_server.setLevel(logging.DEBUG)  # the filter sees all, and lets through what `log` takes
        of_server.addFilter(self._is_ours)
        return of_server

    def _sweep(self) -> None:
        for seat in [seat for seat in self._seats.values() if seat.is_gone]:
            del self._seats[seat.handler]
        groups = {seat.group for seat in self._seats.values()}
        for group in self._turns.keys() - groups:
            del self._turns[group]

    def _drop(self, seat: Seat, why: str) -> None:
        del self._seats[seat.handler]
        self._count(seat, why)
        seat.end()

    def _count(self, seat: Seat, why: str) -> None:
        self._service.faulty(join(seat.host, 0), WireError(why))

    def _is_ours(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return log.isEnabledFor(record.levelno)
        remote = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        fault = WireError(f"not HTTP: {type(error).__name__}")
        self._service.faulty(join(plain_host(str(remote)), 0), fault)
        return False


class Outgoing(aiohttp.TCPConnector):
    """Connections to peers; in a run with a key none is used past the certificates it began with.

    One that showed a certificate of ours which was renewed since, or one of the peer's which has
    ended, is closed when it would be used again, and a new one shows the new certificates. Ours is
    renewed long before it ends, so peers never find us on a connection whose certificate has.

    Args:
        credentials: of a run with a key.
        wall: Unix seconds.
    """

    def __init__(self, credentials: Credentials | None, wall: Wall = time.time) -> None:
        super().__init__(
            limit=0,
            limit_per_host=_CONNECTIONS_TO_ONE,
            keepalive_timeout=_KEPT_IDLE_S,
            ssl=True if credentials is None else credentials.client_context(),
        )
        self._credentials = credentials
        self._wall = wall
        self._shown: WeakKeyDictionary[ssl.SSLObject, tuple[Chain, PeerNode]] = WeakKeyDictionary()

    def peer(self, shaken: ssl.SSLObject | None) -> PeerNode | None:
        """Who is at the other end of the connection that began with this handshake."""
        shown = None if shaken is None else self._shown.get(shaken)
        return None if shown is None else shown[1]

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A kept connection that is still good, or a new one; aiohttp's own interface.

        Raises:
            PeerError: a new one showed another node's name.
        """
        while True:
            # what is renewed while we wait counts as not shown yet
            own = None if self._credentials is None else self._credentials.chain
            connection = await super().connect(req, traces, timeout)
            transport = connection.transport
            shaken = None if transport is None else transport.get_extra_info("ssl_object")
            if own is None or shaken is None:
                return connection
            if shaken not in self._shown:
                try:
                    self._shown[shaken] = own, peer_node(shaken)
                except PeerError:
                    connection.close()
                    raise
                return connection
            began_with, peer = self._shown[shaken]
            if began_with is own and not peer.is_over(self._wall()):
                return connection
            connection.close()


def abort(handler: web.RequestHandler) -> None:
    """Close a connection at once, whatever the other end has not read yet."""
    transport = handler.transport
    handler.force_close()
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def plain_host(host: str) -> str:
    """IPv4 seen through a dual-stack socket is written as IPv4."""
    return host.removeprefix("::ffff:")


def _of_greediest(seats: list[Seat]) -> list[Seat]:
    """Those of the address that has most of them, oldest first."""
    ((greediest, _),) = Counter(seat.group for seat in seats).most_common(1)
    return [seat for seat in seats if seat.group == greediest]


def _group(host: str) -> str:
    """One device may take any address of its /64, so they count as one; a link's are told apart."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4 or address.is_link_local or address.is_loopback:
        return host
    return str(ipaddress.ip_network((host, 64), strict=False))
