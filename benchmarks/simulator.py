"""How fast the simulator is, everything included, against a plain loop over as many torch modules.

    python benchmarks/simulator.py                the loop, two models, and the curve up to 1,000
    python benchmarks/simulator.py --large        and 3,000, and scenarios/ten-thousand.toml
    python benchmarks/simulator.py --profile      where the time goes, by room of the house

The reference is what a researcher writes first: a list of `torch.nn.Sequential`, and for each node
in turn zero_grad, forward, backward, step, on the same batches. It exchanges nothing. The simulator
does the same steps, and beside them every cycle's exchanges, membership, probes, ledger, journal
and event hash. Both run in this process, one after the other.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import finish, table
from torch import nn

from p2pfl.learning.datasets import DATASETS
from p2pfl.scenario.load import load
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import Progress, Trace
from p2pfl.scenario.virtual import simulate

CURVE, LARGE = (100, 300, 1000), (3000, 10_000)
MODELS = {"digits": (64, 32, 10), "mnist5k": (784, 128, 10)}
BATCH, CYCLES, WARM = 16, 30, 5
THOUSAND = "scenarios/thousand.toml"


def plain_loop(task: str, nodes: int, steps: int) -> float:
    """Node-steps per second of a loop over torch modules."""
    wide, hidden, classes = MODELS[task]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster here: the matrices are small
    x, y = (torch.from_numpy(np.array(part)) for part in DATASETS[task]().train)
    modules = [
        nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        for _ in range(nodes)
    ]
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in modules]
    batches = torch.randint(len(y), (nodes, steps, BATCH))
    began = time.perf_counter()
    for module, optimizer, mine in zip(modules, optimizers, batches, strict=True):
        for at in mine:
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[at]), y[at]).backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    torch.set_num_threads(threads)
    return nodes * steps / seconds


def asked(task: str, nodes: int, **changes: Any) -> Scenario:
    """A quiet swarm: equal devices, K = 20, every node 64 samples and at most 32 acquaintances."""
    settings = {
        "nodes": nodes,
        "task": f'{{ name = "{task}", partition = "drawn:0.3", minimum = 64 }}',
        "duration.cycles": CYCLES,
        "compute": "{ step_s = 0.005 }",
        "measure.samples": 6,
        **changes,
    }
    return load(THOUSAND, [f"{key}={value}" for key, value in settings.items()])


def measured(scenario: Scenario) -> dict[str, float]:
    """Run it; node-steps per second in all, and once the nodes have met (`WARM` cycles)."""
    seen: list[tuple[float, float]] = []

    def show(progress: Progress) -> None:
        seen.append((time.perf_counter(), progress.cycles))

    trace = simulate(scenario, show)
    steps = trace.steps / max(np.nansum(trace.cycles[-1]), 1)
    warm = next((one for one in seen if one[1] >= WARM), seen[0])
    cycles = (seen[-1][1] - warm[1]) * scenario.nodes
    seconds = max(seen[-1][0] - warm[0], 1e-9)
    return {
        "steps_per_s": trace.steps / trace.wall_s,
        "warm_steps_per_s": cycles * steps / seconds,
        "us_per_cycle": seconds / max(cycles, 1) * 1e6,
        "steps_per_cycle": steps,
        "exchanges_per_cycle": trace.outcomes.get("flow", 0) / np.nansum(trace.cycles[-1]),
        "wall_s": trace.wall_s,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """The most memory this process had; a parent's does not count, as it would in getrusage."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(li.split()[1] for li in status.splitlines() if "VmHWM" in li)) / 1024


def against_the_loop() -> list[dict[str, Any]]:
    """Both models with 1,000 nodes, with two exchanges a cycle (the default) and with one."""
    rows = []
    for task, steps in (("digits", 10), ("mnist5k", 4)):
        loop = plain_loop(task, 1000, steps)
        for exchanges in (2, 1):
            rule = {"topology": f'"random-{exchanges}"'}
            found = measured(asked(task, 1000, **rule, **{"measure.samples": 12}))
            rows.append(
                {
                    "model": "-".join(map(str, MODELS[task])),
                    "exchanges a cycle": round(found["exchanges_per_cycle"], 2),
                    "loop, node-steps/s": loop,
                    "simulator": found["warm_steps_per_s"],
                    "ratio": found["warm_steps_per_s"] / loop,
                    "with start": found["steps_per_s"] / loop,
                    "peak MB": found["peak_mb"],
                }
            )
    return rows


def curve(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Cost against the number of nodes, each size in a process of its own."""
    rows = []
    for nodes in sizes:
        command = [sys.executable, __file__, "--one", str(nodes)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        wall_s, cycle_us, peak_mb = map(float, said.stdout.split())
        rows.append(
            {
                "nodes": nodes,
                "wall s": wall_s,
                "us per node and cycle": cycle_us,
                "peak MB": peak_mb,
                "kB per node": peak_mb * 1000 / nodes,
            }
        )
    return rows


def until_good() -> dict[str, Any]:
    """How long `thousand` takes to its accuracy bounds, and whether all of them held."""
    from p2pfl.scenario.verdicts import judged, passed

    scenario = load(THOUSAND)
    bounds = scenario.expect.bounds()
    began, reached = time.perf_counter(), [float("inf")]

    def show(progress: Progress) -> None:
        good = progress.mean is not None and bounds["mean_accuracy"].holds(progress.mean)
        worst = bounds["worst_tenth_accuracy"]
        if good and worst.holds(progress.worst_tenth) and reached[0] == float("inf"):
            reached[0] = time.perf_counter() - began

    trace: Trace = simulate(scenario, show)
    held = passed(judged(trace), trace)
    return {"bounds reached after s": reached[0], "whole run s": trace.wall_s, "held": held}


def profile() -> list[dict[str, Any]]:
    """Where the main thread's time goes, by room; the arithmetic of training is on another."""
    profiler = cProfile.Profile()
    profiler.runcall(simulate, asked("digits", 300))
    rooms: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        rooms[_room(path, name)] += own
    total = sum(rooms.values())
    return [{"room": room, "share": own / total} for room, own in rooms.most_common(12)]


def _room(path: str, name: str) -> str:
    if "acquire" in name:
        return "waiting for training"
    if "/p2pfl/" in path:
        return "p2pfl/" + "/".join(path.split("/p2pfl/")[-1].split("/")[:-1])
    for package in ("asyncio", "numpy", "torch", "msgpack"):
        if f"/{package}/" in path:
            return package
    return "built in" if path == "~" else "standard library"


def main() -> None:
    """Print tables, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--large", action="store_true", help="3,000 and 10,000 nodes as well")
    parser.add_argument("--profile", action="store_true", help="only where the time goes")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        large = load("ten-thousand") if arguments.one >= 10_000 else None
        found = measured(large or asked("digits", arguments.one))
        print(found["wall_s"], found["us_per_cycle"], found["peak_mb"])
        return
    figures: dict[str, Any] = {}
    parts = {"profile": profile} if arguments.profile else {}
    if not arguments.profile:
        sizes = CURVE + (LARGE if arguments.large else ())
        parts = {
            "against a plain loop, 1,000 nodes": against_the_loop,
            "cost against the number of nodes, MLP 64-32-10": lambda: curve(sizes),
            "thousand": lambda: [until_good()],
        }
    for title, part in parts.items():
        figures[title] = part()
        if not arguments.json:
            print(f"{title}\n{table(figures[title])}\n", flush=True)
    finish(figures, as_json=arguments.json, packages=("numpy", "torch"))


if __name__ == "__main__":
    main()
