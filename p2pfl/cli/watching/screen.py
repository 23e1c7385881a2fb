"""The swarm on a terminal: head, panes, keys.

Rule of the file: it takes news from a `Source` and draws what a `Memory` makes of them, at most
twice a second; where the news come from it does not know.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input

from p2pfl.cli.watching import contents
from p2pfl.cli.watching.memory import Memory
from p2pfl.cli.watching.nodetable import NodeTable
from p2pfl.cli.watching.panes import Foot, Head, Pane
from p2pfl.cli.watching.sheets import Sheet, details, explained
from p2pfl.cli.watching.source import News, Source
from p2pfl.ports import Clock

WIDE = 110
"""From so many columns on there are two columns of panes."""

_LOOK_S, _SOON_S, _LATE_S = 0.1, 0.5, 1.0
_WARNING_S = 15.0
_WARNINGS = 20

_CSS = """
Screen { layout: vertical; }
#head { height: auto; max-height: 6; padding: 0 1; }
#body { height: 1fr; scrollbar-size-vertical: 1; }
#left, #right { height: auto; }
NodeTable, Pane {
    border-top: solid $primary-darken-2;
    border-title-color: $text-muted;
    padding: 0 1;
    scrollbar-size-vertical: 1;
    background: $background;
}
NodeTable:focus, Pane:focus {
    border-top: heavy $accent;
    border-title-color: $accent;
    border-title-style: bold;
    background: $background;
    background-tint: transparent;
}
Pane Static { height: auto; width: 1fr; }
NodeTable { height: auto; max-height: 45vh; min-height: 5; }
NodeTable > .nodes--head { color: $text-muted; }
NodeTable > .nodes--marked { background: $primary-darken-3; }
NodeTable:focus > .nodes--marked { background: $primary; color: $text; }
#accuracy { height: 42vh; min-height: 9; max-height: 20; }
#swarm { height: 11; }
#staleness { height: 8; }
#happened, #merges { height: 10; }
#filter { display: none; height: 1; border: none; padding: 0 1; }
#foot { height: 1; background: $panel; }

Screen.wide #body { layout: horizontal; overflow: hidden; }
Screen.wide #left { width: 3fr; height: 1fr; }
Screen.wide #right { width: 2fr; height: 1fr; margin-left: 1; }
Screen.wide NodeTable { max-height: 60%; min-height: 6; }
Screen.wide #accuracy { height: 1fr; max-height: 100%; }
Screen.wide #swarm { height: 11; }
Screen.wide #staleness { height: 7; }
Screen.wide #happened, Screen.wide #merges { height: 1fr; }

