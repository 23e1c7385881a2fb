"""The key of a run, and the certificate authority that it is.

    run key         p2pfl-run-...     every member has it, is the authority, and admits itself
    admission key   p2pfl-admit-...   kept offline; members have certificates that it made

Both are 16 random bytes; HKDF-SHA256 (RFC 5869) makes an Ed25519 key of them, for each of the two
another one, so that neither opens a run of the other kind. Rule of the file: a secret is in no
`repr` and in no error.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pfl.edge import keytext
from p2pfl.errors import ConfigError

log = logging.getLogger(__name__)

OFFLINE = (
    "this is an admission key, which stays offline, on no node; a node takes --cert with what "
    "`p2pfl admit` made for it"
)

_INFO = {keytext.RUN: b"p2pfl member ca 1", keytext.ADMISSION: b"p2pfl admission ca 1"}
_TAG_DIGITS = 16
_FILE_MAX = 4096


@dataclass(frozen=True)
class RunKey:
    """A run key or an admission key.

    Attributes:
        secret: (16 bytes).
        kind: `keytext.RUN` or `keytext.ADMISSION`.
    """

    secret: bytes = field(repr=False)
    kind: keytext.Kind = keytext.RUN

    @classmethod
    def new(cls, kind: keytext.Kind = keytext.RUN) -> RunKey:
        """Draw one."""
        return cls(secrets.token_bytes(kind.nbytes), kind)

    @classmethod
    def parse(cls, text: str, kind: keytext.Kind = keytext.RUN) -> RunKey:
        """Read one that a person typed.

        Raises:
            ConfigError: it is of another kind, or has a typo.
        """
        if kind is keytext.RUN and keytext.kind_of(text) is keytext.ADMISSION:
            raise ConfigError(OFFLINE)
        return cls(keytext.read(kind, text), kind)

    @classmethod
    def load(cls, path: Path, kind: keytext.Kind = keytext.RUN) -> RunKey:
        """Read one from a file: the first line that is neither empty nor begins with `#`.

        Raises:
            ConfigError: it cannot be read, is of another kind, or has a typo.
        """
        text = text_in(path)
        try:
            return cls.parse(text, kind)
        except ConfigError as error:
            raise ConfigError(f"key file {path}: {error}") from None

    @cached_property
    def authority(self) -> Ed25519PrivateKey:
        """The private key of the certificate authority."""
        seed = HKDF(SHA256(), 32, salt=None, info=_INFO[self.kind]).derive(self.secret)
        return Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def is_admission(self) -> bool:
        """Whether it admits others, and must stay offline."""
        return self.kind is keytext.ADMISSION

    @property
    def text(self) -> str:
        """As it is carried to other devices."""
        return keytext.write(self.kind, self.secret)

    @property
    def tag(self) -> str:
        """What a run is known by where its key must not be, 16 hex digits."""
        return tag_of(self.authority.public_key().public_bytes_raw())


def tag_of(authority: bytes) -> str:
    """The tag of a run whose authority has this raw public key, 16 hex digits."""
    return hashlib.sha256(b"p2pfl tag 1" + authority).hexdigest()[:_TAG_DIGITS]


def text_in(path: Path) -> str:
    """The key that a file holds, unread.

    Raises:
        ConfigError: the file cannot be read, is empty, or is a key and no path.
    """
    if keytext.kind_of(str(path)) is not None:
        raise ConfigError("a key was given where the path of a key file is expected")
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_FILE_MAX).decode()
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}; give its path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"key file {path} is not text; expected p2pfl-...") from None
    lines = [line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]
    if not lines:
        raise ConfigError(f"key file {path} holds no key; expected p2pfl-...")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        # a memory stick knows no modes, so this cannot be refused
        log.warning("others on this device can read key file %s; `chmod 600 %s`", path, path)
    return lines[0]
