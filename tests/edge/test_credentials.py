"""Mutual TLS among members: who gets in, who does not, and what the clocks have to do with it.

Handshakes are real, in memory and over loopback; the clock that a certificate is checked by is the
device's own, so clock errors are made by making certificates at another time.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfl.core.messages import Denial
from p2pfl.core.statements import denial_bytes
from p2pfl.edge import certificates
from p2pfl.edge.certfiles import read_chain
from p2pfl.edge.certificates import BACK_S, authority_certificate, chain, leaf_certificate, pem
from p2pfl.edge.credentials import FORWARD_S, WARN_S, Credentials, peer_node
from p2pfl.edge.keytext import ADMISSION
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, PeerError

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def member(key: RunKey, off_s: float = 0.0) -> Credentials:
    """Of a member whose clock is off by so much."""
    return Credentials.member(NodeKey.new(), key, time.time() + off_s)


def issued(
    folder: Path,
    admission: RunKey,
    key: NodeKey,
    *,
    name: str = "me.crt",
    since: float | None = None,
    until: float | None = None,
) -> Path:
    """A certificate file as `p2pfl admit` writes it."""
    now = time.time()
    since, until = since or now - BACK_S, until or now + 30 * DAY_S
    leaf = leaf_certificate(admission.authority, key.public, since, until)
    path = folder / name
    path.write_bytes(chain(leaf, authority_certificate(admission.authority)).pem)
    return path


def shaken(asker: Credentials, answerer: Credentials) -> tuple[str, str]:
    """Who each end of a connection takes the other for: (seen by the asker, by the answerer).

    Raises:
        ssl.SSLError: one refuses the other.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        asker.client_context().wrap_bio(back, there),
        answerer.server_context().wrap_bio(there, back, server_side=True),
    )
    todo = list(ends)
    for _ in range(8):
        for end in tuple(todo):
            try:
                end.do_handshake()
                todo.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not todo
    assert {end.version() for end in ends} == {"TLSv1.3"}
    return peer_node(ends[0]).node, peer_node(ends[1]).node


async def talk(asker: Credentials, answerer: Credentials) -> tuple[str, str]:
    """The same over a socket, with words exchanged."""
    seen = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(peer_node(writer.get_extra_info("ssl_object")).node)
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=answerer.server_context())
    async with server, asyncio.timeout(20):
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=asker.client_context()
        )
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        node = peer_node(writer.get_extra_info("ssl_object")).node
        writer.close()
        await writer.wait_closed()
        return node, await seen


# --- who gets in ---------------------------------------------------------------------------------


async def test_two_members_know_each_other_by_their_keys_over_loopback() -> None:
    key = RunKey.new()
    anna, boris = member(key), member(key)
    assert await talk(anna, boris) == (boris.node, anna.node)
    assert await talk(boris, anna) == (anna.node, boris.node)
    assert await talk(Credentials.observer(key, time.time()), anna)


@pytest.mark.parametrize("off_s", [-DAY_S, -HOUR_S, HOUR_S, DAY_S])
async def test_a_clock_that_is_an_hour_or_a_day_off_does_no_harm(off_s: float) -> None:
    key = RunKey.new()
    right, wrong = member(key), member(key, off_s)
    assert await talk(right, wrong) == (wrong.node, right.node)
    assert await talk(wrong, right) == (right.node, wrong.node)


