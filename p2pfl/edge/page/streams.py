"""`/v1/live`: what happens, as server-sent events.

    retry: 1000
    event: view        all of it at first; then every second, the curves with new points only
    event: merge       an exchange, as it happens
    event: timeline    whatever the timeline tells, as it happens
    : ...              now and then a comment, so that a connection that is dead is found out

https://html.spec.whatwg.org/multipage/server-sent-events.html

Rule of the file: few streams, and none is waited for: what a reader does not read is dropped, and a
reader that reads nothing is cut off.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from http import HTTPStatus

from aiohttp import hdrs, web

from p2pfl.edge.bodies import GRACE_S
from p2pfl.edge.connections import abort, plain_host
from p2pfl.edge.page.feed import Feed
from p2pfl.edge.page.guard import HEADERS, Guard, refused
from p2pfl.edge.page.watchers import Watcher, sent

STREAMS = 16
"""Of one node."""

EVERY_S, EVERY_OF_MANY_S, MANY = 1.0, 5.0, 200
"""Pause between two views; of more than `MANY` nodes they are large."""

COMMENT_S = 15.0
_DARK_MS = 20_000
"""A device that went dark acknowledges nothing; the system ends its connection after so long, where
it knows how (Linux), and else when what it keeps of it is full."""

_RETRY = b"retry: 1000\n\n"
_COMMENT = b": still here\n\n"


class Streams:
    """The live streams of one node, whichever listener they came to."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._open: dict[Watcher, web.Request] = {}

    def __len__(self) -> int:
        return len(self._open)

    def end(self) -> None:
        """The node stops: whoever reads is told the rest, and who does not is not waited for."""
        for watcher, request in self._open.items():
            watcher.end()
            if request.protocol.writing_paused:
                abort(request.protocol)

    async def serve(self, request: web.Request, guard: Guard) -> web.StreamResponse:
        """Answer a request with a stream, until either side ends it.

        Raises:
            TimeoutError: the reader does not read.
            ConnectionError: it is gone.
        """
        if not self._has_room(_host(request)):
            why = f"this node has {STREAMS} live streams, which is the most: close a page"
            return refused(HTTPStatus.SERVICE_UNAVAILABLE, why, {hdrs.RETRY_AFTER: "5"})
        with self._feed.watched() as watcher:
            self._open[watcher] = request
            try:
                response = web.StreamResponse(
                    headers={**HEADERS, hdrs.CONTENT_TYPE: "text/event-stream"}
                )
                _end_if_dark(request)
                async with asyncio.timeout(GRACE_S):
                    await response.prepare(request)
                await guard.write(request, response, _RETRY)
                await self._flow(request, response, guard, watcher)
                async with asyncio.timeout(GRACE_S):
                    await response.write_eof()
                return response
            finally:
                self._open.pop(watcher, None)

    def _has_room(self, host: str) -> bool:
        """Whether there is a place; an address that holds most of them gives way to another."""
        if len(self._open) < STREAMS:
            return True
        counts = Counter(map(_host, self._open.values()))
        greediest, most = counts.most_common(1)[0]
        if most <= counts[host] + 1:
            return False
        newest = [watcher for watcher, of in self._open.items() if _host(of) == greediest][-1]
        del self._open[newest]
        newest.end()
        return True

    async def _flow(
        self, request: web.Request, response: web.StreamResponse, guard: Guard, watcher: Watcher
    ) -> None:
        loop = asyncio.get_running_loop()
        serial, commented = 0, loop.time()
        while not watcher.is_over:
            # what waits is older than the view
            data, serial = self._feed.json(serial)
            await guard.write(request, response, watcher.take() + sent("view", data))
            every_s = EVERY_OF_MANY_S if self._feed.nodes > MANY else EVERY_S
            # all streams at the same moments, so that one view does for all
            until = (loop.time() // every_s + 1) * every_s
            # however much there is to tell, the next view comes in time
            while not watcher.is_over and loop.time() < until and await _comes(watcher, until):
                await guard.write(request, response, watcher.take())
            if loop.time() - commented >= COMMENT_S:
                commented = loop.time()
                await guard.write(request, response, _COMMENT)
        await guard.write(request, response, watcher.take())


def _host(request: web.Request) -> str:
    return plain_host(request.remote or "")


def _end_if_dark(request: web.Request) -> None:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    ours = request.get_extra_info("socket")
    if option is not None and ours is not None:
        ours.setsockopt(socket.IPPROTO_TCP, option, _DARK_MS)


async def _comes(watcher: Watcher, until: float) -> bool:
    """Whether there is news before a moment."""
    try:
        async with asyncio.timeout_at(until):
            await watcher.has_news.wait()
    except TimeoutError:
        return False
    return True
