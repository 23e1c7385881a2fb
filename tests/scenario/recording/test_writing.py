"""The files of a recording: each value with its evidence, and nothing unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import ConfigError
from tests.scenario.recording.made import Made, record, replayed


def test_every_estimate_stands_with_its_evidence(tmp_path: Path) -> None:
    a, b = Made("a"), Made("b")
    found = record(a.lives(0, 60, peer=b), b.lives(0, 30).lives(33, 60, peer=a))
    replayed(found, tmp_path)
    text = (tmp_path / "replay.toml").read_text(encoding="utf-8")
    for line in (
        'name = "digits-numpy"  # a test says so',
        "step_s = 0.01  # median of 2 nodes, ",
        'state = "checkpoint"  # absences that were seen: 1 x checkpoint',
        'codec = "float32"  # 2,410 values travel in 9,640 bytes',
        "# n2 = b (62000000), /state/b",
    ):
        assert line in text
    assert (tmp_path / "replay-churn.csv").read_text().splitlines()[0] == "node,at,up"
    assert (tmp_path / "replay-steps.csv").read_text().splitlines()[0] == "node,step_s"


def test_nothing_is_replaced_unless_told_to_and_nothing_old_is_left(tmp_path: Path) -> None:
    with_churn = record(Made("a").lives(0, 30), Made("b").lives(0, 10).lives(14, 30))
    replayed(with_churn, tmp_path)
    with pytest.raises(ConfigError, match="exists; give another --name or --out, or --overwrite"):
        replayed(with_churn, tmp_path)
    replayed(record(Made("a").lives(0, 30)), tmp_path, overwrite=True)
    assert not (tmp_path / "replay-churn.csv").exists()


def test_a_name_that_is_none_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        replayed(record(Made("a").lives(0, 30)), tmp_path, "../evil")
    assert list(tmp_path.iterdir()) == []


def test_names_that_others_chose_cannot_add_to_the_scenario(tmp_path: Path) -> None:
    evil = 'x"\n[task]\nname = "/tmp/evil.py"\u2028'
    scenario = replayed(record(Made(evil, run=evil).lives(0, 20)), tmp_path)
    assert scenario.task.name == "digits-numpy"
