"""What a node says of those it knows: in virtual time."""

from __future__ import annotations

import asyncio

import numpy as np

from p2pfl.core.messages import Rumour, Status
from tests.node.swarm import Quadratic, Swarm

INVENTED = "f" * 8


def test_a_member_that_never_spoke_is_told_from_one_that_did() -> None:
    swarm, target = Swarm(), np.ones(4, np.float32)

    async def script() -> None:
        node = swarm.start("1", Quadratic(target))
        other = swarm.start("2", Quadratic(target))
        await asyncio.sleep(5)
        rumour = Rumour(INVENTED, ("10.9.9.9:1",), Status.ALIVE, 1)
        node.vitals.note(node.vitals.members.learn((rumour,), other.vitals.id, node.vitals.clock()))
        await asyncio.sleep(1)
        members = {one["node"]: one for one in node._answering.status()["members"]}
        assert set(members) == {other.vitals.id, INVENTED}
        assert members[other.vitals.id]["is_met"]
        assert not members[INVENTED]["is_met"]
        # nor does it speak by falling silent
        await asyncio.sleep(60)
        members = {one["node"]: one for one in node._answering.status()["members"]}
        assert members[INVENTED]["status"] == "dead"
        assert not members[INVENTED]["is_met"]

    swarm.play(script)
