"""The LAN transport: HTTP/1.1 over kept-alive connections, PROTOCOL section 8.

    POST /v1/exchange | resolve | probe | pull    one packet there, one packet back
    GET  /v1/status                               JSON for people and tools

What else a node serves (its page) is mounted by whoever makes the transport.

A header is small and read whole; a payload is received straight into a buffer that the node
provides, and sent from views of one, in pieces; no model-sized body is ever built. In a run with a
key all of it goes through mutual TLS 1.3, and nobody speaks for another: a packet's sender is the
node whose certificate the connection showed.

Rules of the file: every length is checked before a byte behind it is read; bytes that are not a
message are answered with 400, counted against their sender, and disturb nobody else; what one
connection makes us keep is bounded (`STALLED_BYTES`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TypeAlias

import aiohttp
import numpy as np
from aiohttp import hdrs, web
from yarl import URL

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import Bytes
from p2pfl.core.messages import Ack, Packet, Probe, Reason, Refused, not_reached
from p2pfl.edge import running
from p2pfl.edge.bodies import (
    GRACE_S,
    SMALL_BYTES,
    Body,
    Incoming,
    Patience,
    hold_pieces,
    read_head,
)
from p2pfl.edge.browsers import is_of_a_page, refusal
from p2pfl.edge.connections import Connections, Outgoing, Wall, abort, plain_host
from p2pfl.edge.credentials import Credentials, peer_node
from p2pfl.edge.listening import Door, listen, refused_by_them
from p2pfl.edge.static import join, parse
from p2pfl.errors import (
    ConfigError,
    PeerError,
    PeerGone,
    PeerTimeout,
    PeerUnreachable,
    WireError,
)
from p2pfl.ports import Forward, Service, Traffic

log = logging.getLogger(__name__)

Turn: TypeAlias = Callable[[web.Request], Awaitable[str]]
Mount: TypeAlias = Callable[[web.Application, Service, Turn], None]
"""Adds routes for `Service`, whose handlers await their `Turn` first, before the node serves."""

_BUFFER_BYTES = 1 << 17
_CONNECT_S = 1.0
_CONNECT_TLS_S = 2.0
_FORWARD_S = 0.5
_PULLS_AT_ONCE = 4
"""Each is answered with a model of its own, however slowly it is read."""
_PAUSED = web.RequestKey("paused", bool)

STALLED_BYTES = 2 << 20
"""What one inbound connection makes us keep at most, whatever its other end does or leaves undone.

