"""The token with which Prometheus reads `/metrics` of a node in a run with a key.

A file in the state directory, made once and readable by its owner alone; Prometheus reads it there
(`credentials_file`). It opens `/metrics` and nothing else.

Rule of the file: a token that others can read, or that is damaged, is an error with its fix.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from p2pfl.edge.durable import replacement
from p2pfl.errors import StateError

SCRAPE_FILE = "scrape-token"

_BYTES = 32
_TOKEN = re.compile(r"[\w-]{43,128}", re.ASCII)
_READ_MAX = 256
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def made(state_dir: Path) -> str:
    """The token of the node whose state directory this is; made if there is none.

    Raises:
        StateError: it cannot be read or written, is damaged, or others can read it.
    """
    file = state_dir / SCRAPE_FILE
    try:
        try:
            return _read(file)
        except FileNotFoundError:
            token = secrets.token_urlsafe(_BYTES)
            with replacement(file, private=True) as writing:
                writing.write(f"{token}\n".encode())
            return token
    except OSError as error:
        raise StateError(f"{file} cannot be used: {error.strerror or error}") from None


def _read(file: Path) -> str:
    with file.open("rb") as reading:
        mode = stat.S_IMODE(os.fstat(reading.fileno()).st_mode)
        token = reading.read(_READ_MAX).decode(errors="replace").strip()
    if mode & _OTHERS:
        raise StateError(
            f"{file} has mode {mode:04o}, others could read it, expected 0600; delete it, and the "
            "node makes a new one at its next start"
        )
    if not _TOKEN.fullmatch(token):
        raise StateError(
            f"{file} is damaged: not the token that was written; delete it, and the node makes a "
            "new one at its next start"
        )
    return token
