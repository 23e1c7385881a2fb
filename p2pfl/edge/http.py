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
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import aiohttp
import numpy as np
from aiohttp import hdrs, payload, web

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import CODECS, Bytes
from p2pfl.core.messages import Packet, Reason, Refused, payload_of
from p2pfl.core.weights import pieces
from p2pfl.errors import NetworkError, PeerError, PeerTimeout, PeerUnreachable, WireError
from p2pfl.ports import Forward, Service, Traffic

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20
_SMALL_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20
_GRACE_S = 5.0
_CONNECT_S = 1.0
_FORWARD_S = 0.5
_GUARD_S = 1.0
_DETAIL_CHARS = 200
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (a node is meant to be reached; --bind narrows it)


class HttpTransport:
    """Serves one node and carries its requests.

    Args:
        bind: address to listen on; "" means every address, IPv4 and IPv6.
        port: 0 takes any free one.
        limits: what strangers may cost us.
    """

    def __init__(self, bind: str, port: int, limits: LimitsConfig) -> None:
        self.traffic = Traffic()
        self._limits = limits
        self._socket = _listen(bind, port)
        self._session: aiohttp.ClientSession | None = None
        self._asked: set[web.RequestHandler] = set()

    @property
    def address(self) -> str:
        """Where this node serves; the host is unspecified if it listens everywhere."""
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
        answering = _Answering(service, self)
        app.router.add_post("/v1/{kind:exchange|resolve|probe|pull}", answering.message)
        app.router.add_get("/v1/status", answering.status)
        runner = web.AppRunner(
            app,
            access_log=None,
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
                guard = tasks.create_task(self._guard(runner), name="connection guard")
                try:
                    yield
                finally:
                    guard.cancel()
        finally:
            self._session = None
            await runner.cleanup()

    async def request(
        self, address: str, packet: Packet, room: Callable[[int], Bytes] | None = None
    ) -> Packet:
        """Send a packet and await the answer; see `ports.Transport`."""
        if self._session is None:
            raise PeerUnreachable("this node is not serving any more")
        body = _Body(packet)
        headers = {hdrs.CONTENT_TYPE: "application/msgpack", hdrs.CONTENT_LENGTH: str(body.size)}
        url = f"http://{address}/v1/{wire.name_of(packet.body)}"
        try:
            async with self._session.post(url, data=body, headers=headers) as response:
                self.traffic.bytes_out += body.size
                if response.status != HTTPStatus.OK:
                    text = (await response.content.read(256)).decode(errors="replace").strip()
                    raise WireError(f"{address} answered {response.status}: {text}")
                head, size = await _read_head(
                    response.content, response.content_length, self._limits
                )
                buffer = (room or _new)(head.payload_bytes) if head.payload_bytes else _new(0)
                await _fill(response.content, buffer, head)
                self.traffic.bytes_in += size
                return head.with_payload(buffer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PeerUnreachable(f"cannot connect to {address}: {error}") from None
        except aiohttp.InvalidURL:
            raise PeerUnreachable(f"'{address}' is not host:port") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PeerTimeout(f"{address} broke off: {error or type(error).__name__}") from None

    async def _guard(self, runner: web.AppRunner) -> None:
        """Close connections that ask nothing, and the newest beyond the limit."""
        seen: dict[web.RequestHandler, float] = {}
        while True:
            await asyncio.sleep(_GUARD_S)
            server = runner.server
            if server is None:
                return
            now = time.monotonic()
            open_now = list(server.connections)
            seen = {handler: seen.get(handler, now) for handler in open_now}
            self._asked.intersection_update(open_now)
            patience = self._limits.first_byte_s
            for index, handler in enumerate(open_now):
                silent = handler not in self._asked and now - seen[handler] > patience
                if silent or index >= self._limits.connections:
                    handler.force_close()
                    if handler.transport is not None:
                        handler.transport.close()

    def note_asked(self, request: web.Request) -> None:
        """This connection has sent a complete request head."""
        self._asked.add(request.protocol)


class _Answering:
    """The two pages of the protocol, for one service."""

    def __init__(self, service: Service, transport: HttpTransport) -> None:
        self._service = service
        self._transport = transport

    async def status(self, request: web.Request) -> web.Response:
        self._transport.note_asked(request)
        return web.json_response(self._service.status())

    async def message(self, request: web.Request) -> web.StreamResponse:
        """One packet there, one packet back."""
        self._transport.note_asked(request)
        remote = _plain_host(request.remote or "")
        try:
            return await self._exchange(request, remote)
        except WireError as error:
            self._service.faulty(remote, error)
            return web.Response(status=400, text=f"{error}\n")
        except TimeoutError:
            drip = WireError("slower than the bound on a body")
            self._service.faulty(remote, drip)
            request.protocol.force_close()
            return web.Response(status=408, text=f"{drip}\n")
        except (ConnectionError, aiohttp.ClientError) as broken:
            self._service.faulty(remote, WireError(f"broke off: {type(broken).__name__}"))
            raise

    async def _exchange(self, request: web.Request, remote: str) -> web.StreamResponse:
        limits, traffic = self._transport._limits, self._transport.traffic
        length = request.content_length
        started = time.monotonic()
        patience = _GRACE_S + (length or 0) / limits.body_min_bytes_per_s
        async with asyncio.timeout(patience):
            head, size = await _read_head(request.content, length, limits)
            if wire.name_of(head.packet.body) != request.match_info["kind"]:
                raise WireError(f"{wire.name_of(head.packet.body)} at {request.path}")
            packet = replace(head.packet, address=_seen_from_here(head.packet.address, remote))
            refused = self._service.admit(packet)
            if refused is not None:
                return await self._send(request, refused)
            with self._service.room(head.payload_bytes) as buffer:
                await _fill(request.content, buffer, head)
                traffic.bytes_in += size
                packet = replace(head.with_payload(buffer), address=packet.address)
                reply = self._service.handle(packet, time.monotonic() - started)
        if isinstance(reply, Forward):
            return await self._send(request, await self._forward(reply, packet.sender))
        try:
            for _ in reply.work:
                await asyncio.sleep(0)
        finally:
            for _ in reply.work:
                pass
        return await self._send(request, reply.packet)

    async def _forward(self, wish: Forward, asker: str) -> Packet:
        """The answer of whoever is there, as it came; or ours, that nobody answers there."""
        try:
            async with asyncio.timeout(_FORWARD_S):
                return await self._transport.request(wish.address, wish.packet)
        except (PeerError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_FORWARD_S:g} s"
            refused = Refused(Reason.UNREACHABLE, reason[:_DETAIL_CHARS])
            return replace(wish.packet, recipient=asker, floor=0, rumours=(), body=refused)

    async def _send(self, request: web.Request, packet: Packet) -> web.StreamResponse:
        body = _Body(packet)
        self._transport.traffic.bytes_out += body.size
        if body.size <= _SMALL_BYTES:
            return web.Response(body=b"".join(body.parts()))
        response = web.StreamResponse()
        response.content_length = body.size
        await response.prepare(request)
        for part in body.parts():
            await response.write(part)
        await response.write_eof()
        return response


class _Body(payload.Payload):
    """A packet as a request body: its header, then views of its payload."""

    def __init__(self, packet: Packet) -> None:
        self._header = wire.header(packet)
        encoded = payload_of(packet.body)
        self._data = encoded.data.data if encoded is not None else memoryview(b"")
        super().__init__(packet)
        self._size = len(self._header) + self._data.nbytes

    @property
    def size(self) -> int:
        return self._size or 0

    def parts(self) -> list[bytes | memoryview]:
        """The body in pieces that a socket takes without copying the whole."""
        if self.size <= _SMALL_BYTES:
            return [self._header + bytes(self._data)]
        starts = range(0, self._data.nbytes, _PIECE_BYTES)
        return [self._header, *(self._data[at : at + _PIECE_BYTES] for at in starts)]

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a packet has no text")

    async def write(self, writer: Any) -> None:
        for part in self.parts():
            await writer.write(part)


async def _read_head(
    content: aiohttp.StreamReader, length: int | None, limits: LimitsConfig
) -> tuple[wire.Head, int]:
    if length is None:
        raise WireError("body has no length, expected Content-Length")
    try:
        prefix = await content.readexactly(wire.LENGTH.size)
        header_bytes = wire.header_length(prefix, limits.header_bytes)
        head = wire.decode_header(await content.readexactly(header_bytes))
    except asyncio.IncompleteReadError as error:
        raise WireError(f"message ended after {len(error.partial)} bytes of a header") from None
    expected = wire.LENGTH.size + header_bytes + head.payload_bytes
    if length != expected:
        raise WireError(f"body has {length} bytes, expected {expected}")
    return head, length


async def _fill(content: aiohttp.StreamReader, buffer: Bytes, head: wire.Head) -> None:
    """Receive the payload into `buffer` and check each piece while it is hot in the cache."""
    awaited = payload_of(head.packet.body)
    if awaited is None or not buffer.size:
        return
    view, filled, checked = buffer.data, 0, 0
    ends = [CODECS[awaited.codec].nbytes(at.stop) for at in pieces(awaited.size)]
    for end in ends:
        while filled < end:
            chunk = await content.readany()
            if not chunk:
                raise WireError(f"payload ended after {filled} of {buffer.nbytes} bytes")
            if filled + len(chunk) > buffer.nbytes:
                raise WireError(f"payload is longer than {buffer.nbytes} bytes")
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        wire.check_finite(head, buffer[checked:end])
        checked = end


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
        raise NetworkError(f"cannot listen on {host} port {port}: {error.strerror}") from None


def _plain_host(host: str) -> str:
    """IPv4 seen through a dual-stack socket is written as IPv4."""
    return host.removeprefix("::ffff:")


def join(host: str, port: int) -> str:
    """`host:port`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
