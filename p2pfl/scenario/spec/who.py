"""Whom a scenario means: a share of the nodes that are up, a number of them, or names and ranges.

Rule of the file: a mistake is one sentence that says what is expected. Names are checked for their
form here, and for being somebody's where the number of nodes is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from p2pfl.errors import ConfigError

_RANGE = re.compile(r"n([0-9]{1,9})-n?([0-9]{1,9})")
_NAME = re.compile(r"n([0-9]{1,9})")


def _checked_who(who: Any) -> Any:
    """Before pydantic tries one type after the other, so that a mistake is one sentence."""
    match who:
        case bool():
            pass
        case float() if not 0 < who <= 1:
            raise ValueError(f"a share is > 0 and <= 1, not {who:g} (a number of nodes has no '.')")
        case int() if who < 1:
            raise ValueError(f"a number of nodes is >= 1, not {who}")
        case float() | int():
            return who
        case str():
            return _checked_names((who,))
        case list() | tuple() if who and all(isinstance(text, str) for text in who):
            return _checked_names(tuple(who))
    raise ValueError("expected a share (0.3), a number (3), or names and ranges (['n1', 'n5-n8'])")


def _checked_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if text != "all" and not (_RANGE.fullmatch(text) or _NAME.fullmatch(text)):
            raise ValueError(
                f"'{text}' names nobody, expected 'all', a name (n3) or a range (n3-n7)"
            )
    return texts


Who: TypeAlias = Annotated[int | float | tuple[str, ...], BeforeValidator(_checked_who)]


def named(who: Sequence[str], nodes: int) -> list[int]:
    """The places (from 0) of the nodes that names and ranges mean, in order, each once.

    Raises:
        ConfigError: a name is not one of n1 .. n`nodes`.
    """
    found: dict[int, None] = {}
    for text in who:
        if text == "all":
            first, last = 1, nodes
        else:
            match = _RANGE.fullmatch(text) or _NAME.fullmatch(text)
            if match is None:
                raise ConfigError(f"'{text}' names nobody, expected a name (n3) or a range (n3-n7)")
            first, last = int(match[1]), int(match[match.lastindex or 1])
        if not 1 <= first <= last <= nodes:
            raise ConfigError(f"'{text}' is not within n1 .. n{nodes}")
        found |= dict.fromkeys(range(first - 1, last))
    return list(found)


def names(nodes: int) -> tuple[str, ...]:
    """The nodes' names, n1 .. n20 padded to equal length, so that they sort by number."""
    width = len(str(nodes))
    return tuple(f"n{place:0{width}d}" for place in range(1, nodes + 1))
