"""A scenario can be run where an event loop runs already, as in a notebook."""

from __future__ import annotations

import asyncio

from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.virtual import simulate

SCENARIO = {
    "nodes": 3,
    "task": {"name": "averaging", "size": 4},
    "duration": {"seconds": 2},
    "measure": {"samples": 2},
}


def test_a_world_beside_a_running_loop_is_the_same_as_one_alone() -> None:
    async def inside() -> str | None:
        return simulate(Scenario.model_validate(SCENARIO)).event_hash

    alone = simulate(Scenario.model_validate(SCENARIO)).event_hash
    assert alone is not None
    assert asyncio.run(inside()) == alone
