"""What journals say of a run, and that the scenario made of it replays just that."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.config import GossipConfig, NodeConfig, TrainConfig
from p2pfl.core.events import Cycle, Event, Exchanged, Measured, MemberChanged, Started, Stopped
from p2pfl.edge.identity import IDENTITY, JOURNAL
from p2pfl.edge.journal import SqliteJournal
from p2pfl.errors import ConfigError, StateError
from p2pfl.scenario.churning import schedule
from p2pfl.scenario.load import load
from p2pfl.scenario.recording import (
    Estimate,
    Journal,
    Recording,
    Timed,
    journals,
    lives,
    recorded,
    silence_s,
    written,
)
from p2pfl.scenario.spec import Scenario, named
from p2pfl.scenario.speeds import step_times

WALL = 1.7e9
BOOTED = WALL - 5000.0
"""When the devices' own clocks began."""
VALUES = 2410
TASK = Estimate("digits-numpy", "a test says so")
PARTITION = Estimate("dirichlet:0.1", "a test says so")


@dataclass
class Made:
    """A node whose journal is made up; times are seconds since `WALL`."""

    name: str
    step_s: float = 0.01
    steps: int = 10
    period_s: float = 0.2
    trip_s: float = 0.01
    jitter: float = 0.0
    seed: int = 0
    run: str = "kitchen"
    layout: str = "0123456789abcdef"
    events: list[Timed] = field(default_factory=list)
    slept_s: float = 0.0
    age: int = 0
    starts: int = 0

    @property
    def id(self) -> str:
        return self.name.encode().hex().ljust(32, "0")

    def record(self, at: float, kind: type[Event], *values: object) -> None:
        wall = WALL + at
        self.events.append((wall, kind(wall - BOOTED - self.slept_s, *values)))  # type: ignore[arg-type]

    def lives(
        self,
        begin: float,
        end: float,
        *,
        stops: bool = False,
        resumed: bool | None = None,
        silent: tuple[float, float] | None = None,
        asleep: bool = False,
        peer: Made | None = None,
        outcomes: Sequence[str] = ("flow",),
    ) -> Made:
        """One life: cycles, and an exchange after each with `peer`."""
        rng = np.random.default_rng([self.seed, self.starts])
        known = self.starts > 0 if resumed is None else resumed
        self.starts += 1
        at, number = begin + self.period_s, 0
        self.record(
            begin, Started, self.id, self.name, self.run, self.layout, "h:1", self.starts,
            self.age if known else 0, known,
        )  # fmt: skip
        while at <= end:
            cold = 20.0 if number == 0 else 1.0
            seconds = self.steps * self.step_s * math.exp(self.jitter * rng.standard_normal())
            if silent is not None and at > silent[0]:
                if asleep:
                    self.slept_s += silent[1] - silent[0]
                at, silent = silent[1], None
            self.age += self.steps
            self.record(at, Cycle, number, self.steps, self.age, self.age, 0.1, cold * seconds)
            if peer is not None and number:
                outcome = outcomes[number % len(outcomes)]
                trip = 1.0 if outcome == "timeout" else self.trip_s * (1 + rng.random())
                answer = 0 if outcome == "timeout" else 4 * VALUES
                self.record(
                    at + 0.001, Exchanged, peer.id, "asked", outcome, 0.5, 0.0, 1.0,
                    answer, 4 * VALUES, trip,
                )  # fmt: skip
            number += 1
            at += self.period_s
        if stops:
            self.record(end, Stopped, "cancelled")
        return self

    @property
    def journal(self) -> Journal:
        by_time = sorted(self.events, key=lambda timed: timed[0])
        return Journal(f"/state/{self.name}", tuple(by_time), values=VALUES)

    def keep(self, folder: Path) -> Path:
        """The same in a state directory."""
        path = folder / self.name
        path.mkdir(parents=True)
        about = {"node": self.id, "incarnation": 1, "run": "r", "layout": "l", "values": VALUES}
        (path / IDENTITY).write_text(json.dumps(about))
        walls = iter([wall for wall, _ in self.events])
        journal = SqliteJournal(path / JOURNAL, buffered=10**6, wall=lambda: next(walls))
        for _, event in self.events:
            journal.record(event)
        journal.close()
        return path


