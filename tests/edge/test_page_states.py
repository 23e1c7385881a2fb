"""What the page says of those that are gone, and of what is held against a node."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import p2pfl.edge.page
from p2pfl.core.messages import Reason
from tests.edge.page_nodes import living

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ASSETS = Path(p2pfl.edge.page.__file__).parent / "assets"
BORIS, CHLOE = "b" * 32, "c" * 32


def test_every_reason_of_a_refusal_is_known_to_the_page_and_no_other() -> None:
    listed = re.search(r"const REFUSALS = \[(.*?)\];", (ASSETS / "nodes.js").read_text(), re.DOTALL)
    assert listed is not None
    known = re.findall(r'"([^"]+)"', listed[1])
    assert sorted(known) == sorted({*Reason} - {Reason.UNREACHABLE, Reason.MALFORMED})


def gone(node: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "node": node,
        "name": name,
        "addresses": ["192.168.100.100:40000"],
        "status": "dead",
        "left": False,
        "incarnation": 1,
        "own_steps": 5,
        "heard_ago_s": 9.0,
        "is_met": True,
    } | more


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: Debian has it as `chromium`"
)
async def test_who_left_is_grey_and_a_fault_is_no_refusal_in_a_browser() -> None:
    async_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    async with living("anna") as anna, async_api.async_playwright() as playwright:
        members = [gone(BORIS, "boris", left=True), gone(CHLOE, "chloe")]
        refusals = {
            BORIS: {"unreachable": 3, "proof": 2, "timeout": 1},
            CHLOE: {"another node answered": 1},
        }

        def told() -> dict[str, Any]:
            status = anna.node._answering.status()
            return status | {"members": members, "refusals": refusals}

        anna.feed.attach(told)
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], headless=True
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(30_000)
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        await page.goto(anna.url)

        async def cells(node: str) -> list[str]:
            found: list[str] = await page.locator(f'tr[data-node="{node}"] td').all_inner_texts()
            return found

        async def colour(where: str, kind: str) -> str:
            ask = "([where, kind]) => getComputedStyle(document.querySelector(where))[kind]"
            found: str = await page.evaluate(ask, [where, kind])
            return found

        await page.wait_for_selector(f'tr[data-node="{CHLOE}"]')
        assert ((await cells(BORIS))[1], (await cells(CHLOE))[1]) == ("left", "dead")
        since = "(counted since this node's start)"
        assert (await cells(BORIS))[
            -1
        ] == f"refused: proof ×2; faults: unreachable ×3, timeout {since}"
        assert (await cells(CHLOE))[-1] == f"faults: another node answered {since}"
        assert (await page.inner_text("#shapes .is-left")).split() == ["left", "1"]
        assert (await page.inner_text("#shapes .is-dead")).split() == ["dead", "1"]
        assert "1 node, 2 gone" in await page.inner_text("#how-many")
        # neither in the table nor in the picture has it the colour of the dead
        bad = await colour(f'tr[data-node="{CHLOE}"] td:nth-child(2)', "color")
        assert await colour(f'tr[data-node="{BORIS}"] td:nth-child(2)', "color") != bad
        assert await colour(f'.node[data-node="{CHLOE}"] .shape', "stroke") == bad
        left = f'.node[data-node="{BORIS}"] .shape'
        assert bad not in (await colour(left, "stroke"), await colour(left, "fill"))

        # the longest IPv4 address stays on one line in the details
        await page.click(f'tr[data-node="{BORIS}"] button')
        address = page.locator("#details > div:last-child dd").first
        assert await address.inner_text() == "192.168.100.100:40000"
        lines = """(dd) => {
          const text = document.createRange();
          text.selectNodeContents(dd);
          return new Set([...text.getClientRects()].map((one) => one.top)).size;
        }"""
        assert await address.evaluate(lines) == 1
        assert troubles == []
        await browser.close()
