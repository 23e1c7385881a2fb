"""Evidence on the disk proves itself to anybody; anything else convicts nobody."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.messages import Statement
from p2pfl.core.statements import Evidence, statement_bytes
from p2pfl.edge import evidence as module
from p2pfl.edge.evidence import EVIDENCE, EvidenceFiles, cases, verified
from p2pfl.edge.nodekey import NodeKey
from p2pfl.errors import ConfigError

LIAR = NodeKey.new()


def said(key: NodeKey, digest: bytes, *, run: str = "kitchen", seq: int = 7) -> Statement:
    bare = Statement(key.node, 3, seq, 100, digest, b"")
    return replace(bare, proof=key.sign(statement_bytes(run, bare)))


def caught(key: NodeKey = LIAR, seq: int = 7) -> Evidence:
    return Evidence(said(key, b"a" * 32, seq=seq), said(key, b"b" * 32, seq=seq))


@pytest.fixture
def case(tmp_path: Path) -> Path:
    EvidenceFiles(tmp_path / EVIDENCE, "kitchen")(caught())
    (found,) = cases(tmp_path)
    return found


def changed(path: Path, **fields: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return path


def test_what_was_kept_is_verified_from_its_file_alone(case: Path) -> None:
    assert case.name == f"{LIAR.node}-3-7.json"
    found = verified(case)
    assert (found.run, found.evidence) == ("kitchen", caught())


def test_cases_are_found_in_a_state_directory_in_its_folder_and_alone(
    case: Path, tmp_path: Path
) -> None:
    (tmp_path / "identity.json").write_text("{}")
    for path in (tmp_path, tmp_path / EVIDENCE, case):
        assert list(cases(path)) == [case]
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "identity.json").write_text("{}")
    assert list(cases(empty)) == []
    with pytest.raises(ConfigError, match="give a state directory or a file of evidence"):
        list(cases(tmp_path / "nowhere"))


def test_two_that_agree_convict_nobody(tmp_path: Path) -> None:
    once = said(LIAR, b"a" * 32)
    for second in (once, said(LIAR, b"b" * 32, seq=8)):
        EvidenceFiles(tmp_path, "kitchen")(Evidence(once, second))
        with pytest.raises(ConfigError, match="do not contradict; it convicts nobody"):
            verified(tmp_path / f"{LIAR.node}-3-7.json")


def test_nobody_is_convicted_by_what_another_signed(case: Path) -> None:
    forger = NodeKey.new()
    forged = [
        {**one, "signature": said(forger, bytes.fromhex(one["digest"])).proof[32:].hex()}
        for one in json.loads(case.read_text())["statements"]
    ]
    changed(case, statements=forged)
    with pytest.raises(ConfigError, match="statement 1 is not signed by the key"):
        verified(case)
    # with the forger's key it is signed, but the key is not the victim's
    changed(case, public_key=forger.public.hex())
    with pytest.raises(ConfigError, match="statement 1 is not signed by the key"):
        verified(case)


def test_what_was_said_in_another_run_convicts_nobody(case: Path) -> None:
    with pytest.raises(ConfigError, match="is not signed"):
        verified(changed(case, run="garden"))


@given(st.data())
def test_no_change_of_a_case_convicts_anybody_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("evidence")
    EvidenceFiles(folder, "kitchen")(caught())
    (path,) = cases(folder)
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255))
    path.write_bytes(good[:at] + bytes([byte]) + good[at + 1 :])
    try:
        found = verified(path)
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        assert (found.run, found.evidence) == ("kitchen", caught())


@given(st.binary(max_size=200))
def test_any_bytes_convict_nobody(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("evidence") / "x.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="convicts nobody"):
        verified(path)


def test_who_convicts_itself_again_and_again_takes_one_place_only(tmp_path: Path) -> None:
    keep = EvidenceFiles(tmp_path / EVIDENCE, "kitchen")
    for seq in range(10):
        keep(caught(seq=seq))
    assert [path.name for path in cases(tmp_path)] == [f"{LIAR.node}-3-0.json"]
    other = NodeKey.new()
    keep(caught(other))
    assert len(list(cases(tmp_path))) == 2


def test_many_who_convict_themselves_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CASES_MAX", 3)
    keep = EvidenceFiles(tmp_path / EVIDENCE, "kitchen")
    for _ in range(5):
        keep(caught(NodeKey.new()))
    assert len(list(cases(tmp_path))) == 3
    assert "no more are kept" in caplog.text


def test_one_case_written_by_two_threads_at_once_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = EvidenceFiles(tmp_path / EVIDENCE, "kitchen")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(keep, [caught()] * 12))
    (path,) = (tmp_path / EVIDENCE).iterdir()
    assert verified(path).evidence == caught()
    assert "could not be kept" not in caplog.text


def test_a_disk_that_cannot_be_written_costs_the_proof_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    EvidenceFiles(tmp_path / "gone" / EVIDENCE, "kitchen")(caught())
    assert "could not be kept" in caplog.text


def test_evidence_about_the_largest_number_the_wire_carries_is_kept(tmp_path: Path) -> None:
    key = NodeKey.new()
    said = []
    for digest in (b"a" * 32, b"b" * 32):
        statement = Statement(key.node, 2**63 - 1, 2**63 - 1, 1, digest, b"")
        said.append(replace(statement, proof=key.sign(statement_bytes("run", statement))))
    EvidenceFiles(tmp_path / "evidence", "run")(Evidence(*said))
    (path,) = (tmp_path / "evidence").iterdir()
    assert verified(path)