def test_a_member_of_another_run_is_refused_at_either_end() -> None:
    ours, theirs = member(RunKey.new()), member(RunKey.new())
    for pair in ((ours, theirs), (theirs, ours)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shaken(*pair)


def test_a_run_key_does_not_open_the_strict_run_of_the_same_secret(tmp_path: Path) -> None:
    secret = os.urandom(16)
    node = NodeKey.new()
    file = issued(tmp_path, RunKey(secret, ADMISSION), node)
    strict = Credentials.admitted(node, file, time.time())
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(member(RunKey(secret)), strict)


@pytest.mark.parametrize("off_s", [-3 * DAY_S, 3 * DAY_S])
def test_a_certificate_that_is_not_valid_now_is_refused(off_s: float) -> None:
    key = RunKey.new()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        shaken(member(key), member(key, off_s))


def test_who_shows_no_certificate_is_refused() -> None:
    answerer = member(RunKey.new())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asker = context.wrap_bio(back, there)
    end = answerer.server_context().wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        asker.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    asker.do_handshake()
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        end.do_handshake()


def test_tls_1_2_is_refused() -> None:
    answerer = member(RunKey.new())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(back, there).do_handshake()
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        answerer.server_context().wrap_bio(there, back, server_side=True).do_handshake()


class Shown:
    """A finished handshake in which the peer showed this certificate."""

    def __init__(self, der: bytes | None) -> None:
        self.der = der

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self.der


def test_a_member_that_makes_itself_a_certificate_in_anothers_name_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, victim, liar = RunKey.new(), NodeKey.new(), NodeKey.new()
    now = time.time()
    monkeypatch.setattr(certificates, "fingerprint", lambda _: victim.node)
    leaf = leaf_certificate(key.authority, liar.public, now - 60, now + 60)
    monkeypatch.undo()
    with pytest.raises(PeerError, match=f"for .*{victim.node}.* holds the key of {liar.node}"):
        peer_node(Shown(certificates.der(leaf)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="holds the key of"):
        chain(leaf, authority_certificate(key.authority))


def test_no_certificate_and_nonsense_are_the_peers_fault() -> None:
    for der in (None, b"", b"nonsense"):
        with pytest.raises(PeerError, match="certificate"):
            peer_node(Shown(der))  # type: ignore[arg-type]


# a bit of the serial number may have turned its sign, which `cryptography` only warns of
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@example(noise=b"", at=15, bit=7)
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 7))
def test_any_certificate_bytes_are_a_node_or_the_peers_fault(
    noise: bytes, at: int, bit: int
) -> None:
    key = RunKey(bytes(16))
    good = certificates.der(leaf_certificate(key.authority, bytes(range(32)), 0, 1e9))
    bad = bytearray(good)
    bad[at % len(bad)] ^= 1 << bit
    for der in (noise, bytes(bad), good[:at] + noise):
        with suppress(PeerError):
            assert len(peer_node(Shown(der)).node) == 32  # type: ignore[arg-type]


# --- renewal -------------------------------------------------------------------------------------


def test_a_member_renews_itself_at_half_time_into_the_same_contexts() -> None:
    key, now = RunKey.new(), time.time()
    anna = Credentials.member(NodeKey.new(), key, now)
    contexts = anna.server_context(), anna.client_context()
    first = anna.certificate_pem
    assert not anna.renew(now + FORWARD_S / 2 - 60)
    assert anna.certificate_pem == first
    assert anna.renew(now + FORWARD_S / 2 + 60)
    assert anna.certificate_pem != first
    assert anna.expires_at == pytest.approx(now + 1.5 * FORWARD_S + 60, abs=2)
    assert (anna.server_context(), anna.client_context()) == contexts
    assert not anna.renew(now + FORWARD_S / 2 + 120)


def test_after_a_renewal_new_connections_show_the_new_certificate() -> None:
    key, now = RunKey.new(), time.time()
    # made so long ago that nobody takes it any more
    anna, boris = Credentials.member(NodeKey.new(), key, now - 2 * FORWARD_S), member(key)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shaken(boris, anna)
    assert anna.renew(now)
    assert shaken(boris, anna) == (anna.node, boris.node)
    assert shaken(anna, boris) == (boris.node, anna.node)


def test_a_clock_that_is_set_right_renews_at_once_whichever_way() -> None:
    key, now = RunKey.new(), time.time()
    for off_s in (-now, 400 * DAY_S):
        anna = Credentials.member(NodeKey.new(), key, now + off_s)
        assert anna.renew(now)
        assert shaken(anna, member(key))


def test_a_renewal_that_fails_keeps_what_there_is_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    key, now = RunKey.new(), time.time()
    anna, boris = Credentials.member(NodeKey.new(), key, now), member(key)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    first = anna.certificate_pem
    assert not anna.renew(now + DAY_S)
    assert "could not be renewed" in caplog.text
    assert anna.certificate_pem == first
    assert shaken(anna, boris)
    monkeypatch.undo()
    assert anna.renew(now + DAY_S)


def test_without_a_place_for_the_certificate_there_are_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="TMPDIR"):
        member(RunKey.new())


