"""A real browser and the page of a run with a key: links, tabs, other origins, a restart."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from p2pfl.edge.runkey import RunKey
from tests.edge.page_nodes import living

async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: Debian has it as `chromium`"
)

KEY = RunKey.new()
PATIENCE_MS = 30_000
REFUSED = "Failed to load resource"
"""Chromium logs every refusal; the page cannot keep it from that."""
RESTS_S = 5.0
"""Longer than any pause between two attempts of the page."""


class Tab:
    """A tab that notes what is asked in it, and what the browser complains of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.asked.append(f"{request.method} {request.url}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text))

    async def says(self, element: str, text: str) -> None:
        """Until the element with this id has the text somewhere in it."""
        await self.page.wait_for_function(
            "([id, text]) => document.getElementById(id)?.textContent.includes(text)",
            arg=[element, text],
        )

    async def opens(self, link: str) -> None:
        await self.page.goto(link)
        await self.says("state", "live")

    async def is_locked(self, why: str) -> None:
        await self.says("locked-why", why)
        assert await self.page.is_visible("#locked")


@asynccontextmanager
async def window() -> AsyncIterator[Any]:
    """A browser with nothing in it; gives its windows' common memory."""
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], headless=True
        )
        yield await browser.new_context()
        await browser.close()


async def tab(context: Any) -> Tab:
    return Tab(await context.new_page())


@asynccontextmanager
async def site(host: str, body: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A page of somebody else, and the heads of what it is asked."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        page = f"<!doctype html><link rel=icon href=data:,>{body}".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n"
        writer.write(head.encode() + page)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}/", heads


async def test_a_link_opens_the_page_in_a_browser_even_from_another_site() -> None:
    """`localhost` is another site than `127.0.0.1`."""
    async with living("anna", run_key=KEY) as anna, window() as context:
        link = anna.page.link()
        async with site("localhost", f'<a href="{link}">the swarm</a>') as (start, _):
            seen = await tab(context)
            await seen.page.goto(start)
            await seen.page.click("a")
            await seen.page.wait_for_url(f"{anna.url}/")
            await seen.says("state", "live")
            await seen.says("run", "kitchen")
        assert "anna" in await seen.page.title()
        assert not await seen.page.is_visible("#locked")
        assert seen.complaints == []
        assert await context.cookies() == []
        # neither the address nor anything that is asked has the secret of the link
        secret = link.partition("=")[2]
        await seen.page.go_back()
        await seen.page.go_forward()
        assert seen.page.url == f"{anna.url}/"
        assert [url for url in seen.asked if secret in url] == []


async def test_another_tab_needs_no_other_link() -> None:
    async with living("anna", run_key=KEY) as anna, window() as context:
        await (await tab(context)).opens(anna.page.link())
        second = await tab(context)
        await second.opens(anna.url)
        assert second.complaints == []
        assert [url for url in second.asked if url.startswith("POST")] == []


async def test_a_page_at_another_port_of_this_device_gets_nothing() -> None:
    """Browsers send cookies to every port of a host; what opens the page must not go there."""
    async with (
        living("anna", run_key=KEY) as anna,
        window() as context,
        site("127.0.0.1", "another program") as (other, heads),
    ):
        ours = await tab(context)
        await ours.opens(anna.page.link())
        theirs = await tab(context)
        sent: list[Any] = []
        theirs.page.on("request", lambda request: sent.append(request))
        await theirs.page.goto(other)
        assert await theirs.page.evaluate("document.cookie") == ""
        assert await theirs.page.evaluate("Object.keys(localStorage)") == []
        assert len(heads) == 1
        assert "cookie" not in heads[0]
        sent.clear()
        for mode in ("cors", "no-cors"):
            asking = f"""fetch("{anna.url}/v1/view", {{ mode: "{mode}", credentials: "include" }})
                .then((answer) => answer.text(), () => "nothing")"""
            assert await theirs.page.evaluate(asking) == "nothing"
        begin = f"""fetch("{anna.url}/v1/session", {{ method: "POST", body: "{"x" * 43}" }})
            .then((answer) => answer.text(), () => "nothing")"""
        assert await theirs.page.evaluate(begin) == "nothing"
        await theirs.page.evaluate(f"""new Promise((done) => {{
            const frame = document.createElement("iframe");
            frame.onload = done;
            frame.src = "{anna.url}/";
            document.body.append(frame);
        }})""")
        assert len(sent) == 4
        for request in sent:
            assert not {"cookie", "authorization"} & set(await request.all_headers())
            assert "session=" not in request.url
        framed = theirs.page.frames[1]
        assert "anna" not in await framed.evaluate("document.documentElement.textContent")
        # a browser that goes there is shown what everybody is
        async with theirs.page.expect_navigation() as going:
            await theirs.page.evaluate(f"location.href = '{anna.url}/v1/view'")
        assert (await going.value).status == 403
        assert await ours.page.text_content("#state") == "live"


