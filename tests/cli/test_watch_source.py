from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from p2pfl.cli.watching.reading import Merge, View
from p2pfl.cli.watching.source import Contact, News, Nodes, Said, Source, Tie, ask_once
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.runkey import RunKey
from p2pfl.ports import Sighting
from tests.cli.watch_server import Server, id_of, merge, view

PATIENCE_S = 30.0
"""Much more than anything takes on an idle machine."""


class Ear:
    """Hears what a source tells, and waits for what is to come."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self._came = asyncio.Event()

    def __call__(self, news: News) -> None:
        self.news.append(news)
        self._came.set()

    async def until(self, claim: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not claim():
                self._came.clear()
                await self._came.wait()

    def ties(self, place: str | None = None) -> list[Tie]:
        return [
            one.tie
            for one in self.news
            if isinstance(one, Contact) and (place is None or one.place == place)
        ]

    def why(self) -> str:
        return next(one.why for one in reversed(self.news) if isinstance(one, Contact) and one.why)

    def said(self, kind: type) -> list[Said]:
        return [one for one in self.news if isinstance(one, Said) and isinstance(one.what, kind)]


@asynccontextmanager
async def followed(nodes: Source) -> AsyncIterator[Ear]:
    ear = Ear()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(nodes.follow(ear))
        try:
            yield ear
        finally:
            task.cancel()


def server(place: int = 0, **changes: Any) -> Server:
    return Server(lambda: view(place, at=time.time(), **changes))


# --- one node ------------------------------------------------------------------------------------


async def test_a_node_is_connected_to_and_tells() -> None:
    async with server().running() as node, followed(Nodes([node.address])) as ear:
        await ear.until(lambda: len(ear.said(View)) > 2)
        assert ear.ties() == [Tie.CONNECTING, Tie.LIVE]
        assert node.asked == {"live": 1}


async def test_what_happens_between_two_views_is_told_at_once() -> None:
    node = server()
    node.every_s = PATIENCE_S
    async with node.running(), followed(Nodes([node.address])) as ear:
        await ear.until(lambda: ear.said(View))
        await node.say("merge", merge(1.0, id_of(1)))
        await node.say("later", {"what": "nobody knows yet"})
        await node.say("timeline", {"at": 1.0, "kind": "dead", "node": id_of(1), "detail": ""})
        await ear.until(lambda: len(ear.news) == 5)
        (told,) = ear.said(Merge)
        assert isinstance(told.what, Merge)
        assert told.what.peer == id_of(1)


async def test_a_node_that_is_gone_is_told_to_be_and_comes_back() -> None:
    node = server()
    async with node.running(), followed(Nodes([node.address])) as ear:
        await ear.until(lambda: Tie.LIVE in ear.ties())
    async with followed(Nodes([node.address])) as ear:
        await ear.until(lambda: Tie.GONE in ear.ties())
        assert ear.why() == "nothing runs there"
        async with node.running():
            await ear.until(lambda: Tie.LIVE in ear.ties())
        await ear.until(lambda: ear.ties()[-1] is Tie.GONE)
        assert ear.why() in ("it ended the stream", "it broke off")
        async with node.running():
            await ear.until(lambda: ear.ties()[-1] is Tie.LIVE)


async def test_nodes_do_not_wait_for_each_other() -> None:
    async with server(0).running() as anna, server(1).running() as boris:
        nobody = "127.0.0.1:1"
        async with followed(Nodes([nobody, anna.address, boris.address])) as ear:
            await ear.until(lambda: ear.ties().count(Tie.LIVE) == 2 and Tie.GONE in ear.ties())
            assert ear.ties(nobody)[:2] == [Tie.CONNECTING, Tie.GONE]


# --- what is no node ------------------------------------------------------------------------------


@asynccontextmanager
async def answering(answer: Callable[[], web.StreamResponse]) -> AsyncIterator[str]:
    """Something that gives one answer to whatever it is asked."""

    async def handle(_: web.Request) -> web.StreamResponse:
        return answer()

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def stream(text: str) -> Callable[[], web.StreamResponse]:
    return lambda: web.Response(text=text, content_type="text/event-stream")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda: web.Response(status=404), "started with --no-page"),
        (
            lambda: web.Response(status=503, text="16 watch\x1b already"),
            "it answers 503: 16 watch?",
        ),
        (lambda: web.Response(status=302, headers={"Location": "/x"}), "it answers 302"),
        (lambda: web.Response(text="<html>"), "is no p2pfl node"),
        (stream("event: view\ndata: {\n\n"), "no JSON"),
        (stream(f"event: view\ndata: {'[' * 100_000}\n\n"), "no JSON"),
        (stream("event: view\ndata: {}\n\n"), "is no p2pfl node"),
        (stream(f"data: {'x' * 70_000}\n" * 300), "over 16777216 bytes"),
        (stream(""), "it ended the stream"),
    ],
)
async def test_what_is_no_node_is_told_from_one(
    answer: Callable[[], web.StreamResponse], why: str
) -> None:
    async with answering(answer) as address, followed(Nodes([address])) as ear:
        await ear.until(lambda: Tie.GONE in ear.ties())
        assert why in ear.why()
        assert Tie.LIVE not in ear.ties()


async def test_a_node_that_falls_silent_is_gone() -> None:
    node = server()
    node.every_s = PATIENCE_S
    async with node.running(), followed(Nodes([node.address], silent_s=0.2)) as ear:
        await ear.until(lambda: Tie.GONE in ear.ties())
        assert ear.why() == "it was silent for 0.2 s"


# --- what mDNS finds ------------------------------------------------------------------------------


class Searching:
    """Sightings that a test makes."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[Sighting] = asyncio.Queue()

    async def __call__(self) -> AsyncGenerator[Sighting, None]:
        while True:
            yield await self.seen.get()

    def sight(self, place: int, *addresses: str, run: str = "kitchen", gone: bool = False) -> None:
        seen = Sighting(addresses, id_of(place), run, None, "1", None, gone=gone)
        self.seen.put_nowait(seen)


