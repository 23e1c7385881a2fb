"""The LAN transport: HTTP/1.1 over kept-alive connections, PROTOCOL section 8.

    POST /v1/exchange | resolve | probe | pull    one packet there, one packet back
    GET  /v1/status                               JSON for people and tools

A header is small and read whole; a payload is received straight into a buffer that the node
provides, and sent from views of one, in pieces; no model-sized body is ever built.

Rules of the file: every length is checked before a byte behind it is read; bytes that are not a
message are answered with 400, counted against their sender, and disturb nobody else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus

import aiohttp
import numpy as np
from aiohttp import hdrs, web
from yarl import URL

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import Bytes
from p2pfl.core.messages import Packet, not_reached
from p2pfl.edge.bodies import SMALL_BYTES, Body, Incoming, read_head
from p2pfl.edge.connections import Connections, abort, plain_host
from p2pfl.edge.static import join, parse
from p2pfl.errors import (
    ConfigError,
    NetworkError,
    PeerError,
    PeerTimeout,
    PeerUnreachable,
    WireError,
)
from p2pfl.ports import Forward, Service, Traffic

log = logging.getLogger(__name__)

_BUFFER_BYTES = 1 << 20
_GRACE_S = 5.0
_CONNECT_S = 1.0
_FORWARD_S = 0.5
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (a node is meant to be reached; --bind narrows it)


class HttpTransport:
    """Serves one node and carries its requests.

    Args:
        bind: address to listen on; "" means every address, IPv4 and IPv6.
        port: 0 takes any free one.
        limits: what strangers may cost us.
        advertised: `host:port` at which others reach it, where that is another address.
    """

    def __init__(
        self, bind: str, port: int, limits: LimitsConfig, advertised: str | None = None
    ) -> None:
        self.traffic = Traffic()
        self.limits = limits
        self._advertised = advertised
        self._socket = _listen(bind, port)
        self._session: aiohttp.ClientSession | None = None

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

    def close(self) -> None:
        """Give the port back; closing twice does nothing."""
        self._socket.close()

    @asynccontextmanager
    async def serve(self, service: Service) -> AsyncIterator[None]:
        """Answer requests with `service` while the context is open."""
        app = web.Application(client_max_size=0)
        connections = Connections(service, self.limits)
        answering = _Answering(service, self, connections)
        app.router.add_post("/v1/{kind:exchange|resolve|probe|pull}", answering.message)
        app.router.add_get("/v1/status", answering.status)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=connections.log(),
            auto_decompress=False,
            keepalive_timeout=75.0,
            lingering_time=2.0,
            read_bufsize=_BUFFER_BYTES,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=8, keepalive_timeout=30.0)
        try:
            await web.SockSite(runner, self._socket).start()
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                    auto_decompress=False,
                    read_bufsize=_BUFFER_BYTES,
                ) as self._session,
                asyncio.TaskGroup() as tasks,
            ):
                guard = tasks.create_task(connections.watch(runner), name="connections")
                try:
                    yield
                finally:
                    guard.cancel()
        finally:
            self._session = None
            await runner.cleanup()

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
        body = Body(packet)
        headers = {hdrs.CONTENT_TYPE: "application/msgpack", hdrs.CONTENT_LENGTH: str(body.size)}
        url = _url(address, wire.name_of(packet.body))
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                self.traffic.bytes_out += body.size
                if response.status != HTTPStatus.OK:
                    text = (await response.content.read(256)).decode(errors="replace").strip()
                    raise WireError(f"{address} answered {response.status}: {text}")
                content, length = response.content, response.content_length
                head = await read_head(content, length, self.limits)
                buffer = (room or _new)(head.payload_bytes) if head.payload_bytes else _new(0)
                answer, arriving = head.with_payload(buffer), Incoming(content, head, buffer)
                work = begin(answer) if begin is not None else iter(())
                next(work, None)
                try:
                    while await arriving.piece():
                        next(work, None)
                finally:
                    _finish(work)
                self.traffic.bytes_in += length or 0
                return answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PeerUnreachable(f"cannot connect to {address}: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PeerTimeout(f"{address} broke off: {error or type(error).__name__}") from None


class _Answering:
    """The two pages of the protocol, for one service."""

    def __init__(
        self, service: Service, transport: HttpTransport, connections: Connections
    ) -> None:
        self._service = service
        self._transport = transport
        self._connections = connections

    async def status(self, request: web.Request) -> web.Response:
        self._connections.note_asked(request)
        return web.json_response(self._service.status())

    async def message(self, request: web.Request) -> web.StreamResponse:
        """One packet there, one packet back."""
        self._connections.note_asked(request)
        remote = plain_host(request.remote or "")
        response = web.StreamResponse()
        status = HTTPStatus.BAD_REQUEST
        try:
            return await self._exchange(request, response, remote)
        except WireError as error:
            fault = error
        except TimeoutError:
            fault, status = WireError("slower than the bound on a body"), HTTPStatus.REQUEST_TIMEOUT
        except (ConnectionError, aiohttp.ClientError) as broken:
            fault = WireError(f"broke off: {type(broken).__name__}")
        self._service.faulty(join(remote, 0), fault)
        if response.prepared:
            # too late for words: the asker finds out by RESOLVE
            abort(request.protocol)
            return response
        refusal = web.Response(status=status, text=f"{fault}\n")
        refusal.force_close()
        return refusal

    async def _exchange(
        self, request: web.Request, response: web.StreamResponse, remote: str
    ) -> web.StreamResponse:
        limits, traffic = self._transport.limits, self._transport.traffic
        length = request.content_length
        async with asyncio.timeout(_GRACE_S) as patience:
            head = await read_head(request.content, length, limits)
            if wire.name_of(head.packet.body) != request.match_info["kind"]:
                raise WireError(f"{wire.name_of(head.packet.body)} at {request.path}")
            packet = replace(head.packet, address=_seen_from_here(head.packet.address, remote))
            refused = self._service.admit(packet)
            if refused is not None:
                return await self._send(request, response, Body(refused))
            # only now is its length more than a claim; the answer may take as long again
            _prolong(patience, 2 * head.payload_bytes, limits)
            with self._service.room(head.payload_bytes) as buffer:
                arriving = Incoming(request.content, head, buffer)
                packet = replace(head.with_payload(buffer), address=packet.address)
                if head.payload_bytes <= SMALL_BYTES:
                    await arriving.all()
                reply = self._service.handle(packet)
                if isinstance(reply, Forward):
                    onward = await self._forward(reply, packet.sender)
                    return await self._send(request, response, Body(onward))
                if not reply.streams:
                    await arriving.all()
            body = Body(reply.packet)
            work = reply.work
            next(work, None)
            try:
                while arrived := await arriving.piece():
                    next(work, None)
                    if body.size > SMALL_BYTES:
                        await self._open(request, response, body)
                        await body.write_until(response, arrived)
                for _ in work:
                    await asyncio.sleep(0)
            finally:
                _finish(work)
            traffic.bytes_in += length or 0
            _prolong(patience, body.size, limits)
            return await self._send(request, response, body)

    async def _open(self, request: web.Request, response: web.StreamResponse, body: Body) -> None:
        if not response.prepared:
            response.content_length = body.size
            await response.prepare(request)

    async def _send(
        self, request: web.Request, response: web.StreamResponse, body: Body
    ) -> web.StreamResponse:
        self._transport.traffic.bytes_out += body.size
        if body.size <= SMALL_BYTES:
            return web.Response(body=body.whole())
        await self._open(request, response, body)
        await body.write(response)
        await response.write_eof()
        return response

    async def _forward(self, wish: Forward, asker: str) -> Packet:
        """The answer of whoever is there, as it came; or ours, that nobody answers there."""
        try:
            async with asyncio.timeout(_FORWARD_S):
                return await self._transport.request(wish.address, wish.packet)
        except (PeerError, TimeoutError) as error:
            why = str(error) or f"no answer within {_FORWARD_S:g} s"
            return not_reached(wish.packet, asker, why)


def _finish(work: Iterator[None]) -> None:
    """End work where it stands: what was not reached did not flow (see `ports.Answered`)."""
    if isinstance(work, Generator):
        work.close()


def _prolong(patience: asyncio.Timeout, nbytes: int, limits: LimitsConfig) -> None:
    """From now on, so many bytes may take as long as the slowest line that we bear."""
    seconds = _GRACE_S + nbytes / limits.body_min_bytes_per_s
    patience.reschedule(asyncio.get_running_loop().time() + seconds)


def _url(address: str, kind: str) -> URL:
    """Where to ask; an address that peers told may be any text.

    Raises:
        PeerUnreachable: it is not host:port.
    """
    try:
        host, port = parse(address)
        return URL.build(scheme="http", host=host, port=port, path=f"/v1/{kind}")
    except (ConfigError, ValueError):
        raise PeerUnreachable(f"'{address[:80]}' is not host:port") from None


def _new(nbytes: int) -> Bytes:
    return np.empty(nbytes, np.uint8)


def _listen(bind: str, port: int) -> socket.socket:
    """One listening socket; for every address it is a dual-stack one where IPv6 exists."""
    host = bind or ("::" if socket.has_dualstack_ipv6() else _EVERYWHERE)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, dualstack_ipv6=not bind and family == socket.AF_INET6
        )
    except OSError as error:
        if port and error.errno in (98, 48):
            raise NetworkError(
                f"port {port} is in use; give another --port, or 0 for any free one"
            ) from None
        reason = str(error.strerror).partition(" (")[0]
        raise NetworkError(
            f"cannot listen on {join(host, port)}: {reason}; give another --bind or --port "
            "(without them: every address, any free port)"
        ) from None


def _seen_from_here(declared: str, remote: str) -> str:
    """Where to reach a peer: what it declares, or where it came from if it declares anywhere."""
    host, _, port = declared.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise WireError(f"address is '{declared}', expected host:port")
    try:
        if not ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_unspecified:
            return declared
    except ValueError:
        raise WireError(f"address is '{declared}', expected an IP address and port") from None
    return join(remote, int(port))
