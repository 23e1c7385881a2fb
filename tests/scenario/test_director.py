"""What a scenario says is done to the swarm, when it says so, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from p2pfl.scenario.eventlog import EventLog
from p2pfl.scenario.learners import Learners
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import Presence, Trace
from p2pfl.scenario.virtual import _Run
from p2pfl.sim.world import World

SECONDS = 20
Glance = Callable[[World], Any]


def scenario(nodes: int = 5, **values: Any) -> Scenario:
    whole = {
        "nodes": nodes,
        "seed": 3,
        "task": {"name": "averaging", "size": 3},
        "duration": {"seconds": float(SECONDS)},
        "node": {"train": {"cycle_min_s": 1.0}, "checkpoint_every_s": 1.0},
        "measure": {"samples": SECONDS},  # a look a second
    }
    return Scenario.model_validate(whole | values)


def run(asked: Scenario, glances: dict[float, Glance] | None = None) -> tuple[Trace, list[Any]]:
    """The trace, and what the glances at the world found, by time."""
    learners, found, told = Learners(asked), [], []
    whole = _Run(asked, learners, EventLog(), lambda progress: told.append(progress.said))

    async def script() -> None:
        for at, glance in sorted((glances or {}).items()):
            whole.world.loop.call_at(at, lambda g=glance: found.append(g(whole.world)))
        await whole.script()

    whole.world.play(script)
    trace = whole.trace(0.0)
    assert trace.deaths == {}
    return trace, found


def presence(trace: Trace, node: int) -> str:
    """A letter a second: A(bsent), U(p), P(aused), D(own)."""
    return "".join(Presence(value).name[0] for value in trace.presence[:, node])


def marks(trace: Trace) -> list[tuple[float, float | None, str, tuple[int, ...], str]]:
    return [(mark.at, mark.until, mark.text, mark.nodes, mark.kind) for mark in trace.marks]


def test_all_are_there_from_the_beginning_but_those_who_come_later() -> None:
    trace, _ = run(scenario(churn={"absent": 2, "events": [{"at": 5.5, "start": ["n5"]}]}))
    assert presence(trace, 0) == "U" * 21
    assert presence(trace, 3) == "A" * 21
    assert presence(trace, 4) == "A" * 6 + "U" * 15
    assert marks(trace) == [(5.5, None, "n5 started", (4,), "start")]


def test_who_is_killed_is_down_at_once_and_who_is_stopped_after_its_farewell() -> None:
    events = [
        {"at": 3.5, "kill": ["n1"]},
        {"at": 3.5, "stop": ["n2"]},
        {"at": 8.5, "start": ["n1", "n2"]},
    ]
    glances: dict[float, Glance] = {
        3.5001: lambda world: [m.presence.name for m in world.machines[:2]]
    }
    trace, (at_once,) = run(scenario(churn={"events": events}), glances)
    assert at_once == ["DOWN", "UP"]
    assert presence(trace, 0) == presence(trace, 1) == "UUUU" + "DDDDD" + "U" * 12
    assert [kind for *_, kind in marks(trace)] == ["kill", "stop", "start"]


def test_who_is_meant_by_number_or_share_is_drawn_among_those_who_are_up() -> None:
    events = [{"at": 3.5, "kill": 2}, {"at": 5.5, "kill": 1.0}, {"at": 7.5, "start": 2}]
    trace, _ = run(scenario(churn={"events": events}))
    first, second, third = (set(mark.nodes) for mark in trace.marks)
    assert len(first) == 2
    assert second == set(range(5)) - first
    assert len(third) == 2
    up = (trace.presence == Presence.UP).sum(axis=1)
    assert [int(up[second]) for second in (3, 4, 6, 8)] == [5, 3, 0, 2]


def test_the_disk_of_a_node_that_is_up_is_not_emptied() -> None:
    """Names mean these nodes, whether they are up or not; but only who is down is started."""
    events = [{"at": 3.5, "kill": ["n1"]}, {"at": 5.5, "start": ["n1", "n2"], "lost_state": True}]
    glances: dict[float, Glance] = dict.fromkeys(
        (3.0, 6.0), lambda world: [m.disk.node for m in world.machines[:2]]
    )
    trace, (before, after) = run(scenario(churn={"events": events}), glances)
    assert before[0] != after[0]
    assert before[1] == after[1] != ""
    assert marks(trace)[-1][2] == "n1 started"


def test_churn_by_chance_has_no_marks_and_ends_when_it_is_to_end() -> None:
    churn = {"mode": "on-off", "session_s": 2.0, "offline": 0.5, "state": "kept", "ends_s": 12.0}
    trace, _ = run(scenario(churn=churn))
    assert marks(trace) == []
    assert (trace.presence == Presence.PAUSED).any()
    assert (trace.presence[13:] == Presence.UP).all()


def test_chance_brings_back_only_whom_chance_took_away() -> None:
    churn = {
        "mode": "on-off",
        "session_s": 1.0,
        "offline": 0.5,
        "ends_s": 15.0,
        "events": [{"at": 0.01, "kill": ["n1"]}],
    }
    trace, _ = run(scenario(churn=churn))
    assert set(presence(trace, 0)[1:]) == {"D"}


def _paused_by_chance(tmp: Any) -> dict[str, Any]:
    file = tmp / "churn.csv"
    file.write_text("node,at,up\nn1,2.5,0\nn1,12.5,1\n")
    return {"mode": "trace", "trace": str(file), "state": "kept"}


def test_a_pause_does_not_wake_whom_chance_put_to_sleep(tmp_path: Any) -> None:
    faults = {"events": [{"at": 4.5, "until": 6.5, "pause": ["n1", "n2"]}]}
    trace, _ = run(scenario(churn=_paused_by_chance(tmp_path), faults=faults))
    assert presence(trace, 0) == "UUU" + "P" * 10 + "U" * 8
    assert presence(trace, 1) == "U" * 5 + "PP" + "U" * 14
    assert marks(trace)[0][2] == "n1, n2 frozen"


# --- what goes wrong ----------------------------------------------------------------------------


def _cut(world: World) -> list[tuple[int, int]]:
    """Pairs that do not hear each other."""
    ways, machines = world.network.ways, world.machines
    return [
        (a.place, b.place)
        for a in machines
        for b in machines
        if any(way.is_cut for way in ways.between(a.address, b.address))
    ]


def test_a_partition_is_islands_and_the_rest_is_another() -> None:
    faults = {"events": [{"at": 2.5, "until": 4.5, "partition": [["n1"], ["n2", "n3"]]}]}
    trace, (during, after) = run(scenario(faults=faults), {3.0: _cut, 5.0: _cut})
    islands = [{0}, {1, 2}, {3, 4}]
    expected = [
        (a, b) for a in range(5) for b in range(5) if not any({a, b} <= one for one in islands)
    ]
    assert during == expected
    assert after == []
    assert marks(trace) == [(2.5, 4.5, "partition: n1 | n2, n3 | n4, n5", (), "partition")]


def test_a_cut_has_one_direction_and_one_without_an_end_stays() -> None:
    faults = {"events": [{"at": 2.5, "one_way": [["n1"], ["n2", "n3"]]}]}
    trace, (during, after) = run(scenario(faults=faults), {3.0: _cut, 19.0: _cut})
    assert during == after == [(0, 1), (0, 2)]
    assert marks(trace)[0][2] == "n1 → n2, n3 cut"


def _held(world: World) -> int:
    return sum(len(way.held or ()) for way in world.network.ways._open)


def test_held_messages_pile_up_and_are_let_go() -> None:
    faults = {"events": [{"at": 2.5, "until": 6.5, "hold": [["n1"], ["n2-n5"]]}]}
    trace, (early, late, after) = run(scenario(faults=faults), {2.6: _held, 6.4: _held, 6.6: _held})
    assert 0 <= early < late
    assert after == 0
    assert marks(trace)[0][2] == "messages between n1 and n2, n3, n4, n5 held"


def test_overlapping_faults_on_the_same_pair_are_repaired_one_by_one() -> None:
    hold = [["n1"], ["n2"]]
    faults = {
        "events": [
            {"at": 2.5, "until": 6.5, "hold": hold},
            {"at": 2.5, "until": 4.5, "hold": hold},
            {"at": 3.0, "until": 8.0, "partition": [["n1"]]},
        ]
    }

    def open_ways(world: World) -> int:
        return len(world.network.ways._open)

    _, found = run(scenario(faults=faults), dict.fromkeys((3.5, 5.0, 7.0, 9.0), open_ways))
    assert found == [6, 4, 2, 0]


def test_a_frozen_node_goes_on_afterwards() -> None:
    trace, _ = run(scenario(faults={"events": [{"at": 2.5, "until": 5.5, "pause": ["n3"]}]}))
    assert presence(trace, 2) == "UUU" + "PPP" + "U" * 15


def test_disks_are_full_for_a_while_power_is_cut_once_and_clocks_leap() -> None:
    faults = {
        "events": [
            {"at": 2.5, "until": 5.5, "disk_full": ["n1"]},
            {"at": 7.6, "torn": ["n2"]},
            {"at": 3.5, "clock_jump": ["n3"], "by_s": 100.0},
            {"at": 4.5, "clock_jump": ["n3"], "by_s": 10.0},
        ]
    }
    glances: dict[float, Glance] = {
        3.0: lambda world: world.machines[0].disk.is_full,
        6.0: lambda world: world.machines[0].disk.is_full,
        19.0: lambda world: (world.machines[2].clock_ahead_s, world.machines[1].disk.torn),
    }
    trace, found = run(scenario(faults=faults), glances)
    assert found == [True, False, (110.0, 1)]
    assert presence(trace, 1)[-1] == "D"
    assert [text for _, _, text, _, _ in marks(trace)] == [
        "disks of n1 full",
        "clocks of n3 leap by 100 s",
        "clocks of n3 leap by 10 s",
        "power of n2 cut in their next checkpoint",
    ]


def test_links_differ_where_the_scenario_says_so() -> None:
    network = {
        "nodes": [{"who": ["n1", "n2"], "latency_s": 0.3, "up_bytes_per_s": 1e6}],
        "links": [{"from": ["n3"], "to": ["n4"], "blocked": True}],
    }

    def seen(world: World) -> list[Any]:
        return [(m.latency_s, m.up_bytes_per_s, m.down_bytes_per_s) for m in world.machines]

    _, (hosts, cut) = run(scenario(network=network), {1.0: seen, 2.0: _cut})
    assert hosts == [(0.3, 1e6, None)] * 2 + [(None, None, None)] * 3
    assert cut == [(2, 3)]


def test_of_many_nodes_the_count_is_told() -> None:
    trace, _ = run(scenario(9, churn={"events": [{"at": 1.5, "kill": ["n1-n8"]}]}))
    assert marks(trace)[0][2] == "8 nodes killed"


def test_a_mark_of_nobody_says_so() -> None:
    trace, _ = run(scenario(churn={"events": [{"at": 1.5, "start": 2}]}))
    assert marks(trace) == [(1.5, None, "nobody started", (), "start")]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_chance_does_is_a_matter_of_the_seed(seed: int) -> None:
    churn = {"mode": "on-off", "session_s": 3.0}
    first, again = (run(scenario(churn=churn, seed=seed))[0].presence for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, run(scenario(churn=churn, seed=seed + 10))[0].presence)
