"""Certificate files, as `p2pfl admit` and `p2pfl run-key split` write them.

Rule of the file: what cannot be read, is damaged, of another run or not valid now is an error that
names the file and the fix.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from p2pfl.edge import certificates
from p2pfl.edge.certificates import Chain
from p2pfl.errors import ConfigError

_FILE_MAX = 65_536
_CLOCK = "if that is wrong, set the clock of this device (`timedatectl set-ntp true`)"


def read_chain(file: Path, authority: Path | None = None) -> Chain:
    """A node's certificate, as `p2pfl admit` wrote it.

    Args:
        file: the leaf, and after it the authority, which may also come from `authority`.
        authority: `run.crt`; must then be the one in `file`.

    Raises:
        ConfigError: a file cannot be read or is damaged, or they are of different runs.
    """
    found = _read(file, "certificate")
    run = None if authority is None else read_authority(authority)
    if len(found) == 1 and run is not None:
        found.append(run)
    if len(found) != 2:
        raise ConfigError(
            f"certificate {file} holds {len(found)} certificates, expected the node's and the "
            "run's; give the file that `p2pfl admit` wrote"
        )
    try:
        made = certificates.chain(*found)
    except ConfigError as error:
        raise ConfigError(f"certificate {file}: {error}; have it made anew") from None
    if run is not None and certificates.raw_key(made.authority) != certificates.raw_key(run):
        raise ConfigError(
            f"certificate {file} is not of the run of {authority}; have it admitted with that "
            "run's key, or give the run.crt that fits"
        )
    return made


def read_authority(path: Path) -> x509.Certificate:
    """The certificate of a strict run's authority.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    found = _read(path, "run certificate")
    try:
        if len(found) != 1:
            raise ConfigError(f"{len(found)} certificates, expected one")
        certificates.check_authority(found[0])
    except ConfigError as error:
        raise ConfigError(
            f"run certificate {path}: {error}; give the run.crt that `p2pfl run-key split` wrote"
        ) from None
    return found[0]


def said(wall: float) -> str:
    """A moment for people, in UTC."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M} UTC"


def check_own(found: Chain, node: str, file: Path, now_wall: float) -> None:
    """See that a certificate is of use to this node now.

    Args:
        found: what was read from `file`.
        node: our id.
        now_wall: Unix seconds.

    Raises:
        ConfigError: it is another node's, not valid yet, or not any more.
    """
    if found.node != node:
        raise ConfigError(
            f"certificate {file} is for node {found.node}, but this node is {node}; have "
            "the request admitted that `p2pfl id` prints here, or give the right --state-dir"
        )
    here = f"the clock of this device says {said(now_wall)}; {_CLOCK}"
    if now_wall < found.since:
        raise ConfigError(f"certificate {file} is valid from {said(found.since)} on, {here}")
    if now_wall > found.until:
        raise ConfigError(
            f"certificate {file} ended {said(found.until)}, {here}; else have this node admitted "
            "again (`p2pfl id`, `p2pfl admit`)"
        )


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced.

    Raises:
        ConfigError: there is no such file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"certificate {path}: {error.strerror}; give its path") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path, what: str) -> list[x509.Certificate]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}; give its path") from None
    try:
        return certificates.parse_pem(data)
    except ConfigError as error:
        raise ConfigError(f"{what} {path}: {error}; have it made anew, or copy it again") from None