class Copied(Made):
    """The same node, from a backup."""

    @property
    def journal(self) -> Journal:
        return replace(super().journal, where=f"/backup/{self.name}")


def record(*nodes: Made, config: NodeConfig | None = None) -> Recording:
    return recorded([node.journal for node in nodes], config=config)


def replayed(found: Recording, folder: Path, name: str = "replay", **options: bool) -> Scenario:
    path = written(found, folder, name, task=TASK, partition=PARTITION, **options)
    return load(str(path))


def value(found: Recording, key: str) -> float:
    return float(found.estimates[key].value)


def done(scenario: Scenario) -> list[tuple[float, str, int]]:
    """All that is done to nodes, by time, whether a trace or an event says so."""
    horizon = scenario.duration.seconds
    assert horizon is not None
    by_trace = schedule(scenario, horizon, np.random.default_rng(0))
    found = [(action.at, str(action.what), action.node) for action in by_trace]
    for event in scenario.churn.events:
        for what in ("kill", "stop", "start"):
            if (who := getattr(event, what)) is not None:
                assert isinstance(who, tuple)
                if event.lost_state:
                    found += [(event.at, "wipe", place) for place in named(who, scenario.nodes)]
                found += [(event.at, what, place) for place in named(who, scenario.nodes)]
    return sorted(found, key=lambda action: action[0])


# --- lives ---------------------------------------------------------------------------------------


def test_a_node_that_stayed_until_the_end_is_one_life() -> None:
    found = record(Made("a").lives(0, 20), Made("b").lives(0, 20, stops=True))
    assert [len(node.lives) for node in found.nodes] == [1, 1]
    assert all(node.lives[0].ending == "present" for node in found.nodes)
    assert found.seconds == pytest.approx(20, abs=0.3)


def test_a_kill_and_a_restart_are_replayed_from_the_checkpoint(tmp_path: Path) -> None:
    found = record(Made("a").lives(0, 30), Made("b").lives(0, 10).lives(14, 30))
    first, second = found.nodes[1].lives
    assert (first.ending, second.ending, second.resumed) == ("crashed", "present", True)
    scenario = replayed(found, tmp_path)
    assert scenario.churn.state == "checkpoint"
    assert [(what, node) for _, what, node in done(scenario)] == [("kill", 1), ("start", 1)]
    kill, start = (at for at, _, _ in done(scenario))
    assert kill == pytest.approx(10, abs=0.3)
    assert start == pytest.approx(14, abs=0.01)


def test_silence_before_the_others_end_is_a_crash_without_a_return(tmp_path: Path) -> None:
    found = record(Made("a").lives(0, 30), Made("b").lives(0, 20))
    assert found.nodes[1].lives[0].ending == "crashed"
    assert [what for _, what, _ in done(replayed(found, tmp_path))] == ["kill"]


def test_a_slow_node_may_be_silent_for_ten_of_its_cycles() -> None:
    slow = Made("b", period_s=2.0).lives(0, 40)
    assert silence_s(slow.events) == pytest.approx(20.0)
    assert record(Made("a").lives(0, 55), slow).nodes[1].lives[0].ending == "present"
    assert record(Made("a").lives(0, 65), slow).nodes[1].lives[0].ending == "crashed"


def test_peers_that_heard_of_a_node_after_its_last_flushed_word_move_its_crash() -> None:
    dead, alive = Made("b").lives(0, 10), Made("a").lives(0, 30)
    last = dead.events[-1][0] - WALL
    alive.record(last + 0.4, Exchanged, dead.id, "answered", "flow")
    alive.record(last + 0.7, Exchanged, dead.id, "asked", "timeout")
    alive.record(last + 3.0, Exchanged, dead.id, "answered", "flow")
    found = record(alive, dead)
    assert found.nodes[1].lives[0].end == pytest.approx(last + 0.4)


def test_stopping_in_order_is_replayed_in_order_and_in_time_for_the_next_start(
    tmp_path: Path,
) -> None:
    scenario = replayed(
        record(Made("a").lives(0, 30), Made("b").lives(0, 10, stops=True).lives(11, 30)), tmp_path
    )
    assert scenario.churn.mode == "none"
    assert [what for _, what, _ in done(scenario)] == ["stop", "start"]
    stop, start = (at for at, _, _ in done(scenario))
    assert start == pytest.approx(11, abs=0.01)
    assert stop == pytest.approx(9.5, abs=0.01)


