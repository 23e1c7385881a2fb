"""What several commands check of what they were given."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from p2pfl.errors import ConfigError


def needs(what: str, *modules: str) -> None:
    """Check that packages are there before anything begins.

    Raises:
        ConfigError: one is missing; the text says how to get it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)}, which is not installed; "
            "pip install 'p2pfl-node[demo]'"
        )


def vacant(folder: Path) -> Path:
    """A folder that does not exist yet, or is empty: nothing of another run is overwritten.

    Raises:
        ConfigError: something is in it.
    """
    try:
        is_empty = not any(folder.iterdir())
    except FileNotFoundError:
        return folder
    except OSError as error:
        raise ConfigError(f"--out {folder}: {error.strerror}; give a new folder") from None
    if not is_empty:
        raise ConfigError(f"--out {folder} is not empty; give a new folder")
    return folder


class FloatRange(click.FloatRange):
    """As click's, which takes "nan" for a number within all bounds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A number within the bounds.

        Raises:
            click.BadParameter: it is none.
        """
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return found
