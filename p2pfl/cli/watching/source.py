"""Where views come from: the nodes themselves, each in a loop of its own.

    given addresses      watched for ever; a node that is gone is asked again, and again
    what mDNS finds      likewise, until a node says goodbye

Rule of the file: watching takes no part and changes nothing, and no node delays another. Whatever
a node does or sends, it costs only the sight of it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import aiohttp

from p2pfl.cli.keys import KEY_FIX
from p2pfl.cli.lookup import unreachable
from p2pfl.cli.watching.reading import (
    Happening,
    Merge,
    View,
    clean,
    read_happening,
    read_merge,
    read_view,
)
from p2pfl.cli.watching.stream import EVENT_BYTES, Events
from p2pfl.edge.probes import session
from p2pfl.errors import NetworkError, WireError
from p2pfl.ports import Clock, Sighting

if TYPE_CHECKING:
    from p2pfl.edge.credentials import Credentials

CONNECT_S = 5.0
SILENT_S = 12.0
"""A view comes every second, of a large swarm every five; whoever is silent for two is gone."""
RETRY_S, RETRY_MAX_S = 1.0, 8.0
WATCHED_MAX = 32
"""Streams at once. Each tells of all nodes, so more would only say the same more often."""

_SAID_BYTES = 4096


class Tie(StrEnum):
    """How it stands between us and a node that we watch."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    LIVE = "live"
    GONE = "gone"
    LEFT = "left"
    FOREIGN = "of another run"


@dataclass(frozen=True, slots=True)
class Contact:
    """A change of how it stands.

    Attributes:
        place: what is watched: an address as it was given, or the id of a node that was found.
        address: where it is asked.
        at: Unix seconds by our clock.
        why: in words, if it is gone.
    """

    place: str
    address: str
    at: float
    tie: Tie
    why: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a node told; `at` is when it came, by our clock."""

    place: str
    at: float
    what: View | Merge | Happening


News: TypeAlias = Contact | Said
Search: TypeAlias = Callable[[], AsyncGenerator[Sighting, None]]


class Source(Protocol):
    """Tells what happens to the nodes that are watched."""

    async def follow(self, tell: Callable[[News], None]) -> None:
        """Tell, in the order in which it comes, until cancelled."""
        ...


@dataclass(slots=True)
class _Place:
    """One node that is watched."""

    key: str
    addresses: tuple[str, ...]
    task: asyncio.Task[None] | None = None
    has_left: bool = False


@dataclass(slots=True)
class _Hearing:
    """One attempt to hear a node; `is_live` once a view came."""

    place: str
    address: str
    clock: Clock
    tell: Callable[[News], None]
    is_live: bool = False

    def contact(self, tie: Tie, why: str = "") -> None:
        self.tell(Contact(self.place, self.address, self.clock(), tie, why))

    def take(self, what: View | Merge | Happening) -> None:
        if isinstance(what, View) and not self.is_live:
            self.is_live = True
            self.contact(Tie.LIVE)
        self.tell(Said(self.place, self.clock(), what))


class Nodes:
    """The `Source` of real nodes."""

    def __init__(
        self,
        addresses: Sequence[str] = (),
        *,
        found: Sequence[Sighting] = (),
        search: Search | None = None,
        fits: Callable[[Sighting], bool] = lambda _: True,
        credentials: Credentials | None = None,
        clock: Clock = time.time,
        silent_s: float = SILENT_S,
        at_once: int = WATCHED_MAX,
    ) -> None:
        """Nothing is asked before `follow`.

        Args:
            addresses: `host:port`, watched until the end.
            found: nodes that were found already.
            search: finds more; None: there are only those given.
            fits: whether a found node is to be watched.
            credentials: of a run with a key.
            clock: Unix seconds.
            silent_s: who says nothing for longer is gone.
            at_once: streams that are read at the same time, >= 1; the others wait.
        """
        self._addresses = tuple(dict.fromkeys(addresses))
        self._found = tuple(found)
        self._search = search
        self._fits = fits
        self._credentials = credentials
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._silent_s = silent_s
        self._slots = asyncio.Semaphore(at_once)

    async def follow(self, tell: Callable[[News], None]) -> None:
        """Tell what the nodes say, until cancelled."""
        async with (
            session(self._credentials, CONNECT_S) as asker,
            asyncio.TaskGroup() as group,
        ):

            def begin(place: _Place) -> None:
                place.task = group.create_task(
                    self._stay(asker, place, tell), name=f"watch {place.key}"
                )

            for address in self._addresses:
                begin(_Place(address, (address,)))
            for seen in self._found:
                self._sighted(seen, begin)
            if self._search is not None:
                async with aclosing(self._search()) as sightings:
                    async for seen in sightings:
                        self._sighted(seen, begin)

    def _sighted(self, seen: Sighting, begin: Callable[[_Place], None]) -> None:
        if seen.node is None or not seen.addresses:
            return
        place = self._places.get(seen.node)
        if seen.gone:
            if place is not None:
                place.has_left = True
            return
        if not self._fits(seen):
            return
        if place is None:
            place = self._places[seen.node] = _Place(seen.node, seen.addresses)
        place.addresses, place.has_left = seen.addresses, False
        if place.task is None or place.task.done():
            begin(place)

    async def _stay(
        self, asker: aiohttp.ClientSession, place: _Place, tell: Callable[[News], None]
    ) -> None:
        """Watch one node, and come back to it whenever it is gone."""
        failures = turn = 0
        while not place.has_left:
            address = place.addresses[turn % len(place.addresses)]
            hearing = _Hearing(place.key, address, self._clock, tell)
            if self._slots.locked():
                hearing.contact(Tie.WAITING)
            async with self._slots:
                if failures == 0:
                    hearing.contact(Tie.CONNECTING)
                why = await self._listened(asker, address, hearing)
            hearing.contact(Tie.GONE, why)
            if hearing.is_live:
                failures = 1
            else:
                failures, turn = failures + 1, turn + 1
            await asyncio.sleep(min(RETRY_S * 2 ** min(failures - 1, 8), RETRY_MAX_S))
        hearing = _Hearing(place.key, place.addresses[0], self._clock, tell)
        hearing.contact(Tie.LEFT)

    async def _listened(
        self,
        asker: aiohttp.ClientSession,
        address: str,
        hearing: _Hearing,
    ) -> str:
        """Listen to one node's stream as long as it lasts; returns why it ended."""
        timeout = aiohttp.ClientTimeout(
            connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=self._silent_s
        )
        where = _url(address, "live", self._credentials)
        try:
            async with asker.get(where, allow_redirects=False, timeout=timeout) as response:
                await _check(response, "text/event-stream")
                events = Events()
                async for chunk in response.content.iter_any():
                    for kind, data in events.feed(chunk):
                        reader = _READERS.get(kind)
                        if reader is not None:
                            hearing.take(reader(json.loads(data)))
        except _FAILURES as error:
            return _why(error, self._silent_s)
        return "it ended the stream"


