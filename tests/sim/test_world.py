"""Hosts of a world: what they lose, what they keep, and that a seed decides everything."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from p2pfl.config import NodeConfig
from p2pfl.core.events import Event, Exchanged, Fault, MemberChanged, Started, Stopped
from p2pfl.core.messages import Exchange, Packet
from p2pfl.learning.quadratic import Quadratic
from p2pfl.ports import Learner
from p2pfl.scenario.eventlog import EventLog
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.load import dump
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.virtual import _Run, simulate
from p2pfl.sim.faults import Conditions
from p2pfl.sim.loop import Deadlock, Escape
from p2pfl.sim.presence import Presence
from p2pfl.sim.transport import MemoryTransport
from p2pfl.sim.world import World


class Notes:
    """A recorder that keeps everything."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Event]] = []
        self.away: list[int] = []

    def record(self, place: int, event: Event) -> None:
        self.events.append((place, event))

    def was_away(self, place: int) -> None:
        self.away.append(place)

    def is_back(self, place: int) -> None:
        self.away.append(~place)

    def of(self, kind: type, place: int = 0) -> list[Any]:
        return [event for at, event in self.events if at == place and type(event) is kind]


def targets(n: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(n, 5), scale=3.0).astype(np.float32)


def world(n: int = 3, seed: int = 1, learner: Any = None, **config: Any) -> tuple[World, Notes]:
    notes, b = Notes(), targets(n)

    def made(place: int, starts: int) -> Learner:
        return learner or Quadratic(b[place], np.zeros(5, np.float32), 0.02)

    config = {"checkpoint_every_s": 1.0, **config}
    found = World(
        seed=seed,
        names=[f"n{place + 1}" for place in range(n)],
        config=NodeConfig.model_validate(config),
        learner=made,
        step_s=[0.005] * n,
        conditions=Conditions(),
        recorder=notes,
    )
    return found, notes


def play(found: World, script: Callable[[], Awaitable[None]]) -> None:
    """Everybody starts, and the script goes on."""

    async def whole() -> None:
        for machine in found.machines:
            found.start(machine)
        await script()

    found.play(whole)
    assert found.deaths == {}


@pytest.mark.parametrize("n", [2, 3, 6, 20])
def test_a_killed_process_is_dead_to_all_others_within_five_seconds(n: int) -> None:
    found, notes = world(n)

    async def script() -> None:
        await asyncio.sleep(8.3)
        found.kill(found.machines[0])
        await asyncio.sleep(5.0)

    play(found, script)
    victim = found.machines[0].disk.node
    dead = {
        place
        for place, event in notes.events
        if isinstance(event, MemberChanged) and (event.peer, event.status) == (victim, "dead")
    }
    assert dead == set(range(1, n))


def age(found: World, place: int = 0) -> int:
    node = found.machines[place].node
    assert node is not None
    return node.vitals.state.age


# --- what can be done to a host -----------------------------------------------------------------


def test_a_crash_loses_memory_and_keeps_the_disk() -> None:
    found, notes = world(1)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(3.5)
        before, identity, cycles = age(found), machine.disk.node, machine.node.vitals.cycles  # type: ignore[union-attr]
        found.kill(machine)
        assert (machine.presence, machine.life, machine.node) == (Presence.DOWN, None, None)
        assert machine.cycles == cycles
        await asyncio.sleep(1.0)
        assert notes.of(Stopped) == [], "it said no farewell"
        found.start(machine)
        assert machine.disk.newest is not None
        assert 0 < age(found) == machine.disk.newest.age < before
        await asyncio.sleep(0.5)
        first, second = notes.of(Started)
        assert (first.resumed, second.resumed) == (False, True)
        assert (first.incarnation, second.incarnation) == (1, 2)
        assert first.node == second.node == identity

    play(found, script)


def test_what_a_killed_process_still_does_nobody_hears() -> None:
    found, notes = world(2)

    async def script() -> None:
        await asyncio.sleep(3.0)
        machine = found.machines[0]
        saved, events, sent = machine.disk.newest, len(notes.events), found.network.messages
        found.kill(machine)
        await asyncio.sleep(0.001)
        assert machine.disk.newest is saved
        assert len([1 for place, _ in notes.events[events:] if place == 0]) == 0
        assert found.network.messages - sent <= 2
        found.kill(machine)

    play(found, script)


def test_a_wiped_host_comes_back_as_somebody_else_without_history() -> None:
    found, notes = world(1)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(3.0)
        found.kill(machine)
        found.wipe(machine)
        found.start(machine)
        await asyncio.sleep(0.01)
        first, second = notes.of(Started)
        assert first.node != second.node
        assert (second.incarnation, second.resumed, second.age) == (1, False, 0)

    play(found, script)


def test_power_that_fails_in_a_checkpoint_costs_that_checkpoint_only() -> None:
    found, _ = world(1)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(3.5)
        whole = machine.disk.newest
        assert whole is not None
        machine.disk.is_torn = True
        await asyncio.sleep(1.0)
        assert machine.presence is Presence.DOWN
        assert (machine.disk.torn, machine.disk.newest) == (1, None)
        found.start(machine)
        assert age(found) == whole.age

    play(found, script)


