"""What a viewer sees: it fits the terminal, and it says what happened."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from p2pfl.scenario.display import (
    WIDE,
    PlainShow,
    QuietShow,
    line,
    screen,
    show_on,
    spark,
    volume,
)
from p2pfl.scenario.record import Happening, What
from p2pfl.scenario.scene import Mood, Row, Scene
from p2pfl.scenario.watching import Together
from tests.scenario.made import made_look, made_plan

BIG = replace(
    made_look(),
    age=1_999_999,
    exchanges=99_999,
    bytes_in=999_400_000,
    bytes_out=999_400_000,
    staleness=99.99,
)


def made_scene(at: float | None = 12.0) -> Scene:
    plan = made_plan(nodes=5, seconds=45.0)
    rows = (
        Row("node-1", "training", Mood.GOOD, BIG, tuple(i / 99 for i in range(100)), answers=True),
        Row("node-2", "restarting", Mood.BUSY, made_look("node-2"), (0.1, 0.5)),
        Row("node-3", "frozen", Mood.BAD, made_look("node-3", accuracy=None)),
        Row("node-6", "waiting", Mood.QUIET, None),
    )
    happenings = (
        Happening(-4.0, "", What.STARTS, "5 nodes start"),
        Happening(6.8, "node-2", What.KILLED, "node-2 is killed (SIGKILL)"),
        Happening(9.0, "node-5", What.DIED, "node-5 ended by itself:\n" + "x" * 300),
    )
    swarm = Together(12.0, 4, 0.912, 0.874, 0.1234) if at is not None else None
    return Scene(plan, at, swarm, rows, happenings, plan.steps[1], distance_ago_s=0.64)


ADDRESS = "127.0.0.1:54321"


def drawn(scene: Scene, width: int, height: int = 50) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    with console.capture() as captured:
        console.print(screen(scene, width))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [80, 81, 100, WIDE - 1, WIDE, 160, 240])
@pytest.mark.parametrize("at", [None, 0.0, 12.0, 46.0])
def test_nothing_is_cut_off_in_eighty_columns_or_more(width: int, at: float | None) -> None:
    lines = drawn(made_scene(at), width)
    assert max(map(len, lines)) <= width
    (header,) = [text for text in lines if text.split()[:2] == ["node", "state"]]
    (row,) = [text for text in lines if text.lstrip().startswith("node-1")]
    assert header.split()[-2:] == ["in", "out"]
    for cell in ("node-1", "training", "1,999,999", "0.950", "99,999", "99.99", "999 MB"):
        assert cell in row


def test_eighty_columns_and_twenty_four_lines_show_six_nodes() -> None:
    scene = made_scene()
    six = (*scene.rows, scene.rows[0], scene.rows[1])
    assert len(drawn(replace(scene, rows=six), 80)) < 24


def test_the_screen_says_what_happens_and_what_comes_next() -> None:
    text = "\n".join(drawn(made_scene(), 80))
    assert "mean 0.912   worst 0.874   consensus distance 0.123 (0.6 s ago)   4 answer" in text
    assert "t=  7 s  node-2 is killed (SIGKILL)" in text
    assert "next: node-2 is started again in 0 s" in text
    assert "12 of 45 s" in text


def test_before_anybody_answers_the_screen_says_so() -> None:
    text = "\n".join(drawn(made_scene(None), 80))
    assert "nobody has answered yet" in text
    assert "starting: 3 of 5 seen" in text


def test_a_wide_screen_shows_each_curve() -> None:
    (row,) = [one for one in drawn(made_scene(), WIDE) if one.lstrip().startswith("node-1")]
    assert "▁▁▂" in row
    assert "▇██" in row


def test_a_line_shows_accuracies_and_who_is_not_well() -> None:
    assert line(made_scene()) == (
        "t= 12 s  mean 0.912  worst 0.874  consensus distance 0.123 (0.6 s ago)  "
        "1:0.950 2:restarting 3:frozen 6:waiting"
    )


def test_a_line_shows_the_accuracies_that_the_mean_is_of() -> None:
    scene = made_scene()
    assert scene.swarm is not None
    alone = Row("node-2", "alone", Mood.BUSY, made_look("node-2", accuracy=0.5), answers=True)
    new = Row("node-4", "starting", Mood.BUSY, made_look("node-4", accuracy=None), answers=True)
    text = line(replace(scene, rows=(scene.rows[0], alone, new)))
    assert text.endswith("1:0.950 2:0.500(alone) 4:starting")


def test_a_distance_that_was_not_measured_has_no_age() -> None:
    scene = made_scene()
    assert scene.swarm is not None
    scene = replace(scene, swarm=replace(scene.swarm, distance=None))
    assert "consensus distance -  1:" in line(scene)


def test_what_comes_before_time_begins_has_no_time_that_could_step_back() -> None:
    text = "\n".join(drawn(made_scene(), 80))
    assert "start    5 nodes start" in text
    assert "-4 s" not in text
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        PlainShow(console).happened(made_scene(None).happenings[0])
    assert captured.get() == "start    5 nodes start\n"


def test_plain_lines_come_every_five_seconds_and_at_every_happening() -> None:
    console = Console(width=80, file=io.StringIO())
    show, scene = PlainShow(console), made_scene()
    with console.capture() as captured:
        for tenth in range(100):
            show.draw(replace(scene, at=tenth / 10))
        show.happened(scene.happenings[1])
    lines = captured.get().splitlines()
    assert [text[:7] for text in lines] == ["t=  0 s", "t=  5 s", "t=  7 s"]


def test_where_there_is_no_terminal_nothing_is_redrawn() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    with show_on(console, quiet=False) as show:
        assert isinstance(show, PlainShow)


def test_quiet_means_quiet() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    with console.capture() as captured, show_on(console, quiet=True) as show:
        assert isinstance(show, QuietShow)
        show.draw(made_scene())
        show.happened(made_scene().happenings[0])
    assert captured.get() == ""


@given(st.lists(st.floats(0, 1), max_size=200))
def test_a_curve_has_at_most_its_width_and_keeps_both_ends(values: list[float]) -> None:
    curve = spark(values, 24)
    assert len(curve) == min(len(values), 24)
    if values:
        assert curve[0] == spark(values[:1])
        assert curve[-1] == spark(values[-1:])


@given(st.integers(0, 999 * 10**12))
def test_a_volume_takes_at_most_seven_characters(count: int) -> None:
    text = volume(count)
    assert len(text) <= 7
    assert not text.startswith("1000 ")


def test_volumes_read_as_people_write_them() -> None:
    assert [volume(n) for n in (0, 999, 1000, 3_140_000, 123_456_789)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "3.1 MB",
        "123 MB",
    ]


# --- where to look at it -------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "rows"), [(80, 2), (112, 1)])
def test_the_address_of_the_page_stays_on_the_screen_and_is_never_cut_off(
    width: int, rows: int
) -> None:
    lines = drawn(replace(made_scene(), address=ADDRESS), width)
    at = next(row for row, text in enumerate(lines) if "watch it: " in text)
    told = " ".join(text.strip() for text in lines[at : at + rows])
    assert told == (f"watch it: http://{ADDRESS}/ (any node shows all), or p2pfl watch {ADDRESS}")
    assert max(map(len, lines)) <= width
    assert not any("watch it" in text for text in drawn(made_scene(), width))


def test_in_lines_the_address_of_the_page_is_said_once_and_also_before_all_are_there() -> None:
    out = io.StringIO()
    show = PlainShow(Console(file=out, width=80))
    show.draw(made_scene(None))
    assert out.getvalue() == ""
    show.draw(replace(made_scene(None), address=ADDRESS))
    assert out.getvalue().startswith(f"watch it: http://{ADDRESS}/ (any node shows all), or ")
    assert out.getvalue().count("\n") == 1
    show.draw(replace(made_scene(), address=ADDRESS))
    assert out.getvalue().count("watch it") == 1
