"""What the organs of one node share: who it is, its weights, its members, its counters.

Rule of the file: no awaits but in `drive`; everything that leaves the node is packed here, so that
floors and rumours ride on every message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from p2pfl.config import NodeConfig
from p2pfl.core import events
from p2pfl.core.figures import SwarmFigures
from p2pfl.core.gossip import GossipState
from p2pfl.core.membership import Membership
from p2pfl.core.messages import Body, Denial, Packet, Reason, Refused, Statement, payload_of
from p2pfl.core.neighbours import Rule
from p2pfl.core.outcomes import REJECTED, Mixed
from p2pfl.core.reports import Reports
from p2pfl.core.reputation import Reputation
from p2pfl.core.statements import Evidence, Witness, denial_bytes, statement_bytes
from p2pfl.core.tally import Tally
from p2pfl.core.weights import Layout
from p2pfl.node import telling
from p2pfl.node.courtesy import Courtesy
from p2pfl.ports import Clock, DenyList, Journal, Notary, Transport

log = logging.getLogger(__name__)

BUG = "bug"
"""The kind of fault that is nobody's but the program's."""

HELD = "held"
"""The kind that is none: something is held back out of courtesy, or not any more."""

_BUG_SHOWN = 200
_WITNESSED_NODES = 256
_PASSED_ON_MOST = 4
"""Statements, and denials, that one packet may have us check: a signature costs a tenth of a ms."""
_STATEMENTS_PER_EXCHANGE = 2
_DENIALS_PER_MESSAGE = 2
_STEPS_AT_ONCE = 8
"""Pieces between two looks at the event loop: one to two milliseconds on a laptop."""


class Spawn(Protocol):
    """Runs a coroutine in the node's TaskGroup."""

    def __call__(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Begin it, unless the node is leaving."""
        ...


@dataclass(slots=True, kw_only=True)
class Vitals:
    """One node's identity, state and instruments.

    Attributes:
        cycles, loss, measured: progress of training.
        others: addresses that were seen but do not mix with us, and why.
        names: labels of nodes, by id, as discovery tells them.
        leaving: the farewell has begun; no new exchange is answered.
        notary: signs our snapshots and checks others'; None where nothing is signed.
        witness: what others signed.
        reputation: our opinion of peers.
        denied: who may not take part, by id; those without a proof are our own opinion.
        convicted: told of evidence against a member that was met.
        deny_list: keeps what peers tell of who is denied.
        holding: what this node holds back and why, a sentence each.
        courtesy: decides what that is.
        recent: when we last exchanged something, by peer; the newest last.
        reports, figures: what nodes tell of themselves, and the averages of the swarm; None where
            `figures.enabled` is off.
        ticked: the swarm's figures have a new tick.
        seen_live, seen_met, acquainted: as membership last gave them, and who was met as a set.
    """

    id: str
    incarnation: int
    config: NodeConfig
    layout: Layout
    state: GossipState
    members: Membership
    rule: Rule
    tally: Tally
    transport: Transport
    journal: Journal
    clock: Clock
    rng: np.random.Generator
    started_at: float
    last_cycle_at: float
    cycles: int = 0
    loss: float | None = None
    measured: events.Measured | None = None
    others: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    leaving: bool = False
    notary: Notary | None = None
    witness: Witness = field(default_factory=lambda: Witness(_WITNESSED_NODES))
    reputation: Reputation
    denied: dict[str, Denial] = field(default_factory=dict)
    convicted: Callable[[Evidence], None] | None = None
    deny_list: DenyList | None = None
    holding: list[str] = field(default_factory=list)
    courtesy: Courtesy = field(init=False)
    recent: dict[str, float] = field(default_factory=dict)
    reports: Reports | None = field(init=False, default=None)
    figures: SwarmFigures | None = field(init=False, default=None)
    ticked: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    seen_live: tuple[str, ...] = field(init=False, default=())
    seen_met: tuple[str, ...] = field(init=False, default=())
    acquainted: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        self.courtesy = Courtesy(self.config.courtesy, self.transport.traffic, self.clock)
        figures = self.config.figures
        if figures.enabled:
            most = self.config.limits.peers
            self.reports = Reports(self.id, figures.reports_per_message, most)
            self.figures = SwarmFigures(figures.partners)

    def packet(self, body: Body, to: str | None) -> Packet:
        """Wrap what we say to member `to`, None for a stranger."""
        limit = self.config.membership.rumours_per_message
        news = self.members.rumours_for(to, limit) if to else ()
        statements: tuple[Statement, ...] = ()
        if to and self.notary is not None and payload_of(body) is not None:
            statements = self.witness.some(_STATEMENTS_PER_EXCHANGE, self.rng, not_of=to)
        reports, figures = telling.ride(self, body, to) if to else ((), None)
        return Packet(
            run=self.config.run,
            layout=self.layout.digest,
            sender=self.id,
            recipient=to or "",
            address=self.transport.address,
            incarnation=self.incarnation,
            refutation=self.members.refutation,
            floor=self.state.outbox.floor(to) if to else 0,
            own_steps=self.state.own_steps,
            rumours=news,
            statements=statements,
            denials=self._some_denials() if self.denied else (),
            reports=reports,
            figures=figures,
            body=body,
        )

    def heard(self, packet: Packet, addresses: tuple[str, ...]) -> None:
        """A member spoke: it is alive, and brings news."""
        now = self.clock()
        self.note(
            self.members.heard(
                packet.sender,
                addresses,
                packet.incarnation,
                packet.refutation,
                packet.own_steps,
                now,
            )
        )
        if packet.rumours:
            self.note(self.members.learn(packet.rumours, packet.sender, now))
        for statement in packet.statements[:_PASSED_ON_MOST]:
            # keys of strangers cost nothing, and would crowd out what members said; so would
            # members that were only heard of
            if statement.node in self.members.met() and not self.hear(statement):
                # nobody passes on what it did not check, so it knew; a packet that a relay brings
                # never comes here where it is sure who speaks
                self.accuse(packet.sender, Reason.PROOF)
        for denial in packet.denials[:_PASSED_ON_MOST]:
            if not self.hear_denial(denial):
                self.accuse(packet.sender, Reason.PROOF)
        telling.take_in(self, packet, now)

    def note(self, changes: Iterable[events.MemberChanged]) -> None:
        """Record what membership decided."""
        for change in changes:
            log.info("peer %s is %s (%s)", change.peer[:8], change.status, change.reason)
            self.journal.record(change)

    # --- trust ----------------------------------------------------------------------------------

    def accuse(self, peer: str, reason: str) -> None:
        """Count a peer's fault; too many suspend it, where it is sure who it is."""
        self.tally.against(peer, reason)
        if self.transport.authenticates and self.reputation.fault(peer, reason, self.clock()):
            self._suspended(peer, f"too many faults, lately {reason}")

    def hear(self, statement: Statement) -> bool:
        """Take in what a node signed; False if it did not. A contradiction convicts it."""
        if self.notary is None or self.witness.known(statement):
            return True
        said = statement_bytes(self.config.run, statement)
        if not self.notary.is_signed(statement.node, said, statement.proof):
            return False
        evidence = self.witness.hear(statement)
        if evidence is not None and self.reputation.convict(
            statement.node, Reason.EQUIVOCATION, self.clock()
        ):
            self.tally.against(statement.node, Reason.EQUIVOCATION)
            self._suspended(statement.node, f"signed two models for exchange {statement.seq}")
            if self.convicted is not None and statement.node in self.members.met():
                # a key that never said a word to us but its own conviction costs no disk
                self.convicted(evidence)
        return True

    def hear_denial(self, denial: Denial) -> bool:
        """Obey a denial that a peer passed on, if it is new; False if it is not signed."""
        known = self.denied.get(denial.node)
        if self.notary is None or (known is not None and known.proof):
            return True
        if not self.notary.is_admissions(denial_bytes(denial), denial.proof):
            return False
        self.deny(denial)
        if self.deny_list is not None:
            self.deny_list.keep(denial)
        return True

    def deny(self, denial: Denial) -> None:
        """From now on this node does not take part, as far as we are concerned."""
        if denial.node in self.denied and self.denied[denial.node].proof:
            return
        self.denied[denial.node] = denial
        self.note(self.members.ban(denial.node, self.clock()))
        by = "by the run's admission key" if denial.proof else "here"
        self._suspended(denial.node, f"denied {by}", kind="denied")

    def keeps_away_from(self, peer: str) -> bool:
        """Whether we neither ask nor answer a peer."""
        return peer in self.denied or (
            bool(self.reputation) and self.reputation.is_suspended(peer, self.clock())
        )

    def _some_denials(self) -> tuple[Denial, ...]:
        signed = [denial for denial in self.denied.values() if denial.proof]
        if len(signed) > _DENIALS_PER_MESSAGE:
            chosen = self.rng.choice(len(signed), _DENIALS_PER_MESSAGE, replace=False)
            signed = [signed[place] for place in sorted(chosen)]
        return tuple(signed)

    def _suspended(self, peer: str, why: str, kind: str = "suspended") -> None:
        log.warning("peer %s is %s: %s", peer[:8], kind, why)
        self.journal.record(events.Fault(self.clock(), kind, why, peer))

    def keep_out(self, address: str, why: Refused) -> None:
        """Somebody of another run or model: listed with the reason, never mixed with."""
        known = self.others.get(address)
        text = "".join(c if c.isprintable() else "?" for c in why.detail) or why.reason.value
        if known == text:
            return
        if known is None and len(self.others) >= self.config.limits.peers:
            del self.others[next(iter(self.others))]
        self.others[address] = text
        # another run is its own business; our run with another model is somebody's mistake
        level = logging.WARNING if why.reason is Reason.LAYOUT else logging.INFO
        log.log(level, "%s does not mix with us: %s", address, text)
        self.journal.record(events.Fault(self.clock(), "kept-out", text, address))

    def fault(self, kind: str, detail: str) -> None:
        """Something of ours went wrong and was survived."""
        log.warning("%s: %s", kind, detail)
        self.tally.faults[kind] += 1
        self.journal.record(events.Fault(self.clock(), kind, detail))

    def hold_back(self) -> None:
        """Say what is held back now; each reason that came or went is an event."""
        if not self.courtesy.is_asked_for:
            return
        self.holding = self.courtesy.holding()
        for detail in self.courtesy.news():
            log.info("%s", detail)
            self.journal.record(events.Fault(self.clock(), HELD, detail))

    def bug(self, where: str, error: Exception) -> None:
        """Something of ours surprised us while it did `where`; to be called where it is caught."""
        log.error("a bug of p2pfl, please report it with these lines: %s", where, exc_info=error)
        self.fault(BUG, f"{where}: {type(error).__name__}: {error}"[:_BUG_SHOWN])

    def exchanged(
        self,
        peer: str,
        role: str,
        mixed: Mixed,
        *,
        received: Body | None,
        sent: Body | None,
        seconds: float,
    ) -> None:
        """Record one end of an exchange, once its arithmetic is done."""
        distance = mixed.norm.norm / mixed.weight if mixed.norm and mixed.weight else None
        if mixed.outcome.startswith(REJECTED):
            self.accuse(peer, mixed.outcome.removeprefix(REJECTED))
        elif mixed.norm is not None and mixed.norm.is_cut:
            self.accuse(peer, Reason.NORM)
        self.tally.exchange(role, mixed.outcome, mixed.staleness, distance)
        telling.exchanged(self, peer, received if role == "asked" else sent)
        self.journal.record(
            events.Exchanged(
                self.clock(),
                peer,
                role,
                mixed.outcome,
                mixed.weight,
                mixed.staleness,
                distance or mixed.distance,
                _payload_bytes(received),
                _payload_bytes(sent),
                seconds,
                mixed.reach,
            )
        )


class counting_bugs:  # noqa: N801 (used as a context manager)
    """Counts a surprise inside, which goes on to whoever serves the peer and survives it.

    Args:
        vitals: of the node.
        doing: what is done inside, for a peer.
        peer: its id.
    """

    __slots__ = ("_doing", "_peer", "_vitals")

    def __init__(self, vitals: Vitals, doing: str, peer: str) -> None:
        self._vitals, self._doing, self._peer = vitals, doing, peer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            self._vitals.bug(f"{self._doing} {self._peer[:8]}", error)


def _payload_bytes(body: Body | None) -> int:
    payload = payload_of(body)
    return payload.data.nbytes if payload is not None else 0


async def drive(work: Iterator[None] | None) -> None:
    """Do a large vector's work piece by piece, looking at the event loop in between.

    What was begun is finished: a flow that is half applied when we are cancelled is completed
    before the cancellation goes on.
    """
    if work is None:
        return
    try:
        for step, _ in enumerate(work, start=1):
            if step % _STEPS_AT_ONCE == 0:
                await asyncio.sleep(0)
    finally:
        for _ in work:
            pass
