"""TOML that somebody wrote: plain values, or one sentence about what is wrong with it.

Rule of the file: `tomllib` says what is no TOML; what it lets through and others would stumble over
(tables nested without end, integers that Python refuses to print) is stopped here, once.
"""

from __future__ import annotations

import tomllib
from typing import Any

from p2pfl.errors import ConfigError

DEPTH_MAX = 32
"""Tables and lists within each other; ours need five."""

INTEGER_BITS = 64
"""Of signed integers: what TOML 1.0.0 asks for, and what everything of ours fits in."""


def parsed(text: str | bytes) -> dict[str, Any]:
    """The table that a TOML text is.

    Args:
        text: UTF-8 if bytes.

    Raises:
        ConfigError: it is not TOML, or a value of it is out of bounds; without the file's name.
    """
    try:
        values = tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ConfigError(f"not TOML: nested deeper than {DEPTH_MAX}") from None
    except ValueError as error:
        # of a wrong integer or encoding it may be another kind than tomllib's own
        raise ConfigError(f"not TOML: {error}") from None
    _check(values, (), DEPTH_MAX)
    return values


def _check(value: Any, key: tuple[str, ...], deeper: int) -> None:
    if isinstance(value, int) and value.bit_length() >= INTEGER_BITS and value != -(2**63):
        raise ConfigError(
            f"'{'.'.join(key)}' is an integer of {value.bit_length()} bits, expected -2^63 to "
            "2^63 - 1"
        )
    if not isinstance(value, dict | list):
        return
    if deeper == 0:
        raise ConfigError(f"'{key[0]}' is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(inner, (*key, name), deeper - 1)
    else:
        for inner in value:
            _check(inner, key, deeper - 1)