A piece of an answer that is not read, 1 MiB, or 256 KiB held several times over by TLS; what the
parser took in and nobody asked for yet, twice `_BUFFER_BYTES`; what came with one more read and
TLS's own two buffers, 256 KiB each. Payloads are not in it: they arrive in the room that the
service gives.
"""


class HttpTransport:
    """Serves one node and carries its requests.

    Args:
        bind: address to listen on; "" means every address, IPv4 and IPv6.
        port: 0 takes any free one.
        limits: what strangers may cost us.
        advertised: `host:port` at which others reach it, where that is another address.
        credentials: of a run with a key; None serves, and asks, whoever is there.
        mounts: what is served beside the protocol.
        wall: Unix seconds, to measure certificates by.
    """

    def __init__(
        self,
        bind: str,
        port: int,
        limits: LimitsConfig,
        advertised: str | None = None,
        credentials: Credentials | None = None,
        mounts: Sequence[Mount] = (),
        wall: Wall = time.time,
    ) -> None:
        self.traffic = Traffic()
        self.limits = limits
        self.credentials = credentials
        self._advertised = advertised
        self._mounts = tuple(mounts)
        self._wall = wall
        self._socket = listen(bind, port)
        self._session: aiohttp.ClientSession | None = None
        self._outgoing: Outgoing | None = None
        hold_pieces()

    @property
    def address(self) -> str:
        """Where others reach this node; the host is unspecified if it listens everywhere."""
        if self._advertised is not None:
            return self._advertised
        host, port = self._socket.getsockname()[:2]
        return join(host, port)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def authenticates(self) -> bool:
        """Whether a packet's sender is surely the node it names, relays excepted."""
        return self.credentials is not None

    def close(self) -> None:
        """Give the port back; closing twice does nothing."""
        self._socket.close()

    @asynccontextmanager
    async def serve(self, service: Service) -> AsyncIterator[None]:
        """Answer requests with `service` while the context is open."""
        app = web.Application(client_max_size=0)
        connections = Connections(
            service, self.limits, is_keyed=self.authenticates, wall=self._wall
        )
        answering = _Answering(service, self, connections)
        app.router.add_post("/v1/{kind:exchange|resolve|probe|pull}", answering.message)
        app.router.add_get("/v1/status", answering.status)
        for mount in self._mounts:
            mount(app, service, connections.turn)
        runner = running.runner(app, connections, _BUFFER_BYTES)
        await runner.setup()
        assert runner.server is not None
        server = None if self.credentials is None else self.credentials.server_context()
        door = Door(connections, runner.server, server, peer_node)
        self._outgoing = Outgoing(self.credentials, self._wall)
        patience_s = _CONNECT_S if server is None else _CONNECT_TLS_S
        try:
            async with (
                aiohttp.ClientSession(
                    connector=self._outgoing,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience_s),
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                    auto_decompress=False,
                    read_bufsize=_BUFFER_BYTES,
                    response_class=_Response,
                ) as self._session,
                asyncio.TaskGroup() as tasks,
            ):
                guards = [
                    tasks.create_task(door.keep(self._socket), name="door"),
                    tasks.create_task(connections.watch(), name="connections"),
                ]
                try:
                    yield
                finally:
                    for guard in guards:
                        guard.cancel()
        finally:
            self._session = self._outgoing = None
            self._socket.close()
            await runner.cleanup()
            connections.close()
            await asyncio.sleep(0)  # transports tell their protocols in the next round

    async def request(
        self,
        address: str,
        packet: Packet,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Packet:
        """Send a packet and await the answer; see `ports.Transport`."""
        if self._session is None:
            raise PeerUnreachable("this node is not serving any more")
        body = Body(packet, self.traffic, is_sealed=self.authenticates)
        headers = {hdrs.CONTENT_TYPE: "application/msgpack", hdrs.CONTENT_LENGTH: str(body.size)}
        url = self._url(address, wire.name_of(packet.body))
        is_connected = False
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                is_connected = True
                self._check_home(response, packet)
                if response.status != HTTPStatus.OK:
                    text = (await response.content.read(256)).decode(errors="replace").strip()
                    raise PeerTimeout(f"{address} answered {response.status}: {text}")
                content, length = response.content, response.content_length
                head = await read_head(content, length, self.limits, self.traffic)
                self._check_speaker(response, packet, head.packet)
                buffer = (room or _new)(head.payload_bytes) if head.payload_bytes else _new(0)
                answer, arriving = (
                    head.with_payload(buffer),
                    Incoming(content, head, buffer, self.traffic),
                )
                work = begin(answer) if begin is not None else iter(())
                next(work, None)
                try:
                    while await arriving.piece():
                        next(work, None)
                finally:
                    _finish(work)
                return answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            why = refused_by_them(error) or error
            is_closed = isinstance(error, aiohttp.ClientConnectorError) and isinstance(
                error.os_error, ConnectionRefusedError
            )
            failure = PeerGone if is_closed else PeerUnreachable
            raise failure(f"cannot connect to {address}: {why}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PeerTimeout(f"{address} broke off: {error or type(error).__name__}") from None
        except (UnicodeError, ValueError) as error:
            if is_connected:
                raise  # not of the address: a bug, which is not to look like a peer's fault
            # a name that the resolver cannot even write down
            raise PeerUnreachable(f"'{address[:80]}' cannot be asked: {error}") from None

    def _url(self, address: str, kind: str) -> URL:
        """Where to ask; an address that peers told may be any text.

        Raises:
            PeerUnreachable: it is not host:port.
        """
        scheme = "https" if self.authenticates else "http"
        try:
            host, port = parse(address)
            return URL.build(scheme=scheme, host=host, port=port, path=f"/v1/{kind}")
        except (ConfigError, ValueError):
            raise PeerUnreachable(f"'{address[:80]}' is not host:port") from None

    def _check_home(self, response: aiohttp.ClientResponse, asked: Packet) -> None:
        """Whoever lives at an address answers for itself, and not for whom we meant.

        Raises:
            PeerError: the packet was meant for another node than the certificate's.
        """
        if self.authenticates and asked.recipient:
            node = self._node_of(response)
            if node != asked.recipient:
                raise PeerUnreachable(f"{node} lives there, not {asked.recipient}")

    def _node_of(self, response: aiohttp.ClientResponse) -> str:
        shaken = response.shaken if isinstance(response, _Response) else None
        peer = None if self._outgoing is None else self._outgoing.peer(shaken)
        if peer is None:
            raise WireError("an answer came without TLS")
        return peer.node

    def _check_speaker(
        self, response: aiohttp.ClientResponse, asked: Packet, answer: Packet
    ) -> None:
        """Nobody answers for another, but whoever was asked to probe a member.

        Raises:
            PeerError: the answer's sender is not the node whose certificate was shown.
        """
        if not self.authenticates:
            return
        node = self._node_of(response)
        is_relayed = isinstance(asked.body, Probe) and answer.sender == asked.body.target
        if answer.sender != node and not is_relayed:
            raise WireError(f"answer is of {answer.sender}, the certificate of {node}")


class _Response(aiohttp.ClientResponse):
    """An answer that knows which handshake its connection began with."""

    shaken: ssl.SSLObject | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Begin to read; a small answer gives its connection back before anybody can look at it."""
        if connection.transport is not None:
            self.shaken = connection.transport.get_extra_info("ssl_object")
        return await super().start(connection)


class _Answering:
    """The two pages of the protocol, for one service."""

    def __init__(
        self, service: Service, transport: HttpTransport, connections: Connections
    ) -> None:
        self._service = service
        self._transport = transport
        self._connections = connections
        self._pulls = 0

    async def status(self, request: web.Request) -> web.StreamResponse:
        """What people and tools may know, as JSON."""
        await self._connections.turn(request)
        if not self._transport.authenticates:
            why = refusal(request.headers, (socket.gethostname().lower(),))
            if why is not None:
                return web.Response(status=HTTPStatus.FORBIDDEN, text=f"{why}\n")
        try:
            async with asyncio.timeout(GRACE_S):
                await request.writer.drain()
        except TimeoutError:
            fault = WireError("asks again, and reads no answer")
            return self._refused(request, web.StreamResponse(), fault, HTTPStatus.REQUEST_TIMEOUT)
        return web.json_response(self._service.status())

    async def message(self, request: web.Request) -> web.StreamResponse:
        """One packet there, one packet back."""
        node = await self._connections.turn(request)
        if is_of_a_page(request.headers):
            return web.Response(status=HTTPStatus.FORBIDDEN, text="pages may not speak to nodes\n")
        if request.match_info["kind"] == "pull":
            if self._pulls >= _PULLS_AT_ONCE:
                return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="others pull\n")
            self._pulls += 1
        try:
            return await self._answered(request, node)
        finally:
            self._pulls -= request.match_info["kind"] == "pull"

    async def _answered(self, request: web.Request, node: str) -> web.StreamResponse:
        response = web.StreamResponse()
        status, is_malformed = HTTPStatus.BAD_REQUEST, False
        try:
            return await self._exchange(request, response, node)
        except WireError as error:
            fault, is_malformed = error, True
        except TimeoutError:
            fault, status = WireError("slower than the bound on a body"), HTTPStatus.REQUEST_TIMEOUT
        except (ConnectionError, aiohttp.ClientError) as broken:
            fault = WireError(f"broke off: {type(broken).__name__}")
        finally:
            _read_on(request)
        return self._refused(request, response, fault, status, node if is_malformed else "")

    def _refused(
        self,
        request: web.Request,
        response: web.StreamResponse,
        fault: WireError,
        status: HTTPStatus,
        node: str = "",
    ) -> web.StreamResponse:
        """Count a fault, of `node` where that is sure, say which, and close the connection."""
        self._service.faulty(join(_remote(request), 0), fault, node)
        if response.prepared or request.protocol.writing_paused:
            # too late for words: the asker finds out by RESOLVE
            abort(request.protocol)
            return response
        refusal = web.Response(status=status, text=f"{fault}\n")
        refusal.force_close()
        return refusal

    async def _exchange(
        self, request: web.Request, response: web.StreamResponse, node: str
    ) -> web.StreamResponse:
        limits, traffic = self._transport.limits, self._transport.traffic
        remote = _remote(request)
        length = request.content_length
        async with asyncio.timeout(GRACE_S) as timeout:
            patience = Patience(timeout, limits)
            # small answers are written without waiting; whoever reads none gets no more of them
            await request.writer.drain()
            head = await read_head(request.content, length, limits, traffic)
            if wire.name_of(head.packet.body) != request.match_info["kind"]:
                raise WireError(f"{wire.name_of(head.packet.body)} at {request.path}")
            packet = replace(head.packet, address=_seen_from_here(head.packet.address, remote))
            if self._transport.authenticates and packet.sender != node:
                return self._unmasked(packet, node, remote)
            refused = self._service.admit(packet)
            if refused is not None:
                return await self._send(request, response, Body(refused, traffic))
            with self._service.room(head.payload_bytes, packet.sender) as buffer:
                # only now is its length more than a claim
                arriving = Incoming(request.content, head, buffer, traffic, patience)
                packet = replace(head.with_payload(buffer), address=packet.address)
                if head.payload_bytes <= SMALL_BYTES or self._service.needs_whole:
                    await arriving.all()
                reply = self._service.handle(packet)
                if isinstance(reply, Forward):
                    onward = await self._forward(reply, packet.sender)
                    return await self._send(request, response, Body(onward, traffic))
                if not reply.streams:
                    await arriving.all()
            is_sealed = self._transport.authenticates
            body = Body(reply.packet, traffic, patience, is_sealed=is_sealed)
            work = reply.work
            next(work, None)
            try:
                while arrived := await arriving.piece():
                    next(work, None)
                    if arrived == head.payload_bytes:
                        _read_no_more(request)
                    if body.size > SMALL_BYTES:
                        await self._open(request, response, body)
                        await body.write_until(response, arrived)
                for _ in work:
                    patience.awaits(0)
                    await asyncio.sleep(0)
            finally:
                _finish(work)
            return await self._send(request, response, body)

    def _unmasked(self, packet: Packet, node: str, remote: str) -> web.Response:
        """Refuse, charge, and close the connection to, a member that speaks for another.

        Charged is whose certificate was shown, never who is spoken for.
        """
        detail = f"sender is {packet.sender}, the certificate of {node}"
        self._service.faulty(join(remote, 0), WireError(detail), node)
        assert self._transport.credentials is not None
        refusal = Packet(
            run=packet.run,
            layout=packet.layout,
            sender=self._transport.credentials.node,
            address=self._transport.address,
            incarnation=0,
            body=Refused(Reason.IDENTITY, detail),
            recipient=node,
        )
        response = web.Response(body=Body(refusal, self._transport.traffic).whole())
        response.force_close()
        return response

    async def _open(self, request: web.Request, response: web.StreamResponse, body: Body) -> None:
        if not response.prepared:
            response.content_length = body.size
            await response.prepare(request)

    async def _send(
        self, request: web.Request, response: web.StreamResponse, body: Body
    ) -> web.StreamResponse:
        if body.size <= SMALL_BYTES:
            return web.Response(body=body.whole())
        _read_no_more(request)
        await self._open(request, response, body)
        await body.write(response)
        await response.write_eof()
        return response

    async def _forward(self, wish: Forward, asker: str) -> Packet:
        """The member's own word that it lives, as it came; or ours, that it did not answer.

        Nothing else goes back: with what others say at an address, or this device's system says
        of it, whoever asks could look around in our network.
        """
        try:
            async with asyncio.timeout(_FORWARD_S):
                answer = await self._transport.request(wish.address, wish.packet, _no_room)
        except (PeerError, TimeoutError) as error:
            log.debug("%s, asked for %s: %s", wish.address, asker, error)
            return not_reached(wish.packet, asker)
        lives = isinstance(answer.body, Ack) and answer.sender == wish.packet.recipient
        return answer if lives else not_reached(wish.packet, asker)


def _finish(work: Iterator[None]) -> None:
    """End work where it stands: what was not reached did not flow (see `ports.Answered`)."""
    if isinstance(work, Generator):
        work.close()


def _remote(request: web.Request) -> str:
    return plain_host(request.remote or "")


def _read_no_more(request: web.Request) -> None:
    """Nobody asks again before the answer is read: what is sent all the same waits outside."""
    transport = request.transport
    if transport is not None and transport.is_reading():
        transport.pause_reading()
        request[_PAUSED] = True


def _read_on(request: web.Request) -> None:
    """Only where we stopped: aiohttp may have reasons of its own not to read."""
    if request.get(_PAUSED) and request.transport is not None:
        request.transport.resume_reading()


def _no_room(nbytes: int) -> Bytes:
    """A probe's answer has no payload; whoever claims one might claim any size."""
    raise WireError(f"answer to a probe has {nbytes} bytes of weights, expected none")


def _new(nbytes: int) -> Bytes:
    return np.empty(nbytes, np.uint8)


def _seen_from_here(declared: str, remote: str) -> str:
    """Where to reach a peer: what it declares, or where it came from if it declares anywhere."""
    host, _, port = declared.rpartition(":")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise WireError(f"address is '{declared}', expected host:port")
    try:
        if not ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_unspecified:
            return declared
    except ValueError:
        raise WireError(f"address is '{declared}', expected an IP address and port") from None
    return join(remote, int(port))
