from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from p2pfl.cli.watching.columns import COLUMNS
from p2pfl.cli.watching.memory import Memory
from p2pfl.cli.watching.nodetable import NodeTable
from p2pfl.cli.watching.panes import Head
from p2pfl.cli.watching.reading import read_view
from p2pfl.cli.watching.screen import Kept, WatchApp
from p2pfl.cli.watching.sheets import Sheet
from p2pfl.cli.watching.source import Contact, News, Nodes, Said, Source, Tie
from p2pfl.cli.watching.wording import width
from tests.cli.watch_server import Moving, Server, heard_of, id_of, name_of, told, view

PATIENCE_S = 30.0
NOW = 5000.0
SMALL, USUAL, LARGE = (60, 20), (80, 24), (160, 50)
PANES = ("nodes", "accuracy", "swarm", "staleness", "happened", "merges")


class Made:
    """A source that tells what a test gives it, and then nothing."""

    def __init__(self, news: Sequence[News]) -> None:
        self._news = news

    async def follow(self, tell: Callable[[News], None]) -> None:
        for one in self._news:
            tell(one)
        await asyncio.Event().wait()


def made(count: int = 3, **changes: Any) -> Made:
    """One node tells of so many."""
    contact = Contact("h:1", "h:1", NOW - 9, Tie.LIVE)
    return Made([contact, Said("h:1", NOW, read_view(view(0, count) | changes))])


def text(app: WatchApp) -> str:
    """What is on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


@asynccontextmanager
async def shown(
    source: Source, size: tuple[int, int] = USUAL, clock: Callable[[], float] = lambda: NOW
) -> AsyncIterator[tuple[WatchApp, Pilot[None]]]:
    """The screen, once the first picture is drawn."""
    app = WatchApp(source, Memory(), clock)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.query_one(Head).size.height and "run '" in text(app))
        yield app, pilot


async def until(pilot: Pilot[None], claim: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not claim():
            await pilot.pause(0.02)


async def sees(app: WatchApp, pilot: Pilot[None], *parts: str) -> None:
    """Wait until all of these are on the screen."""
    try:
        await until(pilot, lambda: all(part in text(app) for part in parts))
    except TimeoutError:
        missing = [part for part in parts if part not in text(app)]
        raise AssertionError(f"{missing} not in\n{text(app)}") from None


def names(app: WatchApp) -> list[str]:
    """The first words of the table's lines."""
    table = app.screen_stack[0].query_one(NodeTable)
    lines = [table.render_line(y).text for y in range(1, table.size.height)]
    return [line.split()[0] for line in lines if line.strip()]


def head(app: WatchApp) -> str:
    return app.screen_stack[0].query_one(NodeTable).render_line(0).text


# --- what is shown -------------------------------------------------------------------------------


async def test_all_that_a_node_tells_is_on_a_large_screen() -> None:
    source = made(3, holding=["training rests until 07:00"])
    async with shown(source, LARGE) as (app, pilot):
        await sees(
            app,
            pilot,
            *("run 'kitchen'  ● live  3 nodes: 3 training", "■ anna: training rests until 07:00"),
            *(column.title for column in COLUMNS),
            *("boris", "● training 0.890  0.510 1,010    11  0.500   1.50 1.0 MB 2.0 MB    2 s"),
            *("━ swarm's mean", "━ worst tenth", "━ nodes", "0.80┤", "now"),
            *("mean accuracy ~0.875", "consensus distance ~2.50", "nodes by accuracy"),
            *("staleness of exchanges, in cycles", ".25", "anna started"),
            "anna ← boris  mixed with weight 0.42",
        )


@pytest.mark.parametrize("size", [SMALL, USUAL, (109, 40)])
async def test_a_narrow_terminal_has_one_column(size: tuple[int, int]) -> None:
    async with shown(made(), size) as (app, _):
        panes = [app.query_one(f"#{name}").region for name in PANES]
        assert {region.x for region in panes} == {0}
        assert {region.width for region in panes} == {size[0] - 1}
        assert [region.y for region in panes] == sorted(region.y for region in panes)
        assert "nodes" in text(app)
        assert "accuracy" in text(app)


