"""Head, panes and foot of the screen.

Rule of the file: a pane is told what to show and keeps nothing but where its reader is. All texts
are `rich.text.Text`, never markup: names come from strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, TypeAlias

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.widgets import Static

from p2pfl.cli.watching.picture import Merged
from p2pfl.cli.watching.source import Tie
from p2pfl.cli.watching.wording import counted, tied

Draw: TypeAlias = Callable[[Merged, Size, str | None], Text]
"""A picture in so much room; the node that is marked stands out where nodes are told apart."""

MOVES: list[BindingType] = [
    Binding("up,k", "move(-1)", "up", show=False),
    Binding("down,j", "move(1)", "down", show=False),
    Binding("pageup", "page(-1)", "page up", show=False),
    Binding("pagedown,space", "page(1)", "page down", show=False),
    Binding("home,g", "ends(-1)", "first", show=False),
    Binding("end,G", "ends(1)", "last", show=False),
]


class Pane(VerticalScroll, can_focus=True, inherit_bindings=False):
    """A text that is drawn again whenever it, or the room for it, changes."""

    BINDINGS: ClassVar[list[BindingType]] = MOVES

    def __init__(self, id: str, title: str, draw: Draw) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.border_title = f" {title} "
        self._draw = draw
        self._told: tuple[Merged, str | None] | None = None
        self._drawn: Text | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static()

    def show(self, found: Merged, marked: str | None) -> None:
        """Draw this picture, and who is marked in the table."""
        self._told = found, marked
        self.on_resize()

    def on_resize(self) -> None:
        """Draw again, for the room that there is now."""
        size = self.scrollable_content_region.size
        if self._told is None or not size.width:
            return
        found, marked = self._told
        text = self._draw(found, size, marked)
        # what is the same is not laid out again
        if text != self._drawn:
            self._drawn = text
            self.query_one(Static).update(text)

    def action_move(self, lines: int) -> None:
        """Scroll by lines."""
        self.scroll_relative(y=lines, animate=False)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def action_ends(self, side: int) -> None:
        """Scroll to the first or the last line."""
        (self.scroll_home if side < 0 else self.scroll_end)(animate=False)


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
