"""Real processes, each of them small: what is done to them, and that none of them stays."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Sighting
from p2pfl.scenario.guard import Guard
from p2pfl.scenario.processes import Condition, NodeProcess, Swarm
from tests.scenario.made import PATIENCE_S, until

SLEEP = "import time; time.sleep(600)"
POLITE = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "print('ready', flush=True); time.sleep(600)"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(600)"
)


@pytest.fixture
def guard() -> Iterator[Guard]:
    with closing(Guard()) as guard:
        yield guard


@pytest.fixture
def made(guard: Guard, tmp_path: Path) -> Iterator[dict[str, NodeProcess]]:
    """Makes a node of a line of Python on first use; all are gone afterwards."""

    class Made(dict[str, NodeProcess]):
        def __missing__(self, code: str) -> NodeProcess:
            self[code] = NodeProcess(f"n{len(self)}", of(code), tmp_path, guard)
            return self[code]

    made = Made()
    yield made
    for node in made.values():
        node.destroy()


def of(code: str) -> list[str]:
    """A program of one line; arguments that follow are not looked at."""
    return [sys.executable, "-I", "-S", "-c", code]


def process_of(node: NodeProcess) -> psutil.Process:
    assert node.pid is not None
    return psutil.Process(node.pid)


async def until_ready(node: NodeProcess) -> None:
    await until(lambda: "ready" in node.last_words())


async def test_a_killed_node_is_started_again_under_its_name(made: dict[str, NodeProcess]) -> None:
    node = made[SLEEP]
    assert node.condition is Condition.PLANNED
    node.start()
    first = process_of(node).pid
    node.kill()
    await node.ended()
    assert (node.condition, node.exit_code) == (Condition.KILLED, -signal.SIGKILL)
    assert not node.has_died()
    node.start()
    assert (node.condition, node.starts) == (Condition.RUNNING, 2)
    assert process_of(node).pid != first


async def test_a_frozen_node_is_stopped_and_goes_on_when_thawed(
    made: dict[str, NodeProcess],
) -> None:
    node = made[SLEEP]
    node.start()
    node.freeze()
    await until(lambda: process_of(node).status() == psutil.STATUS_STOPPED)
    assert node.condition is Condition.FROZEN
    node.thaw()
    await until(lambda: process_of(node).status() != psutil.STATUS_STOPPED)
    assert node.condition is Condition.RUNNING


async def test_a_frozen_node_can_be_ended_in_order(made: dict[str, NodeProcess]) -> None:
    node = made[POLITE]
    node.start()
    await until_ready(node)
    node.freeze()
    node.terminate()
    async with asyncio.timeout(PATIENCE_S):
        await node.ended()
    assert (node.condition, node.exit_code) == (Condition.STOPPED, 0)


async def test_a_node_that_ends_by_itself_has_died_once_and_leaves_its_words(
    made: dict[str, NodeProcess],
) -> None:
    node = made["import sys; print('one'); print(); sys.exit('two')"]
    node.start()
    await node.ended()
    assert node.has_died()
    assert not node.has_died()
    assert (node.condition, node.exit_code) == (Condition.DIED, 1)
    assert sorted(node.last_words().split()) == ["one", "two"]


def test_what_makes_no_sense_is_refused(made: dict[str, NodeProcess]) -> None:
    node = made[SLEEP]
    for act in (node.kill, node.freeze, node.thaw):
        with pytest.raises(ConfigError, match="is planned"):
            act()
    node.start()
    with pytest.raises(ConfigError, match="is running, it cannot be started"):
        node.start()
    with pytest.raises(ConfigError, match="is running: SIGCONT makes no sense"):
        node.thaw()


def test_a_program_that_is_not_there_is_one_sentence(guard: Guard, tmp_path: Path) -> None:
    node = NodeProcess("n", [str(tmp_path / "none")], tmp_path, guard)
    with pytest.raises(NetworkError, match="n cannot be started: No such file"):
        node.start()


def test_closing_the_guard_ends_what_is_left_frozen_or_deaf(tmp_path: Path) -> None:
    guard = Guard()
    nodes = [
        NodeProcess(f"n{i}", of(code), tmp_path, guard)
        for i, code in enumerate([SLEEP, STUBBORN, SLEEP])
    ]
    for node in nodes:
        node.start()
    nodes[2].freeze()
    processes = [process_of(node) for node in nodes]
    guard.close()
    guard.close()
    gone, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert (len(gone), alive) == (3, [])
    for node in nodes:
        node.destroy()


def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from p2pfl.scenario.guard import Guard
from p2pfl.scenario.processes import NodeProcess
guard = Guard()
for name in ("a", "b"):
    node = NodeProcess(name, [sys.executable, "-c", {STUBBORN!r}], Path(sys.argv[1]), guard)
    node.start()
node.freeze()
print("ready", flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    assert len(children) == 3
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []


class Told:
    """A discovery that tells what it was given."""

    def __init__(self, *sightings: Sighting) -> None:
        self._sightings = sightings

    async def events(self) -> AsyncIterator[Sighting]:
        for sighting in self._sightings:
            yield sighting
        await asyncio.Event().wait()


def seen(name: str, port: int, run: str = "r", *, gone: bool = False) -> Sighting:
    return Sighting((f"127.0.0.1:{port}", "[::1]:1"), "a" * 32, run, "l", "1", name, gone)


async def test_addresses_are_those_of_our_run_as_they_were_seen_last(tmp_path: Path) -> None:
    told = Told(
        seen("a", 1),
        seen("a", 7, run="other"),
        seen("b", 2),
        seen("c", 3),
        seen("a", 4),
        seen("b", 2, gone=True),
        seen("last", 9),
    )
    swarm = Swarm(tmp_path, "r", "digits-numpy", discovery=lambda: told)
    async with swarm.running():
        await until(lambda: "last" in swarm.addresses)
    assert swarm.addresses == {"a": "127.0.0.1:4", "c": "127.0.0.1:3", "last": "127.0.0.1:9"}


async def test_a_name_is_taken_once_and_only_while_the_swarm_runs(tmp_path: Path) -> None:
    swarm = Swarm(tmp_path, "r", "digits-numpy", discovery=Told)
    with pytest.raises(ConfigError, match="nothing runs"):
        swarm.add("a")
    async with swarm.running():
        swarm.add("a")
        with pytest.raises(ConfigError, match="taken"):
            swarm.add("a")


async def test_whoever_does_not_end_in_time_is_killed_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.scenario.processes.STOPPING_S", 0.5)
    swarm = Swarm(tmp_path, "r", "digits-numpy", program=of(STUBBORN), discovery=Told)
    async with swarm.running():
        for name in ("deaf", "unborn"):
            swarm.add(name)
        swarm.nodes["deaf"].start()
        await until_ready(swarm.nodes["deaf"])
        late = await swarm.stop()
        assert [node.name for node in late] == ["deaf"]
        assert swarm.nodes["deaf"].exit_code == -signal.SIGKILL


async def test_an_exception_inside_leaves_no_process(tmp_path: Path) -> None:
    swarm = Swarm(tmp_path, "r", "digits-numpy", program=of(SLEEP), discovery=Told)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with swarm.running():
            node = swarm.add("a")
            node.start()
            process = process_of(node)
            raise ConfigError("oh no")
    assert raised.group_contains(ConfigError, match="oh no")
    assert not process.is_running()
