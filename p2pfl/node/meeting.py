"""Keeping up with the members: probes, first meetings, a newcomer's first pull, and goodbyes.

Rule of the file: membership decides (`core/membership.py`), discovery suggests, and what is said
here only carries that out.
"""

from __future__ import annotations

import asyncio
import logging

from p2pfl.core import events
from p2pfl.core.membership import Ask
from p2pfl.core.messages import Ack, Model, Probe, Pull, Reason, Refused
from p2pfl.node.requests import Requests
from p2pfl.node.vitals import Spawn, Vitals, drive
from p2pfl.ports import Sighting

log = logging.getLogger(__name__)

_HELLO_S = 2.0
_GOODBYE_S = 0.5
_GATHERING_S, _GATHERING_STEP_S = 2.0, 0.25
_RESCUES, _RESCUE_PAUSE_S, _PULLS_LEAST = 3, 1.0, 3
_FIRST_PAUSE_S, _STATIC_PAUSE_S, _SEEN_PAUSE_S = 0.25, 30.0, 120.0


class Meeting:
    """Meets, probes and leaves; `spawn` runs its tasks in the node's group."""

    def __init__(self, vitals: Vitals, requests: Requests, spawn: Spawn) -> None:
        self._vitals = vitals
        self._requests = requests
        self._spawn = spawn
        self._meeting: set[tuple[str, ...]] = set()
        self._most = vitals.config.limits.peers
        self._pulling = False

    async def probe(self, ask: Ask) -> None:
        """Carry out one probe that membership asks for, directly or through others.

        Where answers usually take longer than a probe's time-out (a busy link, a large model on
        its way), we wait for as long as is usual.
        """
        members, clock = self._vitals.members, self._vitals.clock
        if ask.via:
            for relay, address in ask.via:
                indirect = self._probe_through(relay, address, ask)
                self._spawn(indirect, name=f"probe {ask.target[:8]} through {relay[:8]}")
            return
        usual = self._vitals.state.meters.patience_s(ask.target, whole=False)
        packet = self._vitals.packet(Probe(), to=ask.target)
        reached = await self._requests.send(ask.addresses[0], packet, max(ask.timeout_s, usual))
        if isinstance(reached.body, Ack):
            members.answered(ask.target)
        else:
            told = members.unanswered(ask.target, clock(), is_gone=reached.is_gone)
            self._vitals.note(told)

    async def _probe_through(self, relay: str, address: str, ask: Ask) -> None:
        members, target = self._vitals.members, ask.target
        packet = self._vitals.packet(Probe(target), to=relay)
        reached = await self._requests.send(address, packet, ask.timeout_s)
        if reached.packet is None:
            return
        if isinstance(reached.body, Ack) and reached.packet.sender == target:
            members.answered(target)
        else:
            members.helped(target)

    async def meet(self, sighting: Sighting) -> None:
        """Say hello to an address until it answers, ever more rarely.

        Whoever was seen once may be the only way to the others: who has been met meanwhile need
        not be asked any more, everybody else is.
        """
        if sighting.addresses in self._meeting or len(self._meeting) >= self._most:
            return
        self._meeting.add(sighting.addresses)
        pause = _FIRST_PAUSE_S
        longest = _STATIC_PAUSE_S if sighting.node is None else _SEEN_PAUSE_S
        try:
            while sighting.node is None or sighting.node not in self._vitals.members.met():
                for address in sighting.addresses:
                    if await self._hello(address, sighting.node):
                        return
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
        finally:
            self._meeting.discard(sighting.addresses)

    async def _hello(self, address: str, node: str | None) -> bool:
        packet = self._vitals.packet(Probe(), to=node)
        reached = await self._requests.send(address, packet, _HELLO_S)
        if reached.packet is None:
            how = "seen, but" if node else "given as a peer, but"
            if node is None and address not in self._vitals.others:
                log.warning("peer %s does not answer: %s; still trying", address, reached.detail)
            why = reached.detail if reached.outcome != "unreachable" else reached.outcome
            self._vitals.keep_out(address, Refused(Reason.UNREACHABLE, f"{how} {why}"[:200]))
            return False
        if isinstance(reached.body, Ack):
            self._vitals.others.pop(address, None)
            await self._catch_up(address, reached.packet.sender, reached.body)
        return True

    async def _catch_up(self, address: str, node: str, ack: Ack) -> None:
        """A newcomer first pulls the model of a neighbour; it never averages."""
        vitals = self._vitals
        if self._pulling or not vitals.state.should_adopt(ack.age):
            return
        if vitals.state.judging is not None:
            # one that is met now may lie; a little later there are several to ask
            self._spawn(self.rescue(_GATHERING_S), name="catch up")
            return
        self._pulling = True
        try:
            model = await self._pull(address, node)
            if model is not None:
                await drive(vitals.state.adopt(model))
                log.info("pulled the model of %s, age %d", node[:8], model.age)
        finally:
            self._pulling = False

    async def rescue(self, gathering_s: float = 0.0) -> None:
        """Adopt the median of several members' models: robust mode, where one alone may lie.

        Args:
            gathering_s: wait so long for more members to be met, if there are few.
        """
        vitals, state = self._vitals, self._vitals.state
        if self._pulling or state.judging is None:
            return
        self._pulling, pulls = True, state.judging.config.pulls
        try:
            why = "refused by all" if state.gate.needs_rescue() else "newcomer"
            waited = 0.0
            while waited < gathering_s and len(self._others()) < pulls:
                await asyncio.sleep(_GATHERING_STEP_S)
                waited += _GATHERING_STEP_S
            for _ in range(_RESCUES):
                models = await self._pull_some(pulls)
                ages = sorted(model.age for model in models)
                if ages and why == "newcomer" and not state.should_adopt(ages[len(ages) // 2]):
                    break
                # of one or two models a single liar chooses, and where nobody else is there is no
                # help; whoever fell silent or was suspended meanwhile is still somebody else
                if models and len(models) >= min(_PULLS_LEAST, len(vitals.members.met()) - 1):
                    await drive(state.adopt_together(models))
                    log.info("adopted the median of %d models", len(models))
                    detail = f"{why}: {len(models)} models"
                    vitals.journal.record(events.Fault(vitals.clock(), "rescued", detail))
                    return
                await asyncio.sleep(_RESCUE_PAUSE_S)
            state.gate.refused_by.clear()
        finally:
            self._pulling = False

    def _others(self) -> list[str]:
        """The members that were met and may be asked for their model."""
        vitals = self._vitals
        return [
            peer
            for peer in vitals.members.met()
            if peer != vitals.id and not vitals.keeps_away_from(peer)
        ]

    async def _pull_some(self, count: int) -> list[Model]:
        """The models of up to `count` members, by chance; those that have one."""
        vitals, others = self._vitals, self._others()
        drawn = vitals.rng.choice(len(others), min(count, len(others)), replace=False)
        async with asyncio.TaskGroup() as tasks:
            pulls = [
                tasks.create_task(self._pull(addresses[0], others[at]))
                for at in drawn
                if (addresses := vitals.members.addresses(others[at]))
            ]
        return [model for pull in pulls if (model := pull.result()) is not None]

    async def _pull(self, address: str, node: str) -> Model | None:
        """A member's model, if it has one and it fits ours."""
        vitals, limits = self._vitals, self._vitals.config.limits
        ask = Pull(vitals.config.gossip.codec)
        timeout = 10.0 + 4 * vitals.layout.size / limits.body_min_bytes_per_s
        reached = await self._requests.send(address, vitals.packet(ask, to=node), timeout)
        model = reached.body
        if not isinstance(model, Model) or model.payload is None:
            return None
        if model.payload.size != vitals.layout.size:
            vitals.accuse(node, Reason.SHAPE)
            return None
        return model

    async def say_goodbye(self, peer: str) -> None:
        """Tell one member that we leave: once `Membership.leave` was called, every packet does."""
        packet = self._vitals.packet(Probe(), to=peer)
        await self._requests.send(self._vitals.members.addresses(peer)[0], packet, _GOODBYE_S)
