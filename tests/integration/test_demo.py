"""`p2pfl demo` as a user runs it: real nodes, real faults, and no process stays behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import psutil
import pytest

from p2pfl.edge.journal import read
from p2pfl.scenario.report import CURVES, PICTURE, SUMMARY, SWARM

DEMO = (sys.executable, "-m", "p2pfl", "demo", "--task", "digits-numpy", "--nodes", "3")
NAMES = ("node-1", "node-2", "node-3", "node-4")
PATIENCE_S = 120.0

pytestmark = pytest.mark.slow


class Run:
    """A demo on its way; `family` is every process it was ever seen to have."""

    def __init__(self, process: subprocess.Popen[bytes], said: Iterator[str]) -> None:
        self.process = process
        self.family: set[psutil.Process] = set()
        self.lines: list[str] = []
        self._said = said

    def until(self, words: str) -> None:
        """Read what it says until these words come."""
        for line in self._said:
            self.lines.append(line)
            self.look()
            if words in line:
                return
        pytest.fail(f"it never said '{words}', but:\n{''.join(self.lines)}")

    def look(self) -> None:
        """Note the processes it has now."""
        if self.process.poll() is None:
            self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def nodes(self) -> list[str]:
        """Names of the nodes among the processes that were seen."""
        return sorted({words[words.index("--name") + 1] for words in self._commands()})

    def _commands(self) -> list[list[str]]:
        found = []
        for one in self.family:
            try:
                words = one.cmdline()
            except psutil.Error:
                continue
            if "--name" in words:
                found.append(words)
        return found

    def left(self) -> list[psutil.Process]:
        """Those that still live, after the time the system needs to sweep up."""
        _, alive = psutil.wait_procs(list(self.family), timeout=5.0)
        return alive


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Run]:
    """Start a demo; if the test did not end it, it is killed, and all that it left as well."""
    command = [*DEMO, "--out", str(folder), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    ) as process:
        assert process.stdout is not None
        run = Run(process, (line.decode() for line in process.stdout))
        try:
            yield run
        finally:
            run.look()
            process.kill()
            for one in run.left():
                one.kill()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_short_demo_shows_learning_faults_and_recovery(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with demo(folder, "--seconds", "15", "--seed", "1") as run:
        run.until("took")
        code = run.process.wait(PATIENCE_S)
        assert run.left() == []
        assert "Traceback" not in "".join(run.lines)

    summary = json.loads((folder / SUMMARY).read_text())
    held = {one["what"]: one["held"] for one in summary["expectations"]}
    assert code == (0 if all(held.values()) else 1), summary["expectations"]
    # how good they become in so short a time depends on the machine; that they live does not
    assert held["longest stall"]
    assert held["checkpoint of node-2"]
    assert summary["ended_by_itself"] == []
    assert summary["mean_accuracy"] > summary["local_only"]["mean"] + 0.2

    curves = rows(folder / CURVES)
    states = {name: {row["state"] for row in curves if row["node"] == name} for name in NAMES}
    # once it trains again it is alone until it has met somebody
    known = {"training", "killed", "restarting", "alone", "restarted"}
    assert known >= states["node-2"] >= {"killed"}
    assert "restarted" in states["node-2"]
    assert "frozen" in states["node-3"]
    assert {"waiting", "late"} <= states["node-4"]
    assert "training" in states["node-1"]
    assert any(row["distance"] for row in rows(folder / SWARM))
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG")

    assert len({row["node"] for name in NAMES for row in started(folder, name)}) == len(NAMES)
    assert [row["resumed"] for row in started(folder, "node-2")] == [False, True]
    asked = read(folder / "node-4" / "journal.sqlite", "exchanged")
    assert {row["outcome"] for row in asked} & {"flow", "adopt"}


def started(folder: Path, name: str) -> list[dict[str, object]]:
    return read(folder / name / "journal.sqlite", "started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_nodes_in_order(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with demo(folder, "--seconds", "60") as run:
        run.until("all 3 nodes train and know each other")
        run.look()
        assert run.nodes() == ["node-1", "node-2", "node-3"]
        run.process.send_signal(number)
        run.until("interrupted")
        assert run.process.wait(PATIENCE_S) == 130
        assert run.left() == []
    for name in NAMES[:3]:
        assert (folder / name / "checkpoint.safetensors").is_file()


def test_a_demo_that_is_killed_leaves_no_node_not_even_a_frozen_one(tmp_path: Path) -> None:
    with demo(tmp_path / "run", "--seconds", "10") as run:
        run.until("node-3 is frozen")
        run.look()
        assert run.nodes() == list(NAMES)
        run.process.kill()
        run.process.wait()
        assert run.left() == []


def test_on_a_terminal_the_table_is_redrawn_and_ctrl_c_gives_it_back(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [*DEMO, "--out", str(tmp_path / "run"), "--seconds", "60"]
    environment = {**os.environ, "COLUMNS": "80", "LINES": "30", "TERM": "xterm"}
    shown: list[bytes] = []

    def read_all() -> None:
        # the end of a terminal that nobody holds open any more is an error on Linux
        with suppress(OSError):
            while data := os.read(ours, 65536):
                shown.append(data)

    reading = Thread(target=read_all)
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, process_group=0, env=environment
    ) as process:
        os.close(theirs)
        reading.start()
        run = Run(process, iter(()))
        try:
            while process.poll() is None and b"consensus distance" not in b"".join(shown):
                run.look()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
            assert run.left() == []
        finally:
            process.kill()
            for one in run.left():
                one.kill()
    reading.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert "consensus distance" in text
    assert "node-3" in text
    assert "\x1b[?25l" in text, "the cursor was never hidden"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor did not come back"


def test_a_task_that_cannot_be_trained_is_one_clear_error(tmp_path: Path) -> None:
    task = tmp_path / "mine.py"
    task.write_text(
        "import numpy as np\n"
        "def train_data(): return np.zeros((90, 3)), np.arange(90) % 3\n"
        "def test_data(): return train_data()\n"
        "def model(): raise RuntimeError('no model today')\n"
    )
    with demo(tmp_path / "run", "--task", str(task)) as run:
        run.until("no model today")
        assert run.process.wait(PATIENCE_S) == 2
        assert run.left() == []
    text = "".join(run.lines)
    assert "ended by itself (exit code 2)" in text
    assert "line 4: model(): RuntimeError: no model today" in text
    assert "Traceback" not in text