def test_a_full_disk_is_survived_and_told() -> None:
    found, notes = world(1)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(1.5)
        saved, machine.disk.is_full = machine.disk.newest, True
        await asyncio.sleep(3.0)
        assert machine.disk.newest is saved
        assert "No space left" in notes.of(Fault)[0].detail
        machine.disk.is_full = False
        await asyncio.sleep(1.5)
        assert machine.disk.newest is not saved

    play(found, script)


def test_who_is_asked_to_stop_settles_saves_and_says_goodbye() -> None:
    found, notes = world(3)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(5.2)
        before = age(found)
        await found.stop(machine)
        assert machine.presence is Presence.DOWN
        assert [event.reason for event in notes.of(Stopped)] == ["cancelled"]
        assert machine.disk.newest is not None
        assert machine.disk.newest.age >= before
        await asyncio.sleep(1.0)
        other = found.machines[1].node
        assert other is not None
        assert machine.disk.node not in other.vitals.members.live()
        await found.stop(machine)

    play(found, script)


def test_a_frozen_host_does_nothing_and_finds_that_time_has_passed() -> None:
    found, notes = world(2)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(3.0)
        found.pause(machine)
        cycles = machine.node.vitals.cycles  # type: ignore[union-attr]
        await asyncio.sleep(4.0)
        assert machine.presence is Presence.PAUSED
        assert machine.node.vitals.cycles == cycles  # type: ignore[union-attr]
        found.start(machine)
        found.resume(machine)
        await asyncio.sleep(1.0)
        assert machine.presence is Presence.UP
        assert machine.node.vitals.cycles > cycles + 5  # type: ignore[union-attr]
        assert notes.away == [0, ~0]
        assert machine.starts == 1

    play(found, script)


def test_who_is_stopped_while_it_is_frozen_goes_on_first_and_ends_in_order() -> None:
    found, notes = world(2)

    async def script() -> None:
        await asyncio.sleep(2.0)
        found.pause(found.machines[0])
        await asyncio.sleep(2.0)
        await found.stop(found.machines[0])
        assert len(notes.of(Stopped)) == 1

    play(found, script)


def test_who_is_killed_while_it_is_frozen_is_dead_and_can_be_started_again() -> None:
    found, _ = world(2)
    machine = found.machines[0]

    async def script() -> None:
        await asyncio.sleep(2.0)
        found.sleep(machine)
        await asyncio.sleep(2.0)
        found.kill(machine)
        found.resume(machine)
        found.start(machine)
        await asyncio.sleep(1.0)
        assert machine.presence is Presence.UP
        assert machine.node.vitals.cycles > 0  # type: ignore[union-attr]
        assert machine.life is not None
        assert not machine.life.transport.is_asleep

    play(found, script)


def test_a_clock_that_leaps_leaps_for_its_owner_alone_and_disturbs_nobody() -> None:
    found, notes = world(3)

    async def script() -> None:
        await asyncio.sleep(5.0)
        before = found.machines[0].node.vitals.clock()  # type: ignore[union-attr]
        found.machines[0].clock_ahead_s += 100.0
        assert found.machines[0].node.vitals.clock() == before + 100.0  # type: ignore[union-attr]
        assert found.machines[1].node.vitals.clock() == 5.0  # type: ignore[union-attr]
        await asyncio.sleep(30.0)
        for machine in found.machines:
            assert machine.node is not None
            assert len(machine.node.vitals.members.alive()) == 3
        late = [e for e in notes.of(Exchanged) if e.at > 110 and e.outcome == "flow"]
        assert len(late) > 50

    play(found, script)


# --- what ends a world --------------------------------------------------------------------------


class Broken(Quadratic):
    def __init__(self, error: BaseException) -> None:
        zero = np.zeros(5, np.float32)
        super().__init__(zero, zero, 0.1)
        self.error = error

    def step(self, *_: Any) -> Any:
        raise self.error


def test_an_error_in_a_node_ends_that_node_only_and_is_told() -> None:
    found, _ = world(1, learner=Broken(ValueError("shapes differ")))

    async def script() -> None:
        found.start(found.machines[0])
        await asyncio.sleep(3.0)
        assert found.machines[0].presence is Presence.DOWN

    found.play(script)
    assert found.deaths == {"n1": "ValueError: shapes differ"}


def test_who_is_stopped_before_it_took_its_first_step_is_down_and_can_be_started() -> None:
    found, _ = world(1)
    machine = found.machines[0]

    async def script() -> None:
        found.start(machine)
        await found.stop(machine)
        assert (machine.presence, machine.life) == (Presence.DOWN, None)
        found.start(machine)
        await asyncio.sleep(1.0)
        assert age(found) > 0

    found.play(script)


