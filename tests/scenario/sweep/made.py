"""A scenario, grids of it and answers of its runs, made up for tests; nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pfl.scenario.sweep import Run, Sweep, planned

SCENARIO = """
description = "a ring"
nodes = 8
seed = 3
task = "averaging"
topology = "ring"
[duration]
cycles = 20
[expect]
consensus_distance = "<= 0.5"
stall_s = "<= 3"
"""


def grid(file: Path, *over: str, seeds: int = 2, changes: Sequence[str] = ()) -> Sweep:
    return planned(str(file), over, changes, seeds)


def answer(run: Run, distance: float | str | None = 0.1, *, ok: bool = True) -> dict[str, Any]:
    return {
        "ok": ok,
        "figures": {"consensus_distance": distance, "stall_s": 1.0 + run.seed, "recovery_s": None},
        "wall_s": 0.5,
        "event_hash": "ab",
        "seed": run.seed,
    }