def test_everybody_told_to_stop_is_the_end_and_nothing_else(tmp_path: Path) -> None:
    found = record(Made("a").lives(0, 30, stops=True), Made("b").lives(0, 31.5, stops=True))
    assert found.seconds == pytest.approx(30)
    assert done(replayed(found, tmp_path)) == []


def test_a_lost_checkpoint_is_replayed_with_an_empty_disk(tmp_path: Path) -> None:
    dead = Made("b").lives(0, 15).lives(20, 40, resumed=False)
    scenario = replayed(record(Made("a").lives(0, 40), dead), tmp_path)
    assert [what for _, what, _ in done(scenario)] == ["kill", "wipe", "start"]


def test_a_crash_before_the_first_checkpoint_loses_nothing_that_was_there(tmp_path: Path) -> None:
    dead = Made("b").lives(0, 5).lives(8, 40, resumed=False)
    assert replayed(record(Made("a").lives(0, 40), dead), tmp_path).churn.state == "checkpoint"


def test_the_state_of_most_comebacks_is_the_rule_and_the_rest_are_events(tmp_path: Path) -> None:
    dead = Made("b").lives(0, 15).lives(20, 35).lives(40, 60).lives(64, 80, resumed=False)
    scenario = replayed(record(Made("a").lives(0, 80), dead), tmp_path)
    assert scenario.churn.state == "checkpoint"
    whats = [what for _, what, _ in done(scenario)]
    assert whats == ["kill", "start", "kill", "start", "kill", "wipe", "start"]
    assert [event.lost_state for event in scenario.churn.events] == [False, True]


def test_a_frozen_process_is_a_pause_and_no_absence(tmp_path: Path) -> None:
    frozen = Made("b").lives(0, 30, silent=(10, 16))
    found = record(Made("a").lives(0, 30), frozen)
    (gap,) = found.nodes[1].lives[0].gaps
    assert not gap.slept
    assert found.nodes[1].up_s == pytest.approx(24, abs=0.5)
    scenario = replayed(found, tmp_path)
    (fault,) = scenario.faults.events
    assert fault.pause == ("n2",)
    assert fault.at == pytest.approx(10, abs=0.3)
    assert fault.until == pytest.approx(16, abs=0.3)
    assert done(scenario) == []


def test_a_device_whose_own_clock_stood_still_slept(tmp_path: Path) -> None:
    asleep = Made("b").lives(0, 40, silent=(10, 30), asleep=True)
    found = record(Made("a").lives(0, 40), asleep)
    assert found.nodes[1].lives[0].gaps[0].slept
    scenario = replayed(found, tmp_path)
    assert scenario.churn.state == "kept"
    assert scenario.faults.events == ()
    assert [what for _, what, _ in done(scenario)] == ["pause", "resume"]


def test_sleep_that_is_not_the_rule_is_a_pause(tmp_path: Path) -> None:
    asleep = Made("b").lives(0, 60, silent=(10, 30), asleep=True)
    dead = Made("c").lives(0, 20).lives(25, 40).lives(45, 60)
    scenario = replayed(record(Made("a").lives(0, 60), asleep, dead), tmp_path)
    assert scenario.churn.state == "checkpoint"
    assert [fault.pause for fault in scenario.faults.events] == [("n2",)]


def test_a_first_step_may_take_any_time_without_being_a_freeze() -> None:
    slow = Made("b").lives(20, 40)
    start = slow.events[0]
    slow.events[0] = (WALL + 2, replace(start[1], at=WALL + 2 - BOOTED))
    slow.events.append((WALL + 2.1, MemberChanged(5002.1, "p", "alive", 1, "heard")))
    assert record(Made("a").lives(0, 40), slow).nodes[1].lives[0].gaps == ()


def test_long_evaluations_are_no_freezes() -> None:
    node = Made("a", period_s=5.5)
    node.lives(0, 60)
    for wall, event in [timed for timed in node.events if isinstance(timed[1], Cycle)]:
        measured = Measured(event.at + 5, event.cycle, event.age, 0.1, 0.9, 100)
        node.events.append((wall + 5, measured))
    node.period_s = 0.2
    node.lives(70, 90)  # many short cycles make the median cycle short
    assert silence_s(sorted(node.events, key=lambda timed: timed[0])) >= 15


