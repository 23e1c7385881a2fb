"""A LAN of network namespaces on one Linux machine, for tests that need real links.

    with Lan(hosts=3) as lan:
        lan.popen(0, [sys.executable, "-m", "p2pfl", "node", "digits"])
        lan.link_down(1)              # the cable is pulled
        lan.limit(2, "10mbit")

                  <prefix>-lan
        ┌──────────── br0 ────────────┐
      port0         port1           port2
        │             │               │         veth pairs
      eth0          eth0            eth0
    <prefix>-h0   <prefix>-h1     <prefix>-h2

The bridge has a namespace of its own, so nothing of the machine's own network is touched. Host h
is 10.77.x.(h+1)/24 and fd77:x::(h+1)/64, where x counts the LANs of this process.

Rule of the file: what was made is removed, also when making it failed half-way, and also when the
process that made it was killed: the next `Lan` sweeps what dead processes left.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pytest

PREFIX = "p2pfl-lan"
BURST = "64kb"
"""tbf's bucket: one whole segment as the kernel hands it over (GSO)."""
STOP_S = 3.0

_numbers = itertools.count()
Test = TypeVar("Test", bound=Callable[..., Any])


@functools.cache
def missing() -> str | None:
    """What this machine lacks to make network namespaces; None if nothing."""
    if not sys.platform.startswith("linux"):
        return f"network namespaces need Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return f"network namespaces need root, this is user {os.geteuid()}"
    tools = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if tools:
        return f"no {' and no '.join(tools)}: install iproute2"
    name = f"{PREFIX}-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"root, but `ip netns add` failed: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def needs_netns(test: Test) -> Test:
    """Mark a test (or a class) that makes a `Lan`: skipped, with the reason, where it cannot."""
    reason = missing()
    return pytest.mark.netns(pytest.mark.skipif(reason is not None, reason=str(reason))(test))


