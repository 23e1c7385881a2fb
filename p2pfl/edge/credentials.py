"""What a member shows of itself and whom it believes: mutual TLS 1.3 among the members of one run.

    open-handed run   the member has the run key and makes itself a leaf, anew every half day
    strict run        the member has a leaf that `p2pfl admit` made, and only the authority's
                      certificate; a new file on the disk is picked up while it runs

Host names and the certificates that this device trusts otherwise play no part: only the run's
authority counts, and a peer is whoever holds the key in its certificate (RFC 8446, RFC 8410).

Rule of the file: fail closed. What is missing, damaged, expired or of another run is an error with
its fix and never a weaker connection; a failed renewal keeps what there is until it expires.
"""

from __future__ import annotations

import logging
import secrets
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from p2pfl.edge import certificates
from p2pfl.edge.certfiles import check_own, said, stamp
from p2pfl.edge.certfiles import read_authority as read_authority
from p2pfl.edge.certfiles import read_chain as read_chain
from p2pfl.edge.certificates import BACK_S, UNFIT, Chain
from p2pfl.edge.nodekey import NodeKey as NodeKey
from p2pfl.edge.nodekey import is_signature
from p2pfl.edge.runkey import OFFLINE, RunKey
from p2pfl.errors import ConfigError, PeerError

log = logging.getLogger(__name__)

FORWARD_S = 25 * 3600.0
"""A member's own leaf is valid so long after it was made; it is renewed at half of that, so that
the clocks of two members may always differ by half a day."""

CLOCK_ERROR_S = 3600.0
"""A connection is good for so long after the certificate ended that it began with: clocks differ.
Certificates are looked at once, in the handshake, and a connection that is kept in use never ends
by itself."""

WARN_S = 3 * 86_400.0
"""So long before its end, and a last time at a third of that, a given certificate is spoken of."""


