"""GossipStates joined by a link that an adversary holds, for the tests of the core.

Every message lies in `letters` until somebody delivers, repeats or drops it, in any order; the
arithmetic of a message lies in `jobs` until somebody does a step of it. Nothing happens by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from p2pfl.config import GossipConfig, LimitsConfig, RobustConfig
from p2pfl.core.compression import encode
from p2pfl.core.gossip import GossipState
from p2pfl.core.ledger import Pending
from p2pfl.core.messages import Answer, Busy, Exchange, Resolve, payload_of
from p2pfl.core.momentum import QuasiGlobalMomentum
from p2pfl.core.outcomes import Mixed
from p2pfl.core.weights import Vector

PATIENCE_S = 1.0
TICK_S = 0.25

Effect = tuple[str, int, int]
"""One exchange: (asker, incarnation, seq)."""


def finished(work: Iterator[None] | None) -> None:
    """Drive arithmetic to its end."""
    for _ in work or ():
        pass


def copied(body: Exchange | Resolve | Answer) -> Exchange | Resolve | Answer:
    """What arrives at the other end: the same, in other memory."""
    payload = payload_of(body)
    if payload is None:
        return body
    return replace(body, payload=replace(payload, data=payload.data.copy()))


def gossip_state(
    x: Vector,
    *,
    age: int = 1000,
    own_steps: int = 0,
    beta: float = 0.0,
    seed: int = 0,
    limits: LimitsConfig | None = None,
    config: GossipConfig | None = None,
    kind: type[GossipState] = GossipState,
    robust: RobustConfig | None = None,
    **options: object,
) -> GossipState:
    """A state that owns a copy of `x`: (d,)."""
    return kind(
        np.array(x, np.float32),
        config or GossipConfig(**options),
        limits or LimitsConfig(),
        QuasiGlobalMomentum(beta),
        np.random.default_rng(seed),
        robust=robust,
        age=age,
        own_steps=own_steps,
    )


def question(
    x: Vector, *, seq: int = 0, age: int = 1000, codec: str = "float32", weight: float = 1.0
) -> Exchange:
    """An exchange asked by a stranger whose model is `x`: (d,)."""
    payload = encode(codec, np.array(x, np.float32), np.random.default_rng(0))
    return Exchange(seq, age, 0, 1, 0.0, 0.0, weight, payload)


def answered(
    state: GossipState, ask: Exchange, *, peer: str = "aa", incarnation: int = 1, now: float = 0.0
) -> tuple[Answer, Mixed]:
    """The answer to a question, its arithmetic done."""
    answer, mixed, work = state.answer(peer, incarnation, ask, newest_steps=0, now=now)
    finished(work)
    return answer, mixed


def asked(
    state: GossipState, peer: str, now: float, codec: str = "float32"
) -> tuple[Pending, Exchange]:
    """A question on its way: its payload is in memory of its own."""
    pending = state.open(peer, now)
    snapshot = state.snapshot(codec, now)
    finished(snapshot.work)
    ask = copied(state.ask(pending, snapshot, now))
    state.snapshots.release(snapshot)
    assert isinstance(ask, Exchange)
    return pending, ask


def ulp(x: Vector) -> Vector:
    """Distance to the next number, (d,) float64: one addition is off by half of it at most."""
    return np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)


@dataclass
class Member:
    """One node; a restart replaces its state."""

    name: str
    state: GossipState
    incarnation: int = 1


@dataclass
class Letter:
    """A message on its way; `deliver` may be called as often as the link repeats it."""

    source: int
    target: int
    deliver: Callable[[], None]
    due: float = 0.0


@dataclass
class Job:
    """Arithmetic that was begun, and what follows once it is done, or if it is broken off."""

    work: Iterator[None]
    then: Callable[[], None]
    broken: Callable[[], None] | None


@dataclass
class World:
    """n members, and what is in the air between them.

    Attributes:
        resolving: whether members ask what became of unanswered exchanges.
        added, taken: exchanges that took effect at the answerer, and at the asker.
        trained: sum of all deltas, (d,) float64.
        rounding: bound on all errors of float32 additions so far, (d,) float64.
    """

    members: list[Member]
    codec: str = "float32"
    resolving: bool = True
    now: float = 0.0
    delay_s: Callable[[], float] = lambda: 0.0
    letters: list[Letter] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    added: list[Effect] = field(default_factory=list)
    taken: set[Effect] = field(default_factory=set)
    outcomes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = self.total()
        self.trained = np.zeros_like(self.start)
        self.rounding = np.zeros_like(self.start)

    @classmethod
    def of(
        cls,
        stack: np.ndarray,
        *,
        kind: type[GossipState] = GossipState,
        limits: LimitsConfig | None = None,
        config: GossipConfig | None = None,
        **options: object,
    ) -> World:
        """A world whose member i begins with row i of `stack`: (n, d)."""
        return cls(
            [
                Member(f"{i:08x}", gossip_state(x, seed=i, kind=kind, limits=limits, config=config))
                for i, x in enumerate(stack)
            ],
            **options,
        )

    def total(self) -> np.ndarray:
        """Sum of all models, (d,) float64."""
        return np.sum([m.state.x for m in self.members], axis=0, dtype=np.float64)

    def drift(self) -> np.ndarray:
        """How far the sum is from what training made of it, (d,) float64."""
        return self.total() - self.start - self.trained

    # --- what members do ------------------------------------------------------------------------

    def ask(self, i: int, j: int) -> bool:
        """Member i asks member j, if its shares allow it."""
        asker = self.members[i]
        if not asker.state.can_ask():
            return False
        pending, ask = asked(asker.state, self.members[j].name, self.now, self.codec)
        self._send_question(asker, j, pending, ask)
        return True

    def train(self, i: int, delta: Vector) -> None:
        """Member i finishes a cycle."""
        state = self.members[i].state
        self._begin(state.apply(delta, 1, 0.1, state.lineage), lambda: None)
        self.trained += delta
        self._rounded(state.x + delta)

    def time_out(self, i: int, patience_s: float = PATIENCE_S) -> None:
        """Member i stops waiting for what was not answered, and resolves what is due."""
        asker = self.members[i]
        for pending in list(asker.state.outbox):
            if not pending.unresolved and self.now - pending.started >= patience_s:
                if self.resolving:
                    asker.state.unanswered(pending, self.now)
                else:
                    asker.state.outbox.close(pending)
        for pending in asker.state.outbox.overdue(self.now):
            asker.state.unanswered(pending, self.now)
            j = next(j for j, m in enumerate(self.members) if m.name == pending.peer)
            self._send_question(asker, j, pending, Resolve(pending.seq))
        asker.state.expire(self.now)

    def restart(self, i: int) -> None:
        """Member i crashes and goes on with its weights, but remembers no exchange."""
        old = self.members[i]
        state = gossip_state(old.state.x, age=old.state.age, seed=i)
        self.members[i] = Member(old.name, state, old.incarnation + 1)

    # --- what the link does ---------------------------------------------------------------------

    def deliver(self, at: int) -> None:
        """A letter arrives."""
        self.letters.pop(at).deliver()

    def repeat(self, at: int) -> None:
        """A letter arrives, and will arrive again."""
        self.letters[at].deliver()

    def drop(self, at: int) -> None:
        """A letter is lost."""
        del self.letters[at]

    def work(self, at: int) -> None:
        """Do one step of arithmetic that was begun."""
        job = self.jobs[at]
        try:
            next(job.work)
        except StopIteration:
            self.jobs.remove(job)
            job.then()

    def break_off(self, at: int) -> None:
        """The connection dies while a message is mixed that still arrives; adoptions are whole."""
        job = self.jobs[at]
        if job.broken is not None:
            self.jobs.remove(job)
            job.work.close()
            job.broken()

    def deliver_due(self) -> None:
        """All letters that are due arrive, their arithmetic is done at once."""
        self.work_all()
        while due := [letter for letter in self.letters if letter.due <= self.now]:
            for letter in due:
                self.letters.remove(letter)
                letter.deliver()
                self.work_all()

    def work_all(self) -> None:
        """Finish all arithmetic, step by step in turn."""
        while self.jobs:
            for job in list(self.jobs):
                if job in self.jobs:
                    self.work(self.jobs.index(job))

    def come_to_rest(self, longest_s: float = 60.0) -> None:
        """From now on nothing is lost; until nobody waits for anything."""
        self.delay_s = lambda: 0.0
        end = self.now + longest_s
        while self.letters or self.jobs or any(len(m.state.outbox) for m in self.members):
            assert self.now < end, "an exchange is never resolved"
            while self.letters:
                self.deliver(0)
                self.work_all()
            self.work_all()
            self.now += TICK_S
            for i in range(len(self.members)):
                self.time_out(i)

    # --- one exchange ---------------------------------------------------------------------------

    def _send_question(
        self, asker: Member, j: int, pending: Pending, body: Exchange | Resolve
    ) -> None:
        floor = asker.state.outbox.floor(pending.peer)
        arrives = partial(self._question_arrives, asker, j, pending, floor, body)
        self._send(self._index(asker), j, arrives)

    def _index(self, member: Member) -> int:
        return next(i for i, m in enumerate(self.members) if m.name == member.name)

    def _send(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        self.letters.append(Letter(source, target, deliver, self.now + self.delay_s()))

    def _question_arrives(
        self, asker: Member, j: int, pending: Pending, floor: int, body: Exchange | Resolve
    ) -> None:
        state, who = self.members[j].state, (asker.name, asker.incarnation)

        def reply(answer: Answer) -> None:
            arrives = partial(self._answer_arrives, asker, pending, copied(answer))
            self._send(j, self._index(asker), arrives)

        refused = state.refuse(*who, floor)
        if refused is not None:
            reply(refused)
        elif isinstance(body, Resolve):
            reply(state.answer_resolve(*who, body, self.now))
        elif not state.inbox.has_room(body.payload.nbytes):
            reply(Busy(0.1))
        else:
            answer, mixed, work = state.answer(*who, copied(body), newest_steps=0, now=self.now)
            self.outcomes.append(mixed.outcome)
            broken = None
            if mixed.outcome == "flow":
                self.added.append((*who, pending.seq))
                self._rounded(state.x)
                broken = _nothing
            self._begin(work, lambda: reply(answer), broken)

    def _answer_arrives(self, asker: Member, pending: Pending, answer: Answer) -> None:
        state = asker.state
        mixed, work = state.settle(pending, copied(answer))
        self.outcomes.append(mixed.outcome)
        if mixed.outcome != "flow":
            self._begin(work, _nothing)
            return
        self._rounded(state.x)

        def ended() -> None:
            if pending.settled == state.x.size:
                self.taken.add((asker.name, asker.incarnation, pending.seq))
            elif self.resolving:
                state.unanswered(pending, self.now)

        self._begin(work, ended, ended)

    def _begin(
        self,
        work: Iterator[None],
        then: Callable[[], None],
        broken: Callable[[], None] | None = None,
    ) -> None:
        # begun at once, as every driver does; what follows is up to the adversary
        next(work, None)
        self.jobs.append(Job(work, then, broken))

    def _rounded(self, x: Vector) -> None:
        # half a unit of the result, which may be in the next binade
        self.rounding += ulp(2 * x)


def _nothing() -> None:
    pass
