"""A development server for the page: the assets as they lie there, and a swarm that is made up.

    python -m tests.page.mock --nodes 20 --port 8000

It answers as a node does (`GET /`, `/assets/NAME`, `/v1/view`, `/v1/live`), with the same content
security policy, on loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from tests.page.world import World, trained

T = TypeVar("T")

ASSETS = Path(__file__).parents[2] / "p2pfl" / "edge" / "page" / "assets"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:"
)
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
PATIENCE_S = 20.0
EVIL = "<img src=x onerror=alert(1)>\"'&amp;"


class Mock:
    """One node that does not exist; its loop runs in a thread, so that a test may drive a browser.

    Args:
        world: what it tells.
        every_s: how often it tells it; the world's clock keeps the same pace.
    """

    def __init__(self, world: World, *, every_s: float = 1.0, port: int = 0) -> None:
        self.world = world
        self.port = port
        self._every_s = every_s
        self._streams: set[asyncio.Queue[tuple[str, Any] | None]] = set()
        self._refusal: int | None = None
        self._is_crowded = False
        self._edit: Callable[[dict[str, Any]], dict[str, Any]] = lambda view: view
        self._is_silent = False
        self._runner: web.AppRunner | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mock", daemon=True)
        self._ticking: Future[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Mock:
        self._thread.start()
        self._do(self._listen())
        self._ticking = asyncio.run_coroutine_threadsafe(self._tick(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def change(self, change: Callable[[World], Any]) -> None:
        """Let something happen to the world, between two of its steps; news are told at once."""

        async def apply() -> None:
            change(self.world)
            self._tell_news()

        self._do(apply())

    def stop(self) -> None:
        """The node is gone: nobody listens, all streams break."""
        self._do(self._shut())

    def start(self) -> None:
        """The node is back, on the same port."""
        self.world.restart()
        self._do(self._listen())

    def refuse(self, status: int | None, *, is_crowded: bool = False) -> None:
        """Answer with this status to everything but the page; None: no longer.

        `is_crowded`: only to streams, as a node at which too many pages are open.
        """

        async def apply() -> None:
            self._refusal, self._is_crowded = status, is_crowded
            if status is not None:
                for queue in self._streams:
                    queue.put_nowait(None)

        self._do(apply())

    def edit(self, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change what is told, not what is: for views that a world never has."""

        async def apply() -> None:
            self._edit = edit
            self._tell("view", self._seen())

        self._do(apply())

    def silence(self, is_silent: bool) -> None:
        """Keep the connections and say nothing, as a machine that lost its network."""

        async def apply() -> None:
            self._is_silent = is_silent

        self._do(apply())

    async def _listen(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/assets/{name}", self._asset),
                web.get("/v1/view", self._view),
                web.get("/v1/live", self._live),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _shut(self) -> None:
        for queue in self._streams:
            queue.put_nowait(None)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            since = self.world.now
            self.world.step(self._every_s)
            self._tell_news()
            self._tell("view", self._seen(since))

    def _seen(self, since: float | None = None) -> dict[str, Any]:
        return self._edit(self.world.view(since))

    def _tell_news(self) -> None:
        for kind, event in self.world.news:
            self._tell(kind, event)
        self.world.news.clear()

    def _tell(self, kind: str, value: Any) -> None:
        if not self._is_silent:
            for queue in self._streams:
                queue.put_nowait((kind, value))

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return self._file("index.html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return self._file(request.match_info["name"])

    def _file(self, name: str) -> web.StreamResponse:
        path = ASSETS / name
        if path.suffix not in TYPES or not path.is_file():
            raise web.HTTPNotFound
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(
            body=path.read_bytes(), content_type=TYPES[path.suffix], headers=headers
        )

    async def _view(self, _: web.Request) -> web.StreamResponse:
        if self._refusal is not None and not self._is_crowded:
            return web.Response(status=self._refusal, text=f"the node says {EVIL}\n")
        return web.json_response(self._seen())

    async def _live(self, request: web.Request) -> web.StreamResponse:
        if self._refusal is not None:
            return web.Response(status=self._refusal)
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        queue: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()
        if not self._is_silent:
            queue.put_nowait(("view", self._seen()))
        self._streams.add(queue)
        try:
            await response.write(b"retry: 1000\n\n")
            while (event := await queue.get()) is not None:
                text = json.dumps(event[1], allow_nan=False)
                await response.write(f"event: {event[0]}\ndata: {text}\n\n".encode())
        except ConnectionResetError:
            pass  # the browser left
        finally:
            self._streams.discard(queue)
        return response


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seconds", type=int, default=240, help="how long it has been running")
    options = parser.parse_args()
    world = trained(options.nodes, seconds=options.seconds)
    with Mock(world, port=options.port) as mock:
        sys.stdout.write(f"{mock.url}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
