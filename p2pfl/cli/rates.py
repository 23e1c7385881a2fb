"""Rates as people write them: `1MB`, `500k`, `2 MiB/s`.

Rule of the file: bytes per second, always. What is usually written for bits is refused, because a
node would take eight times what was meant.
"""

from __future__ import annotations

import math
import re

import click

from p2pfl.config import RATE_LEAST_BYTES_PER_S

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}{b}": 1000**power for power, prefix in enumerate("kmg", 1) for b in ("", "b")},
    **{f"{prefix}i{b}": 1024**power for power, prefix in enumerate("kmg", 1) for b in ("", "b")},
}
_RATE = re.compile(r"(?P<number>[+-]?[\d_]*\.?\d*(?:e[+-]?\d+)?)\s*(?P<unit>[a-z]*?)\s*(?:/\s*s)?")
_BITS = re.compile(r"bits?\s*(/\s*s)?$|bps$")
_CAPITAL_BITS = re.compile(r"[KMG]i?b\s*(/\s*s)?$")
_FIX = "give bytes per second, as in 1000000, 500kB, 1MB/s or 2MiB/s"


def bytes_per_s(text: str) -> float:
    """A rate in bytes per second.

    Args:
        text: a number, then k, M or G, each also with B (1000) or iB (1024), then /s or nothing;
            in small letters too, but `Mb` is how megabits are written.

    Raises:
        ValueError: it is not; the text says what would be.
    """
    small = text.strip().lower()
    if _BITS.search(small) or _CAPITAL_BITS.search(text.strip()):
        raise ValueError(f"'{text}' counts bits; {_FIX} (8 bits are a byte)")
    found = re.fullmatch(_RATE, small)
    unit = _UNITS.get(found["unit"]) if found else None
    if found is None or unit is None:
        raise ValueError(f"'{text}' is no rate; {_FIX}")
    try:
        rate: float = float(found["number"]) * unit
    except ValueError:
        raise ValueError(f"'{text}' is no rate; {_FIX}") from None
    if not 0 <= rate < math.inf:
        raise ValueError(f"'{text}' is no rate, must be at least 0 and finite; {_FIX}")
    return rate


def rate_option(_: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """What an option was given, in bytes per second.

    Raises:
        click.BadParameter: it is no rate.
    """
    if text is None:
        return None
    try:
        rate = bytes_per_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None
    if 0 < rate < RATE_LEAST_BYTES_PER_S:
        raise click.BadParameter(
            f"'{text}' must be 0 (no bound) or at least {RATE_LEAST_BYTES_PER_S} (64KiB): others "
            "would take a slower node for a dead one",
            param=param,
        )
    return rate
