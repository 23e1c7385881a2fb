"""The page in a real browser: what it shows, that it goes on, for whom, what it withstands."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.page.mock import ASSETS, EVIL, Mock
from tests.page.visit import visit
from tests.page.world import World, trained

QUICK_S = 0.3
"""Between two views: a second in the contract, less here, so that tests need not wait."""
REFUSED = "Failed to load resource"
"""Chromium logs every refused connection; the page cannot keep it from that."""


def mock(world: World) -> Mock:
    return Mock(world, every_s=QUICK_S)


# --- it shows what is ---------------------------------------------------------------------------


def test_it_loads_and_says_who_and_what(browser: Any) -> None:
    with mock(trained(20)) as node, visit(browser, node) as seen:
        assert seen.text("h1") == "n01"
        assert "digits-at-home" in seen.text(".who")
        assert re.search(r"\d+ nodes", seen.text("#how-many"))
        assert "told within" in seen.text("#complete")
        for part in ("glance", "shapes", "details", "merges", "timeline", "others", "estimates"):
            assert seen.page.locator(f"#{part} > *").count() > 0, part
        assert seen.page.locator("#graph .node").count() == len(node.world.people)
        assert seen.text("#others").count("another") == 2
        assert "estimate over" in seen.text("#glance")
        assert "n01" in seen.page.title()


def test_updates_arrive(browser: Any) -> None:
    with mock(trained(3, seconds=20)) as node, visit(browser, node) as seen:
        before = [seen.text(f"#{part}") for part in ("glance", "details", "nodes-body")]
        merges = seen.page.locator("#merges li").count()
        seen.page.wait_for_function(
            "n => document.querySelectorAll('#merges li').length > n", arg=merges
        )
        seen.page.wait_for_function(
            "was => document.getElementById('nodes-body').textContent !== was", arg=before[2]
        )
        after = [seen.text(f"#{part}") for part in ("glance", "details", "nodes-body")]
        assert all(a != b for a, b in zip(before, after, strict=True))


def test_merges_say_why(browser: Any) -> None:
    with mock(trained(6)) as node, visit(browser, node) as seen:
        first = seen.text("#merges")
        for word in ("weight", "staleness", "distance", "mixed with weight", "taken", "asked"):
            assert word in first
        assert "no answer within 2.0 s" in first


def test_an_edge_lights_up_when_an_exchange_happens_and_fades(browser: Any) -> None:
    """The canvas has pixels of the accent's colour, and some seconds later none."""
    count = """() => {
      const canvas = document.querySelector("#lit");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let blue = 0;
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] > 60 && data[at + 2] > data[at] + 100) blue += 1;
      }
      return blue;
    }"""
    world = World(3)
    world.step(1.0)
    world.people[1].state = world.people[2].state = "suspect"  # nothing happens by itself
    with mock(world) as node, visit(browser, node, forgives="willReadFrequently") as seen:
        seen.page.wait_for_function(f"() => ({count})() === 0")
        peer = world.people[1]
        node.change(lambda world: world._exchange(world.me, peer))
        seen.page.wait_for_function(f"() => ({count})() > 50")
        seen.page.wait_for_function(f"() => ({count})() === 0")


def test_details_follow_the_pointer_and_stay_with_the_chosen(browser: Any) -> None:
    with mock(trained(6)) as node, visit(browser, node) as seen:
        label = f'.node[data-node="{node.world.people[1].id}"]'
        assert seen.text("#details-name") == "n01"
        seen.page.hover(f"{label} .reach")
        assert seen.text("#details-name") == "n02"
        seen.page.mouse.move(700, 20)
        seen.wait("details-name", "n01")
        seen.page.click(f"{label} .reach")
        seen.page.mouse.move(700, 20)
        seen.page.wait_for_selector(f'{label}[aria-pressed="true"]')
        assert seen.text("#details-name") == "n02"
        assert seen.page.locator("tr.is-chosen").get_attribute("data-node") in label


def test_what_is_held_back_stands_on_top_while_it_lasts(browser: Any) -> None:
    sentence = "training rests until 07:00 (quiet hours 22:00-07:00)"
    with mock(World(3)) as node, visit(browser, node) as seen:
        assert not seen.page.is_visible("#holding")
        node.change(lambda world: world.holding.append(sentence))
        seen.wait("holding-list", sentence)
        assert seen.page.is_visible("#holding")
        node.change(lambda world: world.holding.clear())
        seen.page.wait_for_selector("#holding", state="hidden")


