"""What several commands check of what they were given."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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
