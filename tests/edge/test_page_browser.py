"""A real browser opens the page of a run with a key: cookies and redirections as it has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2pfl.edge.runkey import RunKey
from tests.edge.page_nodes import living

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing")


@asynccontextmanager
async def site(link: str) -> AsyncIterator[str]:
    """A page of another site that has a link; `localhost` is another site than `127.0.0.1`."""
    body = f'<!doctype html><a href="{link}">the swarm</a>'.encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}/"


def followed(start: str, where: str) -> tuple[str, str, list[str]]:
    """Follow the only link there: title, what is shown, and what the browser complained of."""
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page()
        complaints: list[str] = []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        # the other site has no icon, which is no business of ours
        tab.on("console", lambda said: complaints.append(f"{said.location['url']} {said.text}"))
        tab.goto(start)
        tab.click("a")
        tab.wait_for_url(where)
        tab.wait_for_function("document.body.innerText.includes('live')")
        ours = [said for said in complaints if not said.startswith(start)]
        found = tab.title(), tab.inner_text("body"), ours
        browser.close()
    return found


async def test_a_link_opens_the_page_in_a_browser_even_from_another_site() -> None:
    async with living("anna", run_key=RunKey.new()) as anna, site(anna.page.link()) as start:
        title, shown, complaints = await asyncio.to_thread(followed, start, f"{anna.url}/")
    assert "anna" in title
    assert "kitchen" in shown
    assert complaints == []
