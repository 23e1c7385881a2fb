"""Looks, plans and records made up for tests: a swarm of three and a late one, all well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2pfl.scenario.alone import LocalOnly
from p2pfl.scenario.record import Happening, Plan, Record, Sample, What
from p2pfl.scenario.watching import Look, Together

PATIENCE_S = 60.0
"""How long anything may take on a busy machine."""


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition of the world outside holds.

    Raises:
        TimeoutError: it did not.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def made_look(name: str = "node-1", at: float = 0.0, accuracy: float | None = 0.95) -> Look:
    return Look(
        at=at,
        name=name,
        state="training",
        run="r",
        layout="0123456789abcdef",
        parameters=2410,
        incarnation=1,
        age=1200,
        own_steps=400,
        cycles=20,
        loss=0.1,
        accuracy=accuracy,
        measured_at=None if accuracy is None else at - 0.3,
        neighbours=3,
        alive=3,
        exchanges=70,
        staleness=0.5,
        bytes_in=1_234_567,
        bytes_out=999,
    )


def made_plan(**changes: Any) -> Plan:
    plan = Plan(task="digits", run="demo-x", folder=Path("runs/demo-x"), nodes=3, seconds=30.0)
    return replace(plan, **changes)


def made_record(plan: Plan | None = None, **changes: Any) -> Record:
    """A record in which every expectation holds, by a hair."""
    plan = plan or made_plan()
    looks = {
        name: [made_look(name, at / 2, 0.5 + at / 120) for at in range(60)] for name in plan.names
    }
    whole = Record(
        plan=plan,
        samples=[
            Sample(0.0, "node-1", "training", looks["node-1"][0]),
            Sample(0.0, "node-2", "killed", None),
        ],
        looks=looks,
        history=[Together(float(at), 4, 0.5, 0.4, 1.0 / (1 + at)) for at in range(30)],
        happenings=[
            Happening(-3.0, "", What.STARTS, "3 nodes start"),
            Happening(4.5, "node-2", What.KILLED, "node-2 is killed"),
            Happening(8.1, "node-2", What.RESTARTED, "node-2 is started again"),
            Happening(9.0, "node-2", What.BACK, "node-2 is back"),
            Happening(10.8, "node-4", What.JOINS, "node-4 joins late"),
            Happening(12.0, "node-4", What.JOINED, "node-4 is in"),
            Happening(13.7, "node-3", What.FROZEN, "node-3 is frozen"),
            Happening(20.4, "node-3", What.THAWED, "node-3 is thawed"),
        ],
        finals=dict.fromkeys(plan.names, 0.93),
        stalls={"node-1": 3.0},
        resumed={"node-2": 40},
        local=LocalOnly(400, 0.4, (0.3, 0.4, 0.5, 0.4)),
        starting_s=3.0,
        wall_s=36.5,
        started=1.7e9,
    )
    return replace(whole, **changes)
