"""How texts become a configuration, and what is said of a wrong one.

Rule of the file: every mistake is one clear sentence that names where it stands, the key, the
value and what is allowed; an unknown key is told with the nearest known one. No particular model is
known here: the same words serve a node, a scenario, and files that only this program writes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from p2pfl.errors import ConfigError
from p2pfl.toml import parsed

Configured = TypeVar("Configured", bound=BaseModel)


def changed(text: str) -> tuple[str, Any]:
    """Key and value of a `KEY=VALUE`; a value is TOML, and what is no TOML is a string.

    Raises:
        ConfigError: there is no key or no '='.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE, as in gossip.codec=int8")
    return key.strip(), plain(value.strip())


def plain(text: str) -> Any:
    """A value as TOML reads it, or the text itself."""
    try:
        return parsed(f"value = {text}")["value"]
    except ConfigError:
        return text


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested tables, making those that are not there.

    Raises:
        ConfigError: the key goes through what is no table.
    """
    *tables, last = key.split(".")
    for table in tables:
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"'{table}' must be a table ([{table}] in TOML) to hold '{last}'")
        values = inner
    values[last] = value


def from_mapping(
    values: Mapping[str, Any], kind: type[Configured], *, where: str = "configuration"
) -> Configured:
    """Validate plain values (of TOML, of the command line) into a configuration of `kind`.

    Args:
        values: nested mapping with the names of the fields of `kind`.
        kind: `NodeConfig`, `DeviceConfig` or another model.
        where: what the values came from, for the error's text.

    Raises:
        ConfigError: naming the key, the value, what is allowed, and the nearest known key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, kind, where)) from None


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """One clear sentence per mistake: the key, the value, and the bound or the nearest key."""
    return "; ".join(_sentence(item, model, where) for item in error.errors())


def _sentence(item: Any, model: type[BaseModel], where: str) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path) or "values"
    if item["type"] == "extra_forbidden":
        known = _keys_beside(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(known))}"
        return f"{where}: unknown key '{key}'{hint}"
    if item["type"] == "missing":
        return f"{where}: '{key}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(item["input"], Mapping | BaseModel):
        return f"{where}: {key}: {message}" if path else f"{where}: {message}"
    return f"{where}: '{key}' is {item['input']!r}: {message}"


def _keys_beside(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if (
            field is None
            or not isinstance(field.annotation, type)
            or not issubclass(field.annotation, BaseModel)
        ):
            return []
        model = field.annotation
    return list(model.model_fields)