def test_a_late_one_is_absent_and_started(tmp_path: Path) -> None:
    late = Made("b").lives(8, 20).lives(24, 30)
    scenario = replayed(record(Made("a").lives(0, 30), late), tmp_path)
    assert scenario.churn.absent == ("n2",)
    assert [(round(at), what) for at, what, _ in done(scenario)] == [
        (8, "start"),
        (20, "kill"),
        (24, "start"),
    ]


def test_who_starts_within_a_second_of_the_first_is_there_from_the_beginning(
    tmp_path: Path,
) -> None:
    nodes = [Made(f"n-{at}").lives(at / 10, 20) for at in range(10)]
    assert replayed(record(*nodes), tmp_path).churn.absent is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(4, 20), st.integers(4, 20), st.booleans()), max_size=4),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 15), min_size=4, max_size=4),
)
def test_whoever_was_up_is_up_in_the_replay(
    plans: list[list[tuple[int, int, bool]]], begins: list[int]
) -> None:
    end = 200.0
    nodes = [Made("a").lives(0, end)]
    for number, plan in enumerate(plans):
        node, at = Made(f"b{number}"), float(begins[number])
        for up, away, stops in plan:
            node.lives(at, at + up, stops=stops)
            at += up + away
        nodes.append(node.lives(at, end))
    found = record(*nodes)
    with TemporaryDirectory() as folder:
        scenario = replayed(found, Path(folder))
        actions = done(scenario)
    absent = named(scenario.churn.absent or (), scenario.nodes)  # type: ignore[arg-type]
    for place, seen in enumerate(found.nodes):
        up: dict[float, bool] = {0.0: place not in absent}
        up |= {at: what == "start" for at, what, whom in actions if whom == place}
        for life in seen.lives:
            middle = (life.begin + life.end) / 2
            assert up[max(at for at in up if at <= middle)]
        for after in seen.lives[1:]:
            almost = after.begin - 0.1
            assert not up[max(at for at in up if at <= almost)]
        assert list(up.values()) == [n % 2 == (place in absent) for n in range(len(up))]


# --- devices -------------------------------------------------------------------------------------


def test_step_times_are_each_nodes_median_without_its_cold_cycle(tmp_path: Path) -> None:
    found = record(Made("a", step_s=0.002).lives(0, 20), Made("b", step_s=0.05).lives(0, 20))
    assert [node.median_step_s for node in found.nodes] == pytest.approx([0.002, 0.05])
    scenario = replayed(found, tmp_path)
    times = step_times(scenario.compute, scenario.names, np.random.default_rng(0))
    assert times == pytest.approx([0.002, 0.05], rel=1e-3)


@pytest.mark.parametrize("jitter", [0.05, 0.4])
def test_jitter_is_the_sigma_of_its_logarithm(jitter: float) -> None:
    nodes = [Made("a", jitter=jitter), Made("b", step_s=0.1, jitter=jitter, seed=1)]
    found = record(*(node.lives(0, 200) for node in nodes))
    assert value(found, "compute.jitter") == pytest.approx(jitter, rel=0.15)
    assert "cycles" in found.estimates["compute.jitter"].why
    assert value(record(Made("a").lives(0, 1.5)), "compute.jitter") == 0.1


def test_a_freeze_does_not_slow_a_device_down() -> None:
    node = Made("a", step_s=0.01).lives(0, 10, silent=(4, 9))
    number = next(n for n, (wall, _) in enumerate(node.events) if wall >= WALL + 9)
    wall, event = node.events[number]
    node.events[number] = (wall, replace(event, seconds=5.0))  # type: ignore[call-arg]
    found = record(node, Made("b").lives(0, 10))
    assert max(found.nodes[0].step_s) == pytest.approx(0.01)
    assert max(found.nodes[0].periods) == pytest.approx(0.2)


def test_the_pace_is_the_most_steps_and_the_time_from_cycle_to_cycle() -> None:
    found = record(
        Made("a", steps=25, step_s=0.001, period_s=0.3).lives(0, 20),
        Made("b", steps=25, step_s=0.002, period_s=0.3).lives(0, 20),
    )
    assert value(found, "node.train.steps_max") == 25
    assert value(found, "node.train.cycle_min_s") == pytest.approx(0.3)
    assert value(found, "node.train.cycle_target_s") == 0.1  # 100 and 50 steps, bounded to 25


