"""Shows a run while it is computed, and tells at its end what became of it.

Rule of the file: drawing is paid for by the run, so it never takes more than a hundredth of its
time, whatever the terminal costs; and no thread is ever started, because the simulator forbids
strangers beside its loop. What is said is never lost, only shown late.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from p2pfl.scenario.display import number, spark
from p2pfl.scenario.trace import Progress, Trace
from p2pfl.scenario.verdicts import Verdict, figures, passed
from p2pfl.scenario.wording import bound_told, percent, size, title, told, without_bound

_CURVE = 32
_SAID = 4
_REDRAW_S, _LINE_EVERY_S = 0.2, 2.0
_COST_SHARE = 0.01
"""Of the run's time that drawing may take."""
_NOTES, _DEATHS = 5, 3


@contextmanager
def showing(console: Console, title: str, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What shows progress while the block runs, to be called as often as one likes.

    On a terminal it is one screen, redrawn in place; elsewhere lines; nothing if `quiet`.
    """
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with _Screen(console, title) as screen:
            yield screen.show
    else:
        lines = _Lines(console, title)
        yield lines.show
        lines.end()


class _Screen:
    """Redraws a few lines in place; a context manager, because the cursor must come back."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._live = Live(console=console, auto_refresh=False)
        self._said: deque[str] = deque(maxlen=_SAID)
        self._curve: list[float | None] = [None] * _CURVE
        self._last: Progress | None = None
        self._next_at = 0.0

    def __enter__(self) -> _Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._draw(self._last)
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Take it up, and redraw if that was long enough ago."""
        self._last = progress
        if progress.said:
            self._said.append(said(progress))
        if progress.mean is not None:
            place = min(int(max(progress.done, 0.0) * _CURVE), _CURVE - 1)
            self._curve[place] = progress.mean
        began = time.monotonic()
        if began >= self._next_at:
            self._draw(progress)
            ended = time.monotonic()
            self._next_at = ended + max(_REDRAW_S, (ended - began) / _COST_SHARE)

    def _draw(self, progress: Progress) -> None:
        drawn = screen(self._title, progress, self._curve, list(self._said), self._console.width)
        self._live.update(drawn, refresh=True)


class _Lines:
    """A line for everything that is said, and one every few seconds."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._next_at = 0.0
        self._untold: Progress | None = None
        self._say(title)

    def show(self, progress: Progress) -> None:
        """Say what was said, and how it stands if the last time is long enough ago."""
        self._untold = progress
        if progress.said:
            self._say(said(progress))
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + _LINE_EVERY_S
            self.end()

    def end(self) -> None:
        """Say how it stood last."""
        if self._untold is not None:
            self._say(line(self._untold))
            self._untold = None

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


# --- how it looks -------------------------------------------------------------------------------


def said(progress: Progress) -> str:
    """What has just been done, in one line, and when."""
    return f"t={progress.seconds:5.1f} s  {' '.join(progress.said.split())}"


def line(progress: Progress) -> str:
    """How a run stands, in one line."""
    return f"{_percent(progress)}  t={progress.seconds:5.1f} s  {_figures(progress)}"


def screen(
    title: str, progress: Progress, curve: list[float | None], said: list[str], width: int
) -> RenderableType:
    """How a run stands, in `width` columns.

    Args:
        curve: mean accuracy at equal parts of the run, None where it has not come yet.
    """
    head = Text(title, style="bold", no_wrap=True, overflow="ellipsis")
    bar = Table.grid(Column(ratio=1), Column(no_wrap=True), padding=(0, 2), expand=True)
    done = min(max(progress.done, 0.0), 1.0)
    bar.add_row(
        ProgressBar(1.0, done, complete_style="cyan", finished_style="green"),
        f"{_percent(progress)}  {progress.seconds:.1f} s",
    )
    accuracy = Text.assemble(
        "accuracy  mean ",
        (number(progress.mean), "bold green"),
        "  worst tenth ",
        (number(progress.worst_tenth), "bold"),
        *([("  " + _curve(curve), "green")] if any(one is not None for one in curve) else []),
        no_wrap=True,
        overflow="ellipsis",
    )
    swarm = Text.assemble(
        (f"{progress.up:,}", "bold"),
        " up   consensus distance ",
        (_short(progress.distance), "bold"),
        "   cycles ",
        (f"{progress.cycles:.1f}", "bold"),
        no_wrap=True,
        overflow="ellipsis",
    )
    news = [Text(text, style="yellow", no_wrap=True, overflow="ellipsis") for text in said]
    return Padding(Group(head, bar, accuracy, swarm, *news), (0, 1), expand=width > 0)


def _curve(values: list[float | None]) -> str:
    return "".join(" " if value is None else spark([value]) for value in values).rstrip()


def _figures(progress: Progress) -> str:
    return (
        f"{progress.up} up  mean {number(progress.mean)}  "
        f"worst tenth {number(progress.worst_tenth)}  "
        f"consensus distance {_short(progress.distance)}  cycles {progress.cycles:.1f}"
    )


def _percent(progress: Progress) -> str:
    return f"{int(100 * progress.done):3d} %"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


# --- at the end ---------------------------------------------------------------------------------


def tell(
    trace: Trace, verdicts: list[Verdict], console: Console, files: list[Path], command: str
) -> None:
    """The end of a run for people: what was expected and measured, and where the rest is.

    Args:
        files: what was written.
        command: what does the same again; it is told when the run failed.
    """
    ok = passed(verdicts, trace)
    measured = figures(trace)
    console.print()
    if verdicts:
        console.print(_table(verdicts))
        console.print()
    _print_deaths(trace, console)
    _print_grid(console, _worth_knowing(trace, measured))
    head = Text("PASSED", "bold green") if ok else Text("FAILED", "bold red")
    head.append(f"  {_why(verdicts, trace)}", "default not bold")
    console.print(head)
    # never wrapped, so that they can be copied
    for path in files:
        console.print(Text(f"  {path}"), soft_wrap=True)
    if not ok:
        console.print(Text(f"again: {command}"), soft_wrap=True)


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(
        Column("expected"),
        Column("bound", no_wrap=True),
        Column("measured", no_wrap=True),
        Column("", no_wrap=True),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
    for one in verdicts:
        mark = Text("held", "green") if one.held else Text("MISSED", "bold red")
        table.add_row(
            title(one.name), bound_told(one.name, one.bound), told(one.name, one.value), mark
        )
    return table


def _worth_knowing(trace: Trace, measured: Mapping[str, float | None]) -> list[tuple[str, str]]:
    lines = [(name, text) for name, text in without_bound(trace, measured).items()]
    asked = sum(trace.outcomes.values())
    if asked:
        parts = sorted(trace.outcomes.items(), key=lambda item: -item[1])
        ended = ", ".join(f"{percent(count / asked)} {how}" for how, count in parts if count)
        lines.append(("exchanges", f"{asked:,}: {ended}"))
    lines.append(("ran", size(trace)))
    if trace.event_hash is not None:
        lines.append(("event hash", f"{trace.event_hash[:16]} of {trace.events or 0:,} events"))
    lines += [("note", note) for note in trace.notes[:_NOTES]]
    if len(trace.notes) > _NOTES:
        lines.append(("note", f"and {len(trace.notes) - _NOTES} more, in the report"))
    return lines


def _print_deaths(trace: Trace, console: Console) -> None:
    for name, last_words in list(trace.deaths.items())[:_DEATHS]:
        console.print(Text(f"{name} ended though nobody asked it to", "bold red"))
        console.print(Text(_indented(last_words)), soft_wrap=True)
    if len(trace.deaths) > _DEATHS:
        console.print(f"and {len(trace.deaths) - _DEATHS} more, in the report")
    if trace.deaths:
        console.print()


def _print_grid(console: Console, lines: list[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2))
    for name, text in lines:
        grid.add_row(Text(name), Text(text))
    console.print(grid)
    console.print()


def _why(verdicts: list[Verdict], trace: Trace) -> str:
    held = sum(one.held for one in verdicts)
    words = f"{held} of {len(verdicts)} expectations held" if verdicts else "nothing was expected"
    if trace.deaths:
        count = len(trace.deaths)
        words += f", {count} node{'s' * (count != 1)} died"
    return words


def _indented(text: str) -> str:
    return "\n".join(f"  {row}" for row in text.splitlines()[-12:])
