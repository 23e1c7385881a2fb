"""TensorBoard's files, read back with TensorBoard's own reader."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2pfl.core.events import Cycle, Event, Exchanged, Fault, Measured
from p2pfl.edge.scalars import WAITING, Scalars, check, folder_of
from p2pfl.errors import ConfigError
from tests.node.swarm import Memory

pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("tensorboard", reason="tensorboard is missing")

NODE = "a" * 32
SWARM = {
    "count": 3.0,
    "mean_accuracy": 0.9,
    "worst_tenth_accuracy": 0.8,
    "mean_loss": None,
    "consensus_distance": 1.5,
}
HAPPENED: list[Event] = [
    Cycle(1.0, 7, 5, 120, 60, 0.5, 0.1),
    Measured(1.1, 7, 120, 0.4, 0.85, 100),
    Exchanged(1.2, "b" * 32, "asked", "flow", 0.5, 1.0, 2.0),
    Exchanged(1.3, "b" * 32, "answered", "flow", 0.5, 3.0, 4.0),
    Exchanged(1.4, "b" * 32, "asked", "busy"),
    Fault(1.5, "checkpoint", "disk full"),
    Cycle(2.0, 8, 5, 130, 65, 0.3, 0.1),
]


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar in a folder: (step, value) by name."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                scalar = value.tensor.float_val[0]
                found.setdefault(value.tag, []).append((event.step, round(scalar, 4)))
    return found


def test_scalars_are_in_the_file_once_flushed(tmp_path: Path) -> None:
    now = [100.0]
    scalars = Scalars(Memory(), tmp_path / "run", wall=lambda: now[0])
    for event in HAPPENED:
        scalars.record(event)
    now[0] += 2.0
    scalars.look({"swarm": SWARM})
    scalars.flush()
    assert read(tmp_path / "run") == {
        "train/loss": [(7, 0.5), (8, 0.3)],
        "train/age_steps": [(7, 120), (8, 130)],
        "test/loss": [(7, 0.4)],
        "test/accuracy": [(7, 0.85)],
        "exchanges/per_second": [(8, 1.5)],
        "exchanges/staleness_cycles": [(8, 2.0)],
        "exchanges/distance": [(8, 3.0)],
        "swarm/count": [(8, 3.0)],
        "swarm/mean_accuracy": [(8, 0.9)],
        "swarm/worst_tenth_accuracy": [(8, 0.8)],
        "swarm/consensus_distance": [(8, 1.5)],
    }
    scalars.close()


def test_what_is_recorded_goes_on_to_the_journal_and_the_rest_is_written_at_the_end(
    tmp_path: Path,
) -> None:
    memory = Memory()
    scalars = Scalars(memory, tmp_path)
    for event in HAPPENED:
        scalars.record(event)
    scalars.close()
    scalars.close()
    scalars.record(HAPPENED[0])
    scalars.flush()
    assert memory.events == [*HAPPENED, HAPPENED[0]]
    assert read(tmp_path)["train/loss"] == [(7, 0.5), (8, 0.3)]


async def test_a_node_that_is_stopped_has_written_what_it_knew(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def status() -> Mapping[str, Any]:
        asked.set()
        return {"swarm": None}

    scalars = Scalars(Memory(), tmp_path)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(scalars.run(status))
        scalars.record(HAPPENED[0])
        await asyncio.wait_for(asked.wait(), 20)
        writing.cancel()
    scalars.close()
    found = read(tmp_path)
    assert found["train/loss"] == [(7, 0.5)]
    assert found["exchanges/per_second"] == [(7, 0.0)]


def test_what_is_no_number_is_left_out_and_what_waits_is_bounded(tmp_path: Path) -> None:
    scalars = Scalars(Memory(), tmp_path)
    scalars.record(Cycle(1.0, 1, 5, 5, 5, float("nan"), 0.1))
    scalars.record(Measured(1.0, 1, 5, float("inf"), None, 1))
    for cycle in range(WAITING):
        scalars.record(Cycle(1.0, cycle, 5, 5, 5, 0.5, 0.1))
    scalars.close()
    found = read(tmp_path)
    assert set(found) == {"train/loss", "train/age_steps"}
    assert sum(len(points) for points in found.values()) == WAITING


def test_a_disk_that_is_full_costs_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    script = (
        "import logging, resource, signal, sys, tempfile\n"
        "from pathlib import Path\n"
        "from p2pfl.core.events import Cycle\n"
        "from p2pfl.edge.scalars import Scalars\n"
        "from tests.node.swarm import Memory\n"
        "logging.basicConfig(format='%(levelname)s %(message)s')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "scalars = Scalars(Memory(), Path(tempfile.mkdtemp()))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "for count in range(300):\n"
        "    scalars.record(Cycle(1.0, count, 5, 5, 5, 0.5, 0.1))\n"
        "    scalars.flush()\n"
        "scalars.close()\n"
        "print('lives')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "lives\n", done.stderr
    assert done.stderr.count("WARNING scalars in ") == 1


def test_a_folder_that_cannot_be_made_is_an_error_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be written: .*; give another directory"):
        Scalars(Memory(), tmp_path / "file" / "run")


def test_nodes_that_share_a_directory_have_folders_of_their_own() -> None:
    one, other = folder_of(Path("tb"), "../my laptop", NODE), folder_of(Path("tb"), "x", NODE)
    assert one == Path("tb/..-my-laptop-aaaaaaaa")
    assert other == Path("tb/x-aaaaaaaa")
    assert one.parent == Path("tb")


def test_without_tensorboard_the_error_names_what_to_install() -> None:
    script = (
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "gone = lambda name, *a: None if name == 'tensorboard' else find(name, *a)\n"
        "PathFinder.find_spec = gone\n"
        "from p2pfl.cli import main\n"
        "main(['node', 'digits-numpy', '--tensorboard', 'tb', '--no-mdns'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "p2pfl: tensorboard needs tensorboard, which this Python has not; pip install tensorboard, "
        "or start the node without --tensorboard\n"
    )
    check()
