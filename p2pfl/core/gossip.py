"""One node's share of the swarm: its weights, their age, and both ends of an exchange.

PROTOCOL sections 2 to 5 as a sans-IO state machine. Whoever owns a `GossipState` tells it the time
and drives the arithmetic: methods that touch a whole vector return `work`, an iterator that does
one piece at each step and must be driven to its end; between two pieces anything may happen,
because every invariant holds coordinate by coordinate.

Rules of the file:
- Payloads were checked (length, layout, finiteness) where bytes became arrays.
- An exchange takes effect at both ends or at neither (`ledger.py`).
- A node without history never averages, it adopts. An adoption begins a new *lineage*: flows and
  deltas computed from replaced weights are dropped.
- The shares of a model that exchanges may take add up to one (`shares.py`): what crosses each other
  would diverge otherwise.
- Among members that may lie (robust mode) nothing is adopted because one peer says so, and what a
  model may do is decided in `judging.py`; the books of the exchange are kept here in every mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from p2pfl.config import GossipConfig, LimitsConfig, RobustConfig
from p2pfl.core.compression import Encoded, largest_nbytes
from p2pfl.core.gate import Gate
from p2pfl.core.judging import ROUNDING, Judging
from p2pfl.core.ledger import Inbox, Kept, Outbox, Pending
from p2pfl.core.messages import (
    AGE_MAX,
    Ack,
    Adopt,
    Adopted,
    Answer,
    Busy,
    Cancelled,
    Exchange,
    Flow,
    Model,
    Reason,
    Refused,
    Resolve,
    Swap,
)
from p2pfl.core.meters import Meters, smoothed
from p2pfl.core.mixing import (
    FlowNorm,
    add_in,
    copy_in,
    flow_in,
    flow_out,
    mixing_weight,
    squared,
    staleness,
)
from p2pfl.core.momentum import QuasiGlobalMomentum
from p2pfl.core.outcomes import REFUSED, REJECTED, Mixed
from p2pfl.core.shares import Shares
from p2pfl.core.snapshots import Snapshot, Snapshots
from p2pfl.core.weights import Vector, pieces

T = TypeVar("T")

_BUSY_RETRY_S = 0.05
_NO_HISTORY_RETRY_S = 0.5
_EXPIRIES_PER_HORIZON = 100
"""Looking for what is past the horizon costs a look at everything that is kept."""
_SCALE_SIZE = 64
"""Of so many values a norm tells the scale; fewer may all be near zero by chance."""


class GossipState:
    """Owns weights, age and ledger of one node; see the module's rules.

    Args:
        weights: x, (d,) float32; owned and changed in place from now on.
        config, limits: the parts of the configuration that concern exchanges.
        momentum: quasi-global momentum, restored or fresh.
        rng: for codecs that round by chance.
        robust: how models are mixed where members may lie; None where they do not.
        age, own_steps: u and h, when continuing from a checkpoint.

    Attributes:
        gate: what is known of distances, in every mode.
        judging: what robust mode decides; None where members do not lie.
    """

    def __init__(
        self,
        weights: Vector,
        config: GossipConfig,
        limits: LimitsConfig,
        momentum: QuasiGlobalMomentum,
        rng: np.random.Generator,
        *,
        robust: RobustConfig | None = None,
        age: int = 0,
        own_steps: int = 0,
    ) -> None:
        self.x = weights
        self.age = age
        self.own_steps = own_steps
        self.cycle_steps = 1
        self.cycle_s = 0.0
        self.mixes = 0
        self.lineage = 0
        self.momentum = momentum
        self.snapshots = Snapshots(rng)
        self.meters = Meters(limits.peers)
        self.gate = Gate(robust or RobustConfig(), limits.peers)
        self.judging = Judging(robust, self.gate) if robust is not None else None
        self._has_scale = robust is not None or weights.size >= _SCALE_SIZE
        if self._has_scale:
            self.gate.measured(math.sqrt(squared(weights)))
        self.outbox = Outbox(horizon_s=config.retry_horizon_s, limit=limits.pending)
        self.inbox = Inbox(
            horizon_s=config.retry_horizon_s,
            limit_bytes=max(limits.done_bytes, 2 * largest_nbytes(weights.size)),
            limit_askers=limits.peers,
        )
        self._config = config
        self._limits = limits
        self._rng = rng
        self._version = 0
        self._shares = Shares(config.weight)
        self._mixes_at_start = 0
        self._mixes_at_end = 0
        self._next_expiry = -math.inf

    def snapshot(self, codec: str, now: float) -> Snapshot:
        """The present weights in the words of `codec`; the caller drives `snapshot.work` and ends
        with `snapshots.release`."""
        return self.snapshots.lease(
            self.x,
            codec,
            version=self._version,
            age=self.age,
            own_steps=self.own_steps,
            now=now,
        )

    # --- training -------------------------------------------------------------------------------

    def drift(self) -> Vector | None:
        """Momentum for the cycle that begins, gated on an exchange since the last one began.

        Most exchanges end while we train; counted only from the end of a cycle to the start of the
        next, hardly any would open the gate of a node that trains without a pause.
        """
        mixed, self._mixes_at_start = self.mixes > self._mixes_at_start, self.mixes
        return self.momentum.gated(mixed)

    def apply(
        self, delta: Vector, steps: int, learning_rate: float, lineage: int
    ) -> Iterator[None]:
        """Add a training update: x += delta, u += K, h += K.

        Args:
            delta: (d,) float32, finite.
            steps: K.
            learning_rate: eta.
            lineage: `self.lineage` when the cycle began; an update of replaced weights is dropped.
        """
        if lineage != self.lineage:
            return
        mixed, self._mixes_at_end = self.mixes > self._mixes_at_end, self.mixes
        x = self.x
        self._version += 1
        yield from add_in(x, delta)
        if lineage != self.lineage:
            return
        self.age = min(self.age + steps, AGE_MAX)
        self.own_steps += steps
        self.cycle_steps = steps
        trained = math.sqrt(squared(delta))
        if self._has_scale:
            self.gate.measured(math.sqrt(squared(x)))
            self.gate.trained = smoothed(self.gate.trained, trained)
        yield from self.momentum.learn(x, learning_rate, steps, mixed, trained)
        if lineage != self.lineage:
            self.momentum.reset()
        self._version += 1

    def roll_back(self, good: Vector) -> Iterator[None]:
        """Return to weights that were good, (d,) float32, and begin a new lineage."""
        encoded = Encoded("float32", good.size, good.view(np.uint8))
        yield from self._replace(encoded, self.age)

    def _replace(self, model: Encoded, age: int) -> Iterator[None]:
        """Change to other weights at once, when they are complete.

        Work that was begun on the old ones ends on the old ones; of two replacements at the same
        time the first to be complete counts.
        """
        lineage, fresh = self.lineage, np.empty_like(self.x)
        yield from copy_in(fresh, model)
        if lineage != self.lineage:
            return
        self.x = fresh
        self.lineage += 1
        self.age = min(age, AGE_MAX)
        self._mixes_at_start = self._mixes_at_end = self.mixes
        self.momentum.reset()
        self._version += 1

    # --- the asker ------------------------------------------------------------------------------

    def can_ask(self) -> bool:
        """Whether one more exchange may be in flight."""
        return self._share() > 0 and len(self.outbox.in_flight) < self._config.outstanding

    def open(self, peer: str, now: float) -> Pending:
        """Set a share aside for an exchange with `peer`; the caller has checked `can_ask`."""
        pending = self.outbox.open(peer, self.own_steps, self.lineage, self._share(), now)
        farthest = self.gate.farthest()
        if self.judging is not None:
            pending.clip = self.gate.clip()
        elif math.isfinite(farthest):
            pending.clip = farthest
        return pending

    def most_weight(self) -> float:
        """The largest weight an answer may have now; 0 where it would not be worth its bytes."""
        return self._account().to_answer_with(self.outbox.set_aside(self.lineage))

    def _share(self) -> float:
        return self._account().to_ask_with(self.outbox.set_aside(self.lineage))

    def _account(self) -> Shares:
        if not self.outbox.in_flight:
            self._shares.none_in_flight()
        return self._shares

    def ask(self, pending: Pending, snapshot: Snapshot, now: float) -> Exchange:
        """The question of an exchange that was opened."""
        return Exchange(
            seq=pending.seq,
            age=snapshot.age,
            own_steps=snapshot.own_steps,
            cycle_steps=self.cycle_steps,
            residence_s=now - snapshot.taken,
            lag_cycles=self.meters.of(pending.peer).lag_cycles,
            weight=pending.weight,
            payload=snapshot.encoded,
            clip=pending.clip,
        )

    def settle(self, pending: Pending, answer: Answer) -> tuple[Mixed, Iterator[None]]:
        """Finish an exchange with whatever was answered, to it or to its RESOLVE."""
        nothing: Iterator[None] = iter(())
        if self.outbox.find(pending.peer, pending.seq) is not pending:
            return Mixed("repeated"), nothing
        if isinstance(answer, Busy) and pending.unresolved:
            return Mixed("busy"), nothing
        if isinstance(answer, Flow | Adopt | Adopted | Cancelled) and answer.seq != pending.seq:
            self._postpone(pending, pending.next_attempt)
            return Mixed("mismatched"), nothing
        if isinstance(answer, Ack | Model):
            # to no exchange; whoever gives it may have mixed all the same
            self._postpone(pending, pending.next_attempt)
            return Mixed(f"{REJECTED}{Reason.MALFORMED}"), nothing
        if isinstance(answer, Refused) and answer.reason in (Reason.STALE_SEQ, Reason.RATE):
            # a copy of our question came before, or may come later; RESOLVE will tell what became
            # of it
            self._postpone(pending, pending.next_attempt)
            return Mixed(f"{REFUSED}{answer.reason}"), nothing
        meter = self.meters.of(pending.peer)
        passed = (self.own_steps - pending.own_steps) / max(self.cycle_steps, 1)
        meter.lag_cycles = smoothed(meter.lag_cycles, passed)
        if self.judging is not None:
            wrong = self.judging.lie(pending, answer)
            if wrong is not None:
                self.outbox.close(pending)
                return wrong, nothing
        if isinstance(answer, Flow) and pending.lineage == self.lineage:
            most = ROUNDING * pending.weight * pending.clip if pending.clip else math.inf
            norm = FlowNorm(most)
            self._grow_older(answer.age)
            self.gate.refused_by.clear()
            self.mixes += 1
            mixed = Mixed("flow", answer.weight, answer.staleness, norm)
            return mixed, self._subtract(self.x, pending, answer, norm)
        self.outbox.close(pending)
        match answer:
            case Flow():
                return Mixed("replaced"), nothing
            case Adopt() if self.should_adopt(answer.age):
                return Mixed("adopt"), self._replace(answer.payload, answer.age)
            case Swap() if self.judging is not None:
                return self._keep(self.judging, pending.peer, answer.payload, answer.age), nothing
            case Swap():
                return Mixed("ignored"), nothing  # a member in another mode
            case Refused():
                if answer.reason is Reason.DISTANCE:
                    self.gate.refused_by.add(pending.peer)
                return Mixed(f"{REFUSED}{answer.reason}"), nothing
            case _:
                return Mixed(type(answer).__name__.lower()), nothing

    def _keep(self, judging: Judging, peer: str, model: Encoded, age: int) -> Mixed:
        kept = judging.keep(peer, self.x, model, age)
        if kept.outcome == "swap":
            self._grow_older(age)
        return kept

    def _grow_older(self, age: int) -> None:
        """Our lineage is as long as the longest that was mixed into it, as far as that is sure."""
        if self.judging is not None:
            age = self.gate.believed_age(age)
        self.age = min(max(self.age, age), AGE_MAX)

    def merge(self, moved: Vector, lineage: int) -> Iterator[None]:
        """Add what a robust rule changed, (d,) float32, if it still concerns our weights."""
        if lineage == self.lineage:
            self.mixes += 1
            yield from self._changing(add_in(self.x, moved))

    def _subtract(self, x: Vector, pending: Pending, flow: Flow, norm: FlowNorm) -> Iterator[None]:
        """Closed before its end, the rest is left to RESOLVE; of two at the same time one works."""
        if pending.is_settling or self.outbox.find(pending.peer, pending.seq) is not pending:
            return
        pending.is_settling = True
        try:
            for done in self._changing(flow_out(x, flow.payload, norm, pending.settled)):
                pending.settled = done
                if done == x.size:
                    self.outbox.close(pending)
                    self._shares.settled(flow.weight)
                yield
        finally:
            pending.is_settling = False

    def unanswered(self, pending: Pending, now: float) -> None:
        """No answer came in time: the slot is free again, RESOLVE will tell."""
        self._postpone(pending, now)

    def _postpone(self, pending: Pending, since: float) -> None:
        since = max(since, pending.started)
        self.outbox.left_to_resolve(pending, since)
        pending.attempts += 1
        pending.next_attempt = since + min(0.1 * 2.0 ** min(pending.attempts, 10), 8.0)

    def adopt(self, model: Model) -> Iterator[None]:
        """A newcomer takes the model it pulled, if it still has next to no history."""
        if model.payload is not None and self.should_adopt(model.age):
            yield from self._replace(model.payload, model.age)

    def adopt_together(self, models: Sequence[Model]) -> Iterator[None]:
        """A newcomer, or one that everybody refuses, takes the median of several models.

        The ages are told by their owners, so the median is believed, as of the values.
        """
        told = [model for model in models if model.payload is not None]
        if told:
            ages = sorted(model.age for model in told)
            stack = np.stack([model.payload.values() for model in told if model.payload])
            yield
            middle = np.empty_like(self.x)
            for at in pieces(middle.size):
                middle[at] = np.median(stack[:, at], axis=0)
                yield
            self.gate.refused_by.clear()
            encoded = Encoded("float32", middle.size, middle.view(np.uint8))
            yield from self._replace(encoded, ages[len(ages) // 2])

    def should_adopt(self, others_age: int) -> bool:
        """Whether our history is next to nothing beside another's of `others_age` steps."""
        return self.age < self._config.adopt_ratio * others_age

    def _changing(self, work: Iterator[T]) -> Iterator[T]:
        self._version += 1
        try:
            yield from work
        finally:
            self._version += 1

    # --- the answerer ---------------------------------------------------------------------------

    def refuse(self, peer: str, incarnation: int, floor: int) -> Refused | None:
        """Note the floor of any packet; a packet of an earlier life is refused."""
        if self.inbox.hear(peer, incarnation, floor):
            return None
        return Refused(Reason.INCARNATION, f"{incarnation} is over")

    def decline(self, peer: str, incarnation: int, seq: int, now: float) -> None:
        """An exchange that was never answered does not take effect, whatever comes later."""
        if not self.inbox.is_finished(peer, seq) and self.inbox.has_place(peer):
            self.inbox.keep(peer, incarnation, Cancelled(seq), now)

    def answer(
        self,
        peer: str,
        incarnation: int,
        ask: Exchange,
        *,
        newest_steps: int,
        now: float,
    ) -> tuple[Answer, Mixed, Iterator[None]]:
        """Answer an exchange; its payload's buffer becomes the answer's.

        Args:
            peer, incarnation: who asks; `refuse` has been called for the packet.
            ask: what it asks.
            newest_steps: the newest own-step count known of the peer, by any route.
            now: the present.

        Returns:
            The answer, what it did, and the work to drive before the answer is sent.
        """
        nothing: Iterator[None] = iter(())
        earlier = self.refuse(peer, incarnation, 0)
        if earlier is not None:
            # it was restarted while this payload arrived
            return earlier, Mixed(f"{REFUSED}{earlier.reason}"), nothing
        kept = self.inbox.find(peer, ask.seq)
        if kept is not None:
            if kept.is_mixing:
                return Refused(Reason.STALE_SEQ, "is being answered"), Mixed("repeated"), nothing
            return kept.answer, Mixed("repeated"), nothing
        if self.inbox.is_finished(peer, ask.seq):
            return Refused(Reason.STALE_SEQ, f"{ask.seq} is finished"), Mixed("repeated"), nothing
        if ask.payload.size != self.x.size:
            detail = f"model has {ask.payload.size} values, expected {self.x.size}"
            return Refused(Reason.SHAPE, detail), Mixed(f"{REFUSED}{Reason.SHAPE}"), nothing
        if not self.inbox.has_place(peer):
            return Busy(_BUSY_RETRY_S), Mixed("busy"), nothing
        if self.judging is not None:
            return self._answer_robustly(self.judging, peer, incarnation, ask, newest_steps, now)
        if ask.age < self._config.adopt_ratio * self.age:
            # nothing is mixed, so asked again we say just that; our model goes over the question
            self.inbox.keep(peer, incarnation, Cancelled(ask.seq), now)
            offer = Adopt(ask.seq, self.age, ask.payload)
            return offer, Mixed("adopt"), self.snapshots.encode(self.x, ask.payload)
        if self.should_adopt(ask.age):
            adopted = Adopted(ask.seq)
            self.inbox.keep(peer, incarnation, adopted, now)
            return adopted, Mixed("adopted"), self._replace(ask.payload, ask.age)
        farthest = min(self.gate.farthest(), ask.clip or math.inf)
        return self._flow(peer, incarnation, ask, newest_steps, now, farthest=farthest)

    def _flow(
        self,
        peer: str,
        incarnation: int,
        ask: Exchange,
        newest_steps: int,
        now: float,
        *,
        farthest: float = math.inf,
        shortened: float = 1.0,
    ) -> tuple[Answer, Mixed, Iterator[None]]:
        """Mix, weighted by staleness.

        Args:
            farthest: a flow that shows the model to be farther away is stopped.
            shortened: what the weight is multiplied with.
        """
        tau = staleness(
            version_lag_steps=newest_steps - ask.own_steps,
            cycle_steps=ask.cycle_steps,
            lag_cycles=ask.lag_cycles,
            rested_s=ask.residence_s,
            round_trip_s=max(self.meters.of(peer).small.mean_s, self.meters.of(peer).whole.mean_s),
            cycle_s=self.cycle_s,
        )
        weight = mixing_weight(
            tau,
            weight=self._config.weight,
            fresh_cycles=self._config.fresh_cycles,
            exponent=self._config.staleness_exponent,
        )
        weight = min(weight, ask.weight, self.most_weight())
        if weight == 0:
            # for good: a copy of the question that comes later must not take effect after all
            self.inbox.keep(peer, incarnation, Cancelled(ask.seq), now)
            return Busy(_BUSY_RETRY_S), Mixed("busy"), iter(())
        weight *= shortened
        self._shares.answered(weight)
        self._grow_older(ask.age)
        self.mixes += 1
        flow = Flow(ask.seq, self.age, weight, tau, ask.payload)
        norm = FlowNorm(weight * farthest)
        kept = self.inbox.keep(peer, incarnation, flow, now)
        kept.is_mixing = True
        return flow, Mixed("flow", weight, tau, norm), self._mix(self.x, kept, flow, norm)

    def _answer_robustly(
        self,
        judging: Judging,
        peer: str,
        incarnation: int,
        ask: Exchange,
        newest_steps: int,
        now: float,
    ) -> tuple[Answer, Mixed, Iterator[None]]:
        """Mix what passes the gate, shortened to the clip both ends agree on; or keep it.

        The whole payload is there: how far it is away must be known before any of it flows.
        """
        nothing: Iterator[None] = iter(())
        if 0 in (self.age, ask.age) or self.should_adopt(self.gate.believed_age(ask.age)):
            # who has no history has nothing to judge by; it pulls several models first
            self.inbox.keep(peer, incarnation, Cancelled(ask.seq), now)
            return Busy(_NO_HISTORY_RETRY_S), Mixed("busy"), nothing
        if not judging.clips:
            self.inbox.keep(peer, incarnation, Cancelled(ask.seq), now)
            kept = self._keep(judging, peer, ask.payload, ask.age)
            if kept.outcome != "swap":
                return Refused(Reason.NORM, "broken"), kept, nothing
            mine = self.snapshots.blank(ask.payload.codec, self.x.size)
            swap = Swap(ask.seq, self.age, self.own_steps, mine)
            return swap, kept, self.snapshots.encode(self.x, mine)
        shortened = judging.shortened(peer, self.x, ask)
        if isinstance(shortened, Mixed):
            self.inbox.keep(peer, incarnation, Cancelled(ask.seq), now)
            detail = f"{shortened.distance:.3g} away, expected at most {shortened.reach:.3g}"
            return Refused(Reason.DISTANCE, detail), shortened, nothing
        return self._flow(peer, incarnation, ask, newest_steps, now, shortened=shortened)

    def _mix(self, x: Vector, kept: Kept, flow: Flow, norm: FlowNorm) -> Iterator[None]:
        try:
            yield from self._changing(flow_in(x, flow.payload, flow.weight, self._rng, norm))
            if self.judging is None and self._has_scale and not norm.is_cut:
                self.gate.usual(norm.norm / flow.weight)
        finally:
            kept.is_mixing = False

    def answer_resolve(self, peer: str, incarnation: int, ask: Resolve, now: float) -> Answer:
        """The answer that was given to `ask.seq`, or from now on CANCELLED."""
        kept = self.inbox.find(peer, ask.seq)
        if kept is not None:
            return Busy(_BUSY_RETRY_S) if kept.is_mixing else kept.answer
        cancelled = Cancelled(ask.seq)
        if not self.inbox.is_finished(peer, ask.seq):
            if not self.inbox.has_place(peer):
                return Busy(_BUSY_RETRY_S)
            self.inbox.keep(peer, incarnation, cancelled, now)
        return cancelled

    def model(self, codec: str) -> tuple[Model, Iterator[None]]:
        """Our weights for a newcomer, or an empty answer while we have no history either."""
        if self.age == 0:
            return Model(0, None), iter(())
        encoded = self.snapshots.blank(codec, self.x.size)
        return Model(self.age, encoded), self.snapshots.encode(self.x, encoded)

    def expire(self, now: float) -> list[Pending]:
        """Let go of what is past the horizon; returns exchanges whose end was never learnt."""
        if now < self._next_expiry:
            return []
        self._next_expiry = now + self._config.retry_horizon_s / _EXPIRIES_PER_HORIZON
        self.inbox.expire(now)
        return self.outbox.expire(now)
