"""Many runs at a time, in processes of this machine or on a Ray cluster, and what stays of them.

    DIR/sweep.json               the question
    DIR/runs/ID/summary.json     of every run that is done; appears whole or not at all
    DIR/runs/ID/error.log        of every run that failed; it is tried again next time

Here, a worker is a process that runs one scenario after the other, so that what it had to import
is imported once. It computes with one thread. We tell it over a Unix socket what to run, a line of
JSON, and it answers with a line. A run that raises or crashes takes its worker with it and nothing
else: the socket ends, the log of the worker says why, and another worker takes its place. No worker
outlives us, in whatever way we end (`guard.py`).

On Ray a run is a task. Its machines may share no disk with us, so a task gives its summary back.

Rule of the file: only the process that was asked for the sweep writes into its folder. What is to
be run is named, as in `module:function`, and never sent.

Run as a script it is a worker.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import p2pfl
from p2pfl.configuring import from_mapping
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.scenario.guard import Guard
from p2pfl.scenario.load import dump
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.sweep import Run, Summary, Sweep, differences, finite

Runner: TypeAlias = Callable[[Scenario], Mapping[str, Any]]
"""Runs a scenario and gives its summary; a function of a module, found there by its name."""

QUESTION, SUMMARY, ERROR = "sweep.json", "summary.json", "error.log"

_ONE_THREAD = (
    *("OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1"),
    "VECLIB_MAXIMUM_THREADS=1",
)
_ANSWER_BYTES = 1 << 24
"""Of the longest summary; it has a few thousand."""
_LOOK_S = 0.02
_CONNECTING_S = 5.0
_RAY_LOOK_S = 0.5
_LOG_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        summary: what it gave; None if it failed.
        reason: why it failed, in a line.
        log: why it failed, all of it.
        seconds: how long it took.
    """

    run: Run
    summary: Summary | None
    reason: str = ""
    log: str = ""
    seconds: float = 0.0


def simulated(scenario: Scenario) -> Mapping[str, Any]:
    """Run a scenario in virtual time."""
    from p2pfl.scenario.tables import summary
    from p2pfl.scenario.verdicts import judged
    from p2pfl.scenario.virtual import simulate

    trace = simulate(scenario)
    return summary(trace, judged(trace), "")


# --- what stays ---------------------------------------------------------------------------------


