"""The answers: page, view, stream and metrics, whichever listener somebody came to.

Rule of the file: reading only; who may ask is decided elsewhere (`guard`, `sessions`).
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from aiohttp import hdrs, web

from p2pfl.edge.metrics import CONTENT_TYPE, Metrics
from p2pfl.edge.page.feed import Feed
from p2pfl.edge.page.files import INDEX, assets
from p2pfl.edge.page.guard import HEADERS, Guard, Handler, refused
from p2pfl.edge.page.streams import Streams

_JSON = "application/json"


class Routes:
    """Handlers for one listener."""

    def __init__(self, feed: Feed, streams: Streams, metrics: Metrics, guard: Guard) -> None:
        self._feed = feed
        self._streams = streams
        self._metrics = metrics
        self._guard = guard

    def add_data(self, app: web.Application, let_in: Callable[[Handler], Handler]) -> None:
        """What programs ask for too."""
        app.router.add_get("/v1/view", let_in(self.view))
        app.router.add_get("/v1/live", let_in(self.live), allow_head=False)

    def add_page(self, app: web.Application, let_in: Callable[[Handler], Handler]) -> None:
        """The page, without anything that it shows."""
        app.router.add_get("/", let_in(self.index))
        app.router.add_get("/assets/{name}", let_in(self.asset))

    async def view(self, request: web.Request) -> web.StreamResponse:
        """Everything this node knows of the swarm, as JSON."""
        return await self._guard.whole(request, self._feed.json()[0], _JSON)

    async def live(self, request: web.Request) -> web.StreamResponse:
        """The same, as it happens."""
        return await self._streams.serve(request, self._guard)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """For Prometheus."""
        return await self._guard.whole(request, self._metrics.text(), CONTENT_TYPE)

    async def index(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        return await self._file(request, INDEX)

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """A file that the page is made of."""
        return await self._file(request, request.match_info["name"])

    async def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        found = assets().get(name)
        if found is None:
            return refused(HTTPStatus.NOT_FOUND, "the page has no such file")
        headers: dict[str, str] = {hdrs.ETAG: f'"{found.etag}"', hdrs.CACHE_CONTROL: "no-cache"}
        if any(tag.value in (found.etag, "*") for tag in request.if_none_match or ()):
            # the browser has it already
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={**HEADERS, **headers})
        return await self._guard.whole(request, found.data, found.content_type, headers)