Sheet { align: center middle; background: $background 60%; }
Sheet > VerticalScroll {
    width: 76; max-width: 96%; height: auto; max-height: 92%;
    border: round $accent; padding: 0 2; background: $surface;
}
"""

_SHORT = (
    *(("q", "quit"), ("?", "help"), ("/", "filter"), ("s", "sort"), ("r", "reverse")),
    *(("tab", "pane"), ("enter", "details")),
)


class WatchApp(App[None]):
    """The screen of `p2pfl watch`."""

    CSS = _CSS
    TITLE = "p2pfl watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
        Binding("s", "sort(1)"),
        Binding("S", "sort(-1)"),
        Binding("r", "turn"),
        # before all others, so that the letters that come with it are not keys of the table
        Binding("slash", "filter", priority=True),
        Binding("escape", "unfilter"),
        Binding("enter", "details"),
        Binding("right", "app.focus_next"),
        Binding("left", "app.focus_previous"),
        Binding("d", "shade"),
        Binding("question_mark", "explain"),
    ]

    def __init__(self, source: Source, memory: Memory, clock: Clock = time.time) -> None:
        """Nothing is asked before it runs.

        Args:
            clock: Unix seconds.
        """
        super().__init__()
        self._source = source
        self._memory = memory
        self._clock = clock
        self._found = memory.merged(clock())
        self._marked: str | None = None
        self._is_news = True
        self._shown_at = 0.0
        self._warned: tuple[float, str] = (0.0, "")

    # --- what is there ---------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Head, two columns of panes, foot."""
        yield Head(id="head")
        with VerticalScroll(id="body", can_focus=False):
            with Vertical(id="left"):
                yield NodeTable("nodes")
                yield Pane("accuracy", "accuracy", contents.accuracies)
            with Vertical(id="right"):
                yield Pane("swarm", "swarm, as its nodes estimate it", contents.believed)
                yield Pane("staleness", "staleness of exchanges, in cycles", contents.staleness)
                yield Pane("happened", "what happened", contents.timeline)
                yield Pane("merges", "latest exchanges, and why", contents.merges)
        yield Input(id="filter", placeholder="part of a name, an id, an address or a state")
        yield Foot(_SHORT)

    def on_mount(self) -> None:
        """Begin to watch."""
        self.query_one(NodeTable).focus()
        self.run_worker(self._source.follow(self._take), name="watch")
        self.set_interval(_LOOK_S, self._look)

    def on_resize(self, event: events.Resize) -> None:
        """One column of panes, or two."""
        self.screen_stack[0].set_class(event.size.width >= WIDE, "wide")

    def _take(self, news: News) -> None:
        self._memory.take(news)
        self._is_news = True

    def warn(self, text: str) -> None:
        """Show a warning for a while."""
        self._warned = (self._clock(), text)
        self._is_news = True

    def _look(self) -> None:
        since = self._clock() - self._shown_at
        # a clock that was set back must not stop the picture
        if since >= _LATE_S or since < 0 or (self._is_news and since >= _SOON_S):
            self._show()

    def _show(self) -> None:
        now = self._clock()
        self._shown_at, self._is_news = now, False
        found = self._found = self._memory.merged(now)
        at, warning = self._warned
        main = self.screen_stack[0]
        main.query_one(Head).show(found, warning if now - at < _WARNING_S else "")
        main.query_one(NodeTable).show(found)
        for pane in main.query(Pane):
            pane.show(found, self._marked)
        if isinstance(self.screen, Sheet) and self.screen.node is not None:
            self.screen.show(details(found, self.screen.node))

    @property
    def _table(self) -> NodeTable:
        return self.screen_stack[0].query_one(NodeTable)

    # --- keys ------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A slash is a letter where one writes, and nothing on a sheet."""
        is_elsewhere = isinstance(self.focused, Input) or isinstance(self.screen, Sheet)
        return not (action == "filter" and is_elsewhere)

    def action_sort(self, step: int) -> None:
        """Sort by another column."""
        self._table.sort_next(step)

    def action_turn(self) -> None:
        """Sort the other way round."""
        self._table.turn()

    def action_filter(self) -> None:
        """Ask for what rows must contain."""
        asked = self.query_one("#filter", Input)
        asked.display = True
        self.screen.set_focus(asked)

    def action_unfilter(self) -> None:
        """Show all rows again."""
        asked = self.query_one("#filter", Input)
        asked.value = ""
        asked.display = False
        self._table.focus()

    def action_details(self) -> None:
        """Tell all about the marked node."""
        self._table.action_details()

    def action_shade(self) -> None:
        """Dark to light, and back."""
        self.theme = "textual-light" if self.theme == "textual-dark" else "textual-dark"

    def action_explain(self) -> None:
        """Tell what the keys do and what the columns mean."""
        if not isinstance(self.screen, Sheet):
            self.push_screen(Sheet(explained()))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Choose while it is typed."""
        self._table.wanted = event.value
        self._table.rearrange()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go on in the table."""
        if not event.value:
            event.input.display = False
        self._table.focus()

    def on_node_table_marked(self) -> None:
        """Its curve stands out."""
        self._marked = self._table.marked
        self.screen_stack[0].query_one("#accuracy", Pane).show(self._found, self._marked)

    def on_node_table_details(self) -> None:
        """Open the sheet."""
        node = self._table.marked
        if node is not None and not isinstance(self.screen, Sheet):
            self.push_screen(Sheet(details(self._found, node), node))


class Kept(logging.Handler):
    """Holds back log records while the screen is shown, which they would spoil.

    Attributes:
        lines: the latest, for when it is not shown any more.
    """

    def __init__(self, app: WatchApp) -> None:
        super().__init__()
        self._app = app
        self.lines: deque[logging.LogRecord] = deque(maxlen=_WARNINGS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, and show the worse ones in the head."""
        self.lines.append(record)
        if record.levelno >= logging.WARNING:
            self._app.warn(record.getMessage())
