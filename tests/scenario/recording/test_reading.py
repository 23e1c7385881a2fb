"""Journals are found and read, also while they are written, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.edge.identity import JOURNAL
from p2pfl.edge.journal import SqliteJournal
from p2pfl.errors import ConfigError, StateError
from p2pfl.scenario.recording import journals, recorded
from tests.scenario.recording.made import WALL, Made


def test_journals_are_found_in_folders_each_once(tmp_path: Path) -> None:
    made = [Made(f"node-{number}").lives(0, 10) for number in (10, 9)]
    folders = [node.keep(tmp_path / "run") for node in made]
    told = journals([tmp_path, *folders, folders[0] / JOURNAL])
    assert len(told) == 2
    found = recorded(told)
    assert {node.name: node.label for node in found.nodes} == {"n1": "node-9", "n2": "node-10"}
    assert found.nodes[0].cycles == pytest.approx(49, abs=1)


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    node = Made("a").lives(0, 10)
    walls = iter([wall for wall, _ in node.events])
    journal = SqliteJournal(tmp_path / JOURNAL, wall=lambda: next(walls))
    for _, event in node.events:
        journal.record(event)
    journal.flush()
    assert recorded(journals([tmp_path])).nodes[0].cycles == pytest.approx(49, abs=1)
    journal.close()


def test_a_missing_journal_says_where_journals_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no journal in it; give state directories"):
        journals([tmp_path])
    with pytest.raises(ConfigError, match="is no folder"):
        journals([tmp_path / "none"])


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = Made("a").lives(0, 10).keep(tmp_path)
    (path / JOURNAL).write_bytes(b"this is no database, it is a text of some length" * 100)
    with pytest.raises(StateError, match=r"a/journal.sqlite cannot be read"):
        journals([path])


def test_a_journal_that_was_moved_aside_is_mentioned(tmp_path: Path) -> None:
    path = Made("a").lives(0, 10).keep(tmp_path)
    (path / "journal.damaged-1.sqlite").write_bytes(b"x")
    assert "earlier journal was damaged" in recorded(journals([path])).notes[0]


def test_rows_that_a_journal_dropped_are_no_freeze(tmp_path: Path) -> None:
    node = Made("a").lives(0, 60)
    path = tmp_path / JOURNAL
    walls = iter([wall for wall, _ in node.events])
    journal = SqliteJournal(path, rows=50, wall=lambda: next(walls))
    for _, event in node.events:
        journal.record(event)
    journal.close()
    (told,) = journals([tmp_path])
    assert told.whole_since > WALL + 40
    found = recorded([told])
    assert found.nodes[0].lives[0].gaps == ()
    assert "whole only since" in found.notes[0]