def test_a_cycle_target_that_is_not_the_default_is_found() -> None:
    found = record(
        Made("a", steps=20, step_s=0.01, period_s=0.5).lives(0, 20),
        Made("b", steps=8, step_s=0.05, period_s=0.5).lives(0, 20),
    )
    assert value(found, "node.train.cycle_target_s") == pytest.approx(0.4)


def test_nodes_that_never_wait_give_no_pause_longer_than_a_cycle() -> None:
    found = record(Made("a", steps=5, step_s=0.01, period_s=0.05).lives(0, 20))
    assert value(found, "node.train.cycle_min_s") == pytest.approx(0.05)


@pytest.mark.parametrize(("every", "expected"), [(2.0, 2.0), (6.0, 6.0)])
def test_the_pause_between_evaluations(every: float, expected: float) -> None:
    node = Made("a").lives(0, 60)
    cycles = [timed for timed in node.events if isinstance(timed[1], Cycle)]
    apart = math.ceil(every / node.period_s) * node.period_s
    for wall, event in cycles[:: round(apart / node.period_s)]:
        measured = Measured(event.at + 0.01, event.cycle, event.age, 0.1, 0.9, 100)
        node.events.append((wall + 0.01, measured))
    found = record(node)
    assert value(found, "node.train.evaluate_every_s") == pytest.approx(expected, abs=0.15)


# --- the network ---------------------------------------------------------------------------------


def test_latency_is_half_of_a_fast_round_trip_and_says_that_it_is_a_bound() -> None:
    a, b = Made("a", trip_s=0.02), Made("b", trip_s=0.02, seed=1)
    found = record(a.lives(0, 60, peer=b), b.lives(0, 60, peer=a))
    assert value(found, "network.latency_s") == pytest.approx(0.01, rel=0.15)
    assert "upper bound" in found.estimates["network.latency_s"].why
    assert found.slow == {}


def test_a_node_far_away_has_a_latency_of_its_own(tmp_path: Path) -> None:
    a, b, c = Made("a"), Made("b"), Made("c", trip_s=0.2)
    found = record(a.lives(0, 60, peer=b), b.lives(0, 60, peer=a), c.lives(0, 60, peer=a))
    scenario = replayed(found, tmp_path)
    assert scenario.network.latency_s == pytest.approx(0.005, rel=0.2)
    (far,) = scenario.network.nodes
    assert far.who == ("n3",)
    assert far.latency_s == pytest.approx(0.1, rel=0.2)


def test_loss_is_of_each_message_not_of_the_exchange() -> None:
    a, b = Made("a"), Made("b")
    outcomes = ["flow"] * 81 + ["timeout"] * 19  # 1 - 0.9^2
    found = record(a.lives(0, 100, peer=b, outcomes=outcomes), b.lives(0, 100))
    assert value(found, "network.loss_probability") == pytest.approx(0.1, rel=0.1)
    assert (found.nodes[0].losses, found.nodes[0].asked) == pytest.approx((95, 500), abs=3)


def test_a_peer_that_was_away_frozen_or_unknown_loses_nothing() -> None:
    a, dead, frozen = Made("a"), Made("b"), Made("c")
    a.lives(0, 60, peer=dead)
    for at in (21, 23, 24.5):
        a.record(at, Exchanged, dead.id, "asked", "timeout", 0, 0, 0, 0, 9640, 1.0)
        a.record(at, Exchanged, frozen.id, "asked", "timeout", 0, 0, 0, 0, 9640, 1.0)
        a.record(at, Exchanged, "f" * 32, "asked", "timeout", 0, 0, 0, 0, 9640, 1.0)
        a.record(at, Exchanged, dead.id, "asked", "unreachable", 0, 0, 0, 0, 9640, 0.0)
    dead.lives(0, 20.5).lives(25, 60)
    frozen.lives(0, 60, silent=(20, 26))
    found = record(a, dead, frozen)
    assert value(found, "network.loss_probability") == 0
    assert found.nodes[0].losses == 0


def test_answers_to_resolve_are_no_exchanges_of_their_own() -> None:
    a, b = Made("a").lives(0, 20), Made("b").lives(0, 20)
    a.record(5, Exchanged, b.id, "asked", "flow", 0.5, 0, 1.0, 4 * VALUES, 0, 3.0)
    found = record(a, b)
    assert (found.nodes[0].exchanges, found.nodes[0].trips) == (0, {})