def test_every_refusal_has_its_reason_in_the_table(browser: Any) -> None:
    world = World(3)
    world.people[1].refusals = {"run": 3, "distance": 12}
    world.people[2].suspended = {"clip": 6}
    with mock(world) as node, visit(browser, node) as seen:
        seen.wait("nodes-body", "refused: distance ×12, run ×3")
        seen.wait("nodes-body", "suspended: clip ×6")


# --- sorting and finding ------------------------------------------------------------------------


def names(seen: Any) -> list[str]:
    return list(seen.texts("#nodes-body .name"))


def numbers(seen: Any, column: int) -> list[float]:
    cells = seen.texts(f"#nodes-body td:nth-child({column})")
    return [float(text.replace(",", "")) for text in cells if text != "–"]


def test_the_table_sorts_by_a_click_and_back(browser: Any) -> None:
    with mock(trained(20)) as node, visit(browser, node) as seen:
        head = seen.page.locator("#nodes-head th")
        assert head.nth(0).get_attribute("aria-sort") == "ascending"
        assert names(seen)[1:4] == ["n01", "n02", "n03"]
        seen.page.click("#nodes-head >> text=Accuracy")
        assert head.nth(2).get_attribute("aria-sort") == "descending"
        assert head.nth(0).get_attribute("aria-sort") == "none"
        assert numbers(seen, 3) == sorted(numbers(seen, 3), reverse=True)
        seen.page.click("#nodes-head >> text=Accuracy")
        assert head.nth(2).get_attribute("aria-sort") == "ascending"
        assert numbers(seen, 3) == sorted(numbers(seen, 3))


def test_the_table_sorts_by_the_keyboard(browser: Any) -> None:
    with mock(trained(6)) as node, visit(browser, node) as seen:
        seen.page.focus("#filter")
        for _ in range(6):
            seen.page.keyboard.press("Tab")
        assert seen.tell("document.activeElement.textContent") == "Own steps"
        seen.page.keyboard.press("Enter")
        assert seen.page.locator('th[aria-sort="descending"]').text_content() == "Own steps"
        assert numbers(seen, 6) == sorted(numbers(seen, 6), reverse=True)


def test_every_column_sorts_and_what_is_not_known_stands_last(browser: Any) -> None:
    with mock(trained(8)) as node, visit(browser, node) as seen:
        nameless = node.world.people[-1].id
        for at in range(2, 14):
            for _ in range(2):
                seen.page.locator("#nodes-head button").nth(at).click()
                cells = seen.texts(f"#nodes-body td:nth-child({at + 1})")
                known = [text in ("–", "never") for text in cells]
                assert known == sorted(known), (at, cells)
        seen.page.click("#nodes-head >> text=Remarks")
        first = seen.page.locator("#nodes-body tr").first
        assert first.get_attribute("data-node") != nameless
        assert "refused" in str(first.text_content())


def test_invented_members_stand_last_and_the_rest_is_one_figure(browser: Any) -> None:
    world = trained(3)
    world.invent(20, unlisted=312)
    with mock(world) as node, visit(browser, node) as seen:
        seen.wait("unlisted", "and 312 more that were only heard of")
        assert seen.text("#how-many") == "3 nodes, 332 only heard of"
        assert seen.page.title().startswith("n01 · 3 nodes")
        assert "of 3 told within" in seen.text("#complete")
        assert seen.texts("#glance dd")[0].startswith("3")
        assert seen.page.locator("#graph .node").count() == 23
        assert [names(seen)[at] for at in (0, 1, 2, 3)] == ["n01", "n02", "n03", "a00"]
        assert seen.text("#nodes-body tr:nth-child(4) td:nth-child(2)") == "only heard of"
        assert re.search(r"only heard of 20\b", seen.text("#shapes"))
        # the scale of colours is that of nodes that spoke
        assert float(seen.text("#scale-low").split()[0]) > 0.05
        for title in ("Node", "State", "Accuracy"):
            for _ in range(2):
                seen.page.click(f"#nodes-head button:text-is('{title}')")
                assert set(names(seen)[:3]) == {"n01", "n02", "n03"}
        node.change(lambda world: setattr(world, "unlisted", 0))
        seen.page.wait_for_function("() => !document.getElementById('unlisted').textContent")


def test_finding_narrows_the_table(browser: Any) -> None:
    with mock(trained(20)) as node, visit(browser, node) as seen:
        seen.page.fill("#filter", "quiet hours")
        assert names(seen) == ["n05"]
        assert seen.text("#nodes-found") == f"1 of {len(node.world.people)}"
        seen.page.fill("#filter", "")
        assert len(names(seen)) == len(node.world.people)


