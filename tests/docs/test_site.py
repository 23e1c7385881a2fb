"""The site builds without a warning and without a network, and asks nobody when it is read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from p2pfl.cli import cli
from tests.docs.reading import ROOT
from tests.integration.netns import missing

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_S = 90
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Elements for which a browser fetches something without being asked."""


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag in LOADS and found.get("rel") not in ("next", "prev", "canonical"):
            self.addresses.append(found.get(LOADS[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built where there is no network, if this machine can take it away."""
    folder = tmp_path_factory.mktemp("site")
    alone = ["unshare", "--net"] if missing() is None else []
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(
        [*alone, *build],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_of_the_navigation_is_there(site: Path) -> None:
    def named(part: Any) -> Iterator[str]:
        for item in part if isinstance(part, list) else part.values():
            if isinstance(item, str):
                yield item
            else:
                yield from named(item)

    # the rest of the file may hold tags that only mkdocs knows
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(named(yaml.safe_load(text)["nav"]))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert listed == there
    for name in listed:
        assert (site / name).with_suffix(".html").is_file()


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        for address in Fetched(page.read_text(encoding="utf-8")).addresses:
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", text), style.name


def test_the_command_line_is_there_as_it_is_today(site: Path) -> None:
    page = _text(site / "reference/cli.html")
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert f"Usage: p2pfl {name}" in page
        for option in (option for one in command.params for option in one.opts):
            assert not option.startswith("--") or option in page, f"{name} {option}"


def test_what_is_included_is_whole(site: Path) -> None:
    security = _text(site / "security.html")
    for heading in re.findall(r"^## (.*)$", (ROOT / "SECURITY.md").read_text("utf-8"), re.M):
        assert heading in security
    assert "unreleased" in _text(site / "changelog.html")
    assert "consensus distance" in _text(site / "glossary.html")
    assert "class" in _text(site / "reference/python.html")


def test_what_cannot_be_included_ends_the_build() -> None:
    from mkdocs.exceptions import PluginError

    hooks = _hooks()
    page = SimpleNamespace(file=SimpleNamespace(src_uri="some.md"))
    with pytest.raises(PluginError, match=r"docs/some\.md includes NOWHERE\.md: No such file"):
        hooks["on_page_markdown"]("<!-- include: NOWHERE.md -->", page=page)
    with pytest.raises(PluginError, match="no section '## Nothing'"):
        hooks["on_page_markdown"]("<!-- include: README.md#Nothing -->", page=page)


def test_links_out_of_the_pages_lead_to_the_pages_that_show_the_same() -> None:
    hooks = _hooks()
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/python.md"))
    given = "[a](../../SECURITY.md#what) [b](../protocol.md) [c](https://example.org/x) [d](#here)"
    made = hooks["on_page_markdown"](given, page=page)
    assert made == (
        "[a](../security.md#what) [b](../protocol.md) [c](https://example.org/x) [d](#here)"
    )


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install chromium")
def test_from_a_disk_it_reads_and_searches_and_asks_nobody(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    errors: list[str] = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((site / "reference/python.html").as_uri(), timeout=PATIENCE_S * 1000)
        query, found = page.locator("input[name=query]"), page.locator(".md-search-result__link")
        until = time.monotonic() + PATIENCE_S
        while found.count() == 0 and time.monotonic() < until:
            query.press_sequentially("consensus ")  # what is typed before all is there is not heard
            page.wait_for_timeout(500)
        assert found.count() > 0
        browser.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not errors


def test_the_search_index_holds_every_page(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    there = {str(page.relative_to(site)) for page in pages(site)} - {"404.html"}
    assert found == there


def _text(page: Path) -> str:
    """What a reader sees of a page."""
    pieces: list[str] = []
    reader = HTMLParser()
    reader.handle_data = pieces.append  # type: ignore[method-assign]
    reader.feed(page.read_text(encoding="utf-8"))
    return "".join(pieces)


def _hooks() -> dict[str, Any]:
    import runpy

    return runpy.run_path(str(ROOT / "docs/hooks.py"))
