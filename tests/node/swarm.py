"""Whole nodes in virtual time for the tests of the node: a network, quadratic tasks, a journal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2pfl.config import NodeConfig
from p2pfl.core.events import Event, Fault
from p2pfl.core.statements import Evidence
from p2pfl.core.weights import Entry, Layout, Vector
from p2pfl.errors import LearnerError
from p2pfl.node import Node
from p2pfl.node.vitals import BUG
from p2pfl.ports import (
    DenyList,
    Discovery,
    Evaluation,
    Saved,
    Sighting,
    Store,
    Transport,
    Update,
)
from p2pfl.sim.faults import Conditions
from p2pfl.sim.loop import VirtualLoop, run
from p2pfl.sim.network import Network
from p2pfl.sim.notary import SimNotary
from p2pfl.sim.transport import MemoryTransport


@dataclass
class Quadratic:
    """f(x) = |x - target|^2 / 2: every node has its own target, the swarm's optimum is the mean."""

    target: Vector
    learning_rate: float = 0.1
    entries: str = "w"
    broken: bool = False

    @property
    def layout(self) -> Layout:
        return Layout((Entry(self.entries, self.target.shape),))

    def initial(self) -> Vector:
        return np.zeros_like(self.target)

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        if self.broken:
            raise LearnerError("loss is nan")
        z = weights.copy()
        for _ in range(steps):
            z -= self.learning_rate * (z - self.target)
            if drift is not None:
                z -= self.learning_rate * drift
        loss = float(((z - self.target) ** 2).sum() / 2)
        return Update(z - weights, steps, loss, max(self.learning_rate, 1e-9))

    def evaluate(self, weights: Vector) -> Evaluation:
        return Evaluation(float(np.abs(weights - self.target).mean()), 0.5, 1)


@dataclass
class Memory:
    """A journal and a store that keep what they get; a bug ends the world, unless it is awaited."""

    events: list[Event] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    disk_is_full: bool = False
    awaits_bugs: bool = False

    def record(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Fault) and event.kind == BUG and not self.awaits_bugs:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.failure = sys.exception()

    def save(self, saved: Saved) -> None:
        if self.disk_is_full:
            raise OSError(28, "No space left on device")
        self.saved.append(saved)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


@dataclass
class Announced:
    """Discovery through the network's own announcements."""

    network: Network
    sighting: Sighting

    def events(self) -> Any:
        return self.network.announce(self.sighting)


class Swarm:
    """Nodes in one network; `start` and `stop` them inside `play`."""

    def __init__(self, seed: int = 0, **network: Any) -> None:
        self.network = Network(np.random.default_rng(seed), Conditions(**network))
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        self.memories: dict[str, Memory] = {}
        self.ended: dict[str, str] = {}
        self.evidence: list[Evidence] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup

    def start(
        self,
        name: str,
        learner: Any,
        *,
        incarnation: int = 1,
        saved: Saved | None = None,
        step_s: float = 0.005,
        discovery: Discovery | None = None,
        store: Store | None = None,
        notary: bool = False,
        deny_list: DenyList | None = None,
        around: Callable[[MemoryTransport], Transport] = lambda transport: transport,
        evidence: Callable[[Evidence], None] | None = None,
        awaits_bugs: bool = False,
        **config: Any,
    ) -> Node:
        """Put one node on the network; `name` is hex digits and part of its id."""
        loop = asyncio.get_running_loop()
        node_id, address = name.rjust(8, "0"), f"10.0.0.{len(self.nodes) + 1}:1"
        if name in self.nodes:
            address = self.nodes[name].vitals.transport.address
        memory = self.memories.setdefault(name, Memory(awaits_bugs=awaits_bugs))
        settings = NodeConfig.model_validate({"name": name, **config})

        async def modelled(function: Callable[..., Any], /, *args: Any) -> Any:
            result = function(*args)
            await asyncio.sleep(step_s)
            return result

        sighting = Sighting((address,), node_id, settings.run, learner.layout.digest, name=name)
        node = self.nodes[name] = Node(
            node_id=node_id,
            incarnation=incarnation,
            config=settings,
            learner=learner,
            transport=around(self.network.host(address)),
            discovery=discovery or Announced(self.network, sighting),
            journal=memory,
            store=store or memory,
            clock=loop.time,
            run=modelled,
            rng=np.random.default_rng([self.seed, len(self.nodes), incarnation]),
            saved=saved,
            notary=SimNotary(node_id, b"the world's") if notary else None,
            deny_list=deny_list,
            evidence=evidence or self.evidence.append,
        )
        self._tasks[name] = self._group.create_task(self._live(name, node), name=name)
        return node

    async def _live(self, name: str, node: Node) -> None:
        self.ended[name] = await node.run()

    async def stop(self, name: str) -> None:
        """Ctrl-C: cancel the node and wait for its farewell."""
        task = self._tasks.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def homes(self) -> set[str]:
        """Addresses of all nodes."""
        return {node.vitals.transport.address for node in self.nodes.values()}

    def vectors(self) -> np.ndarray:
        """(n, d) float32, the present models."""
        return np.stack([node.vitals.state.x for node in self.nodes.values()])

    def play(self, script: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a script in a virtual world; nodes that still live at its end are stopped."""

        async def world() -> None:
            async with asyncio.TaskGroup() as self._group:
                await script()
                for name in list(self._tasks):
                    if not self._tasks[name].done():
                        await self.stop(name)

        run(world())
