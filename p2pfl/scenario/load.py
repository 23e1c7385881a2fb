"""Reads scenarios: from TOML, from a Python script, with what the command line changes.

Rule of the file: a mistake is one sentence that names the file, the key, the value and what is
allowed. A Python script is the user's own code, and is run.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2pfl import configuring
from p2pfl.config import NodeConfig
from p2pfl.configuring import from_mapping
from p2pfl.core.graph import topology
from p2pfl.core.neighbours import Rule, edges
from p2pfl.errors import ConfigError
from p2pfl.learning.checks import calling
from p2pfl.scenario.spec import Scenario
from p2pfl.toml import parsed

FOLDER = Path("scenarios")


def load(text: str, changes: Iterable[str] = (), seed: int | None = None) -> Scenario:
    """The scenario in a file, or of that name in `scenarios/`, with some keys changed.

    Args:
        text: a path ending in .toml or .py, or a name.
        changes: `KEY=VALUE` each, values as in TOML, keys dotted; those of `[node]` may leave
            `node.` out: `nodes=50`, `gossip.codec=int8`, `churn.offline=0.5`.
        seed: replaces the scenario's own.

    Raises:
        ConfigError: there is no such file, or something in it cannot be used.
    """
    path = _found(text)
    values = _from_python(path) if path.suffix == ".py" else _from_toml(path)
    if "name" not in values:
        values["name"] = path.stem
    for change in changes:
        put(values, *configuring.changed(change))
    if seed is not None:
        values["seed"] = seed
    return from_mapping(_with_paths(values, path.parent), Scenario, where=str(path))


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a scenario; a key of `NodeConfig` belongs to `[node]`.

    Raises:
        ConfigError: the key goes through what is no table.
    """
    first = key.partition(".")[0]
    if first not in Scenario.model_fields and first in NodeConfig.model_fields:
        key = f"node.{key}"
    if first == "task" and isinstance(values.get("task"), str):
        values["task"] = {"name": values["task"]}  # `task = "digits"` is short for a table
    configuring.put(values, key, value)


def _found(text: str) -> Path:
    path = Path(text)
    if path.suffix in (".toml", ".py"):
        if _is_file(path):
            return path
        raise ConfigError(f"there is no scenario {text}; {_shipped(path.stem)}")
    by_name = FOLDER / f"{text}.toml"
    if _is_file(by_name):
        return by_name
    if text and _is_file(path):
        raise ConfigError(f"'{text}' is no scenario: its name must end in .toml or .py")
    raise ConfigError(f"there is no scenario '{text}'; {_shipped(text)}")


def _shipped(wanted: str) -> str:
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if near := difflib.get_close_matches(wanted, known, n=1):
        return f"did you mean '{near[0]}'?"
    if known:
        return f"in {FOLDER}/ are {', '.join(known)}"
    return f"give the path of a .toml file (names are sought in ./{FOLDER}, which is not here)"


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        return parsed(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _from_python(path: Path) -> dict[str, Any]:
    """The `scenario` that a script defines: a `Scenario`, or a function that gives one."""
    spec = importlib.util.spec_from_file_location(f"p2pfl_scenario_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    with calling("running the file", path):
        spec.loader.exec_module(module)
        found = getattr(module, "scenario", None)
        if callable(found):
            found = found()
    if not isinstance(found, Scenario):
        told = type(found).__name__ if found is not None else "nothing"
        raise ConfigError(f"{path}: 'scenario' is {told}, expected a Scenario or a function of one")
    return dump(found)


def rule_of(scenario: Scenario) -> Rule:
    """The neighbour rule of a scenario; an edge list must be about just its nodes.

    A list of as many others takes them in its order: the first of its names is n1, and so on.

    Raises:
        ConfigError: the rule or its file cannot be used, or names others than n1 .. n`nodes`.
    """
    rule = topology(scenario.topology)
    listed = {vertex for link in rule.links for vertex in link}
    if len(listed) == scenario.nodes and not listed & set(scenario.names):
        order = sorted(listed, key=lambda vertex: (len(vertex), vertex))
        ours = dict(zip(order, scenario.names, strict=True))
        return edges([(ours[a], ours[b]) for a, b in rule.links])
    others = sorted(listed.difference(scenario.names))
    missing = [name for name in scenario.names if name not in listed]
    if listed and (others or missing):
        what = f"names {others[0]}, which is none of them" if others else f"lacks {missing[0]}"
        raise ConfigError(
            f"topology {scenario.topology} must link the scenario's nodes, {scenario.names[0]} to "
            f"{scenario.names[-1]}: it {what}"
        )
    return rule


def dump(scenario: Scenario) -> dict[str, Any]:
    """Plain values that `from_mapping` reads back into an equal scenario; defaults left out."""
    plain_values: dict[str, Any] = scenario.model_dump(
        mode="json", by_alias=True, exclude_defaults=True
    )
    return plain_values


def _with_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Files that a scenario names are sought beside it first, then from where we are."""
    for table, key in (("task", "name"), ("compute", "trace"), ("churn", "trace")):
        inner = values.get(table)
        if isinstance(inner, str) and table == "task":
            values[table] = inner = {"name": inner}
        if isinstance(inner, Mapping) and isinstance(inner.get(key), str):
            values[table] = {**inner, key: _beside(inner[key], folder)}
    if isinstance(values.get("topology"), str):
        values["topology"] = _beside(values["topology"], folder)
    return values


def _beside(name: str, folder: Path) -> str:
    beside = folder / name
    has_suffix = name.endswith((".py", ".csv", ".toml", ".graphml"))
    return str(beside) if has_suffix and _is_file(beside) else name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for a file, for one
        return False
