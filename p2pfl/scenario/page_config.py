"""A scenario written as TOML, with what it sets told apart from what it leaves as it is.

Rule of the file: without the defaults it is TOML that gives the same scenario again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2pfl.scenario.load import dump
from p2pfl.scenario.spec import Scenario

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of TOML, and whether it says something other than the default."""

    text: str
    changed: bool = False


def lines(scenario: Scenario, *, everything: bool = True) -> list[Line]:
    """All settings, or only those that are not defaults, table by table."""
    changed = _with_bounds(dump(scenario))
    whole = _with_bounds(scenario.model_dump(mode="json", by_alias=True))
    every = whole if everything else changed
    return list(_table(every, changed, ""))


def _table(values: Mapping[str, Any], changed: Mapping[str, Any], where: str) -> Iterator[Line]:
    tables = {key: one for key, one in values.items() if isinstance(one, Mapping)}
    lists = {key: one for key, one in values.items() if _is_tables(one)}
    for key, value in values.items():
        if key not in tables and key not in lists:
            yield Line(_setting(key, value), key in changed)
    for key, inner in tables.items():
        if inner:
            below = changed.get(key, {})
            yield from (Line(""), Line(f"[{where}{_key(key)}]"))
            yield from _table(inner, below, f"{where}{_key(key)}.")
    for key, items in lists.items():
        for item in items:
            given = {name: value for name, value in item.items() if value is not None}
            yield from (Line(""), Line(f"[[{where}{_key(key)}]]", changed=True))
            for name, value in given.items():
                yield Line(_setting(name, value), changed=True)


def _with_bounds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds as they are written: `">= 0.9"`."""
    bounds = {
        name: f"{bound['sign']} {bound['value']:.12g}" if isinstance(bound, Mapping) else bound
        for name, bound in values.get("expect", {}).items()
    }
    return {**values, "expect": bounds} if bounds else dict(values)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _setting(key: str, value: Any) -> str:
    return f"# {_key(key)} is not set" if value is None else f"{_key(key)} = {toml(value)}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml(key)


def toml(value: Any) -> str:
    """A plain value as TOML writes it; bounds as `">= 0.9"`."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # DEL is the one character that JSON may and TOML may not hold
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case Mapping():
            inside = ", ".join(f"{_key(key)} = {toml(one)}" for key, one in value.items())
            return f"{{ {inside} }}"
        case _:
            return repr(value)
