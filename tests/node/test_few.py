"""Robust mode where there are few others: who decides then, and what is said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from p2pfl.core.compression import encode
from p2pfl.core.events import Fault
from p2pfl.core.messages import Model, Packet, Pull
from p2pfl.node import Node
from p2pfl.ports import Answered
from tests.node.swarm import Quadratic, Swarm

GOAL = np.random.default_rng(0).normal(size=100).astype(np.float32)
ROBUST: dict[str, Any] = {"trust": "byzantine"}
MEDIAN: dict[str, Any] = {"trust": "byzantine", "robust": {"rule": "median", "models": 5}}


def faults(swarm: Swarm, name: str, kind: str) -> list[str]:
    return [event.detail for event in swarm.memories[name].of(Fault) if event.kind == kind]


def answers_pulls_with(node: Node, lie: np.ndarray) -> None:
    """From now on whoever pulls from this node is told another model."""
    handle = node._answering.handle

    def lying(packet: Packet) -> Any:
        reply = handle(packet)
        if isinstance(packet.body, Pull) and isinstance(reply, Answered):
            for _ in reply.work:
                pass
            model = Model(2**40, encode("float32", lie, np.random.default_rng(0)))
            return Answered(node.vitals.packet(model, to=packet.sender))
        return reply

    node._answering.handle = lying  # type: ignore[method-assign]


def test_a_rule_that_judges_five_models_also_mixes_among_three_nodes() -> None:
    swarm = Swarm()

    async def script() -> None:
        for name in ("a1", "b2", "c3"):
            swarm.start(name, Quadratic(GOAL, 0.02), **MEDIAN)
        await asyncio.sleep(30)
        assert all(node.vitals.state.mixes > 10 for node in swarm.nodes.values())
        assert faults(swarm, "a1", "too-few") == []

    swarm.play(script)


def test_a_rule_without_enough_neighbours_says_once_that_it_mixes_nothing() -> None:
    swarm = Swarm()

    async def script() -> None:
        for name in ("a1", "b2"):
            swarm.start(name, Quadratic(GOAL, 0.02), **MEDIAN)
        await asyncio.sleep(60)
        assert swarm.nodes["a1"].vitals.state.mixes == 0
        (said,) = faults(swarm, "a1", "too-few")
        assert said.startswith("median cannot judge the models of 1 neighbour, of which 25% may")

    swarm.play(script)


def test_one_liar_among_three_cannot_choose_the_model_of_a_newcomer() -> None:
    swarm = Swarm()

    async def script() -> None:
        for name in ("a1", "b2", "c3"):
            swarm.start(name, Quadratic(GOAL, 0.02), **ROBUST)
        await asyncio.sleep(30)
        answers_pulls_with(swarm.nodes["c3"], -50 * GOAL)
        late = swarm.start("d4", Quadratic(GOAL * 0, 0.0), **ROBUST)
        await asyncio.sleep(6)
        assert np.allclose(late.vitals.state.x, GOAL, atol=0.05)
        assert faults(swarm, "d4", "rescued") == ["newcomer: 3 models"]

    swarm.play(script)


def test_a_newcomer_that_gets_too_few_answers_takes_none() -> None:
    swarm = Swarm()

    async def script() -> None:
        for name in ("a1", "b2", "c3"):
            swarm.start(name, Quadratic(GOAL, 0.02), **ROBUST)
        await asyncio.sleep(30)
        answers_pulls_with(swarm.nodes["c3"], -50 * GOAL)
        for name in ("a1", "b2"):
            answers_pulls_with(swarm.nodes[name], GOAL[:7])
        late = swarm.start("d4", Quadratic(GOAL * 0, 0.0), **ROBUST)
        await asyncio.sleep(10)
        assert np.linalg.norm(late.vitals.state.x) < 20 * np.linalg.norm(GOAL)
        assert faults(swarm, "d4", "rescued") == []

    swarm.play(script)


def test_with_a_single_other_a_newcomer_has_no_choice() -> None:
    swarm = Swarm()

    async def script() -> None:
        swarm.start("a1", Quadratic(GOAL, 0.02), **ROBUST)
        await asyncio.sleep(30)
        late = swarm.start("b2", Quadratic(GOAL, 0.0), **ROBUST)
        await asyncio.sleep(6)
        assert np.allclose(late.vitals.state.x, GOAL, atol=0.05)
        assert faults(swarm, "b2", "rescued") == ["newcomer: 1 models"]

    swarm.play(script)
