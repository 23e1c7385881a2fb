"""What a script can rely on: which flags a command has, and what is on which output."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from p2pfl.cli import cli
from p2pfl.cli.saying import working

QUIET, JSON = "--quiet", "--json"
BOTH = {QUIET, JSON}

FLAGS = {
    # long work: progress that can be turned off, and the answer as JSON
    "demo": BOTH,
    "run": BOTH,
    "sweep": BOTH,
    "replay": BOTH,
    "record": BOTH,
    "topology show": BOTH,
    "topology list": BOTH,
    "export": BOTH,
    "init": BOTH,
    # runs until it is stopped; `status --json` asks it
    "node": {QUIET},
    # print their answer and nothing else
    "run-key new": {JSON},
    "run-key show": {JSON},
    "run-key split": {JSON},
    "id": {JSON},
    "admit": {JSON},
    "deny": {JSON},
    "evidence": {JSON},
    "peers": {JSON},
    "status": {JSON},
    "page": {JSON},
    "watch": {JSON},
    "doctor": {JSON},
    # a script for a shell
    "completion": set(),
}
"""Every command, and what a script needs of it; whoever adds one says here what it has."""

SMALL = """\
nodes = 4
task = "averaging"
duration = { seconds = 2 }
expect = { mass_drift = "< 1e-3" }
"""


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def words(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "p2pfl", *map(str, arguments)]


def without_columns() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "COLUMNS"}


def piped(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*arguments), capture_output=True, text=True, env=without_columns(), check=False
    )


# --- flags ---------------------------------------------------------------------------------------


def test_every_command_has_the_flags_that_scripts_need() -> None:
    found = {
        name: {option for param in command.params for option in param.opts} & BOTH
        for name, command in commands(cli)
    }
    assert found == FLAGS


def test_every_flag_for_scripts_says_what_it_does() -> None:
    silent = [
        (name, param.name)
        for name, command in commands(cli)
        for param in command.params
        if BOTH & set(param.opts) and not getattr(param, "help", None)
    ]
    assert silent == []


# --- one JSON document, and nothing else beside it -----------------------------------------------


def test_json_of_a_run_is_one_document_and_progress_is_on_the_other_output(
    scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = piped("run", scenario, "--no-report", "--json", "--out", out)
    assert json.loads(done.stdout)["scenario"] == "small"
    assert "small, 4 nodes" in done.stderr
    assert "PASSED" in done.stderr
    again = piped("replay", out, "--json")
    assert json.loads(again.stdout)["same"] is True
    assert "replay of small" in again.stderr
    quiet = piped("replay", out, "--json", "--quiet")
    assert json.loads(quiet.stdout)["same"] is True
    assert quiet.stderr == ""


def test_a_quiet_run_says_nothing_and_its_exit_code_is_the_answer(
    scenario: Path, tmp_path: Path
) -> None:
    quiet = ("--no-report", "--quiet", "--out")
    done = piped("run", scenario, *quiet, tmp_path / "a")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    missed = piped("run", scenario, *quiet, tmp_path / "b", "--set", "expect.mass_drift='> 1'")
    assert (missed.returncode, missed.stdout, missed.stderr) == (1, "", "")


def test_init_says_what_it_wrote_as_text_as_json_or_not_at_all(tmp_path: Path) -> None:
    def said(name: str, *flags: str) -> str:
        done = CliRunner().invoke(cli, ["init", str(tmp_path / name), "--numpy", *flags])
        assert done.exit_code == 0
        assert (tmp_path / name).is_file()
        return done.output

    assert said("a.py").startswith(f"wrote {tmp_path / 'a.py'}")
    assert json.loads(said("b.py", JSON)) == {"file": str(tmp_path / "b.py"), "kind": "numpy"}
    assert said("c.py", QUIET) == ""


# --- outputs that take nothing more --------------------------------------------------------------

SCRIPTED: Sequence[tuple[str, ...]] = (
    ("run", "small.toml", "--no-report", "--out", "out"),
    ("run", "small.toml", "--no-report", "--out", "out", "--json", "--quiet"),
    ("sweep", "small.toml", "--seeds", "1", "--jobs", "1", "--out", "out", "--json", "--quiet"),
    ("topology", "show", "ring", "--no-picture"),
    ("topology", "list", "--json"),
    ("init", "task.py"),
    ("run-key", "new"),
    ("completion", "bash"),
    ("--version",),
    ("--help",),
    ("node", "--help"),
    ("sweep", "--help"),
    ("run-key", "new", "-h"),
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
@pytest.mark.parametrize("arguments", SCRIPTED, ids=" ".join)
def test_a_full_output_is_blamed_and_nothing_else(
    arguments: tuple[str, ...], scenario: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, cwd=scenario.parent
        )
    assert done.returncode == 2
    assert done.stderr == "p2pfl: standard output cannot be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
def test_a_node_goes_on_where_its_output_is_full_and_says_so_once(tmp_path: Path) -> None:
    alone = ("--no-mdns", "--bind", "127.0.0.1", "--state-dir", str(tmp_path), "--minutes", "0.01")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words("node", "digits-numpy", *alone), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 0
    reason = "standard output cannot be written: No space left on device"
    assert done.stderr == f"p2pfl: {reason}; the node goes on\n"


def test_a_run_in_this_process_leaves_the_loggers_as_they_were(scenario: Path) -> None:
    nodes = logging.getLogger("p2pfl.node")
    root, before = logging.getLogger().level, nodes.level
    nodes.setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)
    try:
        for arguments in (["run", str(scenario), "--no-report"], ["replay"]):
            folder = str(scenario.parent / "out")
            where = ["--out", folder] if arguments[0] == "run" else [folder]
            assert CliRunner().invoke(cli, [*arguments, *where, QUIET]).exit_code == 0
            assert nodes.level == logging.INFO
    finally:
        nodes.setLevel(before)
        logging.getLogger().setLevel(root)


@pytest.mark.parametrize("arguments", SCRIPTED, ids=" ".join)
def test_who_is_not_read_any_more_ends_without_a_word(
    arguments: tuple[str, ...], scenario: Path
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)  # as `| head` does when it has enough
    try:
        done = subprocess.run(
            words(*arguments), stdout=theirs, stderr=subprocess.PIPE, text=True, cwd=scenario.parent
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")


# --- tables in a pipe ----------------------------------------------------------------------------


def test_a_table_in_a_pipe_is_neither_wrapped_nor_cut_off(scenario: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    done = piped("run", scenario, "--no-report", "--out", folder)
    assert f"  {folder / 'summary.json'}" in done.stdout.splitlines()
    over = ("--over", "gossip.codec=float32,float16,int8", "--over", "topology=ring,full")
    swept = piped("sweep", scenario, "--seeds", 1, *over, "--jobs", 1, "--out", tmp_path / "s")
    note = next(line for line in swept.stdout.splitlines() if "mean over seeds" in line)
    # every figure has a column where there is no end of them
    assert "see table.csv" not in note
    assert "…" not in swept.stdout


def test_a_sentence_in_a_pipe_is_one_line() -> None:
    lines = piped("topology", "show", "random-2", "--no-picture").stdout.splitlines()
    assert [line for line in lines if line.startswith(" ")] == []


# --- what takes its time -------------------------------------------------------------------------


def test_long_work_is_told_on_the_error_output_and_not_if_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with working("measuring"):
        pass
    assert capsys.readouterr() == ("", "measuring ...\n")
    with working("measuring", quiet=True):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_large_graph_says_that_it_takes_its_time() -> None:
    arguments = ["topology", "show", "ring", "--nodes", "500", "--no-picture"]
    said = CliRunner().invoke(cli, [*arguments, JSON])
    assert said.stderr == "measuring 500 nodes ...\n"
    assert json.loads(said.stdout)["nodes"] == 500
    assert CliRunner().invoke(cli, [*arguments, QUIET]).stderr == ""
