"""Writes the pages that list keys from the models' own descriptions.

    docs/configuration.md     of a node, from p2pfl.config
    docs/scenario-keys.md     of a scenario, from p2pfl.scenario.spec

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if one is not what would be written
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from p2pfl.config import DeviceConfig
from p2pfl.scenario import spec

FOLDER = Path(__file__).parent
HEAD = """# Configuration

Every key of `p2pfl node --config FILE.toml`, with its bounds and its default. Seconds are bare;
everything else has its unit in its name. `--set KEY=VALUE` sets any of them on the command line
(`--set gossip.codec=int8`); options win over `--set`, which wins over the file. An unknown key or a
value out of bounds is an error that names the key and what is allowed.

```toml
task = "digits"
run = "kitchen"
peers = ["192.168.1.5:4000"]

[gossip]
codec = "int8"
```
"""

SCENARIO_HEAD = """# Keys of a scenario

Every key of a scenario, with its unit, its default and its bounds. How to write one, who is meant
by *who*, and what each figure of `[expect]` is: [scenarios.md](scenarios.md). An unknown key or a
value out of bounds is an error that names the key and what is allowed.

"none" stands for a key that is not there. `--set KEY=VALUE` changes any of them on the command
line, keys dotted (`--set churn.offline=0.5`); what `p2pfl run` cannot find in a scenario it seeks
in `[node]` (`--set gossip.codec=int8`).
"""

# (table as TOML writes it, its model, what is to be said of it)
TABLES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("[task]", spec.TaskSpec, '`task = "digits"` is short for a table with that name.'),
    ("[duration]", spec.Duration, ""),
    ("[compute]", spec.Compute, ""),
    ("[network]", spec.NetworkSpec, ""),
    ("[[network.nodes]]", spec.NodeLink, ""),
    ("[[network.links]]", spec.OneWay, ""),
    ("[churn]", spec.Churn, ""),
    ("[[churn.events]]", spec.ChurnEvent, ""),
    ("[faults]", spec.Faults, ""),
    ("[[faults.events]]", spec.FaultEvent, ""),
    ("[adversary]", spec.Adversary, "What each attack does: [robustness.md](robustness.md)."),
    ("[measure]", spec.Measure, ""),
    ("[expect]", spec.Expect, "Nothing is expected of a figure that is not named."),
)
NODE = """## `[node]`

Of every node: the tables `[node.train]`, `[node.gossip]`, `[node.membership]`, `[node.limits]` and
`[node.stop]`, and `checkpoint_every_s`, all as in [configuration.md](configuration.md). `run`,
`name` and `topology` are accepted and replaced: by the scenario's name, the node's (n1 ..) and the
scenario's own `topology`.
"""

UNITS = {
    "seconds": "s",
    "at": "s",
    "until": "s",
    "begins_s": "s",
    "cycles": "cycles",
    "nodes": "nodes",
    "sees": "nodes",
    "minimum": "samples",
    "batch_size": "samples",
    "size": "values",
    "samples": "looks",
    "offline": "share",
    "amnesia": "share",
    "last_share": "share",
    "factors": "x step_s",
    "recovered_within": "accuracy",
    "mean_accuracy": "accuracy",
    "worst_tenth_accuracy": "accuracy",
    "std_accuracy": "accuracy",
    "consensus_distance": "l2 norm",
    "optimum_distance": "l2 norm",
    "mass_drift": "l2 norm",
    "messages_per_cycle": "messages",
    "pending": "exchanges",
    "deaths": "nodes",
    "backdoor_success": "share",
    "suspended": "share",
}
"""Of keys whose name does not say it."""
ENDINGS = {"_bytes_per_s": "bytes/s", "_per_s": "bytes/s", "_probability": "chance", "_s": "s"}

WORDS = {
    "name": "of the scenario and its run; default: the file's",
    "description": "a sentence for people",
    "nodes": "how many; they are called n1 .. nN, padded to equal length",
    "who": "whose connection it is",
    "from": "who sends",
    "to": "who receives",
    "at": "when it happens",
    "latency_s": "one way, median; none: as for all",
    "loss_probability": "of each message; none: as for all",
    "up_bytes_per_s": "none: as for all",
    "down_bytes_per_s": "none: as for all",
}
"""Of keys that do not describe themselves."""


def page() -> str:
    """The page on configuration as Markdown."""
    tables = [HEAD, "## Top level", "", *rows(DeviceConfig)]
    for name, field in DeviceConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            what = (model.__doc__ or "").strip().splitlines()[0]
            tables += ["", f"## `[{name}]`", "", what, "", *rows(model)]
    return "\n".join(tables) + "\n"


def scenario_page() -> str:
    """The page on scenarios' keys as Markdown."""
    found = [SCENARIO_HEAD, "## Top level", "", *scenario_rows(spec.Scenario)]
    for name, model, more in TABLES:
        what = f"{(model.__doc__ or '').strip().splitlines()[0]} {more}".strip()
        found += ["", f"## `{name}`", "", what, "", *scenario_rows(model)]
        if model is spec.Duration:
            found += ["", NODE.rstrip("\n")]
    return "\n".join(found) + "\n"


