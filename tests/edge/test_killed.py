"""SIGKILL at every line that touches a state directory: what a node finds when it is started again.

A *life* is what a node does with its directory: open it, load, record, save twice, flush. It is
lived in a child that kills itself before the k-th line of `p2pfl.edge` that it comes to, for every
k up to the life's end; what was done is told through a pipe before the next line begins. SQLite
writes far below the lines of ours: there the kill comes from outside, at any time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from tempfile import TemporaryDirectory
from typing import Any

import pytest

FILES = {
    "identity.json",
    "identity.json.tmp",
    "node.key",
    "node.key.tmp",
    "lock",
    "checkpoint.safetensors",
    "checkpoint.safetensors.tmp",
    "checkpoint.previous.safetensors",
    "journal.sqlite",
    "journal.sqlite-wal",
    "journal.sqlite-shm",
    "journal.sqlite-journal",
}
"""What a kill may leave behind."""

ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}

LIVES = """
import json, os, shutil, signal, sys, warnings
from contextlib import ExitStack
from pathlib import Path
import numpy as np
import p2pfl.edge
from p2pfl.core.events import Cycle, Started
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.edge.identity import StateDir
from p2pfl.edge.journal import SqliteJournal, events
from p2pfl.ports import Saved

EDGE = str(Path(p2pfl.edge.__file__).parent)
LAYOUT = Layout((Entry("w", (300,)),))

def life(path, tell):
    with ExitStack() as closing:
        state = closing.enter_context(StateDir.open(path, run="digits", layout=LAYOUT))
        tell("opened", state.node, state.incarnation)
        store = Checkpoints(
            path, LAYOUT, run="digits", node=state.node, incarnation=state.incarnation
        )
        saved = store.load()
        age = 0 if saved is None else saved.age
        assert saved is None or set(saved.weights.tolist()) == {age}
        tell("loaded", age)
        journal = SqliteJournal(state.journal)
        closing.callback(journal.close)
        who = (state.node, "us", "digits", LAYOUT.digest, "10.0.0.1:1", state.incarnation)
        journal.record(Started(0.0, *who, age, saved is not None))
        for _ in range(2):
            age += 1
            journal.record(Cycle(0.0, age, 1, age, age, 0.5, 0.1))
            journal.flush()
            tell("flushed", age)
            x = np.full(LAYOUT.size, age, np.float32)
            store.save(Saved(x, x, None, age, age, age))
            tell("saved", age)

def killed(path, at):
    # what a child told before it died at that line; whether it lived to the end
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        lines = 0
        def traced(frame, event, _):
            nonlocal lines
            if not frame.f_code.co_filename.startswith(EDGE):
                return None
            if event == "line":
                lines += 1
                if lines == at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return traced
        def tell(*words):
            os.write(into, json.dumps(words).encode() + b"\\n")
        sys.settrace(traced)
        life(path, tell)
        sys.settrace(None)
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as said:
        told = [json.loads(line) for line in said]
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, told
    return told, not os.WIFSIGNALED(status)

root, lives_before, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
before = root / "before"
for _ in range(lives_before):
    assert killed(before, 0)[1]
at, ended = 1, False
while not ended:
    path = root / "now"
    shutil.rmtree(path, ignore_errors=True)
    if lives_before:
        shutil.copytree(before, path)
    first, ended = killed(path, at)
    left = sorted(file.name for file in path.iterdir()) if path.exists() else []
    # killed again, elsewhere, before a life that is whole
    second, _ = killed(path, 1 + (at * 7) % 400)
    third, whole = killed(path, 0)
    assert whole
    journal = path / "journal.sqlite"
    print(json.dumps({
        "told": [first, second, third],
        "left": left,
        "cycles": [event.cycle for event in events(journal, Cycle)],
        "starts": [event.incarnation for event in events(journal, Started)],
        "damaged": sorted(file.name for file in path.glob("*damaged*")),
    }))
    at += step
