"""`p2pfl export`: the trained model as a file of its own, with its parameter names and shapes.

Rule of the file: the state directory is only read, so a node may be running in it; the output
appears whole or not at all. Values are float32, as nodes mix them; torch and numpy convert on
loading. Metadata (run, layout, age, ...) is safetensors' own, and in an `.npz` the JSON text of
the array `__metadata__`.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from p2pfl.core.weights import read_only
from p2pfl.edge.checkpoint import NEWEST, PREVIOUS, newest
from p2pfl.edge.identity import replacement
from p2pfl.edge.sealed import METADATA, Checkpoint, write
from p2pfl.errors import ConfigError


def export(state_dir: Path, out: Path, *, overwrite: bool = False) -> Checkpoint:
    """Write the newest good checkpoint's model to `out`.

    Args:
        state_dir: of a node, running or not.
        out: ends in `.safetensors` or `.npz`.
        overwrite: whether an existing `out` may be replaced.

    Returns:
        What was exported, to tell the user.

    Raises:
        ConfigError: unknown ending, nothing to export, or `out` cannot be written; nothing was.
        StateError: every checkpoint is damaged.
    """
    form = FORMATS.get(out.suffix.lower())
    if form is None:
        raise ConfigError(f"cannot tell the format of {out}; it must end in {' or '.join(FORMATS)}")
    try:
        if out.is_dir() or (out.exists() and not overwrite):
            fix = "give another name" if out.is_dir() else "give another name, or --overwrite"
            raise ConfigError(f"{out} exists; {fix}")
        if out.resolve() in ((state_dir / name).resolve() for name in (NEWEST, PREVIOUS)):
            raise ConfigError(f"{out} is one of the node's own checkpoints; give another name")
        if not out.parent.is_dir():
            raise ConfigError(f"there is no directory {out.parent} to write {out.name} to; make it")
        if not state_dir.is_dir():
            raise ConfigError(
                f"there is no state directory {state_dir}; give the one a node was started with"
            )
        found = newest(state_dir, training=False)
        if found is None:
            raise ConfigError(
                f"{state_dir} holds no checkpoint; wait until its node has written the first, "
                "or give the directory a node was started with"
            )
        about = {k: v for k, v in found.about.items() if k not in ("blake2b", "format")}
        # of this process alone: two exports to one name must not share their bytes
        temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        with replacement(out, temporary=temporary) as file:
            form(file, found, about)
    except OSError as error:
        raise ConfigError(f"cannot export {state_dir} to {out}: {error.strerror}") from error
    return found


def _safetensors(file: BinaryIO, found: Checkpoint, about: Mapping[str, str]) -> None:
    # "pt" is what model loaders of the torch world ask for; it changes no byte of the data
    write(file, found.layout, found.saved.weights, {"format": "pt", **about})


def _npz(file: BinaryIO, found: Checkpoint, about: Mapping[str, str]) -> None:
    # not numpy.savez: it takes names as keyword arguments, and a parameter may be called `file`
    arrays = found.layout.views(read_only(found.saved.weights))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {**arrays, METADATA: np.array(json.dumps(about))}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


FORMATS: dict[str, Callable[[BinaryIO, Checkpoint, Mapping[str, str]], None]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
}