async def test_after_a_restart_the_page_says_open_a_new_link_and_one_in_the_same_tab_does() -> None:
    async with window() as context:
        seen = await tab(context)
        async with living("anna", run_key=KEY) as anna:
            await seen.opens(anna.page.link())
        await seen.says("state", "the node is gone")
        where = anna.url.removeprefix("http://")
        async with living("anna", run_key=KEY, where=where, incarnation=2) as anna:
            await seen.is_locked("open a new link")
            assert await seen.page.is_visible("#nodes-body tr"), "what was known stays"
            before, complained = len(seen.asked), len(seen.complaints)
            await asyncio.sleep(RESTS_S)
            assert (len(seen.asked), len(seen.complaints)) == (before, complained)
            other = await tab(context)
            await other.page.goto(anna.url)
            await other.is_locked("open a new link")
            await seen.page.evaluate("(link) => { location.href = link; }", anna.page.link())
            await seen.says("state", "live")
            await seen.says("facts", "start 2")
            assert not await seen.page.is_visible("#locked")
            assert seen.page.url == f"{anna.url}/"
            # the session is there for all tabs of this origin
            await other.says("state", "live")


async def test_without_a_link_the_page_says_how_to_get_one_and_rests() -> None:
    async with living("anna", run_key=KEY) as anna, window() as context:
        seen = await tab(context)
        await seen.page.goto(anna.url)
        await seen.is_locked("opens with a one-time link: `p2pfl page` on the node's device")
        assert not await seen.page.is_visible("#nodes-title")
        assert "closed" in await seen.page.title()
        await asyncio.sleep(RESTS_S)
        assert [text for text in seen.complaints if REFUSED not in text] == []
        assert len(seen.complaints) == 2
        await seen.opens(anna.page.link())
        assert await seen.page.is_visible("#nodes-title")
        # leaping within the page is no link
        before = len(seen.asked)
        await seen.page.evaluate("location.hash = 'nodes-title'")
        await asyncio.sleep(0.2)
        assert [url for url in seen.asked[before:] if "/v1/" in url] == []


async def test_a_used_link_says_so_unless_this_browser_is_known() -> None:
    async with living("anna", run_key=KEY) as anna:
        link = anna.page.link()
        async with window() as context:
            await (await tab(context)).opens(link)
            again = await tab(context)
            await again.opens(link)
            assert len(again.complaints) == 1
        async with window() as context:
            stranger = await tab(context)
            await stranger.page.goto(link)
            await stranger.is_locked("this link was used already, is older than ten minutes")
            await stranger.opens(anna.page.link())


async def test_a_browser_that_keeps_nothing_opens_the_page_as_long_as_it_is_open() -> None:
    async with living("anna", run_key=KEY) as anna, window() as context:
        await context.add_init_script(
            """Object.defineProperty(window, "localStorage", {
              get() { throw new DOMException("not allowed", "SecurityError"); },
            })"""
        )
        seen = await tab(context)
        await seen.opens(anna.page.link())
        assert seen.complaints == []
        await seen.page.reload()
        await seen.is_locked("opens with a one-time link")


async def test_in_an_open_run_nothing_of_this_is_there() -> None:
    async with living("anna") as anna, window() as context:
        seen = await tab(context)
        await seen.opens(anna.url)
        assert [url for url in seen.asked if "session" in url.partition("/assets/")[0]] == []
        assert await seen.page.evaluate("Object.keys(localStorage)") == []
        assert seen.complaints == []
