"""The page of a real node, in a real browser, while another one dies, comes back and stops."""

from __future__ import annotations

import shutil

import pytest

from tests.integration.nodes import Nodes, alive

async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 60_000
DEATH_MS = 5_000
"""What the page promises: a process that was killed is shown as dead after so long."""
SAYS = """([name, state]) => [...document.querySelectorAll("tbody tr")].some(
  (row) => row.textContent.includes(name) && row.textContent.includes(state))"""


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: Debian has it as `chromium`"
)
async def test_a_browser_sees_a_node_die_come_back_and_leave(nodes: Nodes) -> None:
    anna, boris = nodes.start("anna", "--shard", "1/2"), nodes.start("boris", "--shard", "2/2")
    await nodes.ready()
    await anna.until(lambda now: boris.id in alive(now))
    troubles: list[str] = []
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], headless=True
        )
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        await page.goto(f"http://{anna.address}/")
        await page.wait_for_function(SAYS, arg=["boris", "training"])
        await boris.kill()
        await page.wait_for_function(SAYS, arg=["boris", "dead"], timeout=DEATH_MS)
        boris.start()
        await page.wait_for_function(SAYS, arg=["boris", "training"])
        assert troubles == []

        # the page outlives its node, which comes back at the same address
        at = anna.address
        await anna.kill()
        await page.get_by_text("the node is gone").first.wait_for()
        anna.start()
        await anna.ready()
        assert anna.address == at
        await page.get_by_text("live", exact=True).first.wait_for()
        await page.wait_for_function(SAYS, arg=["boris", "training"])
        await browser.close()
    while_gone = [text for text in troubles if "ERR_" not in text]
    assert while_gone == []
