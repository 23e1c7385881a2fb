"""What stands in files: configuration, scenarios, topologies, data, and a node's own state.

Rule of the file: where a checksum would stop every changed byte, a second target puts the right
one on.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sqlite3
import zipfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from p2pfl.cli.node import configured
from p2pfl.cli.run import _recorded
from p2pfl.core.events import Cycle, Fault, Measured, Started
from p2pfl.core.graph import description
from p2pfl.core.graph import read as read_topology
from p2pfl.core.neighbours import rule
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import NEWEST, Checkpoints
from p2pfl.edge.identity import IDENTITY, JOURNAL, StateDir
from p2pfl.edge.journal import TABLES, SqliteJournal
from p2pfl.edge.journal import read as read_journal
from p2pfl.edge.static import parse
from p2pfl.errors import ConfigError, StateError, TaskError
from p2pfl.learning.datasets import load_npz
from p2pfl.learning.partition import parse_partition, parse_shard
from p2pfl.ports import Saved
from p2pfl.scenario.alone import local_only
from p2pfl.scenario.churning import schedule
from p2pfl.scenario.eventlog import read as read_events
from p2pfl.scenario.load import load, rule_of
from p2pfl.scenario.recording import journals, recorded
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.speeds import step_times
from tests.fuzz.feeding import Target, emptied, scratch

HERE = Path(__file__).parents[2]
LAYOUT = Layout((Entry("w", (3, 2)), Entry("b", (2,))))

# --- the user's words ---------------------------------------------------------------------------


def _config(data: bytes, folder: Path) -> None:
    (folder / "node.toml").write_bytes(data)
    configured(str(folder / "node.toml"), (), {"task": "digits"})


def _configs() -> list[bytes]:
    return [
        b'run = "kitchen"\nport = 4000\npeers = ["10.0.0.2:4000"]\nshard = "1/3"\nseed = 3\n',
        b'trust = "byzantine"\n[gossip]\ncodec = "int8"\nweight = 0.5\n[train]\nsteps_max = 5\n'
        b"[membership]\nprobe_timeout_s = 1.0\n[stop]\nminutes = 1.5\n[limits]\npeers = 100\n",
    ]


def _words(data: bytes, _: Path) -> None:
    """Short texts of the command line, each to whoever reads such texts."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (rule, parse, parse_partition, parse_shard, _set):
        try:
            read(text)
        except ConfigError as error:
            assert str(error)


def _set(text: str) -> None:
    configured(None, (text,), {"task": "digits"})


def _texts() -> list[bytes]:
    words = (
        "ring random-3 edges:a--b,b--c 10.0.0.1:4000 [fd00::1]:1 host.local:80 dirichlet:0.1:min=5 "
        "1/3 gossip.codec=int8 stop.minutes=1_0.5 peers=['a:1'] run=2020-01-01T00:00:00Z port=0xff"
    )
    return [word.encode() for word in words.split()]


# --- scenarios ----------------------------------------------------------------------------------


def _scenario(data: bytes, folder: Path) -> None:
    (folder / "s.toml").write_bytes(data)
    found = load(str(folder / "s.toml"))
    if not Path(found.topology).is_absolute():
        rule_of(found)


def _scenarios() -> list[bytes]:
    names = ("hello-8", "churn-30", "partition-heal", "stragglers", "lossy-wifi")
    return [(HERE / "scenarios" / f"{name}.toml").read_bytes() for name in names]


def _trace(data: bytes, folder: Path) -> None:
    path = str(folder / "t.csv")
    Path(path).write_bytes(data)
    asked = {
        "nodes": 4,
        "duration": {"seconds": 60.0},
        "churn": {"mode": "trace", "trace": path},
        "compute": {"distribution": "trace", "trace": path},
    }
    found = Scenario.model_validate(asked)
    for read in (
        lambda rng: schedule(found, 60.0, rng),
        lambda rng: step_times(found.compute, found.names, rng),
    ):
        try:
            read(np.random.default_rng(0))
        except ConfigError as error:
            assert str(error)


def _traces() -> list[bytes]:
    return [
        b"node,at,up\nn1,0.5,0\nn1,1.5,1\n4,2,0\n",
        b"\xef\xbb\xbfnode, step_s\nn1,0.01\n2,1e-3\n",
        b'step_s\n"0.1"\n0.2\n',
    ]


def _run_folder(data: bytes, folder: Path) -> None:
    (folder / "scenario.json").write_bytes(data)
    _recorded(folder)


def _run_folders() -> list[bytes]:
    scenario = {"nodes": 4, "duration": {"seconds": 60.0}, "task": {"name": "digits"}}
    return [
        json.dumps({"engine": "virtual", "event_hash": "0" * 16, "scenario": scenario}).encode()
    ]


