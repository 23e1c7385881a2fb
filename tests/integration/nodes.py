"""Real `p2pfl node` processes for tests: start them, ask them, signal them, and never leave one.

    async def test_...(nodes: Nodes) -> None:             # a fixture of conftest.py
        anna, boris = nodes.start("anna", "--shard", "1/2"), nodes.start("boris", "--shard", "2/2")
        await nodes.ready()
        await anna.until(lambda now: boris.id in alive(now))
        boris.send(signal.SIGSTOP)

On a host of a `Lan` (`nodes.start("anna", lan=lan, host=0)`) a node uses that host's network, and
is asked from inside it, so that one whose cable is pulled still answers us.

Rules of the file: what a test waits for is a condition with a bound, never a period; and however a
test ends, its processes end first. None of them may ever print a traceback.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.request import urlopen

from p2pfl.core.events import Event
from p2pfl.edge.identity import JOURNAL
from p2pfl.edge.journal import events
from p2pfl.scenario.guard import Guard
from tests.integration.netns import Lan

PATIENCE_S = 90.0
"""How long anything may take on a busy machine; what is awaited usually comes within seconds."""
STOP_S = 3.0
"""A node promises to be gone so long after SIGINT or SIGTERM."""
TASK = "digits-numpy"
PROGRAM = (sys.executable, "-W", "error", "-m", "p2pfl")

_LOOK_S = 0.1
_ANSWER_S = 5.0
_STATUS = re.compile(r"^status: http://(\S+)/v1/status", re.MULTILINE)
_UNSEEMLY = re.compile(r"Traceback|Exception ignored|Warning: ")
_CLONE_NEWNET = 0x40000000

Status = Mapping[str, Any]
E = TypeVar("E", bound=Event)


class NodeProcess:
    """One node, over all its starts.

    Attributes:
        name: its label.
        state_dir: where its identity, checkpoint and journal live.
        address: where it serves, `host:port`; known once `ready` returned.
        id: its node id; known once `ready` returned.
        last: the status it gave last.
    """

    def __init__(self, name: str, command: list[str], folder: Path, guard: Guard) -> None:
        self.name = name
        self.state_dir = folder / name
        self.address = self.id = ""
        self.last: Status = {}
        self._command = command
        self._out, self._errors = folder / f"{name}.out", folder / f"{name}.err"
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None
        self._window: ThreadPoolExecutor | None = None
        self._said_before = 0

    # --- its process -----------------------------------------------------------------------------

    def start(self, *options: str, out: IO[bytes] | None = None) -> None:
        """Start it, or start it again, with further options: it then continues.

        With `out`, what it says goes there, and `address` is for the caller to find out.
        """
        self._said_before, self.address = len(self.said), ""
        with self._out.open("ab") as said, self._errors.open("ab") as errors:
            command = [*self._command, *options]
            self._process = self._guard.start(command, out=out or said, errors=errors)
        self._shut_window()
        # its one thread lives in the network that the process lives in
        self._window = ThreadPoolExecutor(1, initializer=_enter, initargs=(self._process.pid,))

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running.send_signal(number)

    async def ended(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code, once it ended."""
        until = time.monotonic() + patience_s
        while (code := self._running.poll()) is None:
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} runs after {patience_s} s\n{self.report()}")
            await asyncio.sleep(0.02)
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and see that it does so in time; its exit code."""
        self.send(number)
        return await self.ended(STOP_S)

    async def kill(self) -> None:
        """SIGKILL: it saves nothing and says nothing."""
        self.send(signal.SIGKILL)
        await self.ended()

    def destroy(self) -> None:
        """End it whatever its condition."""
        self._shut_window()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        """Of its latest start."""
        return self._running.pid

    @property
    def memory_bytes(self) -> int:
        """What it holds in memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        kilobytes = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        assert kilobytes is not None
        return int(kilobytes[1]) * 1024

    # --- what it says ----------------------------------------------------------------------------

    async def ready(self, patience_s: float = PATIENCE_S) -> Status:
        """Its first status, once this start has said where it serves and has begun to answer."""
        until = time.monotonic() + patience_s
        while (told := _STATUS.search(self.said, self._said_before)) is None:
            if self._running.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.name} does not come up\n{self.report()}")
            await asyncio.sleep(_LOOK_S / 2)
        self.address = told[1].replace("localhost", "127.0.0.1")
        now = await self.until(bool, until - time.monotonic())
        self.id = now["node"]
        return now

    async def status(self) -> Status:
        """What it tells of itself now.

        Raises:
            OSError: it does not answer.
        """
        assert self._window is not None
        loop = asyncio.get_running_loop()
        self.last = await loop.run_in_executor(self._window, _asked, self.address)
        return self.last

    async def until(
        self, claim: Callable[[Status], object], patience_s: float = PATIENCE_S
    ) -> Status:
        """The first status of which `claim` is true."""
        until = time.monotonic() + patience_s
        if not self.address:
            await self.ready(patience_s)
        while True:
            with suppress(OSError):
                now = await self.status()
                if claim(now):
                    return now
            if self._running.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.name}: it never came true\n{self.report()}")
            await asyncio.sleep(_LOOK_S)

    def events(self, kind: type[E]) -> list[E]:
        """What its journal holds of one kind, oldest first; all its starts."""
        return events(self.state_dir / JOURNAL, kind)

    @property
    def said(self) -> str:
        """Its standard output."""
        return self._out.read_text() if self._out.exists() else ""

    @property
    def complained(self) -> str:
        """Its standard error."""
        return self._errors.read_text() if self._errors.exists() else ""

    def report(self) -> str:
        """What is known of it, for a test that fails."""
        code = None if self._process is None else self._process.poll()
        return "\n".join(
            (
                f"--- {self.name}, exit code {code}: {' '.join(self._command)}",
                f"--- last status: {json.dumps(self.last, indent=1)}",
                f"--- said: {self.said[-2000:]}",
                f"--- complained: {self.complained[-4000:]}",
            )
        )

    def _shut_window(self) -> None:
        if self._window is not None:
            self._window.shutdown(wait=False, cancel_futures=True)


