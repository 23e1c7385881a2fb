"""Real nodes on loopback for benchmarks: started, asked, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from p2pfl.edge.credentials import Credentials
from p2pfl.edge.runkey import RunKey

_pause = Event().wait


@dataclass(slots=True)
class Running:
    """One node process."""

    process: subprocess.Popen[bytes]
    port: int
    started: float
    state_dir: Path
    observer: ssl.SSLContext | None = None

    def status(self) -> Mapping[str, Any]:
        """What it says of itself; raises OSError while it does not answer."""
        scheme = "http" if self.observer is None else "https"
        url = f"{scheme}://127.0.0.1:{self.port}/v1/status"
        with urlopen(url, timeout=5, context=self.observer) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def until(self, holds: Callable[[Mapping[str, Any]], bool], timeout_s: float = 60) -> float:
        """Seconds from the start of the process until its status fits."""
        while time.monotonic() - self.started < timeout_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"node ended with {self.process.returncode}")
            try:
                if holds(self.status()):
                    return time.monotonic() - self.started
            except (URLError, OSError):
                pass
            _pause(0.01)
        raise TimeoutError("the node's status did not become what was waited for")

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def cpu_s(self) -> float:
        """Processor seconds used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Nodes:
    """Starts nodes; `prefix` goes in front of their command (`ip netns exec ...`).

    With `key` they are in a run that has one, and so are we.
    """

    def __init__(self, folder: Path, prefix: Sequence[str] = (), key: RunKey | None = None) -> None:
        self.folder = folder
        self.running: list[Running] = []
        self._prefix = tuple(prefix)
        self._observer: ssl.SSLContext | None = None
        self._keyed: tuple[str, ...] = ()
        if key is not None:
            self._observer = Credentials.observer(key, time.time()).client_context()
            file = folder / "run.key"
            file.touch(0o600)
            file.write_text(key.text)
            self._keyed = ("--key-file", str(file))

    def start(
        self,
        task: str,
        *options: str,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Running:
        """Start one node on loopback; without mDNS unless `--mdns` is among the options."""
        port = port or free_port()
        state = self.folder / f"node-{len(self.running)}"
        how = () if "--mdns" in options else ("--no-mdns",)
        where = ("--bind", "127.0.0.1", "--port", str(port), "--state-dir", str(state))
        command = [*self._prefix, sys.executable, "-m", "p2pfl", "node", task, *where, *how]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, "--quiet", *self._keyed, *options], env={**os.environ, **(env or {})}
        )
        node = Running(process, port, started, state, self._observer)
        self.running.append(node)
        return node


@contextmanager
def nodes(prefix: Sequence[str] = (), key: RunKey | None = None) -> Iterator[Nodes]:
    """Nodes in a folder of their own; all gone when the context is left."""
    with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
        group = Nodes(Path(folder), prefix, key)
        try:
            yield group
        finally:
            for node in group.running:
                node.process.send_signal(signal.SIGTERM)
            for node in group.running:
                try:
                    node.process.wait(5)
                except subprocess.TimeoutExpired:
                    node.process.kill()
                    node.process.wait()


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
