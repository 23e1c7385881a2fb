"""What hits whom and when: the faults of the demo, as data.

    0        0.15     0.27   0.36      0.68 - freeze          0.68                1   x seconds
    |---------|--------|------|--------------|==================|-----------------|
           killed  restarted  one more     frozen             thawed         all must be well
                              joins

Rule of the file: pure functions of the plan. Faults never overlap, the last one is over well before
the end so that there is time to recover, and at least one node is never hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from p2pfl.errors import ConfigError

FREEZE_S = 10.0
FREEZE_SHARE = 10 / 45
"""A frozen node stays so for ten seconds, in a shorter run for this share of it."""

NODES_MIN = 2


class Action(StrEnum):
    """What is done to a node."""

    KILL = "kill"
    RESTART = "restart"
    FREEZE = "freeze"
    THAW = "thaw"
    JOIN = "join"


class Role(StrEnum):
    """What the whole timeline means for a node; only a survivor is never hit."""

    SURVIVOR = "survivor"
    RESTARTED = "restarted"
    FROZEN = "frozen"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Step:
    """Do `action` to `node` when `at` seconds have passed since the swarm was complete."""

    at: float
    action: Action
    node: str


def faults(nodes: Sequence[str], late: str, seconds: float) -> tuple[Step, ...]:
    """The faults of a run, by time.

    Args:
        nodes: those that run from the beginning, >= 2; the first is never hit, nor are those
            behind the third. With two nodes the second one has to take it all.
        late: the one that joins.
        seconds: how long the run takes, > 0.

    Raises:
        ConfigError: too few nodes, or no time.
    """
    if len(nodes) < NODES_MIN:
        raise ConfigError(f"{len(nodes)} nodes are no swarm, at least {NODES_MIN} are needed")
    if not seconds > 0:
        raise ConfigError(f"seconds is {seconds:g}, must be > 0")
    killed, frozen = nodes[1], nodes[min(2, len(nodes) - 1)]
    thaw_at = 0.68 * seconds
    return (
        Step(0.15 * seconds, Action.KILL, killed),
        Step(0.27 * seconds, Action.RESTART, killed),
        Step(0.36 * seconds, Action.JOIN, late),
        Step(thaw_at - min(FREEZE_S, FREEZE_SHARE * seconds), Action.FREEZE, frozen),
        Step(thaw_at, Action.THAW, frozen),
    )


def roles(nodes: Sequence[str], steps: Sequence[Step]) -> dict[str, Role]:
    """What becomes of each node; one that is killed and frozen counts as restarted."""
    of_action = {
        Action.FREEZE: Role.FROZEN,
        Action.KILL: Role.RESTARTED,
        Action.JOIN: Role.LATE,
    }
    found = dict.fromkeys(nodes, Role.SURVIVOR)
    for action, role in of_action.items():
        found |= {step.node: role for step in steps if step.action is action}
    return found
