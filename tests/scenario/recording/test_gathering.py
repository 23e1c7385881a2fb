"""Journals that belong together, and what a recording of them leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.core.events import MemberChanged
from p2pfl.errors import ConfigError
from p2pfl.scenario.recording import journals, recorded
from tests.scenario.recording.made import WALL, Copied, Made, record


def test_only_what_lies_between_from_and_until_is_recorded(tmp_path: Path) -> None:
    a, b = Made("a").lives(0, 100), Made("b").lives(0, 20).lives(30, 60)
    folders = [node.keep(tmp_path) for node in (a, b)]
    since, until = WALL + 25, WALL + 50
    found = recorded(journals(folders, since=since, until=until), since=since, until=until)
    assert found.zero == since
    assert found.seconds == pytest.approx(25, abs=0.3)
    assert "1 node trained before --from" in found.notes[0]
    assert [life.begin for life in found.nodes[1].lives] == [pytest.approx(5)]
    assert [life.ending for node in found.nodes for life in node.lives] == ["present"] * 2
    assert found.nodes[0].cycles == pytest.approx(125, abs=2)
    with pytest.raises(ConfigError, match="less than 1 s to record"):
        recorded([a.journal, b.journal], since=WALL + 500)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([Made("a")], "none of 1 journal holds the start of a node"),
        ([Made("a").lives(0, 0.1), Made("b").lives(5, 5.1)], "holds a training cycle"),
        ([Made("a").lives(0, 0.5)], "less than 1 s to record"),
        ([Made("a").lives(0, 9), Made("b", run="x").lives(0, 9)], "nodes of 2 runs"),
        ([Made("a").lives(0, 9), Made("b", layout="x").lives(0, 9)], "nodes of 2 models"),
        ([Made("a").lives(0, 9), Copied("a").lives(0, 5)], "/state/a and /backup/a are of the"),
    ],
)
def test_what_cannot_be_recorded_is_said_with_the_fix(nodes: list[Made], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        record(*nodes)


def test_what_a_reader_should_know_is_noted() -> None:
    a = Made("a", age=77).lives(0, 20, resumed=True, peer=Made("stranger"))
    a.lives(500, 520)
    b = Made("b").lives(0, 0.1)
    b.record(5, MemberChanged, a.id, "alive", 1, "heard")
    notes = "\n".join(record(a, Made("empty"), b).notes)
    assert "1 peer without a journal here" in notes
    assert "1 node began with a trained model (age up to 77)" in notes
    assert "/state/empty: its journal holds no start of a node" in notes
    assert "no training cycle of n2 was seen" in notes
    assert "nobody was up for 480 s" in notes
