"""The journals of nodes: where they are, and what stands in them, by wall time.

Rule of the file: it only reads, also while a node writes; what is missing or dropped is noted, and
a journal that cannot be read is an error that names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from p2pfl.core.events import Event, Started, Stopped
from p2pfl.edge.identity import IDENTITY, JOURNAL, Identity
from p2pfl.edge.journal import TABLES, read
from p2pfl.errors import ConfigError, StateError
from p2pfl.scenario.recording.text import moment

Timed: TypeAlias = tuple[float, Event]
"""An event and the wall time at which it was recorded, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What one node wrote down.

    Attributes:
        where: its state directory.
        events: by wall time.
        whole_since: rows older than this were dropped by the journal, in one table at least.
        values: of the model; None where its identity cannot be read.
        notes: what is to be known about it.
    """

    where: str
    events: tuple[Timed, ...]
    whole_since: float = -math.inf
    values: int | None = None
    notes: tuple[str, ...] = ()


def journals(
    paths: Iterable[Path], *, since: float | None = None, until: float | None = None
) -> list[Journal]:
    """The journals of nodes, each once, in the order of their folders.

    Args:
        paths: state directories, or folders with state directories in them.
        since, until: wall time; what happened outside is not kept, but for starts and stops.

    Raises:
        ConfigError: a path has no journal in it.
        StateError: a journal cannot be read.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.name == JOURNAL and path.is_file():
            inside = [path]
        else:
            inside = [path / JOURNAL] if (path / JOURNAL).is_file() else sorted(path.rglob(JOURNAL))
        if not inside:
            what = "has no journal in it" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"{path} {what}; give state directories of nodes, or a folder of them: the "
                "--state-dir of `p2pfl node` (else ~/.local/state/p2pfl/RUN), or a folder in runs/"
            )
        found |= dict.fromkeys(journal.resolve().parent for journal in inside)
    return [_journal(folder, since, until) for folder in found]


def _journal(folder: Path, since: float | None, until: float | None) -> Journal:
    path, timed, whole_since = folder / JOURNAL, list[tuple[float, int, Event]](), -math.inf
    first, last = since or -math.inf, math.inf if until is None else until
    for kind, table in TABLES.items():
        rows = read(path, table.name)
        if rows and rows[0]["id"] > 1:
            whole_since = max(whole_since, rows[0]["wall"])
        is_edge = kind in (Started, Stopped)
        rank = 0 if kind is Started else 2 if kind is Stopped else 1
        for row in rows:
            wall = row.pop("wall")
            if not ((is_edge or first <= wall) and wall <= last):
                continue
            del row["id"]
            try:
                timed.append((wall, rank, kind(**row)))
            except TypeError:
                raise StateError(
                    f"journal {path} cannot be read: table {table.name} lacks a column; "
                    "start its node once with this version, or leave it out"
                ) from None
    timed.sort(key=lambda entry: entry[:2])
    notes = []
    if folder.joinpath(JOURNAL).with_stem(f"{Path(JOURNAL).stem}.damaged-1").exists():
        notes.append(f"{folder}: an earlier journal was damaged; what it held is missing")
    if whole_since > max(first, timed[0][0] if timed else first):
        told = moment(whole_since)
        notes.append(f"{folder}: its journal is whole only since {told}; try --from '{told}'")
    return Journal(
        str(folder),
        tuple((wall, event) for wall, _, event in timed),
        whole_since,
        _values(folder / IDENTITY),
        tuple(notes),
    )


def _values(path: Path) -> int | None:
    """How many values the model has; a damaged identity is the node's trouble, not ours."""
    try:
        fields = json.loads(path.read_bytes())
        fields.pop("checksum", None)
        return Identity.model_validate(fields).values
    except (OSError, ValueError, ValidationError, AttributeError, TypeError, RecursionError):
        return None