"""


def script(text: str, *words: object) -> list[Any]:
    """What a script printed, line by line; its directory lies in memory where there is one.

    A killed process leaves what it wrote to the system, so no disk is needed.
    """
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(prefix="p2pfl-killed-", dir=where) as folder:
        answer = subprocess.run(
            [sys.executable, "-W", "error", "-c", text, folder, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=ENVIRONMENT,
        )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.parametrize(("lives_before", "step"), [(0, 7), (1, 17), (2, 17)])
def test_whatever_line_a_node_is_killed_at_its_directory_opens_and_nothing_told_is_lost(
    lives_before: int, step: int
) -> None:
    places = script(LIVES, lives_before, step)
    assert len(places) * step > 300
    for found in places:
        node, incarnation, saved = None, lives_before, 2 * lives_before
        flushed = list(range(1, saved + 1))
        for told in found["told"]:
            for word, *values in told:
                match word:
                    case "opened":
                        # an id or an incarnation that was told of is never given again, and with
                        # a new incarnation every number of an exchange is new
                        assert node in (None, values[0]), found
                        assert values[1] > incarnation, found
                        node, incarnation = values
                    case "loaded":
                        # the last that was saved, or the one that was being saved
                        assert values[0] in (saved, saved + 1), found
                        saved = values[0]
                    case "saved":
                        assert values[0] == saved + 1, found
                        saved = values[0]
                    case "flushed":
                        flushed += values
        left = Counter(found["cycles"])
        assert not Counter(flushed) - left, found
        assert found["starts"] == sorted(set(found["starts"])), found
        assert found["damaged"] == [], found
        assert set(found["left"]) <= FILES, found


JOURNALS = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from p2pfl.core.events import Cycle
from p2pfl.edge.journal import SqliteJournal, events

path, rounds = Path(sys.argv[1]) / "journal.sqlite", int(sys.argv[2])
rng = np.random.default_rng(int(sys.argv[3]))
done = 0
for _ in range(rounds):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        # few rows are kept, so that pages are freed and used again while it is killed
        journal = SqliteJournal(path, rows=500)
        number = done
        while True:
            for _ in range(int(rng.integers(1, 60))):
                number += 1
                journal.record(Cycle(0.0, number, 1, 1, 1, 0.5, 0.1))
            journal.flush()
            os.write(into, b"%d\\n" % number)
    os.close(into)
    with os.fdopen(out) as said:
        if rng.random() < 0.8:
            said.readline()
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        told = [done, *map(int, said.read().split())][-1]
    os.waitpid(child, 0)
    kept = [event.cycle for event in events(path, Cycle)] if path.exists() else []
    print(json.dumps([told, kept[-1] if kept else 0, kept == sorted(set(kept))]))
    done = kept[-1] if kept else 0
print(json.dumps(sorted(file.name for file in path.parent.glob("*damaged*"))))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_journal_whose_writer_is_killed_at_any_time_keeps_what_was_flushed(seed: int) -> None:
    *rounds, damaged = script(JOURNALS, 40, seed)
    for told, newest, is_in_order in rounds:
        assert newest >= told, "a flush that was told of is lost"
        assert is_in_order, "a row is there twice"
    assert rounds[-1][1] > 1000
    assert damaged == []


STARTS = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.identity import StateDir

path, rounds = Path(sys.argv[1]) / "state", int(sys.argv[2])
rng = np.random.default_rng(int(sys.argv[3]))
layout = Layout((Entry("w", (3, 2)),))
for _ in range(rounds):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        while True:
            with StateDir.open(path, run="digits", layout=layout) as state:
                os.write(into, json.dumps([state.node, state.incarnation]).encode() + b"\\n")
    os.close(into)
    with os.fdopen(out) as said:
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        for line in said:
            print(line, end="")
    os.waitpid(child, 0)
"""


def test_starts_that_are_killed_at_any_time_never_give_an_incarnation_twice() -> None:
    told = script(STARTS, 40, 1)
    assert len({node for node, _ in told}) == 1
    incarnations = [incarnation for _, incarnation in told]
    assert incarnations == sorted(set(incarnations))
    assert len(incarnations) > 40
