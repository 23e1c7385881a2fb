"""What a viewer sees of a swarm at one time, whatever it is shown on.

Rule of the file: data and the words for it; no terminal here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from p2pfl.scenario.processes import Condition
from p2pfl.scenario.record import Happening, Plan
from p2pfl.scenario.timeline import Role, Step
from p2pfl.scenario.watching import FRESH_S, Look, Together, together


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
        answers: it said that a moment ago, and in its present life.
    """

    name: str
    state: str
    mood: Mood
    seen: Look | None
    curve: tuple[float, ...] = ()
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """All of them.

    Attributes:
        at: seconds since the swarm was complete, None before.
        swarm: their common figures, None before anybody answered. Mean and worst are those of the
            rows that answer, so they are of one moment with them; the distance was measured.
        distance_ago_s: how long before that moment the distance was measured.
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
    distance_ago_s: float = 0.0


class Show(Protocol):
    """Something to show a demo on."""

    def happened(self, happening: Happening) -> None:
        """Tell at once."""
        ...

    def draw(self, scene: Scene) -> None:
        """Show how it stands; called several times a second."""
        ...


def swarm_of(
    rows: Iterable[Row], now: float, history: Sequence[Together]
) -> tuple[Together | None, float]:
    """The common figures of the rows that answer; and how long ago the distance was measured.

    Args:
        rows: as they are shown.
        now: by the watcher's clock.
        history: of the swarm, by time, for the latest distance that says something of now.
    """
    seen = [row.seen for row in rows if row.answers and row.seen is not None]
    if not seen:
        return None, 0.0
    recent = (one for one in reversed(history) if one.distance is not None)
    last = next(recent, None)
    if last is None or now - last.at > FRESH_S:
        return together(now, seen, None), 0.0
    return together(now, seen, last.distance), now - last.at


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
