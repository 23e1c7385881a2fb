"""One node twenty times slower than the others: does it slow them down, and do its data count?

Six nodes, of which one takes twenty times as long for a training step (a step waits, so that
processor cores are no limit) and alone holds all samples of two classes. The reference is a run of
the same five fast nodes without it. Reported: cycles a second of the fast nodes with and without
the slow one, and how well the fast nodes recognise the classes they never saw.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from threading import Event
from typing import Any

from _nodes import nodes
from _report import finish, table

TASK = Path(__file__).with_name("straggler_task.py")
_FAST_STEP_S, _SLOWDOWN, _FAST = 0.002, 20, 5
_pause = Event().wait


def measure(*, with_slow: bool, seconds: float) -> dict[str, float]:
    """Run the swarm for a while and read its nodes."""
    with nodes() as group:
        run = ("--mdns", "--interface", "lo", "--run", "straggler")
        fast = [
            group.start(str(TASK), *run, env=_device(index, _FAST_STEP_S)) for index in range(_FAST)
        ]
        slow = None
        if with_slow:
            slow = group.start(str(TASK), *run, env=_device(_FAST, _FAST_STEP_S * _SLOWDOWN))
        for node in group.running:
            node.until(lambda now: now["cycles"] > 2)
        before = [node.status() for node in fast]
        _pause(seconds)
        after = [node.status() for node in fast]
        rates = [_rate(a, b) for a, b in zip(before, after, strict=True)]
        found = {
            "cycles_per_s": statistics.mean(rates),
            "slowest_cycles_per_s": min(rates),
            "accuracy": statistics.mean(now["accuracy"] for now in after),
            "unseen_recall": statistics.mean(now["metrics"]["unseen_recall"] for now in after),
        }
        if slow is not None:
            found["slow_cycle_steps"] = slow.status()["cycle_steps"]
            found["fast_cycle_steps"] = after[0]["cycle_steps"]
        return found


def _device(index: int, step_s: float) -> dict[str, str]:
    return {"STRAGGLER_NODE": str(index), "STRAGGLER_STEP_S": str(step_s)}


def _rate(before: Any, after: Any) -> float:
    rate: float = (after["cycles"] - before["cycles"]) / (after["uptime_s"] - before["uptime_s"])
    return rate


def main() -> None:
    """Measure both runs and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = parser.parse_args()
    without = measure(with_slow=False, seconds=args.seconds)
    with_slow = measure(with_slow=True, seconds=args.seconds)
    ratio = with_slow["cycles_per_s"] / without["cycles_per_s"]
    slowest = with_slow["slowest_cycles_per_s"] / without["slowest_cycles_per_s"]
    rows = [{"run": "five fast"}, {"run": "and one slow"}]
    for row, found in zip(rows, (without, with_slow), strict=True):
        row |= {key: found[key] for key in without}
    print(table(rows))
    print(f"ratio of the fast nodes' cycles per second: {ratio:.3f}, of the slowest {slowest:.3f}")
    figures = {"without": without, "with_slow": with_slow, "ratio": ratio}
    finish({**figures, "ratio_of_slowest": slowest}, as_json=args.json, packages=["numpy"])


if __name__ == "__main__":
    main()
