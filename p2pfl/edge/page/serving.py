"""What a node serves beside the protocol: the page, its data, its stream, and `/metrics`.

                        open run        run with a key
                        node's port     node's port     page's listener
                                        (mutual TLS)    (one-time link)
    GET  /              page            -               page
    GET  /assets/NAME   page            -               page
    GET  /v1/view       yes             members         sessions
    GET  /v1/live       yes             members         sessions
    GET  /metrics       yes             members         sessions, scraper
    POST /v1/session    -               -               links
    POST /v1/page-link  -               this device     -

A browser has no certificate of the run, so with a key the page has a listener of its own, which
only this device reaches unless somebody says otherwise (`--page`). The page itself has no secrets;
what it shows needs a session, which begins with a link. The secret of a link stands behind `#`:
browsers send that to nobody. With `--no-page` what is marked "page" is not there; programs may ask
all the same.

Rule of the file: reading only. Nothing here changes what the node does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from p2pfl.config import LimitsConfig
from p2pfl.edge import running
from p2pfl.edge.connections import Connections, plain_host
from p2pfl.edge.credentials import peer_node
from p2pfl.edge.listening import Door, listen
from p2pfl.edge.metrics import Metrics
from p2pfl.edge.page.feed import Feed
from p2pfl.edge.page.guard import HEADERS, Guard, Handler, Turn, refused
from p2pfl.edge.page.links import Links
from p2pfl.edge.page.routes import Routes
from p2pfl.edge.page.sessions import Sessions
from p2pfl.edge.page.streams import Streams
from p2pfl.edge.static import join
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Service

log = logging.getLogger(__name__)

OFF = "off"
"""The value of `page` that says: none."""

HERE = "127.0.0.1"
LINK_PATH, SESSION_PATH = "/v1/page-link", "/v1/session"

_PORT_MAX = 65_535
_NO_PAGE = "this node was started without a page (--no-page)"


class Page:
    """The page of one node, and what goes with it.

    Args:
        feed: what it shows.
        limits: what strangers may cost us.
        is_keyed: the run has a key, so the page needs a listener of its own.
        where: `HOST:PORT` of that listener, "" for a free port that only this device reaches;
            "off" for no page.
        bind: the host that the node itself listens at, as it was given.

    Raises:
        ConfigError: `where` cannot be used.
        NetworkError: the port is in use, or the address is not of this device.
    """

    def __init__(
        self, feed: Feed, limits: LimitsConfig, *, is_keyed: bool, where: str = "", bind: str = ""
    ) -> None:
        check(where, is_keyed=is_keyed)
        self.is_shown = where != OFF
        self._feed = feed
        self._limits = limits
        self._is_keyed = is_keyed
        self._streams = Streams(feed)
        self._links = Links()
        self._socket: socket.socket | None = None
        self._port_changes = False
        self._scrape_token: str | None = None
        self._names = {bind.lower()} - {""}
        if is_keyed and self.is_shown:
            host, port = parse(where) if where else (HERE, 0)
            self._port_changes = port == 0
            self._names = {host.lower()}
            self._socket = _listening(host, port)
            if self.is_reached_by_others:
                log.warning(
                    "the page at %s travels unencrypted: whoever can listen on that network sees "
                    "what you see, and can go on looking as you; an SSH tunnel to a page on %s "
                    "avoids that",
                    *(join(*self._bound()), HERE),
                )

    def close(self) -> None:
        """Give the port back; closing twice does nothing."""
        if self._socket is not None:
            self._socket.close()

    # --- where it is ----------------------------------------------------------------------------

    @property
    def is_reached_by_others(self) -> bool:
        """Whether other devices reach the listener of a run with a key."""
        return self._socket is not None and not _is_loopback(self._bound()[0])

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the listener of a run with a key; the host may be unspecified."""
        return self._bound() if self._socket is not None else None

    def link(self, seen_at: str = HERE) -> str:
        """A link that opens the page of a run with a key once.

        Args:
            seen_at: an address of this device, for a page that is at every one of them.

        Raises:
            ConfigError: there is no such page.
        """
        if self._socket is None:
            raise ConfigError(_NO_PAGE)
        host, port = self._bound()
        if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            host = seen_at
        return f"http://{join(plain_host(host), port)}/#once={self._links.new()}"

    def let_scrape(self, token: str) -> None:
        """Let whoever shows this token read `/metrics` of a run with a key; before it serves."""
        self._scrape_token = token

    def _bound(self) -> tuple[str, int]:
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    # --- serving --------------------------------------------------------------------------------

    def mount(self, app: web.Application, service: Service, turn: Turn) -> None:
        """Add to what the node's own port serves, and to what happens while it does.

        Args:
            app: of the node's port; it has not begun yet.
            service: the node.
            turn: waits until whoever asks may be answered.
        """
        self._feed.attach(service.status)
        metrics = Metrics(service.status, lambda: self._feed.mixed, lambda: len(self._streams))
        guard = Guard(service, self._limits, turn, None if self._is_keyed else self._names)
        routes = Routes(self._feed, self._streams, metrics, guard)
        routes.add_data(app, guard)
        app.router.add_get("/metrics", guard(routes.metrics))
        if self._is_keyed:
            app.router.add_post(LINK_PATH, guard(self.new_link))
        elif self.is_shown:
            routes.add_page(app, guard)
        # a stream goes on for ever, and nobody may wait for it when the node stops
        app.on_shutdown.append(self._end)

        @asynccontextmanager
        async def beside(_: web.Application) -> AsyncIterator[None]:
            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(self._feed.run(), name="feed")
                try:
                    if self._socket is None:
                        yield
                    else:
                        async with self._listener(self._socket, service, metrics):
                            yield
                finally:
                    looking.cancel()

        app.cleanup_ctx.append(beside)

    async def _end(self, _: web.Application) -> None:
        self._streams.end()

    @asynccontextmanager
    async def _listener(
        self, listening: socket.socket, service: Service, metrics: Metrics
    ) -> AsyncIterator[None]:
        """Serve the page of a run with a key, and what it shows to who came with a link."""
        connections = Connections(service, self._limits, is_keyed=False)
        guard = Guard(service, self._limits, connections.turn, self._names)
        routes = Routes(self._feed, self._streams, metrics, guard)
        sessions = Sessions(self._links, self._scrape_token)
        app = web.Application(client_max_size=0)

        def known(handler: Handler) -> Handler:
            return guard(sessions.needed(handler))

        routes.add_page(app, guard)
        routes.add_data(app, known)
        app.router.add_get("/metrics", guard(sessions.scraped(routes.metrics)))
        app.router.add_post(SESSION_PATH, guard(sessions.begin))
        runner = running.runner(app, connections)
        await runner.setup()
        assert runner.server is not None
        door = Door(connections, runner.server, None, peer_node)
        try:
            async with asyncio.TaskGroup() as tasks:
                guards = [
                    tasks.create_task(door.keep(listening), name="page door"),
                    tasks.create_task(connections.watch(), name="page connections"),
                ]
                try:
                    yield
                finally:
                    for each in guards:
                        each.cancel()
        finally:
            listening.close()
            await runner.cleanup()
            connections.close()

    async def new_link(self, request: web.Request) -> web.StreamResponse:
        """A link for a member of the run: on this device, or where others reach the page anyway."""
        transport = request.transport
        here = transport.get_extra_info("sockname")[0] if transport is not None else ""
        there = request.remote or ""
        is_here = _is_loopback(there) or there == here
        if not self.is_shown:
            return refused(HTTPStatus.NOT_FOUND, _NO_PAGE)
        if not is_here and not self.is_reached_by_others:
            return refused(
                HTTPStatus.FORBIDDEN,
                "this node's page is only for its own device: ask for the link there, or start "
                "the node with --page 0.0.0.0:PORT",
            )
        link = {"page": self.link(plain_host(here)), "port_changes": self._port_changes}
        return web.json_response(link, headers=HEADERS)


def check(where: str, *, is_keyed: bool) -> None:
    """See that `--page` can be what it says.

    Raises:
        ConfigError: it cannot.
    """
    if where in ("", OFF):
        return
    parse(where)
    if not is_keyed:
        raise ConfigError(
            f"page is '{where}', but only a run with a key has its page elsewhere: that of an open "
            "run is at the node's own --bind and --port"
        )


def parse(where: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; port 0 takes any free one.

    Raises:
        ConfigError: it is not.
    """
    host, _, digits = where.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    is_port = digits.isascii() and digits.isdigit() and int(digits[:6]) <= _PORT_MAX
    if not bare or set(bare) & set("[]/@ ") or not is_port or (":" in bare) != is_bracketed:
        raise ConfigError(
            f"page is '{where}', expected HOST:PORT as in 127.0.0.1:8080 or [::1]:8080, or {OFF}"
        )
    return bare, int(digits)


def _listening(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except NetworkError as error:
        why = str(error).partition(";")[0]
        raise NetworkError(
            f"the page: {why}; give another --page HOST:PORT, or leave it out for any free port"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(plain_host(host).partition("%")[0]).is_loopback
    except ValueError:
        return False
