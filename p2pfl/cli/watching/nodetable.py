"""The table of nodes on the screen: sorted, filtered, with one node marked.

Rule of the file: it keeps nothing but how its reader wants to see the nodes. All texts are
`rich.text.Text` or segments, never markup: names come from strangers.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from p2pfl.cli.watching.columns import COLUMNS, GAP, Column, arranged, chosen, name_width
from p2pfl.cli.watching.panes import MOVES
from p2pfl.cli.watching.picture import Merged, Row
from p2pfl.cli.watching.reading import HEARD_OF
from p2pfl.cli.watching.wording import fit, unlisted

_STATES = {
    "training": "green",
    "alone": "yellow",
    "holding": "cyan",
    "starting": "blue",
    "leaving": "dim",
    "suspect": "bold yellow",
    "left": "dim",
    "dead": "bold red",
    "unknown": "dim",
    HEARD_OF: "dim",
}


class NodeTable(ScrollView, can_focus=True, inherit_bindings=False):
    """All nodes, sorted; one of them is marked.

    Attributes:
        sort: key of a column. is_reversed: the largest first. wanted: what rows must contain.
        marked: the node under the cursor; it stays marked when rows move.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
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
        self._besides = ""
        self._columns: tuple[Column, ...] = COLUMNS
        self._widths = tuple(column.columns for column in COLUMNS)

    def show(self, found: Merged) -> None:
        """Draw these nodes."""
        self._all, self._besides = found.rows, unlisted(found)
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
        some = f": {shown} of {total}" if shown != total else ""
        self.border_title = f" nodes{some} {self._besides} " if self._besides else f" nodes{some} "
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
        others = Style(dim=row.state in ("left", "dead", "unknown", HEARD_OF))
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
