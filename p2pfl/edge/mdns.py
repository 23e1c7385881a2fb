"""Finds the other nodes of a LAN, and lets them find this one: multicast DNS and DNS-SD.

A node is one instance of `_p2pfl._tcp.local.`; its TXT record says protocol version, node id, run,
layout digest and name. Nodes of another run or layout are sighted too: the node lists them with
the reason and never mixes with them (PROTOCOL section 6). Of a run with a key only the key's tag is
announced; whoever announces ours is sighted without a run's name, and asked for it. RFC 6762 and
RFC 6763; sockets and packets are zeroconf's.

Rules of the file: what strangers announce is checked before it becomes a `Sighting`; discovery
never says that somebody is alive; and no state of the network ends it, it waits for a better one.

Two choices make the first meeting fast. Registration does not probe for its name, which would
take a second: the name holds the node's id, so it is unique. And questions ask for a multicast
answer: on a device with several nodes, a unicast answer to port 5353 reaches any one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from p2pfl.edge.announcement import SERVICE, Announcement, is_keyed, sighting
from p2pfl.edge.interfaces import (
    Interface,
    announced,
    best_first,
    multicast_addresses,
    survey,
    usable,
)
from p2pfl.edge.static import join
from p2pfl.errors import NetworkError
from p2pfl.ports import Sighting

log = logging.getLogger(__name__)

POLL_S = 2.0
ASK_EVERY_S = 60.0
"""A switch that was cut and is back tells nobody, so everybody asks again now and then; answers
that are known already are not repeated."""
ASKING_S = 0.25
"""Within it a browser asks once: after 20-120 ms, and then only after a second."""
REQUEST_MS = 500
REQUESTS_PER_POLL = 4
UNRESOLVED_MAX = 64
ADDRESSES_MAX = 8


class Mdns:
    """A `Discovery` by multicast DNS.

    Attributes:
        ignored: records of this service that were not understood, or came beyond the limit.
    """

    def __init__(
        self,
        announcement: Announcement | None,
        address: Callable[[], str] = str,
        *,
        interfaces: Sequence[str] = (),
        poll_s: float = POLL_S,
        known: int = 1024,
    ) -> None:
        """Nothing is sent before `events` is iterated, by one reader at a time.

        Args:
            announcement: what to announce; None only listens.
            address: where this node serves, asked for whenever it is announced. `0.0.0.0` announces
                the IPv4 addresses of the used interfaces, `::` those of both families, a specific
                host only itself.
            interfaces: what `--interface` says: names or addresses; empty uses the default choice.
            poll_s: pause between two looks at the interfaces.
            known: peers remembered; a flood of made-up names stops here.
        """
        self._announcement = announcement
        self._address = address
        self._wanted = tuple(interfaces)
        self._poll_s = poll_s
        self._known = known
        self._used: tuple[Interface, ...] = ()
        self._seen: dict[str, Sighting] = {}
        self._unresolved: dict[str, None] = {}
        # The latest of each peer, so that a slow reader costs no memory.
        self._news: dict[str, Sighting] = {}
        self._arrived = asyncio.Event()
        self.ignored = 0

    async def events(self) -> AsyncGenerator[Sighting, None]:
        """Sightings as they happen, for ever; goodbye is said before closing it returns."""
        self._seen.clear()
        self._news.clear()
        async with asyncio.TaskGroup() as group:
            attending = group.create_task(self._attend(), name="mdns")
            try:
                while True:
                    await self._arrived.wait()
                    self._arrived.clear()
                    while self._news:
                        yield self._news.pop(next(iter(self._news)))
            except GeneratorExit:
                # Closed by whoever iterated. Let through, it would leave the task group as an
                # exception group, which closing a generator does not expect.
                return
            finally:
                attending.cancel()

    # --- the network, as it comes and goes -------------------------------------------------------

    async def _attend(self) -> None:
        """Be present on the usable interfaces, whichever these are at the time."""
        complaint = ""
        while True:
            try:
                self._used = _audible(usable(survey(self._wanted)))
                async with self._presence() as responder:
                    complaint = ""
                    await self._until_moved(responder)
            except (NetworkError, OSError, ZeroconfError) as error:
                if str(error) != complaint:
                    log.warning("mDNS waits, peers are not found meanwhile: %s", error)
                complaint = str(error)
                await asyncio.sleep(self._poll_s)

    @asynccontextmanager
    async def _presence(self) -> AsyncIterator[AsyncZeroconf]:
        """Ask, listen and announce on `_used`; say goodbye at the end.

        Raises:
            OSError, zeroconf.Error: the sockets cannot be used; nothing was announced.
        """
        voices = [voice for interface in self._used for voice in multicast_addresses(interface)]
        try:
            responder = AsyncZeroconf(interfaces=voices)
        except RuntimeError as error:
            # Its word for an address that vanished since it was listed.
            raise OSError(str(error)) from error
        try:
            async with self._asking(responder):
                await responder.zeroconf.async_wait_for_start()
                if not responder.zeroconf.engine.senders:
                    raise OSError(f"multicast is refused on {', '.join(voices)}")
                service = self._service()
                if service is not None:
                    sent = await responder.async_register_service(
                        service, cooperating_responders=True
                    )
                    await sent
                yield responder
        finally:
            await responder.async_close()

    def _asking(self, responder: AsyncZeroconf) -> AsyncServiceBrowser:
        """Ask for nodes now, and hear of them while it is open."""
        return AsyncServiceBrowser(
            responder.zeroconf,
            SERVICE,
            handlers=[self._changed],
            question_type=DNSQuestionType.QM,
        )

    async def _until_moved(self, responder: AsyncZeroconf) -> None:
        """Return once the interfaces or their addresses are others."""
        registry = responder.zeroconf.registry
        since_asked_s = 0.0
        while True:
            await asyncio.sleep(self._poll_s)
            await self._refresh(responder.zeroconf)
            since_asked_s += self._poll_s
            if since_asked_s >= ASK_EVERY_S:
                since_asked_s = 0.0
                async with self._asking(responder):
                    await asyncio.sleep(ASKING_S)
            try:
                now = _audible(usable(survey(self._wanted)))
            except NetworkError:
                now = ()
            if now != self._used:
                log.info("the addresses of this device changed, mDNS follows")
                # What moves is not gone: without its entry, closing says no goodbye.
                registry.async_remove(registry.async_get_service_infos())
                return

    def _service(self) -> AsyncServiceInfo | None:
        if self._announcement is None:
            return None
        host, port = _served(self._address())
        addresses = announced(self._used, host)
        if not addresses:
            used = ", ".join(str(interface) for interface in self._used)
            log.warning(
                "not announced: this node serves on %s, which is not on %s; "
                "use --bind 0.0.0.0, or --interface %s",
                *(host, used, host),
            )
            return None
        return self._announcement.service(addresses, port)

    # --- the peers, as they come and go ----------------------------------------------------------

    def _changed(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        """Zeroconf's callback, on the event loop; argument names are zeroconf's."""
        if state_change is ServiceStateChange.Removed:
            self._unresolved.pop(name, None)
            seen = self._seen.pop(name, None)
            if seen is not None:
                self._tell(name, replace(seen, gone=True))
            return
        try:
            info = AsyncServiceInfo(SERVICE, name)
        except ZeroconfError:
            self.ignored += 1
            return
        if info.load_from_cache(zeroconf):
            self._unresolved.pop(name, None)
            self._heard(info)
        elif name not in self._seen and len(self._unresolved) < UNRESOLVED_MAX:
            self._unresolved[name] = None

    def _heard(self, info: AsyncServiceInfo) -> None:
        addresses = best_first(info.parsed_scoped_addresses(), self._used)[:ADDRESSES_MAX]
        port = info.port or 0
        seen = sighting(info.text, [join(address, port) for address in addresses])
        is_new = info.name not in self._seen
        if not (seen and addresses and port) or (is_new and len(self._seen) >= self._known):
            self.ignored += 1
            return
        if self._announcement and seen.node == self._announcement.node:
            return
        if self._announcement and is_keyed(seen.run) and seen.run == self._announcement.run:
            seen = replace(seen, run=None)
        if self._seen.get(info.name) != seen:
            self._seen[info.name] = seen
            self._tell(info.name, seen)

    async def _refresh(self, responder: Zeroconf) -> None:
        """Look again at what is known, and ask for the records of those that lack some."""
        for name in tuple(self._seen):
            # An old address that expires from the cache raises no event.
            info = AsyncServiceInfo(SERVICE, name)
            if info.load_from_cache(responder):
                self._heard(info)
        for name in tuple(self._unresolved)[:REQUESTS_PER_POLL]:
            self._unresolved.pop(name)
            info = AsyncServiceInfo(SERVICE, name)
            if await info.async_request(responder, REQUEST_MS):
                self._heard(info)
            else:
                self.ignored += 1

    def _tell(self, name: str, seen: Sighting) -> None:
        self._news[name] = seen
        self._arrived.set()


async def browse(seconds: float, interfaces: Sequence[str] = ()) -> list[Sighting]:
    """Listen for some seconds and give the nodes that are there, of any run and layout.

    Raises:
        NetworkError: a wanted interface does not exist, or none is usable.
    """
    usable(survey(interfaces))
    found: dict[str | None, Sighting] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for seen in Mdns(None, interfaces=interfaces).events():
                found.pop(seen.node, None)
                if not seen.gone:
                    found[seen.node] = seen
    return list(found.values())


def _audible(used: Iterable[Interface]) -> tuple[Interface, ...]:
    """Those of the interfaces that can carry multicast.

    Raises:
        NetworkError: none can.
    """
    used = tuple(used)
    audible = tuple(interface for interface in used if multicast_addresses(interface))
    if not audible:
        names = ", ".join(str(interface) for interface in used)
        raise NetworkError(f"no multicast on {names}; choose an interface with another address")
    return audible


def _served(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]").partition("%")[0], int(port)
