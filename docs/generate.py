"""Writes docs/configuration.md from the configuration's own descriptions.

python docs/generate.py            write it
python docs/generate.py --check    exit 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from p2pfl.config import DeviceConfig

PAGE = Path(__file__).with_name("configuration.md")
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


def page() -> str:
    """The whole page as Markdown."""
    tables = [HEAD, "## Top level", "", *rows(DeviceConfig)]
    for name, field in DeviceConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            what = (model.__doc__ or "").strip().splitlines()[0]
            tables += ["", f"## `[{name}]`", "", what, "", *rows(model)]
    return "\n".join(tables) + "\n"


def rows(model: type[BaseModel]) -> list[str]:
    """One table: a row for each key that is not a table itself."""
    lines = ["| key | default | bounds | what it does |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        default = "required" if field.is_required() else f"`{shown(field.default)}`"
        lines.append(f"| `{name}` | {default} | {bounds(field)} | {field.description} |")
    return lines


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


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
