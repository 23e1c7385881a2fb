"""Real nodes as real processes on this device: what a scenario's faults are done to.

    PLANNED ── start ──► RUNNING ── freeze ──► FROZEN ── thaw ──► RUNNING
                            │ kill                │ kill
                            ▼                     ▼
                          KILLED ── start ──► RUNNING        continues from its checkpoint
                            ·
                          STOPPED  we asked it to end        DIED  it ended by itself

Rule of the file: a node is started exactly as a user would start it (`python -m p2pfl node ...`)
and is found as another node would find it, by mDNS; nobody is told a port. The nodes serve on
loopback only. However we end, they end first (`guard.py`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path

from p2pfl.edge.identity import JOURNAL
from p2pfl.edge.mdns import Mdns
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Discovery
from p2pfl.scenario.guard import Guard

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
STOPPING_S = 3.0
"""A node promises to be gone so long after SIGTERM; what is not is killed."""

_LOOK_S = 0.02


class Condition(StrEnum):
    """What we know of a process, as its parent."""

    PLANNED = "planned"
    RUNNING = "running"
    FROZEN = "frozen"
    KILLED = "killed"
    STOPPED = "stopped"
    DIED = "died"

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self in (Condition.RUNNING, Condition.FROZEN)


class NodeProcess:
    """One node of a swarm, over all its starts.

    Attributes:
        name: its label, the same at every start.
        state_dir: where its identity, checkpoint and journal live.
        log: what it said, of all starts.
        condition: see the drawing above.
        starts: how often it was started.
    """

    def __init__(self, name: str, command: Iterable[str], folder: Path, guard: Guard) -> None:
        """Nothing is started yet.

        Args:
            name: a label, unique in the swarm.
            command: program and arguments.
            folder: of the run; exists.
            guard: starts processes that cannot outlive us.
        """
        self.name = name
        self.state_dir = folder / name
        self.log = folder / f"{name}.log"
        self.condition = Condition.PLANNED
        self.starts = 0
        self._command = tuple(command)
        self._guard = guard
        self._asides: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def journal(self) -> Path:
        """Its journal, once it was started."""
        return self.state_dir / JOURNAL

    @property
    def pid(self) -> int | None:
        """Of its latest life; None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Of its latest life, negative for a signal; None while it lives."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it, or start it again: it then continues from its checkpoint.

        Raises:
            ConfigError: it is running already.
            NetworkError: this device cannot start a process.
        """
        if self.condition.is_alive:
            raise ConfigError(f"{self.name} is {self.condition}, it cannot be started")
        try:
            with self.log.open("ab") as out:
                self._process = self._guard.start(self._command, out=out)
        except OSError as error:
            raise NetworkError(f"{self.name} cannot be started: {error.strerror}") from None
        self.condition = Condition.RUNNING
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL: it saves nothing and says nothing.

        Raises:
            ConfigError: it does not live.
        """
        self._send(signal.SIGKILL, Condition.RUNNING, Condition.FROZEN)
        self.condition = Condition.KILLED

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections, and does nothing.

        Raises:
            ConfigError: it is not running.
        """
        self._send(signal.SIGSTOP, Condition.RUNNING)
        self.condition = Condition.FROZEN

    def thaw(self) -> None:
        """SIGCONT: it goes on as if nothing had been.

        Raises:
            ConfigError: it is not frozen.
        """
        self._send(signal.SIGCONT, Condition.FROZEN)
        self.condition = Condition.RUNNING

    def terminate(self) -> None:
        """SIGTERM, frozen or not: it finishes, saves and says goodbye; a dead one is left alone."""
        if self._process is not None and self.condition.is_alive:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            self.condition = Condition.STOPPED

    def forget(self) -> None:
        """Its disk is empty: what was on it is moved aside, for us to look at.

        Raises:
            ConfigError: it lives, and its disk is in use.
        """
        if self.condition.is_alive:
            raise ConfigError(f"{self.name} is {self.condition}, its disk cannot be emptied")
        if self.state_dir.exists():
            aside = self.state_dir.with_name(f"{self.name}.lost-{len(self._asides) + 1}")
            self.state_dir.rename(aside)
            self._asides.append(aside)

    @property
    def journals(self) -> list[Path]:
        """All its journals that exist: those on disks that were lost, and the present one."""
        paths = (folder / JOURNAL for folder in (*self._asides, self.state_dir))
        return [path for path in paths if path.is_file()]

    def has_died(self) -> bool:
        """Whether it ended though nobody asked it to; true once for each such end."""
        if self.condition.is_alive and self.exit_code is not None:
            self.condition = Condition.DIED
            return True
        return False

    async def ended(self) -> None:
        """Wait until its process is gone and reaped."""
        while self._process is not None and self._process.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def destroy(self) -> None:
        """SIGKILL whatever its condition, and reap it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def last_words(self, lines: int = 6) -> str:
        """The end of its log."""
        with suppress(OSError), self.log.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque((line for line in file if line.strip()), lines)).rstrip()
        return ""

    def _send(self, number: signal.Signals, *allowed: Condition) -> None:
        if self._process is None or self.condition not in allowed:
            raise ConfigError(f"{self.name} is {self.condition}: {number.name} makes no sense")
        self._process.send_signal(number)


