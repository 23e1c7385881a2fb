"""The question of a sweep: everything that decides its answers but the seeds.

Rule of the file: how a sweep was worded makes no difference, what it means does: the scenarios with
their defaults, what stands in the files they name, and the version of the program.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2pfl.scenario.spec import Scenario

DECIDING = ("cells", "files", "p2pfl")
"""Parts of a question that decide; the others say in which words it was asked."""


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How two questions differ, in words; empty if they are the same."""
    if all(there.get(part) == here[part] for part in DECIDING):
        return ""
    if there.get("p2pfl") != here["p2pfl"]:
        return f"it was made by p2pfl {there.get('p2pfl')}, this is {here['p2pfl']}"
    for part, option in (("scenario", "scenario"), ("over", "--over"), ("set", "--set")):
        if there.get(part) != here[part]:
            return f"{option} was {_words(there.get(part))}, now it is {_words(here[part])}"
    if there.get("files") != here["files"]:
        old = there.get("files") or {}
        changed = [name for name, digest in here["files"].items() if old.get(name) != digest]
        return f"{', '.join(changed) or 'a file of the scenario'} has changed since"
    return f"{here['scenario']} has changed since"


def _words(value: Any) -> str:
    return " ".join(value) or "nothing" if isinstance(value, list) else str(value)


def meaning(scenario: Scenario) -> dict[str, Any]:
    """All that a run depends on, defaults included: they may change with the program."""
    return scenario.model_dump(mode="json", by_alias=True, exclude={"seed", "description"})


def files_of(scenarios: Iterable[Scenario]) -> dict[str, str]:
    """Digests of the files that the scenarios name: their content is part of the question.

    Raises:
        OSError: one of them cannot be read.
    """
    found = {}
    for one in scenarios:
        for name in (one.task.name, one.topology, one.compute.trace, one.churn.trace):
            if name is not None and name not in found and Path(name).is_file():
                found[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]
    return found


def digest_of(value: Any) -> str:
    """Of JSON values, 16 hexadecimal digits; the order of keys makes no difference."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
