"""The Tab key: what is proposed, by the protocol the shells speak, and in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner

from p2pfl.cli import cli, main
from p2pfl.cli.topology import ABOUT
from p2pfl.learning.task import BUILT_IN

HERE = Path(sys.executable).parent
Ask: TypeAlias = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device on which two nodes ran, in a folder with a scenario and a topology."""
    for node in ("kitchen/laptop", "kitchen/phone", "lab/pi"):
        (tmp_path / "state/p2pfl" / node).mkdir(parents=True)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/hello.toml").touch()
    (tmp_path / "topologies").mkdir()
    (tmp_path / "topologies/ribbon.graphml").touch()
    (tmp_path / "topologies/ring.toml").touch()
    (tmp_path / "mine.py").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Asks as bash does; the last word is the one that is being typed."""

    def ask(line: str) -> list[str]:
        typed = line.split(" ")
        monkeypatch.setenv("_P2PFL_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(typed) - 1))
        with pytest.raises(SystemExit) as ended:
            main([])
        assert ended.value.code == 0
        return capsys.readouterr().out.split()

    return ask


def plain(*words: str) -> list[str]:
    return [f"plain,{word}" for word in words]


CASES = {
    "p2pfl ru": plain("run-key", "run"),
    "p2pfl topology ": plain("list", "show"),
    "p2pfl demo --no-": plain("--no-faults"),
    "p2pfl node brea": plain("breast-cancer"),
    "p2pfl node mi": ["file,mi"],
    "p2pfl node digits --run ": plain("kitchen", "lab"),
    "p2pfl node digits --topology ri": plain("ribbon", "ring"),
    "p2pfl node digits --codec fl": plain("float16", "float32"),
    "p2pfl node digits --partition i": plain("iid"),
    "p2pfl peers --run k": plain("kitchen"),
    "p2pfl doctor --task mn": plain("mnist5k"),
    "p2pfl id --run kitchen --name ": plain("laptop", "phone"),
    "p2pfl run ": plain("hello"),
    "p2pfl run scenarios/": ["file,scenarios/"],
    "p2pfl sweep he": plain("hello"),
    "p2pfl topology show small": plain("small-world"),
    "p2pfl topology show ./": ["file,./"],
    "p2pfl demo --task x": ["file,x"],
    "p2pfl record --task brea": plain("breast-cancer"),
    "p2pfl export run": ["dir,run"],
    "p2pfl completion ": plain("bash", "zsh", "fish"),
}


@pytest.mark.parametrize("line", CASES)
def test_what_is_proposed(line: str, proposed: Ask) -> None:
    assert proposed(line) == CASES[line]


def test_all_tasks_rules_and_state_directories_are_proposed(home: Path, proposed: Ask) -> None:
    assert proposed("p2pfl node ") == plain(*sorted(BUILT_IN))
    assert proposed("p2pfl topology show ") == plain(*sorted({*ABOUT, "ribbon"}))
    states = home / "state/p2pfl"
    nodes = ("kitchen/laptop", "kitchen/phone", "lab/pi")
    assert proposed("p2pfl export ") == plain(*(str(states / node) for node in nodes))


def test_a_device_without_nodes_proposes_no_run(
    monkeypatch: pytest.MonkeyPatch, home: Path, proposed: Ask
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "none"))
    assert proposed("p2pfl node digits --run ") == []
    assert proposed("p2pfl export ") == ["dir,"]


def test_the_names_of_commands_cost_no_import() -> None:
    script = (
        "import os, sys\n"
        "from p2pfl.cli import main\n"
        "try:\n    main([])\nexcept SystemExit:\n    pass\n"
        "sys.exit(', '.join({'pydantic', 'numpy', 'aiohttp', 'rich'} & set(sys.modules)))"
    )
    asked = {"_P2PFL_COMPLETE": "bash_complete", "COMP_WORDS": "p2pfl ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **asked}
    )
    assert done.stderr.strip() == ""
    assert len(done.stdout.split()) > 15


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it(shell: str) -> None:
    said = CliRunner().invoke(cli, ["completion", shell])
    assert said.exit_code == 0
    first, _, script = said.output.partition("\n")
    assert first.startswith("# to install: ")
    assert f"p2pfl completion {shell}" in first
    assert f"_P2PFL_COMPLETE={shell}_complete" in script


def test_another_shell_is_refused_with_those_there_are() -> None:
    said = CliRunner().invoke(cli, ["completion", "tcsh"])
    assert said.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in said.output


REAL_LINES = [
    ("p2pfl topology show sma", ["small-world"]),
    ("p2pfl run hel", ["hello"]),
    ("p2pfl sw", ["sweep"]),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("line", "found"), REAL_LINES)
def test_a_real_bash_completes(line: str, found: list[str]) -> None:
    script = (
        'eval "$(p2pfl completion bash)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n"
        '_p2pfl_completion p2pfl\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p p2pfl >&2"
    )
    path = os.pathsep.join([str(HERE), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout.split() == found, done.stderr
    assert "_p2pfl_completion" in done.stderr


@pytest.mark.skipif(
    shutil.which("fish") is None, reason="no fish is installed: Debian has it as `fish`"
)
@pytest.mark.parametrize(("line", "found"), REAL_LINES)
def test_a_real_fish_completes(line: str, found: list[str]) -> None:
    script = f'p2pfl completion fish | source; complete -C "{line}"'
    path = os.pathsep.join([str(HERE), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    said = [each.partition("\t")[0] for each in done.stdout.splitlines()]
    assert said == found, done.stderr