# --- it goes on ---------------------------------------------------------------------------------


def test_a_death_is_shown_within_five_seconds(browser: Any) -> None:
    with Mock(trained(4, seconds=20)) as node, visit(browser, node) as seen:
        victim = node.world.people[2]
        assert seen.page.locator("#shapes .is-dead b").text_content() == "0"
        began = time.monotonic()
        node.change(lambda world: world.kill(victim))
        seen.page.wait_for_selector(f'.node.is-dead[data-node="{victim.id}"]')
        seen.page.wait_for_selector(f'tr[data-state="dead"][data-node="{victim.id}"]')
        assert time.monotonic() - began < 5
        seen.wait("timeline", "n03 dead no answer to 3 indirect probes")
        assert seen.page.locator("#shapes .is-dead b").text_content() == "1"


def test_the_page_survives_a_restart_of_its_node_with_all_it_knew(browser: Any) -> None:
    with (
        mock(trained(6, seconds=60)) as node,
        visit(browser, node, forgives=REFUSED) as seen,
    ):
        oldest = seen.texts("#timeline li div")[-1]
        merges = len(seen.texts("#merges li"))
        began = time.monotonic()
        node.stop()
        seen.wait("state", "the node is gone: trying again")
        assert time.monotonic() - began < 5
        assert "since" in seen.text("#since")
        assert "gone" in seen.page.title()
        assert names(seen), "what was known stays to be read"
        node.start()
        seen.wait("state", "live")
        seen.wait("facts", "start 4")
        seen.wait("timeline", "start 4, from its checkpoint")
        assert seen.texts("#timeline li div")[-1] == oldest
        assert len(seen.texts("#merges li")) >= merges
        for name in ("accuracy", "distance", "traffic"):
            label = seen.page.locator(f"#figure-{name} canvas").get_attribute("aria-label")
            assert "This node restarted at" in str(label)
        # the curve goes back to before the restart: its first stop is older than the node's start
        seen.page.focus("#figure-accuracy canvas")
        seen.page.keyboard.press("Home")
        clock = seen.text("#figure-accuracy output").split(": ")[0]
        started = seen.tell(f"new Date({node.world.started * 1000}).toLocaleTimeString('en-GB')")
        assert clock < started


def test_a_node_that_falls_silent_without_a_goodbye_is_gone_too(browser: Any) -> None:
    with mock(World(3)) as node, visit(browser, node) as seen:
        node.silence(True)
        seen.wait("state", "the node is gone: trying again")
        seen.wait("why", "fell silent")
        node.silence(False)
        seen.wait("state", "live")


def test_who_is_no_longer_let_in_reads_what_the_node_says_and_keeps_what_was_known(
    browser: Any,
) -> None:
    with mock(World(3)) as node, visit(browser, node, forgives=REFUSED) as seen:
        node.refuse(403)
        seen.wait("locked-why", f"the node says {EVIL}")
        assert seen.page.is_visible("#locked")
        assert "closed" in seen.text("#state")
        assert "closed" in seen.page.title()
        assert names(seen), "what was known stays to be read"
        node.refuse(None)
        seen.page.reload()
        seen.wait("state", "live")
        assert not seen.page.is_visible("#locked")


def test_whatever_else_the_node_answers_is_said_and_asked_again(browser: Any) -> None:
    with mock(World(3)) as node, visit(browser, node, forgives=REFUSED) as seen:
        node.refuse(500)
        seen.wait("state", "the node refuses this page")
        seen.wait("why", "it answers 500")
        node.refuse(None)
        seen.wait("state", "live")


def test_without_a_free_stream_the_page_asks_for_views(browser: Any) -> None:
    with mock(World(3)) as node, visit(browser, node, forgives=REFUSED) as seen:
        node.refuse(503, is_crowded=True)
        seen.wait("why", "too many pages are open")
        assert seen.text("#state") == "live"
        node.change(lambda world: world.join("late"))
        seen.wait("nodes-body", "late")
        node.refuse(None)
        seen.page.wait_for_function("() => document.getElementById('why').textContent === ''")


def test_a_node_of_another_format_is_told_so(browser: Any) -> None:
    with mock(World(3)) as node, visit(browser, node) as seen:
        node.edit(lambda view: view | {"format": 2})
        seen.wait("why", "reload the page")


