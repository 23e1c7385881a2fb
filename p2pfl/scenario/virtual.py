"""The engine `virtual`: runs a scenario in the simulator.

Rule of the file: everything depends on the scenario and its seed; clocks of the real world are only
looked at to tell how long it took, outside the world.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np

from p2pfl.config import NodeConfig
from p2pfl.core.graph import adjacency
from p2pfl.learning.threads import one_thread
from p2pfl.scenario.conditions import conditions
from p2pfl.scenario.director import Director
from p2pfl.scenario.eventlog import EventLog, Happened
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.load import rule_of
from p2pfl.scenario.looks import Looks
from p2pfl.scenario.recorder import Tallies
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.speeds import step_times
from p2pfl.scenario.trace import Floats, Progress, Trace
from p2pfl.scenario.verdicts import worst_tenth
from p2pfl.sim.hostile import Conspiracy
from p2pfl.sim.strays import outside
from p2pfl.sim.world import World

_LINKS_MAX = 4000
_PATIENCE = 20
"""A run in cycles ends after so many times the time they should take: nobody trains any more."""

Show = Callable[[Progress], None]


def simulate(
    scenario: Scenario,
    show: Show | None = None,
    *,
    events: Path | None = None,
    recorded: Iterator[Happened] | None = None,
) -> Trace:
    """Run a scenario in virtual time.

    Args:
        scenario: what runs.
        show: told now and then how it stands.
        events: file in which every event is kept; none if None.
        recorded: events of an earlier run of the same scenario, which these must equal.

    Raises:
        ConfigError: the task or a file of the scenario cannot be used.
        Diverged: an event was not the recorded one.
        Deadlock, Escape: see `p2pfl.sim`.
    """
    began = time.monotonic()
    log = EventLog(events, recorded)
    with one_thread(), closing(Learners(scenario)) as learners:
        run = _Run(scenario, learners, log, show)
        try:
            _apart(lambda: run.world.play(run.script))
            log.close()
        finally:
            log.put_down()
            if log.diverged is not None:
                raise log.diverged from None  # it came through the task groups of a node
    return run.trace(time.monotonic() - began)


def _apart(play: Callable[[], None]) -> None:
    """Run a world, in a thread of its own where an event loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        play()
        return
    with ThreadPoolExecutor(1, "world") as thread:
        thread.submit(play).result()


