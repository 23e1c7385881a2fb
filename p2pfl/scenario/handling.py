"""Does to real nodes what a scenario says: kills, stops, starts, freezes, cuts and holds.

    chance    takes away whoever runs, and brings back only whom it took away
    script    churn.events and faults.events; whom a share or a number means is drawn when it
              happens, by the same chance as in the simulator

Rule of the file: what makes no sense in a node's present condition (a kill of one that is dead) is
left undone. Nothing here looks at a node; when it is up again is for others to tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import numpy as np

from p2pfl.config import StopConfig
from p2pfl.ports import Clock
from p2pfl.scenario.churning import ChurnAction, absent, chosen, schedule
from p2pfl.scenario.processes import STOPPING_S, Condition, NodeProcess, obituary
from p2pfl.scenario.proxy import Doors
from p2pfl.scenario.spec import ChurnEvent, FaultEvent, Scenario, Who
from p2pfl.scenario.trace import Mark

T = TypeVar("T")

UNSAID_S = 0.6
"""What a journal does not hold of the last moments of a node that was killed."""

_LISTED = 6


@dataclass(slots=True, eq=False)
class Member:
    """One node, over all its lives.

    Attributes:
        place: from 0.
        process: runs it.
        began: when its present life was started; infinite before the first.
        up_since: since when it has been up; None while it is not.
        spans: from when until when it was up, what may be missing in its journal left out.
        is_due: it is being started.
        freezes: pauses of its present life that are not over.
    """

    place: int
    process: NodeProcess
    began: float = float("inf")
    up_since: float | None = None
    spans: list[tuple[float, float]] = field(default_factory=list)
    is_due: bool = False
    freezes: int = 0

    @property
    def name(self) -> str:
        """Its label."""
        return self.process.name

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self.process.condition.is_alive

    def is_away(self, now: float, unsaid_s: float = 0.0) -> None:
        """It is not up any more."""
        if self.up_since is not None:
            self.spans.append((self.up_since, max(self.up_since, now - unsaid_s)))
            self.up_since = None


def rng_of(seed: int, concern: str) -> np.random.Generator:
    """The generator of one concern, the same as the simulator's for it (`World.rng`)."""
    digest = hashlib.blake2b(concern.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "big")])


