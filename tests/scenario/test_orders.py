"""What real nodes are told, and what real processes refuse to play."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest

from p2pfl.config import DeviceConfig
from p2pfl.configuring import from_mapping
from p2pfl.errors import ConfigError
from p2pfl.learning.partition import Partition, parse_partition
from p2pfl.scenario.orders import config, lay, needs_doors, options, refuse, toml
from p2pfl.scenario.proxy import Doors, Line
from p2pfl.scenario.spec import Scenario
from p2pfl.sim.faults import Conditions


def scenario(**changes: Any) -> Scenario:
    values: dict[str, Any] = {"nodes": 12, "duration": {"seconds": 30.0}, "task": "digits-numpy"}
    return Scenario.model_validate(values | changes)


def event(**what: Any) -> dict[str, Any]:
    return {"faults": {"events": [{"at": 1.0, **what}]}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "quadratic"}, "task.name is 'quadratic': the engine 'processes' knows tasks"),
        ({"task": "averaging"}, "task.name is 'averaging'"),
        ({"network": {"sees": 3}}, "network.sees is 3: .* tells every node of all others"),
        (event(disk_full=["n1"]), r"faults\.events\.0\.disk_full is \('n1',\): .* fills no disk"),
        (event(torn=0.5), "torn is 0.5: .* cuts no power"),
        (event(clock_jump=1), "clock_jump is 1: .* leaves this device's clock alone"),
    ],
)
def test_what_cannot_be_done_to_real_processes_is_refused_with_its_key(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        refuse(scenario(**changes))
    assert "use --engine virtual" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topology": "rings"}, "did you mean 'ring'"),
        ({"task": {"name": "digits-numpy", "partition": "dirichlet:x"}}, "dirichlet:x"),
        ({"churn": {"absent": ["all"]}}, "at least one must be there"),
    ],
)
def test_what_no_node_could_be_told_is_refused_too(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse(scenario(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"latency_s": 0.01}},
        {"network": {"loss_probability": 0.1}},
        {"network": {"up_bytes_per_s": 1e6}},
        {"network": {"nodes": [{"who": 1, "latency_s": 0.1}]}},
        {"network": {"links": [{"from": ["n1"], "to": ["n2"], "blocked": True}]}},
        {"faults": {"corrupt_probability": 0.1}},
        {"faults": {"duplicate_probability": 0.1}},
        {"faults": {"reorder_probability": 0.1}},
        event(partition=0.5),
        event(one_way=[1, 1]),
        event(hold=[1, 1]),
        {"churn": {"mode": "on-off", "state": "kept"}},
    ],
)
def test_what_happens_on_the_way_needs_doors(changes: dict[str, Any]) -> None:
    refuse(scenario(**changes))
    assert needs_doors(scenario(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": {"latency_s": 0.002}},
        event(pause=0.5, until=2.0),
        {"churn": {"mode": "on-off", "state": "lost", "events": [{"at": 1.0, "kill": 2}]}},
    ],
)
def test_nodes_talk_directly_where_nothing_happens_on_the_way(changes: dict[str, Any]) -> None:
    refuse(scenario(**changes))
    assert not needs_doors(scenario(**changes))


def test_the_network_is_laid_as_the_scenario_says() -> None:
    given = scenario(
        network={
            "latency_s": 0.05,
            "latency_sigma": 0.5,
            "loss_probability": 0.01,
            "up_bytes_per_s": 1e6,
            "nodes": [{"who": ["n3"], "latency_s": 0.2, "up_bytes_per_s": 1e5}],
            "links": [
                {"from": ["n1"], "to": ["n2-n4"], "loss_probability": 0.5},
                {"from": ["n2"], "to": ["n1"], "blocked": True},
            ],
        },
        faults={"corrupt_probability": 0.1},
    )
    doors = Doors(given.names, np.random.default_rng(0))
    lay(given, doors, np.random.default_rng(0))
    assert doors.conditions == Conditions(0.05, 0.5, 0.01, corrupt_probability=0.1)
    assert doors.lines[0] == Line(up_bytes_per_s=1e6)
    assert doors.lines[2] == Line(latency_s=0.2, up_bytes_per_s=1e5)
    (lossy,) = doors.ways.between("n01", "n04")
    assert (lossy.loss_probability, lossy.is_cut) == (0.5, False)
    assert not list(doors.ways.between("n04", "n01"))
    assert doors.is_cut(1, 0)
    assert not doors.is_cut(0, 1)


def test_a_latency_that_loopback_has_anyway_is_not_added() -> None:
    given = scenario(network={"loss_probability": 0.5})
    doors = Doors(given.names, np.random.default_rng(0))
    lay(given, doors, np.random.default_rng(0))
    assert doors.conditions.latency_s == 0.0


# --- files and options --------------------------------------------------------------------------


def told(given: Scenario, place: int = 0, look_s: float = 1.0, doors: Doors | None = None) -> Any:
    return tomllib.loads(toml(config(given, place, 0.25, look_s, doors)))


def test_a_file_holds_what_is_not_the_default_and_nothing_else() -> None:
    assert told(scenario()) == {"step_s": 0.25, "train": {"evaluate_every_s": 1.0}}
    node = {
        "checkpoint_every_s": 3,
        "gossip": {"codec": "int8", "weight": 0.5},
        "train": {"momentum": 0.0},
    }
    task = {"name": "digits-numpy", "learning_rate": 0.03, "batch_size": 4}
    assert told(scenario(node=node, task=task)) == {
        "checkpoint_every_s": 3.0,
        "learning_rate": 0.03,
        "batch_size": 4,
        "step_s": 0.25,
        "gossip": {"codec": "int8"},
        "train": {"momentum": 0.0, "evaluate_every_s": 1.0},
    }


def test_nodes_evaluate_as_often_as_they_are_looked_at_unless_told_otherwise() -> None:
    def every_s(given: Scenario, look_s: float) -> float:
        value: float = told(given, look_s=look_s).get("train", {}).get("evaluate_every_s", 2.0)
        return value

    assert every_s(scenario(), 0.25) == 0.5
    assert every_s(scenario(), 1.5) == 1.5
    assert every_s(scenario(), 30.0) == 2.0
    assert every_s(scenario(node={"train": {"evaluate_every_s": 7.0}}), 1.0) == 7.0
    assert every_s(scenario(node={"train": {"evaluate_every_s": 2.0}}), 0.5) == 2.0


def test_a_node_behind_a_door_advertises_it() -> None:
    given = scenario()
    doors = Doors(given.names, np.random.default_rng(0))
    found = told(given, 3, doors=doors)
    assert found["port"] == doors.behind(3)
    assert found["advertise"] == doors.address(3)
    assert doors.who(found["advertise"]) == 3


def test_what_is_told_is_what_a_node_can_be_told() -> None:
    node = {"gossip": {"outstanding": 1, "weight": 1.0}, "limits": {"peers": 32}}
    given = scenario(node=node)
    values = {"task": "digits-numpy", **told(given)}
    found = from_mapping(values, DeviceConfig)
    assert (found.gossip.outstanding, found.limits.peers, found.run) == (1, 32, "default")


def test_text_and_lists_survive_as_toml() -> None:
    values = {
        "a": 'say "ü" \\ 😀\n',
        "b": True,
        "c": [1, 2.5, "x"],
        "d": 1e-05,
        "e": {"f": {"g": 1}, "h": 2},
    }
    assert tomllib.loads(toml(values)) == values


def test_every_node_has_its_shard_and_chance_of_its_own() -> None:
    given = scenario(topology="ring", seed=7)
    all_words = [options(given, place, "x.toml") for place in range(12)]
    words = all_words[2]
    pairs = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    assert words[-1] == "--quiet"
    assert pairs["--shard"] == "3/12"
    assert parse_partition(pairs["--partition"]) == Partition("dirichlet", 0.1, 10)
    assert pairs["--data-seed"] == "7"
    assert pairs["--topology"] == "ring"
    assert pairs["--config"] == "x.toml"
    assert len({words[words.index("--seed") + 1] for words in all_words}) == 12


def test_the_least_number_of_samples_goes_with_the_rule_that_splits_them() -> None:
    for text in ("classes:3", "classes:3:min=7"):
        task = {"name": "digits-numpy", "partition": text, "minimum": 5}
        words = options(scenario(task=task), 0, "x.toml")
        told = parse_partition(words[words.index("--partition") + 1])
        assert told == Partition("classes", 3, 5)


def test_a_topology_file_is_told_as_the_rule_in_it() -> None:
    words = options(scenario(nodes=8, topology="topologies/two-islands.toml"), 0, "x.toml")
    assert words[words.index("--topology") + 1].startswith("edges:n1--n2,")