async def test_a_wide_terminal_has_two_columns_and_shows_all_panes() -> None:
    async with shown(made(), (110, 40)) as (app, _):
        panes = {name: app.query_one(f"#{name}").region for name in PANES}
        assert panes["swarm"].x > panes["nodes"].right - 2
        assert all(region.bottom <= 39 for region in panes.values())
        assert all(region.height >= 4 for region in panes.values())


async def test_the_screen_follows_the_size_of_the_terminal() -> None:
    async with shown(made(20), LARGE) as (app, pilot):
        for size in (SMALL, (200, 60), USUAL, (30, 8), LARGE):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            lines = text(app).splitlines()
            assert len(lines) == size[1]
            assert {width(line) for line in lines} == {size[0]}
            assert app.screen.has_class("wide") == (size[0] >= 110)
        assert "anna*" in text(app)


async def test_markup_in_a_name_is_text() -> None:
    rude = view(0, 2)
    rude["nodes"][1]["name"] = "[red]x[/]"
    rude["holding"] = ["[@click=app.quit]press[/]"]
    rude["timeline"][0] |= {"node": id_of(1), "detail": "[bold"}
    async with shown(made(**rude), LARGE) as (app, pilot):
        await sees(app, pilot, "[red]x[/]", "[@click=app.quit]press[/]", "[bold")


async def test_nothing_to_show_is_said_in_words() -> None:
    app = WatchApp(Made([]), Memory(), lambda: NOW)
    async with app.run_test(size=LARGE) as pilot:
        await sees(
            app,
            pilot,
            *("looking for nodes on this network", "no node yet"),
            *("no node has told an accuracy yet", "no estimate yet"),
            *("no exchange yet", "nothing yet", "none yet"),
        )


async def test_a_warning_is_shown_for_a_while() -> None:
    now = [NOW]
    async with shown(made(), clock=lambda: now[0]) as (app, pilot):
        app.warn("mDNS waits")
        now[0] += 1
        await sees(app, pilot, "mDNS waits")
        now[0] += 20
        await until(pilot, lambda: "mDNS waits" not in text(app))


async def test_what_is_logged_is_shown_and_kept_for_afterwards() -> None:
    async with shown(made()) as (app, pilot):
        kept = Kept(app)
        kept.handle(logging.makeLogRecord({"msg": "%s waits", "args": ("mDNS",), "levelno": 30}))
        kept.handle(logging.makeLogRecord({"msg": "a detail", "levelno": 20}))
        app._shown_at = 0.0
        await sees(app, pilot, "mDNS waits")
        assert "a detail" not in text(app)
    assert [record.getMessage() for record in kept.lines] == ["mDNS waits", "a detail"]


async def test_invented_members_stand_below_the_others_and_the_rest_is_one_figure() -> None:
    body = view(0, 3, unlisted=312)
    async with shown(made(nodes=heard_of(20) + body["nodes"], unlisted=312), LARGE) as (app, pilot):
        head = "3 nodes: 3 training, and 332 only heard of"
        await sees(app, pilot, head, "nodes and 312 more that were only heard of", "◌ heard of")
        assert names(app)[:4] == ["anna*", "boris", "chloe", "a-000"]
        await pilot.press("s", "s", "r")
        assert names(app)[:3] == ["anna*", "boris", "chloe"]


async def test_a_node_that_is_alone_is_told_so() -> None:
    alone = told(0, is_self=True, state="alone")
    async with shown(made(1, nodes=[alone]), LARGE) as (app, pilot):
        await sees(app, pilot, "no other node yet: these are this node's own figures")
        assert "worst tenth        ~" not in text(app)


# --- keys ----------------------------------------------------------------------------------------


