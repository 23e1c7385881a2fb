"""X.509 as members of a run use it (RFC 5280, RFC 8410): one authority, and a leaf for each node.

    authority   Ed25519, self-signed, the same bytes on every device, valid for ever
    leaf        Ed25519, CN = node id = fingerprint of its own key, signed by the authority

Rule of the file: pure functions; the time is told. Nothing here decides whom to trust; what was
read is checked to be what this file would have written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfl.edge.nodekey import fingerprint
from p2pfl.edge.runkey import tag_of
from p2pfl.errors import ConfigError

BACK_S = 25 * 3600.0
"""A certificate is valid so long before it was made: clocks differ, and some know no time zone."""

UNFIT = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What `cryptography` raises of bytes that are no certificate of ours."""

_ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_S = -19 * 365 * 86_400.0
_LATEST_S = (_ALWAYS[1] - _EPOCH).total_seconds()


@dataclass(frozen=True, slots=True)
class Chain:
    """A node's certificate and the authority that signed it; both were checked.

    Attributes:
        leaf, authority: the two.
        node: whose it is.
        tag: of the run.
        since, until: when it is valid, Unix seconds.
    """

    leaf: x509.Certificate
    authority: x509.Certificate
    node: str
    tag: str
    since: float
    until: float

    @property
    def pem(self) -> bytes:
        """Both, the leaf first: what a certificate file holds."""
        return pem(self.leaf) + pem(self.authority)


def authority_certificate(key: Ed25519PrivateKey) -> x509.Certificate:
    """The self-signed certificate of a run's authority; of one key always the same."""
    public = key.public_key()
    raw = public.public_bytes_raw()
    name = _name(f"p2pfl run {tag_of(raw)}")
    serial = int.from_bytes(hashlib.sha256(b"p2pfl serial 1" + raw).digest()[:16]) >> 1
    return (
        _unsigned(name, name, public, key, serial, *_ALWAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, None)
    )


def leaf_certificate(
    key: Ed25519PrivateKey, node_key: bytes, since: float, until: float
) -> x509.Certificate:
    """A certificate for one node.

    Args:
        key: of the authority.
        node_key: (32 bytes) raw public key of the node.
        since, until: when it is valid, Unix seconds; what X.509 cannot say is cut off.
    """
    public = Ed25519PublicKey.from_public_bytes(node_key)
    issuer = _name(f"p2pfl run {tag_of(key.public_key().public_bytes_raw())}")
    subject = _name(fingerprint(node_key))
    serial = x509.random_serial_number()
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _unsigned(issuer, subject, public, key, serial, _date(since), _date(until))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(key, None)
    )


def chain(leaf: x509.Certificate, authority: x509.Certificate) -> Chain:
    """A node's certificate together with its authority.

    Raises:
        ConfigError: they do not belong together, or are not as this file writes them.
    """
    check_authority(authority)
    try:
        leaf.verify_directly_issued_by(authority)
    except UNFIT:
        raise ConfigError("it was not made by the authority of that run") from None
    return Chain(
        leaf,
        authority,
        node_of(leaf),
        tag_of(raw_key(authority)),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
    )


def check_authority(authority: x509.Certificate) -> None:
    """Look at a certificate that is to be trusted as the authority of a run.

    Raises:
        ConfigError: it is none.
    """
    try:
        authority.verify_directly_issued_by(authority)
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        is_authority = constraints.value.ca
        raw_key(authority)
    except (*UNFIT, x509.ExtensionNotFound, ConfigError):
        is_authority = False
    if not is_authority:
        raise ConfigError("it is not the certificate of a run (an Ed25519 authority of p2pfl)")


def parse_pem(data: bytes) -> list[x509.Certificate]:
    """The certificates in a PEM file.

    Raises:
        ConfigError: there is none, or one is damaged.
    """
    try:
        return x509.load_pem_x509_certificates(data)
    except UNFIT:
        raise ConfigError("not a certificate in PEM") from None


def node_of(leaf: x509.Certificate) -> str:
    """Whose certificate it is: the fingerprint of its key, which its CN must repeat.

    Raises:
        ConfigError: the CN is another, or the key is not Ed25519.
    """
    node = fingerprint(raw_key(leaf))
    try:
        names = [attribute.value for attribute in leaf.subject]
    except UNFIT:
        names = []
    if names != [node]:
        raise ConfigError(f"a certificate for {str(names)[:80]} holds the key of {node}")
    return node


def raw_key(certificate: x509.Certificate) -> bytes:
    """The public key, (32 bytes), of a certificate.

    Raises:
        ConfigError: it is not Ed25519.
    """
    try:
        public = certificate.public_key()
    except UNFIT:
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError("the key of a certificate is not Ed25519")
    return public.public_bytes_raw()


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as text."""
    return certificate.public_bytes(Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    """A certificate as its fingerprint is taken of."""
    return certificate.public_bytes(Encoding.DER)


def _unsigned(
    issuer: x509.Name,
    subject: x509.Name,
    public: Ed25519PublicKey,
    authority: Ed25519PrivateKey,
    serial: int,
    since: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    signer = authority.public_key()
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _date(seconds: float) -> datetime:
    bounded = min(max(seconds, _EARLIEST_S), _LATEST_S)
    return (_EPOCH + timedelta(seconds=bounded)).replace(microsecond=0)