class Handling:
    """The hand that does it.

    Args:
        scenario: what is to be done.
        members: all nodes, by place.
        doors: between them, if there are any.
        rng: whom shares and numbers mean.
        tasks: in which starts and stops take their time.
        clock: monotonic seconds; all times of members are by it.
        said: told in words what was just done.

    Attributes:
        rng: whom shares and numbers mean.
        marks: what was done so far, chance left out.
        deaths: names of those who ended by themselves, and their last words.
        late: names of those who had to be killed when they were asked to stop.
    """

    def __init__(
        self,
        scenario: Scenario,
        members: Sequence[Member],
        doors: Doors | None,
        rng: np.random.Generator,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        said: Callable[[str], None],
    ) -> None:
        self.marks: list[Mark] = []
        self.deaths: dict[str, str] = {}
        self.late: list[str] = []
        self._scenario = scenario
        self._members = members
        self._doors = doors
        self.rng = rng
        self._tasks = tasks
        self._clock = clock
        self._said = said
        self._may_end = scenario.node.stop != StopConfig()
        self._by_chance: dict[int, Callable[[], None]] = {}
        self._plan: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._zero = 0.0

    def start_first(self) -> list[Member]:
        """Start those who are there from the beginning."""
        missing = set(absent(self._scenario))
        first = [member for member in self._members if member.place not in missing]
        for member in first:
            self._start_now(member)
        return first

    def begin(self, zero: float, horizon_s: float) -> None:
        """Plan everything, what chance does up to a horizon.

        Args:
            zero: when time began, by the clock.
            horizon_s: counted from there.
        """
        scenario, self._zero = self._scenario, zero
        for action in schedule(scenario, horizon_s, rng_of(scenario.seed, "churn")):
            self._at(action.at, self._does_by_chance, action)
        for churn in scenario.churn.events:
            self._at(churn.at, self._churn, churn)
        for fault in scenario.faults.events:
            self._at(fault.at, self._fault, fault)

    def do_what_is_due(self) -> None:
        """Do what is planned until now, and notice who ended by itself."""
        now = self._clock()
        while self._plan and self._plan[0][0] <= now:
            heapq.heappop(self._plan)[2]()
        for member in self._members:
            if member.process.has_died():
                member.is_away(now)
                self._shut(member)
                if member.process.exit_code == 0 and self._may_end:
                    self._said(f"{member.name} ended as it was told to")
                else:
                    self.deaths[member.name] = obituary(member.process)
                    self._said(f"{member.name} ended by itself")

    def _at(self, at: float, do: Callable[[T], None], what: T) -> None:
        heapq.heappush(self._plan, (self._zero + at, next(self._order), lambda: do(what)))

    # --- one node -------------------------------------------------------------------------------

    def _kill(self, member: Member) -> None:
        if member.is_alive:
            member.is_away(self._clock(), UNSAID_S)
            member.process.kill()
            self._shut(member)

    def _stop(self, member: Member) -> None:
        if member.is_alive:
            member.is_away(self._clock(), UNSAID_S)
            member.process.terminate()
            self._tasks.create_task(self._gone(member), name=f"stop {member.name}")

    async def _gone(self, member: Member) -> None:
        """See to it that it ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOPPING_S):
                await member.process.ended()
        if member.process.exit_code is None:
            self.late.append(member.name)
            member.process.destroy()
        if not member.is_alive:
            self._shut(member)

    def _start(self, member: Member, *, wiped: bool) -> None:
        if not (member.is_alive or member.is_due):
            member.is_due = True
            self._tasks.create_task(self._starting(member, wiped), name=f"start {member.name}")

    async def _starting(self, member: Member, wiped: bool) -> None:
        """Its earlier life may need a moment to end."""
        if member.process.starts:
            await self._gone(member)
        if wiped:
            member.process.forget()
        self._start_now(member)
        member.is_due = False

    def _start_now(self, member: Member) -> None:
        self._plug(member, is_in=True)
        member.freezes = 0
        member.process.start()
        member.began = self._clock()
        if self._doors is not None:
            self._doors.expect(member.place)

    def _pause(self, member: Member) -> Callable[[], None]:
        """Freeze a process; gives what ends this pause, and this one only."""
        life = member.process.starts
        member.freezes += 1
        if member.process.condition is Condition.RUNNING:
            member.is_away(self._clock(), UNSAID_S)
            member.process.freeze()

        def over() -> None:
            if member.process.starts != life:
                return
            member.freezes -= 1
            if member.freezes == 0 and member.process.condition is Condition.FROZEN:
                self._plug(member, is_in=True)
                member.process.thaw()
                member.up_since = self._clock()

        return over

    def _shut(self, member: Member) -> None:
        if self._doors is not None:
            self._doors.shut(member.place)

    def _plug(self, member: Member, *, is_in: bool) -> None:
        if self._doors is not None:
            self._doors.lines[member.place].is_unplugged = not is_in

    # --- who comes and goes ---------------------------------------------------------------------

    def _does_by_chance(self, action: ChurnAction) -> None:
        member = self._members[action.node]
        if action.what in ("kill", "stop", "pause"):
            if member.process.condition is not Condition.RUNNING:
                return
            self._by_chance[action.node] = _nothing
        elif action.node not in self._by_chance:
            return
        match action.what:
            case "kill":
                self._kill(member)
            case "stop":
                self._stop(member)
            case "pause":
                self._by_chance[action.node] = self._pause(member)
                self._plug(member, is_in=False)
            case "wipe":
                if not member.is_alive:
                    member.process.forget()
            case "start":
                del self._by_chance[action.node]
                self._start(member, wiped=False)
            case "resume":
                self._by_chance.pop(action.node)()

    def _churn(self, event: ChurnEvent) -> None:
        if event.kill is not None:
            hit, kind, text = self._chosen(event.kill, self._alive()), "kill", "killed"
            for member in hit:
                self._kill(member)
        elif event.stop is not None:
            hit, kind, text = self._chosen(event.stop, self._alive()), "stop", "asked to stop"
            for member in hit:
                self._stop(member)
        else:
            assert event.start is not None
            down = [member for member in self._members if not member.is_alive]
            hit = [m for m in self._chosen(event.start, down) if not m.is_alive]
            kind, text = "start", "started"
            for member in hit:
                self._by_chance.pop(member.place, None)
                self._start(member, wiped=event.lost_state)
        self._mark(event.at, None, f"{_listed(hit)} {text}", hit, kind)

    # --- what goes wrong ------------------------------------------------------------------------

    def _fault(self, event: FaultEvent) -> None:
        """Begin it, and plan its end."""
        hit: list[Member] = []
        if event.pause is not None:
            hit = self._chosen(event.pause, self._alive())
            ends = [self._pause(member) for member in hit if member.is_alive]
            text, repair = f"{_listed(hit)} frozen", lambda: _all(ends)
        else:
            assert self._doors is not None
            ways = self._doors.ways
            if event.partition is not None:
                islands = self._islands(event.partition)
                opened = ways.part(*map(_names, islands))
                text = "partition: " + " | ".join(_listed(island) for island in islands)
            else:
                both = event.one_way or event.hold
                assert both is not None
                a, b = (self._chosen(who, self._members) for who in both)
                hit = [*a, *b]
                if event.one_way is not None:
                    opened = [ways.cut(_names(a), _names(b))]
                    text = f"{_listed(a)} → {_listed(b)} cut"
                else:
                    pairs = ((_names(a), _names(b)), (_names(b), _names(a)))
                    opened = [ways.hold(*pair) for pair in pairs]
                    text = f"messages between {_listed(a)} and {_listed(b)} held"
            repair = lambda: ways.repair(*opened)  # noqa: E731
        self._mark(event.at, event.until, text, hit, event.kind)
        if event.until is not None:
            self._at(event.until, self._repaired, (repair, text))

    def _repaired(self, what: tuple[Callable[[], None], str]) -> None:
        repair, text = what
        repair()
        self._said(f"over: {text}")

    def _islands(self, partition: tuple[Who, ...]) -> list[list[Member]]:
        """The islands named, and the rest as one more."""
        islands: list[list[Member]] = []
        taken: set[int] = set()
        for who in partition:
            island = [m for m in self._chosen(who, self._members) if m.place not in taken]
            taken |= {member.place for member in island}
            islands.append(island)
        rest = [member for member in self._members if member.place not in taken]
        return [island for island in (*islands, rest) if island]

    # --- whom, and what is told -----------------------------------------------------------------

    def _alive(self) -> list[Member]:
        return [member for member in self._members if member.is_alive]

    def _chosen(self, who: Who, among: Iterable[Member]) -> list[Member]:
        places = [member.place for member in among]
        return [self._members[p] for p in chosen(who, self._scenario.names, places, self.rng)]

    def _mark(
        self, at: float, until: float | None, text: str, hit: Iterable[Member], kind: str
    ) -> None:
        self.marks.append(Mark(at, until, text, tuple(member.place for member in hit), kind))
        self._said(text)


def _names(members: Iterable[Member]) -> list[str]:
    return [member.name for member in members]


def _nothing() -> None:
    """What ends an absence that is no pause."""


def _all(ends: Iterable[Callable[[], None]]) -> None:
    for end in ends:
        end()


def _listed(members: Sequence[Member]) -> str:
    if len(members) <= _LISTED:
        return ", ".join(_names(members)) or "nobody"
    return f"{len(members)} nodes"