def rows(model: type[BaseModel]) -> list[str]:
    """One table: a row for each key that is not a table itself."""
    lines = ["| key | default | bounds | what it does |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        default = "required" if field.is_required() else f"`{shown(field.default)}`"
        lines.append(f"| `{name}` | {default} | {bounds(field)} | {field.description} |")
    return lines


def scenario_rows(model: type[BaseModel]) -> list[str]:
    """One table of a scenario: a row for each key that is not a table, or a list of tables."""
    lines = ["| key | unit | default | bounds | what it does |", "|---|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if any(issubclass(inner, BaseModel) for inner in classes(field.annotation) - {spec.Bound}):
            continue
        key = field.alias or name
        default = "required" if field.is_required() else f"`{shown(field.default)}`"
        what = (field.description or WORDS[key]).replace("None:", "none:")
        unit = "" if means_nodes(field) else UNITS.get(key, unit_of(key))
        lines.append(f"| `{key}` | {unit} | {default} | {scenario_bounds(field)} | {what} |")
    return lines


def unit_of(key: str) -> str:
    """What a key's name says of its unit."""
    return next((unit for ending, unit in ENDINGS.items() if key.endswith(ending)), "")


def scenario_bounds(field: FieldInfo) -> str:
    """As `bounds`; nodes are *who*, and bounds of figures are written as such."""
    if spec.Bound in classes(field.annotation):
        return '`">= X"`, or with `<=`, `>`, `<`'
    found = [bounds(field)] if bounds(field) else []
    patterns = [item.pattern for item in field.metadata if getattr(item, "pattern", None)]
    found += [f"`{pattern}`" for pattern in patterns]
    if means_nodes(field):
        found.append("*who*")
    return ", ".join(found)


def classes(annotation: Any) -> set[type]:
    """All classes that an annotation mentions."""
    found = {annotation} if isinstance(annotation, type) and not get_args(annotation) else set()
    return found.union(*(classes(inner) for inner in get_args(annotation)))


def means_nodes(field: FieldInfo) -> bool:
    """Whether its value is `spec.Who`, or holds some."""

    def within(annotation: Any) -> bool:
        return annotation == spec.Who or any(within(inner) for inner in get_args(annotation))

    return within(field.annotation) or any(isinstance(m, BeforeValidator) for m in field.metadata)


def shown(value: Any) -> str:
    """A value as TOML writes it, where it can."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    return f'"{value}"' if isinstance(value, str) else str(list(value) if value == () else value)


def bounds(field: FieldInfo) -> str:
    """What the field's constraints say."""
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    found = []
    for item in field.metadata:
        if type(item) in signs:
            sign, name = signs[type(item)]
            found.append(f"{sign} {getattr(item, name):g}")
        elif isinstance(item, MinLen | MaxLen):
            found.append(
                f"at most {item.max_length} characters" if isinstance(item, MaxLen) else "not empty"
            )
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        found.append(", ".join(f"`{choice}`" for choice in choices))
    for choice in choices:
        inner = getattr(choice, "__metadata__", ())
        found += [bounds(item) for item in inner if isinstance(item, FieldInfo)]
    return ", ".join(found)


PAGES = {"configuration.md": page, "scenario-keys.md": scenario_page}

if __name__ == "__main__":
    stale = [
        name
        for name, made in PAGES.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != made()
    ]
    if "--check" in sys.argv:
        sys.exit(f"not what would be written: {', '.join(stale)}" if stale else 0)
    for name in stale:
        (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
