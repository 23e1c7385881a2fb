from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.cli import cli, main
from p2pfl.cli.node import configured
from p2pfl.config import DeviceConfig
from p2pfl.errors import ConfigError

COMMANDS = (
    *("demo", "node", "init", "peers", "status", "doctor", "export"),
    *("run-key", "id", "admit", "deny", "evidence"),
    *("run", "sweep", "replay", "record", "topology", "completion"),
)


# --- help ----------------------------------------------------------------------------------------


def test_help_lists_every_command_with_a_sentence() -> None:
    said = CliRunner().invoke(cli, ["--help"])
    assert said.exit_code == 0
    lines = {line.split()[0]: line for line in said.output.splitlines() if line[:2] == "  "}
    for command in COMMANDS:
        assert lines[command].endswith(".")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_teaches_with_an_example(command: str) -> None:
    said = CliRunner().invoke(cli, [command, "--help"])
    assert said.exit_code == 0
    _, found, examples = said.output.partition("Example")
    assert found
    assert f"  p2pfl {command}" in examples


def test_every_option_of_a_node_says_what_it_is_for() -> None:
    command = cli.get_command(None, "node")  # type: ignore[arg-type]
    assert command is not None
    silent = [p.name for p in command.params if not getattr(p, "help", None) and p.name != "task"]
    assert silent == []


def test_every_key_of_the_first_level_is_an_option_or_a_table() -> None:
    command = cli.get_command(None, "node")  # type: ignore[arg-type]
    assert command is not None
    tables = {"train", "gossip", "robust", "reputation", "membership", "limits", "stop"}
    tables |= {"figures", "courtesy"}
    known = {param.name for param in command.params} | tables
    assert set(DeviceConfig.model_fields) - known == {"checkpoint_every_s"}


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"pydantic", "numpy", "torch", "aiohttp", "zeroconf"}),
        (["node", "--help"], {"numpy", "torch", "aiohttp", "zeroconf"}),
        (["init", "--help"], {"pydantic", "numpy", "torch", "aiohttp", "zeroconf"}),
        (["export", "--help"], {"pydantic", "numpy", "torch", "aiohttp", "zeroconf"}),
        (["peers", "--help"], {"torch"}),
    ],
)
def test_help_waits_for_nothing_it_does_not_need(arguments: list[str], heavy: set[str]) -> None:
    script = (
        "import sys\nfrom p2pfl.cli import cli\n"
        f"cli.main({arguments}, standalone_mode=False)\n"
        f"sys.exit(', '.join({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == ""


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["node", "digit"], "p2pfl: no task 'digit': did you mean 'digits'?"),
        (["status", "localhost"], "p2pfl: 'localhost' has no port; expected http://HOST:PORT"),
        (["export", "nowhere", "out.npz"], "p2pfl: there is no state directory nowhere"),
        (["peers", "--interface", "nowhere0"], "p2pfl: unknown interface 'nowhere0'"),
    ],
)
def test_an_error_of_ours_is_one_sentence_and_exit_code_two(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert said.err.startswith(sentence)
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nod"], ["node", "--prot", "1"], ["demo", "--nodes", "1"]])
def test_a_command_line_that_cannot_be_read_is_exit_code_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "near"), [(["nod"], "node"), (["run-key", "sho"], "show"), (["xyzzy"], None)]
)
def test_a_command_that_is_not_there_is_told_with_the_nearest_one(
    arguments: list[str], near: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr().err
    assert f"No such command '{arguments[-1]}'." in said
    assert ("Did you mean" in said) == (near is not None)
    assert near is None or f"Did you mean '{near}'?" in said


# --- what wins: the file, --set, or an option ----------------------------------------------------

WORDS = st.text("abcdefgh", min_size=1, max_size=8)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "run": WORDS,
    "topology": st.sampled_from(["ring", "full", "random-3"]),
    "port": st.integers(0, 65_535),
    "data_seed": st.integers(0, 1000),
    "mdns": st.booleans(),
    "peers": st.lists(st.sampled_from(["a:1", "b:2"]), min_size=1, max_size=2).map(tuple),
    "stop.cycles": st.integers(1, 1000),
    "stop.target_accuracy": st.sampled_from([0.5, 0.9]),
    "gossip.codec": st.sampled_from(["float32", "float16", "int8"]),
    "gossip.outstanding": st.integers(1, 2),
    "limits.peers": st.integers(10, 20),
}
LAYER = st.fixed_dictionaries({}, optional=KEYS)
NO_OPTION = {"gossip.outstanding", "limits.peers"}


def toml(value: Any) -> str:
    return json.dumps(value)


def lookup(config: DeviceConfig, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


@given(LAYER, LAYER, LAYER)
def test_an_option_wins_over_set_and_set_over_the_file(
    file: Mapping[str, Any], settings: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    options = {key: value for key, value in options.items() if key not in NO_OPTION}
    given_options = {key.rpartition(".")[2]: value for key, value in options.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "node.toml")
        lines = [f"{key} = {toml(value)}" for key, value in file.items()]
        path.write_text("\n".join(['task = "digits"', *lines]), encoding="utf-8")
        config = configured(
            str(path),
            tuple(f"{key}={toml(value)}" for key, value in settings.items()),
            {"task": None, "name": None, "interfaces": (), **given_options},
        )
    default = DeviceConfig(task="digits")
    for key in KEYS:
        layers = [layer[key] for layer in (file, settings, options) if key in layer]
        assert lookup(config, key) == (layers[-1] if layers else lookup(default, key))
    assert config.task == "digits"


def test_the_task_may_stand_in_the_file_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('task = "digits"\nname = "laptop"', encoding="utf-8")
    assert configured(str(path), (), {}).task == "digits"
    assert configured(str(path), (), {"task": "mnist5k"}).task == "mnist5k"
    assert configured(str(path), (), {}).name == "laptop"


@given(WORDS)
def test_a_set_word_needs_no_quotes(word: str) -> None:
    assert configured(None, ("task=digits", f"run={word}"), {}).run == word
    assert configured(None, ("task=digits", f" run = '{word}' "), {}).run == word


def test_without_a_task_nothing_is_configured() -> None:
    with pytest.raises(ConfigError, match="no TASK given; try `p2pfl node digits`"):
        configured(None, (), {})