@pytest.mark.parametrize(
    ("nbytes", "codec"), [(4 * VALUES, "float32"), (2 * VALUES, "float16"), (2600, "int8")]
)
def test_the_codec_is_told_by_the_size_of_what_was_sent(nbytes: int, codec: str) -> None:
    a, b = Made("a").lives(0, 20), Made("b").lives(0, 20)
    a.record(5, Exchanged, b.id, "asked", "flow", 0.5, 0, 1.0, nbytes, nbytes, 0.01)
    assert record(a, b).estimates["node.gossip.codec"].value == codec
    unknown = [replace(node.journal, values=None) for node in (a, b)]
    assert "node.gossip.codec" not in recorded(unknown).estimates


def test_what_a_configuration_says_is_not_estimated(tmp_path: Path) -> None:
    config = NodeConfig(
        topology="ring",
        checkpoint_every_s=3.0,
        train=TrainConfig(steps_max=99),
        gossip=GossipConfig(codec="int8"),
    )
    scenario = replayed(record(Made("a").lives(0, 20), config=config), tmp_path)
    assert scenario.topology == "ring"
    assert scenario.node.checkpoint_every_s == 3.0
    assert scenario.node.train.steps_max == 99
    assert scenario.node.gossip.codec == "int8"
    assert scenario.node.train.cycle_min_s == pytest.approx(0.2)


# --- what is left out, and what is wrong ---------------------------------------------------------


def test_only_what_lies_between_from_and_until_is_recorded(tmp_path: Path) -> None:
    a, b = Made("a").lives(0, 100), Made("b").lives(0, 20).lives(30, 60)
    folders = [node.keep(tmp_path) for node in (a, b)]
    since, until = WALL + 25, WALL + 50
    found = recorded(journals(folders, since=since, until=until), since=since, until=until)
    assert found.zero == since
    assert found.seconds == pytest.approx(25, abs=0.3)
    assert "1 node trained before --from" in found.notes[0]
    assert [life.begin for life in found.nodes[1].lives] == [pytest.approx(5)]
    assert [life.ending for node in found.nodes for life in node.lives] == ["present"] * 2
    assert found.nodes[0].cycles == pytest.approx(125, abs=2)
    with pytest.raises(ConfigError, match="less than 1 s to record"):
        recorded([a.journal, b.journal], since=WALL + 500)


def test_journals_are_found_in_folders_each_once(tmp_path: Path) -> None:
    made = [Made(f"node-{number}").lives(0, 10) for number in (10, 9)]
    folders = [node.keep(tmp_path / "run") for node in made]
    told = journals([tmp_path, *folders, folders[0] / JOURNAL])
    assert len(told) == 2
    found = recorded(told)
    assert {node.name: node.label for node in found.nodes} == {"n1": "node-9", "n2": "node-10"}
    assert found.nodes[0].cycles == pytest.approx(49, abs=1)


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    node = Made("a").lives(0, 10)
    walls = iter([wall for wall, _ in node.events])
    journal = SqliteJournal(tmp_path / JOURNAL, wall=lambda: next(walls))
    for _, event in node.events:
        journal.record(event)
    journal.flush()
    assert recorded(journals([tmp_path])).nodes[0].cycles == pytest.approx(49, abs=1)
    journal.close()


def test_a_missing_journal_says_where_journals_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no journal in it; give state directories"):
        journals([tmp_path])
    with pytest.raises(ConfigError, match="is no folder"):
        journals([tmp_path / "none"])


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = Made("a").lives(0, 10).keep(tmp_path)
    (path / JOURNAL).write_bytes(b"this is no database, it is a text of some length" * 100)
    with pytest.raises(StateError, match=r"a/journal.sqlite cannot be read"):
        journals([path])


def test_a_journal_that_was_moved_aside_is_mentioned(tmp_path: Path) -> None:
    path = Made("a").lives(0, 10).keep(tmp_path)
    (path / "journal.damaged-1.sqlite").write_bytes(b"x")
    assert "earlier journal was damaged" in recorded(journals([path])).notes[0]