async def test_a_node_that_is_found_is_watched_until_it_says_goodbye() -> None:
    search, node = Searching(), server()
    nodes = Nodes(search=search, fits=lambda seen: seen.run == "kitchen")
    async with followed(nodes) as ear:
        async with node.running():
            search.sight(5, "127.0.0.1:1", run="garden")
            search.sight(0, node.address)
            search.sight(0, node.address)
            await ear.until(lambda: Tie.LIVE in ear.ties())
            search.sight(0, node.address, gone=True)
            # mDNS can be wrong: whoever tells is there
            count = len(ear.said(View))
            await ear.until(lambda: len(ear.said(View)) > count + 2)
        await ear.until(lambda: Tie.LEFT in ear.ties())
        assert ear.ties(id_of(0)) == [Tie.CONNECTING, Tie.LIVE, Tie.GONE, Tie.LEFT]
        assert ear.ties(id_of(5)) == []
        async with node.running():
            search.sight(0, node.address)
            await ear.until(lambda: ear.ties()[-1] is Tie.LIVE)


async def test_a_node_is_asked_at_its_other_addresses_too() -> None:
    search = Searching()
    async with server().running() as node, followed(Nodes(search=search)) as ear:
        search.sight(0, "127.0.0.1:1", node.address)
        await ear.until(lambda: Tie.LIVE in ear.ties())


async def test_only_so_many_are_watched_at_once() -> None:
    async with (
        server(0).running() as anna,
        server(1).running() as boris,
        followed(Nodes([anna.address, boris.address], at_once=1)) as ear,
    ):
        await ear.until(lambda: Tie.LIVE in ear.ties() and Tie.WAITING in ear.ties())
        count = len(ear.said(View))
        await ear.until(lambda: len(ear.said(View)) > count + 2)
        assert ear.ties().count(Tie.LIVE) == 1


# --- a run with a key -----------------------------------------------------------------------------


async def test_nodes_of_a_run_with_a_key_tell_those_who_have_it() -> None:
    key = RunKey.new()
    node = server()
    node.credentials = Credentials.member(NodeKey.new(), key, time.time())
    observer = Credentials.observer(key, time.time())
    async with node.running():
        async with followed(Nodes([node.address], credentials=observer)) as ear:
            await ear.until(lambda: Tie.LIVE in ear.ties())
        stranger = Credentials.observer(RunKey.new(), time.time())
        async with followed(Nodes([node.address], credentials=stranger)) as ear:
            await ear.until(lambda: Tie.GONE in ear.ties())
            assert ear.why() == "its certificate is of another run's key"
    async with (
        server().running() as plain,
        followed(Nodes([plain.address], credentials=observer)) as ear,
    ):
        await ear.until(lambda: Tie.GONE in ear.ties())
        assert "not in a run with a key" in ear.why()


# --- once -----------------------------------------------------------------------------------------


async def test_asking_once_asks_everybody_once() -> None:
    async with server(0).running() as anna, server(1).running() as boris:
        places = [
            ("a", [anna.address]),
            ("b", ["127.0.0.1:1", boris.address]),
            ("c", ["127.0.0.1:1"]),
        ]
        ear = Ear()
        for news in await ask_once(places, None):
            ear(news)
        assert [ear.ties(place) for place in "abc"] == [[Tie.LIVE], [Tie.LIVE], [Tie.GONE]]
        assert [one.place for one in ear.said(View)] == ["a", "b"]
        assert anna.asked == boris.asked == {"view": 1}