class Folder:
    """The folder of a sweep, held by us alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def opened(cls, path: Path, sweep: Sweep) -> Iterator[Folder]:
        """Take a folder, new or of an earlier start of the same sweep.

        Raises:
            ConfigError: it holds something else, or another process works in it.
            OSError: it cannot be written.
        """
        if path.is_dir() and not (path / QUESTION).is_file() and any(path.iterdir()):
            raise ConfigError(f"{path} is not empty and holds no sweep; give a new folder")
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file; give a folder")
        (path / "runs").mkdir(parents=True, exist_ok=True)
        with (path / ".lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another sweep works in {path} just now") from None
            folder = cls(path)
            folder._ask(sweep)
            yield folder

    def _ask(self, sweep: Sweep) -> None:
        file = self.path / QUESTION
        if file.is_file():
            try:
                there = json.loads(file.read_text(encoding="utf-8"))
                words = differences(there, sweep.question)
            except (ValueError, AttributeError):
                raise ConfigError(f"{file} cannot be read; give a new --out") from None
            if words:
                raise ConfigError(
                    f"{self.path} holds the answers to another question: {words}; give a new --out"
                )
        _write(file, json.dumps(sweep.question, indent=2) + "\n")

    def of(self, run: Run) -> Path:
        """Where the files of a run are."""
        return self.path / "runs" / run.id

    def done(self, runs: Iterable[Run]) -> dict[str, Summary]:
        """Summaries of those that are done, by id; a file that cannot be read is none."""
        found: dict[str, Summary] = {}
        for run in runs:
            with suppress(OSError, ValueError):
                summary = json.loads((self.of(run) / SUMMARY).read_text(encoding="utf-8"))
                if isinstance(summary, dict) and isinstance(summary.get("figures"), dict):
                    found[run.id] = summary
        return found

    def keep(self, outcome: Outcome) -> None:
        """Write down how a run ended.

        Raises:
            OSError: that is not possible.
        """
        folder = self.of(outcome.run)
        folder.mkdir(exist_ok=True)
        if outcome.summary is None:
            (folder / ERROR).write_text(outcome.log.rstrip() + "\n", encoding="utf-8")
            return
        run = outcome.run
        told = {**outcome.summary, "cell": dict(run.cell.values), "command": run.command}
        text = json.dumps(finite(told), indent=2, allow_nan=False)
        _write(folder / SUMMARY, text + "\n")
        (folder / ERROR).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, whenever the power fails."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


# --- on this machine ----------------------------------------------------------------------------


def cores() -> int:
    """How many this process may use."""
    with suppress(AttributeError):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def locally(
    runs: Sequence[Run], jobs: int, done: Callable[[Outcome], None], run: Runner = simulated
) -> None:
    """Run all of them, `jobs` at a time; afterwards no process is left, also if it is cancelled.

    Args:
        runs: in this order.
        jobs: processes, each with one thread.
        done: is told of every run that ended, well or not.
        run: what is done with a scenario.

    Raises:
        ConfigError: `run` is no function that other processes can find.
        NetworkError: no process can be started.
    """
    name, left = _name(run), deque(runs)
    guard = Guard()
    workers: list[_Worker] = []
    try:
        with tempfile.TemporaryDirectory(prefix="p2pfl-sweep-") as folder:
            async with asyncio.TaskGroup() as tasks:
                for place in range(min(jobs, len(runs))):
                    work = _work(left, done, workers, guard, Path(folder), f"{place}", name)
                    tasks.create_task(work, name=f"worker {place}")
    finally:
        guard.close()
        for worker in workers:
            worker.close()


async def _work(
    left: deque[Run],
    done: Callable[[Outcome], None],
    workers: list[_Worker],
    guard: Guard,
    folder: Path,
    place: str,
    runner: str,
) -> None:
    """Have runs done until none is left, by one worker at a time."""
    worker: _Worker | None = None
    while left:
        run = left.popleft()
        if worker is None:
            worker = _Worker(guard, folder, f"{place}-{len(workers)}", runner)
            workers.append(worker)
            await worker.connected()
        outcome = await worker.do(run)
        if outcome.summary is None:
            worker = None
        done(outcome)


class _Worker:
    """One process, from our side of the socket."""

    def __init__(self, guard: Guard, folder: Path, name: str, runner: str) -> None:
        self._socket, self._log = folder / f"{name}.sock", folder / f"{name}.log"
        self._program = ("env", *_ONE_THREAD, sys.executable, "-m", __name__)
        self._arguments = (str(self._socket), runner)
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connected(self) -> None:
        """Start it and wait until it can be told what to run.

        Raises:
            NetworkError: it cannot be started, or ends before it begins.
        """

        def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._reader, self._writer = reader, writer
            met.set()

        met = asyncio.Event()
        server = await asyncio.start_unix_server(meet, self._socket, limit=_ANSWER_BYTES)
        try:
            with self._log.open("wb") as out:
                command = (*self._program, *self._arguments)
                self._process = self._guard.start(command, out=out)
            while not met.is_set():
                if self._process.poll() is not None:
                    raise NetworkError(f"a worker ended before it began: {_last(self._words(0))}")
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await met.wait()
        except OSError as error:
            raise NetworkError(f"a worker cannot be started: {error.strerror}") from None
        finally:
            server.close()

    async def do(self, run: Run) -> Outcome:
        """Have a run done; if it fails, this worker is gone."""
        assert self._reader is not None and self._writer is not None and self._process is not None
        began, said_before = time.monotonic(), self._log.stat().st_size
        answer = b""
        with suppress(ConnectionError):
            self._writer.write(json.dumps(dump(run.scenario)).encode() + b"\n")
            await self._writer.drain()
            answer = await self._reader.readline()
        seconds = time.monotonic() - began
        if answer.endswith(b"\n"):
            return Outcome(run, json.loads(answer), seconds=seconds)
        while self._process.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        words, code = self._words(said_before), self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = _last(words)
        reason = last if code == 1 and last else f"{how}{': ' * bool(last)}{last}"
        return Outcome(run, None, reason, f"{words}\n{how}", seconds)

    def _words(self, since: int) -> str:
        with self._log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since, end - _LOG_BYTES))
            return file.read().decode(errors="replace")

    def close(self) -> None:
        """Reap it; the guard has ended it, and if somebody killed the guard, we do."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()


def _last(words: str) -> str:
    """The last line that says something; the frame around groups of errors does not."""
    lines = (line.strip(" |+-\t") for line in reversed(words.splitlines()))
    return next((line for line in lines if line), "")


def _name(run: Runner) -> str:
    where, name = getattr(run, "__module__", ""), getattr(run, "__qualname__", "")
    if not where or not name.isidentifier() or where == "__main__":
        raise ConfigError(f"{name or run!r} is no function of a module that others can import")
    return f"{where}:{name}"


