"""Peers that are known by address, and many sources of peers as one stream.

Networks without multicast between them still make one run: one `--peer HOST:PORT` is enough, the
rest of the members is learned from that peer.

Rule of the file: an address is checked where the user wrote it, never later; and no source of
peers can take another one down with it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Discovery, Sighting

log = logging.getLogger(__name__)

PORT_MAX = 65_535
BACKLOG = 64
"""Sightings that may wait for a busy node; beyond it the sources wait too."""

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_-]{1,63})*\.?"
)
_ZONE_MAX = 32
"""Characters of an IPv6 zone: names of interfaces are shorter."""


def parse(text: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPv6]:PORT`; brackets are not part of the host.

    Raises:
        ConfigError: naming the address, what is wrong with it, and how it should look.
    """
    bare = text.strip()
    host, colon, digits = bare.rpartition(":")
    if bare.startswith("[") and "]" in bare:
        host, _, digits = bare[1:].partition("]")
        colon, digits = digits[:1], digits[1:]
        if not _is_address(host, IPv6Address) or len(host.partition("%")[2]) > _ZONE_MAX:
            raise ConfigError(f"peer '{text}': '{host}' is not an IPv6 address")
    elif _is_address(bare, IPv6Address) or ":" in host:
        raise ConfigError(f"peer '{text}': write an IPv6 address in brackets, as in [fd00::5]:4000")
    elif colon and not _is_host(host):
        raise ConfigError(f"peer '{text}': '{host}' is not a host name or address")
    if colon != ":":
        raise ConfigError(f"peer '{text}': no port, expected HOST:PORT as in 192.168.1.5:4000")
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits[:6]) <= PORT_MAX):
        raise ConfigError(f"peer '{text}': port is '{digits}', expected 1 to {PORT_MAX}")
    return host, int(digits)


def join(host: str, port: int) -> str:
    """The address of `parse`, as text: an IPv6 host gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class StaticPeers:
    """A `Discovery` of peers the user named: each is sighted once, then nothing ever happens."""

    def __init__(self, addresses: Iterable[str]) -> None:
        """Check the addresses.

        Raises:
            ConfigError: naming the first bad one.
        """
        # A dict, so that a peer named twice is one peer and the user's order stays.
        self._addresses = tuple(dict.fromkeys(join(*parse(address)) for address in addresses))

    async def events(self) -> AsyncGenerator[Sighting, None]:
        """One sighting for each address."""
        for address in self._addresses:
            yield Sighting((address,))
        await asyncio.Event().wait()


def merge(*sources: Discovery) -> Discovery:
    """Many sources of peers as one; a source that fails is logged and the others go on."""
    return _Merged(sources)


@dataclass(frozen=True, slots=True)
class _Merged:
    sources: tuple[Discovery, ...]

    async def events(self) -> AsyncGenerator[Sighting, None]:
        """Sightings of all sources, each source's in its own order, for ever."""
        news: asyncio.Queue[Sighting] = asyncio.Queue(BACKLOG)
        async with asyncio.TaskGroup() as group:
            pumps = [
                group.create_task(_pump(source, news), name=f"discovery-{number}")
                for number, source in enumerate(self.sources)
            ]
            try:
                while True:
                    yield await news.get()
            except GeneratorExit:
                # Closed by whoever iterated. Let through, it would leave the task group as an
                # exception group, which closing a generator does not expect.
                return
            finally:
                for pump in pumps:
                    pump.cancel()


async def _pump(source: Discovery, news: asyncio.Queue[Sighting]) -> None:
    """Pass a source's sightings on; closes the source, so that it can say its goodbye."""
    async with aclosing(source.events()) as events:
        try:
            async for sighting in events:
                await news.put(sighting)
        except NetworkError as error:
            log.warning("a source of peers failed, the others go on: %s", error)


def _is_host(text: str) -> bool:
    """A host name or an IPv4 address: names whose last label is a number do not exist."""
    if text.rpartition(".")[2].isdigit():
        return _is_address(text, IPv4Address)
    return _HOST.fullmatch(text) is not None


def _is_address(text: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True
