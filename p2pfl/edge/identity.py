"""The state directory of one node: who it is, and that it runs only once.

    node.key                          nodekey.py: the key whose fingerprint is the node id
    identity.json                     node id, incarnation, and the run and model it belongs to
    lock                              held (flock) while a node runs; says which process holds it
    checkpoint.safetensors            checkpoint.py
    checkpoint.previous.safetensors
    journal.sqlite                    journal.py

Rule of the file: the incarnation is raised and on the disk before the node says its first word,
because peers believe the higher one (SWIM, Das et al., DSN 2002), and who used a number twice would
have signed two models for it. So a key goes with its count of starts: where that is gone, the node
is a new one, under a new key.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from p2pfl.configuring import explain
from p2pfl.core.weights import Layout
from p2pfl.edge.durable import replacement as replacement
from p2pfl.edge.durable import sync_directory
from p2pfl.edge.durable import unwatched as unwatched
from p2pfl.edge.nodekey import NODE_KEY, NodeKey, grouped
from p2pfl.errors import StateError

log = logging.getLogger(__name__)

IDENTITY = "identity.json"
LOCK = "lock"
JOURNAL = "journal.sqlite"

NAME_BYTES_MAX = 200
"""Longest file name made of a run's or node's name; file systems end at 255."""

_FIXES = {
    errno.ENOTDIR: "it, or a directory above it, is a file; give another with --state-dir",
    errno.EACCES: "no permission; change its owner, or give another with --state-dir",
    errno.EPERM: "no permission; change its owner, or give another with --state-dir",
    errno.EROFS: "its file system is read-only; give another with --state-dir",
    errno.ENOSPC: "its disk is full; free some space",
    errno.EDQUOT: "its disk quota is used up; free some space",
    errno.ENOLCK: "its file system knows no locks; give a local one with --state-dir",
}


class Identity(BaseModel):
    """What identity.json says.

    Attributes:
        format: 1 had an id drawn by chance, which no key stands for.
        node: fingerprint of the node's key, 32 hex digits.
        incarnation: how often the node was started; 0 where it only has a key yet.
        run, layout, values: the run, and digest and length of the model, it was made for; no
            layout where it only has a key yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = 2
    node: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    incarnation: Annotated[int, Field(ge=0, lt=2**53)]
    run: str
    layout: str
    values: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class StateDir:
    """An open state directory; nobody else can open it until it is closed.

    Attributes:
        path: the directory.
        identity: as it is on the disk, this start counted.
        key: the node's.
    """

    path: Path
    identity: Identity
    key: NodeKey
    _lock: IO[str] = field(repr=False)

    @classmethod
    def open(cls, path: Path, *, run: str, layout: Layout) -> StateDir:
        """Take the directory, making it if there is none, and count this start durably.

        Args:
            path: the directory; its parents are made too.
            run: name of the run.
            layout: of the model this node trains.

        Raises:
            StateError: another process holds it, it belongs to another run or model, its identity
                or key is damaged or gone, or it cannot be written. Incarnation and files are as
                they were.
        """
        with _explained(path):
            # looked at before anything is touched: a foreign directory keeps even its lock file
            _owned(_identity(path / IDENTITY), path, run, layout)
            lock = _locked(path)
            try:
                known = _owned(_identity(path / IDENTITY), path, run, layout)
                key = _key(path, known)
                now = Identity(
                    node=key.node,
                    incarnation=known.incarnation + 1 if known else 1,
                    run=run,
                    layout=layout.digest,
                    values=layout.size,
                )
                _write(path, now)
            except BaseException:
                lock.close()
                raise
        return cls(path, now, key, lock)

    @property
    def node(self) -> str:
        """This node's id, 32 hex digits."""
        return self.identity.node

    @property
    def incarnation(self) -> int:
        """How often this node was started, this time included."""
        return self.identity.incarnation

    @property
    def journal(self) -> Path:
        """Where the node's journal lies."""
        return self.path / JOURNAL

    def close(self) -> None:
        """Let others have it; closing twice does nothing."""
        self._lock.close()

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def node_key(path: Path, *, run: str) -> NodeKey:
    """The key of the node whose state directory this is; made if there is none.

    Safe while the node runs there.

    Args:
        path: the directory; made, with its parents, if there is none.
        run: name of the run, for a new one.

    Raises:
        StateError: its identity or key is damaged or gone, or it cannot be read or written.
    """
    with _explained(path):
        known = _identity(path / IDENTITY)
        if known is not None and known.format > 1:
            return _key(path, known)
        with _locked(path):
            known = _identity(path / IDENTITY)
            key = _key(path, known)
            if known is None:
                known = Identity(node=key.node, incarnation=0, run=run, layout="", values=0)
            _write(path, known.model_copy(update={"node": key.node, "format": 2}))
    return key


