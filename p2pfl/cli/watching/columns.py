"""The columns of the table of nodes: what each shows, how it sorts, which go first if it is narrow.

Rule of the file: pure. Whoever has no figure comes last, whichever way the table is sorted, and
whoever was only heard of after all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from p2pfl.cli.watching.picture import Row
from p2pfl.cli.watching.reading import HEARD_OF, STATES
from p2pfl.cli.watching.wording import figure, ratio, span, volume, whole, width

Value: TypeAlias = float | str | None

NAME_MIN, NAME_MAX = 9, 24
GAP = 1

MARKS = {
    "training": "●",
    "alone": "○",
    "holding": "■",
    "starting": "◆",
    "leaving": "◁",
    "suspect": "▲",
    "left": "▬",
    "dead": "✕",
    "unknown": "·",
    HEARD_OF: "◌",
}
"""The shape of each state; the page has the same, so that nothing hangs on colours."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: its name in a node's view.
        title: its head. columns: its width, head and mark of sorting included.
        rank: those with a high one are left out first where there is no room.
        meaning: for the help.
        value: what it sorts by. text: what it shows.
    """

    key: str
    title: str
    columns: int
    rank: int
    meaning: str
    value: Callable[[Row], Value]
    text: Callable[[Row], str]
    is_number: bool = True


def _state(row: Row) -> str:
    # in as many columns as the others take
    return f"{MARKS[row.state]} {row.state if row.is_met else 'heard of'}"


def _figure(
    key: str, title: str, columns: int, rank: int, meaning: str, write: Callable[[Any], str]
) -> Column:
    """A column of what nodes tell: `key` is the name of it in `Told`."""

    def value(row: Row) -> Any:
        return getattr(row.told, key)

    return Column(key, title, columns, rank, meaning, value, lambda row: write(value(row)))


COLUMNS: tuple[Column, ...] = (
    Column(
        *("node", "node", NAME_MIN, 0, "name of the node; * if it is watched itself"),
        value=lambda row: row.label.casefold(),
        text=lambda row: row.label + ("*" if row.is_watched else ""),
        is_number=False,
    ),
    Column(
        *("state", "state", 10, 1, "what it does, as it says itself or as others see it"),
        value=lambda row: float(STATES.index(row.state)),
        text=_state,
        is_number=False,
    ),
    _figure("accuracy", "acc", 5, 2, "accuracy on its test data", ratio),
    _figure("loss", "loss", 6, 4, "mean training loss of its latest cycle", figure),
    _figure("age", "age", 5, 6, "steps that its model has seen, its own and others'", whole),
    _figure("cycles", "cyc", 5, 7, "cycles of training that it did", whole),
    _figure("staleness", "stale", 6, 5, "mean staleness of what it mixed, in its cycles", figure),
    _figure("distance", "dist", 6, 8, "distance of its model to those it mixed", figure),
    _figure("bytes_in", "in", 6, 9, "bytes that came in", volume),
    _figure("bytes_out", "out", 6, 10, "bytes that went out", volume),
    Column(
        *("told_ago_s", "told", 6, 3, "how old these figures are"),
        value=lambda row: row.told_ago_s,
        text=lambda row: span(row.told_ago_s),
    ),
)


def chosen(columns: int, sort: str) -> tuple[Column, ...]:
    """Those that fit into so many columns; the one that the table is sorted by is always there."""
    kept = sorted(COLUMNS, key=lambda column: 0 if column.key == sort else column.rank)
    while len(kept) > 2 and _needed(kept) > columns:
        kept.pop()
    return tuple(column for column in COLUMNS if column in kept)


def name_width(chosen: Sequence[Column], rows: Iterable[Row], columns: int) -> int:
    """What is left for the names, as far as they need it."""
    room = NAME_MIN + columns - _needed(chosen)
    longest = max((width(COLUMNS[0].text(row)) for row in rows), default=0)
    return max(NAME_MIN, min(room, longest, NAME_MAX))


def arranged(rows: Iterable[Row], sort: str, *, is_reversed: bool, wanted: str = "") -> list[Row]:
    """The rows in which `wanted` occurs, sorted by a column.

    Args:
        sort: key of a column.
        is_reversed: the largest first.
        wanted: part of a name, an id, an address or a state; any case.
    """
    column = next(one for one in COLUMNS if one.key == sort)
    needle = wanted.casefold().strip()
    found = [row for row in rows if not needle or needle in _haystack(row)]
    known = [(value, row) for row in found if (value := column.value(row)) is not None]
    unknown = [row for row in found if column.value(row) is None]
    # twice, because sorting is stable: equal ones stay in the order of their names
    known.sort(key=lambda pair: (pair[1].label.casefold(), pair[1].node))
    known.sort(key=lambda pair: _rank(pair[0]), reverse=is_reversed)
    return sorted([row for _, row in known] + unknown, key=lambda row: not row.is_met)


def _rank(value: Value) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (value or 0.0, "")


def _haystack(row: Row) -> str:
    return " ".join((row.label, row.node, row.state, *row.addresses)).casefold()


def _needed(columns: Sequence[Column]) -> int:
    return sum(column.columns for column in columns) + GAP * (len(columns) - 1)