def _named(text: str) -> Runner:
    where, _, name = text.partition(":")
    found: Runner = getattr(importlib.import_module(where), name)
    return found


def _ran(runner: Runner, line: str | bytes) -> str:
    scenario = from_mapping(json.loads(line), Scenario, where="the run")
    return json.dumps(dict(runner(scenario)))


def _serve(path: str, name: str) -> None:
    """Be a worker until the socket ends."""
    runner = _named(name)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rwb") as stream:
            while line := stream.readline():
                stream.write(_ran(runner, line).encode() + b"\n")
                stream.flush()


# --- on a Ray cluster ---------------------------------------------------------------------------


@contextmanager
def cluster(address: str, jobs: int | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one that lives as long as this if `address` is "local".

    Args:
        address: HOST:PORT, ray://HOST:PORT, auto, or local.
        jobs: processors of a local one; None: all.

    Raises:
        ConfigError: Ray is not installed.
        NetworkError: there is no cluster.
    """
    is_local = address == "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it tells nobody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if is_local:
        # Whoever reaches Ray's ports can run anything. Without the first line it binds to the LAN's
        # address whatever it is told (get_node_ip_address in ray/_private/services.py); without
        # the others it keeps a token in the user's home and leaves it there.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise ConfigError(
            "--ray needs ray, which is not installed; pip install 'p2pfl-node[ray]'"
        ) from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray leaves its files behind; those of a cluster that only we had go with it
    with tempfile.TemporaryDirectory(prefix="p2pfl-ray-", ignore_cleanup_errors=True) as folder:
        if is_local:
            options |= {
                "num_cpus": jobs or cores(),
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": folder,
            }
        else:
            _reach(address)
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise NetworkError(
                f"--ray {address}: {_last(str(error)) or error}; a cluster that wants a token is "
                "told it by RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()


def _reach(address: str) -> None:
    """Ray would try for a long time, and say little."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    if not port.isdigit():
        raise ConfigError(f"--ray {address}: expected HOST:PORT, ray://HOST:PORT, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECTING_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NetworkError(f"--ray {address}: nobody answers there: {reason}") from None


async def on_ray(
    ray: Any,
    runs: Sequence[Run],
    jobs: int | None,
    done: Callable[[Outcome], None],
    run: Runner = simulated,
) -> None:
    """Run all of them as tasks of one processor each; if it is cancelled, they are too.

    Args:
        ray: as `cluster` gives it.
        runs: in this order, as far as the cluster keeps it.
        jobs: at a time; None: as many as the cluster has processors for.
        done: is told of every run that ended, well or not.
        run: what is done with a scenario; the cluster's machines must have it.

    Raises:
        ConfigError: `run` is no function that other processes can find.
    """
    name, left, at_once = _name(run), deque(runs), jobs or len(runs)
    # again once: a machine may be lost, but a run that crashes would crash for ever
    task = ray.remote(num_cpus=1, max_retries=1)(_task)
    under_way: dict[Any, Run] = {}
    try:
        while left or under_way:
            while left and len(under_way) < at_once:
                line = json.dumps(dump(left[0].scenario))
                under_way[task.remote(name, line, str(Path.cwd()))] = left.popleft()
            ready, _ = await asyncio.to_thread(ray.wait, list(under_way), timeout=_RAY_LOOK_S)
            for answer in ready:
                done(_given(ray, answer, under_way.pop(answer)))
    finally:
        for answer in under_way:
            ray.cancel(answer, force=True)


def _given(ray: Any, answer: Any, run: Run) -> Outcome:
    try:
        version, text, seconds = ray.get(answer)
    except ray.exceptions.RayError as error:
        return Outcome(run, None, _last(str(error)), str(error))
    if version != p2pfl.__version__:
        reason = f"there is p2pfl {version} on the cluster, here is {p2pfl.__version__}"
        return Outcome(run, None, reason, reason, seconds)
    return Outcome(run, json.loads(text), seconds=seconds)


def _task(name: str, line: str, folder: str) -> tuple[str, str, float]:
    """Runs on a machine of the cluster; gives its version, the summary, and how long it took."""
    with suppress(OSError):  # files that a scenario names are found where a disk is shared
        os.chdir(folder)
    began = time.monotonic()
    return p2pfl.__version__, _ran(_named(name), line), time.monotonic() - began


if __name__ == "__main__":
    _serve(*sys.argv[1:])