class Nodes:
    """The nodes of one test, of one run unless told otherwise.

    Attributes:
        run: its name, which nobody else on this device uses.
    """

    def __init__(self, folder: Path) -> None:
        self.run = f"test-{os.getpid()}-{secrets.token_hex(3)}"
        self._folder = folder
        self._guard = Guard()
        self._nodes: list[NodeProcess] = []

    def start(
        self,
        name: str,
        *options: str,
        task: str = TASK,
        run: str | None = None,
        lan: Lan | None = None,
        host: int = 0,
    ) -> NodeProcess:
        """Start a node on loopback, or on a host of the LAN; `options` are its own."""
        node = self.planned(name, *options, task=task, run=run, lan=lan, host=host)
        node.start()
        return node

    def planned(
        self,
        name: str,
        *options: str,
        task: str = TASK,
        run: str | None = None,
        lan: Lan | None = None,
        host: int = 0,
    ) -> NodeProcess:
        """The same, not started."""
        where = () if lan is not None else ("--bind", "127.0.0.1", "--interface", "lo")
        who = ("--run", run or self.run, "--name", name, "--state-dir", str(self._folder / name))
        command = [*PROGRAM, "-v", "node", task, *who, *where, *options]
        if lan is not None:
            command = lan.command(host, command)
        node = NodeProcess(name, command, self._folder, self._guard)
        self._nodes.append(node)
        return node

    async def ready(self) -> None:
        """Wait until all have come up."""
        for node in self._nodes:
            await node.ready()

    def close(self) -> None:
        """End them all; none of them may ever have printed a traceback."""
        for node in self._nodes:
            node.destroy()
        self._guard.close()
        for node in self._nodes:
            assert not _UNSEEMLY.search(node.complained), node.report()


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    errors: str


async def p2pfl(*arguments: str) -> Said:
    """Run a command that ends by itself."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*PROGRAM, *arguments, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), errors.decode())


# --- claims about a status -----------------------------------------------------------------------


def alive(now: Status) -> set[str]:
    """Ids of the members it believes alive, itself not among them."""
    return {m["node"] for m in now["members"] if m["status"] == "alive"}


def belief(now: Status, node: str) -> str:
    """What it believes of one member; "unknown" of a stranger."""
    return next((m["status"] for m in now["members"] if m["node"] == node), "unknown")


def accuracy(now: Status) -> float:
    """Its test accuracy, 0 before the first evaluation."""
    return now["accuracy"] or 0.0


def mixed(now: Status) -> int:
    """Exchanges that took effect here, asked and answered."""
    return sum(role.get("flow", 0) for role in now["exchanges"].values())


def refusals(now: Status, reason: str) -> int:
    """How often it held `reason` (a part of it) against anybody."""
    return sum(
        count
        for reasons in now["refusals"].values()
        for text, count in reasons.items()
        if reason in text
    )


def mean_accuracy(nodes: Collection[NodeProcess]) -> float:
    """Over what the nodes said last."""
    return sum(accuracy(node.last) for node in nodes) / len(nodes)


async def until_all(
    nodes: Collection[NodeProcess],
    claim: Callable[[Status], object],
    patience_s: float = PATIENCE_S,
) -> None:
    """Wait until `claim` was true of each of them."""
    async with asyncio.TaskGroup() as tasks:
        for node in nodes:
            tasks.create_task(node.until(claim, patience_s))


async def until_together(
    nodes: Collection[NodeProcess],
    claim: Callable[[Sequence[Status]], object],
    patience_s: float = PATIENCE_S,
) -> None:
    """Wait until `claim` is true of what all of them say at about the same time."""
    until = time.monotonic() + patience_s
    while True:
        with suppress(OSError):
            if claim([await node.status() for node in nodes]):
                return
        if time.monotonic() > until:
            raise AssertionError("\n".join(node.report() for node in nodes))
        await asyncio.sleep(_LOOK_S)


async def until_mean(
    nodes: Collection[NodeProcess], least: float, patience_s: float = PATIENCE_S
) -> None:
    """Wait until the mean accuracy of the nodes is at least that."""
    await until_together(
        nodes, lambda found: sum(map(accuracy, found)) / len(found) >= least, patience_s
    )


def _asked(address: str) -> Status:
    with urlopen(f"http://{address}/v1/status", timeout=_ANSWER_S) as answer:
        found: Status = json.load(answer)
    return found


def _enter(pid: int) -> None:
    """Make this thread use the network of that process: it may be on another host."""
    theirs = Path(f"/proc/{pid}/ns/net")
    if theirs.readlink() == Path("/proc/thread-self/ns/net").readlink():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with theirs.open("rb") as network:
        if libc.setns(network.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the network of the node")