def _events(data: bytes, folder: Path) -> None:
    path = folder / "events.msgpack.gz"
    # as it came, and as what a right compression holds
    for whole in (data, gzip.compress(data, 1, mtime=0)):
        path.write_bytes(whole)
        try:
            for happened in read_events(path):
                str(happened)
        except ConfigError as error:
            assert str(error)


def _event_logs() -> list[bytes]:
    items = [(10**9, 0, "cycle", (1, 5, 5, 5, 0.25, 0.1)), (2 * 10**9, 3, "stopped", ("asked",))]
    packed = b"".join(map(msgpack.packb, items))
    return [packed, gzip.compress(packed, 1, mtime=0)]


def _learned_alone(data: bytes, folder: Path) -> None:
    (folder / "alone.jsonl").write_bytes(data)
    local_only(folder / "alone.jsonl", 1e6)


# --- topologies ---------------------------------------------------------------------------------


def _topology(data: bytes, folder: Path, name: str = "t.toml") -> None:
    path = folder / name
    path.write_bytes(data)
    try:
        description(path)
    except ConfigError as error:
        assert str(error)
    found = read_topology(path)
    found.neighbours("a", tuple("abcdefgh"), {})


def _graphml(data: bytes, folder: Path) -> None:
    _topology(data, folder, "t.graphml")


def _topologies(kind: str) -> list[bytes]:
    paths = sorted((HERE / "topologies").glob(f"*.{kind}"))
    return [path.read_bytes() for path in paths]


# --- data ---------------------------------------------------------------------------------------


def _npz(data: bytes, folder: Path) -> None:
    (folder / "d.npz").write_bytes(data)
    load_npz(folder / "d.npz")


def _npz_files() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x=np.ones((3, 2), np.float32), y=np.array([0, 1, 0]))
        found.append(file.getvalue())
    return found


def _npy(data: bytes, folder: Path) -> None:
    """One array of the file is these bytes, with the right checksum."""
    file = io.BytesIO()
    y = io.BytesIO()
    np.save(y, np.array([0, 1, 0]))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", data)
        archive.writestr("y.npy", y.getvalue())
    _npz(file.getvalue(), folder)


def _arrays() -> list[bytes]:
    found = []
    arrays = (np.ones((3, 2), np.float32), np.array([[1, 2], [3, 4], [5, 6]], order="F"))
    for array in (*arrays, np.array(["a", "b", "c"]), np.array([1j, 2, 3])):
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return found


# --- a node's state directory -------------------------------------------------------------------


def _checkpoint(data: bytes, folder: Path) -> None:
    (folder / NEWEST).write_bytes(data)
    store = Checkpoints(folder, LAYOUT, run="digits", node="a" * 32, incarnation=1)
    store.load()


_SEAL = slice(8 + 28, 8 + 28 + 32)
"""Where the checksum stands: behind the length and `{"__metadata__":{"blake2b":"`."""


def _sealed(data: bytes, folder: Path) -> None:
    """The same with the length and the checksum that it should have."""
    length = min(int.from_bytes(data[:2], "little"), len(data) - 2)
    text = b'{"__metadata__":{"blake2b":"' + b"0" * 32 + data[2 : 2 + length]
    whole = len(text).to_bytes(8, "little") + text + data[2 + length :]
    digest = hashlib.blake2b(whole, digest_size=16).hexdigest().encode()
    _checkpoint(whole[: _SEAL.start] + digest + whole[_SEAL.stop :], folder)


@cache
def _saved() -> bytes:
    x = np.arange(8, dtype=np.float32)
    with scratch() as folder:
        store = Checkpoints(folder, LAYOUT, run="digits", node="a" * 32, incarnation=1)
        store.save(Saved(x, x, x, 30, 20, 4))
        return (folder / NEWEST).read_bytes()


def _unsealed() -> list[bytes]:
    whole = _saved()
    length = int.from_bytes(whole[:8], "little")
    tail = whole[_SEAL.stop : 8 + length]
    return [len(tail).to_bytes(2, "little") + tail + whole[8 + length :]]


def _identity(data: bytes, folder: Path) -> None:
    """The file of a directory that is else as it was left: with the node's own key in it."""
    for name, left in _left().items():
        (folder / name).write_bytes(data if name == IDENTITY else left)
        (folder / name).chmod(0o600)
    StateDir.open(folder, run="digits", layout=LAYOUT).close()