class Lan:
    """Hosts on one switch, as a context manager.

    Attributes:
        hosts: how many; they are numbered from 0.
    """

    def __init__(
        self,
        hosts: int = 3,
        *,
        rate: str | Mapping[int, str] | None = None,
        ipv4: bool = True,
        ipv6: bool = True,
    ) -> None:
        """Nothing is made before the context is entered.

        Args:
            hosts: 1 to 250.
            rate: as tc writes it (`10mbit`): of all links, or by host; None does not limit.
            ipv4, ipv6: which addresses hosts get; without `ipv6` the kernel has none either.
        """
        self.hosts = hosts
        self._number = next(_numbers)
        self._prefix = f"{PREFIX}-{os.getpid()}-{self._number}"
        self._rates = dict.fromkeys(range(hosts), rate) if isinstance(rate, str) else rate or {}
        self._ipv4, self._ipv6 = ipv4, ipv6
        self._cleanup = ExitStack()
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Lan:
        sweep()
        with ExitStack() as failed:
            failed.callback(self._cleanup.close)
            self._make()
            failed.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    # --- hosts -----------------------------------------------------------------------------------

    def address(self, host: int) -> str:
        """The host's first IPv4 address."""
        return f"10.77.{self._number % 256}.{host + 1}"

    def address6(self, host: int) -> str:
        """The host's IPv6 address."""
        return str(IPv6Address(f"fd77:{self._number % 256:x}::{host + 1:x}"))

    def command(self, host: int, argv: Sequence[str]) -> list[str]:
        """The same command line, run on the host; for `asyncio.create_subprocess_exec`."""
        return ["ip", "netns", "exec", self._host(host), *argv]

    def popen(self, host: int, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        """Start a process on the host; it is killed, if need be, when the LAN is left.

        The process is the command itself (`ip netns exec` becomes it), so signals reach it.
        """
        process = subprocess.Popen(self.command(host, argv), **kwargs)
        self._processes.append(process)
        return process

    def run(self, host: int, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        """Run a command on the host to its end and give what it printed.

        Raises:
            RuntimeError: it failed; the text is what it said.
        """
        return _run(self.command(host, argv), timeout)

    def readdress(self, host: int, address: str) -> None:
        """Give the host another IPv4 address in place of its own, as a new DHCP lease does."""
        self._ip(self._host(host), "-4", "addr", "flush", "dev", "eth0")
        self._ip(self._host(host), "addr", "add", f"{address}/24", "dev", "eth0")
        self._route(host)

    # --- links -----------------------------------------------------------------------------------

    def link_down(self, host: int) -> None:
        """Pull the host's cable: it sees that, and keeps its addresses."""
        self._ip(self._switch, "link", "set", f"port{host}", "down")

    def link_up(self, host: int) -> None:
        """Plug it in again."""
        self._ip(self._switch, "link", "set", f"port{host}", "up")

    def limit(self, host: int, rate: str | None) -> None:
        """Limit the host's link in both directions (token bucket), or lift the limit with None."""
        for namespace, device in ((self._host(host), "eth0"), (self._switch, f"port{host}")):
            tc = ["tc", "-n", namespace, "qdisc"]
            if rate is None:
                subprocess.run([*tc, "del", "dev", device, "root"], capture_output=True, timeout=30)
            else:
                bucket = ["tbf", "rate", rate, "burst", BURST, "latency", "400ms"]
                _run([*tc, "replace", "dev", device, "root", *bucket])

    # --- making it -------------------------------------------------------------------------------

    @property
    def _switch(self) -> str:
        return f"{self._prefix}-lan"

    def _host(self, host: int) -> str:
        if not 0 <= host < self.hosts:
            raise IndexError(f"host {host} of a LAN with {self.hosts}")
        return f"{self._prefix}-h{host}"

    def _make(self) -> None:
        self._namespace(self._switch)
        # No spanning tree and no snooping: a port forwards at once, multicast reaches everybody.
        bridge = ["type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
        self._ip(self._switch, "link", "add", "br0", *bridge)
        self._ip(self._switch, "link", "set", "br0", "up")
        for host in range(self.hosts):
            self._plug(host)
        self._cleanup.callback(self._stop)

    def _namespace(self, name: str) -> None:
        _run(["ip", "netns", "add", name])
        self._cleanup.callback(_remove, name)
        # Without duplicate detection an address is usable at once.
        off = int(not self._ipv6)
        settings = (("default/accept_dad", 0), ("all/disable_ipv6", off))
        settings = (*settings, ("default/disable_ipv6", off))
        script = "; ".join(f"echo {v} > /proc/sys/net/ipv6/conf/{key}" for key, v in settings)
        script = f"[ -d /proc/sys/net/ipv6 ] || exit 0; {script}"
        _run(["ip", "netns", "exec", name, "sh", "-ec", script])
        self._ip(name, "link", "set", "lo", "up")

    def _plug(self, host: int) -> None:
        name, port = self._host(host), f"port{host}"
        self._namespace(name)
        pair = ["type", "veth", "peer", "name", "eth0", "netns", name]
        self._ip(self._switch, "link", "add", port, *pair)
        self._ip(self._switch, "link", "set", port, "master", "br0", "up")
        self._ip(name, "link", "set", "eth0", "up")
        if self._ipv4:
            self._ip(name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            self._route(host)
        if self._ipv6:
            self._ip(name, "addr", "add", f"{self.address6(host)}/64", "dev", "eth0", "nodad")
        if host in self._rates:
            self.limit(host, self._rates[host])

    def _route(self, host: int) -> None:
        """A LAN without a gateway has no default route, and multicast needs one to leave by."""
        self._ip(self._host(host), "route", "replace", "224.0.0.0/4", "dev", "eth0")

    def _ip(self, namespace: str, *argv: str) -> None:
        _run(["ip", "-n", namespace, *argv])

    def _stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def sweep() -> None:
    """Remove the namespaces, and what still runs in them, of test processes that are no more."""
    listed = _run(["ip", "netns", "list"]).split("\n")
    for name in (line.split(" ")[0] for line in listed):
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        is_ours = name.startswith(f"{PREFIX}-") and owner.isdigit()
        if is_ours and not Path("/proc", owner).exists():
            _remove(name)


def _remove(namespace: str) -> None:
    """Delete a namespace; a process left in it would keep it alive without a name."""
    listed = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, timeout=30
    )
    for pid in listed.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=30)


def _run(argv: Sequence[str], timeout: float = 30.0) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
