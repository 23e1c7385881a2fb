"""When nodes were away, as a scenario says it: a churn trace where a rule fits, events elsewhere.

    stopped in order      churn.events stop and start
    crashed               kill and start, with a checkpoint or without
    slept                 churn.state kept; a pause, if that is not the rule

Rule of the file: what most absences were is `churn.state`, and the trace holds those; every other
absence is an event of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from p2pfl.scenario.recording.evidence import Estimate, Recording, Seen
from p2pfl.scenario.recording.presence import TOGETHER_S
from p2pfl.scenario.recording.text import keys, short_time, toml
from p2pfl.scenario.spec import State

_STOPPING_S = 1.5  # a node that is asked to stop settles for a second


@dataclass(frozen=True, slots=True)
class Away:
    """A node is not there from `leaves` until `returns`, which may be infinite."""

    leaves: float
    returns: float
    how: Literal["stop", "kill", "sleep"]
    lost: bool = False

    @property
    def state(self) -> State | None:
        """The `churn.state` that does it; None where only events can."""
        if self.how == "stop":
            return None
        return "kept" if self.how == "sleep" else "lost" if self.lost else "checkpoint"


def absences_of(node: Seen) -> list[Away]:
    """When a node that had been there was not, by time."""
    found = [
        Away(gap.begin, gap.end, "sleep") for life in node.lives for gap in life.gaps if gap.slept
    ]
    for life, following in zip(node.lives, [*node.lives[1:], None], strict=True):
        if following is None and life.ending == "present":
            break
        returns, lost = (
            (math.inf, False) if following is None else (following.begin, following.lost)
        )
        how: Literal["stop", "kill"] = "stop" if life.ending == "stopped" else "kill"
        found.append(Away(life.end, returns, how, lost))
    return sorted(found, key=lambda away: away.leaves)


def usual_state(absences: Iterable[Sequence[Away]]) -> State:
    """What most of them came back with; the checkpoint, if as many did."""
    kinds = Counter(
        away.state
        for of in absences
        for away in of
        if away.state is not None and away.returns < math.inf
    )
    states: tuple[State, ...] = ("checkpoint", "kept", "lost")
    return max(states, key=lambda state: kinds[state])


def churn_table(
    found: Recording, name: str, absences: Mapping[str, Sequence[Away]], state: State
) -> list[str]:
    """The table `churn`: late ones, those who left in order, and the others as a trace."""
    late = [node for node in found.nodes if node.lives[0].begin >= TOGETHER_S]
    traced = churn_rows(found, absences, state)
    kinds = Counter(away.state for of in absences.values() for away in of if away.state is not None)
    events: list[tuple[float, list[str]]] = [
        (node.lives[0].begin, [f"start = [{toml(node.name)}]  # joined late"]) for node in late
    ]
    for node in found.nodes:
        begins = [life.begin for life in node.lives]
        for away in absences[node.name]:
            who = f"[{toml(node.name)}]"
            if is_traced(away, state) or away.how == "sleep":
                continue
            leaves = away.leaves
            if away.how == "stop":
                # it settles for a while, and can be started only when it is gone
                begin = max(at for at in begins if at <= leaves)
                leaves = max(min(leaves, away.returns - _STOPPING_S), (begin + leaves) / 2)
            events.append((leaves, [f"{away.how} = {who}"]))
            if away.returns < math.inf:
                again = [f"start = {who}", *(["lost_state = true"] if away.lost else [])]
                events.append((away.returns, again))
    if not (traced or events):
        return []
    lines = ["", "[churn]"]
    if traced:
        told = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
        lines += keys({"mode": Estimate("trace", "who came and went, and when")})
        lines += keys({"trace": Estimate(f"{name}-churn.csv", "node, at, up")})
        lines += keys({"state": Estimate(state, f"absences that were seen: {told}")})
    if late:
        who = ", ".join(toml(node.name) for node in late)
        lines.append(f"absent = [{who}]  # they join later, see below")
    for at, what in sorted(events, key=lambda event: event[0]):
        lines += ["", "[[churn.events]]", f"at = {short_time(at)!r}", *what]
    return lines


def churn_rows(found: Recording, absences: Mapping[str, Sequence[Away]], state: State) -> list[str]:
    """Lines of the churn trace: the absences that `state` describes."""
    rows: list[tuple[float, str]] = []
    for node in found.nodes:
        for away in absences[node.name]:
            if is_traced(away, state):
                rows.append((away.leaves, f"{node.name},{short_time(away.leaves)!r},0"))
                if away.returns < math.inf:
                    rows.append((away.returns, f"{node.name},{short_time(away.returns)!r},1"))
    return [row for _, row in sorted(rows, key=lambda timed: timed[0])]


def is_traced(away: Away, state: State) -> bool:
    """Whether an absence is in the churn trace, and no event of its own."""
    if away.how == "kill" and away.returns == math.inf:
        return state != "kept"  # whatever it would have come back with
    return away.state == state
