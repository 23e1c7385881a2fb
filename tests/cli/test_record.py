"""`p2pfl record`: what it says, what it asks for, and what it leaves."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from p2pfl.cli.record import record
from p2pfl.errors import ConfigError
from p2pfl.learning.task import build_learner, find_task
from p2pfl.scenario.load import load
from tests.scenario.recording.made import WALL, Made

LAYOUT = build_learner(find_task("digits-numpy"), run="r", seed=0).layout.digest


def said(*arguments: str | Path) -> Result:
    return CliRunner().invoke(record, [str(argument) for argument in arguments])


def well(*arguments: str | Path) -> str:
    result = said(*arguments)
    if result.exception is not None:
        raise result.exception
    return result.output


def refused(*arguments: str | Path) -> str:
    error = said(*arguments).exception
    assert isinstance(error, ConfigError)
    return str(error)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with two nodes, one of which was killed and started again."""
    a, b = Made("anna", layout=LAYOUT), Made("boris", layout=LAYOUT)
    a.lives(0, 30).keep(tmp_path / "run")
    b.lives(0, 10, peer=a).lives(14, 30, peer=a).keep(tmp_path / "run")
    return tmp_path / "run"


def test_a_table_of_nodes_and_the_command_that_replays_them(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = well(run, "--out", out).splitlines()
    assert lines[0].startswith("run 'kitchen': 2 nodes for 30.0 s")
    assert lines[2].split() == [
        "node", "lives", "up", "cycles", "step", "exchanges", "losses", "seen",
    ]  # fmt: skip
    assert lines[3].startswith("n1 = anna   1      30.0 s")
    assert lines[4].startswith("n2 = boris  2      26.0 s")
    assert lines[4].endswith("10 ms  128        0 of 128  crashed 1 x")
    path = out / "kitchen.toml"
    assert lines[-1] == f"wrote {path}; replay it with: p2pfl run {path}"
    assert load(str(path)).nodes == 2


def test_json_holds_lives_estimates_and_their_evidence(run: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads(well(run, "--out", tmp_path, "--name", "k", "--json"))
    assert told["scenario"] == str(tmp_path / "k.toml")
    assert told["seconds"] == pytest.approx(30, abs=0.3)
    assert [node["label"] for node in told["nodes"]] == ["anna", "boris"]
    assert [life["ending"] for life in told["nodes"][1]["lives"]] == ["crashed", "present"]
    assert told["estimates"]["compute.step_s"]["value"] == pytest.approx(0.01)
    assert "cycles" in told["estimates"]["compute.step_s"]["why"]


def test_the_task_is_known_by_its_model(run: Path, tmp_path: Path) -> None:
    told = well(run, "--out", tmp_path)
    assert "note: data are split iid, as journals do not tell; see --partition" in told
    scenario = load(str(tmp_path / "kitchen.toml"))
    assert (scenario.task.name, scenario.task.partition) == ("digits-numpy", "iid")


def test_another_task_may_take_its_place_and_that_is_said(run: Path, tmp_path: Path) -> None:
    told = well(run, "--out", tmp_path, "--task", "breast-cancer", "--partition", "classes:2")
    assert "note: the nodes learned another model than breast-cancer" in told
    assert "split" not in told
    scenario = load(str(tmp_path / "kitchen.toml"))
    assert (scenario.task.name, scenario.task.partition) == ("breast-cancer", "classes:2")
    well(run, "--out", tmp_path, "--task", "averaging", "--name", "x")
    assert load(str(tmp_path / "x.toml")).task.name == "averaging"


def test_a_task_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    Made("anna").lives(0, 10).keep(tmp_path)
    assert "which no built-in task has; say what it was: --task my_task.py" in refused(tmp_path)
    assert "--task" not in refused(tmp_path, "--task", "nothing-like-it", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna"]


def test_what_a_configuration_says_is_taken(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'task = "digits-numpy"\ntopology = "ring"\npartition = "dirichlet:0.5"\n'
        "[train]\nsteps_max = 7\n"
    )
    told = well(run, "--out", tmp_path, "--config", file)
    assert "note" not in told
    scenario = load(str(tmp_path / "kitchen.toml"))
    assert scenario.topology == "ring"
    assert scenario.task.partition == "dirichlet:0.5"
    assert scenario.node.train.steps_max == 7
    text = (tmp_path / "kitchen.toml").read_text()
    assert "steps_max = 7  # given with --config" in text
    assert "run" not in tomllib.loads(text)["node"]
    file.write_text("topologi = 1\n")
    assert "did you mean 'topology'?" in refused(run, "--out", tmp_path, "--config", file)
    file.write_text("= 1\n")
    assert "not TOML" in refused(run, "--out", tmp_path, "--config", file)
    assert "give the path of a TOML file" in refused(run, "--config", tmp_path / "none.toml")


def test_a_part_of_the_time(run: Path, tmp_path: Path) -> None:
    told = well(run, "--out", tmp_path, "--from", f"{WALL + 12}", "--until", f"{WALL + 20}")
    assert told.startswith("run 'kitchen': 2 nodes for 8.0 s")
    assert "crashed" not in told
    assert load(str(tmp_path / "kitchen.toml")).churn.absent == ("n2",)
    assert "--until must be after --from" in refused(run, "--from", "20", "--until", "10")
    assert "--from is 'noon', which is no time" in refused(run, "--from", "noon")
    late = refused(run, "--from", "2033-01-01 12:00")
    assert "less than 1 s to record: the journals tell of 2023-11-14" in late


def test_nothing_given_and_nothing_found(tmp_path: Path) -> None:
    assert "no STATE_DIR given" in refused()
    assert "has no journal in it" in refused(tmp_path)


def test_the_help_shows_how_and_says_what_the_estimates_cannot() -> None:
    told = well("--help")
    assert "p2pfl record runs/demo-1 --task digits" in told
    for doubt in ("wall clocks", "transfer and processing", "Bandwidth is not estimated"):
        assert doubt in told


def test_quiet_prints_only_where_the_scenario_is(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert well(run, "--out", out, "--quiet") == f"{out / 'kitchen.toml'}\n"


def test_long_journals_are_told_to_take_their_time(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.cli.record._LARGE_BYTES", 1)
    told = said(run, "--out", tmp_path / "a", "--json")
    assert told.stderr == "reading the journals ...\n"
    assert json.loads(told.stdout)["run"] == "kitchen"
    assert said(run, "--out", tmp_path / "b", "--quiet").stderr == ""