def test_the_private_key_never_lies_anywhere_unsealed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[bytes] = []
    load = ssl.SSLContext.load_cert_chain

    def looked(context: ssl.SSLContext, leaf: Path, key: Path, password: str) -> None:
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
        seen.append(key.read_bytes())
        load(context, leaf, key, password)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", looked)
    member(RunKey.new())
    assert len(seen) == 2
    assert all(data.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") for data in seen)
    assert list(tmp_path.iterdir()) == []


# --- strict runs ---------------------------------------------------------------------------------


def test_admitted_nodes_know_each_other_and_hold_no_key_that_admits(tmp_path: Path) -> None:
    admission, keys = RunKey.new(ADMISSION), (NodeKey.new(), NodeKey.new())
    anna, boris = (
        Credentials.admitted(key, issued(tmp_path, admission, key, name=key.node), time.time())
        for key in keys
    )
    assert shaken(anna, boris) == (boris.node, anna.node)
    assert anna.is_strict
    assert anna.tag == boris.tag == admission.tag
    assert anna.run_key is None


def test_no_node_takes_an_admission_key() -> None:
    with pytest.raises(ConfigError, match="stays offline"):
        Credentials.member(NodeKey.new(), RunKey.new(ADMISSION), time.time())


def test_a_member_that_was_admitted_admits_nobody(tmp_path: Path) -> None:
    admission, key = RunKey.new(ADMISSION), NodeKey.new()
    honest = Credentials.admitted(key, issued(tmp_path, admission, key), time.time())
    # its own leaf in place of an authority
    own = Ed25519PrivateKey.from_private_bytes(key._private.private_bytes_raw())
    stranger, now = NodeKey.new(), time.time()
    leaf = leaf_certificate(own, stranger.public, now - 60, now + 60)
    with pytest.raises(ConfigError, match="not the certificate of a run"):
        chain(leaf, honest.chain.leaf)
    forged = chain(leaf, authority_certificate(own))
    other = Credentials(key=stranger, chain=forged, file=tmp_path / "x")
    for pair in ((honest, other), (other, honest)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shaken(*pair)


def test_only_the_admission_key_denies_and_only_in_a_strict_run(tmp_path: Path) -> None:
    admission, key, run_key = RunKey.new(ADMISSION), NodeKey.new(), RunKey.new()
    strict = Credentials.admitted(key, issued(tmp_path, admission, key), time.time())
    said = denial_bytes(Denial("ab" * 16, 1, b""))
    proof = admission.authority.sign(said)
    assert strict.is_admissions(said, proof)
    assert not strict.is_admissions(said + b"x", proof)
    assert not strict.is_admissions(said, run_key.authority.sign(said))
    assert not strict.is_admissions(said, proof[:-1])
    assert not strict.is_admissions(said, b"")
    assert not member(run_key).is_admissions(said, run_key.authority.sign(said))


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [(-10 * DAY_S, -DAY_S, "ended .*clock.*p2pfl admit"), (DAY_S, 9 * DAY_S, "valid from .*clock")],
)
def test_a_certificate_that_is_not_valid_now_is_an_error_that_speaks_of_the_clock(
    tmp_path: Path, since: float, until: float, said: str
) -> None:
    admission, key, now = RunKey.new(ADMISSION), NodeKey.new(), time.time()
    file = issued(tmp_path, admission, key, since=now + since, until=now + until)
    with pytest.raises(ConfigError, match=said):
        Credentials.admitted(key, file, now)


def test_a_certificate_of_another_node_names_both(tmp_path: Path) -> None:
    admission, key, other = RunKey.new(ADMISSION), NodeKey.new(), NodeKey.new()
    with pytest.raises(ConfigError, match=f"for node {other.node}, but this node is {key.node}"):
        Credentials.admitted(key, issued(tmp_path, admission, other), time.time())


def test_a_certificate_must_be_of_the_run_that_is_named(tmp_path: Path) -> None:
    admission, key = RunKey.new(ADMISSION), NodeKey.new()
    file, run = issued(tmp_path, admission, key), tmp_path / "run.crt"
    run.write_bytes(pem(authority_certificate(admission.authority)))
    assert read_chain(file, run).tag == admission.tag
    run.write_bytes(pem(authority_certificate(RunKey.new(ADMISSION).authority)))
    with pytest.raises(ConfigError, match="is not of the run of"):
        read_chain(file, run)
    run.write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"run certificate .*2 certificates"):
        read_chain(file, run)


