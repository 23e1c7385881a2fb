"""Looks at a virtual swarm from outside: exact figures of the models as they are at one moment.

Hostile nodes are left out of every figure: what they reach is their own affair.

Rule of the file: looking changes nothing, takes no virtual time and asks no chance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.messages import Flow
from p2pfl.core.mixing import consensus_distance
from p2pfl.core.weights import Vector
from p2pfl.node import Node
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.recorder import Tallies
from p2pfl.scenario.trace import Floats
from p2pfl.sim.presence import Presence
from p2pfl.sim.world import Machine, World


class Looks:
    """The looks at one world so far: each list has one entry a look; see `Trace` for the names.

    Args:
        hostile: places of the hostile nodes.
    """

    def __init__(
        self,
        world: World,
        learners: Learners,
        tallies: Tallies,
        hostile: Collection[int] = (),
    ) -> None:
        self.times: list[float] = []
        self.presence: list[NDArray[np.int8]] = []
        self.accuracy: list[Floats] = []
        self.cycles: list[Floats] = []
        self.age: list[Floats] = []
        self.sent: list[Floats] = []
        self.messages: list[Floats] = []
        self.distance: list[float] = []
        self.pending: list[float] = []
        self.drift: list[float] = []
        self.optimum: list[float] = []
        self.backdoor: list[float] = []
        self.suspended: list[float] = []
        self._hostile = frozenset(hostile)
        self._world, self._learners, self._tallies = world, learners, tallies

    def look(self) -> None:
        """Note how everything stands."""
        machines = self._world.machines
        nodes = [None if m.place in self._hostile else m.node for m in machines]
        up = [at for at, m in enumerate(machines) if m.presence is Presence.UP and nodes[at]]
        models = np.stack([_x(nodes[at]) for at in up]) if up else np.empty((0, 1), np.float32)
        accuracy = np.full(len(machines), np.nan)
        accuracy[up] = self._learners.accuracy(models)
        self.times.append(self._world.loop.time())
        self.presence.append(np.array([m.presence for m in machines], np.int8))
        self.accuracy.append(accuracy)
        self.cycles.append(self._honest(self._tallies.cycles.astype(np.float64)))
        self.age.append(np.array([_age(node) for node in nodes]))
        self.sent.append(self._honest(np.array([_sent(machine) for machine in machines])))
        self.messages.append(self._honest(np.array([_messages(machine) for machine in machines])))
        self.distance.append(consensus_distance(models) if len(up) > 1 else np.nan)
        self.pending.append(float(max((_pending(node) for node in nodes if node), default=0)))
        self.drift.append(self._drift())
        optimum = self._learners.optimum
        known = optimum is not None and len(up) > 0
        off = models.mean(axis=0, dtype=np.float64) - optimum if known else np.nan
        self.optimum.append(float(np.linalg.norm(off)) if known else np.nan)
        success = self._learners.backdoor_success(models) if up else None
        if success is not None:
            self.backdoor.append(success)
        if self._hostile:
            self.suspended.append(self._suspended())

    def _honest(self, values: Floats) -> Floats:
        """(n,) values, unknown for hostile nodes."""
        values[list(self._hostile)] = np.nan
        return values

    def _suspended(self) -> float:
        """The share of hostile nodes that honest ones keep away from, mean over those."""
        now = self._world.loop.time()
        bad = [m.disk.node for m in self._world.machines if m.place in self._hostile]
        shares = []
        for machine in self._world.machines:
            if machine.place in self._hostile or machine.node is None:
                continue
            vitals = machine.node.vitals
            # asked, it would forget what is over
            opinion = deepcopy(vitals.reputation)
            away = [node in vitals.denied or opinion.is_suspended(node or "", now) for node in bad]
            shares.append(np.mean(away))
        return float(np.mean(shares)) if shares else np.nan

    def _drift(self) -> float:
        """‖Σx - Σx⁰‖/n; a flow that was added at one end and is yet to be subtracted counts."""
        initial = self._learners.initial
        if initial is None:
            return np.nan
        machines = self._world.machines
        total = -initial.sum(axis=0, dtype=np.float64)
        by_id = {m.disk.node: m.node for m in machines if m.node is not None}
        for machine in machines:
            total += self._weights(machine)
            for flow in _under_way(machine, by_id):
                total -= flow
        return float(np.linalg.norm(total)) / len(machines)

    def _weights(self, machine: Machine) -> Vector:
        if machine.node is not None:
            return _x(machine.node)
        saved = machine.disk.newest or machine.disk.previous
        if saved is not None:
            return saved.weights
        assert self._learners.initial is not None
        weights: Vector = self._learners.initial[machine.place]
        return weights


def _under_way(machine: Machine, by_id: dict[str, Node]) -> Iterator[Floats]:
    """Flows that the answerer has added and this asker is yet to subtract."""
    node = machine.node
    if node is None:
        return
    for pending in node.vitals.state.outbox:
        answerer = by_id.get(pending.peer)
        if answerer is None or pending.lineage != node.vitals.state.lineage:
            continue
        kept = answerer.vitals.state.inbox.find(machine.disk.node, pending.seq)
        if kept is not None and isinstance(kept.answer, Flow):
            values = kept.answer.payload.values().astype(np.float64)
            values[: pending.settled] = 0
            yield values


def _x(node: Node | None) -> Vector:
    assert node is not None
    return node.vitals.state.x


def _age(node: Node | None) -> float:
    return np.nan if node is None else float(node.vitals.state.age)


def _pending(node: Node) -> int:
    return sum(pending.unresolved for pending in node.vitals.state.outbox)


def _sent(machine: Machine) -> float:
    now = 0 if machine.life is None else machine.life.transport.traffic.bytes_out
    return float(machine.bytes_out + now)


def _messages(machine: Machine) -> float:
    now = 0 if machine.life is None else machine.life.transport.messages
    return float(machine.messages + now)