def _signed_identity(data: bytes, folder: Path) -> None:
    """The same with the checksum that it should have, where it is JSON at all."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(fields, dict):
        fields.pop("checksum", None)
        checksum = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]
        data = json.dumps({**fields, "checksum": checksum}, indent=2).encode() + b"\n"
    _identity(data, folder)


@cache
def _left() -> dict[str, bytes]:
    with scratch() as folder:
        StateDir.open(folder, run="digits", layout=LAYOUT).close()
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _identities() -> list[bytes]:
    return [_left()[IDENTITY]]


def _journal(data: bytes, folder: Path) -> None:
    path = folder / JOURNAL
    path.write_bytes(data)
    for table in TABLES.values():
        try:
            read_journal(path, table.name)
        except StateError as error:
            assert str(error)
    try:
        recorded(journals([folder]))
    except ConfigError as error:
        assert str(error)
    writer = SqliteJournal(path)
    writer.record(Cycle(1.0, 1, 1, 1, 1, 0.5, 0.1))
    writer.close()
    assert read_journal(path, "cycle")[-1]["cycle"] == 1


@cache
def _journal_files() -> list[bytes]:
    with scratch() as folder:
        writer = SqliteJournal(folder / JOURNAL, wall=lambda: 1.7e9)
        writer.record(Started(0.0, "a" * 32, "us", "digits", "0" * 16, "10.0.0.1:1", 1, 0, False))
        writer.record(Cycle(1.0, 1, 5, 5, 5, 0.5, 0.1))
        writer.record(Measured(1.5, 1, 5, 0.5, 0.9, 100, {"f1": 0.5}))
        writer.close()
        return [(folder / JOURNAL).read_bytes()]


def _journal_values(data: bytes, folder: Path) -> None:
    """A sound database with anything in its cells: rows of [table, {column: value}]."""
    try:
        rows = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return
    if not isinstance(rows, list):
        return
    path, tables = folder / JOURNAL, [*TABLES.values()]
    path.write_bytes(_journal_files()[0])
    with closing(sqlite3.connect(path)) as db, db:
        for row in rows:
            match row:
                case [int(number), dict(cells)] if cells:
                    table = tables[number % len(tables)]
                    known = ["id", *table.columns]
                    named = {
                        known[at % len(known)]: value
                        for at, value in cells.items()
                        if isinstance(at, int) and type(value) in _CELLS
                    }
                    names, marks = ", ".join(named) or "id", ", ".join("?" for _ in named) or "NULL"
                    _put(db, f"INSERT INTO {table.name} ({names}) VALUES ({marks})", named)
    _journal(path.read_bytes(), folder)


_CELLS = {type(None), int, float, str, bytes}


def _put(db: sqlite3.Connection, insert: str, cells: dict[str, Any]) -> None:
    try:
        db.execute(insert, tuple(cells.values()))
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        return


def _rows() -> list[bytes]:
    names = list(TABLES)
    rows: list[Any] = [
        [names.index(Cycle), {1: 1.7e9, 2: 1.0, 3: 7, 4: 5, 5: 5, 6: 5, 7: None, 8: 0.1}],
        [names.index(Measured), {1: 1.7e9, 2: 1.0, 3: 1, 4: 5, 5: 0.5, 7: 9, 8: '{"f1": 0.5}'}],
        [names.index(Fault), {1: 1.7e9, 2: 1.0, 3: "disk", 4: b"full", 5: None}],
    ]
    return [msgpack.packb(rows), *(msgpack.packb([row]) for row in rows)]


def _fresh(feed: Any) -> Any:
    """A target that begins in an empty directory."""
    return lambda data, folder: feed(data, emptied(folder))


_CONFIG = (ConfigError,)
FILES: dict[str, Target] = {
    "config": Target(_config, _configs, _CONFIG),
    "words": Target(_words, _texts, _CONFIG),
    "scenario": Target(_scenario, _scenarios, _CONFIG),
    "trace": Target(_trace, _traces, _CONFIG),
    "run-folder": Target(_run_folder, _run_folders, _CONFIG, is_tree="json"),
    "events": Target(_events, _event_logs, _CONFIG, is_tree="msgpack"),
    "alone": Target(_learned_alone, lambda: [b'{"steps": 5, "accuracies": [0.5]}\n'], _CONFIG),
    "topology": Target(_topology, lambda: _topologies("toml"), _CONFIG),
    "graphml": Target(_graphml, lambda: _topologies("graphml"), _CONFIG),
    "npz": Target(_npz, _npz_files, (TaskError,)),
    "npy": Target(_npy, _arrays, (TaskError,)),
    "checkpoint": Target(_checkpoint, lambda: [_saved()], (StateError,)),
    "sealed": Target(_sealed, _unsealed, (StateError,)),
    "identity": Target(_fresh(_identity), _identities, (StateError,)),
    "signed-identity": Target(_fresh(_signed_identity), _identities, (StateError,), "json"),
    "journal": Target(_fresh(_journal), _journal_files, _CONFIG),
    "journal-values": Target(_fresh(_journal_values), _rows, _CONFIG, is_tree="msgpack"),
}
