"""Traces made up for tests: a swarm that learns, with churn and faults, in whatever size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.trace import STALENESS_EDGES, Floats, Mark, Presence, Trace

EXPECT = {
    "mean_accuracy": ">= 0.9",
    "worst_tenth_accuracy": ">= 0.8",
    "consensus_distance": "<= 5",
    "stall_s": "<= 30",
    "recovery_s": "<= 30",
    "deaths": "<= 0",
}


def made_scenario(nodes: int = 20, seconds: float = 60.0, **changes: Any) -> Scenario:
    values: dict[str, Any] = {
        "name": "made-up",
        "description": "Twenty nodes learn digits while some of them come and go.",
        "nodes": nodes,
        "topology": "random-regular-4",
        "duration": {"seconds": seconds},
        "churn": {"mode": "on-off", "offline": 0.2},
        "expect": EXPECT,
    }
    return Scenario.model_validate(values | changes)


def made(
    nodes: int = 20,
    looks: int = 100,
    seconds: float = 60.0,
    *,
    seed: int = 0,
    churn: float = 0.15,
    marks: tuple[Mark, ...] | None = None,
    scenario: Scenario | None = None,
    **changes: Any,
) -> Trace:
    """A run in which the expectations hold, unless something is changed.

    Args:
        churn: share of the nodes that go and come back by chance.
        marks: what was done to them; None: a late one, a kill, a partition and a pause.
        changes: of the finished trace.
    """
    rng = np.random.default_rng(seed)
    times = np.linspace(0.0, seconds, looks)
    if marks is None:
        marks = made_marks(nodes, seconds)
    presence = _presence(rng, times, nodes, churn, marks)
    is_up = presence == Presence.UP
    accuracy = np.where(is_up, _accuracy(rng, times, nodes, marks), np.nan)
    rate = 2.0 * rng.lognormal(0.0, 0.3, nodes)
    step = np.diff(times, prepend=0.0)[:, None]
    cycles = np.cumsum(step * rate * is_up, axis=0)
    sent = np.cumsum(step * rate * is_up * 4 * 9640, axis=0)
    there = presence != Presence.ABSENT
    known = np.where(there, 1.0, np.nan)
    whole = Trace(
        scenario=scenario or made_scenario(nodes, seconds),
        engine="virtual",
        times=times,
        presence=presence,
        accuracy=accuracy,
        cycles=cycles * known,
        age=np.floor(cycles * 12) * known,
        sent=sent * known,
        messages=np.floor(sent / 9640) * known,
        distance=_distance(rng, times, marks),
        pending=rng.integers(0, 4, looks).astype(np.float64),
        drift=np.full(looks, np.nan),
        optimum=np.full(looks, np.nan),
        staleness=_staleness(nodes),
        outcomes={"answered": 90 * nodes, "timed out": 4 * nodes, "busy": nodes, "refused": 3},
        stalls=rng.uniform(0.2, 3.0, nodes),
        links=made_links(nodes),
        marks=marks,
        events=12_345 * nodes,
        event_hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        wall_s=4.2,
        steps=1200 * nodes,
    )
    return replace(whole, **changes)


def made_marks(nodes: int, seconds: float) -> tuple[Mark, ...]:
    half = tuple(range(nodes // 2))
    return (
        Mark(0.12 * seconds, None, f"n{nodes} joins late", (nodes - 1,), "start"),
        Mark(0.25 * seconds, 0.32 * seconds, "n3 killed", (2 % nodes,), "kill"),
        Mark(0.45 * seconds, 0.6 * seconds, f"partition of n1-n{nodes // 2}", half, "partition"),
        Mark(0.8 * seconds, 0.86 * seconds, "n5 paused", (4 % nodes,), "pause"),
    )


def made_links(nodes: int) -> tuple[tuple[int, int], ...]:
    if nodes <= 5:
        return tuple((a, b) for a in range(nodes) for b in range(a + 1, nodes))
    graph = nx.random_regular_graph(4, nodes, seed=1)
    return tuple(sorted((min(a, b), max(a, b)) for a, b in graph.edges))


def without_accuracy(**changes: Any) -> Trace:
    """A trace of averaging: nothing is learnt."""
    trace = made(**changes)
    nothing = np.full_like(trace.accuracy, np.nan)
    decay = 3.0 * np.exp(-trace.times / 5)
    return replace(trace, accuracy=nothing, optimum=decay, drift=np.full_like(decay, 1e-7))


def empty(nodes: int = 4) -> Trace:
    """A run that ended before anybody looked."""
    none, nobody = np.zeros(0), np.zeros((0, nodes))
    return made(
        nodes,
        marks=(),
        times=none,
        presence=np.zeros((0, nodes), np.int8),
        accuracy=nobody,
        cycles=nobody,
        age=nobody,
        sent=nobody,
        messages=nobody,
        distance=none,
        pending=none,
        drift=none,
        optimum=none,
        staleness=np.zeros(len(STALENESS_EDGES), np.int64),
        outcomes={},
        stalls=np.full(nodes, np.nan),
        links=(),
    )


def _presence(
    rng: np.random.Generator, times: Floats, nodes: int, churn: float, marks: tuple[Mark, ...]
) -> Any:
    found = np.full((len(times), nodes), Presence.UP, np.int8)
    end = times[-1] if len(times) else 0.0
    for node in np.flatnonzero(rng.random(nodes) < churn):
        for gone in np.sort(rng.uniform(0, end, 2)):
            back = gone + rng.exponential(end / 12)
            found[(times >= gone) & (times < back), node] = Presence.DOWN
    states = {"kill": Presence.DOWN, "stop": Presence.DOWN, "pause": Presence.PAUSED}
    for mark in marks:
        for node in mark.nodes:
            until = end + 1 if mark.until is None else mark.until
            if mark.kind == "start":
                found[times < mark.at, node] = Presence.ABSENT
            elif mark.kind in states:
                found[(times >= mark.at) & (times < until), node] = states[mark.kind]
    return found


def _accuracy(
    rng: np.random.Generator, times: Floats, nodes: int, marks: tuple[Mark, ...]
) -> Floats:
    end = times[-1] if len(times) else 1.0
    top, pace = 0.955 + 0.01 * rng.standard_normal(nodes), rng.uniform(0.06, 0.12, nodes) * end
    curve = 0.1 + (top - 0.1) * (1 - np.exp(-times[:, None] / pace))
    for mark in marks:
        if mark.kind == "partition" and mark.until is not None:
            since = times[:, None] - mark.at
            healed = np.maximum(times[:, None] - mark.until, 0)
            depth = 0.12 * rng.random(nodes) * (1 - np.exp(-np.maximum(since, 0) / 4))
            curve -= np.where(since > 0, depth * np.exp(-healed / 2), 0.0)
    noise = 0.006 * rng.standard_normal((len(times), nodes))
    return np.clip(curve + noise, 0.0, 1.0)


def _distance(rng: np.random.Generator, times: Floats, marks: tuple[Mark, ...]) -> Floats:
    found = 0.3 + 2.5 * np.exp(-times / max(times[-1] / 8, 1e-9))
    for mark in marks:
        if mark.kind == "partition" and mark.until is not None:
            found += np.where(times > mark.at, 4 * np.exp(-np.abs(times - mark.until) / 3), 0.0)
    return np.asarray(found * rng.lognormal(0.0, 0.08, len(times)))


def _staleness(nodes: int) -> Any:
    shares = np.exp(-0.5 * np.linspace(-1.2, 4.5, len(STALENESS_EDGES)) ** 2)
    return np.floor(90 * nodes * shares / shares.sum()).astype(np.int64)
