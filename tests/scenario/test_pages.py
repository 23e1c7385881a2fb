"""The page: complete, small, safe against what is written in scenarios, and alive in a browser."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.configuring import from_mapping
from p2pfl.scenario import pages
from p2pfl.scenario.page_config import lines
from p2pfl.scenario.page_drawing import evenly, packed
from p2pfl.scenario.page_figures import log_ticks, over_time
from p2pfl.scenario.page_marks import numbers
from p2pfl.scenario.page_topology import positions, topology
from p2pfl.scenario.pages import page, write_html
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import Mark, Trace
from p2pfl.scenario.verdicts import judged
from tests.scenario.traces import empty, made, made_marks, made_scenario, without_accuracy

EVIL = "<script>throw 1</script><img src=x onerror=alert(1)>\"'&amp;</pre>"
COMMAND = "p2pfl run made-up --seed 0"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def text_of(trace: Trace, command: str = COMMAND) -> str:
    return page(trace, judged(trace), command)


def drawings(text: str) -> list[dict[str, Any]]:
    match = re.search(r'<script type="application/json" id="drawings">(.*?)</script>', text)
    assert match is not None
    found: list[dict[str, Any]] = json.loads(match[1])
    return found


def without_scripts(text: str) -> str:
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)


# --- what it says -------------------------------------------------------------------------------


def test_the_page_says_who_ran_what_and_how_to_repeat_it() -> None:
    trace = made(notes=("a note",), deaths={"n07": "last words"})
    text = html.unescape(without_scripts(text_of(trace)))
    for expected in (
        *("made-up", "random-regular-4", "virtual", "FAILED", COMMAND, "9f86d081884c7d65"),
        *("a note", "n07", "last words", "partition of n1-n10", "worst tenth's accuracy"),
        *("≥ 0.9", "✓ held", "✗ MISSED", "74.1 kB/s", 'mode = "on-off"'),
    ):
        assert expected in text, expected


def test_every_figure_is_there_and_says_how_to_read_it() -> None:
    text = text_of(made())
    names = [one["name"] for one in drawings(text)]
    assert names == [
        *("accuracy", "distance", "liveness", "traffic", "staleness", "outcomes", "topology"),
    ]
    for name in names:
        figure = re.search(rf'<figure aria-labelledby="{name}-title">(.*?)</figure>', text)
        assert figure is not None
        assert re.search(r"<p>[A-Z][^<]{20,}\.</p>", figure[1])


def test_marks_are_drawn_over_all_figures_over_time() -> None:
    trace = made()
    for one in over_time(trace):
        assert len(one.layout["shapes"]) == len(trace.marks)
        assert [label["text"] for label in one.layout["annotations"]] == ["1", "2", "3", "4"]


def test_a_thousand_nodes_and_looks_stay_below_ten_megabytes(tmp_path: Path) -> None:
    trace = made(1000, 1000)
    write_html(trace, judged(trace), tmp_path / "a.html", command=COMMAND)
    assert (tmp_path / "a.html").stat().st_size < 8e6


def test_more_nodes_and_looks_than_fit_are_chosen_evenly() -> None:
    trace = made(1500, 1200)
    liveness = next(one for one in drawings(text_of(trace)) if one["name"] == "liveness")
    heat = liveness["data"][1]
    assert heat["z"]["shape"] == "1000, 1000"
    assert evenly(5, 9) == [0, 1, 2, 3, 4]
    assert evenly(1000, 3) == [0, 500, 999]
    assert evenly(1, 3) == [0]


@pytest.mark.parametrize(
    "trace",
    [empty(), made(1, 2, marks=()), without_accuracy(), made(1000, 20), made(outcomes={})],
    ids=["nobody looked", "one node", "nothing learnt", "many", "no exchanges"],
)
def test_a_page_is_written_of_any_trace(trace: Trace) -> None:
    assert text_of(trace).endswith("</html>\n")


# --- safe ---------------------------------------------------------------------------------------


def evil() -> Trace:
    scenario = made_scenario(description=EVIL, topology=EVIL, task={"name": EVIL})
    return made(
        scenario=scenario,
        marks=(*made_marks(20, 60.0), Mark(50.0, None, EVIL, (), "kill")),
        outcomes={EVIL: 3, "answered": 5},
        deaths={EVIL: EVIL},
        notes=(EVIL,),
        event_hash=EVIL[:16],
        engine=EVIL,
    )


def test_nothing_that_comes_from_outside_is_markup() -> None:
    text = text_of(evil(), EVIL)
    assert "<img" not in without_scripts(text)
    assert "throw 1" not in "".join(re.findall(r"<script>(.*?)</script>", text, re.DOTALL))
    bars = next(one for one in drawings(text) if one["name"] == "outcomes")
    assert bars["data"][0]["y"] == ["&lt;script&gt;throw 1&lt;/script…", "answered"]


def test_the_page_forbids_to_load_anything() -> None:
    text = text_of(made())
    assert "default-src 'none'" in text
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=", without_scripts(text))
    assert "showSendToCloud: false" in text


# --- colours ------------------------------------------------------------------------------------


CSS = (Path(pages.__file__).parent / "page.css").read_text()


def palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    return {
        name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})\b", block))
        for name, block in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_that_of_wcag_aa(theme: str) -> None:
    """WCAG 2.2, 1.4.3: text 4.5 to 1; 1.4.11: what is needed to understand a graphic 3 to 1."""
    colours = palettes()[theme]
    for text, behind in (
        *(("ink", "paper"), ("soft", "paper"), ("ink", "raised"), ("good", "paper")),
        *(("bad", "paper"), ("good", "good-paper"), ("bad", "bad-paper"), ("accent", "paper")),
        ("accent", "raised"),
    ):
        assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for graphic in ("first", "second", "fault", "event"):
        assert contrast(colours[graphic], colours["paper"]) >= 3, graphic
    for one, other in (("up", "down"), ("paused", "down"), ("up", "paused")):
        assert contrast(colours[one], colours[other]) >= 1.25, (one, other)


def test_every_colour_that_a_figure_names_is_in_both_palettes() -> None:
    named = set(re.findall(r'"@([a-z-]+)"', text_of(made())))
    assert {"ink", "up", "fault-span"} <= named
    for name in named:
        assert CSS.count(f"--{name}: ") == 2, name


# --- parts --------------------------------------------------------------------------------------


def test_numbers_of_marks_that_would_touch_share_a_label() -> None:
    marks = [Mark(at, None, "x") for at in (0.0, 10.0, 10.5, 11.0, 60.0)]
    assert numbers(marks, 100.0) == [(0.0, "1"), (10.0, "2–4"), (60.0, "5")]
    assert numbers([], 100.0) == []


def test_numbers_are_packed_and_gaps_kept() -> None:
    found = packed([1.0, np.nan, 1e300])
    assert found["dtype"] == "f4"
    values = np.frombuffer(base64.b64decode(found["bdata"]), "<f4")
    assert values[0] == 1
    assert np.isnan(values[1])


def test_a_logarithmic_axis_has_few_ticks_however_much_it_spans() -> None:
    for low, high in ((0.3, 5.0), (1e-12, 1e6), (1.0, 1.0), (1e-9, 1e-8)):
        assert 1 <= len(log_ticks(np.array([low, high]))["tickvals"]) <= 15
    assert log_ticks(np.array([np.nan, 0.0, np.inf]))["tickvals"] == []


def test_the_same_links_are_drawn_at_the_same_places() -> None:
    trace = made()
    np.testing.assert_array_equal(positions(20, trace.links), positions(20, trace.links))
    assert topology(trace) == topology(trace)


def test_neighbours_on_a_ring_are_drawn_beside_each_other() -> None:
    order = np.random.default_rng(0).permutation(30)
    links = tuple((int(a), int(b)) for a, b in zip(order, np.roll(order, 1), strict=True))
    places = positions(30, links)
    gaps = [np.linalg.norm(places[a] - places[b]) for a, b in links]
    assert max(gaps) == pytest.approx(2 * np.sin(np.pi / 30))


def test_the_configuration_without_defaults_is_toml_that_gives_the_scenario_again() -> None:
    scenario = made_scenario(
        description='a "quoted" \\ text\nin two lines',
        node={"gossip": {"codec": "int8"}, "train": {"momentum": 0.0}},
        network={"nodes": [{"who": ["n1-n3"], "latency_s": 0.1}], "fifo": False},
        churn={"events": [{"at": 3.0, "kill": 2}, {"at": 9.0, "start": ["n1", "n5-n8"]}]},
        faults={"events": [{"at": 3.0, "until": 5.0, "one_way": [["n1"], 0.3]}]},
        compute={"distribution": "factors", "factors": [1.0, 4.0]},
    )
    written = "\n".join(line.text for line in lines(scenario, everything=False))
    assert from_mapping(tomllib.loads(written), Scenario) == scenario
    whole = lines(scenario)
    tomllib.loads("\n".join(line.text for line in whole))
    assert [line.text for line in whole if line.text.startswith("codec")] == ['codec = "int8"']
    changed = {line.text for line in whole if line.changed}
    assert 'codec = "int8"' in changed
    assert "weight = 0.5" not in changed


# --- in a browser -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """What a page has become in a browser, and what was said on its console."""

    dom: str
    console: list[str]


def opened(path: Path, *flags: str) -> Opened:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *(f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=20000"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"),
        *(*flags, "--dump-dom", path.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Opened(done.stdout, re.findall(r"^.*:CONSOLE.*$", done.stderr, re.MULTILINE))


def test_the_check_for_errors_in_the_browser_finds_one(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<script>throw new Error('on purpose')</script>")
    assert any("on purpose" in said for said in opened(path).console)


@pytest.mark.parametrize(
    ("make", "theme"),
    [
        (made, "light"),
        (made, "dark"),
        (evil, "light"),
        (lambda: made(1000, 1000), "dark"),
        (without_accuracy, "light"),
        (empty, "dark"),
        (lambda: made(1, 2, marks=()), "light"),
    ],
    ids=["light", "dark", "evil", "thousand", "nothing learnt", "nobody looked", "one node"],
)
def test_all_figures_are_drawn_in_a_browser_without_a_complaint(
    make: Callable[[], Trace], theme: str, tmp_path: Path
) -> None:
    trace = make()
    path = tmp_path / "report.html"
    write_html(trace, judged(trace), path, command=EVIL)
    scheme = f"--blink-settings=preferredColorScheme={int(theme == 'light')}"
    found = opened(path, scheme, "--window-size=390,900")
    assert found.console == []
    count = len(drawings(path.read_text()))
    assert count >= 1
    assert f'data-drawn="{count}"' in found.dom
    body = without_scripts(found.dom)
    assert len(re.findall(r'<div class="plot js-plotly-plot"', body)) == count
    assert len(re.findall(r'<div class="[^"]*svg-container', body)) == count
    assert 'class="trace scatter' in body
    assert ('class="trace bars' in body) == bool(trace.staleness.sum())
    assert ('<g class="hm">' in body) == bool(len(trace.times))
    assert "Share chart" not in body
    assert "<img src=" not in body


def test_a_span_of_time_asked_for_by_keyboard_is_shown_in_all_figures(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    trace = made()
    write_html(trace, judged(trace), path, command=COMMAND)
    script = """<script>addEventListener("load", () => setTimeout(() => {
      const form = document.getElementById("span");
      form.elements.begin.value = 10; form.elements.end.value = 20; form.requestSubmit();
      setTimeout(() => {
        document.body.dataset.ranges = JSON.stringify(["accuracy", "distance", "liveness",
          "traffic"].map((id) => document.getElementById(id).layout.xaxis.range));
      }, 2000);
    }, 2000));</script></body>"""
    path.write_text(path.read_text().replace("</body>", script))
    found = opened(path)
    assert found.console == []
    ranges = re.search(r'data-ranges="([^"]*)"', found.dom)
    assert ranges is not None
    assert json.loads(html.unescape(ranges[1])) == [[10, 20]] * 4
