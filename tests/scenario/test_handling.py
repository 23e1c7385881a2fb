"""What is done to nodes, with real processes that do nothing, and time that is told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.scenario.guard import Guard
from p2pfl.scenario.handling import UNSAID_S, Handling, Member, rng_of
from p2pfl.scenario.processes import Condition, NodeProcess
from p2pfl.scenario.proxy import Doors
from p2pfl.scenario.spec import Scenario
from p2pfl.sim.world import World
from tests.scenario.made import until

LIVE = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "folder = pathlib.Path(sys.argv[1]); folder.mkdir(exist_ok=True); (folder / 'up').touch(); "
    "time.sleep(600)"
)
ZERO = 100.0


class Stage:
    """Members and the hand, and a clock that is set by the test."""

    def __init__(self, scenario: Scenario, members: list[Member], tasks: asyncio.TaskGroup) -> None:
        self.now = ZERO - 1
        self.said: list[str] = []
        self.members = members
        self.doors = Doors(scenario.names, np.random.default_rng(0))
        self.hand = Handling(
            scenario,
            members,
            self.doors,
            np.random.default_rng(0),
            tasks,
            lambda: self.now,
            self.said.append,
        )

    async def at(self, seconds: float) -> None:
        """Let the run be so old."""
        self.now = ZERO + seconds
        self.hand.do_what_is_due()
        await until(lambda: not any(member.is_due for member in self.members))

    def conditions(self) -> str:
        """First letters: Running, Frozen, Killed, Stopped, Planned, Died."""
        return "".join(member.process.condition.name[0] for member in self.members)


@asynccontextmanager
async def stage(folder: Path, nodes: int = 3, **changes: Any) -> AsyncIterator[Stage]:
    values: dict[str, Any] = {"nodes": nodes, "duration": {"seconds": 60.0}}
    scenario = Scenario.model_validate(values | changes)
    guard = Guard()
    members = []
    for place, name in enumerate(scenario.names):
        command = [sys.executable, "-I", "-S", "-c", LIVE, str(folder / name)]
        members.append(Member(place, NodeProcess(name, command, folder, guard)))
    try:
        async with asyncio.TaskGroup() as tasks:
            made = Stage(scenario, members, tasks)
            for member in made.hand.start_first():
                member.up_since = ZERO
            made.hand.begin(ZERO, 60.0)
            await until(lambda: all(is_up(member) for member in members if member.is_alive))
            yield made
    finally:
        for member in members:
            member.process.destroy()
        guard.close()


def is_up(member: Member) -> bool:
    return (member.process.state_dir / "up").exists()


async def test_a_script_is_played_when_it_is_due(tmp_path: Path) -> None:
    churn = {
        "absent": ["n3"],
        "events": [
            {"at": 1.0, "kill": ["n2"]},
            {"at": 2.0, "start": ["all"]},
            {"at": 3.0, "stop": ["n1"]},
            {"at": 4.0, "start": ["n1"], "lost_state": True},
        ],
    }
    async with stage(tmp_path, churn=churn) as made:
        assert made.conditions() == "RRP"
        await made.at(0.5)
        assert made.said == []
        await made.at(1.0)
        assert made.conditions() == "RKP"
        await made.at(2.5)
        assert made.conditions() == "RRR"
        await until(lambda: is_up(made.members[2]))
        await made.at(3.0)
        assert made.conditions() == "SRR"
        await made.at(4.0)
        assert made.conditions() == "RRR"
        assert made.members[0].began == ZERO + 4.0
        assert (tmp_path / "n1.lost-1" / "up").exists()
        assert [(mark.at, mark.kind, mark.nodes) for mark in made.hand.marks] == [
            (1.0, "kill", (1,)),
            (2.0, "start", (1, 2)),
            (3.0, "stop", (0,)),
            (4.0, "start", (0,)),
        ]
        assert made.said == ["n2 killed", "n2, n3 started", "n1 asked to stop", "n1 started"]
        assert made.members[1].spans == [(ZERO, ZERO + 1.0 - UNSAID_S)]
        assert made.hand.deaths == {}


async def test_a_pause_is_over_when_it_is_over(tmp_path: Path) -> None:
    faults = {"events": [{"at": 1.0, "until": 5.0, "pause": 2}]}
    async with stage(tmp_path, faults=faults) as made:
        await made.at(1.0)
        assert sorted(made.conditions()) == ["F", "F", "R"]
        (mark,) = made.hand.marks
        assert (mark.until, mark.kind, len(mark.nodes)) == (5.0, "pause", 2)
        assert [made.members[place].process.condition for place in mark.nodes] == [
            Condition.FROZEN,
            Condition.FROZEN,
        ]
        assert not any(line.is_unplugged for line in made.doors.lines), "connections stay open"
        await made.at(5.0)
        assert made.conditions() == "RRR"
        assert made.members[mark.nodes[0]].up_since == ZERO + 5.0
        assert made.said[-1].startswith("over: ")


async def test_who_was_killed_in_its_sleep_is_not_woken(tmp_path: Path) -> None:
    changes = {
        "faults": {"events": [{"at": 1.0, "until": 5.0, "pause": ["n1-n2"]}]},
        "churn": {"events": [{"at": 2.0, "kill": ["n2"]}]},
    }
    async with stage(tmp_path, **changes) as made:
        await made.at(6.0)
        assert made.conditions() == "RKR"


async def test_ways_are_cut_and_held_and_repaired(tmp_path: Path) -> None:
    faults = {
        "events": [
            {"at": 1.0, "until": 2.0, "partition": [["n1"]]},
            {"at": 3.0, "until": 4.0, "one_way": [["n1"], ["n2", "n3"]]},
            {"at": 5.0, "until": 6.0, "hold": [["n1"], ["n3"]]},
            {"at": 7.0, "partition": [["n1"], ["n2"]]},
        ]
    }
    async with stage(tmp_path, faults=faults) as made:
        cut = made.doors.is_cut
        await made.at(1.0)
        assert cut(0, 1)
        assert cut(2, 0)
        assert not cut(1, 2)
        await made.at(2.0)
        assert not cut(0, 1)
        await made.at(3.0)
        assert cut(0, 2)
        assert not cut(2, 0)
        await made.at(5.0)
        assert not cut(0, 2)
        for ends in (("n1", "n3"), ("n3", "n1")):
            assert [way.held for way in made.doors.ways.between(*ends)] == [[]]
        await made.at(6.0)
        assert not list(made.doors.ways.between("n1", "n3"))
        await made.at(99.0)
        assert cut(0, 1)
        assert cut(1, 2)
        texts = [mark.text for mark in made.hand.marks]
        assert texts == [
            "partition: n1 | n2, n3",
            "n1 → n2, n3 cut",
            "messages between n1 and n3 held",
            "partition: n1 | n2 | n3",
        ]


async def test_chance_takes_away_and_brings_back_only_whom_it_took(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("node,at,up\nn1,1,0\nn1,3,1\nn2,2,0\nn2,4,1\nn3,2,0\nn3,4,1\n")
    churn = {
        "mode": "trace",
        "trace": str(trace),
        "events": [{"at": 0.5, "kill": ["n2"]}, {"at": 2.5, "start": ["n3"]}],
    }
    async with stage(tmp_path, churn=churn) as made:
        await made.at(2.0)
        assert made.conditions() == "KKK"
        await made.at(2.5)
        assert made.conditions() == "KKR"
        await made.at(5.0)
        assert made.conditions() == "RKR", "n2 was taken down by the script, not by chance"
        assert made.members[2].process.starts == 2
        assert [mark.kind for mark in made.hand.marks] == ["kill", "start"]


async def test_who_sleeps_by_chance_is_unplugged_meanwhile(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("node,at,up\nn1,1,0\nn1,3,1\n")
    churn = {"mode": "trace", "trace": str(trace), "state": "kept"}
    async with stage(tmp_path, churn=churn) as made:
        await made.at(1.0)
        assert made.conditions() == "FRR"
        assert [line.is_unplugged for line in made.doors.lines] == [True, False, False]
        await made.at(3.0)
        assert made.conditions() == "RRR"
        assert not made.doors.lines[0].is_unplugged


async def test_who_forgets_by_chance_finds_its_disk_empty(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("node,at,up\nn1,1,0\nn1,3,1\nn1,5,0\nn1,7,1\n")
    churn = {"mode": "trace", "trace": str(trace), "state": "lost"}
    async with stage(tmp_path, churn=churn) as made:
        await made.at(3.0)
        await until(lambda: is_up(made.members[0]))
        await made.at(7.0)
        await until(lambda: is_up(made.members[0]))
        assert (tmp_path / "n1.lost-1").is_dir()
        assert (tmp_path / "n1.lost-2").is_dir()
        assert made.hand.marks == []


async def test_who_ends_by_itself_is_mourned_with_its_last_words(tmp_path: Path) -> None:
    async with stage(tmp_path) as made:
        # killed, but not by us
        process = made.members[1].process
        assert process._process is not None
        process._process.kill()
        await process.ended()
        process.log.write_text("something is wrong\n")
        await made.at(1.0)
        assert made.conditions() == "RDR"
        assert "something is wrong" in made.hand.deaths["n2"]
        assert made.members[1].up_since is None
        assert made.said == ["n2 ended by itself"]


def test_chance_is_the_same_as_in_the_simulator() -> None:
    world = World.__new__(World)
    world.seed = 7
    for concern in ("churn", "faults"):
        assert rng_of(7, concern).random() == World.rng(world, concern).random()


def test_times_that_a_journal_may_lack_are_no_time_up(tmp_path: Path) -> None:
    member = Member(0, NodeProcess("n1", ["x"], tmp_path, None))  # type: ignore[arg-type]
    member.is_away(5.0)
    assert member.spans == []
    member.up_since = 5.0
    member.is_away(5.1, UNSAID_S)
    assert member.spans == [(5.0, 5.0)]
    member.up_since = 6.0
    member.is_away(8.0)
    assert member.spans[-1] == (6.0, 8.0)
    assert member.up_since is None


@pytest.mark.parametrize(("code", "dies"), [(0, False), (3, True)])
async def test_a_node_that_was_told_when_to_end_may_do_so(
    tmp_path: Path, code: int, dies: bool
) -> None:
    async with stage(tmp_path, nodes=1, node={"stop": {"cycles": 5}}) as made:
        (member,) = made.members
        member.process.destroy()
        line = f"raise SystemExit({code})"
        guard = Guard()
        member.process = NodeProcess("n1", [sys.executable, "-c", line], tmp_path, guard)
        member.process.start()
        await member.process.ended()
        await made.at(1.0)
        assert bool(made.hand.deaths) == dies
        guard.close()
