"""Everything a node says to its peers: exchanges and their RESOLVE, probes, first meetings.

Rule of the file: every await on a peer is under `asyncio.timeout`, and a peer's fault ends in
`_request`, where it is counted against the peer; nothing else is disturbed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from p2pfl.core.compression import Bytes
from p2pfl.core.gossip import Mixed
from p2pfl.core.ledger import Pending
from p2pfl.core.membership import Ask
from p2pfl.core.messages import (
    Ack,
    Body,
    Busy,
    Flow,
    Model,
    Packet,
    Probe,
    Pull,
    Reason,
    Refused,
    Request,
    Resolve,
    Rumour,
    payload_of,
)
from p2pfl.errors import PeerError, PeerUnreachable
from p2pfl.node.training import leased
from p2pfl.node.vitals import Vitals, drive
from p2pfl.ports import Sighting

log = logging.getLogger(__name__)


class Spawn(Protocol):
    """Runs a coroutine in the node's TaskGroup."""

    def __call__(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Begin it, unless the node is leaving."""
        ...


_PATIENCE_MIN_S = 0.2
_FIRST_PATIENCE_S = 2.0
_FIRST_RATE_BYTES_PER_S = 1e6
_MEETING_TIMEOUT_S = 2.0
_MEETING_TRIES = 5
_MEETING_PAUSE_MAX_S = 30.0
_REST_MAX_S = 60.0
_PROMPT_ACK_BYTES = 1 << 20
"""Answers beyond this are acknowledged at once, so that the answerer need not keep them."""

_NEVER_MIXES = (Reason.RUN, Reason.LAYOUT, Reason.SELF, Reason.VERSION)


@dataclass(frozen=True, slots=True)
class Reached:
    """How a request ended: the answering packet, or None and what went wrong."""

    packet: Packet | None
    outcome: str
    seconds: float

    @property
    def body(self) -> Body | None:
        """The answer."""
        return self.packet.body if self.packet is not None else None


class Asking:
    """Starts exchanges and keeps up with the members; `spawn` runs its tasks."""

    def __init__(self, vitals: Vitals, spawn: Spawn) -> None:
        self._vitals = vitals
        self._spawn = spawn
        self._resting: dict[str, float] = {}
        self._resolving: set[int] = set()
        self._meeting: set[tuple[str, ...]] = set()
        self._pulling = False

    # --- exchanges ------------------------------------------------------------------------------

    def start_exchanges(self) -> None:
        """After a cycle: begin a chain of exchanges, if our shares allow one."""
        self._spawn(self._chain(), name="exchanges")

    async def _chain(self) -> None:
        """One exchange after the other, so that we can answer others meanwhile.

        Who is busy costs a try. A chain that waits for a slow or dead peer does not hold up the
        next cycle's.
        """
        wanted = self._vitals.config.gossip.exchanges_per_cycle
        for _ in range(2 * wanted):
            if wanted == 0 or not self._vitals.state.can_ask():
                return
            for peer in self.pick(1):
                wanted -= await self.exchange(peer)

    def neighbours(self) -> tuple[str, ...]:
        """The members our rule makes us talk to now."""
        vitals = self._vitals
        return vitals.rule.neighbours(vitals.id, vitals.members.alive())

    def pick(self, count: int) -> list[str]:
        """Up to `count` neighbours by chance, none that is resting or being asked."""
        now = self._vitals.clock()
        self._resting = {peer: until for peer, until in self._resting.items() if until > now}
        asked = {p.peer for p in self._vitals.state.outbox if not p.unresolved}
        free = [p for p in self.neighbours() if p not in asked and p not in self._resting]
        count = min(count, len(free))
        return [free[i] for i in self._vitals.rng.choice(len(free), count, replace=False)]

    async def exchange(self, peer: str) -> bool:
        """One exchange from its question to its end; False if it came to nothing.

        The caller has checked that our shares allow one (`GossipState.can_ask`).
        """
        vitals, state = self._vitals, self._vitals.state
        pending = state.open(peer, vitals.clock())
        async with leased(vitals, vitals.config.gossip.codec) as snapshot:
            ask = state.ask(pending, snapshot, vitals.clock())

            def room(nbytes: int) -> Bytes:
                reused = state.take_over(snapshot, nbytes)
                return state.buffers.take(nbytes) if reused is None else reused.data

            settled: list[Mixed] = []

            def begin(reply: Packet) -> Iterator[None]:
                if reply.sender != peer or not isinstance(reply.body, Flow):
                    return iter(())
                if reply.body.payload.size != vitals.layout.size:
                    return iter(())
                mixed, work = state.settle(pending, reply.body)
                settled.append(mixed)
                return work

            reached = await self._ask_member(peer, ask, self._patience(peer, ask), room, begin)
            if reached.packet is None:
                if reached.outcome == "unreachable":
                    state.outbox.close(pending)
                else:
                    state.meter(peer).whole.missed()
                    state.unanswered(pending, vitals.clock())
                self._record(peer, Mixed(reached.outcome), ask, reached)
                return False
            if isinstance(reached.body, Busy):
                rest = min(reached.body.retry_after_s, _REST_MAX_S)
                self._resting[peer] = vitals.clock() + rest
            if payload_of(reached.body) is not None:
                state.meter(peer).whole.came(reached.seconds)
            if settled:
                await self._settled(pending, settled[0], ask, reached)
            else:
                await self._settle(pending, ask, reached)
            return not isinstance(reached.body, Busy | Refused)

    async def resolve(self, pending: Pending) -> None:
        """Ask what became of an exchange that was not answered in time."""
        if pending.seq in self._resolving:
            return
        self._resolving.add(pending.seq)
        try:
            ask = Resolve(pending.seq)
            reached = await self._ask_member(pending.peer, ask, self._patience(pending.peer, ask))
            if reached.packet is None or isinstance(reached.body, Busy):
                self._vitals.state.unanswered(pending, self._vitals.clock())
            else:
                await self._settle(pending, ask, reached)
        finally:
            self._resolving.discard(pending.seq)

    async def _settle(self, pending: Pending, ask: Body, reached: Reached) -> None:
        answer = reached.body
        if answer is None or isinstance(answer, Request):
            self._vitals.tally.against(pending.peer, Reason.MALFORMED)
            return
        payload = payload_of(answer)
        if payload is not None and payload.size != self._vitals.layout.size:
            self._vitals.tally.against(pending.peer, Reason.SHAPE)
            return
        mixed, work = self._vitals.state.settle(pending, answer)
        await drive(work)
        await self._settled(pending, mixed, ask, reached)

    async def _settled(self, pending: Pending, mixed: Mixed, ask: Body, reached: Reached) -> None:
        self._record(pending.peer, mixed, ask, reached)
        payload = payload_of(reached.body)
        if payload is not None and payload.nbytes > _PROMPT_ACK_BYTES:
            await self._ask_member(pending.peer, Probe(), self._patience(pending.peer, Probe()))

    def _record(self, peer: str, mixed: Mixed, ask: Body, reached: Reached) -> None:
        self._vitals.exchanged(
            peer, "asked", mixed, received=reached.body, sent=ask, seconds=reached.seconds
        )

    def _patience(self, peer: str, body: Body) -> float:
        """How long to wait for an answer, by what is usual."""
        gossip, limits = self._vitals.config.gossip, self._vitals.config.limits
        payload = payload_of(body)
        size = payload.nbytes if payload is not None else 0
        longest = gossip.exchange_timeout_s + 2 * size / limits.body_min_bytes_per_s
        usual = self._vitals.state.patience_s(peer, whole=size > 0)
        if usual == 0:
            return min(_FIRST_PATIENCE_S + 2 * size / _FIRST_RATE_BYTES_PER_S, longest)
        return min(max(usual, _PATIENCE_MIN_S), longest)

    # --- membership -----------------------------------------------------------------------------

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
        usual = self._vitals.state.patience_s(ask.target, whole=False)
        packet = self._vitals.packet(Probe(), to=ask.target)
        reached = await self._request(ask.addresses[0], packet, max(ask.timeout_s, usual))
        if isinstance(reached.body, Ack):
            members.answered(ask.target, clock())
        else:
            self._vitals.note(members.unanswered(ask.target, clock()))

    async def _probe_through(self, relay: str, address: str, ask: Ask) -> None:
        members, target = self._vitals.members, ask.target
        packet = self._vitals.packet(Probe(target), to=relay)
        reached = await self._request(address, packet, ask.timeout_s)
        if reached.packet is None:
            return
        if isinstance(reached.body, Ack) and reached.packet.sender == target:
            members.answered(target, self._vitals.clock())
        else:
            members.helped(target)

    async def meet(self, sighting: Sighting) -> None:
        """Say hello to an address until it answers; a static peer is worth endless patience."""
        if sighting.addresses in self._meeting:
            return
        self._meeting.add(sighting.addresses)
        pause, tries = 0.25, 0
        try:
            while sighting.node is None or tries < _MEETING_TRIES:
                for address in sighting.addresses:
                    if await self._hello(address, sighting.node):
                        return
                tries += 1
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MEETING_PAUSE_MAX_S)
        finally:
            self._meeting.discard(sighting.addresses)

    async def _hello(self, address: str, node: str | None) -> bool:
        packet = self._vitals.packet(Probe(), to=node)
        reached = await self._request(address, packet, _MEETING_TIMEOUT_S)
        if reached.packet is None:
            self._vitals.keep_out(
                address, Refused(Reason.UNREACHABLE, f"seen, but {reached.outcome}")
            )
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
        self._pulling = True
        try:
            ask = Pull(vitals.config.gossip.codec)
            limits = vitals.config.limits
            timeout = 10.0 + 4 * vitals.layout.size / limits.body_min_bytes_per_s
            reached = await self._request(address, vitals.packet(ask, to=node), timeout)
            model = reached.body
            if not isinstance(model, Model) or model.payload is None:
                return
            if model.payload.size != vitals.layout.size:
                vitals.tally.against(node, Reason.SHAPE)
                return
            await drive(vitals.state.adopt(model))
            log.info("pulled the model of %s, age %d", node[:8], model.age)
        finally:
            self._pulling = False

    async def say_goodbye(self, peer: str, goodbye: Rumour) -> None:
        """Tell one member that we leave."""
        packet = self._vitals.packet(Probe(), to=peer, first=goodbye)
        await self._request(self._vitals.members.addresses(peer)[0], packet, 0.5)

    # --- one request ----------------------------------------------------------------------------

    async def _ask_member(
        self,
        peer: str,
        body: Body,
        timeout: float,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Reached:
        addresses = self._vitals.members.addresses(peer)
        if not addresses:
            return Reached(None, "unreachable", 0.0)
        packet = self._vitals.packet(body, to=peer)
        reached = await self._request(addresses[0], packet, timeout, room, begin, expected=peer)
        if reached.packet is None:
            now = self._vitals.clock()
            self._vitals.note(self._vitals.members.failed(peer, now))
        return reached

    async def _request(
        self,
        address: str,
        packet: Packet,
        timeout: float,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
        expected: str | None = None,
    ) -> Reached:
        vitals, started = self._vitals, self._vitals.clock()
        try:
            async with asyncio.timeout(timeout):
                reply = await vitals.transport.request(address, packet, room, begin)
        except PeerUnreachable as error:
            outcome, detail = "unreachable", str(error)
        except TimeoutError:
            outcome, detail = "timeout", f"no answer within {timeout:.1f} s"
        except PeerError as error:
            outcome, detail = type(error).__name__.removeprefix("Peer").lower(), str(error)
        else:
            seconds = vitals.clock() - started
            if isinstance(reply.body, Refused) and reply.body.reason in _NEVER_MIXES:
                vitals.keep_out(address, reply.body)
                return Reached(reply, "refused", seconds)
            if expected is not None and reply.sender != expected:
                # its address was given to another device, which refused what was not meant for it
                vitals.tally.against(expected, "another node answered")
                return Reached(None, "unreachable", seconds)
            was_forwarded = isinstance(packet.body, Probe) and packet.body.target is not None
            if isinstance(reply.body, Refused) and reply.body.reason is Reason.UNREACHABLE:
                # a relay says that its target did not answer; it says so in the target's place
                return Reached(reply, "unreachable", seconds)
            vitals.heard(reply, () if was_forwarded else (address,))
            if payload_of(packet.body) is None and payload_of(reply.body) is None:
                vitals.state.meter(reply.sender).small.came(seconds)
            return Reached(reply, "answered", seconds)
        log.debug("%s: %s (%s)", address, outcome, detail)
        vitals.tally.against(expected or address, outcome)
        return Reached(None, outcome, vitals.clock() - started)
