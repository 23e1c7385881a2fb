"""The engine `processes`: real nodes, real faults, and a trace that says what was done."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from p2pfl.edge.identity import IDENTITY, JOURNAL
from p2pfl.edge.journal import read
from p2pfl.scenario.real import play
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import Floats, Presence, Progress, Trace
from p2pfl.scenario.verdicts import figures, judged, passed

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0
UP, PAUSED, DOWN = Presence.UP, Presence.PAUSED, Presence.DOWN


def played(
    folder: Path,
    seconds: float,
    nodes: int,
    show: Callable[[Progress], None] = lambda _: None,
    **changes: Any,
) -> tuple[Trace, list[Progress]]:
    values: dict[str, Any] = {
        "name": "test",
        "nodes": nodes,
        "task": {"name": "digits-numpy", "partition": "iid"},
        "topology": "full",
        "duration": {"seconds": seconds},
        "compute": {"step_s": 0.002},
        "measure": {"samples": 1000},
    }
    shown: list[Progress] = []

    def seen(progress: Progress) -> None:
        shown.append(progress)
        show(progress)

    scenario = Scenario.model_validate(values | changes)
    trace = asyncio.run(play(scenario, folder, seen))
    assert trace.scenario == scenario
    return trace, shown


def between(trace: Trace, begin: float, end: float) -> Any:
    """The looks of a while."""
    return (trace.times > begin) & (trace.times < end)


def never_falls(values: Floats) -> bool:
    """Whether what is known of each node only grows."""
    return all((np.diff(of_node[np.isfinite(of_node)]) >= 0).all() for of_node in values.T)


def test_kills_restarts_and_pauses_are_done_and_seen(tmp_path: Path) -> None:
    trace, shown = played(
        tmp_path,
        9.0,
        4,
        node={"checkpoint_every_s": 0.5},
        churn={
            "events": [
                {"at": 1.0, "kill": ["n2", "n4"]},
                {"at": 2.0, "start": ["n2"]},
                {"at": 2.0, "start": ["n4"], "lost_state": True},
            ]
        },
        faults={"events": [{"at": 4.0, "until": 6.5, "pause": ["n3"]}]},
        expect={"mean_accuracy": ">= 0.5", "deaths": "<= 0", "stall_s": "<= 8"},
    )
    # who was there
    away, asleep, last = between(trace, 1.1, 2.0), between(trace, 4.1, 6.4), trace.presence[-1]
    assert away.sum() >= 2
    assert (trace.presence[away][:, [1, 3]] == DOWN).all()
    assert (trace.presence[asleep][:, 2] == PAUSED).all()
    assert (trace.presence[:, 0] == UP).all()
    assert (last == UP).all()
    assert np.isnan(trace.accuracy[trace.presence != UP]).all()
    # what they did
    assert never_falls(trace.cycles)
    assert never_falls(trace.sent)
    assert (trace.cycles[0] <= 2).all(), "counted from time zero"
    assert trace.cycles[-1][0] > trace.cycles[-1][2] > 0
    assert trace.steps > 0
    assert trace.outcomes["flow"] > 20
    assert trace.staleness.sum() > 20
    assert np.isfinite(trace.stalls).all()
    assert trace.stalls[2] < 2.4, "a pause that was done to it is no stall"
    assert np.isfinite(trace.distance[-1])
    assert np.isnan(trace.messages).all()
    assert sorted(trace.links) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [(mark.at, mark.until, mark.kind, mark.nodes) for mark in trace.marks] == [
        (1.0, None, "kill", (1, 3)),
        (2.0, None, "start", (1,)),
        (2.0, None, "start", (3,)),
        (4.0, 6.5, "pause", (2,)),
    ]
    assert trace.deaths == {}
    assert passed(judged(trace), trace), figures(trace)
    # what they came back with
    resumed = read(tmp_path / "n2" / JOURNAL, "started")
    assert [row["resumed"] for row in resumed] == [False, True]
    anew = read(tmp_path / "n4" / JOURNAL, "started")
    assert [row["resumed"] for row in anew] == [False]
    assert identity(tmp_path / "n4") != identity(tmp_path / "n4.lost-1")
    # what was shown
    assert [one.said for one in shown if one.said][-2:] == ["n3 frozen", "over: n3 frozen"]
    assert shown[-1].done == 1.0
    assert shown[-1].up == 4
    assert not any("proxy" in note for note in trace.notes)


def test_a_partition_holds_while_it_lasts_and_is_over_when_it_is_over(tmp_path: Path) -> None:
    seconds, begin, end = 7.5, 1.0, 5.0
    trace, _ = played(
        tmp_path,
        seconds,
        4,
        faults={"events": [{"at": begin, "until": end, "partition": [["n1-n2"]]}]},
    )
    assert (trace.presence == UP).all()
    assert any("proxy" in note for note in trace.notes)
    across, within = [], []
    island = {identity(tmp_path / name): name in ("n1", "n2") for name in trace.scenario.names}
    for node, of_first in island.items():
        name = next(n for n in trace.scenario.names if identity(tmp_path / n) == node)
        for row in read(tmp_path / name / JOURNAL, "exchanged"):
            if row["role"] == "answered" and row["outcome"] == "flow":
                (within if island[row["peer"]] == of_first else across).append(row["wall"])
    gap = max((later - earlier, earlier) for earlier, later in pairwise(sorted(across)))
    assert gap[0] > end - begin - 0.5, "nothing crossed while they were apart"
    assert gap[0] < end - begin + 2.0, "and they met again soon"
    inside = [at for at in within if gap[1] < at < gap[1] + gap[0]]
    assert len(inside) > 20, "on the islands life went on"
    assert trace.outcomes["timeout"] >= 4
    apart, before = between(trace, end - 1.5, end), between(trace, 0.0, begin)
    assert np.nanmean(trace.distance[apart]) > 0
    assert np.isfinite(trace.distance[before]).any()
    assert [(mark.kind, mark.text) for mark in trace.marks] == [
        ("partition", "partition: n1, n2 | n3, n4")
    ]


RUN = """
import asyncio, sys
from pathlib import Path
from p2pfl.scenario.real import play
from p2pfl.scenario.spec import Scenario
given = {"nodes": 3, "duration": {"cycles": 100_000}, "task": "digits-numpy",
         "network": {"latency_s": 0.01}}
