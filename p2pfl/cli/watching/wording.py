"""How figures and times are written, in as few columns as people can read.

Rule of the file: pure, and of the standard library, so that lines need nothing that a screen needs.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping

from p2pfl.cli.watching.picture import Entry, Merged, Mixed, Watched
from p2pfl.cli.watching.reading import HEARD_OF
from p2pfl.cli.watching.source import Tie

KINDS: Mapping[str, tuple[str, str]] = {
    "started": ("started", "green"),
    "joined": ("joined", "green"),
    "suspect": ("is suspected to be dead", "yellow"),
    "dead": ("is dead", "red"),
    "left": ("left", ""),
    "back": ("is back", "green"),
    "restarted": ("was restarted", "green"),
    "refused": ("was refused", "yellow"),
    "suspended": ("is suspended", "yellow"),
    "denied": ("is denied", "red"),
    "fault": ("had a fault", "red"),
    "rescued": ("was rescued", "green"),
    "held": ("holds back", "cyan"),
}
"""What an entry of the timeline says, and its colour."""

NOBODY = "no other node yet"


# --- values -------------------------------------------------------------------------------------


def ratio(value: float | None) -> str:
    """An accuracy: `0.912`, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def figure(value: float | None) -> str:
    """Three digits that matter, in at most six columns (a minus is one more)."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 99_999.5 or 1e-9 < size < 0.01:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{digits}f}"


def whole(value: int | None) -> str:
    """`1,234`, and from ten thousand on `12.3k`: five columns."""
    if value is None:
        return "-"
    if abs(value) < 10_000:
        return f"{value:,}"
    number, units = value / 1000, ["k", "M", "G", "T"]
    while abs(number) >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f}{units[0]}" if abs(number) >= 99.95 else f"{number:.1f}{units[0]}"


def volume(count: float | None) -> str:
    """Bytes: `3.1 MB`, six columns."""
    if count is None:
        return "-"
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 9.95 or units[0] == "B" else f"{size:.1f} {units[0]}"


def span(seconds: float | None) -> str:
    """`3 s`, `5 min`, `2 h`, `3 d`, or a dash."""
    if seconds is None:
        return "-"
    for size, unit, until in ((1, "s", 100), (60, "min", 100), (3600, "h", 48)):
        if seconds < until * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def clock(at: float) -> str:
    """Time of day here: `12:00:07`."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def joined(counts: Mapping[str, int]) -> str:
    """`3 timeout, 1 busy`."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


# --- sentences ----------------------------------------------------------------------------------


def counted(found: Merged) -> str:
    """`6 nodes: 4 training, 1 suspect, 1 dead, and 12 only heard of`."""
    count = len(found.met)
    nodes = "no node" if not count else f"{count} node{'s' if count > 1 else ''}"
    heard = f", and {found.heard_of:,} {HEARD_OF}" if found.heard_of else ""
    return f"{nodes}: {joined(found.states)}{heard}" if count else f"{nodes}{heard}"


def unlisted(found: Merged) -> str:
    """`and 312 more that were only heard of`; nothing if all are listed."""
    return f"and {found.unlisted:,} more that were {HEARD_OF}" if found.unlisted else ""


def alone(found: Merged) -> str:
    """Why figures of the swarm are those of one node, in words; nothing if there are more."""
    there = sum(row.state not in ("dead", "left") for row in found.met)
    if there != 1:
        return ""
    return "all others are gone" if len(found.met) > 1 else NOBODY


def entry(found: Merged, one: Entry) -> str:
    """`boris is dead: no answer for 5 s (said by anna, chloe)`."""
    words, _ = KINDS.get(one.kind, (one.kind, ""))
    detail = f": {one.detail}" if one.detail else ""
    if one.kind == "refused":
        # the detail says who refused; or it begins with the address of somebody who is no member
        is_stranger = one.by == (one.node,)
        words = "refused" if is_stranger else ""
        detail = f" {one.detail}" if is_stranger else f": {one.detail}"
    tellers = [node for node in one.by if node != one.node]
    said = ""
    if tellers and found.live > 1:
        others = {o.node for o in found.watched if o.tie is Tie.LIVE} - {one.node}
        names = ", ".join(map(found.label, tellers[:3]))
        more = f" and {len(tellers) - 3} more" if len(tellers) > 3 else ""
        said = " (said by all)" if others <= set(tellers) else f" (said by {names}{more})"
    return f"{found.label(one.node)}{words and ' '}{words}{detail}{said}"


def mixed(found: Merged, one: Mixed) -> str:
    """`anna ← boris  mixed with weight 0.42: 1.3 cycles old`."""
    merge = one.merge
    return f"{found.label(one.by)} ← {found.label(merge.peer)}  {merge.why or merge.outcome}"


def tied(one: Watched) -> str:
    """`boris (127.0.0.1:4001) is gone for 12 s: nothing runs there; trying again`."""
    who = one.label if one.label == one.address else f"{one.label} ({one.address})"
    match one.tie:
        case Tie.LIVE:
            return f"{who} is live"
        case Tie.GONE:
            return f"{who} is gone for {span(one.since_s)}: {one.why}; trying again"
        case Tie.LEFT:
            return f"{who} left {span(one.since_s)} ago"
        case Tie.FOREIGN:
            return f"{who} is left out: {one.why}"
        case Tie.WAITING:
            return f"{who} waits: enough others tell"
        case _:
            return f"connecting to {who}"


# --- columns ------------------------------------------------------------------------------------


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )


def fit(text: str, columns: int, *, right: bool = False) -> str:
    """The text in exactly so many columns, cut with an ellipsis if it has more."""
    if width(text) > columns:
        while text and width(text) >= columns:
            text = text[:-1]
        text = f"{text}…" if columns > 0 else ""
    padding = " " * (columns - width(text))
    return padding + text if right else text + padding
