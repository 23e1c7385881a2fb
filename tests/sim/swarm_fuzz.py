"""A fuzzer of whole swarms: a seed makes a scenario, the scenario runs, and promises are checked.

    0 ......... faults of every kind, by the seed's choice ......... quiet ...... calm ...... end
                                                                 all is repaired   |  promises

While it runs: nobody dies, nothing deadlocks or escapes, kept answers stay inside their budget.
After the quiet period: no exchange is left over, everybody knows exactly who is there, models are
finite and have come together, and their mean is where it was if nothing could have moved it.

Rule of the file: everything follows from the seed. `quiet_s` is read off the scenario itself
(`churn.ends_s`), so a scenario printed as TOML says all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pfl.scenario.eventlog import EventLog
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.load import dump
from p2pfl.scenario.page_config import toml
from p2pfl.scenario.spec import Scenario, names
from p2pfl.scenario.trace import Trace
from p2pfl.scenario.virtual import _Run
from p2pfl.sim.faults import Conditions
from p2pfl.sim.presence import Presence
from p2pfl.sim.world import Machine

CALM_S = 32.0
"""From the last repair to the end: members that were dead are asked again within 30 s."""
SETTLED_S = 12.0
"""An exchange whose peer is there is settled within so long: RESOLVE is tried every 8 s."""
ROUNDING = 1e-3
"""Mass drift that float32 may make in a run of this length (PROTOCOL section 7, invariant 4)."""
TOGETHER = 0.05
"""Share of the first consensus distance that may be left in the end."""
TOGETHER_IN_A_ROW = 0.6
"""The same where models walk from one end of a line or a ring to the other, or all through one."""

_SPARING = {"steps_max": 2, "evaluate_every_s": 20.0}
"""Real arithmetic is not what this is about."""
_KINDS = ("partition", "one_way", "hold", "pause", "disk_full", "torn", "clock_jump")


@dataclass(frozen=True, slots=True)
class Played:
    """One run: what it broke, and what it did."""

    failures: tuple[str, ...]
    event_hash: str | None = None
    trace: Trace | None = None


# --- from a seed to a scenario ------------------------------------------------------------------


def scenario_of(seed: int) -> Scenario:
    """The scenario of a seed; each fault is in it or not by a chance of its own."""
    rng = np.random.default_rng([seed, 0xF022])
    n = int(rng.integers(3, 13))
    quiet = round(float(rng.uniform(8, 18)), 2)
    task = _task(rng)
    n = min(n, 5) if task["name"] == "digits-numpy" else n
    network, node = _network(rng, n), _node(rng, task["name"], n)
    topology = _topology(rng, n)
    if "nodes" in network or "up_bytes_per_s" in network:
        # links that can carry what is asked of them: overload is another matter
        node["train"]["cycle_min_s"] = 1.0
        topology = "random-1" if topology == "star" else topology
    values: dict[str, Any] = {
        "name": f"fuzz-{seed}",
        "nodes": n,
        "seed": seed,
        "topology": topology,
        "task": task,
        "duration": {"seconds": round(quiet + CALM_S, 2)},
        "node": node,
        "compute": _compute(rng),
        "network": network,
        "churn": {"ends_s": quiet, **_churn(rng, n, quiet)},
        "faults": _faults(rng, n, quiet),
        "measure": {"samples": 40},
    }
    return Scenario.model_validate(values)


def _maybe(rng: np.random.Generator, chance: float, **values: Any) -> dict[str, Any]:
    return values if rng.random() < chance else {}


def _pick(rng: np.random.Generator, values: Any) -> Any:
    found = values[int(rng.integers(len(values)))]
    return found.item() if hasattr(found, "item") else found


def _task(rng: np.random.Generator) -> dict[str, Any]:
    name = _pick(rng, ["averaging"] * 18 + ["quadratic"] * 9 + ["digits-numpy"])
    if name == "digits-numpy":
        return {"name": name, "partition": _pick(rng, ["iid", "dirichlet:0.5", "classes:4"])}
    return {"name": name, "size": _pick(rng, [1, 7, 100, 600])}


def _topology(rng: np.random.Generator, n: int) -> str:
    line = ",".join(f"{a}--{b}" for a, b in zip(names(n), names(n)[1:], strict=False))
    kinds = ["random-1", "random-2", "full", "ring", "exponential", "star", "random-regular-4"]
    return str(_pick(rng, [*kinds, "small-world-2", "torus", f"edges:{line}"]))


def _node(rng: np.random.Generator, task: str, n: int) -> dict[str, Any]:
    cycle_s = _pick(rng, [0.1, 0.2, 0.5, 0.5, 1.0] if n < 7 else [0.5, 0.7, 1.0])
    gossip = {
        **_maybe(rng, 0.4, codec=_pick(rng, ["float16", "int8"])),
        **_maybe(rng, 0.2, exchanges_per_cycle=_pick(rng, [1, 4])),
        **_maybe(rng, 0.2, weight=0.25, outstanding=4),
        **_maybe(rng, 0.1, retry_horizon_s=10.0),
    }
    train = {"cycle_min_s": cycle_s, **_maybe(rng, 0.3, momentum=0.0)}
    return {
        "train": {**train, **(_SPARING if task == "digits-numpy" else {})},
        "gossip": gossip,
        "membership": _maybe(rng, 0.5, probe_interval_s=0.4, probe_timeout_s=0.2),
        "limits": {
            **_maybe(rng, 0.3, done_bytes=_pick(rng, [600, 4000])),
            **_maybe(rng, 0.1, pending=4),
        },
        "checkpoint_every_s": _pick(rng, [0.5, 2.0, 5.0]),
    }


def _compute(rng: np.random.Generator) -> dict[str, Any]:
    step = {"step_s": _pick(rng, [0.002, 0.01, 0.05])}
    return {**step, **_maybe(rng, 0.5, distribution="lognormal", sigma=0.8)}


def _network(rng: np.random.Generator, n: int) -> dict[str, Any]:
    slow = {"who": _who(rng, n), "up_bytes_per_s": _pick(rng, [3e4, 1e5]), "latency_s": 0.05}
    lossy = {"from": _who(rng, n), "to": _who(rng, n), "loss_probability": 0.5}
    rate = _pick(rng, [6e4, 2e5, 1e6])
    return {
        "latency_s": _pick(rng, [0.0, 0.0005, 0.002, 0.02, 0.1, 0.4]),
        **_maybe(rng, 0.4, latency_sigma=_pick(rng, [0.3, 1.0])),
        **_maybe(rng, 0.5, loss_probability=_pick(rng, [0.02, 0.1, 0.3])),
        **_maybe(rng, 0.2, fifo=False),
        **_maybe(rng, 0.2, up_bytes_per_s=rate, down_bytes_per_s=2 * rate),
        **_maybe(rng, 0.2, sees=_pick(rng, [1, 2])),
        **_maybe(rng, 0.15, nodes=[slow]),
        **_maybe(rng, 0.1, links=[lossy]),
    }


def _who(rng: np.random.Generator, n: int) -> Any:
    """Some, never all."""
    match int(rng.integers(3)):
        case 0:
            return round(float(rng.uniform(0.05, 0.6)), 2)
        case 1:
            return int(rng.integers(1, max(2, n // 2)))
        case _:
            some = rng.choice(n, int(rng.integers(1, max(2, n // 2))), replace=False)
            return [names(n)[place] for place in sorted(some)]


def _churn(rng: np.random.Generator, n: int, quiet: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rng.random() < 0.4:
        state = _pick(rng, ["kept", "kept", "checkpoint", "lost"])
        found |= {
            "mode": "on-off",
            "offline": _pick(rng, [0.1, 0.3, 0.5]),
            # a lost disk is a new member, and the old one has to be found dead
            "session_s": 6.0 if state == "lost" else _pick(rng, [1.0, 4.0]),
            "state": state,
            **_maybe(rng, 0.2, amnesia=0.1),
        }
    found |= _maybe(rng, 0.2, absent=int(rng.integers(1, max(2, n // 2))))
    events = []
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.35 else 0):
        at = round(float(rng.uniform(0.1, quiet)), 2)
        events.append({"at": at, _pick(rng, ["kill", "stop"]): _who(rng, n)})
        back = round(float(rng.uniform(at, quiet)), 2)
        lost = _maybe(rng, 0.2, lost_state=True)
        events.append({"at": back, "start": _who(rng, n), **lost})
    return {**found, **({"events": events} if events else {})}


def _faults(rng: np.random.Generator, n: int, quiet: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        **_maybe(rng, 0.3, duplicate_probability=_pick(rng, [0.05, 0.3])),
        **_maybe(rng, 0.3, reorder_probability=_pick(rng, [0.05, 0.3])),
        **_maybe(rng, 0.12, corrupt_probability=_pick(rng, [0.002, 0.05])),
    }
    events = []
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.7 else 0):
        kind = _pick(rng, _KINDS)
        at = round(float(rng.uniform(0.0, quiet - 0.2)), 2)
        until = round(float(rng.uniform(at + 0.1, quiet)), 2)
        is_moment = kind in ("torn", "clock_jump")
        event: dict[str, Any] = {"at": at} if is_moment else {"at": at, "until": until}
        match kind:
            case "partition":
                event[kind] = [_who(rng, n) for _ in range(int(rng.integers(1, 3)))]
            case "one_way" | "hold":
                event[kind] = [_who(rng, n), _who(rng, n)]
            case "clock_jump":
                event |= {kind: _who(rng, n), "by_s": _pick(rng, [2.0, 20.0, 60.0, 1000.0])}
            case _:
                event[kind] = _who(rng, n)
        events.append(event)
    return {**found, **({"events": events} if events else {})}


# --- what it must keep --------------------------------------------------------------------------


def keeps_state(scenario: Scenario) -> bool:
    """Whether nothing in it may move the mean of models that only average."""
    churn, faults, node = scenario.churn, scenario.faults, scenario.node
    forgets = churn.mode != "none" and (churn.state != "kept" or churn.amnesia > 0)
    leap_s = sum(event.by_s for event in faults.events if event.kind == "clock_jump")
    return (
        scenario.task.name == "averaging"
        and not forgets
        and not churn.events
        and not faults.corrupt_probability
        and not any(event.kind == "torn" for event in faults.events)
        and leap_s + scenario.duration.seconds < node.gossip.retry_horizon_s  # type: ignore[operator]
        and node.limits.pending >= 64
    )


def quiet_s(scenario: Scenario) -> float:
    """When everything is repaired."""
    assert scenario.churn.ends_s is not None
    return scenario.churn.ends_s


def play(scenario: Scenario) -> Played:
    """Run a scenario of `scenario_of`, and say which promises were broken."""
    learners = Learners(scenario, parallel=False)
    log, found = EventLog(), _Watch(scenario)
    try:
        run = _Run(scenario, learners, log, lambda _: found.look())
        found.run = run

        async def script() -> None:
            for late_s in (0.5, 5.0):  # whoever was asked to stop just before may take a while
                run.world.loop.call_at(quiet_s(scenario) + late_s, found.heal)
            await run.script()
            found.end()

        run.world.play(script)
    except Exception as error:  # a fuzzer wants to go on, and to tell
        return Played((*found.failures, f"{type(error).__name__}: {error}"))
    trace = run.trace(0.0)
    failures = [*found.failures, *(f"{who} died: {why}" for who, why in trace.deaths.items())]
    return Played(tuple(dict.fromkeys(failures)), trace.event_hash, trace)


class _Watch:
    """Looks at a swarm from outside, and repairs it when it is time."""

    run: _Run

    def __init__(self, scenario: Scenario) -> None:
        self.failures: list[str] = []
        self._scenario = scenario

    @property
    def _machines(self) -> list[Machine]:
        return self.run.world.machines

    def heal(self) -> None:
        """Nothing is wrong any more, and everybody is there."""
        world = self.run.world
        latency_s = world.network.conditions.latency_s
        world.network.conditions = Conditions(latency_s=latency_s)
        world.network.ways.repair(*list(world.network.ways._open))
        for machine in self._machines:
            machine.disk.is_full = machine.disk.is_torn = False
            world.resume(machine)
            world.start(machine)

    def look(self) -> None:
        for machine in self._machines:
            if (node := machine.node) is None:
                continue
            state, limits = node.vitals.state, node.vitals.config.limits
            budget = max(limits.done_bytes, 2 * state.x.nbytes)
            kept = state.inbox.nbytes + state.inbox.arriving_bytes
            if kept > budget:
                self._say(f"{machine.name} keeps {kept} bytes of answers, at most {budget}")
            if len(state.outbox) > limits.pending:
                self._say(f"{machine.name} has {len(state.outbox)} open, at most {limits.pending}")

    def end(self) -> None:
        """What must hold after the quiet period."""
        nodes = {m.disk.node: m.node for m in self._machines if m.node is not None}
        for machine in self._machines:
            if machine.presence is not Presence.UP or machine.node is None:
                self._say(f"{machine.name} is not there in the end")
        if self._scenario.faults.corrupt_probability:
            return  # a flipped bit that nobody notices is a lie, and may be believed
        for machine in self._machines:
            if machine.node is not None:
                self._check(machine, nodes)
        if self._scenario.network.sees is None:
            # one told of few others, none of whom answers in time, is not told again: an island
            for machine in self._machines:
                if machine.node is not None:
                    self._check_members(machine, nodes)
        self._check_models()

    def _check(self, machine: Machine, nodes: Mapping[str, Any]) -> None:
        node = nodes[machine.disk.node]
        state, now = node.vitals.state, node.vitals.clock()
        horizon = self._scenario.node.gossip.retry_horizon_s
        late = []
        for pending in state.outbox:
            since = pending.unresolved_since if pending.unresolved else pending.started
            if now - since > (SETTLED_S if pending.peer in nodes else horizon + 1):
                late.append(pending)
        if late:
            self._say(f"{machine.name} has {len(late)} exchanges open for long, such as {late[0]}")

    def _check_members(self, machine: Machine, nodes: Mapping[str, Any]) -> None:
        node = nodes[machine.disk.node]
        by_id = {m.disk.node: m.name for m in self._machines}
        known = set(node.vitals.members.alive())
        missing = sorted(by_id[one] for one in set(nodes) - set(node.vitals.members.live()))
        # who lost its disk is another one; to find many dead that nobody met takes a while
        ghosts = [one[:8] for one in sorted(known - set(nodes))]
        wiped = sum(machine.wiped for machine in self._machines)
        if missing or len(ghosts) > wiped / 4:
            self._say(f"{machine.name} lacks {missing}, and believes in {ghosts}")

    def _check_models(self) -> None:
        models = np.stack([m.node.vitals.state.x for m in self._machines if m.node is not None])
        if not np.isfinite(models).all():
            self._say("a model is not finite")
            return
        looks, task = self.run._looks, self._scenario.task.name
        if task == "averaging":
            in_a_row = self._scenario.topology.startswith(("edges", "ring", "star"))
            limit = TOGETHER_IN_A_ROW if in_a_row else TOGETHER
            limit *= self._scenario.task.spread * self._scenario.task.size**0.5
            distance = looks.distance[-1]
            if distance > limit and self._scenario.network.sees is None:
                self._say(f"models are {distance:.4g} apart, at most {limit:.4g}")
            if keeps_state(self._scenario) and looks.drift[-1] > ROUNDING:
                self._say(f"the mean drifted by {looks.drift[-1]:.3g}, at most {ROUNDING:g}")

    def _say(self, text: str) -> None:
        self.failures.append(text)


# --- telling ------------------------------------------------------------------------------------


def told(seed: int, played: Played) -> str:
    """A failing seed as people need it: what broke, the scenario, and how to run it again."""
    scenario = scenario_of(seed)
    return "\n".join(
        [
            f"seed {seed} failed:",
            *(f"  - {failure}" for failure in played.failures),
            "",
            *_lines(scenario),
            "",
            f"replay: python -m tests.sim.fuzz --from {seed} --seeds 1",
        ]
    )


def _lines(scenario: Scenario) -> Iterator[str]:
    for key, value in dump(scenario).items():
        yield f"  {key} = {toml(value)}"
