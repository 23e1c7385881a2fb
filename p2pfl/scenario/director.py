"""Does to a virtual swarm what its scenario says: who comes and goes, and what goes wrong.

Hostile nodes stay up, which is the worst case: only a script that names them takes them away.

Rule of the file: everything is planned on the loop before the run begins, in a fixed order; whom a
share or a number means is drawn when it happens, among those that are up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from p2pfl.scenario.churning import ChurnAction, absent, chosen, schedule
from p2pfl.scenario.spec import ChurnEvent, FaultEvent, Scenario, Who
from p2pfl.scenario.trace import Mark
from p2pfl.sim.faults import Way
from p2pfl.sim.presence import Presence
from p2pfl.sim.world import Life, Machine, World

_LISTED = 6


class Director:
    """Plans a scenario's happenings in a world.

    Args:
        said: told in words what was just done.

    Attributes:
        marks: what was done so far, background churn left out.
    """

    def __init__(self, scenario: Scenario, world: World, said: Callable[[str], None]) -> None:
        self.marks: list[Mark] = []
        self._scenario, self._world, self._said = scenario, world, said
        self._rng = world.rng("faults")
        self._stops: asyncio.TaskGroup | None = None
        self._by_chance: dict[int, Life | None] = {}
        self._hostile = frozenset(scenario.hostile)

    def begin(self, horizon_s: float, tasks: asyncio.TaskGroup) -> None:
        """Start those who are there from the beginning, and plan everything else.

        Args:
            horizon_s: churn by chance is planned so far.
            tasks: in which nodes that are asked to stop are waited for.
        """
        self._stops = tasks
        scenario, world, at = self._scenario, self._world, self._world.loop.call_at
        self._lay_ways()
        missing = set(absent(scenario))
        for action in schedule(scenario, horizon_s, world.rng("churn")):
            if action.node not in self._hostile:
                at(action.at, self._by_chance_do, action)
        if self._hostile:
            at(scenario.adversary.begins_s, self._attack)
        for churn in scenario.churn.events:
            at(churn.at, self._churn, churn)
        for fault in scenario.faults.events:
            at(fault.at, self._fault, fault)
        for machine in world.machines:
            if machine.place not in missing:
                world.start(machine)

    def _lay_ways(self) -> None:
        scenario, world = self._scenario, self._world
        for link in scenario.network.nodes:
            for machine in self._chosen(link.who, everybody=True):
                for key in ("latency_s", "loss_probability", "up_bytes_per_s", "down_bytes_per_s"):
                    if (value := getattr(link, key)) is not None:
                        setattr(machine, key, value)
        for one_way in scenario.network.links:
            sources = _addresses(self._chosen(one_way.from_, everybody=True))
            targets = _addresses(self._chosen(one_way.to, everybody=True))
            world.network.ways.open(
                Way(
                    frozenset(sources),
                    frozenset(targets),
                    one_way.latency_s,
                    one_way.loss_probability,
                    one_way.blocked,
                )
            )

    # --- who comes and goes ---------------------------------------------------------------------

    def _by_chance_do(self, action: ChurnAction) -> None:
        """Chance takes away whoever is up, and brings back only whom it took away."""
        world, machine = self._world, self._world.machines[action.node]
        if action.what in ("kill", "stop", "pause"):
            if machine.presence is not Presence.UP:
                return
            self._by_chance[machine.place] = machine.life
        elif machine.place not in self._by_chance:
            return
        match action.what:
            case "kill":
                world.kill(machine, silently=self._scenario.churn.silent)
            case "stop":
                self._stop(machine)
            case "pause":
                world.sleep(machine)
            case "wipe":
                world.wipe(machine)
            case "start":
                del self._by_chance[machine.place]
                world.start(machine)
            case "resume":
                world.resume(machine, self._by_chance.pop(machine.place))

    def _churn(self, event: ChurnEvent) -> None:
        now = event.at
        if event.kill is not None:
            hit = self._living(event.kill)
            for machine in hit:
                self._world.kill(machine, silently=self._scenario.churn.silent)
            self._mark(now, None, f"{_listed(hit)} killed", hit, "kill")
        elif event.stop is not None:
            hit = self._living(event.stop)
            for machine in hit:
                self._stop(machine)
            self._mark(now, None, f"{_listed(hit)} asked to stop", hit, "stop")
        elif event.start is not None:
            # names mean these, whether they are up or not; the disk of one that is up is in use
            hit = [m for m in self._chosen(event.start, down=True) if m.life is None]
            for machine in hit:
                self._by_chance.pop(machine.place, None)
                if event.lost_state:
                    self._world.wipe(machine)
                self._world.start(machine)
            self._mark(now, None, f"{_listed(hit)} started", hit, "start")

    def _stop(self, machine: Machine) -> None:
        assert self._stops is not None
        self._stops.create_task(self._world.stop(machine), name=f"stop {machine.name}")

    # --- what goes wrong ------------------------------------------------------------------------

    def _fault(self, event: FaultEvent) -> None:
        """Begin it, and plan its end."""
        network, kind = self._world.network, event.kind
        hit: list[Machine] = []
        repair: Callable[[], None] = _nothing
        if event.partition is not None:
            islands = self._islands(event.partition)
            repair = _repairs(self._world, network.ways.part(*map(_addresses, islands)))
            text = "partition: " + " | ".join(_listed(island) for island in islands)
        elif event.one_way is not None or event.hold is not None:
            ends = event.one_way or event.hold
            assert ends is not None
            a, b = (self._chosen(who, everybody=True) for who in ends)
            source, target = _addresses(a), _addresses(b)
            if event.one_way is not None:
                ways, text = [network.ways.cut(source, target)], f"{_listed(a)} → {_listed(b)} cut"
            else:
                ways = [network.ways.hold(source, target), network.ways.hold(target, source)]
                text = f"messages between {_listed(a)} and {_listed(b)} held"
            repair = _repairs(self._world, ways)
            hit = [*a, *b]
        else:
            hit = self._chosen(getattr(event, kind))
            text, repair = self._to_hosts(event, hit)
        self._mark(event.at, event.until, text, hit, kind)
        if event.until is not None:
            self._world.loop.call_at(event.until, self._repaired, repair, text)

    def _to_hosts(self, event: FaultEvent, hit: list[Machine]) -> tuple[str, Callable[[], None]]:
        world = self._world
        match event.kind:
            case "pause":
                # who is frozen or asleep already goes on when that is over too
                frozen = [(machine, machine.life) for machine in hit if machine.life is not None]
                for machine, _ in frozen:
                    world.pause(machine)
                return f"{_listed([m for m, _ in frozen])} frozen", lambda: _thaw(world, frozen)
            case "disk_full":
                for machine in hit:
                    machine.disk.is_full = True
                return f"disks of {_listed(hit)} full", lambda: _empty(hit)
            case "torn":
                for machine in hit:
                    machine.disk.is_torn = True
                return f"power of {_listed(hit)} cut in their next checkpoint", _nothing
            case _:
                for machine in hit:
                    machine.clock_ahead_s += event.by_s
                return f"clocks of {_listed(hit)} leap by {event.by_s:g} s", _nothing

    def _repaired(self, repair: Callable[[], None], text: str) -> None:
        repair()
        self._said(f"over: {text}")

    def _living(self, who: Who) -> list[Machine]:
        """Those who are meant, and neither down nor on their way there."""
        chosen = self._chosen(who, honest=True)
        return [m for m in chosen if m.life is not None and not m.life.is_stopping]

    def _islands(self, partition: tuple[Who, ...]) -> list[list[Machine]]:
        """The islands named, and the rest as one more."""
        islands: list[list[Machine]] = []
        taken: set[int] = set()
        for who in partition:
            island = [m for m in self._chosen(who, everybody=True) if m.place not in taken]
            taken |= {machine.place for machine in island}
            islands.append(island)
        rest = [machine for machine in self._world.machines if machine.place not in taken]
        return [island for island in (*islands, rest) if island]

    def _chosen(
        self, who: Who, *, down: bool = False, everybody: bool = False, honest: bool = False
    ) -> list[Machine]:
        machines = self._world.machines
        places = [
            machine.place
            for machine in machines
            if (everybody or (machine.life is None) == down)
            and not (honest and machine.place in self._hostile)
        ]
        return [machines[place] for place in chosen(who, self._scenario.names, places, self._rng)]

    def _attack(self) -> None:
        """Say that it begins; the hostile nodes know by themselves."""
        adversary = self._scenario.adversary
        hit = [machine for machine in self._world.machines if machine.place in self._hostile]
        text = f"{adversary.attack} by {_listed(hit)}"
        self._mark(adversary.begins_s, adversary.ends_s, text, hit, "attack")

    def _mark(
        self, at: float, until: float | None, text: str, hit: Iterable[Machine], kind: str
    ) -> None:
        self.marks.append(Mark(at, until, text, tuple(machine.place for machine in hit), kind))
        self._said(text)


def _repairs(world: World, ways: list[Way]) -> Callable[[], None]:
    return lambda: world.network.ways.repair(*ways)


def _thaw(world: World, frozen: Iterable[tuple[Machine, Life]]) -> None:
    for machine, life in frozen:
        world.resume(machine, life)


def _addresses(machines: Iterable[Machine]) -> list[str]:
    return [machine.address for machine in machines]


def _empty(machines: Iterable[Machine]) -> None:
    for machine in machines:
        machine.disk.is_full = False


def _nothing() -> None:
    pass


def _listed(machines: list[Machine]) -> str:
    if len(machines) <= _LISTED:
        return ", ".join(machine.name for machine in machines) or "nobody"
    return f"{len(machines)} nodes"
