"""The key of one node: its identity is the fingerprint of an Ed25519 key (RFC 8032).

    node id   first 32 hex digits of SHA-256 of the raw public key, `3f2a 91c0 ...` for people
    proof     (96 bytes) raw public key (32), signature (64): whoever knows the id can check it

Rule of the file: a key that others can read, that is damaged or that is gone is an error with its
fix; a new one is made only where there was none, and is on the disk before anybody hears of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pfl.edge import keytext
from p2pfl.edge.durable import replacement
from p2pfl.errors import ConfigError, StateError

NODE_KEY = "node.key"
NODE_DIGITS = 32
PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PEM_MAX = 4096
_FIX = (
    "put back a copy of it, or delete identity.json beside it: the node then starts as a new one "
    "and keeps the model of its checkpoint"
)


class NodeKey:
    """Signs for one node.

    Attributes:
        node: its id, 32 hex digits.
        public: (32 bytes) the public key.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.node = fingerprint(self.public)

    def __repr__(self) -> str:
        return f"NodeKey({self.node})"

    @classmethod
    def new(cls) -> NodeKey:
        """A key that is nowhere yet: of a node to be, or of somebody who only looks."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> NodeKey:
        """The key in a file.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read.
            StateError: others can read it, or it is damaged.
        """
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_PEM_MAX)
        if mode & _OTHERS:
            raise StateError(
                f"{path} has mode {mode:04o}, others could read it, expected 0600; "
                f"`chmod 600 {path}`, and make a new one if somebody may have"
            )
        try:
            private = serialization.load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
            reason = "encrypted" if isinstance(error, TypeError) else "not the PEM that was written"
            raise StateError(f"{path} is damaged: {reason}; {_FIX}") from None
        if not isinstance(private, Ed25519PrivateKey):
            kind = type(private).__name__.strip("_").removesuffix("PrivateKey")
            raise StateError(f"{path} holds a key of kind {kind}, expected Ed25519; {_FIX}")
        return cls(private)

    @classmethod
    def create(cls, path: Path) -> NodeKey:
        """A new key, on the disk and mode 0600 when this returns.

        One that was there is kept beside it: nobody can make it again.

        Raises:
            OSError: it cannot be written.
        """
        key = cls.new()
        with replacement(path, keep=path.with_name(path.name + ".old"), private=True) as file:
            file.write(key.pem())
        return key

    def pem(self, password: bytes | None = None) -> bytes:
        """The private key, PKCS8 PEM, sealed with a password if there is one."""
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )

    @property
    def request(self) -> str:
        """The public key as text: what a certificate is asked for with."""
        return keytext.write(keytext.REQUEST, self.public)

    def sign(self, message: bytes) -> bytes:
        """(96 bytes): the public key, and its signature of the message."""
        return self.public + self._private.sign(message)

    @staticmethod
    def is_signed(node: str, message: bytes, proof: bytes) -> bool:
        """Whether `proof` is the signature of `message` by the key whose fingerprint is `node`."""
        public, signature = proof[:PUBLIC_BYTES], proof[PUBLIC_BYTES:]
        return fingerprint(public) == node and is_signature(public, message, signature)


def is_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is that of `message` by a raw public key (32 bytes)."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """The node id of a raw public key, 32 hex digits."""
    return hashlib.sha256(public).hexdigest()[:NODE_DIGITS]


def grouped(node: str) -> str:
    """A node id for people: `3f2a 91c0 ...`."""
    return " ".join(node[at : at + 4] for at in range(0, len(node), 4))


def parse_node(text: str) -> str:
    """A node id that a person typed, with or without its blanks.

    Raises:
        ConfigError: it is none.
    """
    node = "".join(text.replace("-", "").split()).lower()
    if len(node) != NODE_DIGITS or not set(node) <= set("0123456789abcdef"):
        kind = keytext.kind_of(text)
        what = f"'{text[:80]}'" if kind is None else f"what begins with {kind.prefix}-"
        raise ConfigError(
            f"{what} is no node id, expected {NODE_DIGITS} hex digits, as `p2pfl id` prints them"
        )
    return node


def parse_request(text: str) -> bytes:
    """The public key, (32 bytes), of an admission request.

    Raises:
        ConfigError: it is none, or has a typo.
    """
    try:
        parse_node(text)
    except ConfigError:
        return keytext.read(keytext.REQUEST, text)
    raise ConfigError(
        "this is a node id, only the fingerprint of the key that a certificate is for; give the "
        "admission request (p2pfl-join-...) that `p2pfl id` prints on that device"
    )
