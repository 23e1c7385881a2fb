"""The life of a node: its loops in one TaskGroup, and its farewell.

Rules of the file: tasks are named; a surprise in a loop ends the node, one in what concerns a
single peer does not (`Node._guarded`); cancellation is how a node stops, and whatever ends `run`,
the farewell settles open exchanges, saves evidence and a checkpoint and says goodbye, within
bounds.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import numpy as np

from p2pfl.config import NodeConfig
from p2pfl.core import events
from p2pfl.core.compression import CODECS
from p2pfl.core.gossip import GossipState
from p2pfl.core.membership import Membership
from p2pfl.core.messages import AGE_MAX, mismatch
from p2pfl.core.momentum import QuasiGlobalMomentum
from p2pfl.core.neighbours import rule
from p2pfl.core.reputation import Reputation
from p2pfl.core.robust import can_judge, smallest
from p2pfl.core.statements import Evidence
from p2pfl.core.tally import Tally
from p2pfl.core.weights import Layout
from p2pfl.errors import ConfigError
from p2pfl.node.answering import Answering
from p2pfl.node.asking import Asking
from p2pfl.node.courtesy import LOOK_S
from p2pfl.node.meeting import Meeting
from p2pfl.node.requests import Requests
from p2pfl.node.sketches import sketches
from p2pfl.node.training import Finished, Training, leased
from p2pfl.node.vitals import Vitals
from p2pfl.ports import (
    Clock,
    Conditions,
    DenyList,
    Discovery,
    Journal,
    Learner,
    Notary,
    Run,
    Saved,
    Store,
    Transport,
)

log = logging.getLogger(__name__)

_UPKEEP_S = 0.2
_SETTLING_S = 1.0
_GOODBYES = 3


class Node:
    """One member of the swarm.

    Args:
        node_id: who we are, hex digits; names are labels, never identities.
        incarnation: how often this id was started; grows with every start.
        config: everything that can be configured.
        learner: the model and its data.
        transport, discovery, journal, store: the world, see `p2pfl.ports`.
        clock: monotonic seconds.
        run: runs training, and writes checkpoints and evidence, off the event loop.
        rng: chance.
        saved: where to continue, or None to start from the run's initial weights.
        notary: signs snapshots; None where nothing is signed.
        deny_list: who may not take part.
        evidence: told when a peer is convicted, to keep the proof; it may write to a disk.
        conditions: looks at the device, for courtesy; None where there is none to look at.

    Raises:
        ConfigError: a robust rule has too few models to judge, an exchange would take longer than
            it is waited for, or courtesy needs `conditions` that are not given.
    """

    def __init__(
        self,
        *,
        node_id: str,
        incarnation: int,
        config: NodeConfig,
        learner: Learner,
        transport: Transport,
        discovery: Discovery,
        journal: Journal,
        store: Store | None,
        clock: Clock,
        run: Run,
        rng: np.random.Generator,
        saved: Saved | None = None,
        notary: Notary | None = None,
        deny_list: DenyList | None = None,
        evidence: Callable[[Evidence], None] | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        _check_that_rule_has_enough(config)
        _check_that_courtesy_can_be_kept(config, learner.layout, conditions)
        self._resumed = saved is not None
        if saved is None:
            saved = Saved(learner.initial(), None, None, 0, 0, 0)
        momentum = QuasiGlobalMomentum(config.momentum, saved.momentum, saved.previous)
        state = GossipState(
            saved.weights,
            config.gossip,
            config.limits,
            momentum,
            rng,
            robust=config.robust if config.trust == "byzantine" else None,
            age=min(saved.age, AGE_MAX),
            own_steps=saved.own_steps,
        )
        members = Membership(
            node_id, incarnation, config.membership, rng, max_peers=config.limits.peers
        )
        self.vitals = Vitals(
            id=node_id,
            incarnation=incarnation,
            config=config,
            layout=learner.layout,
            state=state,
            members=members,
            rule=rule(config.topology),
            tally=Tally(config.limits.peers),
            transport=transport,
            journal=journal,
            clock=clock,
            rng=rng,
            started_at=clock(),
            last_cycle_at=clock(),
            cycles=saved.cycles,
            names={node_id: config.name},
            notary=notary,
            reputation=Reputation(config.reputation, config.limits.peers),
            convicted=None if evidence is None else self._convicted,
            deny_list=deny_list,
        )
        self._tasks: asyncio.TaskGroup | None = None
        requests = Requests(self.vitals)
        self.asking = Asking(self.vitals, requests, self._spawn)
        self._meeting = Meeting(self.vitals, requests, self._spawn)
        self._answering = Answering(self.vitals)
        self._training = Training(
            self.vitals, learner, run, self._start_exchanges, self._checkpoint
        )
        self._discovery = discovery
        self._store = store
        self._run = run
        self._conditions = conditions
        self._evidence = evidence
        self._cases: deque[Evidence] = deque()
        self._is_keeping = False
        self._is_saving = False

    async def run(self) -> str:
        """Live until cancelled or until a condition of `config.stop` holds, and say which.

        Raises:
            NetworkError: the address cannot be bound.
        """
        vitals, reason = self.vitals, "cancelled"
        async with vitals.transport.serve(self._answering):
            vitals.journal.record(
                events.Started(
                    vitals.clock(),
                    vitals.id,
                    vitals.config.name,
                    vitals.config.run,
                    vitals.layout.digest,
                    vitals.transport.address,
                    vitals.incarnation,
                    vitals.state.age,
                    self._resumed,
                )
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    tasks.create_task(self._training.cycles(), name="train")
                    tasks.create_task(self._watch(), name="watch")
                    tasks.create_task(self._upkeep(), name="upkeep")
                    tasks.create_task(self._checkpoints(), name="checkpoints")
                    tasks.create_task(self._deadline(), name="deadline")
                    if vitals.figures is not None:
                        tasks.create_task(sketches(vitals, vitals.figures), name="sketches")
                    if self._conditions is not None:
                        tasks.create_task(self._look_around(self._conditions), name="conditions")
            except* Finished as finished:
                reason = str(finished.exceptions[0])
            finally:
                self._tasks = None
                await self._farewell(reason)
        return reason

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run what concerns one peer in the node's TaskGroup; once that is gone, nothing begins."""
        if self._tasks is None:
            coroutine.close()
        else:
            self._begin(self._tasks, coroutine, name)

    def _begin(
        self, tasks: asyncio.TaskGroup, coroutine: Coroutine[Any, Any, None], name: str
    ) -> None:
        task = tasks.create_task(self._guarded(coroutine, name), name=name)
        # cancelled before its first step, the guard never comes to await it
        task.add_done_callback(lambda _: coroutine.close())

    async def _guarded(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Where what concerns a single peer ends, and the life of the node begins.

        Style rule 11 (nobody catches bare `Exception`) is broken here on purpose, and only here: a
        bug of ours that some peer's words set off would otherwise be a switch with which any member
        turns every node off. It is logged as a bug and counted; what it was about is whole again,
        because an exchange that was opened is left to RESOLVE (`asking.py`) and `meeting.py` cleans
        up in `finally`. What is no peer's business, the loops, fails as loudly as ever, and so does
        everything in a simulation (`sim/world.py`).

        Raises:
            Finished: the node is to end.
        """
        try:
            await coroutine
        except Finished:
            raise
        except Exception as error:
            self.vitals.bug(name, error)

    def _start_exchanges(self) -> None:
        self._spawn(self.asking.after_cycle(), name="exchanges")

    # --- loops ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """What discovery sees: members to be met, and others to be listed with the reason."""
        vitals = self.vitals
        async with aclosing(self._discovery.events()) as sightings:
            async for sighting in sightings:
                if sighting.gone:
                    for address in sighting.addresses:
                        vitals.others.pop(address, None)
                    continue
                if not sighting.addresses or sighting.node == vitals.id:
                    continue
                if (
                    sighting.node
                    and sighting.name
                    and len(vitals.names) < vitals.config.limits.peers
                ):
                    vitals.names[sighting.node] = sighting.name
                other = mismatch(
                    vitals.config.run, vitals.layout.digest, sighting.run, sighting.layout
                )
                if other is not None:
                    vitals.keep_out(sighting.addresses[0], other)
                else:
                    self._spawn(self._meeting.meet(sighting), name=f"meet {sighting.addresses[0]}")

    async def _upkeep(self) -> None:
        """Probes that are due, exchanges whose end is not known, memory past its horizon."""
        vitals = self.vitals
        while True:
            now = vitals.clock()
            self._look_at_deny_list()
            self.asking.let_slow_ones_go_on()
            for ask in vitals.members.tick(now):
                self._spawn(self._meeting.probe(ask), name=f"probe {ask.target[:8]}")
            vitals.note(vitals.members.changes())
            alive = vitals.members.live()
            for pending in vitals.state.outbox.overdue(now):
                if pending.peer in alive and not vitals.keeps_away_from(pending.peer):
                    self._spawn(self.asking.resolve(pending), name=f"resolve {pending.seq}")
            if vitals.state.judging is not None and vitals.state.gate.needs_rescue():
                self._spawn(self._meeting.rescue(), name="rescue")
            for pending in vitals.state.expire(now):
                vitals.fault("unresolved", f"exchange {pending.seq} with {pending.peer[:8]}")
            vitals.hold_back()
            await asyncio.sleep(_UPKEEP_S)

    async def _look_around(self, conditions: Conditions) -> None:
        """What the device is like, for courtesy; ends where nothing depends on it."""
        while True:
            seen = await self._run(conditions.look)
            self.vitals.courtesy.saw(seen)
            if seen.energy_j is None and not self.vitals.config.courtesy.needs_looking:
                return
            await asyncio.sleep(LOOK_S)

    def _look_at_deny_list(self) -> None:
        if self.vitals.deny_list is not None:
            for denial in self.vitals.deny_list.fresh():
                self.vitals.deny(denial)

    async def _checkpoints(self) -> None:
        while self._store is not None:
            await asyncio.sleep(self.vitals.config.checkpoint_every_s)
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        """Save, unless that is just being done: two that write at once would disturb each other."""
        if self._store is None or self._is_saving:
            return
        self._is_saving = True
        try:
            await self._save(self._store)
        finally:
            self._is_saving = False

    async def _save(self, store: Store) -> None:
        vitals, momentum = self.vitals, self.vitals.state.momentum
        async with leased(vitals, "float32") as snapshot:
            saved = Saved(
                snapshot.encoded.values(),
                None if momentum.drift is None else await self._run(np.copy, momentum.drift),
                None if momentum.previous is None else await self._run(np.copy, momentum.previous),
                snapshot.age,
                snapshot.own_steps,
                vitals.cycles,
            )
            try:
                await self._run(store.save, saved)
            except OSError as error:
                vitals.fault("checkpoint", f"not written, the previous one is intact: {error}")

    async def _deadline(self) -> None:
        minutes = self.vitals.config.stop.minutes
        if minutes is not None:
            await asyncio.sleep(60 * minutes)
            raise Finished(f"{minutes:g} minutes are over")

    # --- evidence -------------------------------------------------------------------------------

    def _convicted(self, evidence: Evidence) -> None:
        """Have a proof kept, one after the other: a disk may take a fifth of a second for each."""
        self._cases.append(evidence)
        if not self._is_keeping:
            self._is_keeping = True
            self._spawn(self._keep_cases(), name="evidence")

    async def _keep_cases(self) -> None:
        try:
            while self._cases and self._evidence is not None:
                case = self._cases.popleft()
                try:
                    await self._run(self._evidence, case)
                except asyncio.CancelledError:
                    # it may not have begun: the farewell does it, once more if need be
                    self._cases.appendleft(case)
                    raise
        finally:
            self._is_keeping = False

    # --- the end --------------------------------------------------------------------------------

    async def _farewell(self, reason: str) -> None:
        vitals = self.vitals
        vitals.leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLING_S), asyncio.TaskGroup() as tasks:
                for pending in list(vitals.state.outbox):
                    vitals.state.unanswered(pending, vitals.clock())
                    self._begin(tasks, self.asking.resolve(pending), name=f"resolve {pending.seq}")
        await self._guarded(self._keep_cases(), name="evidence")
        if self._store is not None:
            await self._save(self._store)
        told = self.asking.pick(_GOODBYES)
        vitals.members.leave()
        async with asyncio.TaskGroup() as tasks:
            for peer in told:
                self._begin(tasks, self._meeting.say_goodbye(peer), name=f"goodbye {peer[:8]}")
        vitals.journal.record(events.Stopped(vitals.clock(), reason))


def _check_that_rule_has_enough(config: NodeConfig) -> None:
    robust, others = config.robust, config.robust.models - 1
    if config.trust == "cooperative" or robust.rule == "clip":
        return
    if not can_judge(robust, others):
        hostile = math.ceil(robust.hostile * others)
        needed = smallest(robust.rule, hostile, nearest=robust.nearest)
        raise ConfigError(
            f"robust.models is {robust.models}; {robust.rule} with {hostile} of {others} others "
            f"hostile needs at least {needed}: raise it, or lower robust.hostile"
        )


def _check_that_courtesy_can_be_kept(
    config: NodeConfig, layout: Layout, conditions: Conditions | None
) -> None:
    if config.courtesy.needs_looking and conditions is None:
        raise ConfigError(
            "courtesy.quiet, only_on_ac and only_when_load_below need a real device; here there "
            "is none, leave them out"
        )
    rate, most = config.courtesy.rate_bytes_per_s, config.gossip.retry_horizon_s / 2
    takes_s = 2 * CODECS[config.gossip.codec].nbytes(layout.size) / rate if rate else 0.0
    if takes_s > most:
        raise ConfigError(
            f"courtesy.rate_bytes_per_s is {rate:g}; one exchange of this model takes "
            f"{takes_s:.0f} s, expected at most {most:g}: raise it or gossip.retry_horizon_s, or "
            "choose a smaller gossip.codec"
        )
