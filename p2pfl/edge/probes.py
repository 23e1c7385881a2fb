"""The doctor's instruments: sockets and requests that try one thing each.

Rule of the file: an instrument never raises, it tells what came of trying.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import aiohttp
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from p2pfl.edge.credentials import Credentials
from p2pfl.edge.listening import refused_by_them

Outcome: TypeAlias = Literal[
    "node", "stranger", "refused", "silent", "unreachable", "keyed", "foreign", "clock"
]
PROBE = "_p2pfl-probe._tcp.local."
ECHO_S = 2.0
STATUS_S = 2.0
STATUS_BYTES = 1 << 20
_DECLINED = b"in a run with a key"
"""Of the sentence, which is no JSON, with which a node that has a key declines plain HTTP."""
_OUT_OF_DATE = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED of X509_verify_cert_error_string(3)."""
MDNS_GROUP, MDNS_GROUP6 = "224.0.0.251", "ff02::fb"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking an address for its status.

    Attributes:
        outcome: a node, something that is no node, or no answer, and how; keyed: a node of a run
            whose key we have not; foreign: of another key's run, or of none; clock: its
            certificate is not valid now, by our clock.
        status: what a node says of itself; empty otherwise.
    """

    address: str
    outcome: Outcome
    status: Mapping[str, Any] = field(default_factory=dict)

    def says(self, key: str) -> str | None:
        """A field of the status, as text."""
        value = self.status.get(key)
        return value if isinstance(value, str) else str(value) if isinstance(value, int) else None


async def ask_all(addresses: Sequence[str], credentials: Credentials | None = None) -> list[Answer]:
    """Ask each address for its status, all at the same time.

    Args:
        addresses: `host:port`.
        credentials: of a run with a key.
    """
    async with session(credentials, STATUS_S) as asker, asyncio.TaskGroup() as group:
        asking = [
            group.create_task(_ask(asker, url(address, credentials), address))
            for address in dict.fromkeys(addresses)
        ]
    return [answer.result() for answer in asking]


def session(credentials: Credentials | None, seconds: float) -> aiohttp.ClientSession:
    """For asking nodes of an open run, or of the run that the credentials are of."""
    context = True if credentials is None else credentials.client_context()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=seconds),
    )


def url(address: str, credentials: Credentials | None) -> str:
    """Where a node tells its status."""
    return f"{'http' if credentials is None else 'https'}://{address}/v1/status"


async def bounded(response: aiohttp.ClientResponse) -> bytes:
    """What a stranger answers, read no farther than a status can be.

    Raises:
        ValueError: it is longer than that.
    """
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > STATUS_BYTES:
            raise ValueError(f"more than {STATUS_BYTES:,} bytes, expected a status")
    return bytes(body)


async def _ask(asker: aiohttp.ClientSession, where: str, address: str) -> Answer:
    """GET /v1/status; whatever it answers, or not, is a finding."""
    body = b""
    try:
        async with asker.get(where, allow_redirects=False) as response:
            body = await bounded(response)
        status = json.loads(body)
    except TimeoutError:
        return Answer(address, "silent")
    except aiohttp.ClientConnectorError as error:
        if refused_by_them(error) is not None:
            return Answer(address, _of_tls(error.__cause__))
        is_refusal = isinstance(error.os_error, ConnectionRefusedError)
        return Answer(address, "refused" if is_refusal else "unreachable")
    except (aiohttp.ClientError, OSError, ValueError, RecursionError):
        return Answer(address, "keyed" if _DECLINED in body else "stranger")
    is_node = isinstance(status, dict) and isinstance(status.get("node"), str)
    return Answer(address, "node", status) if is_node else Answer(address, "stranger")


def _of_tls(cause: BaseException | None) -> Outcome:
    is_dated = isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _OUT_OF_DATE
    return "clock" if is_dated else "foreign"


async def is_heard(voice: str) -> bool:
    """Announce a service of its own type from this address, and listen with other sockets."""
    heard = asyncio.Event()
    name = f"{secrets.token_hex(8)}.{PROBE}"
    service = AsyncServiceInfo(PROBE, name, port=9, server=name, parsed_addresses=[voice])

    def changed(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if name == service.name and state_change is ServiceStateChange.Added:
            heard.set()

    try:
        async with (
            AsyncZeroconf(interfaces=[voice]) as listener,
            AsyncZeroconf(interfaces=[voice]) as speaker,
            AsyncServiceBrowser(
                listener.zeroconf, PROBE, handlers=[changed], question_type=DNSQuestionType.QM
            ),
            asyncio.timeout(ECHO_S),
        ):
            await listener.zeroconf.async_wait_for_start()
            await speaker.async_register_service(service, cooperating_responders=True)
            await heard.wait()
    except (OSError, TimeoutError, ZeroconfError):
        return False
    return True


def join_problem(voice: str, index: int) -> OSError | None:
    """Try to join the mDNS group on one interface."""
    try:
        if ":" in voice:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                group = socket.inet_pton(socket.AF_INET6, MDNS_GROUP6) + struct.pack("@I", index)
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                group = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(voice)
                probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError as error:
        return error
    return None


def can_bind_port(port: int, *, shared: bool) -> bool:
    """Whether a UDP port is free, or can be shared."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if shared:
            for option in (socket.SO_REUSEADDR, getattr(socket, "SO_REUSEPORT", None)):
                if option is not None:
                    probe.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
