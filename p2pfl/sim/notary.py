"""The `Notary` of a simulated host: a keyed hash that only the host itself can ask for.

It costs a thousandth of Ed25519, and within one world it means the same: nobody else's hand can
make it. Rule of the file: no cryptography; secrecy is that of the world's own seed.
"""

from __future__ import annotations

from hashlib import blake2b

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


class SimNotary:
    """Signs for one host of one world.

    Args:
        node: the host's node id.
        secret: of the world.
    """

    def __init__(self, node: str, secret: bytes) -> None:
        self._node = node
        self._secret = secret

    def sign(self, message: bytes) -> bytes:
        """(96 bytes), as Ed25519's public key and signature would be."""
        return _key(self._node) + self._seal(self._node, message)

    def is_signed(self, node: str, message: bytes, proof: bytes) -> bool:
        """Whether `node` signed this message."""
        return proof == _key(node) + self._seal(node, message)

    def is_admissions(self, message: bytes, proof: bytes) -> bool:
        """Whether the world's admission signed this message."""
        return proof == self._seal("admission", message)

    def _seal(self, who: str, message: bytes) -> bytes:
        key = blake2b(self._secret + who.encode(), digest_size=_KEY_BYTES).digest()
        return blake2b(message, key=key, digest_size=_SIGNATURE_BYTES).digest()


def _key(node: str) -> bytes:
    return node.encode().ljust(_KEY_BYTES, b"\0")[:_KEY_BYTES]
