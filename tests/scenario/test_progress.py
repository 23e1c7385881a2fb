"""What a viewer of a run sees, what it costs, and that nobody else moves meanwhile."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from p2pfl.scenario import progress as shown
from p2pfl.scenario.progress import line, screen, showing, tell
from p2pfl.scenario.trace import Progress, Trace
from p2pfl.scenario.verdicts import judged
from tests.scenario.traces import made, made_scenario

HALF = Progress(0.5, 30.0, 19, 0.91, 0.85, 0.123, 41.5)


def console(*, terminal: bool = False, width: int = 80) -> Console:
    return Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)


def written(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


class Clock:
    """A clock that goes on by so much whenever it is read."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 100.0

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(0.01)
    monkeypatch.setattr(shown, "time", found)
    return found


# --- while it runs ------------------------------------------------------------------------------


def test_without_a_terminal_a_line_comes_every_two_seconds_at_most(clock: Clock) -> None:
    on = console()
    with showing(on, "made-up", quiet=False) as show:
        for i in range(1000):  # ten seconds
            show(replace(HALF, done=i / 1000))
    lines = written(on).splitlines()
    assert lines[0] == "made-up"
    assert 5 <= len(lines) - 1 <= 7
    assert lines[-1].startswith(" 99 %")


def test_everything_that_is_said_is_a_line_of_its_own_whatever_the_time(clock: Clock) -> None:
    on = console()
    with showing(on, "made-up", quiet=False) as show:
        for i in range(20):
            show(replace(HALF, said=f"n{i} is [red]killed"))
    text = written(on)
    assert [f"n{i} is [red]killed" in text for i in range(20)] == [True] * 20


def test_quiet_shows_nothing() -> None:
    for terminal in (True, False):
        on = console(terminal=terminal)
        with showing(on, "made-up", quiet=True) as show:
            show(HALF)
        assert written(on) == ""


def test_the_screen_ends_with_how_it_stood_last_even_if_that_came_too_soon(clock: Clock) -> None:
    on = console(terminal=True)
    with showing(on, "made-up", quiet=False) as show:
        for i in range(5):
            show(replace(HALF, cycles=1000.0 + i, said=f"event {i}"))
    text = written(on)
    assert "1004.0" in text
    assert "event 4" in text
    assert "1002.0" not in text


def test_drawing_takes_no_more_than_a_hundredth_of_the_time(clock: Clock) -> None:
    """However slow the terminal is: here each drawing takes a second."""
    on = console(terminal=True)
    drawings = []

    def slow(*_: object) -> str:
        drawings.append(clock.now)
        clock.now += 1.0
        return "drawn"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown, "screen", slow)
        with showing(on, "made-up", quiet=False) as show:
            for _ in range(50_000):
                show(HALF)
    pauses = [after - before for before, after in pairwise(drawings[:-1])]  # the last is the end
    assert pauses
    assert min(pauses) >= 100.0


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "plain"])
def test_a_call_costs_next_to_nothing(terminal: bool) -> None:
    on = console(terminal=terminal)
    with showing(on, "made-up", quiet=False) as show:
        show(HALF)
        began = time.process_time()
        for i in range(10_000):
            show(replace(HALF, done=i / 10_000))
        took = time.process_time() - began
    assert took < 1.0  # of 100 s at a hundred calls a second; a busy machine is not the point


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "plain"])
def test_no_thread_is_started(terminal: bool) -> None:
    before = set(threading.enumerate())
    with showing(console(terminal=terminal), "made-up", quiet=False) as show:
        show(HALF)
        assert set(threading.enumerate()) == before


def test_the_cursor_comes_back_when_the_run_fails() -> None:
    on = console(terminal=True)
    with pytest.raises(RuntimeError), showing(on, "made-up", quiet=False) as show:
        show(HALF)
        raise RuntimeError
    text = written(on)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0


def test_a_line_says_how_it_stands_and_dashes_what_is_unknown() -> None:
    found = "19 up  mean 0.910  worst tenth 0.850  consensus distance 0.123  cycles 41.5"
    assert line(HALF) == f" 50 %  t= 30.0 s  {found}"
    assert "mean -" in line(Progress(0.0, 0.0, 0, None, None, None, 0.0))


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_screen_fits(width: int) -> None:
    on = console(width=width)
    curve = [i / 32 for i in range(20)] + [None] * 12
    said = ["t= 12.0 s  " + "partition of very many nodes " * 9] * 4
    on.print(screen("made-up " * 20, HALF, curve, said, width))
    lines = written(on).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) <= width


# --- at the end ---------------------------------------------------------------------------------


def told(trace: Trace, command: str = "p2pfl run made-up --seed 0", width: int = 80) -> str:
    on = console(width=width)
    tell(trace, judged(trace), on, [Path("runs/a/report.html")], command)
    return written(on)


def test_a_run_that_passed_is_told_without_how_to_repeat_it() -> None:
    text = told(made(notes=("latency of [links] is ignored",)))
    assert "PASSED  6 of 6 expectations held" in text
    assert "runs/a/report.html" in text
    assert "latency of [links] is ignored" in text
    assert "94.6% answered" in text
    assert "again:" not in text
    assert "MISSED" not in text


def test_a_run_that_failed_is_told_with_the_command_in_one_line() -> None:
    expect = {"mean_accuracy": ">= 0.99", "bytes_per_node_per_s": "<= 50000"}
    long = "p2pfl run made-up " + "--set gossip.codec=int8 " * 9
    text = told(made(scenario=made_scenario(expect=expect)), long)
    assert "FAILED  0 of 2 expectations held" in text
    assert text.count("MISSED") == 2
    assert "≤ 50.0 kB/s" in text
    assert f"again: {long}" in text


def test_deaths_are_told_with_their_last_words_as_they_are() -> None:
    deaths = {f"n{i:02d}": "[red]line\n" * 40 + "ValueError: [x]" for i in range(1, 6)}
    text = told(made(deaths=deaths))
    assert "n01 ended though nobody asked it to" in text
    assert "ValueError: [x]" in text
    assert "and 2 more, in the report" in text
    assert "5 nodes died" in text
    assert len(text.splitlines()) < 80


def test_nothing_is_wider_than_the_terminal_but_what_is_to_be_copied() -> None:
    text = told(made(notes=("a note that goes on and on " * 9,)), width=60)
    assert max(map(len, text.splitlines())) <= 60
