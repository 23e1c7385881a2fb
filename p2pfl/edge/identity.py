"""The state directory of one node: who it is, that it runs only once, and how its files change.

    identity.json                     node id, incarnation, and the run and model it belongs to
    lock                              held (flock) while a node runs; says which process holds it
    checkpoint.safetensors            checkpoint.py
    checkpoint.previous.safetensors
    journal.sqlite                    journal.py

Rule of the file: a file here is replaced, never edited. The new bytes are on the disk before they
get the name, so a crash at any instant leaves the old file or the new one, and nothing between.
The incarnation is raised and on the disk before the node says its first word, because peers
believe the higher one (SWIM, Das et al., DSN 2002) and an answer to a lower one is lost for good.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, BinaryIO, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from p2pfl.config import explain
from p2pfl.core.weights import Layout
from p2pfl.errors import StateError

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
        node: 32 hex digits, drawn once.
        incarnation: how often the node was started.
        run, layout, values: the run, and digest and length of the model, it was made for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    node: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    incarnation: Annotated[int, Field(ge=1, lt=2**53)]
    run: str
    layout: str
    values: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class StateDir:
    """An open state directory; nobody else can open it until it is closed.

    Attributes:
        path: the directory.
        identity: as it is on the disk, this start counted.
    """

    path: Path
    identity: Identity
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
                is damaged, or it cannot be written. Incarnation and files are as they were.
        """
        try:
            # looked at before anything is touched: a foreign directory keeps even its lock file
            _owned(_identity(path / IDENTITY), path, run, layout)
            if not path.exists():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync_directory(path.parent)
            lock = _locked(path)
            try:
                known = _owned(_identity(path / IDENTITY), path, run, layout)
                now = Identity(
                    node=known.node if known else secrets.token_hex(16),
                    incarnation=known.incarnation + 1 if known else 1,
                    run=run,
                    layout=layout.digest,
                    values=layout.size,
                )
                with replacement(path / IDENTITY) as file:
                    file.write(_rendered(now))
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            reason = _FIXES.get(error.errno or 0, f"{error.strerror}; give another --state-dir")
            raise StateError(f"state directory {path} cannot be used: {reason}") from error
        return cls(path, now, lock)

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


# --- identity.json ------------------------------------------------------------------------------


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
    if known is not None and (known.run, known.layout) != (run, layout.digest):
        raise StateError(
            f"state directory {path} belongs to run '{known.run}', model {known.layout} "
            f"({known.values:,} values), but this node is of run '{run}', model {layout.digest} "
            f"({layout.size:,} values); give this node another --state-dir, or delete that one"
        )
    return known


def _locked(path: Path) -> IO[str]:
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


# --- durable files ------------------------------------------------------------------------------


def unwatched(_: str) -> None:
    """Nobody looks at the steps of a durable write."""


@contextmanager
def replacement(
    path: Path,
    *,
    keep: Path | None = None,
    temporary: Path | None = None,
    step: Callable[[str], None] = unwatched,
) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well, and never else.

    Args:
        path: the name to take.
        keep: where the present `path` goes just before, if there is one. Between the two renames
            only `keep` exists; hard links would close that gap, but phones and memory cards
            often have none.
        temporary: where the bytes gather; must be in the same directory.
        step: called after every operation with its name; tests let the process die there.

    Raises:
        OSError: it could not be written; `path` is as it was, or its bytes are under `keep`.
    """
    temporary = temporary or path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            step("opened")
            yield file
            file.flush()
            os.fsync(file.fileno())
            step("synced")
        if keep is not None and path.exists():
            path.replace(keep)
            step("kept")
        temporary.replace(path)
        step("replaced")
        _sync_directory(path.parent)
        step("directory synced")
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot: there the renames are as durable as they get
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)
