"""One request to a peer, from what we say to what became of it.

Rule of the file: every await on a peer is under `asyncio.timeout`, and a peer's fault ends here: it
is counted against the peer, membership learns of it, and nothing else is disturbed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from p2pfl.core.compression import CODECS, INT8_BLOCK, Bytes
from p2pfl.core.messages import (
    Ack,
    Adopt,
    Adopted,
    Body,
    Busy,
    Cancelled,
    Exchange,
    Flow,
    Model,
    Packet,
    Probe,
    Pull,
    Reason,
    Refused,
    Resolve,
    Swap,
    mismatch,
    payload_of,
)
from p2pfl.errors import PeerError, PeerGone, PeerUnreachable, WireError
from p2pfl.node.vitals import Vitals

log = logging.getLogger(__name__)

_PATIENCE_MIN_S = 0.2
_FIRST_PATIENCE_S = 2.0
_FIRST_RATE_BYTES_PER_S = 1e6
_NEVER_MIXES = (Reason.RUN, Reason.LAYOUT, Reason.SELF, Reason.VERSION)
_ANSWERS: Mapping[type[Body], tuple[type[Body], ...]] = {
    Exchange: (Flow, Swap, Adopt, Adopted, Cancelled, Busy, Refused),
    Resolve: (Flow, Adopted, Cancelled, Busy, Refused),
    Probe: (Ack, Refused),
    Pull: (Model, Refused),
}
"""What honest peers of any mode answer; whatever else comes is a fault of who sent it."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How a request ended: the answering packet, or None and what went wrong.

    Attributes:
        detail: what went wrong, in a sentence.
        is_gone: the device answered that nobody listens at that address.
    """

    packet: Packet | None
    outcome: str
    seconds: float
    detail: str = ""
    is_gone: bool = False

    @property
    def body(self) -> Body | None:
        """The answer."""
        return self.packet.body if self.packet is not None else None


class Requests:
    """Sends what a node has to say."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    async def ask(
        self,
        peer: str,
        body: Body,
        timeout: float | None = None,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Reached:
        """Ask a member at its best address.

        Args:
            peer: its id.
            body: what to say.
            timeout: by what is usual for the peer and the size of `body`, if None.
            room, begin: see `ports.Transport.request`.
        """
        addresses = self._vitals.members.addresses(peer)
        if not addresses:
            return Reached(None, "unreachable", 0.0)
        packet = self._vitals.packet(body, to=peer)
        timeout = self.patience_s(peer, body) if timeout is None else timeout
        reached = await self.send(addresses[0], packet, timeout, room, begin, expected=peer)
        if reached.packet is None or reached.outcome == "refused":
            now = self._vitals.clock()
            self._vitals.note(self._vitals.members.failed(peer, now))
        return reached

    async def send(
        self,
        address: str,
        packet: Packet,
        timeout: float,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
        expected: str | None = None,
    ) -> Reached:
        """Send a packet to an address; `expected` is who should live there, if that is known."""
        vitals, started, is_gone = self._vitals, self._vitals.clock(), False
        try:
            async with asyncio.timeout(timeout):
                room = self._bounded(room)
                reply = await vitals.transport.request(address, packet, room, begin)
        except PeerUnreachable as error:
            outcome, detail = "unreachable", str(error)
            is_gone = isinstance(error, PeerGone)
        except TimeoutError:
            outcome, detail = "timeout", f"no answer within {timeout:.1f} s"
        except PeerError as error:
            is_wire = isinstance(error, WireError)
            outcome = "wire" if is_wire else type(error).__name__.removeprefix("Peer").lower()
            detail = str(error)
        else:
            seconds = vitals.clock() - started
            was_forwarded = isinstance(packet.body, Probe) and packet.body.target is not None
            if isinstance(reply.body, Refused) and reply.body.reason in _NEVER_MIXES:
                if was_forwarded:
                    return Reached(reply, "refused", seconds)  # of whoever answered the relay
                # said in our words: its refusal speaks of us as the other one
                ours = vitals.config.run, vitals.layout.digest
                vitals.keep_out(address, mismatch(*ours, reply.run, reply.layout) or reply.body)
                return Reached(reply, "refused", seconds)
            if expected is not None and reply.sender != expected:
                # its address was given to another device, which refused what was not meant for it
                vitals.tally.against(expected, "another node answered")
                return Reached(None, "unreachable", seconds)
            if isinstance(reply.body, Refused) and reply.body.reason is Reason.UNREACHABLE:
                # a relay says that its target did not answer; it says so in the target's place
                return Reached(reply, "unreachable", seconds)
            if was_forwarded and vitals.transport.authenticates:
                # a relay's word for another: that it lives, and nothing else it is said to say
                return Reached(reply, "answered", seconds)
            vitals.heard(reply, () if was_forwarded else (address,))
            if not was_forwarded and not isinstance(reply.body, _ANSWERS[type(packet.body)]):
                # it may have mixed all the same: as good as no answer, which RESOLVE will tell
                vitals.accuse(reply.sender, Reason.MALFORMED)
                asked, answered = type(packet.body).__name__, type(reply.body).__name__
                return Reached(None, "malformed", seconds, f"{asked} is answered with {answered}")
            if payload_of(packet.body) is None and payload_of(reply.body) is None:
                vitals.state.meters.of(reply.sender).small.came(seconds)
            return Reached(reply, "answered", seconds)
        log.debug("%s: %s (%s)", address, outcome, detail)
        if expected is not None and outcome == "wire":
            vitals.accuse(expected, Reason.MALFORMED)
        else:
            vitals.tally.against(expected or address, outcome)
        return Reached(None, outcome, vitals.clock() - started, detail, is_gone)

    def _bounded(self, room: Callable[[int], Bytes] | None) -> Callable[[int], Bytes]:
        """An answer may claim any size; ours is the largest that can be of use."""
        largest = 4 * self._vitals.layout.size + INT8_BLOCK

        def bounded(nbytes: int) -> Bytes:
            if nbytes > largest:
                raise WireError(f"answer has {nbytes} bytes of weights, expected at most {largest}")
            return (
                self._vitals.state.snapshots.buffers.take(nbytes) if room is None else room(nbytes)
            )

        return bounded

    def patience_s(self, peer: str, body: Body) -> float:
        """How long to wait for an answer, by what is usual."""
        gossip, limits = self._vitals.config.gossip, self._vitals.config.limits
        payload = payload_of(body)
        size = payload.nbytes if payload is not None else 0
        if isinstance(body, Resolve):
            # the flow that was lost may come back, and is as large as a question
            size = CODECS[gossip.codec].nbytes(self._vitals.layout.size)
        longest = gossip.exchange_timeout_s + 2 * size / limits.body_min_bytes_per_s
        longest = min(longest, gossip.retry_horizon_s)
        meters = self._vitals.state.meters
        usual = meters.patience_s(peer, whole=size > 0)
        if usual == 0:
            first = _FIRST_PATIENCE_S + 2 * size / _FIRST_RATE_BYTES_PER_S
            return min(first * 2.0 ** meters.of(peer).whole.misses, longest)
        return min(max(usual, _PATIENCE_MIN_S), longest)
