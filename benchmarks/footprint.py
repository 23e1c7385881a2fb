"""What a node costs a small device: import, memory, start, and idling with ten neighbours.

References, measured in the same run: a bare interpreter, `import numpy`, `import torch`, and for
the start to the first exchange `import torch` alone. Idle nodes train one cycle and then wait, so
that only membership and discovery remain; their traffic is what crosses loopback in a network
namespace of their own (TCP, HTTP and multicast DNS included), which needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

from _nodes import nodes
from _report import finish, table

_PROBE = """
import time
started = time.perf_counter()
{code}
seconds = time.perf_counter() - started
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(seconds, int(peak[0]) * 1024)
"""
_IDLE = ("--set", "train.cycle_min_s=1e9", "--set", "train.evaluate_every_s=1e9")
_NEIGHBOURS = 10
_SETTLE_S, _WATCH_S = 15.0, 30.0
_pause = Event().wait


def imports(code: str, repeats: int = 7) -> dict[str, float]:
    """Median seconds and memory of a fresh interpreter that runs `code`."""
    found = []
    for _ in range(repeats):
        out = subprocess.check_output([sys.executable, "-c", _PROBE.format(code=code)], text=True)
        found.append([float(word) for word in out.split()])
    seconds, memory = zip(*found, strict=True)
    return {"seconds": statistics.median(seconds), "mb": statistics.median(memory) / 1e6}


def start(task: str, repeats: int) -> dict[str, float]:
    """Seconds from process start to the first exchange with a node that runs, and its memory."""
    seconds, memory = [], []
    for _ in range(repeats):
        with nodes() as group:
            first = group.start(task, "--mdns", "--interface", "lo", "--run", "footprint")
            first.until(lambda now: now["cycles"] > 5)
            second = group.start(task, "--mdns", "--interface", "lo", "--run", "footprint")
            seconds.append(second.until(_has_exchanged))
            second.until(lambda now: now["cycles"] > 30)
            memory.append(second.rss_bytes() / 1e6)
    return {"first_exchange_s": statistics.median(seconds), "node_mb": statistics.median(memory)}


def _has_exchanged(now: Any) -> bool:
    ends = [*now["exchanges"]["asked"].items(), *now["exchanges"]["answered"].items()]
    return any(count for outcome, count in ends if outcome in ("flow", "adopt", "adopted"))


def idle() -> dict[str, float] | None:
    """Processor share and bytes a second of nodes that only keep in touch; None without root."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return None
    name = f"p2pfl-idle-{os.getpid()}"
    _ip("netns", "add", name)
    inside = ("ip", "netns", "exec", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        with nodes(inside) as group:
            options = ("--mdns", "--interface", "lo", "--run", "idle", *_IDLE)
            for index in range(_NEIGHBOURS + 1):
                group.start("digits-numpy", *options, port=20_000 + index)
            _pause(_SETTLE_S)
            before = _sent(inside), sum(node.cpu_s() for node in group.running)
            _pause(_WATCH_S)
            after = _sent(inside), sum(node.cpu_s() for node in group.running)
            count = len(group.running)
        return {
            "idle_bytes_per_s": (after[0] - before[0]) / _WATCH_S / count,
            "idle_cpu_percent": 100 * (after[1] - before[1]) / _WATCH_S / count,
        }
    finally:
        _ip("netns", "delete", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _sent(inside: tuple[str, ...]) -> int:
    path = Path("/sys/class/net/lo/statistics/tx_bytes")
    return int(subprocess.check_output([*inside, "cat", str(path)]))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="starts of each kind of node")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = parser.parse_args()
    codes = {"pass": "pass", "numpy": "import numpy", "p2pfl": "import p2pfl"}
    codes |= {"p2pfl.node": "import p2pfl.node", "torch": "import torch"}
    found = {name: imports(code) for name, code in codes.items()}
    print(table([{"import": name, **figures} for name, figures in found.items()]))
    kinds = {"numpy": start("digits-numpy", args.repeats), "torch": start("digits", args.repeats)}
    print(table([{"node": name, **figures} for name, figures in kinds.items()]))
    resting = idle()
    print(table([resting]) if resting else "idle: not measured, needs root and iproute2")
    figures = {"imports": found, "nodes": kinds, "idle": resting, "neighbours": _NEIGHBOURS}
    finish(figures, as_json=args.json, packages=["numpy", "torch", "aiohttp", "zeroconf"])


if __name__ == "__main__":
    main()
