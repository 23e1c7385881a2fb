"""How a recording writes things: as TOML, as CSV, in a note or an error.

Rule of the file: pure, from a value to a text. Names and notes come from others: what goes into a
file or to a terminal is printable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from p2pfl.scenario.recording.evidence import Estimate


def keys(values: Mapping[str, Estimate]) -> list[str]:
    """Lines of a table, each with its evidence as a comment."""
    return [f"{key} = {toml(of.value)}  # {printable(of.why)}" for key, of in values.items()]


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case str():
            return json.dumps(printable(value), ensure_ascii=False)
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return repr(value)


def printable(text: str) -> str:
    """Without what could end a comment or play tricks on a terminal: others chose these texts."""
    return "".join(char if char.isprintable() else "?" for char in text)


def short(value: float, digits: int = 4) -> float:
    """So many significant digits, and no more."""
    return float(f"{value:.{digits}g}")


def short_time(seconds: float) -> float:
    """Seconds, to the millisecond."""
    return round(seconds, 3)


def moment(wall: float) -> str:
    """A wall time as `--from` takes it."""
    try:
        return datetime.fromtimestamp(wall).astimezone().isoformat(" ", timespec="milliseconds")
    except (OverflowError, OSError, ValueError):  # a clock that was nowhere near
        return f"{wall:g} s after 1970"


def counted(count: int, what: str) -> str:
    """`1 node`, `2 nodes`, `1,000 nodes`."""
    return f"{count:,} {what}" + "s" * (count != 1)
