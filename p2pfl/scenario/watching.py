"""Looks at running nodes from outside, as a person with a browser would, and keeps what it saw.

    twice a second   GET  /v1/status of every node, each in its own loop and with a short time-out,
                     so that a frozen node delays nobody
    once a second    POST /v1/pull: the weights of all nodes that answer, where the model is small,
                     for the exact consensus distance

Rule of the file: watching changes nothing; what our pulls cost is taken out of the nodes' byte
counts. Whoever does not answer is missing from the figures of the swarm, never guessed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from p2pfl.core import wire
from p2pfl.core.messages import Model, Packet, Pull
from p2pfl.core.mixing import consensus_distance
from p2pfl.core.weights import Vector
from p2pfl.errors import WireError
from p2pfl.ports import Clock
from p2pfl.scenario.processes import Condition, NodeProcess, Swarm

log = logging.getLogger(__name__)

PULL_VALUES_MAX = 1 << 20
"""Above so many weights pulling every model every second would itself be a load."""
FRESH_S = 2.0
"""What a node said longer ago says nothing of now."""
STATUS_EVERY_S = 0.5
"""The usual pause between two looks at a node."""

_PULL_EVERY_S = 1.0
_PATIENCE_S = 1.0
_MIXED = ("flow", "adopt", "adopted")


@dataclass(frozen=True, slots=True)
class Look:
    """What one node said of itself at one time.

    Attributes:
        at: seconds by the watcher's clock.
        name: the node's label.
        state: as the node calls it: starting, training, alone, leaving.
        accuracy, measured_at: its latest evaluation, and when that was; None before the first.
        neighbours: nodes it may mix with now.
        alive: other members it believes alive.
        exchanges: models mixed or adopted, at either end.
        staleness: in cycles, of the models it mixed lately.
        bytes_in, bytes_out: moved for the protocol, ours not counted.
        node: its id.
        pending: exchanges left to RESOLVE; None if it does not say.
    """

    at: float
    name: str
    state: str
    run: str
    layout: str
    parameters: int
    incarnation: int
    age: int
    own_steps: int
    cycles: int
    loss: float | None
    accuracy: float | None
    measured_at: float | None
    neighbours: int
    alive: int
    exchanges: int
    staleness: float
    bytes_in: int
    bytes_out: int
    node: str = ""
    pending: int | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """The swarm at one time, over the nodes that answered.

    Attributes:
        mean, worst: of their latest accuracies; None where there is none.
        distance: Ξ, the consensus distance of their weights; None where it was not measured.
    """

    at: float
    answering: int
    mean: float | None
    worst: float | None
    distance: float | None


@dataclass(slots=True)
class _Pulled:
    """What pulling from one life of a node has cost it."""

    incarnation: int
    bytes_in: int = 0
    bytes_out: int = 0


def look(at: float, status: Mapping[str, Any], pulled: tuple[int, int] = (0, 0)) -> Look:
    """Read a node's `/v1/status`.

    Args:
        at: when it was answered, by the watcher's clock.
        status: the JSON object.
        pulled: bytes in and out that the watcher itself caused.

    Raises:
        KeyError: it is another thing.
    """
    ago = status["measured_ago_s"]
    counts = status["exchanges"]["asked"], status["exchanges"]["answered"]
    return Look(
        at=at,
        name=status["name"],
        state=status["state"],
        run=status["run"],
        layout=status["layout"],
        parameters=status["parameters"],
        incarnation=status["incarnation"],
        age=status["age"],
        own_steps=status["own_steps"],
        cycles=status["cycles"],
        loss=status["loss"],
        accuracy=status["accuracy"],
        measured_at=None if ago is None else at - ago,
        neighbours=len(status["neighbours"]),
        alive=sum(m["status"] == "alive" for m in status["members"] if m["node"] != status["node"]),
        exchanges=sum(count.get(outcome, 0) for count in counts for outcome in _MIXED),
        staleness=status["staleness_cycles"],
        bytes_in=max(status["bytes_in"] - pulled[0], 0),
        bytes_out=max(status["bytes_out"] - pulled[1], 0),
        node=status["node"],
        pending=status.get("unresolved"),
    )


def together(at: float, looks: list[Look], distance: float | None) -> Together:
    """Sum up those who answer."""
    accuracies = [seen.accuracy for seen in looks if seen.accuracy is not None]
    mean = float(np.mean(accuracies)) if accuracies else None
    return Together(at, len(looks), mean, min(accuracies, default=None), distance)


class Watch:
    """Watches the nodes of a swarm while `running` is open.

    Args:
        swarm: whom to watch.
        clock: seconds; all times here are by it.
        every_s: pause between two looks at a node.

    Attributes:
        looks: all that each node said, by name and time.
        history: of the swarm, by time.
    """

    def __init__(self, swarm: Swarm, clock: Clock, every_s: float = STATUS_EVERY_S) -> None:
        self.looks: defaultdict[str, list[Look]] = defaultdict(list)
        self.history: list[Together] = []
        self._swarm = swarm
        self._clock = clock
        self._every_s = every_s
        self._pulled: dict[str, _Pulled] = {}
        self._id = secrets.token_hex(16)

    def answering(self) -> list[Look]:
        """The latest looks at those who answer now."""
        now, nodes = self._clock(), self._swarm.nodes
        running = (name for name, node in nodes.items() if node.condition is Condition.RUNNING)
        last = (seen for seen in map(self.last, running) if seen is not None)
        return [seen for seen in last if now - seen.at < FRESH_S]

    def last(self, name: str) -> Look | None:
        """What a node said last, however long ago that was."""
        looks = self.looks[name]
        return looks[-1] if looks else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch all nodes that have been added, for as long as it is open."""
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._follow(session, node), name=f"watch {node.name}")
                for node in self._swarm.nodes.values()
            ]
            loops.append(tasks.create_task(self._sum_up(session), name="watch all"))
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()

    async def _follow(self, session: aiohttp.ClientSession, node: NodeProcess) -> None:
        while True:
            began = self._clock()
            if node.condition.is_alive and node.name in self._swarm.addresses:
                await self._ask(session, node.name, self._swarm.addresses[node.name])
            await asyncio.sleep(max(self._every_s - (self._clock() - began), 0.0))

    async def _ask(self, session: aiohttp.ClientSession, name: str, address: str) -> None:
        try:
            async with session.get(f"http://{address}/v1/status") as response:
                status = await response.json()
            cost = self._pulled.get(name, _Pulled(0))
            if cost.incarnation != status["incarnation"]:
                cost = self._pulled[name] = _Pulled(status["incarnation"])
            seen = look(self._clock(), status, (cost.bytes_in, cost.bytes_out))
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError) as error:
            log.debug("%s at %s does not answer: %s", name, address, error)
            return
        # an address that was given up may be another node's by now
        if (seen.name, seen.run) == (name, self._swarm.run):
            self.looks[name].append(seen)

    async def _sum_up(self, session: aiohttp.ClientSession) -> None:
        while True:
            began = self._clock()
            seen = self.answering()
            if seen:
                distance = await self._distance(session, seen)
                self.history.append(together(began, seen, distance))
            await asyncio.sleep(max(_PULL_EVERY_S - (self._clock() - began), 0.0))

    async def _distance(self, session: aiohttp.ClientSession, seen: list[Look]) -> float | None:
        if max(one.parameters for one in seen) > PULL_VALUES_MAX:
            return None
        async with asyncio.TaskGroup() as tasks:
            pulls = [tasks.create_task(self._pull(session, one)) for one in seen]
        models = [model for pull in pulls if (model := pull.result()) is not None]
        if len(models) < 2 or len({model.size for model in models}) > 1:
            return None
        return await asyncio.to_thread(consensus_distance, np.stack(models))

    async def _pull(self, session: aiohttp.ClientSession, seen: Look) -> Vector | None:
        """A node's weights, or None if it has no history yet or does not answer."""
        address = self._swarm.addresses.get(seen.name)
        if address is None:
            return None
        question = Packet(
            run=seen.run,
            layout=seen.layout,
            sender=self._id,
            address=address,
            incarnation=1,
            body=Pull(),
        )
        body = wire.encode(question)
        try:
            async with session.post(f"http://{address}/v1/pull", data=body) as response:
                answer = await response.read()
            packet = wire.decode(answer)
        except (aiohttp.ClientError, OSError, TimeoutError, WireError) as error:
            log.debug("%s at %s gives no model: %s", seen.name, address, error)
            return None
        cost = self._pulled.get(seen.name)
        if cost is not None and cost.incarnation == packet.incarnation:
            cost.bytes_in += len(body)
            cost.bytes_out += len(answer)
        if isinstance(packet.body, Model) and packet.body.payload is not None:
            return packet.body.payload.values()
        return None
