"""Shows a demo on a terminal: live where there is one, plain lines where there is none.

Rule of the file: it only draws `Scene`s; `screen` and `line` are pure, so what a viewer would see
can be looked at without a demo. It fits into 80 columns, and uses more where there are more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from p2pfl.scenario.record import Happening, Plan, What
from p2pfl.scenario.scene import Mood, Row, Scene, invitation
from p2pfl.scenario.timeline import Action
from p2pfl.scenario.watching import Together

WIDE = 112
"""From so many columns on there is room for each node's curve."""

_MOODS = {Mood.GOOD: "green", Mood.BUSY: "yellow", Mood.BAD: "bold red", Mood.QUIET: "dim"}
_KINDS = {
    What.KILLED: "red",
    What.FROZEN: "red",
    What.DIED: "bold red",
    What.RESTARTED: "yellow",
    What.THAWED: "yellow",
    What.JOINS: "yellow",
    What.BACK: "green",
    What.JOINED: "green",
}
_COMING = {
    Action.KILL: "is killed",
    Action.RESTART: "is started again",
    Action.FREEZE: "is frozen",
    Action.THAW: "is thawed",
    Action.JOIN: "joins late",
}
_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 24
_HAPPENINGS = 4
_LINE_EVERY_S = 5.0


class LiveShow:
    """Redraws one screen in place; a context manager, because the cursor must come back."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveShow:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def happened(self, happening: Happening) -> None:
        """The next drawing tells."""

    def draw(self, scene: Scene) -> None:
        """Redraw."""
        self._live.update(screen(scene, self._console.width), refresh=True)


class PlainShow:
    """A line for everything that happens, and one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_at: float | None = None
        self._is_invited = False

    def happened(self, happening: Happening) -> None:
        """Say it."""
        self._say(f"{_when_of(happening)}  {happening.text}")

    def draw(self, scene: Scene) -> None:
        """Say how it stands, if the last time is long enough ago."""
        if scene.address and not self._is_invited:
            self._is_invited = True
            self._say(invitation(scene.address))
        if scene.at is None:
            return
        if self._told_at is None or scene.at - self._told_at >= _LINE_EVERY_S:
            self._told_at = scene.at
            self._say(line(scene))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class QuietShow:
    """Says nothing."""

    def happened(self, happening: Happening) -> None:
        """Not even that."""

    def draw(self, scene: Scene) -> None:
        """Nor that."""


def show_on(
    console: Console, *, quiet: bool
) -> AbstractContextManager[LiveShow | PlainShow | QuietShow]:
    """The show that fits the console."""
    if quiet:
        return nullcontext(QuietShow())
    return LiveShow(console) if console.is_terminal else nullcontext(PlainShow(console))


# --- in lines -----------------------------------------------------------------------------------


def line(scene: Scene) -> str:
    """The scene in one line."""
    swarm = scene.swarm
    parts = [_when(scene.at or 0.0)]
    if swarm is not None:
        parts.append(
            f"mean {number(swarm.mean)}  worst {number(swarm.worst)}  "
            f"consensus distance {_distance(scene, swarm)}"
        )
    parts.append(" ".join(f"{row.name.removeprefix('node-')}:{_brief(row)}" for row in scene.rows))
    return "  ".join(parts)


def _brief(row: Row) -> str:
    """The accuracies are those of the mean, and no others."""
    if row.seen is None or not row.answers:
        return row.state
    if row.mood is Mood.GOOD:
        return number(row.seen.accuracy)
    return row.state if row.seen.accuracy is None else f"{number(row.seen.accuracy)}({row.state})"


def _distance(scene: Scene, swarm: Together) -> str:
    """It was measured a while before the other figures, and says so."""
    text = number(swarm.distance)
    return text if swarm.distance is None else f"{text} ({scene.distance_ago_s:.1f} s ago)"


def number(value: float | None, digits: int = 3) -> str:
    """Three digits behind the point, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def volume(count: int) -> str:
    """Bytes as people read them: `3.1 MB`."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 99.5 or units[0] == "B" else f"{size:.1f} {units[0]}"