def test_rows_that_a_journal_dropped_are_no_freeze(tmp_path: Path) -> None:
    node = Made("a").lives(0, 60)
    path = tmp_path / JOURNAL
    walls = iter([wall for wall, _ in node.events])
    journal = SqliteJournal(path, rows=50, wall=lambda: next(walls))
    for _, event in node.events:
        journal.record(event)
    journal.close()
    (told,) = journals([tmp_path])
    assert told.whole_since > WALL + 40
    found = recorded([told])
    assert found.nodes[0].lives[0].gaps == ()
    assert "whole only since" in found.notes[0]


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([Made("a")], "none of 1 journal holds the start of a node"),
        ([Made("a").lives(0, 0.1), Made("b").lives(5, 5.1)], "holds a training cycle"),
        ([Made("a").lives(0, 0.5)], "less than 1 s to record"),
        ([Made("a").lives(0, 9), Made("b", run="x").lives(0, 9)], "nodes of 2 runs"),
        ([Made("a").lives(0, 9), Made("b", layout="x").lives(0, 9)], "nodes of 2 models"),
        ([Made("a").lives(0, 9), Copied("a").lives(0, 5)], "/state/a and /backup/a are of the"),
    ],
)
def test_what_cannot_be_recorded_is_said_with_the_fix(nodes: list[Made], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        record(*nodes)


def test_what_a_reader_should_know_is_noted() -> None:
    a = Made("a", age=77).lives(0, 20, resumed=True, peer=Made("stranger"))
    a.lives(500, 520)
    b = Made("b").lives(0, 0.1)
    b.record(5, MemberChanged, a.id, "alive", 1, "heard")
    notes = "\n".join(record(a, Made("empty"), b).notes)
    assert "1 peer without a journal here" in notes
    assert "1 node began with a trained model (age up to 77)" in notes
    assert "/state/empty: its journal holds no start of a node" in notes
    assert "no training cycle of n2 was seen" in notes
    assert "nobody was up for 480 s" in notes


# --- files ---------------------------------------------------------------------------------------


def test_every_estimate_stands_with_its_evidence(tmp_path: Path) -> None:
    a, b = Made("a"), Made("b")
    found = record(a.lives(0, 60, peer=b), b.lives(0, 30).lives(33, 60, peer=a))
    replayed(found, tmp_path)
    text = (tmp_path / "replay.toml").read_text(encoding="utf-8")
    for line in (
        'name = "digits-numpy"  # a test says so',
        "step_s = 0.01  # median of 2 nodes, ",
        'state = "checkpoint"  # absences that were seen: 1 x checkpoint',
        'codec = "float32"  # 2,410 values travel in 9,640 bytes',
        "# n2 = b (62000000), /state/b",
    ):
        assert line in text
    assert (tmp_path / "replay-churn.csv").read_text().splitlines()[0] == "node,at,up"
    assert (tmp_path / "replay-steps.csv").read_text().splitlines()[0] == "node,step_s"


def test_nothing_is_replaced_unless_told_to_and_nothing_old_is_left(tmp_path: Path) -> None:
    with_churn = record(Made("a").lives(0, 30), Made("b").lives(0, 10).lives(14, 30))
    replayed(with_churn, tmp_path)
    with pytest.raises(ConfigError, match="exists; give another --name or --out, or --overwrite"):
        replayed(with_churn, tmp_path)
    replayed(record(Made("a").lives(0, 30)), tmp_path, overwrite=True)
    assert not (tmp_path / "replay-churn.csv").exists()


def test_a_name_that_is_none_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        replayed(record(Made("a").lives(0, 30)), tmp_path, "../evil")
    assert list(tmp_path.iterdir()) == []


def test_names_that_others_chose_cannot_add_to_the_scenario(tmp_path: Path) -> None:
    evil = 'x"\n[task]\nname = "/tmp/evil.py"\u2028'
    scenario = replayed(record(Made(evil, run=evil).lives(0, 20)), tmp_path)
    assert scenario.task.name == "digits-numpy"


def one_life(events: Iterable[Timed], end: float) -> int:
    return len(lives(list(events), end=end))


def test_a_journal_that_lost_its_beginning_still_has_a_life() -> None:
    node = Made("a").lives(0, 20)
    assert one_life(node.events[1:], WALL + 20) == 1
    assert lives(node.events[1:], end=WALL + 20)[0].resumed
