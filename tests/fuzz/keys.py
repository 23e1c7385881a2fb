"""Keys, certificates and what is signed with them: texts that people type, files, peers' DER."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.core.messages import Denial, Statement
from p2pfl.core.statements import Evidence, statement_bytes
from p2pfl.edge import denials, keytext
from p2pfl.edge.certificates import leaf_certificate
from p2pfl.edge.credentials import Credentials, peer_node, read_authority, read_chain
from p2pfl.edge.evidence import EvidenceFiles, verified
from p2pfl.edge.nodekey import NodeKey, parse_node, parse_request
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, PeerError, StateError
from tests.fuzz.feeding import Target, scratch

NOW = 1.7e9


@cache
def _run() -> tuple[RunKey, RunKey, NodeKey, Credentials]:
    key = NodeKey.new()
    run, admission = RunKey(b"k" * 16), RunKey(b"a" * 16, keytext.ADMISSION)
    return run, admission, key, Credentials.member(key, run, NOW)


def _typed(data: bytes, folder: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    path = folder / "run.key"
    path.write_bytes(data)
    path.chmod(0o600)
    for read in (
        parse_node,
        parse_request,
        RunKey.parse,
        lambda words: RunKey.parse(words, keytext.ADMISSION),
        lambda _: RunKey.load(path),
    ):
        try:
            read(text)
        except ConfigError as error:
            assert str(error)


def _texts() -> list[bytes]:
    run, admission, key, _ = _run()
    found = [run.text, admission.text, key.request, key.node, f"# mine\n\n{run.text}\n"]
    return [text.encode() for text in (*found, run.text.lower().replace("-", " "))]


def _certificate(data: bytes, folder: Path) -> None:
    body = base64.encodebytes(data)
    wrapped = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    for whole in (data, wrapped, wrapped + _run()[3].ca_pem):
        (folder / "me.crt").write_bytes(whole)
        for read in (read_authority, read_chain):
            try:
                read(folder / "me.crt")
            except ConfigError as error:
                assert str(error)


class _Shown:
    """A connection whose other end showed these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def getpeercert(self, binary_form: bool) -> bytes:
        assert binary_form
        return self._data


def _peer(data: bytes, _: Path) -> None:
    peer_node(_Shown(data))  # type: ignore[arg-type]


def _ders() -> list[bytes]:
    _, admission, key, ours = _run()
    return [
        ours.chain.leaf.public_bytes(Encoding.DER),
        ours.chain.authority.public_bytes(Encoding.DER),
        leaf_certificate(admission.authority, key.public, NOW, NOW + 1).public_bytes(Encoding.DER),
    ]


def _node_key(data: bytes, folder: Path) -> None:
    path = folder / "node.key"
    path.write_bytes(data)
    path.chmod(0o600)
    NodeKey.load(path)


# --- what is signed -----------------------------------------------------------------------------


def _deny_list(data: bytes, folder: Path) -> None:
    (folder / "denied").write_bytes(data)
    found = denials.read(folder / "denied")
    denials.write(folder / "again", found)
    assert denials.read(folder / "again") == found


def _deny_lists() -> list[bytes]:
    _, admission, key, _ = _run()
    with scratch() as folder:
        signed = denials.signed(admission, key.node, int(NOW))
        denials.write(folder / "denied", {key.node: signed, "c" * 32: Denial("c" * 32, 0, b"")})
        return [b"# ours\n\n" + (folder / "denied").read_bytes()]


def _evidence(data: bytes, folder: Path) -> None:
    (folder / "case.json").write_bytes(data)
    verified(folder / "case.json")


def _cases() -> list[bytes]:
    key = _run()[2]
    said = [Statement(key.node, 1, 7, 30, digest * 32, b"") for digest in (b"a", b"b")]
    signed = [replace(each, proof=key.sign(statement_bytes("digits", each))) for each in said]
    with scratch() as folder:
        EvidenceFiles(folder / "evidence", "digits")(Evidence(*signed))
        return [path.read_bytes() for path in (folder / "evidence").iterdir()]


KEYS: dict[str, Target] = {
    "deny-list": Target(_deny_list, _deny_lists, (ConfigError,)),
    "evidence": Target(_evidence, _cases, (ConfigError,), is_tree="json"),
    "run-key": Target(_typed, _texts, (ConfigError,)),
    "certificate": Target(
        _certificate, lambda: [*_ders(), _run()[3].chain.pem, _run()[3].ca_pem], (ConfigError,)
    ),
    "peer-certificate": Target(_peer, _ders, (PeerError,)),
    "node-key": Target(
        _node_key, lambda: [_run()[2].pem(), _run()[2].pem(b"sealed")], (StateError,)
    ),
}