async def test_every_column_can_be_sorted_by_either_way() -> None:
    body = view(0, 3)
    for place, entry in enumerate(body["nodes"]):
        for key in ("accuracy", "loss", "staleness", "distance"):
            entry[key] = (place + 1) / 10
        for key in ("age", "cycles", "bytes_in", "bytes_out"):
            entry[key] = 100 * (place + 1)
        entry["told_ago_s"] = float(place)
    body["nodes"][1]["state"], body["nodes"][2]["state"] = "suspect", "dead"
    async with shown(made(**body), LARGE) as (app, pilot):
        for column in COLUMNS:
            assert f"{column.title}▲" in head(app)
            assert names(app) == ["anna*", "boris", "chloe"]
            await pilot.press("r")
            assert f"{column.title}▼" in head(app)
            assert names(app) == ["chloe", "boris", "anna*"]
            await pilot.press("r", "s")
        assert "node▲" in head(app)
        await pilot.press("S")
        assert "told▲" in head(app)


async def test_the_column_that_is_sorted_by_is_seen_however_narrow_it_is() -> None:
    async with shown(made(), SMALL) as (app, pilot):
        assert "out" not in head(app)
        await pilot.press(*"sssssssss")
        assert "out▲" in head(app)


async def test_a_click_on_a_head_sorts_and_a_click_on_a_row_marks() -> None:
    async with shown(made(5), LARGE) as (app, pilot):
        table = app.query_one(NodeTable)
        column = head(app).index("acc") + 1
        await pilot.click(NodeTable, offset=(column + 1, 1))
        assert "acc▲" in head(app)
        assert names(app)[0] == name_of(4)
        await pilot.click(NodeTable, offset=(column + 1, 1))
        assert "acc▼" in head(app)
        await pilot.click(NodeTable, offset=(3, 3))
        assert table.marked == id_of(1)


async def test_rows_are_filtered_while_it_is_typed() -> None:
    async with shown(made(10), LARGE) as (app, pilot):
        await pilot.press("slash", *"qr")
        assert app.is_running
        assert names(app) == ["no"]
        await pilot.press("backspace", "backspace", *"GRETA")
        assert names(app) == ["greta"]
        await pilot.press("slash")
        assert app.query_one("#filter", Input).value == "GRETA/"
        await pilot.press("backspace", "enter")
        assert isinstance(app.focused, NodeTable)
        await sees(app, pilot, "1 of 10")
        await pilot.press("escape")
        assert len(names(app)) == 10
        assert not app.query_one("#filter", Input).display


async def test_tab_and_arrows_go_through_the_panes_and_show_each() -> None:
    async with shown(made(), SMALL) as (app, pilot):
        for key, back in (("tab", "shift+tab"), ("right", "left")):
            for name in PANES:
                assert app.focused is not None
                assert app.focused.id == name
                region = app.focused.region
                body = app.query_one("#body").region
                assert region.y >= body.y or region.height > body.height
                assert region.y < body.bottom
                await pilot.press(key)
                await pilot.pause()
            assert app.focused.id == PANES[0]
            await pilot.press(back)
            assert app.focused.id == PANES[-1]
            await pilot.press(key)


async def test_up_and_down_mark_a_node_and_its_curve_stands_out() -> None:
    async with shown(made(300), USUAL) as (app, pilot):
        table = app.query_one(NodeTable)
        assert "━ boris" not in text(app)
        await pilot.press("down")
        assert table.marked == id_of(1)
        assert "━ boris" in text(app)
        await pilot.press("end")
        last = names(app)[-1]
        assert table.marked is not None
        assert last == "node-99"
        await pilot.press("pageup", "home", "up")
        assert table.marked == id_of(0)
        assert names(app)[0] == "anna*"
        await pilot.press("pagedown")
        assert table.marked == id_of(table.scrollable_content_region.height - 2)
        # the mark stays with the node, wherever it goes
        marked = table.marked
        await pilot.press("r")
        assert table.marked == marked