@dataclass(slots=True, kw_only=True)
class Credentials:
    """A member's own key, certificate and the authority it trusts, as TLS contexts.

    Attributes:
        key: the node's.
        chain: its certificate now, and the authority's.
        run_key: of an open-handed run; None in a strict one.
        file: where the certificate of a strict run lies.
        authority: where that of the authority lies, if not only in there too.
    """

    key: NodeKey = field(repr=False)
    chain: Chain = field(repr=False)
    run_key: RunKey | None = field(default=None, repr=False)
    file: Path | None = None
    authority: Path | None = None
    _made_at: float = 0.0
    _stamp: tuple[int, int, int] = (0, 0, 0)
    _warned_at: float = float("inf")
    _complaint: str = ""
    _server: ssl.SSLContext = field(init=False, repr=False)
    _client: ssl.SSLContext = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._server = _context(ssl.PROTOCOL_TLS_SERVER, self.chain)
        # a session that was resumed would not show its certificate again
        self._server.num_tickets = 0
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, self.chain)
        try:
            self._load(self.chain)
        except OSError as error:
            raise ConfigError(
                f"the certificate cannot be used: {error}; free some space there, or name another "
                "directory in TMPDIR"
            ) from None

    @classmethod
    def member(cls, key: NodeKey, run_key: RunKey, now_wall: float) -> Credentials:
        """Of a node that has the run key.

        Args:
            key: the node's.
            run_key: the run's.
            now_wall: Unix seconds.

        Raises:
            ConfigError: it is an admission key, which no member may have.
        """
        if run_key.is_admission:
            raise ConfigError(OFFLINE)
        made = _minted(key, run_key, now_wall)
        return cls(key=key, chain=made, run_key=run_key, _made_at=now_wall)

    @classmethod
    def observer(cls, run_key: RunKey, now_wall: float) -> Credentials:
        """Of somebody who only looks at a run, under a key that is nowhere kept."""
        return cls.member(NodeKey.new(), run_key, now_wall)

    @classmethod
    def admitted(
        cls, key: NodeKey, file: Path, now_wall: float, *, authority: Path | None = None
    ) -> Credentials:
        """Of a node that was admitted to a strict run.

        Args:
            key: the node's.
            file: its certificate, as `p2pfl admit` wrote it.
            now_wall: Unix seconds.
            authority: `run.crt`, if the run is to be checked against it.

        Raises:
            ConfigError: a file cannot be read, they are of different runs, or the certificate is
                another node's, not valid yet, or not any more.
        """
        changed = stamp(file)
        found = read_chain(file, authority)
        check_own(found, key.node, file, now_wall)
        return cls(key=key, chain=found, file=file, authority=authority, _stamp=changed)

    # --- who, and which run ----------------------------------------------------------------------

    @property
    def node(self) -> str:
        """This node's id."""
        return self.key.node

    @property
    def tag(self) -> str:
        """Of the run, 16 hex digits."""
        return self.chain.tag

    @property
    def is_strict(self) -> bool:
        """Whether only somebody else can admit nodes to this run."""
        return self.run_key is None

    @property
    def expires_at(self) -> float:
        """When the certificate ends, Unix seconds."""
        return self.chain.until

    @property
    def certificate_pem(self) -> bytes:
        """This node's certificate."""
        return certificates.pem(self.chain.leaf)

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate."""
        return certificates.pem(self.chain.authority)

    # --- what is signed (ports.Notary) -----------------------------------------------------------

    def sign(self, message: bytes) -> bytes:
        """(96 bytes): this node's public key, and its signature of the message."""
        return self.key.sign(message)

    def is_signed(self, node: str, message: bytes, proof: bytes) -> bool:
        """Whether `proof` is the signature of `message` by the key whose fingerprint is `node`."""
        return NodeKey.is_signed(node, message, proof)

    def is_admissions(self, message: bytes, proof: bytes) -> bool:
        """Whether `proof` (64 bytes) is the signature of the run's admission key.

        False in an open-handed run: there every member holds the key.
        """
        public = certificates.raw_key(self.chain.authority)
        return self.is_strict and is_signature(public, message, proof)

    # --- TLS -------------------------------------------------------------------------------------

    def server_context(self) -> ssl.SSLContext:
        """For those who connect to us; the same object each time."""
        return self._server

    def client_context(self) -> ssl.SSLContext:
        """For those we connect to; the same object each time."""
        return self._client

    def renew(self, now_wall: float) -> bool:
        """Replace the certificate where that is due and possible; new connections show the new one.

        In an open-handed run it is due once half of its time is over, or the clock was set. In a
        strict run it is due when the file changed; one that is about to end is warned of, and so
        is a file that is of no use.

        Args:
            now_wall: Unix seconds.

        Returns:
            Whether there is a new one.
        """
        new = self._minted(now_wall) if self.run_key is not None else self._given(now_wall)
        if new is None:
            return False
        try:
            self._load(new)
        except OSError as error:
            log.error("the certificate could not be renewed, it is tried again: %s", error)
            return False
        self.chain, self._made_at, self._warned_at = new, now_wall, float("inf")
        log.info("this node's certificate was renewed, it ends %s", said(self.expires_at))
        return True

    def _minted(self, now_wall: float) -> Chain | None:
        """A new leaf of an open-handed run, if it is due: an old one ends, or the clock was set."""
        if self.run_key is None or abs(now_wall - self._made_at) < FORWARD_S / 2:
            return None
        return _minted(self.key, self.run_key, now_wall)

    def _given(self, now_wall: float) -> Chain | None:
        """The leaf in the file of a strict run, if it is another than the one in use."""
        assert self.file is not None
        found = None
        try:
            changed = stamp(self.file)
            if changed != self._stamp:
                self._stamp = changed
                found = read_chain(self.file, self.authority)
                check_own(found, self.node, self.file, now_wall)
                if found.tag != self.tag:
                    raise ConfigError(
                        f"{self.file} is of run {found.tag}, this node of {self.tag}; restart it"
                    )
        except ConfigError as error:
            if str(error) != self._complaint:
                log.warning("the certificate is kept, the new one is of no use: %s", error)
            self._complaint, found = str(error), None
        if found is None:
            self._warn(now_wall)
        return found

    def _warn(self, now_wall: float) -> None:
        left = self.expires_at - now_wall
        if left < 0 <= self._warned_at:
            log.error("this node's certificate has ended, peers refuse it: %s", self._fix())
            self._warned_at = left
        elif 0 <= left < WARN_S and left < self._warned_at / 3:
            log.warning(
                "this node's certificate ends %s, in %s: %s",
                *(said(self.expires_at), _span(left), self._fix()),
            )
            self._warned_at = left

    def _fix(self) -> str:
        return f"have it admitted again (`p2pfl id`, `p2pfl admit`) and replace {self.file}"

    def _load(self, chain: Chain) -> None:
        """Put key and certificate into both contexts.

        Only through files can they get there: the key lies in one for an instant, sealed with a
        password that is drawn for it.

        Raises:
            OSError: they could not be written; the contexts are as they were.
        """
        password = secrets.token_bytes(24).hex()
        with tempfile.TemporaryDirectory(prefix="p2pfl-") as folder:
            leaf, key = Path(folder, "leaf.pem"), Path(folder, "key.pem")
            leaf.write_bytes(certificates.pem(chain.leaf))
            key.write_bytes(self.key.pem(password.encode()))
            for context in (self._server, self._client):
                context.load_cert_chain(leaf, key, password)


@dataclass(frozen=True, slots=True)
class PeerNode:
    """Who is at the other end of a connection, as its certificate says.

    Attributes:
        node: the fingerprint of the certificate's key.
        until: when the certificate ends, Unix seconds.
    """

    node: str
    until: float

    def is_over(self, now_wall: float) -> bool:
        """Whether it must connect again, with another certificate, to be believed."""
        return now_wall > self.until + CLOCK_ERROR_S


def peer_node(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> PeerNode:
    """Who is at the other end of a connection; to be asked once, it reads the certificate.

    Raises:
        PeerError: it showed none, or one that another node's name stands on.
    """
    der = ssl_object.getpeercert(binary_form=True)
    if not der:
        raise PeerError("the peer showed no certificate")
    try:
        leaf = x509.load_der_x509_certificate(der)
        return PeerNode(certificates.node_of(leaf), leaf.not_valid_after_utc.timestamp())
    except (*UNFIT, ConfigError) as error:
        raise PeerError(f"the peer's certificate: {error}") from None


def _span(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def _minted(key: NodeKey, run_key: RunKey, now_wall: float) -> Chain:
    leaf = certificates.leaf_certificate(
        run_key.authority, key.public, now_wall - BACK_S, now_wall + FORWARD_S
    )
    return certificates.chain(leaf, certificates.authority_certificate(run_key.authority))


def _context(protocol: int, chain: Chain) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=certificates.der(chain.authority))
    return context
