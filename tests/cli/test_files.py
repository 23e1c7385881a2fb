from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import cli
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.errors import ConfigError
from p2pfl.learning.task import build_learner, find_task
from p2pfl.ports import Saved


def said(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", ["--numpy", "--torch"])
def test_what_init_writes_is_a_task_that_can_be_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "my_task.py"
    result = said("init", path, kind)
    assert result.exit_code == 0
    assert result.output == f"wrote {path}; put your model and data in, then: p2pfl node {path}\n"
    learner = build_learner(find_task(str(path)), run="r", seed=0)
    assert learner.evaluate(learner.initial()).accuracy is not None


def test_init_replaces_a_file_only_if_told_to(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    path.write_text("precious", encoding="utf-8")
    assert isinstance(said("init", path).exception, ConfigError)
    assert path.read_text(encoding="utf-8") == "precious"
    assert said("init", path, "--overwrite").exit_code == 0
    assert path.read_text(encoding="utf-8") != "precious"


def test_export_says_what_it_wrote(tmp_path: Path) -> None:
    layout = Layout((Entry("w", (2, 3)), Entry("b", (3,))))
    state, out = tmp_path / "state", tmp_path / "model.npz"
    state.mkdir()
    store = Checkpoints(state, layout, run="kitchen", node="a" * 32, incarnation=1)
    store.save(Saved(np.arange(9, dtype=np.float32), None, None, 77, 33, 5))
    result = said("export", state, out)
    assert result.exit_code == 0
    assert result.output == f"wrote {out}: 9 weights of run 'kitchen', age 77\n"
    with np.load(out) as arrays:
        assert arrays["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert arrays["b"].tolist() == [6, 7, 8]
    assert "exists; give another name, or --overwrite" in str(said("export", state, out).exception)
    again = ("export", state, out, "--overwrite")
    assert said(*again).exit_code == 0
    found = {"file": str(out), "parameters": 9, "run": "kitchen", "age": 77}
    assert json.loads(said(*again, "--json").output) == found
    assert said(*again, "--quiet").output == ""