scenario = Scenario.model_validate(given)
try:
    asyncio.run(play(scenario, Path(sys.argv[1]), lambda now: print(now.cycles, flush=True)))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", RUN, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, process_group=0, **pipes) as run:  # type: ignore[call-overload]
        try:
            for line in run.stdout:
                if float(line) >= 2:
                    break
            family = psutil.Process(run.pid).children(recursive=True)
            assert len(family) >= 4
            run.send_signal(signal.SIGINT)
            said, complained = run.communicate(timeout=PATIENCE_S)
        finally:
            run.kill()
    assert said.splitlines()[-1] == "interrupted"
    assert complained == ""
    _, alive = psutil.wait_procs(family, timeout=5.0)
    assert alive == []


def test_whoever_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    task, worn = tmp_path / "frail.py", tmp_path / "worn"
    task.write_text(
        "from pathlib import Path\n"
        "from p2pfl.learning.datasets import digits\n"
        "from p2pfl.learning.numpy_learner import MLP\n"
        "frail = '--name\\0n2\\0' in Path('/proc/self/cmdline').read_text()\n"
        "def model(): return MLP(64, 8, 10)\n"
        "def train_data(): return digits().train\n"
        "def test_data(): return digits().test\n"
        "def metrics(outputs, targets):\n"
        f"    if frail and Path({str(worn)!r}).exists():\n"
        "        raise RuntimeError('worn out')\n"
        "    return {}\n"
    )

    def show(progress: Progress) -> None:
        if progress.seconds > 1.0:
            worn.touch()

    trace, _ = played(tmp_path / "run", 4.0, 2, show, task={"name": str(task), "partition": "iid"})
    assert list(trace.deaths) == ["n2"]
    assert "worn out" in trace.deaths["n2"]
    assert trace.presence[-1].tolist() == [UP, DOWN]
    assert math.isnan(trace.accuracy[-1, 1])
    assert not passed(judged(trace), trace)


def identity(state_dir: Path) -> str:
    node: str = json.loads((state_dir / IDENTITY).read_text())["node"]
    return node
