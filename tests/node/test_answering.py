"""What a node answers, and to whom it passes a question on."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from p2pfl.core.events import MemberChanged
from p2pfl.core.messages import Packet, Probe, Reason, Refused, Rumour, Status
from p2pfl.node import Node
from p2pfl.ports import Answered, Forward, Reply
from tests.node.swarm import Quadratic, Swarm

LIAR, GHOST = "f" * 8, "9" * 8
PRINTER = "192.168.7.7:22"
"""An address that is none of ours, and that somebody would like to know more about."""


def asked(node: Node, target: str, *rumours: Rumour) -> Reply:
    """What becomes of a stranger's question whether `target` is there."""
    layout = node.vitals.layout.digest
    packet = Packet("default", layout, LIAR, "10.9.9.9:1", 1, Probe(target), rumours=rumours)
    assert node._answering.admit(packet) is None
    return node._answering.handle(packet)


def refusal(reply: Reply) -> Refused:
    assert isinstance(reply, Answered)
    assert isinstance(reply.packet.body, Refused)
    return reply.packet.body


def still() -> Quadratic:
    return Quadratic(np.zeros(4, np.float32))


def test_a_probe_is_passed_on_to_members_that_were_met_and_to_nobody_else() -> None:
    swarm = Swarm()

    async def script() -> None:
        a1, b2 = swarm.start("a1", still()), swarm.start("b2", still())
        await asyncio.sleep(2)
        reply = asked(a1, b2.vitals.id)
        assert isinstance(reply, Forward)
        assert (reply.address, reply.packet.recipient) == ("10.0.0.2:1", b2.vitals.id)
        assert reply.packet.body == Probe()

        ghost = Rumour(GHOST, (PRINTER,), Status.ALIVE, 1)
        said = refusal(asked(a1, GHOST, ghost))
        assert said == Refused(Reason.UNREACHABLE, "never met that member")
        assert a1.vitals.members.addresses(GHOST) == (PRINTER,), "it was heard of all the same"
        assert refusal(asked(a1, "8" * 8)) == said, "nobody learns who was heard of"
        assert refusal(asked(a1, a1.vitals.id)) == said

    swarm.play(script)


@pytest.mark.parametrize("probes", [3, 0])
def test_a_member_that_only_others_reach_is_suspected_only_if_nobody_asks_them(probes: int) -> None:
    """What passing on is for: SWIM, section 3.1 (Das, Gupta & Motivala, DSN 2002)."""
    swarm = Swarm()

    async def script() -> None:
        nodes = [
            swarm.start(name, still(), membership={"indirect_probes": probes})
            for name in ("a1", "b2", "c3", "d4")
        ]
        await asyncio.sleep(5)
        first, last = (node.vitals.transport.address for node in (nodes[0], nodes[-1]))
        swarm.network.ways.part([first], [last])
        await asyncio.sleep(60)
        changes = [e for memory in swarm.memories.values() for e in memory.of(MemberChanged)]
        assert any(change.status == "suspect" for change in changes) == (probes == 0)

    swarm.play(script)
