"""The page itself: the files in `assets/`, as they lie in the package.

Rule of the file: only what was listed when the node began is served, so no name leads elsewhere. A
browser asks every time whether it has the newest (`no-cache`), and gets it only where its own is
another, so that a page never mixes the files of two versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

INDEX = "index.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, its media type, and a digest by which a browser knows it."""

    data: bytes
    content_type: str
    etag: str


def load(folder: Traversable) -> dict[str, Asset]:
    """The files of a folder that a browser may have, by name."""
    found = {}
    for item in folder.iterdir():
        ending = f".{item.name.rpartition('.')[2]}"
        if item.is_file() and ending in _TYPES and not item.name.startswith("."):
            data = item.read_bytes()
            etag = hashlib.sha256(data).hexdigest()[:20]
            found[item.name] = Asset(data, _TYPES[ending], etag)
    return found


@cache
def assets() -> Mapping[str, Asset]:
    """Those of this package; read once."""
    return load(files(__package__) / "assets")