class _Run:
    def __init__(
        self, scenario: Scenario, learners: Learners, log: EventLog, show: Show | None
    ) -> None:
        self.scenario, self._log, self._show = scenario, log, show
        network = scenario.network
        rng = np.random.default_rng([scenario.seed, 0x57E9])
        self._rule = rule_of(scenario)
        config = scenario.node.model_copy(
            update={"run": scenario.name, "topology": self._rule.text}
        )
        self._step_s = step_times(scenario.compute, scenario.names, rng)
        self._tallies = Tallies(scenario.nodes, log, lambda: self.world.loop.now_ns)
        self.world = World(
            seed=scenario.seed,
            names=scenario.names,
            config=config,
            learner=learners.of,
            step_s=self._step_s,
            jitter=scenario.compute.jitter,
            conditions=conditions(scenario),
            recorder=self._tallies,
            signs=scenario.adversary.attack == "equivocation",
        )
        self.world.network.is_keyed = scenario.adversary.keyed
        conspire(scenario, self.world)
        for machine in self.world.machines:
            machine.up_bytes_per_s = network.up_bytes_per_s
            machine.down_bytes_per_s = network.down_bytes_per_s
            machine.disk.newest = learners.saved(machine.place)
        self._looks = Looks(self.world, learners, self._tallies, scenario.hostile)
        self._director = Director(scenario, self.world, self._said)
        self._seconds = scenario.duration.seconds or expected_s(
            scenario.duration.cycles or 1, config, self._step_s
        )

    async def script(self) -> None:
        """The whole run."""
        cycles, loop = self.scenario.duration.cycles, self.world.loop
        horizon = self._seconds if cycles is None else _PATIENCE * self._seconds
        every_s = self._seconds / self.scenario.measure.samples
        async with asyncio.TaskGroup() as stops:
            self._director.begin(horizon, stops)
            number = 0
            while True:
                await asyncio.sleep(max(number * every_s - loop.time(), 0.0))
                self._looks.look()
                self._tell()
                number += 1
                if cycles is None and number > self.scenario.measure.samples:
                    break
                if cycles is not None and self._tallies.cycles.mean() >= cycles:
                    break
                if loop.time() >= horizon:
                    break
            self._tallies.end()

    def trace(self, wall_s: float) -> Trace:
        """All that was measured."""
        looks, tallies = self._looks, self._tallies
        stalls = tallies.stalls.copy()
        stalls[list(self.scenario.hostile)] = np.nan
        return Trace(
            scenario=self.scenario,
            engine="virtual",
            times=np.array(looks.times),
            presence=np.stack(looks.presence),
            accuracy=np.stack(looks.accuracy),
            cycles=np.stack(looks.cycles),
            age=np.stack(looks.age),
            sent=np.stack(looks.sent),
            messages=np.stack(looks.messages),
            distance=np.array(looks.distance),
            pending=np.array(looks.pending),
            drift=np.array(looks.drift),
            optimum=np.array(looks.optimum),
            staleness=tallies.staleness,
            outcomes=dict(sorted(tallies.outcomes.items())),
            stalls=stalls,
            links=self._links(),
            marks=tuple(self._director.marks),
            events=self._log.count,
            event_hash=self._log.digest(),
            wall_s=wall_s,
            steps=tallies.steps,
            deaths=dict(self.world.deaths),
            notes=self._notes(),
            hostile=self.scenario.hostile,
            backdoor=np.array(looks.backdoor),
            suspended=np.array(looks.suspended),
        )

    def _links(self) -> tuple[tuple[int, int], ...]:
        """The neighbours with all present, by place; of very many a sample."""
        ids = [machine.disk.node or machine.name for machine in self.world.machines]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        rule, rng = self._rule, self.world.rng("links")
        if rule.links:
            by_name = {machine.name: machine.place for machine in self.world.machines}
            drawn = [(by_name[a], by_name[b]) for a, b in rule.links]
        elif rule.draws is not None:
            drawn = [
                (place, int(other))
                for place in range(len(ids))
                for other in rng.choice(len(ids), min(rule.draws, len(ids)), replace=False)
            ]
        elif len(ids) <= 1000:
            links = adjacency(rule, [ids[place] for place in order])
            drawn = [(order[a], order[b]) for a, b in np.argwhere(np.triu(links))]
        else:
            return ()
        unique = sorted({(min(a, b), max(a, b)) for a, b in drawn if a != b})
        if len(unique) > _LINKS_MAX:
            unique = [unique[i] for i in sorted(rng.choice(len(unique), _LINKS_MAX, replace=False))]
        return tuple(unique)

    def _notes(self) -> tuple[str, ...]:
        cycles = self.scenario.duration.cycles
        if cycles is not None and self._tallies.cycles.mean() < cycles:
            mean = self._tallies.cycles.mean()
            return (
                f"ended after {self._looks.times[-1]:.0f} s with {mean:.0f} of {cycles} cycles",
            )
        return ()

    # --- telling --------------------------------------------------------------------------------

    def _said(self, text: str) -> None:
        self._tell(text)

    def _tell(self, said: str = "") -> None:
        if self._show is None:
            return
        looks, now = self._looks, self.world.loop.time()
        mean = worst = distance = None
        if looks.times:
            accuracy = looks.accuracy[-1]
            if np.isfinite(accuracy).any():
                mean = float(np.nanmean(accuracy))
                worst = float(worst_tenth(accuracy[None, :])[0])
            distance = looks.distance[-1] if np.isfinite(looks.distance[-1]) else None
        cycles = float(self._tallies.cycles.mean())
        wanted = self.scenario.duration.cycles
        done = now / self._seconds if wanted is None else cycles / wanted
        up = sum(machine.life is not None for machine in self.world.machines)
        with outside():
            self._show(Progress(min(done, 1.0), now, up, mean, worst, distance, cycles, said))


def conspire(scenario: Scenario, world: World) -> None:
    """Make the scenario's hostile nodes hostile, before any of them starts."""
    adversary = scenario.adversary
    if adversary.attack != "none":
        Conspiracy(
            world,
            adversary.attack,
            scenario.hostile,
            strength=adversary.strength,
            begins_s=adversary.begins_s,
            ends_s=adversary.ends_s,
            adaptive=adversary.adaptive,
        )


def expected_s(cycles: int, config: NodeConfig, step_s: Floats) -> float:
    """How long so many cycles take on average over nodes with these step times.

    Args:
        cycles: wanted.
        config: its `train` says how many steps a cycle has, and how long it waits.
        step_s: (n,) seconds.
    """
    train = config.train
    steps = np.clip(np.rint(train.cycle_target_s / step_s), 1, train.steps_max)
    return float(cycles / np.mean(1 / np.maximum(steps * step_s, train.cycle_min_s)))