async def test_all_about_a_node_is_shown_on_a_sheet() -> None:
    body = view(0, 3)
    body["nodes"][1] |= {"refusals": {"too far away": 12}, "holding": "rests until 07:00"}
    async with shown(made(**body), USUAL) as (app, pilot):
        await pilot.press("down", "enter")
        parts = (id_of(1), "too far away, 12 times", "rests until 07:00", "2 s ago by anna")
        await sees(app, pilot, *parts)
        await pilot.press("q")
        assert not isinstance(app.screen, Sheet)
        assert app.is_running


async def test_the_help_explains_keys_columns_and_states() -> None:
    async with shown(made(), (100, 50)) as (app, pilot):
        await pilot.press("question_mark")
        await sees(app, pilot, *(column.meaning for column in COLUMNS), "✕ dead")
        await pilot.press("question_mark")
        assert not isinstance(app.screen, Sheet)


@pytest.mark.parametrize(
    "keys",
    [["q"], ["ctrl+c"], ["tab", "q"], ["slash", "x", "ctrl+c"], ["question_mark", "ctrl+c"]],
)
async def test_it_quits_from_wherever_one_is(keys: list[str]) -> None:
    async with shown(made()) as (app, pilot):
        await pilot.press(*keys)
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


async def test_dark_and_light_have_both_a_picture() -> None:
    async with shown(made()) as (app, pilot):
        await pilot.press("d")
        assert app.theme == "textual-light"
        assert "anna*" in text(app)
        await pilot.press("d")
        assert app.theme == "textual-dark"


# --- over time -----------------------------------------------------------------------------------


async def test_a_node_that_is_gone_is_said_to_be_and_comes_back_with_its_past() -> None:
    swarm = Moving(6)
    node = Server(lambda: swarm.view(0), every_s=0.1)
    async with node.running():
        pass
    app = WatchApp(Nodes([node.address]), Memory())
    async with app.run_test(size=LARGE) as pilot:
        await until(pilot, lambda: "nothing runs there; trying again" in text(app))
        async with node.running():
            await until(pilot, lambda: "● live" in text(app))
            await until(pilot, lambda: "dora is dead: no answer for 5 s" in text(app))
        await until(pilot, lambda: "○ not live" in text(app))
        assert "is gone for" in text(app)
        assert "dora is dead: no answer for 5 s" in text(app)
        async with node.running():
            await until(pilot, lambda: "● live" in text(app))


async def test_several_nodes_are_one_picture() -> None:
    swarm = Moving(12)
    servers = [Server(lambda place=place: swarm.view(place)) for place in range(3)]  # type: ignore[misc]
    async with servers[0].running(), servers[1].running(), servers[2].running():
        app = WatchApp(Nodes([server.address for server in servers]), Memory())
        async with app.run_test(size=LARGE) as pilot:
            await until(pilot, lambda: "● 3 of 3 live" in text(app))
            await until(pilot, lambda: {"anna*", "boris*", "chloe*", "dora"} <= set(names(app)))
            await until(pilot, lambda: "(said by all)" in text(app))
            await sees(app, pilot, "at the 3 nodes")


async def test_a_swarm_of_hundreds_is_drawn_in_time() -> None:
    swarm = Moving(300)
    body = read_view(swarm.view(0))
    source = Made([Contact("h:1", "h:1", time.time(), Tie.LIVE), Said("h:1", time.time(), body)])
    async with shown(source, LARGE, time.time) as (app, pilot):
        began = time.perf_counter()
        for _ in range(5):
            app._show()
            await pilot.pause()
        each = (time.perf_counter() - began) / 5
        assert names(app)[:2] == ["anna*", "boris"]
        await sees(app, pilot, "24 of 300 nodes")
    # about a tenth of it on an idle core; between two pictures there is a second
    assert each < 1.0
