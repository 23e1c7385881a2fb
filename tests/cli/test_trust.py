"""Keys and certificates on the command line: who gave one, or meant to, never runs without it."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import cli, main
from p2pfl.cli.assemble import _renewing
from p2pfl.core.messages import Statement
from p2pfl.core.statements import Evidence, denial_bytes, statement_bytes
from p2pfl.edge import denials
from p2pfl.edge.certfiles import read_chain
from p2pfl.edge.certificates import authority_certificate, chain, leaf_certificate, pem, raw_key
from p2pfl.edge.credentials import FORWARD_S, Credentials
from p2pfl.edge.evidence import EVIDENCE, EvidenceFiles
from p2pfl.edge.identity import node_key
from p2pfl.edge.keytext import ADMISSION
from p2pfl.edge.nodekey import NodeKey, grouped, is_signature
from p2pfl.edge.runkey import RunKey

ADMIT = RunKey.new(ADMISSION)
KEY = RunKey.new()


def p2pfl(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def told(*arguments: object) -> Any:
    done = p2pfl(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def certificate(path: Path, key: NodeKey, since: float = -3600, until: float = 3600) -> Path:
    now = time.time()
    leaf = leaf_certificate(ADMIT.authority, key.public, now + since, now + until)
    return written(path, chain(leaf, authority_certificate(ADMIT.authority)).pem)


# --- failing closed ------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys and certificates of every kind; `state` is not there yet."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "run.key", KEY.text)
    written(tmp_path / "typo.key", KEY.text[:-1] + ("2" if KEY.text[-1] != "2" else "3"))
    written(tmp_path / "empty", "")
    written(tmp_path / "admission.key", ADMIT.text)
    written(tmp_path / "run.crt", pem(authority_certificate(ADMIT.authority)))
    other = RunKey.new(ADMISSION)
    written(tmp_path / "other.crt", pem(authority_certificate(other.authority)))
    certificate(tmp_path / "strangers.crt", NodeKey.new())
    return tmp_path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--key", ""), "does not begin with 'p2pfl-run-'"),
        (("--key", "secret"), "does not begin with 'p2pfl-run-'"),
        (("--key", ADMIT.text), "stays offline"),
        (("--key-file", ""), "key_file"),
        (("--key-file", "nowhere"), "key file nowhere: No such file"),
        (("--key-file", "empty"), "holds no key"),
        (("--key-file", KEY.text), "a key was given where the path of a key file is expected"),
        (("--key-file", "typo.key"), "a typo, probably at letter 4 of group 8"),
        (("--key-file", "admission.key"), "stays offline"),
        (("--key-file", "run.crt"), "does not begin with"),
        (("--key-file", "run.key", "--key", KEY.text), "give one of them"),
        (("--key-file", "run.key", "--cert", "strangers.crt"), "exclude each other"),
        (("--key", KEY.text, "--cert", "strangers.crt"), "exclude each other"),
        (("--run-cert", "run.crt"), "run_cert does nothing without cert"),
        (("--cert", ""), "cert"),
        (("--cert", "nowhere"), "certificate nowhere: No such file"),
        (("--cert", "run.key"), "not a certificate in PEM"),
        (("--cert", "run.crt"), "holds 1 certificates"),
        (("--cert", "strangers.crt", "--run-cert", "other.crt"), "is not of the run of"),
        (("--cert", "strangers.crt", "--run-cert", "run.key"), "run certificate run.key"),
        (("--set", f"key={KEY.text}"), "unknown key 'key'"),
        (("--deny", ""), "is no node id"),
        (("--deny", "anna"), "is no node id"),
        (("--deny", KEY.text), "what begins with p2pfl-run- is no node id"),
        (("--deny-list", "nowhere"), "deny list nowhere: No such file"),
        (("--deny-list", "run.key"), "deny list run.key, line 1"),
    ],
)
def test_what_is_wrong_with_a_key_ends_a_node_before_anything_is_written(
    here: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, said, *options)
    assert not (here / "state").exists()


def refused(capsys: pytest.CaptureFixture[str], said: str, *options: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["node", "digits-numpy", "--no-mdns", "--state-dir", "state", *options])
    heard = capsys.readouterr()
    assert ended.value.code == 2
    assert said in heard.err
    assert heard.err.count("\n") == 1
    assert heard.out == ""
    assert KEY.text not in heard.err
    assert ADMIT.text not in heard.err


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [(-9e5, -1e5, " ended "), (1e5, 9e5, "is valid from ")],
)
def test_a_certificate_that_is_not_valid_now_ends_a_node(
    here: Path, since: float, until: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate(here / "me.crt", node_key(here / "state", run="default"), since, until)
    refused(capsys, said, "--cert", "me.crt")


def test_a_certificate_of_another_node_and_a_key_that_is_not_ours_end_a_node(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "is for node ", "--cert", "strangers.crt")
    certificate(here / "me.crt", node_key(here / "state", run="default"))
    (here / "state" / "node.key").chmod(0o644)
    refused(capsys, "has mode 0644", "--cert", "me.crt")
    refused(capsys, "has mode 0644", "--key-file", "run.key")
    (here / "state" / "node.key").unlink()
    refused(capsys, "node.key is gone", "--cert", "me.crt")


def test_a_denial_that_is_not_of_this_run_ends_a_node(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denials.write(here / "denied", {"a": denials.signed(RunKey.new(ADMISSION), "ab" * 16, 1)})
    certificate(here / "me.crt", node_key(here / "state", run="default"))
    for options in (("--cert", "me.crt"), ("--key-file", "run.key"), ()):
        refused(capsys, "not signed by this run's admission key", "--deny-list", "denied", *options)


@pytest.mark.parametrize("command", ["peers", "status", "doctor"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--key", ""), "does not begin with"),
        (("--key-file", "nowhere"), "No such file"),
        (("--key-file", "admission.key"), "stays offline"),
        (("--key", KEY.text, "--key-file", "run.key"), "give one of them"),
        (("--key", KEY.text, "--cert", "strangers.crt"), "exclude each other"),
        (("--cert", "strangers.crt"), "add --state-dir"),
        (("--cert", "strangers.crt", "--state-dir", "state"), "give the --state-dir of a node"),
    ],
)
@pytest.mark.usefixtures("here")
def test_who_looks_with_a_bad_key_is_told_and_does_not_look_without(
    command: str,
    options: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, *options])
    heard = capsys.readouterr()
    assert (ended.value.code, heard.out) == (2, "")
    assert said in heard.err


async def test_a_running_node_keeps_its_certificate_valid() -> None:
    now = time.time()
    anna = Credentials.member(NodeKey.new(), KEY, now - 2 * FORWARD_S)
    assert anna.expires_at < now
    async with asyncio.TaskGroup() as tasks:
        renewing = tasks.create_task(_renewing(anna), name="certificate")
        await asyncio.sleep(0)
        renewing.cancel()
    assert anna.expires_at == pytest.approx(now + FORWARD_S, abs=30)


# --- making keys ---------------------------------------------------------------------------------


def test_a_new_key_is_printed_with_what_to_do_and_is_another_each_time(tmp_path: Path) -> None:
    done = p2pfl("run-key", "new")
    assert done.exit_code == 0
    key = RunKey.parse(done.output.splitlines()[0])
    assert f"  p2pfl node TASK --key {key.text}" in done.output
    assert key.tag in done.output
    assert "ps" in done.output
    assert "█" not in done.output
    assert "█" in p2pfl("run-key", "new", "--qr").output
    assert told("run-key", "new")["key"] != key.text


def test_a_key_in_a_file_is_for_its_owner_and_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "run.key"
    done = p2pfl("run-key", "new", "--out", path)
    assert done.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = RunKey.load(path)
    assert key.text not in done.output
    assert f"--key-file {path}" in done.output
    again = p2pfl("run-key", "new", "--out", path)
    assert "may be the only copy of a key" in str(again.exception)
    assert RunKey.load(path) == key


def test_show_tells_what_two_devices_compare_and_not_the_key(tmp_path: Path) -> None:
    for key in (KEY, ADMIT):
        path = written(tmp_path / "a.key", key.text)
        done = p2pfl("run-key", "show", "--key-file", path)
        assert key.tag in done.output
        assert key.text not in done.output
        assert done.output == p2pfl("run-key", "show", "--key", key.text.lower()).output
        about = told("run-key", "show", "--key-file", path)
        assert about["tag"] == key.tag
        assert re.fullmatch(r"([0-9a-f]{4} ){15}[0-9a-f]{4}", about["authority"])
    assert "give either --key" in str(p2pfl("run-key", "show").exception)


def test_split_keeps_the_secret_and_the_public_apart_and_overwrites_nothing(
    tmp_path: Path,
) -> None:
    out = tmp_path / "kitchen"
    about = told("run-key", "split", "--out", out)
    key = RunKey.load(out / "admission.key", ADMISSION)
    assert stat.S_IMODE((out / "admission.key").stat().st_mode) == 0o600
    assert (out / "run.crt").read_bytes() == pem(authority_certificate(key.authority))
    assert about["tag"] == key.tag
    assert "is not empty" in str(p2pfl("run-key", "split", "--out", out).exception)


# --- admitting and denying -----------------------------------------------------------------------


def test_who_is_admitted_has_a_certificate_of_one_file_that_can_be_renewed(here: Path) -> None:
    state = here / "anna"
    about = told("id", "--run", "kitchen", "--state-dir", state)
    done = p2pfl("id", "--run", "kitchen", "--state-dir", state)
    assert grouped(about["node"]) in done.output
    assert about["request"] in done.output
    assert node_key(state, run="kitchen").node == about["node"]

    admit = ("admit", about["request"], "--key-file", "admission.key", "--out", "anna.crt")
    done = p2pfl(*admit)
    assert grouped(about["node"]) in done.output
    found = read_chain(here / "anna.crt", here / "run.crt")
    assert (found.node, found.tag) == (about["node"], ADMIT.tag)
    assert found.until == pytest.approx(time.time() + 30 * 86_400, abs=5)
    told(*admit, "--days", "90")
    assert read_chain(here / "anna.crt").until > found.until + 59 * 86_400


def test_a_certificate_is_not_written_over_what_is_anothers(here: Path) -> None:
    request = NodeKey.new().request
    for path in ("strangers.crt", "run.crt", "admission.key"):
        before = (here / path).read_bytes()
        done = p2pfl("admit", request, "--key-file", "admission.key", "--out", path)
        assert f"{path} exists and is of another" in str(done.exception)
        assert (here / path).read_bytes() == before


@pytest.mark.usefixtures("here")
def test_only_a_request_is_admitted_and_only_by_an_admission_key() -> None:
    key = NodeKey.new()
    done = p2pfl("admit", grouped(key.node), "--key-file", "admission.key")
    assert "only the fingerprint" in str(done.exception)
    done = p2pfl("admit", key.request[:-1], "--key-file", "admission.key")
    assert "55 letters" in str(done.exception)
    done = p2pfl("admit", key.request, "--key-file", "run.key")
    assert "expected an admission key" in str(done.exception)


def test_denials_gather_in_a_list_that_a_node_takes(here: Path) -> None:
    anna, boris = NodeKey.new().node, NodeKey.new().node
    for text in (grouped(anna), boris.upper(), anna):
        done = p2pfl("deny", text, "--key-file", "admission.key")
        assert done.exit_code == 0, done.output
    found = denials.read(here / "denied.jsonl")
    assert set(found) == {anna, boris}
    certified = certificate(here / "me.crt", NodeKey.new())
    public = raw_key(read_chain(certified).authority)
    for denial in found.values():
        assert is_signature(public, denial_bytes(denial), denial.proof)
    assert "expected an admission key" in str(
        p2pfl("deny", anna, "--key-file", "run.key").exception
    )


# --- evidence ------------------------------------------------------------------------------------


def test_evidence_is_listed_verified_and_told_from_what_proves_nothing(tmp_path: Path) -> None:
    liar = NodeKey.new()

    def said(digest: bytes) -> Statement:
        bare = Statement(liar.node, 3, 7, 100, digest, b"")
        return replace(bare, proof=liar.sign(statement_bytes("kitchen", bare)))

    empty = p2pfl("evidence", tmp_path)
    assert (empty.exit_code, empty.output) == (0, "nobody was caught\n")
    EvidenceFiles(tmp_path / EVIDENCE, "kitchen")(Evidence(said(b"a" * 32), said(b"b" * 32)))
    done = p2pfl("evidence", "--state-dir", tmp_path)
    assert done.exit_code == 0
    assert done.output.startswith(f"{grouped(liar.node)} signed, in run 'kitchen', for exchange 7")
    (row,) = told("evidence", tmp_path)
    assert (row["node"], row["incarnation"], row["seq"]) == (liar.node, 3, 7)

    file = Path(row["file"])
    file.write_text(file.read_text().replace("kitchen", "garden"))
    done = p2pfl("evidence", file)
    assert done.exit_code == 1
    assert done.output.startswith("proves nothing: ")