def test_a_bug_that_a_node_survives_ends_the_world_with_its_own_traceback() -> None:
    found, notes = world(3)

    class Buggy:
        """A transport with a bug, which comes to light after a while."""

        def __init__(self, true: MemoryTransport) -> None:
            self._true = true

        def __getattr__(self, name: str) -> Any:
            return getattr(self._true, name)

        async def request(self, address: str, packet: Packet, *args: Any) -> Packet:
            if isinstance(packet.body, Exchange) and found.loop.time() > 3.0:
                raise KeyError("of nobody")
            return await self._true.request(address, packet, *args)

    found.around = lambda machine, true: Buggy(true) if machine.place == 1 else true

    async def script() -> None:
        for machine in found.machines:
            found.start(machine)
        await asyncio.sleep(10.0)

    with pytest.raises(KeyError, match="of nobody") as caught:
        found.play(script)
    assert caught.traceback[-1].name == "request"
    assert 3.0 < found.loop.time() < 3.5
    assert not [event for event in notes.of(Fault, 1) if event.kind == "bug"]


class Reaching(Quadratic):
    def __init__(self) -> None:
        zero = np.zeros(5, np.float32)
        super().__init__(zero, zero, 0.1)

    def step(self, *args: Any) -> Any:
        try:
            time.monotonic()
        except Exception:
            return super().step(*args)


def test_a_learner_that_reads_a_clock_ends_the_world_though_it_swallows_the_error() -> None:
    found, _ = world(1, learner=Reaching())

    async def script() -> None:
        found.start(found.machines[0])
        await asyncio.sleep(1e4)

    with pytest.raises(Escape, match=r"time\.monotonic"):
        found.play(script)
    assert time.monotonic() > 0


def test_a_script_that_waits_for_nobody_is_a_deadlock() -> None:
    found, _ = world(1)

    async def script() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        found.play(script)


def test_the_interpreter_is_as_it_was_afterwards() -> None:
    before, clock = gc.get_threshold(), time.time
    found, _ = world(1)

    async def script() -> None:
        await asyncio.sleep(1.0)

    play(found, script)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    assert time.time is clock


# --- a seed decides everything ------------------------------------------------------------------


EVERYTHING = Scenario.model_validate(
    {
        "name": "everything",
        "nodes": 5,
        "seed": 11,
        "topology": "random-2",
        "task": {"name": "digits-numpy", "partition": "dirichlet:0.5"},
        "duration": {"seconds": 12.0},
        "node": {
            "train": {"cycle_min_s": 0.3, "steps_max": 2},
            "gossip": {"codec": "int8"},
            "checkpoint_every_s": 1.0,
        },
        "compute": {"distribution": "lognormal", "step_s": 0.02},
        "network": {
            "latency_sigma": 0.5,
            "loss_probability": 0.1,
            "up_bytes_per_s": 5e4,
            "sees": 2,
            "nodes": [{"who": 0.3, "latency_s": 0.05}],
        },
        "churn": {
            "mode": "on-off",
            "session_s": 3.0,
            "amnesia": 0.3,
            "absent": 1,
            "events": [{"at": 4.0, "stop": 1}, {"at": 5.0, "start": 2}],
        },
        "faults": {
            "duplicate_probability": 0.1,
            "reorder_probability": 0.1,
            "corrupt_probability": 0.02,
            "events": [
                {"at": 2.0, "until": 4.0, "partition": 0.5},
                {"at": 3.0, "until": 5.0, "one_way": [1, 2]},
                {"at": 5.0, "until": 6.0, "hold": [2, 2]},
                {"at": 6.0, "until": 7.0, "pause": 0.4},
                {"at": 1.0, "until": 9.0, "disk_full": 1},
                {"at": 6.5, "torn": 2},
                {"at": 7.0, "clock_jump": 1, "by_s": 30.0},
            ],
        },
        "measure": {"samples": 10},
    }
)


def of_seed(seed: int) -> Scenario:
    return EVERYTHING.model_copy(update={"seed": seed})


def test_one_seed_is_one_story_and_another_seed_another() -> None:
    first, again, other = (simulate(of_seed(seed)).event_hash for seed in (11, 11, 12))
    assert first == again
    assert first != other


def test_training_beside_the_loop_or_in_it_is_the_same_story() -> None:
    found = set()
    for parallel in (True, False):
        learners, log = Learners(EVERYTHING, parallel=parallel), EventLog()
        try:
            run = _Run(EVERYTHING, learners, log, None)
            run.world.play(run.script)
        finally:
            learners.close()
        found.add((log.count, log.digest()))
    assert len(found) == 1


def test_a_story_does_not_depend_on_how_a_process_hashes() -> None:
    code = (
        "import sys, json; from p2pfl.scenario.spec import Scenario;"
        "from p2pfl.scenario.virtual import simulate;"
        "print(simulate(Scenario.model_validate(json.loads(sys.argv[1]))).event_hash)"
    )
    words = [sys.executable, "-c", code, json.dumps(dump(EVERYTHING))]
    running = [
        subprocess.Popen(
            words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": str(seed)}
        )
        for seed in (1, 2)
    ]
    told = [process.communicate(timeout=120)[0] for process in running]
    assert told[0] == told[1]
    assert len(told[0].strip()) == 32
    assert told[0].decode().strip() == simulate(EVERYTHING).event_hash
