"""The scraper's token in the state directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p2pfl.edge.page.scraping import SCRAPE_FILE, made
from p2pfl.errors import StateError


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    token = made(tmp_path)
    file = tmp_path / SCRAPE_FILE
    assert len(token) >= 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text(encoding="ascii") == f"{token}\n"
    assert made(tmp_path) == token
    assert [each.name for each in tmp_path.iterdir()] == [SCRAPE_FILE]


def test_no_two_nodes_have_the_same_token(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert made(tmp_path / "a") != made(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_that_others_can_read_is_an_error_with_its_fix(tmp_path: Path, mode: int) -> None:
    made(tmp_path)
    (tmp_path / SCRAPE_FILE).chmod(mode)
    with pytest.raises(StateError, match=rf"has mode {mode:04o}, .* expected 0600; delete it"):
        made(tmp_path)


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 43 + b" y", b"\xff" * 43, b"x" * 1000])
def test_a_damaged_token_is_an_error_and_not_a_weak_one(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / SCRAPE_FILE
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(StateError, match=r"is damaged: .* delete it"):
        made(tmp_path)
    file.unlink()
    assert len(made(tmp_path)) >= 43


def test_what_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"nowhere/scrape-token cannot be used: No such file"):
        made(tmp_path / "nowhere")
