"""Who comes and goes by chance, as a list of what is done to whom and when; and who is meant.

    on-off    every node stays exponentially long, session_s on average, then is away exponentially
              long, session_s x offline / (1 - offline) on average: a share `offline` is away
    diurnal   a common day of period_s that begins at noon; at time t a node is away with chance
              p(t) = offline x (1 - cos(2 pi t / period_s)) / 2, once a night at most
    trace     CSV with columns node, at, up: as it stands there

    a comeback with its state   kept          pause ─► resume           unreachable meanwhile
                                checkpoint    kill  ─► start
                                lost          kill  ─► wipe, start      or by `amnesia`

On-off begins with everybody there, so that nothing happens at once; the share that is away comes
near `offline` within a few times offline x session_s seconds.

Rules of the file: pure functions, used by both engines. Every node has chance of its own, so a
longer run has the same beginning. What an engine cannot do to a node in its present condition (a
script took it down, it never joined) it leaves undone: chance resumes and starts only whom chance
took away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from p2pfl.errors import ConfigError
from p2pfl.scenario.rows import rows
from p2pfl.scenario.spec import Churn, Scenario, Who, named

What: TypeAlias = Literal["kill", "stop", "start", "pause", "resume", "wipe"]
Away: TypeAlias = Iterable[tuple[float, float]]
"""From when until when a node is away, by time; the end may be infinite."""


@dataclass(frozen=True, slots=True)
class ChurnAction:
    """At a time, something is done to one node.

    Attributes:
        at: seconds since the run began.
        what: kill (memory is lost), stop (in order), start, pause and resume (memory is kept,
            unreachable in between), wipe (its disk is emptied).
        node: its place, from 0.
    """

    at: float
    what: What
    node: int


def schedule(scenario: Scenario, horizon_s: float, rng: np.random.Generator) -> list[ChurnAction]:
    """What chance does to the nodes until the horizon, by time; `churn.events` are not in it.

    Args:
        scenario: its nodes and its `churn`.
        horizon_s: > 0; nothing is listed that would come at or after it.
        rng: chance; the horizon does not matter to what it is asked.

    Raises:
        ConfigError: the trace cannot be read, or a value in it is out of bounds.
    """
    churn, nodes = scenario.churn, scenario.nodes
    chances = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=nodes)]
    away: Sequence[Away]
    match churn.mode:
        case "on-off":
            away = [_on_off(churn, chance) for chance in chances]
        case "diurnal":
            away = [_diurnal(churn, horizon_s, chance) for chance in chances]
        case "trace":
            away = _traced(churn, nodes)
        case _:
            return []
    actions = [
        action
        for node in range(nodes)
        for action in _actions(node, away[node], churn, horizon_s, chances[node])
    ]
    return sorted(actions, key=lambda action: action.at)


def chosen(
    who: Who, names: Sequence[str], up: Sequence[int], rng: np.random.Generator
) -> list[int]:
    """The places of those who are meant, in order.

    Args:
        who: names and ranges mean exactly these, whether they are up or not; a share (of those who
            are up, at least one) or a number (at most all of them) is drawn by chance.
        names: of all nodes.
        up: places of those who can be drawn.
        rng: chance; asked for a share or a number only.

    Raises:
        ConfigError: a name is nobody's.
    """
    if isinstance(who, tuple):
        return sorted(named(who, len(names)))
    count = max(1, round(who * len(up))) if isinstance(who, float) else who
    drawn = rng.choice(np.array(up, np.intp), min(count, len(up)), replace=False)
    return sorted(int(place) for place in drawn)


def absent(scenario: Scenario) -> list[int]:
    """The places of those who are not there at the beginning.

    Raises:
        ConfigError: nobody would be there.
    """
    who, nodes = scenario.churn.absent, scenario.nodes
    if who is None:
        return []
    if isinstance(who, tuple):
        found = sorted(named(who, nodes))
    else:
        count = max(1, round(who * nodes)) if isinstance(who, float) else who
        found = list(range(nodes))[-count:]
    if len(found) >= nodes:
        raise ConfigError(f"churn.absent is {who!r}: all {nodes} nodes, at least one must be there")
    return found


# --- when a node is away ------------------------------------------------------------------------


def _on_off(churn: Churn, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    if churn.offline == 0:
        return
    away_s = churn.session_s * churn.offline / (1 - churn.offline)
    at = churn.begins_s
    while True:
        leaves = at + rng.exponential(churn.session_s)
        at = leaves + rng.exponential(away_s)
        yield leaves, at


def _diurnal(
    churn: Churn, horizon_s: float, rng: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Every day draws a threshold u; the node is away while p(t) > u, around midnight."""
    for day in range(math.ceil(horizon_s / churn.period_s)):
        threshold = rng.random()
        if threshold < churn.offline:
            dusk = math.acos(1 - 2 * threshold / churn.offline) / (2 * math.pi)
            yield (day + dusk) * churn.period_s, (day + 1 - dusk) * churn.period_s


def _traced(churn: Churn, nodes: int) -> list[list[tuple[float, float]]]:
    assert churn.trace is not None
    changes: list[list[tuple[float, bool]]] = [[] for _ in range(nodes)]
    for line in rows(churn.trace, ["node", "at", "up"]):
        text = line.values["up"]
        if text not in ("0", "1"):
            raise ConfigError(f"{line.where}: up is '{text}', expected 0 or 1")
        changes[line.node(nodes)].append((line.number("at", least=0), text == "1"))
    found: list[list[tuple[float, float]]] = []
    for of_node in changes:
        away: list[tuple[float, float]] = []
        left: float | None = None
        for at, is_up in sorted(of_node, key=lambda change: change[0]):
            if not is_up and left is None:
                left = at
            elif is_up and left is not None:
                away.append((left, at))
                left = None
        found.append(away if left is None else [*away, (left, math.inf)])
    return found


# --- what that means ----------------------------------------------------------------------------


def _actions(
    node: int, away: Away, churn: Churn, horizon_s: float, rng: np.random.Generator
) -> Iterator[ChurnAction]:
    """What is done to a node that is away at these times, within begins_s .. ends_s."""
    ends_s = math.inf if churn.ends_s is None else churn.ends_s
    for leaves, returns in away:
        if leaves >= min(ends_s, horizon_s):
            return
        leaves, returns = max(leaves, churn.begins_s), min(returns, ends_s)
        forgets = rng.random() < churn.amnesia  # drawn for every absence, and only then
        if leaves >= returns:
            continue
        for at, what in _done(leaves, returns, "lost" if forgets else churn.state):
            if at < horizon_s:
                yield ChurnAction(at, what, node)


def _done(leaves: float, returns: float, state: str) -> Iterator[tuple[float, What]]:
    if state == "kept":
        yield leaves, "pause"
        yield returns, "resume"
        return
    yield leaves, "kill"
    if state == "lost":
        yield returns, "wipe"
    yield returns, "start"
