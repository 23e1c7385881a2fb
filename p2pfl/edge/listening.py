"""The listening socket: who is let in, and in which words others are told and counted.

A connection is accepted, seated (see `connections`) and, where the run has a key, passes a TLS
handshake before HTTP sees a byte of it. A stranger without the run's key gets no further than that.

Rule of the file: whoever fails here costs one line in a table: no traceback, no log line, no wait
that others notice.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from aiohttp import web

from p2pfl.edge.connections import Connections, Seat, plain_host
from p2pfl.edge.credentials import PeerNode
from p2pfl.edge.static import join
from p2pfl.errors import NetworkError, PeerError, WireError

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
"""From the first packet to the last of a handshake; a slow radio needs one."""

_BACKLOG = 256
_LOOKED_AT, _SEATED = 64, 4
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.25
_GOODBYE_S = 1.0
_TLS_HANDSHAKE = b"\x16"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (a node is meant to be reached; --bind narrows it)
_KEYED = (
    "this node is in a run with a key: start yours with --key or --key-file, in a strict run with "
    "--cert"
)
_NOT_HTTPS = (
    f"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: {len(_KEYED) + 1}\r\n"
    f"Content-Type: text/plain\r\n\r\n{_KEYED}\n"
).encode()

_OF_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
# of X509_verify_cert_error_string(3)
_NOT_YET_VALID, _EXPIRED = 9, 10


def listen(bind: str, port: int) -> socket.socket:
    """One listening socket; for every address it is a dual-stack one where IPv6 exists.

    Raises:
        NetworkError: the port is in use, or the address is not of this device.
    """
    host = bind or ("::" if socket.has_dualstack_ipv6() else _EVERYWHERE)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server(
            (host, port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=not bind and family == socket.AF_INET6,
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
    listening.setblocking(False)
    return listening


class Door:
    """Lets connections in to one server.

    Args:
        connections: seats them.
        serve: makes what serves one of them.
        context: of TLS; None in an open run.
        identify: who passed the handshake, by its certificate; raises PeerError.
    """

    def __init__(
        self,
        connections: Connections,
        serve: Callable[[], web.RequestHandler],
        context: ssl.SSLContext | None,
        identify: Callable[[ssl.SSLObject], PeerNode],
    ) -> None:
        self._connections = connections
        self._serve = serve
        self._context = context
        self._identify = identify

    async def keep(self, listening: socket.socket) -> None:
        """Accept until cancelled; what is still in a handshake then is closed."""
        async with asyncio.TaskGroup() as greetings:
            while True:
                await _readable(listening)
                # a crowd at the door must not keep those inside from being served, nor fill the
                # kernel's queue: to send somebody away is quick
                seated = 0
                for _ in range(_LOOKED_AT):
                    try:
                        accepted, address = listening.accept()
                    except OSError as error:
                        if error.errno in _EXHAUSTED:
                            log.warning("cannot accept connections for now: %s", error.strerror)
                            await asyncio.sleep(_PAUSE_S)
                        break
                    seat = self._seat(accepted, plain_host(address[0]))
                    if seat is not None:
                        greeting = greetings.create_task(self._greet(seat), name="greeting")
                        # also of a task that is cancelled before it begins
                        greeting.add_done_callback(partial(_close_unless_open, seat))
                        seated += 1
                        if seated == _SEATED:
                            break

    def _seat(self, accepted: socket.socket, host: str) -> Seat | None:
        accepted.setblocking(False)
        seat = self._connections.enter(accepted, host, self._serve())
        if seat is None:
            accepted.close()
        return seat

    async def _greet(self, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                if self._context is not None and not await _speaks_tls(seat.socket):
                    raise WireError("spoke no TLS to a node that has a key")
                seat.transport, _ = await loop.connect_accepted_socket(
                    lambda: seat.handler,
                    seat.socket,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_S if self._context is not None else None,
                    ssl_shutdown_timeout=_GOODBYE_S if self._context is not None else None,
                )
            shaken = seat.transport.get_extra_info("ssl_object")
            if shaken is not None:
                seat.peer = self._identify(shaken)
        except PeerError as error:
            fault = error
        except TimeoutError:
            fault = WireError(f"no handshake within {HANDSHAKE_S:g} s")
        except OSError as error:
            fault = WireError(refused_by_us(error))
        else:
            return
        self._connections.leave(seat, fault)
        if seat.transport is not None:
            seat.end()


async def _speaks_tls(accepted: socket.socket) -> bool:
    """Await its first byte; who speaks plain text is told in plain text what it should do."""
    await _readable(accepted)
    first = accepted.recv(1, socket.MSG_PEEK)
    if first and first != _TLS_HANDSHAKE:
        with suppress(OSError):
            # closed with bytes unread, a connection is reset and the words are lost
            accepted.recv(1 << 16)
            accepted.send(_NOT_HTTPS)
            accepted.shutdown(socket.SHUT_WR)
        return False
    return True


async def _readable(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    has_come = asyncio.Event()
    loop.add_reader(accepted, has_come.set)
    try:
        await has_come.wait()
    finally:
        loop.remove_reader(accepted)


def _close_unless_open(seat: Seat, _: asyncio.Task[None]) -> None:
    if seat.transport is None:
        seat.socket.close()


def refused_by_us(error: OSError) -> str:
    """What a connection did wrong in its handshake, as we count it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is {_why(error)}"
    if isinstance(error, ssl.SSLError):
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "showed no certificate of this run"
        return f"no TLS 1.3 handshake: {_reason(error)}"
    return "broke off its handshake"


def refused_by_them(error: Exception) -> str | None:
    """What a failed TLS connection to a peer means, in words for people; None if it was not TLS."""
    # what aiohttp raises is an SSLError too, but an empty one
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is {_why(cause)}"
    if isinstance(cause, ssl.SSLError):
        if cause.reason in _OF_PLAIN_HTTP:
            return "it is not in a run with a key (it speaks plain HTTP)"
        return f"no TLS 1.3 handshake: {_reason(cause)}"
    return None


def _why(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _NOT_YET_VALID:
        return "not yet valid: check the clocks of both devices"
    if error.verify_code == _EXPIRED:
        return "expired: check the clocks of both devices"
    return "of another run's key"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or type(error).__name__).replace("_", " ").lower()
