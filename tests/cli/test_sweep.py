"""`p2pfl sweep` as a user runs it: killed, interrupted, resumed, mistaken, and on Ray."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import _COMMANDS, main
from p2pfl.cli.sweep import sweep
from p2pfl.errors import ConfigError
from p2pfl.scenario import pool
from tests.scenario import test_pool as made

SCENARIO = """
nodes = 4
task = "averaging"
[duration]
cycles = 5
[expect]
mean_accuracy = ">= 0.91"
consensus_distance = "<= 1"
"""
PATIENCE_S = 60.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


@pytest.fixture
def swept(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command with made-up runs, into `out` beside the scenario."""

    def run(*options: str, runner: Any = made.fine) -> Result:
        monkeypatch.setattr(pool, "simulated", runner)
        words = [str(file), "--out", str(file.parent / "out"), *options]
        return CliRunner().invoke(sweep, words, catch_exceptions=False)

    return run


@contextmanager
def started(file: Path, runner: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; killed at the end if it still lives."""
    code = (
        "import sys\n"
        "from p2pfl.cli import sweep\n"
        "from p2pfl.cli.sweep import sweep as command\n"
        "from p2pfl.scenario import pool\n"
        "from tests.scenario import test_pool\n"
        f"pool.simulated = test_pool.{runner}\n"
        "command.main(sys.argv[1:])\n"
    )
    words = [str(file), "--out", str(file.parent / "out"), *options]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read what it says until these words come."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    pytest.fail(f"it never said '{words}', but:\n{''.join(lines)}")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- what it shows and leaves -------------------------------------------------------------------


def test_help_teaches_with_examples() -> None:
    said = CliRunner().invoke(sweep, ["--help"])
    assert said.exit_code == 0
    assert "  p2pfl sweep ring-16 --seeds 20 --over nodes=16,64,256" in said.output
    options = [param for param in sweep.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_a_sweep_leaves_its_tables_its_picture_and_a_table_on_the_screen(
    swept: Callable[..., Result], tmp_path: Path
) -> None:
    said = swept("--seeds", "2", "--over", "nodes=4,8", "--jobs", "2")
    assert said.exit_code == 0, said.output
    assert "2 cells × 2 seeds = 4 runs, in" in said.output
    assert "4/4" in said.output
    assert "0.905 ±0.064" in said.output
    out = tmp_path / "out"
    table = rows(out / "table.csv")
    assert [(row["nodes"], row["runs"], row["consensus_distance"]) for row in table] == [
        ("4", "2", "0.25"),
        ("8", "2", "0.125"),
    ]
    assert float(table[0]["mean_accuracy"]) == pytest.approx(0.905)
    runs = rows(out / "runs.csv")
    assert [(row["nodes"], row["seed"]) for row in runs] == [
        ("4", "0"),
        ("8", "0"),
        ("4", "1"),
        ("8", "1"),
    ]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "| nodes | runs | held | mean accuracy (>= 0.91) |" in (out / "table.md").read_text()


def test_json_is_one_object_and_all_else_goes_to_stderr(swept: Callable[..., Result]) -> None:
    said = swept("--seeds", "2", "--over", "nodes=4,8", "--json")
    found = json.loads(said.stdout)
    assert (found["ok"], found["held"], found["runs"]) == (True, True, 4)
    assert found["over"] == {"nodes": [4, 8]}
    assert found["cells"][1]["values"] == {"nodes": 8}
    assert found["cells"][1]["figures"]["consensus_distance"] == {
        "mean": 0.125,
        "ci95": 0.0,
        "n": 2,
    }
    assert found["cells"][0]["figures"]["recovery_s"]["mean"] == "inf"
    assert "4/4" in said.stderr
    assert swept("--seeds", "2", "--over", "nodes=4,8", "--json", "--quiet").stderr == ""


def test_the_table_fits_into_eighty_columns(
    swept: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = swept("--seeds", "2", "--over", "nodes=4,8", "--over", "gossip.codec=float32,int8")
    lines = said.output.split("\n\n")[1].splitlines()
    assert len(lines) >= 6
    assert max(map(len, lines)) <= 80


def test_strict_fails_where_an_expectation_did_not_hold(swept: Callable[..., Result]) -> None:
    options = ("--seeds", "4", "--quiet")
    assert swept(*options).exit_code == 0
    assert swept(*options, "--strict").exit_code == 1
    assert swept("--seeds", "3", "--quiet", "--strict").exit_code == 0


# --- failing, killed, resumed -------------------------------------------------------------------


def test_a_failing_run_is_named_and_tried_again(
    swept: Callable[..., Result], tmp_path: Path
) -> None:
    said = swept("--seeds", "4", runner=made.moody)
    assert said.exit_code == 1
    assert "failed  tiny-seed1: ValueError: no luck today" in said.output
    assert "failed  tiny-seed2: killed by SIGABRT" in said.output
    assert "2 of 4" in said.output
    assert "no luck today" in (tmp_path / "out/runs/tiny-seed1/error.log").read_text()
    states = [row["state"] for row in rows(tmp_path / "out" / "runs.csv")]
    assert states == ["done", "failed", "failed", "done"]
    again = swept("--seeds", "4")
    assert again.exit_code == 0
    assert "2 of them done before: they are kept" in again.output
    assert "2 runs, " in again.output


def test_a_sweep_that_was_killed_goes_on_where_it_was_and_left_no_process(file: Path) -> None:
    options = ("--seeds", "3", "--over", "nodes=4,8,16", "--jobs", "2")
    with started(file, "slow", *options) as process:
        until(process, "3/9")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    assert len(children) >= 3  # the guard and two workers
    _, alive = psutil.wait_procs(children, timeout=5.0)
    assert alive == []
    kept = {path: path.stat().st_mtime_ns for path in file.parent.glob("out/runs/*/summary.json")}
    assert 3 <= len(kept) < 9
    with started(file, "slow", *options) as process:
        said = "".join(until(process, "files"))
        assert process.wait(PATIENCE_S) == 0
    assert f"{len(kept)} of them done before: they are kept" in said
    assert len(rows(file.parent / "out" / "runs.csv")) == 9
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(file: Path, number: signal.Signals) -> None:
    with started(file, "slow", "--seeds", "50", "--jobs", "2") as process:
        until(process, "2/50")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        said = until(process, "interrupted")
        assert process.wait(PATIENCE_S) == 130
    assert "the same command goes on from there" in said[-1]
    _, alive = psutil.wait_procs(children, timeout=5.0)
    assert alive == []


def test_on_a_terminal_there_is_a_bar(file: Path) -> None:
    ours, theirs = os.openpty()
    code = (
        "import sys; from p2pfl.cli.sweep import sweep; from p2pfl.scenario import pool;"
        "from tests.scenario import test_pool; pool.simulated = test_pool.moody;"
        "sweep.main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, str(file), "--seeds", "3", "--out", f"{file.parent}/out"]
    environment = {**os.environ, "COLUMNS": "90", "TERM": "xterm"}
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, process_group=0, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # the end of a terminal that nobody holds open any more
            pass
        assert process.wait(PATIENCE_S) == 1
    os.close(ours)
    text = shown.decode()
    assert "3/3 runs" in text
    assert "2 failed" in text
    assert "no luck today" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor did not come back"


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--over", "gossip.codek=int8"], "unknown key 'node.gossip.codek', did you mean 'codec'?"),
        (["--set", "topologie=ring"], "unknown key 'topologie', did you mean 'topology'?"),
        (["--ray", "here:there"], "--ray here:there: expected HOST:PORT"),
    ],
)
def test_a_mistake_is_one_sentence(
    file: Path,
    options: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(_COMMANDS, "sweep", ("p2pfl.cli.sweep", "Run a scenario over a grid."))
    if "--ray" in options and find_spec("ray") is None:
        sentence = "--ray needs ray, which is not installed; pip install 'p2pfl-node[ray]'"
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(file), "--out", str(file.parent / "out"), *options])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_another_question_for_the_same_folder_is_refused(swept: Callable[..., Result]) -> None:
    assert swept("--seeds", "1", "--over", "nodes=4,8").exit_code == 0
    with pytest.raises(ConfigError, match="--over was nodes=4,8, now it is nodes=4,9; give a new"):
        swept("--seeds", "1", "--over", "nodes=4,9")


# --- on Ray -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'p2pfl-node[ray]'")
def test_on_ray_the_same_comes_out_and_only_loopback_is_used(file: Path) -> None:
    options = ("--seeds", "2", "--over", "nodes=4,8", "--ray", "local", "--jobs", "2")
    family: set[psutil.Process] = set()
    heard: set[str] = set()
    with started(file, "slow", *options) as process:
        lines = until(process, "1/4")
        family |= set(psutil.Process(process.pid).children(recursive=True))
        for one in family:
            heard |= {at.laddr.ip for at in one.net_connections("tcp")}
        lines += until(process, "files")
        assert process.wait(PATIENCE_S) == 0, "".join(lines)
    assert len(family) >= 3
    assert heard <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    _, alive = psutil.wait_procs(list(family), timeout=10.0)
    for one in alive:
        one.kill()
    assert alive == []
    table = rows(file.parent / "out" / "table.csv")
    assert [(row["nodes"], row["runs"], row["consensus_distance"]) for row in table] == [
        ("4", "2", "0.25"),
        ("8", "2", "0.125"),
    ]