def test_a_leaf_of_one_authority_under_another_is_refused(tmp_path: Path) -> None:
    key, now = NodeKey.new(), time.time()
    first, second = RunKey.new(ADMISSION), RunKey.new(ADMISSION)
    leaf = leaf_certificate(first.authority, key.public, now - 60, now + 60)
    file = tmp_path / "me.crt"
    file.write_bytes(pem(leaf) + pem(authority_certificate(second.authority)))
    with pytest.raises(ConfigError, match="not made by the authority of that run"):
        read_chain(file)


@given(st.binary(max_size=200), st.integers(0, 2000), st.booleans())
def test_any_certificate_file_is_a_chain_or_a_config_error(
    noise: bytes, at: int, is_cut: bool
) -> None:
    key = RunKey(bytes(16), ADMISSION)
    leaf = leaf_certificate(key.authority, bytes(range(32)), 0, 1e9)
    good = chain(leaf, authority_certificate(key.authority)).pem
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "me.crt")
        file.write_bytes(good[:at] + noise + (b"" if is_cut else good[at:]))
        try:
            assert read_chain(file).tag == key.tag
        except ConfigError as error:
            assert str(file) in str(error)


def test_a_certificate_that_is_replaced_on_the_disk_is_picked_up(tmp_path: Path) -> None:
    admission, key, now = RunKey.new(ADMISSION), NodeKey.new(), time.time()
    anna = Credentials.admitted(key, issued(tmp_path, admission, key, until=now + HOUR_S), now)
    assert not anna.renew(now)
    issued(tmp_path, admission, key, name="new", until=now + 90 * DAY_S)
    (tmp_path / "new").replace(tmp_path / "me.crt")
    assert anna.renew(now)
    assert anna.expires_at == pytest.approx(now + 90 * DAY_S, abs=2)
    assert not anna.renew(now)


def test_a_new_certificate_that_is_of_no_use_is_said_once_and_the_old_one_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admission, key, now = RunKey.new(ADMISSION), NodeKey.new(), time.time()
    file = issued(tmp_path, admission, key)
    anna = Credentials.admitted(key, file, now)
    kept = anna.certificate_pem
    for spoil in (
        lambda: file.write_bytes(b"nonsense, longer each time"),
        lambda: issued(tmp_path, RunKey.new(ADMISSION), key),
        lambda: issued(tmp_path, admission, NodeKey.new()),
        file.unlink,
    ):
        spoil()
        caplog.clear()
        assert not anna.renew(now)
        assert not anna.renew(now)
        assert caplog.text.count("the new one is of no use") == 1
        assert anna.certificate_pem == kept
    issued(tmp_path, admission, key)
    assert anna.renew(now)


def test_a_certificate_that_is_about_to_end_is_said_in_time_and_not_every_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admission, key, now = RunKey.new(ADMISSION), NodeKey.new(), time.time()
    anna = Credentials.admitted(key, issued(tmp_path, admission, key, until=now + 5 * DAY_S), now)
    for minute in range(0, 6 * 24 * 60, 10):
        assert not anna.renew(now + 60 * minute)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert 2 <= len(warnings) <= 6
    assert all("p2pfl admit" in record.getMessage() for record in caplog.records)
    first = warnings[0].getMessage()
    assert f"in {WARN_S / DAY_S:.0f} days" in first
    ended = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(ended) == 1
    assert "has ended, peers refuse it" in ended[0].getMessage()
    # on it goes with it, since nothing else may take its place
    with pytest.raises(ConfigError):
        Credentials.admitted(key, tmp_path / "me.crt", now + 6 * DAY_S)


def test_an_authority_is_the_same_on_every_device_and_trusted_alone() -> None:
    key = RunKey.new()
    anna, boris = member(key), member(RunKey.parse(key.text))
    assert anna.ca_pem == boris.ca_pem
    for context in (anna.server_context(), anna.client_context()):
        assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3


# --- signatures ----------------------------------------------------------------------------------


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_signature_is_of_one_message_by_one_node(message: bytes, other: bytes) -> None:
    key, stranger = NodeKey.new(), NodeKey.new()
    proof = key.sign(message)
    assert len(proof) == 96
    assert NodeKey.is_signed(key.node, message, proof)
    assert not NodeKey.is_signed(stranger.node, message, proof)
    assert NodeKey.is_signed(key.node, other, proof) == (other == message)
    assert not NodeKey.is_signed(key.node, message, stranger.public + proof[32:])
    assert not NodeKey.is_signed(key.node, message, other)
    assert not NodeKey.is_signed(key.node, message, proof + b"\0")
