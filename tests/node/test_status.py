"""What a node says of those it knows: in virtual time."""

from __future__ import annotations

import asyncio

import numpy as np

from p2pfl.core.messages import Rumour, Status
from p2pfl.sim.transport import MemoryTransport
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


def test_a_member_that_said_goodbye_is_told_from_one_that_fell_silent() -> None:
    swarm, target = Swarm(), np.ones(4, np.float32)

    async def script() -> None:
        node = swarm.start("1", Quadratic(target))
        stopped, killed = (swarm.start(name, Quadratic(target)) for name in "23")
        await asyncio.sleep(5)
        members = {one["node"]: one for one in node._answering.status()["members"]}
        assert not any(one["left"] for one in members.values())
        await swarm.stop("2")
        # what this one says in the end, nobody hears
        assert isinstance(killed.vitals.transport, MemoryTransport)
        killed.vitals.transport.is_unplugged = True
        await swarm.stop("3")
        await asyncio.sleep(60)
        members = {one["node"]: one for one in node._answering.status()["members"]}
        assert {one["status"] for one in members.values()} == {"dead"}
        assert members[stopped.vitals.id]["left"]
        assert not members[killed.vitals.id]["left"]

    swarm.play(script)
