"""Quiet hours as people write them, and the other keys of `[courtesy]`."""

from __future__ import annotations

import pytest

from p2pfl.config import CourtesyConfig, NodeConfig
from p2pfl.configuring import from_mapping
from p2pfl.errors import ConfigError
from p2pfl.hours import DAY_MIN, DAYS, WEEK_MIN, hours


def minute(day: str, clock: str) -> int:
    hour, of_hour = clock.split(":")
    return DAYS.index(day) * DAY_MIN + 60 * int(hour) + int(of_hour)


@pytest.mark.parametrize(
    ("text", "day", "clock", "left_min"),
    [
        ("22:00-07:00", "Wed", "21:59", 0),
        ("22:00-07:00", "Wed", "22:00", 540),
        ("22:00-07:00", "Thu", "06:59", 1),
        ("22:00-07:00", "Thu", "07:00", 0),
        ("22:00-07:00", "Mon", "03:00", 240),
        ("08:00-18:00", "Sun", "12:00", 360),
        ("Sat 00:00-24:00", "Sat", "00:00", 1440),
        ("Sat 00:00-24:00", "Sat", "23:59", 1),
        ("Sat 00:00-24:00", "Sun", "00:00", 0),
        ("Sun 22:00-07:00", "Mon", "06:00", 60),
        ("Sun 22:00-07:00", "Tue", "06:00", 0),
        ("Mon-Fri 08:00-18:00", "Fri", "17:00", 60),
        ("Mon-Fri 08:00-18:00", "Sat", "17:00", 0),
        ("Sat-Mon 10:00-11:00", "Mon", "10:30", 30),
        ("Sat-Mon 10:00-11:00", "Tue", "10:30", 0),
        ("00:00-24:00", "Thu", "12:00", 720),
    ],
)
def test_hours_are_what_people_mean(text: str, day: str, clock: str, left_min: int) -> None:
    assert hours(text).left_min(minute(day, clock)) == left_min


def test_every_minute_of_the_week_is_in_hours_or_not_as_a_dumb_count_says() -> None:
    found = hours("Fri-Sun 21:30-06:15")
    inside = {
        (day * DAY_MIN + 21 * 60 + 30 + of_span) % WEEK_MIN
        for day in (4, 5, 6)
        for of_span in range(525)
    }
    assert {at for at in range(WEEK_MIN) if found.left_min(at) > 0} == inside


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("22-07", "'22-07' is not HH:MM-HH:MM"),
        ("22:00", "is not HH:MM-HH:MM"),
        ("22:00 - 07:00", "is not HH:MM-HH:MM"),
        ("sat 10:00-11:00", "is not HH:MM-HH:MM"),
        ("Sut 10:00-11:00", "no day is called Sut; they are Mon, Tue"),
        ("24:01-07:00", "24:01 is later than 24:00"),
        ("10:60-11:00", "is not HH:MM-HH:MM"),
        ("07:00-07:00", "begins where it ends; a whole day is 00:00-24:00"),
        ("24:00-07:00", "begins at 24:00, which is 00:00"),
        ("", "write it as in '22:00-07:00'"),
    ],
)
def test_what_is_no_hours_is_an_error_that_says_how_to_write_them(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"courtesy\.quiet") as error:
        from_mapping({"courtesy": {"quiet": [text]}}, NodeConfig)
    assert why in str(error.value)


@pytest.mark.parametrize("rate", [1, 65_535])
def test_a_rate_that_others_take_for_death_is_an_error(rate: float) -> None:
    with pytest.raises(ConfigError, match="0 \\(no bound\\) or at least 65536"):
        from_mapping({"rate_bytes_per_s": rate}, CourtesyConfig)


def test_nothing_is_asked_for_by_default() -> None:
    config = CourtesyConfig()
    assert (config.rate_bytes_per_s, config.needs_looking) == (0, False)
