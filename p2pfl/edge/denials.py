"""Who may not take part: what this device was told, what a shared list says, what peers passed on.

    --deny NODE-ID     this node's own opinion: obeyed here, told to nobody
    --deny-list FILE   lines of `p2pfl deny`, signed by the admission key, or bare node ids, which
                       are an own opinion again; read anew whenever it changes
    denials.jsonl      in the state directory: signed denials that peers passed on

One line, one denial: `{"node": "3f2a...", "at": 1767225600, "proof": "..."}`; empty lines and those
that begin with `#` say nothing. Rule of the file: a list is taken as a whole or not at all; who is
denied stays denied while the node runs, whatever becomes of a file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from p2pfl.configuring import explain
from p2pfl.core.messages import Denial
from p2pfl.core.statements import denial_bytes
from p2pfl.edge.durable import replacement
from p2pfl.edge.nodekey import NODE_DIGITS, SIGNATURE_BYTES, parse_node
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, StateError

log = logging.getLogger(__name__)

DENIALS = "denials.jsonl"
_FILE_MAX = 2**20
_NO_STAMP = (0, 0, 0)


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    node: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{NODE_DIGITS}}}$")]
    at: Annotated[int, Field(ge=0, lt=2**53)]
    proof: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * SIGNATURE_BYTES}}}$")]


class DenyFiles:
    """The `DenyList` of a real node.

    Args:
        remembered: `denials.jsonl` of its state directory.
        is_admissions: whether a signature is the admission key's, as in `ports.Notary`.
        own: node ids that are denied here.
        shared: a deny list to watch.

    Raises:
        ConfigError: the shared list cannot be read, is damaged or of another run.
        StateError: what was remembered is damaged.
    """

    def __init__(
        self,
        remembered: Path,
        is_admissions: Callable[[bytes, bytes], bool],
        *,
        own: Iterable[str] = (),
        shared: Path | None = None,
    ) -> None:
        self._file = remembered
        self._is_admissions = is_admissions
        self._shared = shared
        self._stamp = _NO_STAMP
        self._complaint = ""
        self._told: dict[str, Denial] = {}
        self._new: dict[str, Denial] = {node: Denial(node, 0, b"") for node in own}
        if shared is not None:
            self._stamp = _stamp(shared)
            self._take(self._of_this_run(read(shared)))
        # of a run whose key was another, what peers said has no weight any more
        self._kept = {d.node: d for d in self._remembered() if self._is_signed(d)}
        self._take(self._kept.values())

    def fresh(self) -> tuple[Denial, ...]:
        """Denials that came to the list since this was last asked; all of them at first."""
        if self._shared is not None:
            self._look_again(self._shared)
        new = tuple(self._new.values())
        self._told |= self._new
        self._new = {}
        return new

    def keep(self, denial: Denial) -> None:
        """Remember what a peer told; it was found to be signed."""
        if denial.node in self._kept:
            return
        self._kept[denial.node] = self._told[denial.node] = denial
        try:
            write(self._file, self._kept)
        except OSError as error:
            log.warning("the denial of %s is forgotten at the next start: %s", denial.node, error)

    def _take(self, denials: Iterable[Denial]) -> None:
        for denial in denials:
            known = self._new.get(denial.node) or self._told.get(denial.node)
            if known is None or (denial.proof and not known.proof):
                self._new[denial.node] = denial

    def _look_again(self, shared: Path) -> None:
        try:
            stamp = _stamp(shared)
            if stamp == self._stamp:
                return
            found = self._of_this_run(read(shared))
        except ConfigError as error:
            if str(error) != self._complaint:
                log.warning("the last good deny list stays in force: %s", error)
            self._complaint = str(error)
            return
        self._stamp, self._complaint = stamp, ""
        self._take(found)

    def _of_this_run(self, found: Mapping[str, Denial]) -> Iterable[Denial]:
        """The same denials.

        Raises:
            ConfigError: one is signed, and not by this run's admission key.
        """
        for denial in found.values():
            if denial.proof and not self._is_signed(denial):
                raise ConfigError(
                    f"deny list {self._shared}: the denial of {denial.node} is not signed by this "
                    "run's admission key; only a strict run has one. A line that is only the node "
                    "id is obeyed by this node alone"
                )
        return found.values()

    def _is_signed(self, denial: Denial) -> bool:
        return self._is_admissions(denial_bytes(denial), denial.proof)

    def _remembered(self) -> Iterable[Denial]:
        if not self._file.exists():
            return ()
        try:
            return read(self._file).values()
        except ConfigError as error:
            raise StateError(f"{error}; or delete it: peers tell it again") from None


def signed(key: RunKey, node: str, at: int) -> Denial:
    """A denial for everybody in the run.

    Args:
        key: the admission key.
        node: who is denied.
        at: since when, Unix seconds.
    """
    said = denial_bytes(Denial(node, at, b""))
    return Denial(node, at, key.authority.sign(said))


def read(path: Path) -> dict[str, Denial]:
    """The denials in a list, by node; of two of one node the signed one, else the last.

    Raises:
        ConfigError: it cannot be read, or a line of it is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"deny list {path}: {error.strerror}; give its path") from None
    if len(data) > _FILE_MAX:
        raise ConfigError(f"deny list {path}: more than {_FILE_MAX:,} bytes; take old ones out")
    found: dict[str, Denial] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            text = line.decode().strip()
            denial = None if not text or text.startswith("#") else _denial(text)
        except (UnicodeDecodeError, ConfigError) as error:
            what = "not text" if isinstance(error, UnicodeDecodeError) else error
            raise ConfigError(
                f"deny list {path}, line {number}: {what}; copy it again, or take the line out"
            ) from None
        if denial is not None and (denial.proof or denial.node not in found):
            found[denial.node] = denial
    return found


def write(path: Path, denials: Mapping[str, Denial]) -> None:
    """Replace a list as a whole.

    Raises:
        OSError: it could not be written; the old one is intact.
    """
    with replacement(path) as file:
        for denial in denials.values():
            file.write(f"{_line(denial)}\n".encode())


def _line(denial: Denial) -> str:
    if not denial.proof:
        return denial.node
    return json.dumps({"node": denial.node, "at": denial.at, "proof": denial.proof.hex()})


def _denial(text: str) -> Denial:
    if not text.startswith("{"):
        return Denial(parse_node(text), 0, b"")
    try:
        line = _Line.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(explain(error, _Line, "not a denial")) from None
    return Denial(line.node, line.at, bytes.fromhex(line.proof))


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"deny list {path}: {error.strerror}; give its path") from None
    return found.st_mtime_ns, found.st_size, found.st_ino
