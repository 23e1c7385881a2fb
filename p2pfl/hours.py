"""Hours of the week as people write them: when a node leaves its device to others.

Rule of the file: local time, and no clock: a moment is minutes since Monday 00:00, and is told.
What is not written as hours are is a `ConfigError` that says how they are written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2pfl.errors import ConfigError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MIN, WEEK_MIN = 24 * 60, 7 * 24 * 60
_HOURS = re.compile(
    r"(?:(?P<first>[A-Z][a-z]{2})(?:-(?P<last>[A-Z][a-z]{2}))? )?"
    r"(?P<from>[0-2][0-9]:[0-5][0-9])-(?P<to>[0-2][0-9]:[0-5][0-9])"
)


@dataclass(frozen=True, slots=True)
class Hours:
    """Some hours of the week, in local time.

    Attributes:
        text: as it was written.
        spans: (begin, minutes) of each, begin in minutes since Monday 00:00; one that begins on
            Sunday may go on into Monday.
    """

    text: str
    spans: tuple[tuple[int, int], ...]

    def left_min(self, minute: float) -> float:
        """Minutes from `minute` of the week to the end of the hours it is in; 0 outside of them."""
        for begin, length in self.spans:
            into = (minute - begin) % WEEK_MIN
            if into < length:
                return length - into
        return 0.0


def hours(text: str) -> Hours:
    """Hours as people write them: `22:00-07:00`, `Sat 00:00-24:00`, `Mon-Fri 08:00-18:00`.

    Days are those on which the hours begin; hours that end before they begin end on the next day.

    Raises:
        ConfigError: it is not written so.
    """
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"'{text}' is not HH:MM-HH:MM or DAY HH:MM-HH:MM; write it as in '22:00-07:00', "
            "'Sat 00:00-24:00' or 'Mon-Fri 08:00-18:00'"
        )
    for day in (found["first"], found["last"]):
        if day is not None and day not in DAYS:
            raise ConfigError(f"'{text}': no day is called {day}; they are {', '.join(DAYS)}")
    begin, end = (_minute(text, found[name]) for name in ("from", "to"))
    if begin in (end, DAY_MIN):
        why = "begins where it ends" if begin == end else "begins at 24:00, which is 00:00"
        raise ConfigError(f"'{text}' {why}; a whole day is 00:00-24:00")
    first = 0 if found["first"] is None else DAYS.index(found["first"])
    last = DAYS.index(found["last"]) if found["last"] is not None else first
    days = range(7) if found["first"] is None else range(first, first + (last - first) % 7 + 1)
    length = (end - begin) % DAY_MIN or DAY_MIN
    return Hours(text, tuple((day % 7 * DAY_MIN + begin, length) for day in days))


def _minute(text: str, clock: str) -> int:
    minute = 60 * int(clock[:2]) + int(clock[3:])
    if minute > DAY_MIN:
        raise ConfigError(f"'{text}': {clock} is later than 24:00")
    return minute
