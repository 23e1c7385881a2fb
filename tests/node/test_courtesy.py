"""A node that leaves to others what it was asked to leave: in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from p2pfl.config import CourtesyConfig, NodeConfig
from p2pfl.core.events import Cycle, Exchanged, Fault, MemberChanged
from p2pfl.errors import ConfigError
from p2pfl.hours import DAY_MIN
from p2pfl.node import Node
from p2pfl.node.courtesy import LOOK_S, Courtesy
from p2pfl.node.vitals import HELD
from p2pfl.ports import Saved, Sighting, Surroundings, Traffic
from tests.node.swarm import Announced, Memory, Quadratic, Swarm

EVENING = 22 * 60 - 1
"""Monday, a minute before it is quiet."""
QUIET = {"quiet": ["22:00-22:03"]}
RATE, SIZE, SECONDS = 1e6, 50_000, 60


@dataclass
class Scripted:
    """A device whose clock is virtual time, and whose battery and load are as the test says."""

    minute: float = 0.0
    is_on_battery: bool = False
    load: float = 0.0
    energy_j: float | None = None
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def look(self) -> Surroundings:
        passed = asyncio.get_running_loop().time() - self.began
        return Surroundings(self.minute + passed / 60, self.is_on_battery, self.load, self.energy_j)


class Devices(Swarm):
    """A swarm with nodes that run on a device."""

    def on(self, conditions: Scripted, name: str, learner: Quadratic, **courtesy: Any) -> Node:
        loop, node_id, address = asyncio.get_running_loop(), name.rjust(8, "0"), f"10.0.1.{name}:1"
        memory = self.memories[name] = Memory()
        config = NodeConfig.model_validate({"name": name, "courtesy": courtesy})

        async def modelled(function: Any, /, *args: Any) -> Any:
            await asyncio.sleep(0.005)
            return function(*args)

        sighting = Sighting((address,), node_id, config.run, learner.layout.digest, name=name)
        node = self.nodes[name] = Node(
            node_id=node_id,
            incarnation=1,
            config=config,
            learner=learner,
            transport=self.network.host(address),
            discovery=Announced(self.network, sighting),
            journal=memory,
            store=memory,
            clock=loop.time,
            run=modelled,
            rng=np.random.default_rng([self.seed, len(self.nodes)]),
            conditions=conditions,
        )
        self._tasks[name] = self._group.create_task(self._live(name, node), name=name)
        return node

    def held(self, name: str) -> list[str]:
        """What it said that it holds back, or does not any more."""
        return [event.detail for event in self.memories[name].of(Fault) if event.kind == HELD]

    def outcomes(self, name: str, role: str) -> set[str]:
        return {event.outcome for event in self.memories[name].of(Exchanged) if event.role == role}


def models(n: int, size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(size).astype(np.float32) for _ in range(n)]


# --- the LAN ------------------------------------------------------------------------------------


def test_a_bounded_node_takes_its_rate_and_no_exchange_is_lost() -> None:
    swarm, given = Devices(), models(4, SIZE)

    async def script() -> None:
        for name, model in zip(("a", "b", "c", "d"), given, strict=True):
            saved = Saved(model.copy(), None, None, 1000, 1000, 10)
            courtesy = {"rate_bytes_per_s": RATE} if name == "a" else {}
            swarm.start(name, Quadratic(model * 0, 0.0), saved=saved, courtesy=courtesy)
        await asyncio.sleep(2)
        traffic = swarm.nodes["a"].vitals.transport.traffic
        before = traffic.bytes_in + traffic.bytes_out
        await asyncio.sleep(SECONDS)
        moved = traffic.bytes_in + traffic.bytes_out - before
        assert moved == pytest.approx(RATE * SECONDS, rel=0.1)
        assert swarm.nodes["a"].vitals.holding[0].startswith("exchanges ")
        assert "MB/s" in swarm.nodes["a"].vitals.holding[0]
        # it only does the same more slowly
        assert swarm.nodes["a"].vitals.courtesy.only_slows
        assert swarm.nodes["a"]._answering.status()["state"] == "training"

    swarm.play(script)
    assert swarm.outcomes("a", "asked") <= {"flow", "busy"}
    assert set().union(*(swarm.outcomes(name, "asked") for name in "bcd")) == {"flow", "busy"}
    assert len([e for e in swarm.memories["a"].of(Exchanged) if e.outcome == "flow"]) > 60
    for name in "abcd":
        faults = [event.kind for event in swarm.memories[name].of(Fault)]
        assert set(faults) <= {HELD}
        assert all(change.status != "suspect" for change in swarm.memories[name].of(MemberChanged))
    # each reason is news once, however often something waits for it
    assert len(swarm.held("a")) == 1
    # what all models add up to has not changed
    mass = swarm.vectors().astype(np.float64).sum(axis=0)
    expected = np.stack(given).astype(np.float64).sum(axis=0)
    assert np.abs(mass - expected).max() < 1e-4
    assert np.linalg.norm(swarm.vectors() - swarm.vectors().mean(axis=0)) < 1


def test_a_slow_line_behind_the_bound_loses_nothing_either() -> None:
    """The other end waits for as long as it takes, and RESOLVE tells what it did not wait for."""
    swarm, given = Devices(loss_probability=0.05), models(3, SIZE)

    async def script() -> None:
        for name, model in zip(("a", "b", "c"), given, strict=True):
            saved = Saved(model.copy(), None, None, 1000, 1000, 10)
            courtesy = {"rate_bytes_per_s": 200_000} if name == "a" else {}
            swarm.start(name, Quadratic(model * 0, 0.0), saved=saved, courtesy=courtesy)
            swarm.nodes[name].vitals.transport.up_bytes_per_s = 200_000  # type: ignore[attr-defined]
        await asyncio.sleep(SECONDS)
        # nothing new begins, and what is open ends
        for node in swarm.nodes.values():
            node.vitals.state._config = node.vitals.config.gossip.model_copy(
                update={"outstanding": 0}
            )
        for _ in range(100):
            await asyncio.sleep(1)
            if not any(len(node.vitals.state.outbox) for node in swarm.nodes.values()):
                break
        assert all(len(node.vitals.state.outbox) == 0 for node in swarm.nodes.values())
        mass = swarm.vectors().astype(np.float64).sum(axis=0)
        expected = np.stack(given).astype(np.float64).sum(axis=0)
        assert np.abs(mass - expected).max() < 1e-4

    swarm.play(script)
    # whoever was not heard at first was met later, and no exchange was given up
    faults = {event.kind for name in "abc" for event in swarm.memories[name].of(Fault)}
    assert faults <= {HELD, "kept-out"}


def test_a_bound_that_no_exchange_could_keep_is_an_error() -> None:
    swarm = Devices()

    async def script() -> None:
        with pytest.raises(ConfigError, match="one exchange of this model takes 122 s"):
            swarm.start(
                "a",
                Quadratic(np.zeros(1_000_000, np.float32)),
                courtesy={"rate_bytes_per_s": 65_536},
            )

    swarm.play(script)


# --- quiet hours --------------------------------------------------------------------------------


def test_in_quiet_hours_a_node_rests_and_stays_a_member() -> None:
    swarm, (target, *_) = Devices(), models(3, 10)

    async def script() -> None:
        node = swarm.on(Scripted(EVENING), "1", Quadratic(target), **QUIET)
        other = swarm.start("2", Quadratic(target))
        await asyncio.sleep(59)
        assert node.vitals.cycles > 100
        assert node.vitals.holding == []
        await asyncio.sleep(LOOK_S + 2)
        assert node.vitals.holding == [
            "training and exchanges rest until 22:03: quiet hours 22:00-22:03"
        ]
        assert not node.vitals.courtesy.only_slows
        assert node._answering.status()["state"] == "holding"
        memory, cycles = swarm.memories["1"], node.vitals.cycles
        # what was trained is on the disk
        assert memory.saved[-1].cycles == cycles
        since, moved = asyncio.get_running_loop().time(), node.vitals.transport.traffic.bytes_in
        await asyncio.sleep(100)
        assert node.vitals.cycles == cycles
        assert {e.outcome for e in memory.of(Exchanged) if e.at > since} <= {"busy"}
        asked = [e for e in swarm.memories["2"].of(Exchanged) if e.at > since]
        assert {e.outcome for e in asked} == {"busy"}
        # told how long it lasts, nobody asks again and again
        assert len(asked) <= 3
        assert node.vitals.transport.traffic.bytes_in - moved < 100 * 2000
        assert other.vitals.members.alive() == ("00000001", "00000002")
        await asyncio.sleep(80)
        assert node.vitals.holding == []
        assert node.vitals.cycles > cycles
        # the night was no long cycle
        assert node.vitals.state.cycle_s < 1
        late = [e for e in memory.of(Exchanged) if e.at > since + 176]
        assert "flow" in {e.outcome for e in late}

    swarm.play(script)
    assert swarm.held("1") == [
        "training and exchanges rest until 22:03: quiet hours 22:00-22:03",
        "quiet hours are over",
    ]
    for name in "12":
        assert all(change.status != "suspect" for change in swarm.memories[name].of(MemberChanged))


def test_in_quiet_hours_a_newcomer_is_still_given_the_model() -> None:
    swarm, (target, *_) = Devices(), models(2, 10)

    async def script() -> None:
        node = swarm.on(Scripted(EVENING), "1", Quadratic(target), **QUIET)
        await asyncio.sleep(70)
        assert node.vitals.holding
        late = swarm.start("2", Quadratic(target, 0.0))
        await asyncio.sleep(1)
        assert late.vitals.state.age >= node.vitals.state.age > 100
        assert np.allclose(late.vitals.state.x, node.vitals.state.x, atol=1e-6)

    swarm.play(script)


def test_a_node_that_is_started_in_quiet_hours_does_not_train() -> None:
    swarm, (target, *_) = Devices(), models(1, 10)

    async def script() -> None:
        node = swarm.on(Scripted(EVENING + 2), "1", Quadratic(target), **QUIET)
        await asyncio.sleep(60)
        assert node.vitals.cycles == 0

    swarm.play(script)
    assert swarm.memories["1"].of(Cycle) == []


# --- the device ---------------------------------------------------------------------------------


def test_on_battery_training_rests_and_others_are_answered() -> None:
    swarm, (target, *_) = Devices(), models(1, 10)

    async def script() -> None:
        device = Scripted()
        node = swarm.on(device, "1", Quadratic(target), only_on_ac=True)
        swarm.start("2", Quadratic(target))
        await asyncio.sleep(10)
        cycles = node.vitals.cycles
        assert cycles > 10
        device.is_on_battery = True
        await asyncio.sleep(LOOK_S + 1)
        assert node.vitals.holding == ["training rests: on battery (only_on_ac)"]
        since, cycles = asyncio.get_running_loop().time(), node.vitals.cycles
        await asyncio.sleep(20)
        assert node.vitals.cycles == cycles
        answered = [
            event.outcome
            for event in swarm.memories["1"].of(Exchanged)
            if event.at > since and event.role == "answered"
        ]
        assert answered.count("flow") > 10
        device.is_on_battery = False
        await asyncio.sleep(LOOK_S + 1)
        assert node.vitals.cycles > cycles

    swarm.play(script)
    assert swarm.held("1") == [
        "training rests: on battery (only_on_ac)",
        "not on battery any more",
    ]


def test_load_that_comes_and_goes_does_not_make_training_come_and_go() -> None:
    now = 0.0
    courtesy = Courtesy(CourtesyConfig(only_when_load_below=0.5), Traffic(), lambda: now)

    def rests(*loads: float) -> list[bool]:
        found = []
        for load in loads:
            courtesy.saw(Surroundings(0.0, load=load))
            found.append(courtesy.rests)
        return found

    assert courtesy.rests  # until it has looked
    assert rests(0.1, 0.9, 0.1, 0.9, 0.9, 0.1) == [False] * 6
    assert rests(0.6, 0.7, 0.9) == [False, False, True]
    assert courtesy.holding() == [
        "training rests: other programs take 90 % of the processor (only_when_load_below = 0.5)"
    ]
    assert rests(0.45, 0.3, 0.3, 0.4, 0.3, 0.3) == [True] * 6
    assert rests(0.3) == [False]


def test_a_busy_device_is_left_alone_from_the_first_look() -> None:
    courtesy = Courtesy(CourtesyConfig(only_when_load_below=0.5), Traffic(), lambda: 0.0)
    courtesy.saw(Surroundings(0.0, load=0.8))
    assert courtesy.rests


def test_hours_that_follow_each_other_are_told_as_one() -> None:
    config = CourtesyConfig(quiet=("Fri 22:00-24:00", "Sat 00:00-24:00", "Sun 00:00-08:00"))
    courtesy = Courtesy(config, Traffic(), lambda: 0.0)
    courtesy.saw(Surroundings(4 * DAY_MIN + 23 * 60))
    assert courtesy.holding() == [
        "training and exchanges rest until Sun 08:00: "
        "quiet hours Fri 22:00-24:00, Sat 00:00-24:00, Sun 00:00-08:00"
    ]
    assert courtesy.busy_s(1000) == 33 * 3600


def test_hours_that_never_end_are_told_as_such() -> None:
    courtesy = Courtesy(CourtesyConfig(quiet=("00:00-24:00",)), Traffic(), lambda: 0.0)
    courtesy.saw(Surroundings(700.0))
    assert courtesy.holding() == ["training and exchanges rest for ever: quiet hours 00:00-24:00"]


def test_energy_is_in_the_status_where_the_machine_tells() -> None:
    swarm, (target, *_) = Devices(), models(1, 10)

    async def script() -> None:
        device = Scripted(energy_j=0.0)
        node = swarm.on(device, "1", Quadratic(target))
        silent = swarm.on(Scripted(), "2", Quadratic(target))
        await asyncio.sleep(1)
        device.energy_j = 41.5
        await asyncio.sleep(LOOK_S)
        assert node._answering.status()["energy_j"] == 41.5
        assert silent._answering.status()["energy_j"] is None

    swarm.play(script)


@pytest.mark.parametrize("asked", [QUIET, {"only_on_ac": True}, {"only_when_load_below": 0.5}])
def test_what_needs_a_device_is_an_error_where_there_is_none(asked: dict[str, Any]) -> None:
    swarm = Devices()

    async def script() -> None:
        with pytest.raises(ConfigError, match="need a real device"):
            swarm.start("a", Quadratic(np.zeros(4, np.float32)), courtesy=asked)

    swarm.play(script)
