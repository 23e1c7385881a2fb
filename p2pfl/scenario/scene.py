"""What a viewer sees of a swarm at one time, whatever it is shown on.

Rule of the file: data and the words for it; no terminal here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from p2pfl.scenario.processes import Condition
from p2pfl.scenario.record import Happening, Plan
from p2pfl.scenario.timeline import Role, Step
from p2pfl.scenario.watching import Look, Together


class Mood(StrEnum):
    """How a state should look."""

    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Row:
    """One node.

    Attributes:
        state: in a word.
        seen: what it said last, None if it never did.
        curve: its accuracies so far, oldest first.
    """

    name: str
    state: str
    mood: Mood
    seen: Look | None
    curve: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """All of them.

    Attributes:
        at: seconds since the swarm was complete, None before.
        swarm: their common figures, None before anybody answered.
        happenings: so far, by time.
        coming: what the timeline does next, None if nothing.
        address: of a node that is never hit, `host:port`; its page shows all. Empty before it is
            known, and when it is no more.
    """

    plan: Plan
    at: float | None
    swarm: Together | None
    rows: tuple[Row, ...]
    happenings: tuple[Happening, ...]
    coming: Step | None
    address: str = ""


class Show(Protocol):
    """Something to show a demo on."""

    def happened(self, happening: Happening) -> None:
        """Tell at once."""
        ...

    def draw(self, scene: Scene) -> None:
        """Show how it stands; called several times a second."""
        ...


def page_of(address: str) -> str:
    """Where a node of an open run shows the swarm."""
    return f"http://{address}/"


def invitation(address: str) -> str:
    """How to look at the swarm oneself, in a line."""
    return f"watch it: {page_of(address)} (any node shows all), or p2pfl watch {address}"


def state_of(
    condition: Condition, starts: int, role: Role, seen: Look | None, is_fresh: bool
) -> tuple[str, Mood]:
    """A node's state in a word, and how that should look.

    Args:
        condition: of its process.
        starts: how often it was started.
        role: what the timeline means for it.
        seen: what it said last in its present life, None if nothing yet.
        is_fresh: that was a moment ago.
    """
    if condition is Condition.PLANNED:
        return "waiting", Mood.QUIET
    if condition is Condition.STOPPED:
        return "stopped", Mood.QUIET
    if condition is not Condition.RUNNING:
        return condition.value, Mood.BAD
    if seen is None or seen.state == "starting":
        return ("starting" if starts == 1 else "restarting"), Mood.BUSY
    if not is_fresh:
        return "silent", Mood.BAD
    if seen.state != "training":
        return seen.state, Mood.BUSY
    if role is Role.LATE:
        return "late", Mood.GOOD
    return ("restarted" if starts > 1 else "training"), Mood.GOOD