def test_another_run_at_the_same_address_begins_anew(browser: Any) -> None:
    with mock(World(3)) as node, visit(browser, node) as seen:
        node.edit(lambda view: view | {"run": "another", "timeline": [], "merges": []})
        seen.wait("run", "another")
        seen.page.wait_for_selector("#no-timeline", state="visible")
        assert seen.texts("#timeline li") == []


# --- whatever is missing ------------------------------------------------------------------------


def test_nothing_known_is_said_in_words(browser: Any) -> None:
    bare: dict[str, Any] = {
        **dict.fromkeys(("swarm", "staleness", "rates", "links", "merges", "timeline", "curves")),
        "nodes": [],
        "others": {},
        "holding": [],
    }
    with mock(World(1)) as node:
        node.edit(lambda view: view | bare)
        with visit(browser, node) as seen:
            seen.wait("glance", "no estimate yet")
            assert seen.page.is_visible("#no-nodes")
            assert "p2pfl node" in seen.text("#no-nodes")
            for name in ("accuracy", "distance", "events", "staleness", "histogram"):
                assert seen.page.is_visible(f"#figure-{name} .empty"), name
            for name in ("no-merges", "no-timeline", "no-others"):
                assert seen.page.is_visible(f"#{name}"), name
            assert "NaN" not in seen.text("main") + seen.text("header")


def test_a_lonely_node_reads_how_to_get_company(browser: Any) -> None:
    with mock(trained(1, seconds=20)) as node, visit(browser, node) as seen:
        assert "No other node yet" in seen.text("#no-nodes")
        assert seen.page.is_visible("#no-nodes")
        seen.wait("glance", "no other node yet: its own")
        seen.wait("estimates", "no other node yet")
        assert "estimate over" not in seen.text("#glance")
        # nor are those any company that nobody ever spoke to, or that are gone
        node.change(lambda world: world.invent(2))
        seen.wait("how-many", "1 node, 2 only heard of")
        assert "no other node yet: its own" in seen.text("#glance")
        node.change(lambda world: world.kill(world.join()))
        seen.wait("glance", "all others are gone")
        assert "no other node yet" not in seen.text("main")


def test_where_nobody_trains_the_glance_says_what_they_do(browser: Any) -> None:
    world = trained(3, seconds=20)
    for person, state in zip(world.people, ("holding", "holding", "leaving"), strict=True):
        person.state = state
    with mock(world) as node, visit(browser, node) as seen:
        seen.wait("glance", "2 holding")
        assert "0 training" not in seen.text("#glance")
        node.change(lambda world: world.join())
        seen.page.wait_for_selector("#no-nodes", state="hidden")


def test_every_figure_may_be_missing(browser: Any) -> None:
    figures = (
        *("age", "own_steps", "cycles", "cycle_s", "loss", "accuracy", "staleness", "distance"),
        *("bytes_in", "bytes_out", "told_ago_s", "heard_ago_s", "name"),
    )

    def without(view: dict[str, Any]) -> dict[str, Any]:
        nodes = [one | dict.fromkeys(figures) for one in view["nodes"]]
        swarm = dict.fromkeys(view["swarm"]) | {"histogram": view["swarm"]["histogram"]}
        return view | {"nodes": nodes, "swarm": swarm}

    with mock(trained(6)) as node:
        node.edit(without)
        with visit(browser, node) as seen:
            seen.wait("nodes-body", "never")
            texts = seen.text("body")
            for wrong in ("NaN", "undefined", "null", "Infinity"):
                assert wrong not in texts


