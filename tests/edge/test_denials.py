"""Deny lists: taken as a whole or not at all, obeyed for good, and remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.messages import Denial
from p2pfl.core.statements import denial_bytes
from p2pfl.edge import denials
from p2pfl.edge.denials import DENIALS, DenyFiles, read, signed, write
from p2pfl.edge.keytext import ADMISSION
from p2pfl.edge.nodekey import grouped, is_signature
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, StateError

ANNA, BORIS, CARLA = ("a1" * 16, "b2" * 16, "c3" * 16)
KEY = RunKey(bytes(16), ADMISSION)
OTHER = RunKey(bytes(range(16)), ADMISSION)
NODES = st.binary(min_size=16, max_size=16).map(bytes.hex)


def is_admissions(message: bytes, proof: bytes) -> bool:
    return is_signature(KEY.authority.public_key().public_bytes_raw(), message, proof)


def nobodys(message: bytes, proof: bytes) -> bool:
    return False


def listed(path: Path, *lines: str | Denial) -> Path:
    """A deny list as people and `p2pfl deny` leave it; never twice with the same stamp."""
    text = "".join(f"{line if isinstance(line, str) else denials._line(line)}\n" for line in lines)
    path.write_text(text)
    listed.count += 1  # type: ignore[attr-defined]
    os.utime(path, ns=(0, listed.count))  # type: ignore[attr-defined]
    return path


listed.count = 0  # type: ignore[attr-defined]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., DenyFiles]:
    def open_again(**given: object) -> DenyFiles:
        return DenyFiles(tmp_path / DENIALS, is_admissions, **given)  # type: ignore[arg-type]

    return open_again


# --- what a list says ----------------------------------------------------------------------------


@given(st.lists(st.tuples(NODES, st.integers(0, 2**53 - 1)), unique_by=lambda pair: pair[0]))
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("denials") / "list"
    found = {node: signed(KEY, node, at) for node, at in pairs}
    found |= {ANNA: Denial(ANNA, 0, b"")}
    write(path, found)
    assert read(path) == found
    assert all(is_admissions(denial_bytes(d), d.proof) for d in found.values() if d.proof)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_a_config_error_that_names_the_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("denials") / "list"
    path.write_bytes(data)
    try:
        read(path)
    except ConfigError as error:
        assert f"deny list {path}, line " in str(error)


def test_a_line_may_be_an_id_as_people_write_it_a_comment_or_empty(tmp_path: Path) -> None:
    path = listed(tmp_path / "x", "# of the kitchen", "", f"  {grouped(ANNA).upper()} ", BORIS)
    assert read(path) == {node: Denial(node, 0, b"") for node in (ANNA, BORIS)}


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "{",
        "[]",
        "anna",
        json.dumps({"node": ANNA, "at": 1, "proof": "00"}),
        json.dumps({"node": ANNA, "at": -1, "proof": "00" * 64}),
        json.dumps({"node": ANNA, "at": 2**60, "proof": "00" * 64}),
        json.dumps({"node": ANNA, "at": 1.5, "proof": "00" * 64}),
        json.dumps({"node": ANNA[:-1], "at": 1, "proof": "00" * 64}),
        json.dumps({"node": ANNA, "at": 1, "proof": "00" * 64, "more": 1}),
    ],
)
def test_a_damaged_line_is_named_and_nothing_of_the_list_is_taken(
    tmp_path: Path, line: str, opened: Callable[..., DenyFiles]
) -> None:
    path = listed(tmp_path / "x", BORIS, line)
    with pytest.raises(ConfigError, match=r"line 2: .*take the line out"):
        opened(shared=path)


def test_a_list_without_bound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="more than 1,048,576 bytes"):
        read(path)


# --- what is obeyed ------------------------------------------------------------------------------


def test_all_are_fresh_at_first_and_then_only_what_came(
    tmp_path: Path, opened: Callable[..., DenyFiles]
) -> None:
    shared = listed(tmp_path / "x", signed(KEY, BORIS, 7))
    deny = opened(own=(ANNA,), shared=shared)
    assert {d.node: bool(d.proof) for d in deny.fresh()} == {ANNA: False, BORIS: True}
    assert deny.fresh() == ()
    listed(shared, signed(KEY, BORIS, 7), CARLA)
    assert deny.fresh() == (Denial(CARLA, 0, b""),)
    assert deny.fresh() == ()


def test_an_own_opinion_that_turns_out_to_be_signed_is_told_again(
    tmp_path: Path, opened: Callable[..., DenyFiles]
) -> None:
    shared = listed(tmp_path / "x")
    deny = opened(own=(ANNA,), shared=shared)
    deny.fresh()
    told = signed(KEY, ANNA, 7)
    listed(shared, told)
    assert deny.fresh() == (told,)
    listed(shared, ANNA)
    assert deny.fresh() == ()


def test_a_damaged_or_vanished_list_is_said_once_and_the_last_good_one_stays(
    tmp_path: Path, opened: Callable[..., DenyFiles], caplog: pytest.LogCaptureFixture
) -> None:
    shared = listed(tmp_path / "x", ANNA)
    deny = opened(shared=shared)
    deny.fresh()
    for spoil in (lambda: listed(shared, BORIS, "nonsense"), shared.unlink):
        caplog.clear()
        spoil()
        assert deny.fresh() == deny.fresh() == ()
        assert caplog.text.count("the last good deny list stays") == 1
    listed(shared, BORIS)
    assert deny.fresh() == (Denial(BORIS, 0, b""),)


def test_a_signature_of_another_key_is_refused_at_the_start_and_later(
    tmp_path: Path, opened: Callable[..., DenyFiles], caplog: pytest.LogCaptureFixture
) -> None:
    foreign = signed(OTHER, ANNA, 7)
    with pytest.raises(ConfigError, match=f"denial of {ANNA} is not signed by this run's"):
        opened(shared=listed(tmp_path / "x", foreign))
    shared = listed(tmp_path / "x", BORIS)
    deny = opened(shared=shared)
    deny.fresh()
    listed(shared, foreign, CARLA)
    assert deny.fresh() == ()
    assert "is not signed" in caplog.text
    forged = signed(KEY, ANNA, 7)
    with pytest.raises(ConfigError, match="is not signed"):
        opened(shared=listed(tmp_path / "y", Denial(BORIS, 7, forged.proof)))


def test_in_an_open_run_only_own_opinions_count(tmp_path: Path) -> None:
    shared = listed(tmp_path / "x", signed(KEY, ANNA, 7))
    with pytest.raises(ConfigError, match="only a strict run has one"):
        DenyFiles(tmp_path / DENIALS, nobodys, shared=shared)
    assert DenyFiles(tmp_path / DENIALS, nobodys, own=(ANNA,)).fresh()


def test_a_missing_list_is_an_error(tmp_path: Path, opened: Callable[..., DenyFiles]) -> None:
    with pytest.raises(ConfigError, match=r"deny list .*No such file or directory; give its path"):
        opened(shared=tmp_path / "nowhere")


# --- what is remembered --------------------------------------------------------------------------


def test_what_a_peer_told_is_obeyed_after_a_restart(opened: Callable[..., DenyFiles]) -> None:
    told = signed(KEY, ANNA, 7)
    first = opened()
    assert first.fresh() == ()
    first.keep(told)
    first.keep(told)
    assert first.fresh() == ()
    first.keep(signed(KEY, BORIS, 8))
    again = opened()
    assert {d.node for d in again.fresh()} == {ANNA, BORIS}
    again.keep(signed(KEY, CARLA, 9))
    assert {d.node for d in opened().fresh()} == {ANNA, BORIS, CARLA}


def test_what_was_remembered_under_another_key_has_no_weight(
    tmp_path: Path, opened: Callable[..., DenyFiles]
) -> None:
    write(tmp_path / DENIALS, {ANNA: signed(OTHER, ANNA, 7), BORIS: signed(KEY, BORIS, 7)})
    assert {d.node for d in opened().fresh()} == {BORIS}


def test_damaged_memory_is_an_error_with_the_fix(
    tmp_path: Path, opened: Callable[..., DenyFiles]
) -> None:
    (tmp_path / DENIALS).write_text("{\n")
    with pytest.raises(StateError, match="delete it: peers tell it again"):
        opened()


def test_a_full_disk_costs_the_memory_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deny = DenyFiles(tmp_path / "gone" / DENIALS, is_admissions)
    deny.keep(signed(KEY, ANNA, 7))
    assert "forgotten at the next start" in caplog.text