def default_path(run: str, name: str) -> Path:
    """Where a node keeps its state unless told otherwise: the user's state directory / run / name.

    Characters that could leave the directory or trouble a file system are percent-encoded.
    """
    return Path(platformdirs.user_state_dir("p2pfl")) / _file_name(run) / _file_name(name)


def _file_name(text: str) -> str:
    encoded = "".join(
        char if char.isalnum() or char in "_- " or (char == "." and at) else _percent(char)
        for at, char in enumerate(text)
    )
    if len(encoded.encode()) <= NAME_BYTES_MAX:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{encoded.encode()[: NAME_BYTES_MAX - 17].decode(errors='ignore')}-{digest}"


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says what the operating system does not let us do here, as a `StateError`."""
    try:
        yield
    except OSError as error:
        reason = _FIXES.get(error.errno or 0, f"{error.strerror}; give another --state-dir")
        raise StateError(f"state directory {path} cannot be used: {reason}") from error


# --- node.key -----------------------------------------------------------------------------------


def _key(path: Path, known: Identity | None) -> NodeKey:
    """The key that the identity names, or a new one, on the disk, where none is named.

    Raises:
        OSError: it cannot be read or written.
        StateError: it is damaged, gone, another's, or others can read it.
    """
    file = path / NODE_KEY
    if known is None or known.format == 1:
        key = NodeKey.create(file)
        if known is not None:
            log.warning(
                "the id of this node is the fingerprint of a key from now on: %s is now %s",
                *(known.node, grouped(key.node)),
            )
        return key
    try:
        key = NodeKey.load(file)
    except FileNotFoundError:
        raise StateError(
            f"{file} is gone, the key of node {known.node}; put back a copy of it (mode 0600), or "
            f"delete {IDENTITY}: the node then starts as a new one and keeps the model of its "
            "checkpoint"
        ) from None
    if key.node != known.node:
        raise StateError(
            f"{file} is the key of node {key.node}, but {IDENTITY} is of node {known.node}; put "
            f"back the two that belong together, or delete {IDENTITY}: the node then starts as a "
            "new one and keeps the model of its checkpoint"
        )
    return key


# --- identity.json ------------------------------------------------------------------------------


def _write(path: Path, identity: Identity) -> None:
    with replacement(path / IDENTITY) as file:
        file.write(_rendered(identity))


def _rendered(identity: Identity) -> bytes:
    fields = identity.model_dump()
    checksum = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]
    return json.dumps({**fields, "checksum": checksum}, indent=2).encode() + b"\n"


def _identity(path: Path) -> Identity | None:
    """The identity as it stands, None where there is none.

    Raises:
        OSError: it cannot be read.
        StateError: it is not what was written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    fix = (
        "put back a copy of it, or delete it: the node then starts as a new one "
        "and keeps the model of its checkpoint"
    )
    try:
        fields = json.loads(data)
        fields.pop("checksum", None)
        identity = Identity.model_validate(fields)
    except ValidationError as error:
        raise StateError(f"{explain(error, Identity, str(path))}; {fix}") from None
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise StateError(f"{path} is damaged: not the JSON that was written; {fix}") from None
    if data != _rendered(identity):
        raise StateError(f"{path} is damaged: its checksum does not fit; {fix}")
    return identity


def _owned(known: Identity | None, path: Path, run: str, layout: Layout) -> Identity | None:
    """The identity again, if it is of this run and model (or there is none)."""
    if known is None or (known.run, known.layout or layout.digest) == (run, layout.digest):
        return known
    if not known.layout:
        raise StateError(
            f"state directory {path} holds a key that was made for run '{known.run}', but this "
            f"node is of run '{run}'; give both the same --run, or this node another --state-dir"
        )
    raise StateError(
        f"state directory {path} belongs to run '{known.run}', model {known.layout} "
        f"({known.values:,} values), but this node is of run '{run}', model {layout.digest} "
        f"({layout.size:,} values); give this node another --state-dir, or delete that one"
    )


def _locked(path: Path) -> IO[str]:
    """The directory's lock, held until it is closed; the directory is made if there is none."""
    if not path.exists():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(path.parent)
    file = (path / LOCK).open("a+", encoding="ascii", errors="replace")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BlockingIOError:
        file.seek(0)
        pid = file.read(32).strip()
        file.close()
        holder = f"process {pid}" if pid.isdecimal() else "another process"
        raise StateError(
            f"state directory {path} is in use by {holder}; "
            "stop it, or give this node another --name or --state-dir"
        ) from None
    except BaseException:
        file.close()
        raise
    return file
