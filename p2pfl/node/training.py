"""The training cycle: snapshot, K local steps off the event loop, add the delta.

Exchanges go on meanwhile; a learner returns a delta so that they are not erased (PROTOCOL
section 3). Training and evaluation take turns, so a learner is never entered twice.

Rule of the file: what goes wrong in training changes nothing and is said; what goes wrong again
and again returns to the last weights that could be trained on.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import numpy as np

from p2pfl.config import RobustConfig
from p2pfl.core import events
from p2pfl.core.meters import smoothed
from p2pfl.core.pace import Pace
from p2pfl.core.robust import can_judge, judged
from p2pfl.core.snapshots import Snapshot
from p2pfl.core.weights import Vector, is_finite, read_only
from p2pfl.errors import LearnerError
from p2pfl.node.vitals import Vitals, drive
from p2pfl.ports import Learner, Run, Update

_TRIES_BEFORE_ROLL_BACK = 3
_TOO_FEW_S = 10.0


class Finished(Exception):  # noqa: N818 (a way to end, not an error)
    """A condition of `StopConfig` holds."""


class leased:  # noqa: N801 (used as a context manager)
    """The present weights, encoded; shared with whoever else wants this version."""

    __slots__ = ("_codec", "_snapshot", "_vitals")

    def __init__(self, vitals: Vitals, codec: str) -> None:
        self._vitals, self._codec = vitals, codec

    async def __aenter__(self) -> Snapshot:
        self._snapshot = self._vitals.state.snapshot(self._codec, self._vitals.clock())
        try:
            await drive(self._snapshot.work)
        except BaseException:
            await self.__aexit__()
            raise
        return self._snapshot

    async def __aexit__(self, *_: object) -> None:
        self._vitals.state.snapshots.release(self._snapshot)


class Training:
    """Trains until it is cancelled or a stop condition holds.

    Args:
        vitals: the node.
        learner: the model and its data.
        run: runs the learner off the event loop.
        after_cycle: called after every cycle, to start exchanges.
        before_rest: awaited before training rests out of courtesy, to write a checkpoint.
    """

    def __init__(
        self,
        vitals: Vitals,
        learner: Learner,
        run: Run,
        after_cycle: Callable[[], None],
        before_rest: Callable[[], Awaitable[None]],
    ) -> None:
        self._vitals = vitals
        self._learner = learner
        self._run = run
        self._after_cycle = after_cycle
        self._before_rest = before_rest
        self._good: Snapshot | None = None
        self._failures = 0
        self._too_few_since = vitals.clock()
        self.pace = Pace(vitals.config.train)
        self._cycles_before = vitals.cycles

    async def cycles(self) -> None:
        """Train for ever.

        Raises:
            Finished: a stop condition holds.
        """
        vitals, stop = self._vitals, self._vitals.config.stop
        evaluated = vitals.last_cycle_at
        while True:
            if vitals.courtesy.rests:
                await self._rest()
            started = vitals.clock()
            if await self._cycle():
                self._after_cycle()
            done = vitals.cycles - self._cycles_before
            over = stop.cycles is not None and done >= stop.cycles
            due = vitals.clock() - evaluated >= vitals.config.train.evaluate_every_s
            if over or due or vitals.measured is None:
                await self._evaluate()
                evaluated = vitals.clock()
            if over:
                raise Finished(f"{done} cycles are done")
            await asyncio.sleep(self.pace.pause(vitals.clock() - started))

    async def _rest(self) -> None:
        """Wait until training may go on; how long that was is no measure of a cycle."""
        await self._before_rest()
        since = self._vitals.clock()
        await self._vitals.courtesy.may_train()
        self._vitals.last_cycle_at += self._vitals.clock() - since

    async def _cycle(self) -> bool:
        vitals, state = self._vitals, self._vitals.state
        lineage, steps, drift = state.lineage, self.pace.steps, state.drift()
        async with leased(vitals, "float32") as snapshot:
            weights = read_only(snapshot.encoded.values())
            started = vitals.clock()
            try:
                update = await self._run(_step, self._learner, weights, steps, drift)
            except LearnerError as error:
                await self._recover(error)
                return False
            seconds = vitals.clock() - started
            self._trust(snapshot)
        self.pace.took(update.steps, seconds)
        now = vitals.clock()
        await drive(state.apply(update.delta, update.steps, update.learning_rate, lineage))
        await self._judge()
        state.cycle_s = smoothed(state.cycle_s, now - vitals.last_cycle_at)
        vitals.last_cycle_at = now
        vitals.cycles += 1
        vitals.loss = update.loss
        vitals.journal.record(
            events.Cycle(
                now,
                vitals.cycles,
                update.steps,
                state.age,
                state.own_steps,
                update.loss,
                seconds,
            )
        )
        return True

    async def _judge(self) -> None:
        """Let a robust rule judge the fresh models that came, once there are enough of them."""
        vitals, state, judging = self._vitals, self._vitals.state, self._vitals.state.judging
        if judging is None or not judging.arrived:
            return
        neighbours = len(vitals.rule.neighbours(vitals.id, vitals.members.met(), vitals.names))
        arrived = judging.take_arrived(neighbours)
        if arrived is None:
            self._warn_if_too_few(judging.config, neighbours)
            return
        lineage = state.lineage
        async with leased(self._vitals, "float32") as snapshot:
            own = read_only(snapshot.encoded.values())
            moved = await self._run(_judged, judging.config, own, tuple(arrived.values()))
        await drive(state.merge(moved, lineage))

    def _warn_if_too_few(self, robust: RobustConfig, neighbours: int) -> None:
        """Once, when a rule has mixed nothing for a while because the swarm is too small for it."""
        now = self._vitals.clock()
        if can_judge(robust, min(neighbours, robust.models - 1)):
            self._too_few_since = now
        elif now - self._too_few_since >= _TOO_FEW_S:
            self._too_few_since = math.inf
            self._vitals.fault(
                "too-few",
                f"{robust.rule} cannot judge the models of {neighbours} "
                f"neighbour{'s' * (neighbours != 1)}, of which {robust.hostile:.0%} may be "
                'hostile: nothing is mixed until there are more (robust.rule = "clip" needs none)',
            )

    def _trust(self, snapshot: Snapshot) -> None:
        """These weights could be trained on: the ones to return to if training goes wrong."""
        self._failures = 0
        if self._good is not None:
            self._vitals.state.snapshots.release(self._good)
        snapshot.users += 1
        self._good = snapshot

    async def _recover(self, error: LearnerError) -> None:
        state, config = self._vitals.state, self._vitals.config.train
        self._failures += 1
        detail = f"{error}; the update was dropped"
        broken = not is_finite(state.x) or self._failures >= _TRIES_BEFORE_ROLL_BACK
        if broken and self._good is not None:
            await drive(state.roll_back(self._good.encoded.values()))
            detail = f"{error}; rolled back to the last good weights"
        self._vitals.fault("training", detail)
        await asyncio.sleep(min(0.1 * 2 ** min(self._failures, 10), config.backoff_max_s))

    async def _evaluate(self) -> None:
        vitals, target = self._vitals, self._vitals.config.stop.target_accuracy
        async with leased(vitals, "float32") as snapshot:
            weights, age = read_only(snapshot.encoded.values()), snapshot.age
            try:
                found = await self._run(self._learner.evaluate, weights)
            except LearnerError as error:
                vitals.fault("evaluation", str(error))
                return
        vitals.measured = events.Measured(
            vitals.clock(),
            vitals.cycles,
            age,
            found.loss,
            found.accuracy,
            found.samples,
            found.metrics,
        )
        vitals.journal.record(vitals.measured)
        if vitals.figures is not None:
            vitals.figures.measured(found.accuracy, vitals.loss)
        if target is not None and found.accuracy is not None and found.accuracy >= target:
            raise Finished(f"accuracy {found.accuracy:.3f} reached the target {target:g}")


def _judged(robust: RobustConfig, own: Vector, others: tuple[Vector, ...]) -> Vector:
    """Runs in the worker: what a rule changes of our model, (d,) float32."""
    hostile = math.ceil(robust.hostile * len(others))
    stack = np.stack(others)
    return judged(robust.rule, own, stack, hostile=hostile, clip=0, nearest=robust.nearest) - own


def _step(learner: Learner, weights: Vector, steps: int, drift: Vector | None) -> Update:
    """Runs in the worker: the learner's border is where its numbers are checked, once."""
    update = learner.step(weights, steps, drift)
    if update.delta.shape != weights.shape:
        raise LearnerError(f"update has shape {update.delta.shape}, expected {weights.shape}")
    if not is_finite(update.delta):
        raise LearnerError("update has a value that is not finite")
    return update
