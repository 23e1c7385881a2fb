"""The modules of the page one by one, where a picture would not show a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.page.mock import Mock
from tests.page.visit import Visit, visit
from tests.page.world import World


@pytest.fixture(scope="module")
def modules(browser: Any) -> Iterator[Visit]:
    with Mock(World(2)) as node, visit(browser, node) as seen:
        yield seen


def call(modules: Visit, module: str, code: str, *given: Any) -> Any:
    """What `code` gives; `m` is the module, `a` what is given."""
    return modules.page.evaluate(
        f"async (a) => {{ const m = await import('/assets/{module}.js'); return ({code}); }}",
        list(given),
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("[m.accuracy, m.count, m.figure, m.volume, m.rate, m.span, m.ago].map(w => w(null))", "–"),
        ("[m.accuracy, m.count, m.figure, m.volume, m.span, m.ago].map(w => w(NaN))", "–"),
        ("[0, 999, 1000, 38412, 1.5e6, 2e9, 3e12].map(m.volume)", None),
    ],
)
def test_what_is_not_known_is_a_dash_and_bytes_have_units(
    modules: Visit, code: str, expected: str | None
) -> None:
    found = call(modules, "words", code)
    if expected is not None:
        assert set(found) == {expected}
    else:
        assert found == ["0 B", "999 B", "1.00 kB", "38.4 kB", "1.50 MB", "2.00 GB", "3.00 TB"]


def test_spans_and_ages_are_short(modules: Visit) -> None:
    spans = call(modules, "words", "[0, 0.004, 0.15, 2.34, 59, 600, 7200, 9e5].map(m.span)")
    assert spans == ["0 s", "4 ms", "0.15 s", "2.3 s", "59 s", "10 min", "2 h", "10 d"]
    assert call(modules, "words", "[0.4, 3.9, 125].map(m.ago)") == ["now", "3 s ago", "2 min ago"]


def test_reasons_are_counted_the_most_frequent_first(modules: Visit) -> None:
    reasons = {"busy": 1, "distance": 4}
    assert call(modules, "words", "m.counts(a[0])", reasons) == "distance ×4, busy"
    assert call(modules, "words", "m.counts(null)") == ""


def test_a_curve_takes_new_points_and_a_second_telling_adds_nothing(modules: Visit) -> None:
    old, new = [[1, 0.1], [2, 0.2], [3, 0.3]], [[2, 0.25], [3, 0.3], [4, 0.4]]
    code = "m.appended(m.appended([], a[0]), a[1])"
    assert call(modules, "state", code, old, new) == [[1, 0.1], *new]
    assert call(modules, "state", code, old, []) == old


def test_a_curve_is_bounded_and_keeps_its_beginning_and_its_end(modules: Visit) -> None:
    code = """(() => {
      let curve = [];
      for (let at = 0; at < 5000; at += 1) curve = m.appended(curve, [[at]]);
      return curve;
    })()"""
    points = [point[0] for point in call(modules, "state", code)]
    assert len(points) <= 800
    assert points == sorted(set(points))
    assert (points[0], points[-1]) == (0, 4999)


def test_events_are_kept_once_newest_first_and_bounded(modules: Visit) -> None:
    code = """(() => {
      const s = new m.Swarm();
      for (let at = 0; at < 500; at += 1) s.note("timeline", { at, kind: "joined", node: "a" });
      const again = s.note("timeline", { at: 499, kind: "joined", node: "a" });
      s.note("timeline", { at: 450.5, kind: "dead", node: "a" });
      return [again, s.timeline.map((one) => one.at)];
    })()"""
    again, times = call(modules, "state", code)
    assert not again
    assert times == sorted(times, reverse=True)
    assert len(times) == 200
    assert 450.5 in times


def test_links_of_the_last_minute_only_and_hearsay_lights_nothing_twice(modules: Visit) -> None:
    code = """(() => {
      const s = new m.Swarm();
      const view = (at, ago_s) => ({ at, node: "a", run: "r", incarnation: 1, uptime_s: at,
        nodes: [], links: [{ a: "a", b: "b", ago_s }] });
      const seen = [];
      for (const [at, ago_s] of [[100, 30], [101, 0.5], [102, 1.7], [170, 69.5]]) {
        s.take(view(at, ago_s));
        seen.push([...s.links.values()].map((link) => [link.at, link.lit > 0])[0] ?? null);
      }
      return seen;
    })()"""
    assert call(modules, "state", code) == [[70, False], [100.5, True], [100.5, True], None]


def test_an_attempt_that_failed_leaves_no_edge(modules: Visit) -> None:
    code = """(() => {
      const s = new m.Swarm();
      const view = (at) => ({ at, node: "a", run: "r", incarnation: 1, uptime_s: at, nodes: [] });
      s.take(view(100));
      const merge = { at: 100.5, peer: "b", role: "asked", outcome: "timeout", is_accepted: false };
      s.merge(merge);
      s.merge({ ...merge, at: 100.6, peer: "c", outcome: "busy" });
      const soon = [...s.links.values()].map((link) => [link.b, link.is_good]);
      s.take(view(105));
      return [soon, s.links.size];
    })()"""
    assert call(modules, "state", code) == [[["b", False]], 0]


def test_two_nodes_of_one_name_are_told_apart(modules: Visit) -> None:
    code = """(() => {
      const s = new m.Swarm();
      const names = { aaaaaa: "pi", bbbbbb: "pi", c: "x" };
      s.call(Object.entries(names).map(([node, name]) => ({ node, name })));
      return ["aaaaaa", "bbbbbb", "c", "dddddddddd"].map((id) => s.nameOf(id));
    })()"""
    assert call(modules, "state", code) == ["pi aaaa", "pi bbbb", "x", "dddddddd"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.6, 1), (0, 1e-6), (0, 3.7), (0, 52_000), (-0.6, 4.6), (5, 5)]
)
def test_marks_of_an_axis_are_few_even_and_inside(modules: Visit, low: float, high: float) -> None:
    found = call(modules, "axes", "m.ticks(a[0], a[1], 5)", low, high)
    values = [value for value, _ in found]
    assert len(values) <= 8
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    assert len({text for _, text in found}) == len(found)


@pytest.mark.parametrize("span", [30, 300, 3600, 86_400, 864_000])
def test_times_of_day_are_whole_and_inside(modules: Visit, span: int) -> None:
    begin = 1_732_000_123.4
    found = call(modules, "axes", "m.timeTicks(a[0], a[1], 6)", begin, begin + span)
    assert 1 <= len(found) <= 11
    assert all(begin <= at <= begin + span for at, _ in found)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 20, 60, 61, 150, 299, 300])
@pytest.mark.parametrize(("width", "height"), [(800, 480), (330, 352)])
def test_nodes_stand_inside_the_picture_and_apart(
    modules: Visit, count: int, width: int, height: int
) -> None:
    plan = call(modules, "layout", "m.places(...a, 24)", count, width, height)
    places = [(place["x"], place["y"]) for place in plan["places"]]
    assert len(places) == count
    radius = plan["radius"]
    assert all(radius < x < width - radius and radius < y < height - radius for x, y in places)
    apart = [
        ((x - p) ** 2 + (y - q) ** 2) ** 0.5
        for at, (x, y) in enumerate(places)
        for p, q in places[:at]
    ]
    assert not apart or min(apart) > 1.5 * radius


def test_the_scale_begins_where_most_nodes_are_and_does_not_flicker(modules: Visit) -> None:
    def low(values: Sequence[float | None], before: float) -> Any:
        return call(modules, "colours", "m.lowOf(a[0], a[1])", values, before)

    assert low([], 0.5) == 0.5
    assert low([None, 0.3], 0) == 0
    assert low([0.95] * 19 + [0.1], 0) == 0.9, "one laggard does not stretch it"
    assert low([0.91] * 20, 0.8) == 0.8
    assert low([0.91] * 20, 0.9) == 0.9
    assert low([0.4] * 20, 0.9) == 0
    assert call(modules, "colours", "m.ofAccuracy(null, 0)") is None
    assert call(modules, "colours", "m.ofAccuracy(2, 0) === m.ofAccuracy(1, 0)")