_READERS: dict[str, Callable[[object], View | Merge | Happening]] = {
    "view": read_view,
    "merge": read_merge,
    "timeline": read_happening,
}
_FAILURES = (aiohttp.ClientError, OSError, ValueError, RecursionError, WireError)


async def ask_once(
    places: Sequence[tuple[str, Sequence[str]]],
    credentials: Credentials | None,
    clock: Clock = time.time,
) -> list[News]:
    """Ask each place for its view, all at the same time; tells as a source would.

    Args:
        places: what is asked, and the addresses at which it may be.
        credentials: of a run with a key.
    """
    slots = asyncio.Semaphore(WATCHED_MAX)

    async def ask(asker: aiohttp.ClientSession, place: str, addresses: Sequence[str]) -> list[News]:
        news: list[News] = []
        for address in addresses:
            async with slots:
                try:
                    view = await _view(asker, address, credentials)
                except NetworkError as error:
                    news = [Contact(place, address, clock(), Tie.GONE, str(error))]
                else:
                    at = clock()
                    return [Contact(place, address, at, Tie.LIVE), Said(place, at, view)]
        return news

    async with session(credentials, CONNECT_S) as asker, asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(asker, place, where)) for place, where in places]
    return [one for task in asking for one in task.result()]


async def _view(
    asker: aiohttp.ClientSession, address: str, credentials: Credentials | None
) -> View:
    """Ask one node once.

    Raises:
        NetworkError: it does not tell; the text says why.
    """
    body = bytearray()
    where = _url(address, "view", credentials)
    try:
        async with asker.get(where, allow_redirects=False) as response:
            await _check(response, "application/json")
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > EVENT_BYTES:
                    raise WireError(f"its view has over {EVENT_BYTES} bytes")
        return read_view(json.loads(body))
    except _FAILURES as error:
        raise NetworkError(_why(error, CONNECT_S)) from None


def _url(address: str, what: str, credentials: Credentials | None) -> str:
    return f"{'http' if credentials is None else 'https'}://{address}/v1/{what}"


async def _check(response: aiohttp.ClientResponse, kind: str) -> None:
    """Whether an answer is worth reading.

    Raises:
        WireError: it is not of this kind; the text says what it is.
    """
    if response.status == 404:
        raise WireError(
            "it shows nothing to people (404): it was started with --no-page, or is no p2pfl "
            "node of this version"
        )
    if response.status != 200:
        said = (await response.content.read(_SAID_BYTES)).decode("utf-8", "replace")
        if "run with a key" in said:
            raise WireError(f"it is in a run with a key; give its key: {KEY_FIX}")
        raise WireError(f"it answers {response.status}: {clean(said.strip())}")
    if response.content_type != kind:
        raise WireError("it answers, but is no p2pfl node")


def _why(error: Exception, silent_s: float) -> str:
    """What a failure means, in words."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return clean(unreachable(error))
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_S:g} s"
    if isinstance(error, TimeoutError):
        return f"it was silent for {silent_s:g} s"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "it broke off"
    if isinstance(error, WireError):
        return str(error)
    if isinstance(error, ValueError | RecursionError):
        return "what it sends is no JSON"
    return clean(str(error) or type(error).__name__)