class Swarm:
    """The nodes of one run on this device, by name and in the order in which they were added.

    Args:
        folder: of the run; exists. State directories and logs are made in it.
        run: its name; no other run on this device has it.
        task: what is learned, as `p2pfl node` takes it.
        options: further options for every node.
        program: runs p2pfl; the node's arguments follow.
        discovery: makes what finds the nodes; mDNS on loopback.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        task: str,
        options: Iterable[str] = (),
        program: Iterable[str] = (sys.executable, "-m", "p2pfl"),
        discovery: Callable[[], Discovery] = lambda: Mdns(None, interfaces=(LOOPBACK,)),
    ) -> None:
        self.folder = folder
        self.run = run
        self.task = task
        self.nodes: dict[str, NodeProcess] = {}
        self.addresses: dict[str, str] = {}
        self._options = tuple(options)
        self._program = tuple(program)
        self._discovery = discovery
        self._guard: Guard | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for the nodes while it is open; afterwards none of them is left.

        Leaving it without `stop` kills those that still live, after their time to end in order.
        """
        self._guard = Guard()
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(), name="discovery")
                try:
                    yield
                finally:
                    listening.cancel()
        finally:
            try:
                await self.stop()
            finally:
                for node in self.nodes.values():
                    node.destroy()
                self._guard.close()
                for helper in self._helpers:
                    helper.wait()

    def add(self, name: str, *options: str) -> NodeProcess:
        """Plan a node; `options` are those of `p2pfl node`.

        Raises:
            ConfigError: there is one of that name, or the swarm is not running.
        """
        if name in self.nodes or self._guard is None:
            raise ConfigError(f"'{name}' cannot be added: the name is taken, or nothing runs")
        where = ("--run", self.run, "--bind", LOOPBACK, "--interface", LOOPBACK)
        who = ("--name", name, "--state-dir", str(self.folder / name))
        what = ("-v", "node", self.task)
        command = (*self._program, *what, *where, *who, *self._options, *options)
        self.nodes[name] = NodeProcess(name, command, self.folder, self._guard)
        return self.nodes[name]

    def help_with(self, module: str, *arguments: str, out: Path) -> None:
        """Run one of our modules beside the nodes, for as long as they run.

        Args:
            module: as in `python -m MODULE`.
            arguments: its arguments.
            out: takes what it says; complaints go beside it, to `.log`.
        """
        if self._guard is None:
            raise ConfigError(f"{module} cannot be started: nothing runs")
        with out.open("wb") as said, out.with_suffix(".log").open("wb") as errors:
            command = (sys.executable, "-m", module, *arguments)
            self._helpers.append(self._guard.start(command, out=said, errors=errors))

    async def stop(self) -> list[NodeProcess]:
        """Ask every node to end, and kill what has not after `STOPPING_S`; gives those."""
        for node in self.nodes.values():
            node.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOPPING_S):
                for node in self.nodes.values():
                    await node.ended()
        late = [node for node in self.nodes.values() if node.starts and node.exit_code is None]
        for node in late:
            log.info("%s did not end within %g s and is killed", node.name, STOPPING_S)
            node.destroy()
        return late

    async def _listen(self) -> None:
        """Keep `addresses` as mDNS tells; the address of a killed node stays until it has a new."""
        async for seen in self._discovery().events():
            if seen.run != self.run or seen.name is None or not seen.addresses:
                continue
            if seen.gone:
                self.addresses.pop(seen.name, None)
            else:
                self.addresses[seen.name] = seen.addresses[0]


def obituary(node: NodeProcess) -> str:
    """How a node ended by itself, in its own words."""
    words = node.last_words() or "it said nothing"
    code = node.exit_code
    how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
    return f"{node.name} ended by itself ({how}); the end of {node.log}:\n{words}"


def sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What really happened; task groups wrap it."""
    inner = group.exceptions[0]
    return sole(inner) if isinstance(inner, BaseExceptionGroup) else inner
