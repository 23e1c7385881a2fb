"""What one field of a message may be: a check for each kind of value that strangers send.

Rules of the file: a check takes a field's name and whatever msgpack made of its bytes; it returns
the value as messages hold it, or raises a `WireError` that gives the value and what was expected.
A check that has bounds is made by a function that takes them. What is shown of a wrong value is
bounded, however large or deep it is. Which field is what stands in `wire.py`.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

from p2pfl.core.compression import CODECS
from p2pfl.core.messages import AGE_MAX
from p2pfl.errors import WireError

Check: TypeAlias = Callable[[str, Any], Any]
"""(the field's name, what came) -> the value as messages hold it."""

_MAX_COUNT = 2**63 - 1
_ADDRESS_BYTES = 128

_BRIEF = reprlib.Repr()
"""Shows what strangers sent: to a bounded depth and length, whatever it is."""
_BRIEF.maxstring = _BRIEF.maxother = 60


def shown(value: Any) -> str:
    """A value as an error's text shows it, in 60 characters at most."""
    brief = _BRIEF.repr(value)
    return brief if len(brief) <= 60 else f"{brief[:57]}..."


def count(name: str, value: Any) -> int:
    """An integer from 0 on; a truth value is none."""
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise WireError(f"{name} is {shown(value)}, expected an integer from 0 to 2^63 - 1")
    return value


def age(name: str, value: Any) -> int:
    """A lineage's age."""
    if count(name, value) > AGE_MAX:
        raise WireError(f"{name} is {shown(value)}, expected at most 2^53")
    return int(value)


def real(name: str, value: Any) -> float:
    """A finite number that is not negative."""
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise WireError(f"{name} is {shown(value)}, expected a finite number >= 0")
    return float(value)


def number(name: str, value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise WireError(f"{name} is {shown(value)}, expected a finite number")
    return float(value)


def between(least: float, most: float) -> Check:
    """A number from `least` to `most`."""

    def check(name: str, value: Any) -> float:
        if not least <= number(name, value) <= most:
            raise WireError(f"{name} is {shown(value)}, expected {least:g} to {most:g}")
        return float(value)

    return check


def text(longest: int) -> Check:
    """A string of at most so many characters."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise WireError(f"{name} is {shown(value)}, expected at most {longest} characters")
        return value

    return check


def label(longest: int) -> Check:
    """Text for people to read; what cannot be shown is replaced, because not all Pythons agree."""
    short = text(longest)

    def check(name: str, value: Any) -> str:
        found: str = short(name, value)
        return (
            found if found.isprintable() else "".join(c if c.isprintable() else "?" for c in found)
        )

    return check


def address(name: str, value: Any) -> str:
    """Bounded in bytes: a header full of addresses that others told us must fit what all accept."""
    if not isinstance(value, str) or len(value.encode()) > _ADDRESS_BYTES:
        raise WireError(f"{name} is {shown(value)}, expected at most {_ADDRESS_BYTES} bytes")
    return value


def matches(pattern: re.Pattern[str]) -> Check:
    """A string that is of the pattern from its first character to its last."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise WireError(f"{name} is {shown(value)}, expected {pattern.pattern}")
        return value

    return check


def one_of(kind: type[StrEnum]) -> Check:
    """A member of an enumeration, by its value."""
    known = {member.value: member for member in kind}

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, str) or value not in known:
            raise WireError(f"{name} is {shown(value)}, expected one of {', '.join(known)}")
        return known[value]

    return check


def codec_name(name: str, value: Any) -> str:
    """A codec that we have."""
    if not isinstance(value, str) or value not in CODECS:
        raise WireError(f"{name} is {shown(value)}, expected one of {', '.join(CODECS)}")
    return value


def raw(*lengths: int) -> Check:
    """Bytes, as many as one of `lengths`."""

    def check(name: str, value: Any) -> bytes:
        if type(value) is not bytes or len(value) not in lengths:
            wanted = " or ".join(map(str, lengths))
            raise WireError(f"{name} is {shown(value)}, expected {wanted} bytes")
        return value

    return check


def floats(*sizes: int) -> Check:
    """The bytes of finite float32, as many as one of `sizes`."""
    check = raw(*(4 * size for size in sizes))

    def checked(name: str, value: Any) -> bytes:
        found: bytes = check(name, value)
        if not np.isfinite(np.frombuffer(found, "<f4")).all():
            raise WireError(f"{name} has a value that is not finite")
        return found

    return checked


def optional(inner: Check) -> Check:
    """None, or what `inner` takes."""
    return lambda name, value: None if value is None else inner(name, value)


def many(inner: Check, most: int) -> Check:
    """A list of at most `most` values that `inner` takes, as a tuple."""

    def check(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise WireError(f"{name} is {shown(value)}, expected a list of at most {most}")
        return tuple(inner(name, item) for item in value)

    return check


def record(name: str, values: Any, checks: dict[str, Check]) -> dict[str, Any]:
    """A list with exactly these fields in this order, by their names.

    Raises:
        WireError: it is no such list, or what the first wrong field's check says.
    """
    if not isinstance(values, list) or len(values) != len(checks):
        raise WireError(f"{name} is {shown(values)}, expected {len(checks)} fields")
    return {
        field: check(f"{name}.{field}", value)
        for (field, check), value in zip(checks.items(), values, strict=True)
    }
