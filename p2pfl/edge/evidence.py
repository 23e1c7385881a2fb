"""Evidence on the disk: two statements of one node that no honest node makes (`core.statements`).

    evidence/<node>-<incarnation>-<seq>.json     run, public key, and the two statements

Rule of the file: a case is verified from its file alone, by anybody, without trusting who kept it:
the node's id is the fingerprint of the key, and the key signed both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from p2pfl.configuring import explain
from p2pfl.core.messages import Statement
from p2pfl.core.statements import DIGEST_BYTES, Evidence, contradict, statement_bytes
from p2pfl.edge.durable import replacement
from p2pfl.edge.nodekey import NODE_DIGITS, PUBLIC_BYTES, SIGNATURE_BYTES, NodeKey
from p2pfl.errors import ConfigError

log = logging.getLogger(__name__)

EVIDENCE = "evidence"
CASES_MAX = 1000
"""Of as many nodes: one case convicts a node as well as a thousand, and it can make any number."""

_FILE_MAX = 65_536
_Number = Annotated[int, Field(ge=0, lt=2**63)]


def _hex(nbytes: int) -> str:
    return rf"^[0-9a-f]{{{2 * nbytes}}}$"


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    incarnation: _Number
    seq: _Number
    age: _Number
    digest: Annotated[str, Field(pattern=_hex(DIGEST_BYTES))]
    signature: Annotated[str, Field(pattern=_hex(SIGNATURE_BYTES))]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    run: Annotated[str, Field(min_length=1, max_length=64)]
    node: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{NODE_DIGITS}}}$")]
    public_key: Annotated[str, Field(pattern=_hex(PUBLIC_BYTES))]
    statements: Annotated[list[_Said], Field(min_length=2, max_length=2)]


@dataclass(frozen=True, slots=True)
class Case:
    """A file that convicts a node.

    Attributes:
        run: in which it was said.
        evidence: the two statements, verified.
    """

    run: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """Keeps what a node finds out about others: one case of each, of `CASES_MAX` nodes at most.

    It waits for the disk, and is to be called off the event loop.

    Attributes:
        folder: where; made when it is needed.
        run: name of the run, which is signed too.
    """

    folder: Path
    run: str

    def __call__(self, evidence: Evidence) -> None:
        """Write one case; a disk that is full costs the proof and nothing else."""
        first = evidence.first
        path = self.folder / f"{first.node}-{first.incarnation}-{first.seq}.json"
        # a node that is stopped writes what was being written once more, in another thread
        temporary = path.with_name(f"{path.name}.{get_ident()}.tmp")
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            kept = {file.name for file in self.folder.glob("*.json")} - {path.name}
            if any(name.startswith(f"{first.node}-") for name in kept):
                log.info("%s holds evidence against %s already", self.folder, first.node)
                return
            if len(kept) >= CASES_MAX:
                log.warning("%s holds %d cases, no more are kept", self.folder, CASES_MAX)
                return
            with replacement(path, temporary=temporary) as file:
                file.write(_rendered(self.run, evidence))
        except (OSError, ValueError) as error:
            log.warning("evidence against %s could not be kept: %s", first.node, error)
        else:
            log.warning("the evidence against %s is %s", first.node, path)


def verified(path: Path) -> Case:
    """Read a file of evidence and check all that it claims.

    Raises:
        ConfigError: it cannot be read, or does not convict anybody.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX)
    except OSError as error:
        raise ConfigError(f"evidence {path}: {error.strerror}; give its path") from None
    try:
        found = _File.model_validate_json(data)
    except ValidationError as error:
        raise ConfigError(
            f"{explain(error, _File, f'evidence {path}')}; it convicts nobody"
        ) from None
    public = bytes.fromhex(found.public_key)
    first, second = (
        Statement(
            found.node,
            said.incarnation,
            said.seq,
            said.age,
            bytes.fromhex(said.digest),
            public + bytes.fromhex(said.signature),
        )
        for said in found.statements
    )
    for number, said in enumerate((first, second), start=1):
        if not NodeKey.is_signed(found.node, statement_bytes(found.run, said), said.proof):
            raise ConfigError(
                f"evidence {path}: statement {number} is not signed by the key of {found.node}; "
                "it convicts nobody"
            )
    if not contradict(first, second):
        raise ConfigError(f"evidence {path}: the two do not contradict; it convicts nobody")
    return Case(found.run, Evidence(first, second))


def cases(path: Path) -> Iterator[Path]:
    """The files of evidence that a path stands for: itself, its own, or a state directory's.

    Raises:
        ConfigError: there is no such path.
    """
    if not path.exists():
        raise ConfigError(f"there is no {path}; give a state directory or a file of evidence")
    if path.is_file():
        yield path
    else:
        folder = path / EVIDENCE if (path / EVIDENCE).is_dir() else path
        names = (file for file in folder.glob("*.json") if folder != path or _is_case(file))
        yield from sorted(names)


def _is_case(file: Path) -> bool:
    return file.name[:NODE_DIGITS].isalnum() and file.name[NODE_DIGITS : NODE_DIGITS + 1] == "-"


def _rendered(run: str, evidence: Evidence) -> bytes:
    statements = [
        _Said(
            incarnation=said.incarnation,
            seq=said.seq,
            age=said.age,
            digest=said.digest.hex(),
            signature=said.proof[PUBLIC_BYTES:].hex(),
        )
        for said in (evidence.first, evidence.second)
    ]
    file = _File(
        run=run,
        node=evidence.first.node,
        public_key=evidence.first.proof[:PUBLIC_BYTES].hex(),
        statements=statements,
    )
    return file.model_dump_json(indent=2).encode() + b"\n"
