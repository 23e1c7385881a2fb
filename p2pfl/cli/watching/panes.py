"""The panes of the screen: each draws one part of the picture into the room that it has.

Rule of the file: a pane is told what to show and keeps nothing but where its reader is. All texts
are `rich.text.Text`, never markup: names come from strangers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

from p2pfl.cli.watching.columns import COLUMNS, GAP, Column, arranged, chosen, name_width
from p2pfl.cli.watching.drawing import Curve, Spans, bars, plot
from p2pfl.cli.watching.memory import Merged, Row
from p2pfl.cli.watching.plain import refusals, traffic
from p2pfl.cli.watching.reading import Histogram
from p2pfl.cli.watching.source import Tie
from p2pfl.cli.watching.wording import (
    clock,
    counted,
    entry,
    figure,
    fit,
    mixed,
    ratio,
    span,
    tied,
    volume,
    whole,
    width,
)

CURVES_MAX = 24
"""Of single nodes, as many as a plot can show; the marked one is always among them."""

_STATES = {
    "training": "green",
    "alone": "yellow",
    "holding": "cyan",
    "starting": "blue",
    "leaving": "dim",
    "suspect": "bold yellow",
    "dead": "bold red",
    "unknown": "dim",
}
_KINDS = {
    "dead": "red",
    "denied": "red",
    "fault": "red",
    "refused": "yellow",
    "suspect": "yellow",
    "suspended": "yellow",
    "held": "cyan",
    "back": "green",
    "joined": "green",
    "restarted": "green",
    "rescued": "green",
    "started": "green",
}
_NODE, _MARKED, _MEAN, _WORST = "blue", "bold cyan", "bold green", "bold yellow"

_MOVES: list[BindingType] = [
    Binding("up,k", "move(-1)", "up", show=False),
    Binding("down,j", "move(1)", "down", show=False),
    Binding("pageup", "page(-1)", "page up", show=False),
    Binding("pagedown,space", "page(1)", "page down", show=False),
    Binding("home,g", "ends(-1)", "first", show=False),
    Binding("end,G", "ends(1)", "last", show=False),
]


# --- panes of text ------------------------------------------------------------------------------


class Pane(VerticalScroll, can_focus=True, inherit_bindings=False):
    """A text that is drawn again whenever it, or the room for it, changes."""

    TITLE: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = _MOVES

    def __init__(self, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.border_title = f" {self.TITLE} "
        self._found: Merged | None = None
        self._drawn: Text | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static()

    def show(self, found: Merged) -> None:
        """Draw this picture."""
        self._found = found
        self._draw()

    def on_resize(self) -> None:
        """Draw again, for the new room."""
        self._draw()

    def _draw(self) -> None:
        size = self.scrollable_content_region.size
        if self._found is None or not size.width:
            return
        text = self.drawn(self._found, size)
        # what is the same is not laid out again
        if text != self._drawn:
            self._drawn = text
            self.query_one(Static).update(text)

    def drawn(self, found: Merged, size: Size) -> Text:
        """The picture in this room."""
        raise NotImplementedError

    def action_move(self, lines: int) -> None:
        """Scroll by lines."""
        self.scroll_relative(y=lines, animate=False)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def action_ends(self, side: int) -> None:
        """Scroll to the first or the last line."""
        (self.scroll_home if side < 0 else self.scroll_end)(animate=False)


class Accuracies(Pane):
    """Accuracy over time: each node, the marked one, the swarm's mean and its worst tenth."""

    TITLE = "accuracy"
    marked: str | None = None

    def drawn(self, found: Merged, size: Size) -> Text:
        """The plot, and whose curves these are."""
        nodes, swarm = self._chosen(found), found.swarm_curve
        curves = [_curve(found, node, _NODE) for node in nodes if node != self.marked]
        parts: Spans = []
        if any(mean is not None for _, mean, _, _ in swarm):
            curves.append(Curve([(at, worst) for at, _, worst, _ in swarm], _WORST))
            curves.append(Curve([(at, mean) for at, mean, _, _ in swarm], _MEAN))
            parts += [("━ swarm's mean  ", _MEAN), ("━ worst tenth  ", _WORST)]
        if self.marked in nodes:
            curves.append(_curve(found, self.marked, _MARKED))
            parts.append((f"━ {found.label(self.marked)}  ", _MARKED))
        if len(nodes) > (self.marked in nodes):
            known = sum(1 for points in found.curves.values() if points)
            some = f"{len(nodes)} of {known} nodes" if known > len(nodes) else "nodes"
            parts.append((f"━ {some}", _NODE))
        lines = plot(curves, size.width, size.height - 1, found.at)
        if not lines:
            return Text("no node has told an accuracy yet", "dim")
        legend = Text.assemble(*parts)
        legend.truncate(size.width, overflow="ellipsis")
        return Text("\n").join([*(Text.assemble(*line) for line in lines), legend])

    def _chosen(self, found: Merged) -> list[str]:
        """Those with a curve, those first that are there."""
        known = [row.node for row in found.rows if found.curves.get(row.node)]
        if len(known) <= CURVES_MAX:
            return known
        # evenly over the names, so that the same ones stay while others come and go
        some = known[:: -(-len(known) // CURVES_MAX)]
        if self.marked in known and self.marked not in some:
            some[-1] = self.marked
        return some


class Estimates(Pane):
    """What the nodes believe of the swarm as a whole."""

    TITLE = "swarm, as its nodes estimate it"

    def drawn(self, found: Merged, size: Size) -> Text:
        """Figures, and the nodes by accuracy."""
        swarm = found.swarm
        if swarm is None:
            return Text(
                "no estimate yet: nodes need to exchange some models first\n", "dim"
            ).append(traffic(found), "default")
        share = None if swarm.reporting is None else 100 * swarm.reporting
        rows = (
            ("nodes", f"~{figure(swarm.count)}", "telling", f"~{figure(share)} %"),
            (
                *("mean accuracy", f"~{ratio(swarm.mean_accuracy)}"),
                *("worst tenth", f"~{ratio(swarm.worst_tenth_accuracy)}"),
            ),
            (
                *("mean loss", f"~{figure(swarm.mean_loss)}"),
                *("consensus distance", f"~{figure(swarm.consensus_distance)}"),
            ),
        )
        text = Text()
        for one, first, other, second in rows:
            text.append(f"{one:<14}", "dim").append(f"{first:<9}", "bold")
            text.append(f"{other:<19}", "dim").append(f"{second}\n", "bold")
        text.append(traffic(found) + "\n", "dim")
        histogram = swarm.histogram
        lines = bars(histogram.values, size.width, max(1, min(4, size.height - 5)))
        if lines:
            text.append("\n".join(lines) + "\n", "green")
            drawn_width = len(lines[0])
            ends = f"{histogram.edges[0]:g}", f"{histogram.edges[-1]:g}"
            text.append(_scale(ends[0], "nodes by accuracy", ends[1], drawn_width), "dim")
        return text


class Staleness(Pane):
    """How old what was mixed was."""

    TITLE = "staleness of exchanges, in cycles"

    def drawn(self, found: Merged, size: Size) -> Text:
        """One bar for each bin, with its edge below."""
        histogram = found.staleness
        total = sum(histogram.values)
        if not total:
            return Text("no exchange yet", "dim")
        each = max(1, min(6, size.width // len(histogram.values)))
        lines = bars(
            histogram.values, each * len(histogram.values), max(1, min(5, size.height - 1))
        )
        text = Text("\n".join(lines) + "\n", "cyan")
        return text.append(_edges(histogram, each), "dim")


class Timeline(Pane):
    """What happened, the newest first."""

    TITLE = "what happened"

    def drawn(self, found: Merged, size: Size) -> Text:
        """One line for each, or more where the room is narrow."""
        if not found.timeline:
            return Text("nothing yet", "dim")
        return _lines(
            [
                (clock(one.at), _KINDS.get(one.kind, "default"), entry(found, one))
                for one in found.timeline
            ],
            size.width,
        )


class Merges(Pane):
    """The latest exchanges, and why each went as it did."""

    TITLE = "latest exchanges, and why"

    def drawn(self, found: Merged, size: Size) -> Text:
        """The newest first."""
        if not found.merges:
            return Text("none yet", "dim")
        return _lines(
            [
                (
                    clock(one.at),
                    "default" if one.merge.is_accepted else "yellow",
                    mixed(found, one),
                )
                for one in found.merges
            ],
            size.width,
        )


def _lines(rows: Iterable[tuple[str, str, str]], columns: int) -> Text:
    """Times, and beside them texts that are broken between words."""
    text = Text()
    for when, style, sentence in rows:
        room = max(12, columns - len(when) - 1)
        for place, line in enumerate(_wrapped(sentence, room)):
            text.append(when if place == 0 else " " * len(when), "dim")
            text.append(f" {line}\n", style)
    text.right_crop(1)
    return text


def _wrapped(sentence: str, columns: int) -> list[str]:
    lines = [""]
    for word in sentence.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return [fit(line, min(width(line), columns)) for line in lines]


def _scale(left: str, middle: str, right: str, columns: int) -> str:
    room = columns - len(left) - len(right)
    return f"{left}{middle.center(room) if room > len(middle) else ' ' * max(1, room)}{right}"


def _edges(histogram: Histogram, each: int) -> str:
    labels = (f"{edge:g}".removeprefix("0.").join(("", "")) for edge in histogram.edges[:-1])
    shown = (
        f".{e}" if 0 < edge < 1 else e for e, edge in zip(labels, histogram.edges, strict=False)
    )
    return "".join(fit(one, each - 1) + " " if each > 1 else "" for one in shown).rstrip()


def _curve(found: Merged, node: str, style: str) -> Curve:
    return Curve([(at, accuracy) for at, accuracy, _ in found.curves[node]], style)


# --- head and foot ------------------------------------------------------------------------------


class Head(Static):
    """Which run, how many nodes, how it stands with those we ask, and what holds back."""

    def show(self, found: Merged, warning: str) -> None:
        """Draw it; at most five lines."""
        text = Text()
        text.append(f"run '{found.run}'" if found.run else "no node has told yet", "bold")
        live, count = found.live, sum(one.tie is not Tie.LEFT for one in found.watched)
        if count:
            is_good = live == count
            text.append(
                f"  {'●' if live else '○'} {live} of {count} live"
                if count > 1
                else "  ● live"
                if live
                else "  ○ not live",
                "green" if is_good else "bold yellow" if live else "bold red",
            )
        else:
            text.append(
                "  looking for nodes on this network (`p2pfl doctor` says why none is seen)"
            )
        if found.rows:
            text.append(f"  {counted(found)}")
        ties = [one for one in found.watched if one.tie not in (Tie.LIVE, Tie.LEFT, Tie.WAITING)]
        for one in ties[:2]:
            text.append(f"\n{tied(one)}", "yellow")
        if len(ties) > 2:
            text.append(f"  (and {len(ties) - 2} more)", "yellow")
        for node, why in found.holding[:2]:
            text.append(f"\n■ {found.label(node)}: {why}", "bold cyan")
        if len(found.holding) > 2:
            text.append(f"  (and {len(found.holding) - 2} more)", "cyan")
        if warning:
            text.append(f"\n{warning}", "bold yellow")
        self.update(text)


class Foot(Static):
    """The keys that one needs most."""

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        text = Text(no_wrap=True, overflow="ellipsis")
        for key, meaning in keys:
            text.append(f" {key} ", "bold").append(f"{meaning} ", "dim")
        super().__init__(text, id="foot")


# --- the table ----------------------------------------------------------------------------------


class NodeTable(ScrollView, can_focus=True, inherit_bindings=False):
    """All nodes, sorted; one of them is marked.

    Attributes:
        sort: key of a column. is_reversed: the largest first. wanted: what rows must contain.
        marked: the node under the cursor; it stays marked when rows move.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *_MOVES,
        Binding("enter", "details", "details", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"nodes--head", "nodes--marked"}

    class Marked(Message):
        """Another node is marked."""

    class Details(Message):
        """Somebody wants to know all about the marked node."""

    def __init__(self, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.border_title = " nodes "
        self.sort = "node"
        self.is_reversed = False
        self.wanted = ""
        self.marked: str | None = None
        self._rows: list[Row] = []
        self._all: tuple[Row, ...] = ()
        self._columns: tuple[Column, ...] = COLUMNS
        self._widths = tuple(column.columns for column in COLUMNS)

    def show(self, found: Merged) -> None:
        """Draw these nodes."""
        self._all = found.rows
        self.rearrange()

    def rearrange(self) -> None:
        """Sort and choose again."""
        place = self._place
        self._rows = arranged(
            self._all, self.sort, is_reversed=self.is_reversed, wanted=self.wanted
        )
        if self._rows and self.marked not in {row.node for row in self._rows}:
            self.marked = self._rows[min(place, len(self._rows) - 1)].node
        room = max(1, self.scrollable_content_region.width)
        self._columns = chosen(room, self.sort)
        names = name_width(self._columns, self._rows, room)
        self._widths = (names, *(column.columns for column in self._columns[1:]))
        self.virtual_size = Size(room, len(self._rows) + 1)
        shown, total = len(self._rows), len(self._all)
        self.border_title = f" nodes: {shown} of {total} " if shown != total else " nodes "
        self.refresh(layout=False)

    def on_resize(self) -> None:
        """Choose columns for the new room."""
        self.rearrange()

    @property
    def _place(self) -> int:
        return next((i for i, row in enumerate(self._rows) if row.node == self.marked), 0)

    def _mark(self, node: str) -> None:
        if node != self.marked:
            self.marked = node
            self.post_message(self.Marked())

    # --- drawing ---------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the table; the first is always the head."""
        room = self.scrollable_content_region.width
        if y == 0:
            return self._head().adjust_cell_length(room, self._style("nodes--head"))
        place = self.scroll_offset.y + y - 1
        if place >= len(self._rows):
            empty = "no node contains this" if self.wanted and not self._rows else ""
            if not self._all:
                empty = "no node yet"
            text = empty if y == 1 else ""
            return Strip([Segment(text, self.rich_style)]).adjust_cell_length(room, self.rich_style)
        row = self._rows[place]
        base = self._style("nodes--marked") if row.node == self.marked else self.rich_style
        return self._line(row, base).adjust_cell_length(room, base)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name)

    def _head(self) -> Strip:
        style = self._style("nodes--head")
        mark = "▼" if self.is_reversed else "▲"
        return Strip(
            [
                Segment(
                    fit(
                        column.title + (mark if column.key == self.sort else ""),
                        wide,
                        right=column.is_number,
                    )
                    + " " * GAP,
                    style + Style(bold=column.key == self.sort),
                )
                for column, wide in zip(self._columns, self._widths, strict=True)
            ]
        )

    def _line(self, row: Row, base: Style) -> Strip:
        # on the bar colours would be hard to read
        is_marked = row.node == self.marked
        state = Style.parse(_STATES[row.state])
        others = Style(dim=row.state in ("dead", "unknown"))
        return Strip(
            [
                Segment(
                    fit(column.text(row), wide, right=column.is_number) + " " * GAP,
                    base if is_marked else base + (state if column.key == "state" else others),
                )
                for column, wide in zip(self._columns, self._widths, strict=True)
            ]
        )

    # --- moving ----------------------------------------------------------------------------------

    def action_move(self, rows: int) -> None:
        """Mark another row."""
        if not self._rows:
            return
        place = min(max(self._place + rows, 0), len(self._rows) - 1)
        self._mark(self._rows[place].node)
        self._reveal(place)
        self.refresh()

    def action_page(self, pages: int) -> None:
        """Mark a row a page away."""
        self.action_move(pages * max(1, self._page - 1))

    def action_ends(self, side: int) -> None:
        """Mark the first or the last row."""
        self.action_move(side * len(self._rows))

    def action_details(self) -> None:
        """Ask for all about the marked node."""
        if self._rows:
            self.post_message(self.Details())

    @property
    def _page(self) -> int:
        return max(1, self.scrollable_content_region.height - 1)

    def _reveal(self, place: int) -> None:
        top = self.scroll_offset.y
        if place < top:
            self.scroll_to(y=place, animate=False)
        elif place >= top + self._page:
            self.scroll_to(y=place - self._page + 1, animate=False)

    def on_click(self, event: events.Click) -> None:
        """Sort by a head, mark a row; twice: its details."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self._sort_at(offset.x)
            return
        place = self.scroll_offset.y + offset.y - 1
        if place < len(self._rows):
            self._mark(self._rows[place].node)
            self.refresh()
            if event.chain == 2:
                self.action_details()

    def _sort_at(self, x: int) -> None:
        end = 0
        for column, wide in zip(self._columns, self._widths, strict=True):
            end += wide + GAP
            if x < end:
                self.is_reversed = column.key == self.sort and not self.is_reversed
                self.sort = column.key
                self.rearrange()
                return

    def sort_next(self, step: int) -> None:
        """Sort by the next column, or by the one before."""
        keys = [column.key for column in COLUMNS]
        self.sort = keys[(keys.index(self.sort) + step) % len(keys)]
        self.rearrange()

    def turn(self) -> None:
        """Sort the other way round."""
        self.is_reversed = not self.is_reversed
        self.rearrange()


# --- all about one node -------------------------------------------------------------------------


def details(found: Merged, node: str) -> RenderableType:
    """All that is known of one node, a line for each."""
    row = next((row for row in found.rows if row.node == node), None)
    if row is None:
        return Text(f"nobody knows {found.label(node)} any more")
    told = row.told
    said = "itself" if row.told_by is None else found.label(row.told_by)
    tellers = sum(one.node is not None for one in found.watched)
    lines = [
        ("id", row.node),
        ("state", row.state),
        ("addresses", ", ".join(row.addresses) or "-"),
        ("start", "-" if row.incarnation is None else f"{row.incarnation}"),
        ("accuracy", ratio(told.accuracy)),
        ("loss", figure(told.loss)),
        ("age", f"{whole(told.age)} steps, {whole(told.own_steps)} of them its own"),
        ("cycles", f"{whole(told.cycles)}, {figure(told.cycle_s)} s each"),
        ("staleness", f"{figure(told.staleness)} cycles"),
        ("distance", figure(told.distance)),
        ("traffic", f"{volume(told.bytes_in)} in, {volume(told.bytes_out)} out"),
        ("told", f"{span(row.told_ago_s)} ago by {said}" if row.told_ago_s is not None else "-"),
        ("heard of", f"{span(row.heard_ago_s)} ago" if row.heard_ago_s is not None else "-"),
        ("known by", f"{row.known_by} of the {tellers} nodes watched"),
    ]
    if told.holding:
        lines.append(("holding", told.holding))
    lines += [("against it", text) for text in refusals(row)]
    return Group(Text(row.label, "bold"), Text(), listed(lines, "dim"))


def listed(lines: Iterable[tuple[str, str]], style: str) -> Table:
    """Words and their explanations, in two columns."""
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=11, no_wrap=True)
    table.add_column()
    for word, meaning in lines:
        table.add_row(Text(word, style), Text(meaning))
    return table
