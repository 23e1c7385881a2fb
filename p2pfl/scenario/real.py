"""The engine `processes`: runs a scenario with real nodes on this device.

    assemble   all first nodes train and believe all others alive; time begins here
    play       what is planned is done when it is due; the swarm is looked at now and then
    end        all processes stop; journals are read when nobody writes any more

Nodes are started as a user would start them, serve on loopback and find each other by mDNS there.
Where the scenario wants a network that loopback is not, every node is reached through a door
(`proxy`); the network is a quiet one until time begins.

Rule of the file: what a trace says was measured: by nodes of themselves, by us from outside, or
from journals. Where that cannot be what the scenario means, a note says so.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np

from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Clock
from p2pfl.scenario.handling import Handling, Member, rng_of
from p2pfl.scenario.linking import known_links
from p2pfl.scenario.load import rule_of
from p2pfl.scenario.measure import Counted, longest_stall, tallied
from p2pfl.scenario.orders import config, lay, needs_doors, options, refuse, toml
from p2pfl.scenario.processes import Condition, Swarm, obituary, sole
from p2pfl.scenario.proxy import Doors
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.speeds import step_times
from p2pfl.scenario.trace import STALENESS_EDGES, Floats, Presence, Progress, Trace
from p2pfl.scenario.verdicts import worst_tenth
from p2pfl.scenario.virtual import expected_s
from p2pfl.scenario.watching import FRESH_S, PULL_VALUES_MAX, STATUS_EVERY_S, Look, Watch

Show: TypeAlias = Callable[[Progress], None]

ASSEMBLY_S, ASSEMBLY_PER_NODE_S = 90.0, 3.0
"""Patience with the start: importing torch many times on one slow disk takes its time."""
LOOK_S = 0.25
"""Looks closer together would see the same thing twice, and cost the nodes processor time."""
PATIENCE = 20
"""A run in cycles ends after so many times the time they should take: nobody trains any more."""
SLOW = 1.25
"""Local steps that took so many times what the scenario says are worth a note."""

_TICK_S = 0.05
_TELL_EVERY_S = 0.25


async def play(scenario: Scenario, folder: Path, show: Show) -> Trace:
    """Run a scenario with real nodes; whatever happens, no process is left.

    Args:
        scenario: what runs.
        folder: state directories, logs and configuration files of the nodes go there.
        show: told now and then how it stands.

    Raises:
        ConfigError: real processes cannot do what the scenario says, or a node did not start; its
            own words are passed on.
        NetworkError: the nodes did not find each other.
    """
    refuse(scenario)
    try:
        return await _Run(scenario, folder, show).run()
    except BaseExceptionGroup as group:
        raise sole(group) from None


class _Looks:
    """The looks at the swarm so far: each list has one entry a look; see `Trace` for the names."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.presence: list[list[int]] = []
        self.accuracy: list[list[float]] = []
        self.cycles: list[list[float]] = []
        self.age: list[list[float]] = []
        self.sent: list[list[float]] = []
        self.distance: list[float] = []
        self.pending: list[float] = []


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        show: Show,
        clock: Clock = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._scenario = scenario
        self._folder = folder
        self._show = show
        self._clock = clock
        self._wall = wall
        self._began = clock()
        self._zero = self._began
        self._wall_zero = 0.0
        names = scenario.names
        # the same chance as the simulator's, so that the same nodes are slow
        chance = np.random.default_rng([scenario.seed, 0x57E9])
        self._step_s = step_times(scenario.compute, names, chance)
        duration = scenario.duration
        self._seconds = duration.seconds or expected_s(
            duration.cycles or 1, scenario.node, self._step_s
        )
        self._look_s = self._seconds / scenario.measure.samples
        self._look_s = max(self._look_s, LOOK_S if duration.cycles is None else STATUS_EVERY_S)
        run = f"{scenario.name}-{secrets.token_hex(4)}"
        self._doors = (
            Doors(names, rng_of(scenario.seed, "network")) if needs_doors(scenario) else None
        )
        self._swarm = Swarm(folder, run, scenario.task.name)
        self._watch = Watch(self._swarm, clock, min(self._look_s, STATUS_EVERY_S))
        self._members: list[Member] = []
        self._counted = [Counted() for _ in names]
        self._ids: dict[int, str] = {}
        self._looks = _Looks()
        self._told_at = -math.inf
        self._notes: list[str] = []

    def _now(self) -> float:
        """Seconds since time began; negative before."""
        return self._clock() - self._zero

    # --- the acts -------------------------------------------------------------------------------

    async def run(self) -> Trace:
        self._folder.mkdir(parents=True, exist_ok=True)
        async with self._everything() as tasks:
            handling = Handling(
                self._scenario,
                self._members,
                self._doors,
                rng_of(self._scenario.seed, "faults"),
                tasks,
                self._clock,
                self._said,
            )
            await self._assemble(handling)
            await self._play(handling)
            end = self._now()
            for member in self._members:
                member.is_away(self._zero + end)
            late = [*handling.late, *(node.name for node in await self._swarm.stop())]
        if late:
            who = ", ".join(dict.fromkeys(late))
            self._notes.append(f"killed, because they did not end when asked to: {who}")
        return self._trace(handling, end)

    @asynccontextmanager
    async def _everything(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Doors, processes and our watch; the tasks of starts and stops end first."""
        async with AsyncExitStack() as stack:
            if self._doors is not None:
                await stack.enter_async_context(self._doors.running())
            await stack.enter_async_context(self._swarm.running())
            for place, name in enumerate(self._scenario.names):
                self._members.append(self._member(place, name))
            await stack.enter_async_context(self._watch.running())
            yield await stack.enter_async_context(asyncio.TaskGroup())

    def _member(self, place: int, name: str) -> Member:
        values = config(
            self._scenario, place, float(self._step_s[place]), self._look_s, self._doors
        )
        file = self._folder / f"{name}.toml"
        try:
            file.write_text(toml(values), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}") from None
        return Member(place, self._swarm.add(name, *options(self._scenario, place, str(file))))

    async def _assemble(self, handling: Handling) -> None:
        """Start the first nodes and wait until each trains and knows all others."""
        first = handling.start_first()
        self._said(f"{len(first)} nodes start and look for each other")
        patience_s = ASSEMBLY_S + ASSEMBLY_PER_NODE_S * len(first)
        while not all(self._has_found(member, len(first)) for member in first):
            await asyncio.sleep(_TICK_S)
            for member in first:
                if member.process.has_died():
                    raise ConfigError(obituary(member.process))
            if self._now() > patience_s:
                found = sum(self._has_found(member, len(first)) for member in first)
                raise NetworkError(
                    f"{found} of {len(first)} nodes found all others within {patience_s:g} s; "
                    f"see their logs in {self._folder}"
                )
            self._tell()
        took_s = self._now()
        self._begin()
        cycles = float(np.mean([one.cycles for one in self._counted]))
        self._notes.append(
            f"time begins when all nodes know each other, {took_s:.1f} s and {cycles:.0f} cycles "
            "after the first was started"
        )
        for counted in self._counted:
            counted.cycles = counted.sent = 0.0
        if self._doors is not None:
            lay(self._scenario, self._doors, handling.rng)
            self._notes.append("messages between nodes pass a proxy in the engine's process")
        duration = self._scenario.duration
        horizon_s = self._seconds if duration.cycles is None else PATIENCE * self._seconds
        handling.begin(self._zero, horizon_s)

    def _has_found(self, member: Member, nodes: int) -> bool:
        seen = self._present(member)
        return seen is not None and seen.cycles > 0 and seen.alive >= nodes - 1

    def _begin(self) -> None:
        """Time begins now; what was counted before happened before it."""
        self._zero = self._clock()
        self._wall_zero = self._wall()
        self._told_at = -math.inf
        self._notice()

    async def _play(self, handling: Handling) -> None:
        wanted, looked = self._scenario.duration.cycles, 0
        while True:
            handling.do_what_is_due()
            now = self._now()
            self._notice()
            if now >= looked * self._look_s:
                looked = int(now / self._look_s) + 1
                self._look(now)
            self._tell()
            if wanted is None:
                if now >= self._seconds:
                    break
            elif self._cycles() >= wanted:
                break
            elif now >= PATIENCE * self._seconds:
                mean = self._cycles()
                self._notes.append(f"ended after {now:.0f} s with {mean:.0f} of {wanted} cycles")
                break
            await asyncio.sleep(min(_TICK_S, max(self._seconds - now, 0.001)))
        if self._looks.times[-1] < now:
            self._look(now)
        self._tell(at_once=True)

    # --- what is seen ---------------------------------------------------------------------------

    def _present(self, member: Member) -> Look | None:
        """What a node said last in its present life, if that was not long ago."""
        seen = self._watch.last(member.name)
        if seen is None or seen.at <= member.began or not member.is_alive:
            return None
        return seen if self._clock() - seen.at < max(FRESH_S, 2 * self._look_s) else None

    def _notice(self) -> None:
        """Who came up, and what everybody has done meanwhile."""
        for member, counted in zip(self._members, self._counted, strict=True):
            looks = self._watch.looks[member.name]
            counted.take(looks)
            if looks:
                self._ids[member.place] = looks[-1].node
            is_running = member.process.condition is Condition.RUNNING
            if member.up_since is None and is_running and self._present(member) is not None:
                member.up_since = self._clock()

    def _cycles(self) -> float:
        return float(np.mean([counted.cycles for counted in self._counted]))

    def _presence(self, member: Member) -> Presence:
        """A node is up from its first word on."""
        match member.process.condition:
            case Condition.PLANNED:
                return Presence.ABSENT
            case Condition.FROZEN:
                return Presence.PAUSED
            case Condition.RUNNING if member.up_since is not None:
                return Presence.UP
            case Condition.RUNNING if member.process.starts == 1:
                return Presence.ABSENT
            case _:
                return Presence.DOWN

    def _look(self, now: float) -> None:
        """Note how everything stands."""
        looks, presence = self._looks, [self._presence(member) for member in self._members]
        seen = [
            self._present(member) if there is Presence.UP else None
            for member, there in zip(self._members, presence, strict=True)
        ]
        was_there = [member.process.starts > 0 for member in self._members]
        counted = list(zip(self._counted, was_there, strict=True))
        pending = [one.pending for one in seen if one is not None and one.pending is not None]
        looks.times.append(now)
        looks.presence.append([int(there) for there in presence])
        looks.accuracy.append(
            [math.nan if one is None or one.accuracy is None else one.accuracy for one in seen]
        )
        looks.age.append([math.nan if one is None else float(one.age) for one in seen])
        looks.cycles.append([one.cycles if there else math.nan for one, there in counted])
        looks.sent.append([one.sent if there else math.nan for one, there in counted])
        looks.distance.append(self._distance())
        looks.pending.append(float(max(pending)) if pending else math.nan)

    def _distance(self) -> float:
        last = self._watch.history[-1] if self._watch.history else None
        if last is None or last.distance is None or self._clock() - last.at > FRESH_S:
            return math.nan
        return last.distance

    def _said(self, text: str) -> None:
        self._tell(text, at_once=True)

    def _tell(self, said: str = "", *, at_once: bool = False) -> None:
        """Show how it stands, if that was not done a moment ago."""
        now = self._now()
        if not at_once and now - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = now
        has_begun = self._zero > self._began
        presence = [self._presence(member) for member in self._members]
        seen = [self._present(member) for member in self._members]
        accuracy = np.array(
            [math.nan if one is None or one.accuracy is None else one.accuracy for one in seen]
        )
        is_known = bool(np.isfinite(accuracy).any())
        distance, cycles = self._distance(), self._cycles() if has_begun else 0.0
        wanted = self._scenario.duration.cycles
        done = now / self._seconds if wanted is None else cycles / wanted
        self._show(
            Progress(
                done=min(max(done, 0.0), 1.0) if has_begun else 0.0,
                seconds=now if has_begun else 0.0,
                up=sum(there is Presence.UP for there in presence)
                if has_begun
                else sum(one is not None for one in seen),
                mean=float(np.nanmean(accuracy)) if is_known else None,
                worst_tenth=float(worst_tenth(accuracy[None, :])[0]) if is_known else None,
                distance=distance if math.isfinite(distance) else None,
                cycles=cycles,
                said=said,
            )
        )

    # --- the end --------------------------------------------------------------------------------

    def _trace(self, handling: Handling, end: float) -> Trace:
        zero, looks = self._wall_zero, self._looks
        outcomes: Counter[str] = Counter()
        staleness = np.zeros(len(STALENESS_EDGES), np.int64)
        stalls = np.full(len(self._members), math.nan)
        slowness, steps = [], 0
        for member in self._members:
            found = tallied(member.process.journals, zero, zero + end)
            outcomes += found.outcomes
            staleness += found.staleness
            steps += found.steps
            ended = [self._zero + at - zero for at in found.cycles]
            stalls[member.place] = longest_stall(ended, member.spans)
            if found.steps:
                slowness.append(found.training_s / found.steps / self._step_s[member.place])
        self._note_how_it_went(slowness)
        times = np.array(looks.times)
        unknown: Floats = np.full(len(times), math.nan)
        return Trace(
            scenario=self._scenario,
            engine="processes",
            times=times,
            presence=np.array(looks.presence, np.int8),
            accuracy=np.array(looks.accuracy, np.float64),
            cycles=np.array(looks.cycles, np.float64),
            age=np.array(looks.age, np.float64),
            sent=np.array(looks.sent, np.float64),
            messages=np.full((len(times), len(self._members)), math.nan),
            distance=np.array(looks.distance, np.float64),
            pending=np.array(looks.pending, np.float64),
            drift=unknown,
            optimum=unknown.copy(),
            staleness=staleness,
            outcomes=dict(sorted(outcomes.items())),
            stalls=stalls,
            links=self._links(),
            marks=tuple(handling.marks),
            events=None,
            event_hash=None,
            wall_s=self._clock() - self._began,
            steps=steps,
            deaths=dict(handling.deaths),
            notes=tuple(self._notes),
        )

    def _note_how_it_went(self, slowness: Sequence[float]) -> None:
        scenario = self._scenario
        if slowness and (times := float(np.median(slowness))) > SLOW:
            self._notes.append(
                f"a local step took {times:.1f} x what [compute] says: this device is too slow for "
                f"{scenario.nodes} nodes at once"
            )
        if scenario.duration.cycles is None and len(self._looks.times) <= scenario.measure.samples:
            self._notes.append(
                f"{len(self._looks.times)} looks instead of {scenario.measure.samples}: real nodes "
                f"are looked at every {LOOK_S:g} s at most"
            )
        last = [seen for member in self._members if (seen := self._watch.last(member.name))]
        if last and last[0].parameters > PULL_VALUES_MAX:
            self._notes.append("the models are too large to be pulled: no consensus distance")

    def _links(self) -> tuple[tuple[int, int], ...]:
        scenario = self._scenario
        return known_links(rule_of(scenario), self._ids, scenario.names, scenario.seed)