def spark(values: Sequence[float], width: int = _CURVE) -> str:
    """A curve of 0 .. 1 in `width` characters; more values than that are thinned out."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    top = len(_BARS) - 1
    return "".join(_BARS[round(min(max(value, 0.0), 1.0) * top)] for value in values)


# --- on a screen --------------------------------------------------------------------------------


def screen(scene: Scene, width: int) -> RenderableType:
    """The scene as rich draws it, in `width` columns."""
    parts: list[RenderableType] = [
        _title(scene.plan, width),
        *_invitation(scene, width),
        _progress(scene, width),
        _figures(scene),
        _nodes(scene.rows, width),
        Text(),
        *_news(scene),
    ]
    return Padding(Group(*parts), (1, 1, 0, 1))


def _title(plan: Plan, width: int) -> Text:
    who = f"{plan.nodes} nodes" + (" and a late one" if plan.with_faults else "")
    text = Text.assemble(("p2pfl demo", "bold"), f"  {plan.task}, {who}, run {plan.run}")
    text.truncate(width - 2, overflow="ellipsis")
    return text


def _invitation(scene: Scene, width: int) -> list[Text]:
    """One line, or two where it is too long for one: an address must not be cut off."""
    if not scene.address:
        return []
    text = invitation(scene.address)
    if len(text) <= width - 2:
        return [Text(text, "cyan")]
    page, _, command = text.partition(" or ")
    return [Text(page, "cyan", overflow="fold"), Text(f"or {command}", "cyan", overflow="fold")]


def _progress(scene: Scene, width: int) -> Table:
    seconds = scene.plan.seconds
    known = sum(row.seen is not None for row in scene.rows)
    if scene.at is None:
        bar = _bar(scene.plan.nodes, known)
        words = f"starting: {known} of {scene.plan.nodes} seen"
    else:
        bar = _bar(seconds, min(scene.at, seconds))
        words = f"{min(scene.at, seconds):.0f} of {seconds:.0f} s"
    grid = Table.grid(Column(ratio=1), Column(no_wrap=True), padding=(0, 2), expand=True)
    grid.width = width - 2
    grid.add_row(bar, words)
    return grid


def _bar(total: float, completed: float) -> ProgressBar:
    return ProgressBar(total, completed, complete_style="cyan", finished_style="green")


def _figures(scene: Scene) -> Padding:
    swarm = scene.swarm
    text = Text("nobody has answered yet", style="dim")
    if swarm is not None:
        text = Text.assemble(
            "mean ",
            (number(swarm.mean), "bold green"),
            "   worst ",
            (number(swarm.worst), "bold"),
            "   consensus distance ",
            (_distance(scene, swarm), "bold"),
            f"   {swarm.answering} answer",
        )
    return Padding(text, (1, 0))


def _nodes(rows: Iterable[Row], width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", padding=0)
    for name in ("node", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("age", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True, min_width=7)
    if wide:
        table.add_column("", min_width=_CURVE + 2, no_wrap=True, justify="center")
    names = ("neighbours", "exchanges", "staleness") if wide else ("nbrs", "exch", "stale")
    for name in (*names, "in", "out"):
        table.add_column(name, justify="right", no_wrap=True, min_width=7)
    for row in rows:
        is_past = row.mood in (Mood.BAD, Mood.QUIET)
        state = Text(f"{row.state:10}", style=_MOODS[row.mood])
        table.add_row(row.name, state, *_cells(row, wide=wide), style="dim" if is_past else "")
    return table


def _cells(row: Row, *, wide: bool) -> list[str]:
    seen = row.seen
    if seen is None:
        return ["-", "-", *[""] * wide, *["-"] * 5]
    return [
        f"{seen.age:,}",
        number(seen.accuracy),
        *[spark(row.curve)] * wide,
        str(seen.neighbours),
        f"{seen.exchanges:,}",
        number(seen.staleness, 2),
        volume(seen.bytes_in),
        volume(seen.bytes_out),
    ]


def _news(scene: Scene) -> list[Text]:
    """What happened lately, what is happening now, and what comes next."""
    news = list(scene.happenings[-_HAPPENINGS:])
    lines = [
        Text.assemble(
            (f"{_when_of(one)}  ", "dim"),
            (one.text.splitlines()[0], _KINDS.get(one.what, "")),
            overflow="ellipsis",
            no_wrap=True,
        )
        for one in news
    ]
    lines += [Text()] * (_HAPPENINGS - len(lines))
    return [*lines, Text(_next(scene), style="dim")]


def _next(scene: Scene) -> str:
    if scene.at is None:
        return ""
    if scene.coming is None:
        left = max(scene.plan.seconds - scene.at, 0.0)
        return f"next: the end, in {left:.0f} s"
    step, wait = scene.coming, max(scene.coming.at - scene.at, 0.0)
    return f"next: {step.node} {_COMING[step.action]} in {wait:.0f} s"


def _when_of(one: Happening) -> str:
    """Before time begins there is no time: counted from the start, it would step back later."""
    return "start  " if one.what is What.STARTS else _when(one.at)


def _when(at: float) -> str:
    return f"t={at:3.0f} s"
