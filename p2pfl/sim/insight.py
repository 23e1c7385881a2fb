"""What hostile members know: everything. The worst case, where they share what they see.

Rule of the file: looking changes nothing, takes no virtual time and asks no chance of an honest
node. All attackers of a world share one `Insight`, so that they can agree without talking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.weights import Vector
from p2pfl.sim.presence import Presence

if TYPE_CHECKING:
    from p2pfl.sim.world import Machine, World

_LOOKS_PER_CYCLE = 4
_PATIENCE_MIN_S, _FIRST_PATIENCE_S = 0.2, 2.0


class Insight:
    """A look into all hosts of one world.

    Args:
        world: whose hosts they are.
        hostile: places of the attackers.
    """

    def __init__(self, world: World, hostile: Collection[int]) -> None:
        self.hostile = frozenset(hostile)
        self._world = world
        self._at_ns = -1
        self._stack: NDArray[np.float32] | None = None
        self._mean: Vector | None = None
        self._means: deque[tuple[int, Vector]] = deque()
        self._odd: int | None = None

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return self._world.loop.time()

    def machines(self) -> list[Machine]:
        """The honest hosts that are up, in order of place."""
        return [
            machine
            for machine in self._world.machines
            if machine.place not in self.hostile
            and machine.presence is Presence.UP
            and machine.life is not None
        ]

    def models(self) -> NDArray[np.float32]:
        """(n, d) the honest models now, in order of place; n may be 0."""
        self._look()
        assert self._stack is not None
        return self._stack

    def mean(self) -> Vector | None:
        """(d,) the mean of the honest models; None while there is none."""
        self._look()
        return self._mean

    def deviation(self) -> Vector | None:
        """(d,) their standard deviation, coordinate by coordinate."""
        models = self.models()
        return models.std(axis=0) if len(models) else None

    def mean_before(self) -> Vector | None:
        """(d,) what the honest mean was one cycle ago, or when it was first looked at."""
        self._look()
        return self._means[0][1] if self._means else None

    def of(self, node: str) -> Vector | None:
        """(d,) the model of the node with that id; None if it is not up."""
        for machine in self._world.machines:
            if machine.life is not None and machine.disk.node == node:
                return machine.life.node.vitals.state.x
        return None

    def reach(self, node: str) -> float:
        """How far a model may be from that node's before it refuses it; infinite if it does not."""
        for machine in self._world.machines:
            if machine.life is not None and machine.disk.node == node:
                state = machine.life.node.vitals.state
                clips = state.judging is not None and state.judging.clips
                return state.gate.reach if clips else np.inf
        return np.inf

    def patience_s(self, asker: str, answerer: str) -> float:
        """About how long `asker` waits for a model from `answerer`."""
        for machine in self._world.machines:
            if machine.life is not None and machine.disk.node == asker:
                vitals = machine.life.node.vitals
                usual = vitals.state.meters.patience_s(answerer, whole=True) or _FIRST_PATIENCE_S
                longest = vitals.config.gossip.exchange_timeout_s
                return min(max(usual, _PATIENCE_MIN_S), longest)
        return _FIRST_PATIENCE_S

    def odd_one(self) -> Vector | None:
        """(d,) the model of one honest node, the same for as long as it is up.

        The one that stands out most along the direction in which the honest models differ most.
        """
        machines = self.machines()
        places = [machine.place for machine in machines]
        if not places:
            return None
        models = self.models()
        if self._odd not in places:
            off = models - models.mean(axis=0)
            direction = np.linalg.svd(off, full_matrices=False)[2][0]
            self._odd = places[int(np.argmax(np.abs(off @ direction)))]
        model: Vector = models[places.index(self._odd)]
        return model

    def _look(self) -> None:
        """Copy the models, once for every instant of virtual time."""
        now_ns = self._world.loop.now_ns
        if now_ns == self._at_ns:
            return
        self._at_ns = now_ns
        machines = self.machines()
        found = [m.life.node.vitals.state.x for m in machines if m.life is not None]
        self._stack = np.stack(found) if found else np.empty((0, 1), np.float32)
        self._mean = self._stack.mean(axis=0) if found else None
        self._remember(now_ns)

    def _remember(self, now_ns: int) -> None:
        if self._mean is None:
            return
        lives = [m.life.node.vitals.state.cycle_s for m in self.machines() if m.life is not None]
        cycle_ns = int(1e9 * float(np.mean(lives)))
        if not self._means or now_ns - self._means[-1][0] >= cycle_ns // _LOOKS_PER_CYCLE:
            self._means.append((now_ns, self._mean))
        while len(self._means) > 1 and self._means[1][0] <= now_ns - cycle_ns:
            self._means.popleft()
