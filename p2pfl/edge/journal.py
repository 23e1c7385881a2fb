"""What a node measured, in an SQLite file: one table for each kind of event, one row per event.

    record(event)     event loop: an append, nothing else
    flush()           worker thread, twice a second and at the end: one transaction
    read(), events()  any process, also while the node writes

Rule of the file: the journal never stops or slows the node. The buffer is bounded; what does not
fit is counted, and the count written down later; a file that is damaged is moved aside and a new
one begun; a full disk costs a warning. What was flushed survives SIGKILL (write-ahead log,
https://sqlite.org/wal.html); a power cut may cost the last moments, never the file.

Tables are derived from `p2pfl.core.events`: `MemberChanged` is `member_changed`, its columns are
`id`, `wall` (seconds since 1970) and the fields; a mapping is JSON text, NaN is NULL. A field that
a later version adds has a default, and becomes a column of an older file; every other change needs
a new `SCHEMA`. A cell may hold anything in SQLite: `read` believes none that is not of its type.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import MISSING, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from p2pfl.core.events import Event, Fault
from p2pfl.errors import ConfigError, StateError

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)

SCHEMA = 1
WAL_BYTES = 4 * 2**20  # the write-ahead log is cut back to this after a burst
DAMAGED_MAX = 9  # damaged files that are kept; from then on the last is replaced

# what a full disk, a lock or a missing directory say; the file is not at fault and is kept
_PASSING = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in ("BUSY", "CANTOPEN", "FULL", "IOERR", "LOCKED", "PERM", "PROTOCOL", "READONLY")
)
_INT_MAX = 2**63 - 1
_SQL = {float: "REAL", int: "INTEGER", bool: "INTEGER"}


@dataclass(frozen=True)
class _Table:
    name: str
    hints: Mapping[str, Any]
    defaults: Mapping[str, Any]

    @property
    def columns(self) -> dict[str, str]:
        """Name and SQL type of each, but for `id`."""
        kinds = {n: next(iter(get_args(h)), h) for n, h in self.hints.items()}
        return {"wall": "REAL"} | {n: _SQL.get(kind, "TEXT") for n, kind in kinds.items()}

    @cached_property
    def cells(self) -> dict[str, Callable[[Any], Any]]:
        """What becomes of a cell of each column; raises a ValueError."""
        hints = {"id": int, "wall": float, **self.hints}
        return {name: partial(_loaded, name, hint, self.defaults) for name, hint in hints.items()}


TABLES: dict[type, _Table] = {
    kind: _Table(
        re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower(),
        get_type_hints(kind),
        {field.name: field.default for field in fields(kind) if field.default is not MISSING},
    )
    for kind in get_args(Event)
}


class SqliteJournal:
    """The `Journal` of a real node. `record` is called on the event loop, the rest anywhere."""

    def __init__(
        self,
        path: Path,
        *,
        rows: int = 200_000,
        buffered: int = 10_000,
        every_s: float = 0.5,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read or written before the first `flush`.

        Args:
            path: in a directory that exists.
            rows: kept in each table, >= 1; the oldest go first.
            buffered: events kept while they cannot be written; more are only counted.
            every_s: pause between two flushes of `run`.
            wall: seconds since 1970.
        """
        self.path = path
        self._rows = rows
        self._buffered = buffered
        self._every_s = every_s
        self._wall = wall
        # the event loop appends to `_recorded` and counts in `_lost`; the rest is `flush`'s alone
        self._recorded: deque[tuple[float, Event]] = deque()
        self._lost = 0
        self._lost_at = 0.0
        # a flush that was cancelled at shutdown may still run in its thread when `close` comes
        self._flushing = Lock()
        self._batch: list[tuple[float, Event]] = []
        self._told = 0
        self._failing = False
        self._closed = False
        self._checked = False
        self._db: sqlite3.Connection | None = None

    def record(self, event: Event) -> None:
        """Keep one event; cheap, and never raises."""
        if type(event) in TABLES and len(self._recorded) + len(self._batch) < self._buffered:
            self._recorded.append((self._wall(), event))
        else:
            self._lost += 1
            self._lost_at = event.at

    async def run(self) -> None:
        """Flush every `every_s`, off the event loop, until cancelled; then call `close`."""
        while True:
            await asyncio.sleep(self._every_s)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Write what was recorded in one transaction; blocks for milliseconds, never raises.

        What cannot be written stays buffered for the next time.
        """
        with self._flushing:
            self._batch += [self._recorded.popleft() for _ in range(len(self._recorded))]
            lost = self._lost - self._told
            if self._closed or not (self._batch or lost):
                return
            try:
                try:
                    self._write(lost)
                except sqlite3.DatabaseError as error:
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
                        raise
                    self._set_aside(error)
                    self._write(lost)
            except (sqlite3.Error, OSError) as error:
                self._disconnect()
                if not self._failing:
                    log.warning("journal %s cannot be written, events wait: %s", self.path, error)
                self._failing = True
                return
            self._batch.clear()
            self._told += lost
            self._failing = False
            if lost:
                log.warning("journal %s: %d events were not kept, too many waited", self.path, lost)

    def close(self) -> None:
        """Flush and end; what is recorded later is forgotten. Closing twice does nothing."""
        self.flush()
        with self._flushing:
            self._closed = True
            self._disconnect()

    def _write(self, lost: int) -> None:
        if self._db is None:
            self._db = _opened(self.path, check=not self._checked)
            self._checked = True
        batch = self._batch
        if lost:
            detail = f"{lost} events were not kept: {self._buffered} waited already"
            batch = [*batch, (self._wall(), Fault(self._lost_at, "journal", detail))]
        rows: dict[type, list[list[Any]]] = {}
        for wall, event in batch:
            fields = (_stored(getattr(event, name)) for name in TABLES[type(event)].hints)
            rows.setdefault(type(event), []).append([wall, *fields])
        with self._db as db:
            for table, values in ((TABLES[kind], values) for kind, values in rows.items()):
                names, marks = ", ".join(table.columns), ", ".join("?" for _ in table.columns)
                insert = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 (ours)
                db.executemany(insert, values)
                newest = f"(SELECT max(id) FROM {table.name})"  # noqa: S608
                oldest = f"DELETE FROM {table.name} WHERE id <= {newest} - ?"  # noqa: S608
                db.execute(oldest, (self._rows,))

    def _set_aside(self, error: Exception) -> None:
        self._disconnect()
        self._checked = False
        numbers = range(1, DAMAGED_MAX + 1)
        asides = [self.path.with_stem(f"{self.path.stem}.damaged-{n}") for n in numbers]
        aside = next((path for path in asides if not path.exists()), asides[-1])
        # the log before the file: a log that outlived its file would be played into the new one
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
        log.warning("journal %s is damaged (%s); moved to %s", self.path, error, aside.name)

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def read(path: Path, table: str, *, after: int = 0) -> list[dict[str, Any]]:
    """Rows of one table, oldest first; the node may be writing meanwhile.

    Args:
        path: a journal.
        table: as in `cycle` or `member_changed`.
        after: only rows with a greater `id`, to follow a running node.

    Returns:
        Each row as `id`, `wall` and the event's fields, with the event's types.

    Raises:
        ConfigError: there is no such table.
        StateError: the file is missing or cannot be read, or a cell holds what no node writes.
    """
    kinds = {kind.name: kind for kind in TABLES.values()}
    if table not in kinds:
        raise ConfigError(f"a journal has no table '{table}'; it has {', '.join(sorted(kinds))}")
    if not path.is_file():
        raise StateError(f"there is no journal {path}; give the state directory of a node")
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            # only a table: a view could be any query, also one without an end
            known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
            if not db.execute(known, (table,)).fetchone():
                return []
            query = f"SELECT * FROM {table} WHERE id > ? ORDER BY id"  # noqa: S608 (checked above)
            cursor = db.execute(query, (after,))
            cells = kinds[table].cells
            columns = [(at, c[0]) for at, c in enumerate(cursor.description) if c[0] in cells]
            return [{name: cells[name](row[at]) for at, name in columns} for row in cursor]
    except (sqlite3.Error, ValueError) as error:
        raise StateError(f"journal {path} cannot be read: {error}") from error


def events(path: Path, kind: type[E], *, after: int = 0) -> list[E]:
    """The events of one kind, oldest first; as `read`, but typed and without `id` and `wall`."""
    rows = read(path, TABLES[kind].name, after=after)
    return [kind(**{n: v for n, v in row.items() if n not in ("id", "wall")}) for row in rows]


# --- the file -----------------------------------------------------------------------------------


def _opened(path: Path, *, check: bool) -> sqlite3.Connection:
    """A connection to a journal, made if there is none; `check` reads all of it.

    Raises:
        sqlite3.DatabaseError: it is damaged or no journal, or cannot be opened now (`_PASSING`).
    """
    db = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    try:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone() if check else ("ok",)
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict.splitlines()[-1])
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != SCHEMA and (version or tables):
            raise sqlite3.DatabaseError(f"it has schema {version}, expected {SCHEMA}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        with db:
            db.execute("BEGIN IMMEDIATE")
            for table in TABLES.values():
                db.execute(f"CREATE TABLE IF NOT EXISTS {table.name} (id INTEGER PRIMARY KEY)")
                present = {row[1] for row in db.execute(f"PRAGMA table_info({table.name})")}
                for name, kind in table.columns.items():
                    if name not in present:
                        db.execute(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")
    except ValueError as error:
        # the names in a damaged file need not be text, nor what SQLite says of them
        db.close()
        raise sqlite3.DatabaseError(f"it holds what is no text: {error}") from None
    except BaseException:
        db.close()
        raise
    return db


def _stored(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return max(-_INT_MAX, min(int(value), _INT_MAX))
    if isinstance(value, Mapping):
        return json.dumps({str(k): v for k, v in value.items()}, default=_stored)
    # a peer's text may hold what is no Unicode
    return str(value).encode(errors="replace").decode()


def _loaded(name: str, hint: Any, defaults: Mapping[str, Any], value: Any) -> Any:
    """A cell as the event's field.

    Raises:
        ValueError: no node writes that.
    """
    kinds = get_args(hint) or (hint,)
    if value is None and (hint is float or type(None) in kinds or name in defaults):
        return math.nan if hint is float else defaults.get(name)
    if get_origin(hint) is Mapping and type(value) is str:
        return _figures(name, value)
    if float in kinds and type(value) in (int, float):
        return float(value)
    if bool in kinds and value in (0, 1):
        return bool(value)
    if type(value) not in kinds:
        told = f"{value!r:.60}" if isinstance(value, str | bytes) else repr(value)
        raise ValueError(f"its column '{name}' holds {told}, which no node writes")
    return value


def _figures(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"its column '{name}' holds {text!r:.60}, expected a JSON object")
    return found