# --- who can use it -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 20, 300])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, count: int) -> None:
    world = trained(count, seconds=30)
    world.people[-1].name = "a" * 64
    world.people[-1].holding = "b" * 160
    world.others["192.168.1.200:4000"] = "c" * 160
    world.happen("refused", None, "d" * 160)
    with mock(world) as node, visit(browser, node, width=360, height=740) as seen:
        seen.page.wait_for_selector("#nodes-body tr")
        wide = seen.tell("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(wide) <= 360
        clipped = seen.tell(
            "[...document.querySelectorAll('main *')].filter(e => !e.closest('svg') &&"
            " e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"
        )
        assert clipped == []


@pytest.mark.parametrize("width", [600, 800, 1024, 1280, 1920])
def test_no_width_needs_sideways_scrolling(browser: Any, width: int) -> None:
    with mock(trained(20)) as node, visit(browser, node, width=width) as seen:
        seen.page.wait_for_selector("#nodes-body tr")
        assert seen.tell("document.documentElement.scrollWidth") <= width


def test_dark_follows_the_system_and_the_choice_is_remembered(browser: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(13, 17, 21)", "rgb(244, 245, 247)"
    with mock(World(3)) as node:
        with visit(browser, node, color_scheme="dark") as seen:
            assert seen.tell(paper) == dark
            seen.page.emulate_media(color_scheme="light")
            seen.page.wait_for_selector(':root[data-theme="light"]')
            assert seen.tell(paper) == light
        with visit(browser, node, color_scheme="light") as seen:
            assert seen.text("#theme") == "Theme: auto"
            seen.page.click("#theme")
            seen.page.click("#theme")
            assert seen.text("#theme") == "Theme: dark"
            assert seen.tell(paper) == dark
            seen.page.reload()
            assert seen.text("#theme") == "Theme: dark"
            assert seen.tell(paper) == dark


CONTRASTS = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) =>
      c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = parts(getComputedStyle(node).backgroundColor);
      if (a === 1) return [r, g, b];
    }
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("svg")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parts(style.color).slice(0, 3)), light(paper(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (ratio < 4.5) low.push([walker.currentNode.data, style.color, ratio]);
  }
  return [count, low];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_on_the_page_can_be_read(browser: Any, scheme: str) -> None:
    world = trained(20)
    world.holding = ["training rests"]
    with mock(world) as node, visit(browser, node, color_scheme=scheme) as seen:
        seen.page.locator("#nodes-body .name").nth(4).click()
        count, low = seen.tell(f"({CONTRASTS})()")
        assert count > 300
        assert low == []


def test_the_graph_is_one_stop_and_arrows_go_around(browser: Any) -> None:
    with mock(trained(6)) as node, visit(browser, node) as seen:
        seen.page.focus("#theme")
        seen.page.keyboard.press("Tab")
        focused = "document.activeElement.dataset.node"
        assert seen.tell(focused) == node.world.me.id
        assert seen.tell("document.activeElement.getAttribute('aria-label')").startswith(
            "n01 (this node): "
        )
        ids = sorted(person.id for person in node.world.people)
        after = ids[(ids.index(node.world.me.id) + 1) % len(ids)]
        seen.page.keyboard.press("ArrowRight")
        assert seen.tell(focused) == after
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector(f'.node[aria-pressed="true"][data-node="{after}"]')
        seen.page.keyboard.press("ArrowLeft")
        assert seen.tell(focused) == node.world.me.id
        halo = "getComputedStyle(document.activeElement.querySelector('.halo'))"
        assert seen.tell(f"{halo}.strokeWidth") == "4px"
        seen.page.keyboard.press("Tab")
        assert seen.tell("document.activeElement.id") == "window"


def test_figures_are_read_by_the_keyboard(browser: Any) -> None:
    with mock(trained(6)) as node, visit(browser, node) as seen:
        for name, expected in (
            ("accuracy", r"^\d\d:\d\d:\d\d: mean 0\.\d{3}, worst tenth 0\.\d{3}$"),
            ("distance", r"^\d\d:\d\d:\d\d: [\d.]+$"),
            ("staleness", r"^32 or more cycles: \d+$"),
            ("histogram", r"^0\.95 to 1: [\d.]+ % of nodes$"),
            ("events", r"^\d\d:\d\d:\d\d: .+"),
        ):
            seen.page.focus(f"#figure-{name} canvas")
            seen.page.keyboard.press("End")
            assert re.match(expected, seen.text(f"#figure-{name} output")), name
            before = seen.text(f"#figure-{name} output")
            seen.page.keyboard.press("Home")
            assert seen.text(f"#figure-{name} output") != before
            seen.page.keyboard.press("ArrowRight")
            seen.page.keyboard.press("ArrowLeft")
            seen.page.keyboard.press("Escape")
            assert seen.text(f"#figure-{name} output") == ""


def test_the_structure_is_told_to_those_who_do_not_see_it(browser: Any) -> None:
    with mock(trained(6)) as node, visit(browser, node) as seen:
        for landmark in ("banner", "main", "contentinfo", "complementary", "table"):
            assert seen.page.get_by_role(landmark).count() == 1, landmark
        assert seen.tell("document.querySelectorAll('h1').length") == 1
        nameless = seen.tell(
            "[...document.querySelectorAll('[role=img], section, input, select, button')]"
            ".filter(e => !e.ariaLabel && !e.getAttribute('aria-labelledby') && !e.labels?.length"
            " && !e.textContent.trim()).map(e => e.outerHTML)"
        )
        assert nameless == []
        twice = seen.tell(
            "[...document.querySelectorAll('[id]')].map(e => e.id)"
            ".filter((id, at, all) => all.indexOf(id) !== at)"
        )
        assert twice == []
        referred = seen.tell(
            "[...document.querySelectorAll('[aria-labelledby]')]"
            ".filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))).length"
        )
        assert referred == 0
        # only the state of the connection is read aloud, and not how long it lasts
        live = seen.tell(
            "[...document.querySelectorAll('[role=status], [aria-live]')].map(e => e.id)"
        )
        assert live == ["state"]


def test_who_wants_no_motion_gets_none(browser: Any) -> None:
    count = (
        "new Promise(done => { let n = 0; const ask = requestAnimationFrame;"
        " window.requestAnimationFrame = (f) => { n += 1; return ask(f); };"
        " setTimeout(() => done(n), 2000); })"
    )
    with mock(trained(20)) as node, visit(browser, node, reduced_motion="reduce") as seen:
        assert seen.tell("document.getAnimations().length") == 0
        assert seen.tell(count) < 60  # with motion every frame asks for the next
        assert seen.tell("document.getAnimations().length") == 0


# --- what strangers may do ----------------------------------------------------------------------


def test_what_strangers_write_stays_text(browser: Any) -> None:
    world = trained(6)
    world.people[1].name = EVIL
    world.people[2].name = "\u202eevil"
    world.people[3].holding = EVIL
    world.people[4].refusals = {EVIL: 2, "__proto__": 1}
    world.people[5].state = EVIL
    world.others[EVIL] = EVIL
    world.holding = [EVIL]
    with mock(world) as node:
        node.edit(lambda view: view | {"run": EVIL, "trust": EVIL, "topology": EVIL})
        with visit(browser, node) as seen:
            node.change(lambda world: world.happen(EVIL, world.people[1], EVIL))
            seen.wait("timeline", EVIL)
            seen.wait("nodes-body", EVIL)
            for part in ("run", "facts", "others", "holding-list", "nodes-body"):
                assert EVIL in seen.text(f"#{part}"), part
            assert seen.page.locator("img, iframe, object, embed, form").count() == 0
            assert seen.page.locator("script").count() == 2
            seen.page.click(f'.node[data-node="{world.people[1].id}"] .reach')
            seen.wait("details-name", EVIL)


def test_the_page_has_no_inline_code_and_asks_nobody_else(browser: Any) -> None:
    html = (ASSETS / "index.html").read_text()
    assert not re.findall(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=|javascript:", html)
    for path in ASSETS.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"https?://|//cdn|@import", text), path.name
    for path in ASSETS.glob("*.js"):
        text = path.read_text()
        words = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
        assert not re.findall(words, text), path.name


# --- three hundred ------------------------------------------------------------------------------


def test_three_hundred_nodes_are_all_there_and_apart(browser: Any) -> None:
    with Mock(trained(300)) as node, visit(browser, node) as seen:
        assert seen.page.locator("#graph .node").count() == len(node.world.people)
        places = seen.tell(
            "[...document.querySelectorAll('#graph .node')].map(e => "
            "e.getAttribute('transform').match(/[\\d.]+/g).map(Number))"
        )
        apart = min(
            (x - p) ** 2 + (y - q) ** 2 for at, (x, y) in enumerate(places) for p, q in places[:at]
        )
        assert apart**0.5 > 10
        assert seen.page.locator("#nodes-body tr").count() == 25
        seen.page.click("#more")
        assert seen.page.locator("#nodes-body tr").count() == len(node.world.people)


def test_three_hundred_nodes_leave_the_processor_alone(browser: Any) -> None:
    """The page's own thread works less than half of the time, on one slow core, in software."""
    with Mock(trained(300)) as node, visit(browser, node) as seen:
        session = seen.page.context.new_cdp_session(seen.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy_s() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

        began, before = time.monotonic(), busy_s()
        seen.page.wait_for_timeout(5000)
        assert (busy_s() - before) / (time.monotonic() - began) < 0.5


def test_nodes_that_stay_keep_their_places_in_order(browser: Any) -> None:
    with mock(trained(20)) as node, visit(browser, node) as seen:
        order = "[...document.querySelectorAll('#graph .node')].map(e => e.dataset.node)"
        before = seen.tell(order)
        newcomer = "f" * 16
        node.change(lambda world: setattr(world.join("late"), "id", newcomer))
        seen.page.wait_for_selector(f'.node[data-node="{newcomer}"]')
        assert [one for one in seen.tell(order) if one != newcomer] == before
