"""Everything a node answers: one synchronous `handle`, so that an exchange is atomic.

    admit   before a payload is read: run, layout, recipient, earlier lives, room for the answer
    handle  one `match` over the requests

Rule of the file: no awaits. A refusal changes nothing, names its reason and is counted against
whoever asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from p2pfl.core.compression import Bytes
from p2pfl.core.messages import (
    Ack,
    Body,
    Busy,
    Exchange,
    Flow,
    Packet,
    Probe,
    Pull,
    Reason,
    Refused,
    Resolve,
    Statement,
    Swap,
    mismatch,
    payload_of,
)
from p2pfl.core.outcomes import Mixed
from p2pfl.core.rates import Rates
from p2pfl.core.statements import new_digest
from p2pfl.core.weights import pieces
from p2pfl.node.status import describe
from p2pfl.node.vitals import Vitals, counting_bugs
from p2pfl.ports import Answered, Forward, Reply

_BUSY_RETRY_S = 0.5
_CROSSED_RETRY_S = 0.05
_ARRIVING_SHARE = 0.5
"""Of the budget of kept answers, what one peer's payloads may take while they arrive."""


class Answering:
    """The `Service` that a transport serves."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        limits = vitals.config.limits
        self._rates = Rates(limits.requests_per_peer_per_s, limits.peers)
        self._arriving: Counter[str] = Counter()

    @property
    def needs_whole(self) -> bool:
        """In robust mode a model is measured before any of it is mixed."""
        return self._vitals.state.judging is not None

    def admit(self, packet: Packet) -> Packet | None:
        """Look at a packet before its payload is read; a packet given back refuses it."""
        with counting_bugs(self._vitals, "a question of", packet.sender):
            refusal = self._refusal(packet)
            if refusal is None:
                return None
            if isinstance(refusal, Refused):
                self._vitals.accuse(packet.sender, refusal.reason)
            return self._vitals.packet(refusal, to=None)

    def _refusal(self, packet: Packet) -> Refused | Busy | None:
        vitals, state = self._vitals, self._vitals.state
        if packet.sender == vitals.id:
            return Refused(Reason.SELF, "this is your own address")
        if packet.sender in vitals.denied:
            return Refused(Reason.DENIED, "you may not take part in this run")
        if not self._rates.allows(packet.sender, vitals.clock()):
            most = vitals.config.limits.requests_per_peer_per_s
            return Refused(Reason.RATE, f"more than {most:g} requests a second")
        if packet.recipient not in ("", vitals.id):
            return Refused(Reason.RECIPIENT, "another node lives here now")
        other = mismatch(vitals.config.run, vitals.layout.digest, packet.run, packet.layout)
        if other is not None:
            vitals.keep_out(packet.address, other)
            return other
        earlier = state.refuse(packet.sender, packet.incarnation, packet.floor)
        if earlier is not None:
            return earlier
        if isinstance(packet.body, Exchange | Pull) and vitals.keeps_away_from(packet.sender):
            return Refused(Reason.SUSPENDED, "for your faults, as this node sees them")
        payload = payload_of(packet.body)
        if payload is None:
            return None
        if payload.size != vitals.layout.size:
            detail = f"model has {payload.size} values, expected {vitals.layout.size}"
            return Refused(Reason.SHAPE, detail)
        if not isinstance(packet.body, Exchange):
            return None
        if vitals.witness.has_forgotten(packet.sender, packet.incarnation, packet.body.seq):
            # whether its sender has said otherwise of it, nobody here can tell any more
            return Refused(Reason.STALE_SEQ, f"{packet.body.seq} is too long ago")
        busy = self._busy(packet.sender, packet.incarnation, packet.body)
        if busy is None and not self._is_signed(packet, packet.body):
            return Refused(Reason.PROOF, "an exchange must be signed by its sender's key")
        if busy is None:
            vitals.courtesy.begins(packet.body.payload.nbytes)
        return busy

    def _is_signed(self, packet: Packet, ask: Exchange) -> bool:
        """Whether the sender answers for this snapshot; that its digest is right is seen later."""
        if self._vitals.notary is None:
            return True
        if not ask.proof or not ask.digest:
            return False
        said = Statement(packet.sender, packet.incarnation, ask.seq, ask.age, ask.digest, ask.proof)
        return self._vitals.hear(said)

    def _busy(self, peer: str, incarnation: int, ask: Exchange) -> Busy | None:
        """BUSY is for good: a copy of the question that comes later must not take effect."""
        vitals, state = self._vitals, self._vitals.state
        if state.inbox.find(peer, ask.seq) is not None:
            return None  # a copy came first: the same answer again
        if state.most_weight() == 0:
            pause_s = _CROSSED_RETRY_S
        elif (
            vitals.leaving
            or not state.inbox.has_room(ask.payload.nbytes)
            or self._takes_too_much(peer, ask.payload.nbytes)
        ):
            pause_s = _BUSY_RETRY_S
        elif (held_s := vitals.courtesy.busy_s(ask.payload.nbytes)) > 0:
            pause_s = held_s
        else:
            return None
        state.decline(peer, incarnation, ask.seq, vitals.clock())
        return Busy(pause_s)

    def _takes_too_much(self, peer: str, nbytes: int) -> bool:
        """Whether a peer's slow payloads would keep those of others out."""
        arriving = self._arriving[peer]
        return arriving > 0 and arriving + nbytes > _ARRIVING_SHARE * self._vitals.state.inbox.limit

    @contextmanager
    def room(self, nbytes: int, sender: str = "") -> Iterator[Bytes]:
        """A buffer for an admitted payload; it counts as arriving until the context is left."""
        state = self._vitals.state
        inbox = state.inbox
        inbox.arriving_bytes += nbytes
        self._arriving[sender] += nbytes
        try:
            yield state.snapshots.buffers.take(nbytes)
        finally:
            inbox.arriving_bytes -= nbytes
            self._arriving[sender] -= nbytes
            if self._arriving[sender] <= 0:
                del self._arriving[sender]

    def handle(self, packet: Packet) -> Reply:
        """Answer a packet that was admitted; a large payload may still be arriving."""
        with counting_bugs(self._vitals, "the answer to", packet.sender):
            return self._reply(packet)

    def _reply(self, packet: Packet) -> Reply:
        vitals, state, now = self._vitals, self._vitals.state, self._vitals.clock()
        body = packet.body
        answer: Body
        work: Iterator[None] = iter(())
        if not isinstance(body, Pull):
            # a newcomer that pulls may not be reachable yet; whoever mixes or probes is a member
            vitals.heard(packet, (packet.address,))
        match body:
            case Exchange():
                answer, mixed, mixing = state.answer(
                    packet.sender,
                    packet.incarnation,
                    body,
                    newest_steps=vitals.members.steps_of(packet.sender),
                    now=now,
                )
                if vitals.notary is not None and isinstance(answer, Flow | Swap):
                    mixing = self._compared(packet.sender, body, mixing)
                elif vitals.notary is not None:
                    mixing = self._checked(packet.sender, body, mixing)
                work = self._recorded(packet, mixed, answer, mixing)
                if isinstance(answer, Flow):
                    next(work)
            case Resolve():
                answer = state.answer_resolve(packet.sender, packet.incarnation, body, now)
            case Probe(target=None):
                answer = Ack(state.age, state.own_steps)
            case Probe(target=str(whom)) if whom != vitals.id and whom in vitals.members.met():
                # who was only heard of may be made up, with any address that we would connect to
                onward = vitals.packet(Probe(), to=whom)
                return Forward(vitals.members.addresses(whom)[0], onward)
            case Probe():
                answer = Refused(Reason.UNREACHABLE, "never met that member")
            case Pull():
                answer, encoding = state.model(body.codec)
                work = self._counted(packet, encoding)
            case _:
                vitals.accuse(packet.sender, Reason.MALFORMED)
                answer = Refused(Reason.MALFORMED, f"{type(body).__name__} is an answer")
        streams = isinstance(answer, Flow) and vitals.state.judging is None
        said: Packet | None = None
        try:
            said = vitals.packet(answer, to=packet.sender)
        finally:
            if said is None:
                _close(work)  # nobody will drive it
        return Answered(said, work, streams)

    def _compared(self, peer: str, ask: Exchange, mixing: Iterator[None]) -> Iterator[None]:
        """Mix, and see whether what was signed is what was sent, piece by piece as it comes."""
        digest, payload = new_digest(), ask.payload
        next(mixing, None)
        yield
        try:
            for at in pieces(payload.size):
                digest.update(payload.piece(at).data)
                next(mixing, None)
                yield
            for _ in mixing:
                yield
            if digest.digest() != ask.digest:
                self._vitals.accuse(peer, Reason.PROOF)
        finally:
            _close(mixing)

    def _checked(self, peer: str, ask: Exchange, work: Iterator[None]) -> Iterator[None]:
        """As `_compared`, before other work than mixing: all is there, and may be written over."""
        digest = new_digest()
        for at in pieces(ask.payload.size):
            digest.update(ask.payload.piece(at).data)
            yield
        if digest.digest() != ask.digest:
            self._vitals.accuse(peer, Reason.PROOF)
        yield from work

    def _recorded(
        self, packet: Packet, mixed: Mixed, answer: Body, mixing: Iterator[None]
    ) -> Iterator[None]:
        """Mix, and record it whatever happens.

        A flow has taken its first step when it is handed out, and one step less is left to be
        driven: a generator that was never entered does nothing when it is closed, and the flow that
        was promised would be `is_mixing` for ever, and hold its place among the answers that are
        kept.
        """
        began = self._vitals.clock()
        try:
            if isinstance(answer, Flow):
                next(mixing, None)
                yield  # handed out
                yield  # the first step, as whoever drives it counts
            with counting_bugs(self._vitals, "the exchange of", packet.sender):
                yield from mixing
        finally:
            _close(mixing)
            self._vitals.exchanged(
                packet.sender,
                "answered",
                mixed,
                received=packet.body,
                sent=answer,
                seconds=self._vitals.clock() - began,
            )

    def _counted(self, packet: Packet, work: Iterator[None]) -> Iterator[None]:
        with counting_bugs(self._vitals, "the answer to", packet.sender):
            yield from work

    def faulty(self, address: str, error: Exception, sender: str = "") -> None:
        """Somebody at `address` sent what is not a message; count it, against `sender` if sure."""
        if sender:
            self._vitals.accuse(sender, Reason.MALFORMED)
        self._vitals.tally.against(address.rpartition(":")[0] or address, str(error)[:120])

    def status(self) -> dict[str, Any]:
        """What people and tools may know of this node."""
        return describe(self._vitals)


def _close(work: Iterator[None]) -> None:
    if isinstance(work, Generator):
        work.close()
