"""Texts that lie over the panes: all about one node, and the help.

Rule of the file: all texts are `rich.text.Text`, never markup: names come from strangers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from p2pfl.cli.watching.columns import COLUMNS, MARKS
from p2pfl.cli.watching.picture import Merged
from p2pfl.cli.watching.plain import refusals
from p2pfl.cli.watching.wording import figure, ratio, span, volume, whole

_KEYS = (
    ("q, ctrl-c", "quit"),
    ("tab, right", "the next pane; shift-tab, left: the one before"),
    ("up, down", "mark another node, or scroll; also page up and down, home, end"),
    ("enter", "all about the marked node"),
    ("s, S", "sort by the next column, or by the one before; a click on a head does it too"),
    ("r", "sort the other way round"),
    ("/", "show only nodes whose name, id, address or state contains a text; esc: all"),
    ("d", "dark or light"),
    ("?", "this help; esc closes it"),
)


class Sheet(ModalScreen[None]):
    """A text over the panes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark", "dismiss", "close"),
    ]

    def __init__(self, text: RenderableType, node: str | None = None) -> None:
        """With a text.

        Args:
            node: whose details these are; None: it is another text.
        """
        super().__init__()
        self.node = node
        self._text = text

    def compose(self) -> ComposeResult:
        """The text, to be scrolled."""
        with VerticalScroll():
            yield Static(self._text)

    def show(self, text: RenderableType) -> None:
        """Another text."""
        self.query_one(Static).update(text)


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
    return Group(Text(row.label, "bold"), Text(), _listed(lines, "dim"))


def _listed(lines: Iterable[tuple[str, str]], style: str) -> Table:
    """Words and their explanations, in two columns."""
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=11, no_wrap=True)
    table.add_column()
    for word, meaning in lines:
        table.add_row(Text(word, style), Text(meaning))
    return table


def explained() -> RenderableType:
    """What the keys do, and what columns and states mean."""
    marks = list(MARKS.items())
    return Group(
        Text("keys", "bold"),
        _listed(_KEYS, "bold"),
        Text("\ncolumns", "bold"),
        _listed(((column.title, column.meaning) for column in COLUMNS), "bold"),
        Text("\nstates", "bold"),
        *(
            Text("".join(f"{mark} {state:<12}" for state, mark in row))
            for row in (marks[:4], marks[4:])
        ),
        Text(
            "\nFigures with ~ are estimates that nodes make together. What one node says of "
            "another is hearsay; 'told' says how old it is. Where there is no room for all "
            "columns, enter shows the rest."
        ),
    )
