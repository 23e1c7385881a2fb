"""Exchanges, from the asker's end, and their RESOLVE.

Rule of the file: a question that was opened ends: settled by its answer, closed because it never
left, or left to RESOLVE; whatever is told about a peer by how it answers is kept for next time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum

from p2pfl.core.compression import CODECS, Bytes
from p2pfl.core.ledger import Pending
from p2pfl.core.messages import (
    Body,
    Busy,
    Exchange,
    Flow,
    Packet,
    Probe,
    Reason,
    Refused,
    Request,
    Resolve,
    Statement,
    payload_of,
)
from p2pfl.core.outcomes import Mixed
from p2pfl.core.snapshots import Snapshot
from p2pfl.core.statements import statement_bytes
from p2pfl.node.requests import Reached, Requests
from p2pfl.node.training import leased
from p2pfl.node.vitals import Spawn, Vitals, drive

log = logging.getLogger(__name__)


_REST_MAX_S = 60.0
_GONE_REST_S, _NEVER_THERE_REST_S = 1.0, 60.0
_MISSES_PER_CYCLE = 64
_SLOW, _PICKS = 4.0, 8
"""Who takes more than so many times as long as the median peer is asked as much more rarely, and
holds no slot and no share of ours while it does: a few that dawdle on purpose would hold all of
them (4 of 20 drip: accuracy 0.49 without)."""
_UNWANTED, _UNWANTED_REST_S = (Reason.SUSPENDED, Reason.DENIED, Reason.PROOF), 30.0
_SLOW_LEAST_S = 0.2
_PROMPT_ACK_BYTES = 1 << 20
"""Answers beyond this are acknowledged at once, so that the answerer need not keep them."""


class _Outcome(Enum):
    MIXED, NOTHING, UNREACHABLE = range(3)


class Asking:
    """Asks for exchanges, and for what became of them."""

    def __init__(self, vitals: Vitals, requests: Requests, spawn: Spawn) -> None:
        self._vitals = vitals
        self._requests = requests
        self._spawn = spawn
        self._resting: dict[str, float] = {}
        self._resolving: set[int] = set()
        self._met: tuple[str, ...] = ()
        self._neighbours: tuple[str, ...] = ()
        self._alive: tuple[str, ...] = ()
        self._free_of: tuple[str, ...] | None = None
        self._free: tuple[str, ...] = ()

    async def after_cycle(self) -> None:
        """One exchange after the other, so that we can answer others meanwhile.

        Who is busy costs a try; who is not there costs next to nothing, so that made-up members do
        not stop the mixing. With `random-S` at most S neighbours are asked. A chain that waits for
        a slow or dead peer does not hold up the next cycle's.
        """
        wanted = self._vitals.config.gossip.exchanges_per_cycle
        if self._vitals.rule.draws is not None:
            wanted = min(wanted, self._vitals.rule.draws)
        tries, misses = 2 * wanted, _MISSES_PER_CYCLE
        courtesy = self._vitals.courtesy
        while wanted and tries and misses and self._vitals.state.can_ask():
            if courtesy.holds_exchange():
                return
            chosen = self.pick(1)
            if not chosen:
                return
            outcome = await self._exchange(chosen[0])
            misses -= outcome is _Outcome.UNREACHABLE
            tries -= outcome is not _Outcome.UNREACHABLE
            wanted -= outcome is _Outcome.MIXED

    def neighbours(self) -> tuple[str, ...]:
        """The members our rule makes us talk to; a suspect stays one, or all would be rewired."""
        vitals, met = self._vitals, self._vitals.members.met()
        if met is not self._met:
            self._met = met
            self._neighbours = vitals.rule.neighbours(vitals.id, met, vitals.names)
        return self._neighbours

    def pick(self, count: int) -> list[str]:
        """Up to `count` neighbours by chance, none that is suspected, resting or owes answers."""
        vitals, now = self._vitals, self._vitals.clock()
        for peer in [peer for peer, until in self._resting.items() if until <= now]:
            del self._resting[peer]
        free = self._unsuspected()
        avoided = self._resting.keys() | vitals.state.outbox.owing()
        if avoided:
            free = tuple([peer for peer in free if peer not in avoided])
        if vitals.reputation:
            free = tuple([peer for peer in free if self._is_trusted(peer, now)])
        if count == 1 and free:
            for _ in range(_PICKS):
                chosen_one = free[int(vitals.rng.integers(len(free)))]
                slowness = vitals.state.meters.slowness(chosen_one)
                if slowness <= _SLOW or float(vitals.rng.random()) < _SLOW / slowness:
                    return [chosen_one]
            return []
        chosen = vitals.rng.choice(len(free), min(count, len(free)), replace=False)
        return [free[i] for i in chosen]

    def _is_trusted(self, peer: str, now: float) -> bool:
        """Whoever has faults is asked more rarely, by half with every point; or not at all."""
        reputation, rng = self._vitals.reputation, self._vitals.rng
        if reputation.is_suspended(peer, now):
            return False
        points = reputation.points(peer, now)
        return points == 0 or float(rng.random()) < 0.5**points

    def _unsuspected(self) -> tuple[str, ...]:
        """Neighbours that nobody suspects; kept until beliefs change."""
        alive, neighbours = self._vitals.members.alive(), self.neighbours()
        if alive is not self._alive or neighbours is not self._free_of:
            self._alive, self._free_of = alive, neighbours
            suspects = set(self._met).difference(alive)
            self._free = tuple([peer for peer in neighbours if peer not in suspects])
        return self._free

    async def exchange(self, peer: str) -> bool:
        """One exchange from its question to its end; False if it came to nothing.

        The caller has checked that our shares allow one (`GossipState.can_ask`).
        """
        return await self._exchange(peer) is _Outcome.MIXED

    async def _exchange(self, peer: str) -> _Outcome:
        pending = self._vitals.state.open(peer, self._vitals.clock())
        with self._ending(pending):
            return await self._asked(peer, pending)

    @contextmanager
    def _ending(self, pending: Pending) -> Iterator[None]:
        """Whatever surprises us inside, an exchange that was opened ends: RESOLVE will tell how.

        Its peer rests meanwhile: what surprised us once may do so again.
        """
        state, is_surprised = self._vitals.state, True
        try:
            yield
            is_surprised = False
        finally:
            if is_surprised:
                now = self._vitals.clock()
                self._resting[pending.peer] = now + _UNWANTED_REST_S
                if state.outbox.find(pending.peer, pending.seq) is pending:
                    state.unanswered(pending, now)

    async def _asked(self, peer: str, pending: Pending) -> _Outcome:
        vitals, state = self._vitals, self._vitals.state
        async with leased(vitals, vitals.config.gossip.codec) as snapshot:
            ask = await self._signed(state.ask(pending, snapshot, vitals.clock()), snapshot)

            def room(nbytes: int) -> Bytes:
                reused = state.snapshots.take_over(snapshot, nbytes)
                return state.snapshots.buffers.take(nbytes) if reused is None else reused

            settled: list[Mixed] = []

            def begin(reply: Packet) -> Iterator[None]:
                if reply.sender != peer or not isinstance(reply.body, Flow):
                    return iter(())
                if state.judging is not None:
                    return iter(())  # how large it is must be known before any of it flows
                if reply.body.payload.size != vitals.layout.size:
                    return iter(())
                mixed, work = state.settle(pending, reply.body)
                settled.append(mixed)
                return work

            nbytes = ask.payload.nbytes
            vitals.courtesy.begins(nbytes)
            patience_s = self._patience_s(peer, ask, nbytes)
            reached = await self._requests.ask(peer, ask, patience_s, room=room, begin=begin)
            if vitals.courtesy.is_bounded and self._has_moved_nothing(reached):
                is_busy = isinstance(reached.body, Busy)
                chance = float(vitals.rng.random()) if is_busy else 0.0
                vitals.courtesy.came_to_nothing(nbytes, chance)
            if reached.packet is None:
                self._record(peer, Mixed(reached.outcome), ask, reached)
                if reached.outcome == "unreachable" and not settled:
                    state.outbox.close(pending)
                    meter = state.meters.of(peer)
                    answered_once = meter.whole.mean_s > 0 or meter.small.mean_s > 0
                    rest = _GONE_REST_S if answered_once else _NEVER_THERE_REST_S
                    self._resting[peer] = vitals.clock() + rest
                    return _Outcome.UNREACHABLE
                state.meters.of(peer).whole.missed()
                state.unanswered(pending, vitals.clock())
                return _Outcome.NOTHING
            if isinstance(reached.body, Busy):
                rest = min(reached.body.retry_after_s, _REST_MAX_S)
                self._resting[peer] = vitals.clock() + rest
            elif isinstance(reached.body, Refused) and reached.body.reason in _UNWANTED:
                self._resting[peer] = vitals.clock() + _UNWANTED_REST_S
            if payload_of(reached.body) is not None:
                state.meters.of(peer).whole.came(reached.seconds)
            if settled:
                self._settled(pending, settled[0], ask, reached)
            else:
                await self._settle(pending, ask, reached)
            refused = isinstance(reached.body, Busy | Refused)
            return _Outcome.NOTHING if refused else _Outcome.MIXED

    def _patience_s(self, peer: str, ask: Exchange | Resolve, nbytes: int) -> float:
        """What is usual for the peer, and what we take ourselves if we pace the models."""
        return self._requests.patience_s(peer, ask) + self._vitals.courtesy.transfer_s(nbytes)

    def _has_moved_nothing(self, reached: Reached) -> bool:
        return isinstance(reached.body, Busy | Refused) or reached.outcome == "unreachable"

    async def _signed(self, ask: Exchange, snapshot: Snapshot) -> Exchange:
        """Answer for what we send, where the run's members do."""
        vitals = self._vitals
        if vitals.notary is None:
            return ask
        await drive(snapshot.digested())
        said = Statement(vitals.id, vitals.incarnation, ask.seq, ask.age, snapshot.digest, b"")
        proof = vitals.notary.sign(statement_bytes(vitals.config.run, said))
        return replace(ask, digest=snapshot.digest, proof=proof)

    def let_slow_ones_go_on(self) -> None:
        """Whatever an answer takes beyond what is usual, it takes without holding us up."""
        vitals = self._vitals
        in_flight = vitals.state.outbox.in_flight
        if in_flight and (usual_s := vitals.state.meters.usual_s()) > 0:
            since = vitals.clock() - max(_SLOW * usual_s, _SLOW_LEAST_S)
            for pending in [pending for pending in in_flight if pending.started < since]:
                vitals.state.outbox.let_go_on(pending)

    async def resolve(self, pending: Pending) -> None:
        """Ask what became of an exchange that was not answered in time."""
        if pending.seq in self._resolving:
            return
        self._resolving.add(pending.seq)
        try:
            with self._ending(pending):
                await self._resolve(pending)
        finally:
            self._resolving.discard(pending.seq)

    async def _resolve(self, pending: Pending) -> None:
        ask = Resolve(pending.seq)
        nbytes = CODECS[self._vitals.config.gossip.codec].nbytes(self._vitals.layout.size)
        patience_s = self._patience_s(pending.peer, ask, nbytes)
        reached = await self._requests.ask(pending.peer, ask, patience_s)
        if payload_of(reached.body) is not None:
            # so that a link that has become slow is waited for
            self._vitals.state.meters.of(pending.peer).whole.came(reached.seconds)
        if reached.packet is None or isinstance(reached.body, Busy):
            self._vitals.state.unanswered(pending, self._vitals.clock())
        else:
            await self._settle(pending, ask, reached)

    async def _settle(self, pending: Pending, ask: Body, reached: Reached) -> None:
        answer = reached.body
        payload = payload_of(answer)
        misfit = payload is not None and payload.size != self._vitals.layout.size
        if answer is None or isinstance(answer, Request) or misfit:
            self._vitals.accuse(pending.peer, Reason.SHAPE if misfit else Reason.MALFORMED)
            self._vitals.state.unanswered(pending, self._vitals.clock())
            return
        mixed, work = self._vitals.state.settle(pending, answer)
        await drive(work)
        self._settled(pending, mixed, ask, reached)

    def _settled(self, pending: Pending, mixed: Mixed, ask: Body, reached: Reached) -> None:
        self._record(pending.peer, mixed, ask, reached)
        payload = payload_of(reached.body)
        if payload is not None and payload.nbytes > _PROMPT_ACK_BYTES:
            self._spawn(self._acknowledge(pending.peer), name=f"thank {pending.peer[:8]}")

    async def _acknowledge(self, peer: str) -> None:
        await self._requests.ask(peer, Probe())

    def _record(self, peer: str, mixed: Mixed, ask: Body, reached: Reached) -> None:
        self._vitals.exchanged(
            peer, "asked", mixed, received=reached.body, sent=ask, seconds=reached.seconds
        )
