"""Plays a demo: starts real nodes, waits until they have found each other, lets things happen.

    assemble   all first nodes train and believe all others alive; time begins here
    play       the timeline's steps when they are due; deaths and comebacks as they are noticed
    end        what each node is at the end; all processes stop
    record     journals and curves are read when nobody writes any more

Rule of the file: one loop looks, acts and draws; nothing here trains, mixes or knows a port.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Clock
from p2pfl.scenario import alone
from p2pfl.scenario.measure import final, resumed, shifted, stall
from p2pfl.scenario.processes import NodeProcess, Swarm, obituary, sole
from p2pfl.scenario.record import Happening, Plan, Record, Sample, What
from p2pfl.scenario.retold import SETTINGS, checkpoint_every_s
from p2pfl.scenario.scene import Mood, Row, Scene, Show, page_of, state_of, swarm_of
from p2pfl.scenario.timeline import Action, Role, Step
from p2pfl.scenario.watching import FRESH_S, Look, Watch

LOCAL_ONLY = "local-only.jsonl"

ASSEMBLY_S = 90.0
"""Patience with the start: importing torch five times on one slow disk takes its time."""

_TICK_S = 0.1
_DRAW_EVERY_S = 0.25
_SAMPLE_EVERY_S = 0.5
_CURVE = 100


class Demo:
    """One demo, played once.

    Args:
        plan: what to show.
        show: where to show it.
        opened: told once where the page of the swarm is, as soon as it is there.
        clock: monotonic seconds.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        plan: Plan,
        show: Show,
        opened: Callable[[str], None] = lambda page: None,
        clock: Clock = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._plan = plan
        self._show = show
        self._opened = opened
        self._address = ""
        self._clock = clock
        self._wall = wall
        self._began = clock()
        self._complete: float | None = None
        self._happenings: list[Happening] = []
        self._awaited: dict[str, What] = {}
        self._untimely: list[str] = []
        self._drawn = -math.inf
        self._samples: list[Sample] = []
        self._swarm = Swarm(plan.folder, plan.run, plan.task, self._options())
        self._watch = Watch(self._swarm, clock)

    def _options(self) -> tuple[str, ...]:
        """What makes a demo of a run: everything a little more often than a device needs it."""
        settings = {"checkpoint_every_s": checkpoint_every_s(self._plan), **SETTINGS}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        split = ("--partition", self._plan.partition, "--data-seed", str(self._plan.seed))
        return (*split, *words, "--quiet")

    async def run(self) -> Record:
        """Play it; whatever happens, no process is left.

        Raises:
            ConfigError: a node did not start; its own words are passed on.
            NetworkError: they did not find each other.
        """
        try:
            return await self._played()
        except BaseExceptionGroup as group:
            raise sole(group) from None

    async def _played(self) -> Record:
        plan, swarm = self._plan, self._swarm
        plan.folder.mkdir(parents=True, exist_ok=True)
        async with swarm.running():
            for number, name in enumerate(plan.names, start=1):
                shard = ("--shard", f"{number}/{len(plan.names)}")
                swarm.add(name, *shard, "--seed", str(1000 * plan.seed + number))
            async with self._watch.running():
                starting_s = await self._assemble()
                begin = self._wall()
                self._compare()
                await self._play()
                end = self._wall()
                self._address = ""
                self._draw(at_once=True)
            self._happen("", What.PHASE, "time is over, all nodes are asked to stop")
            late = await swarm.stop()
        return self._record(begin, end, starting_s, [node.name for node in late])

    # --- the acts -------------------------------------------------------------------------------

    async def _assemble(self) -> float:
        """Start the first nodes and wait until each trains and knows all others; in seconds."""
        plan = self._plan
        self._happen("", What.STARTS, f"{plan.nodes} nodes start and look for each other")
        for name in plan.first:
            self._swarm.nodes[name].start()
        while not all(map(self._has_found_all, plan.first)):
            await asyncio.sleep(_TICK_S)
            for node in self._swarm.nodes.values():
                if node.has_died():
                    raise ConfigError(obituary(node))
            if self._clock() - self._began > ASSEMBLY_S:
                found = sum(map(self._has_found_all, plan.first))
                raise NetworkError(
                    f"{found} of {plan.nodes} nodes found all others within {ASSEMBLY_S:g} s; "
                    f"see their logs in {plan.folder}"
                )
            self._open()
            self._draw()
        self._open()
        self._complete = self._clock()
        starting_s = self._complete - self._began
        self._happenings = [replace(one, at=one.at - starting_s) for one in self._happenings]
        self._happen("", What.PHASE, f"all {plan.nodes} nodes train and know each other")
        return starting_s

    def _open(self) -> None:
        """Tell where the page is, once the first node has answered; it is never hit."""
        first = self._plan.first[0]
        if not self._address and self._watch.last(first) is not None:
            self._address = self._swarm.addresses[first]
            self._opened(page_of(self._address))
            self._draw(at_once=True)

    def _has_found_all(self, name: str) -> bool:
        seen = self._watch.last(name)
        return seen is not None and seen.cycles > 0 and seen.alive >= self._plan.nodes - 1

    def _compare(self) -> None:
        """Train every shard alone meanwhile, to have something to compare with."""
        plan = self._plan
        arguments = (plan.task, plan.run, len(plan.names), plan.partition, plan.seed)
        out = plan.folder / LOCAL_ONLY
        self._swarm.help_with(alone.__name__, *map(str, (*arguments, alone.STEPS_MAX)), out=out)

    async def _play(self) -> None:
        due = list(self._plan.steps)
        while (now := self._now()) < self._plan.seconds:
            while due and due[0].at <= now:
                self._do(due.pop(0))
            self._notice()
            self._draw()
            self._sample()
            await asyncio.sleep(_TICK_S)

    def _do(self, step: Step) -> None:
        node = self._swarm.nodes[step.node]
        if step.action not in (Action.JOIN, Action.RESTART) and not node.condition.is_alive:
            return  # it died by itself, which was told
        match step.action:
            case Action.KILL:
                node.kill()
                self._happen(node.name, What.KILLED, f"{node.name} is killed (SIGKILL)")
            case Action.FREEZE:
                node.freeze()
                self._happen(node.name, What.FROZEN, f"{node.name} is frozen (SIGSTOP)")
            case Action.THAW:
                node.thaw()
                self._happen(node.name, What.THAWED, f"{node.name} is thawed (SIGCONT)")
            case Action.RESTART:
                node.start()
                self._awaited[node.name] = What.BACK
                self._happen(node.name, What.RESTARTED, f"{node.name} is started again")
            case Action.JOIN:
                node.start()
                self._awaited[node.name] = What.JOINED
                text = f"{node.name} joins late, with an empty model"
                self._happen(node.name, What.JOINS, text)

    def _notice(self) -> None:
        """Deaths and comebacks."""
        for node in self._swarm.nodes.values():
            if node.has_died():
                self._untimely.append(node.name)
                self._happen(node.name, What.DIED, obituary(node))
        for name, what in tuple(self._awaited.items()):
            seen = self._present(name)
            if seen is None or seen.state != "training" or seen.accuracy is None:
                continue
            del self._awaited[name]
            if what is What.BACK:
                text = f"{name} is back from its checkpoint, now at age {seen.age:,}"
            else:
                text = f"{name} is in, at age {seen.age:,} after {seen.own_steps:,} own steps"
            self._happen(name, what, text)

    # --- what is seen ---------------------------------------------------------------------------

    def _now(self) -> float:
        """Seconds since the swarm was complete, before that since the beginning."""
        return self._clock() - (self._began if self._complete is None else self._complete)

    def _happen(self, name: str, what: What, text: str) -> None:
        happening = Happening(self._now(), name, what, text)
        self._happenings.append(happening)
        self._show.happened(happening)

    def _present(self, name: str) -> Look | None:
        """What a node said last in its present life."""
        seen = self._watch.last(name)
        return seen if seen and seen.incarnation == self._swarm.nodes[name].starts else None

    def _sample(self) -> None:
        """Note how all nodes stand, if that was not done a moment ago."""
        if self._samples and self._now() - self._samples[-1].at < _SAMPLE_EVERY_S:
            return
        at = self._now()
        for node in self._swarm.nodes.values():
            row = self._row(node)
            seen = row.seen if row.mood in (Mood.GOOD, Mood.BUSY) else None
            self._samples.append(Sample(at, node.name, row.state, seen))

    def _draw(self, *, at_once: bool = False) -> None:
        """Show how it stands, if that was not done a moment ago."""
        if not at_once and self._clock() - self._drawn < _DRAW_EVERY_S:
            return
        self._drawn = self._clock()
        plan, watch = self._plan, self._watch
        at = None if self._complete is None else self._now()
        coming = next((s for s in plan.steps if at is not None and s.at > at), None)
        rows = tuple(self._row(node) for node in self._swarm.nodes.values())
        swarm, ago_s = swarm_of(rows, self._clock(), watch.history)
        self._show.draw(
            Scene(plan, at, swarm, rows, tuple(self._happenings), coming, self._address, ago_s)
        )

    def _row(self, node: NodeProcess) -> Row:
        seen = self._present(node.name)
        is_fresh = seen is not None and self._clock() - seen.at < FRESH_S
        role = self._plan.roles[node.name]
        state, mood = state_of(node.condition, node.starts, role, seen, is_fresh)
        looks = self._watch.looks[node.name]
        thinned = looks[:: 1 + len(looks) // _CURVE]
        curve = tuple(one.accuracy for one in thinned if one.accuracy is not None)
        answers = is_fresh and mood in (Mood.GOOD, Mood.BUSY)
        return Row(node.name, state, mood, looks[-1] if looks else None, curve, answers)

    # --- the end --------------------------------------------------------------------------------

    def _record(self, begin: float, end: float, starting_s: float, late: list[str]) -> Record:
        plan, nodes, seen = self._plan, self._swarm.nodes, self._watch.looks
        zero = self._complete or 0.0
        looks = {name: shifted(seen[name], zero) for name in plan.names}
        survivors = [name for name, role in plan.roles.items() if role is Role.SURVIVOR]
        killed = dict.fromkeys(step.node for step in plan.steps if step.action is Action.KILL)
        own_steps = median(of_node[-1].own_steps for of_node in looks.values() if of_node)
        return Record(
            plan=plan,
            samples=self._samples,
            looks=looks,
            history=[replace(one, at=one.at - zero) for one in self._watch.history],
            happenings=self._happenings,
            finals={
                name: None if name in self._untimely else final(looks[name], plan.seconds)
                for name in plan.names
            },
            stalls={name: stall(nodes[name].journal, begin, end) for name in survivors},
            resumed={name: resumed(nodes[name].journal) for name in killed},
            local=alone.local_only(plan.folder / LOCAL_ONLY, own_steps),
            starting_s=starting_s,
            wall_s=self._clock() - self._began,
            started=begin - starting_s,
            untimely=tuple(dict.fromkeys(self._untimely)),
            killed_at_end=tuple(late),
        )
