"""What real nodes are told before they start: options, a configuration file, a network.

Rule of the file: what cannot be done to real processes is refused here, before anything starts, by
naming the key and the engine that can do it. A configuration file holds what is not the default,
and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from p2pfl.errors import ConfigError
from p2pfl.learning.partition import parse_partition
from p2pfl.scenario.churning import absent, chosen
from p2pfl.scenario.conditions import conditions
from p2pfl.scenario.load import rule_of
from p2pfl.scenario.proxy import Doors, Line
from p2pfl.scenario.spec import MODELLED, Scenario
from p2pfl.sim.faults import Way

LOOPBACK_S = 0.002
"""A latency up to this is loopback's own: nothing is done to it."""

_BETWEEN = ("partition", "one_way", "hold")
_ELSEWHERE = {
    "disk_full": "fills no disk of this device",
    "torn": "cuts no power",
    "clock_jump": "leaves this device's clock alone",
}
_UNSEEN = ("messages_per_cycle", "mass_drift", "optimum_distance")
_OURS = {"run", "name", "topology"}


def refuse(scenario: Scenario) -> None:
    """Check that real processes can play all of it.

    Raises:
        ConfigError: naming the key that they cannot, or that cannot be read.
    """
    if scenario.task.name in MODELLED:
        _only_virtual("task.name", scenario.task.name, "knows tasks with data only")
    if scenario.network.sees is not None:
        _only_virtual("network.sees", scenario.network.sees, "tells every node of all others")
    if scenario.churn.silent:
        _only_virtual("churn.silent", True, "ends processes, whose ports then refuse")
    for name in _UNSEEN:
        if getattr(scenario.expect, name) is not None:
            bound = str(getattr(scenario.expect, name))
            _only_virtual(f"expect.{name}", bound, "cannot measure that from outside")
    if scenario.adversary.attack != "none":
        _only_virtual(
            "adversary.attack", scenario.adversary.attack, "has no hostile nodes, only honest ones"
        )
    for number, event in enumerate(scenario.faults.events):
        if event.kind in _ELSEWHERE:
            who = getattr(event, event.kind)
            _only_virtual(f"faults.events.{number}.{event.kind}", who, _ELSEWHERE[event.kind])
    absent(scenario)
    rule_of(scenario)
    partition(scenario)


def _only_virtual(key: str, value: object, why: str) -> None:
    raise ConfigError(f"{key} is {value!r}: the engine 'processes' {why}; use --engine virtual")


def needs_doors(scenario: Scenario) -> bool:
    """Whether anything is to happen on the way between nodes; else they talk directly."""
    network, faults = scenario.network, scenario.faults
    return bool(
        network.latency_s > LOOPBACK_S
        or network.loss_probability
        or network.up_bytes_per_s
        or network.down_bytes_per_s
        or network.nodes
        or network.links
        or faults.duplicate_probability
        or faults.reorder_probability
        or faults.corrupt_probability
        or any(event.kind in _BETWEEN for event in faults.events)
        or (scenario.churn.mode != "none" and scenario.churn.state == "kept")
    )


def lay(scenario: Scenario, doors: Doors, rng: np.random.Generator) -> None:
    """Make the network behind the doors what the scenario says it is from the beginning."""
    network, names = scenario.network, scenario.names
    everybody = range(scenario.nodes)
    doors.conditions = conditions(scenario)
    if network.latency_s <= LOOPBACK_S:
        doors.conditions.latency_s = 0.0
    for line in doors.lines:
        line.up_bytes_per_s = network.up_bytes_per_s
        line.down_bytes_per_s = network.down_bytes_per_s
    for link in network.nodes:
        for place in chosen(link.who, names, everybody, rng):
            _change(doors.lines[place], link.model_dump(exclude={"who"}, exclude_none=True))
    for way in network.links:
        ends = (chosen(who, names, everybody, rng) for who in (way.from_, way.to))
        sources, targets = (frozenset(names[place] for place in places) for places in ends)
        doors.ways.open(Way(sources, targets, way.latency_s, way.loss_probability, way.blocked))


def _change(line: Line, values: Mapping[str, float]) -> None:
    for key, value in values.items():
        setattr(line, key, value)


# --- every node ---------------------------------------------------------------------------------


def partition(scenario: Scenario) -> str:
    """How the data are split, as `p2pfl node` takes it.

    Raises:
        ConfigError: it cannot be read.
    """
    rule = parse_partition(scenario.task.partition)
    return str(replace(rule, minimum=scenario.task.minimum))


def options(scenario: Scenario, place: int, config_file: str) -> tuple[str, ...]:
    """Options of `p2pfl node` for the node at a place."""
    words = {
        "--shard": f"{place + 1}/{scenario.nodes}",
        "--partition": partition(scenario),
        "--data-seed": str(scenario.seed),
        "--topology": rule_of(scenario).text,
        "--seed": str(np.random.SeedSequence([scenario.seed, place]).generate_state(1)[0]),
        "--config": config_file,
    }
    return (*(word for pair in words.items() for word in pair), "--quiet")


def config(
    scenario: Scenario, place: int, step_s: float, look_s: float, doors: Doors | None
) -> dict[str, Any]:
    """What stands in the configuration file of the node at a place.

    Args:
        step_s: how long its local steps last.
        look_s: pause between two looks at it: it evaluates as often, if nothing else is said.
        doors: if it is reached through one.
    """
    node = scenario.node
    values: dict[str, Any] = node.model_dump(mode="json", exclude_defaults=True, exclude=_OURS)
    if "evaluate_every_s" not in node.train.model_fields_set:
        every_s = min(max(look_s, 0.5), node.train.evaluate_every_s)
        values["train"] = {**values.get("train", {}), "evaluate_every_s": every_s}
    task = {"learning_rate": scenario.task.learning_rate, "batch_size": scenario.task.batch_size}
    values |= {key: value for key, value in task.items() if value is not None}
    values["step_s"] = step_s
    if doors is not None:
        values |= {"port": doors.behind(place), "advertise": doors.address(place)}
    return values


def toml(values: Mapping[str, Any]) -> str:
    """Nested tables of plain values as TOML."""
    return "\n".join(_lines(values, ())) + "\n"


def _lines(values: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    found = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += ["", f"[{'.'.join((*path, key))}]", *_lines(value, (*path, key))]
    return found
