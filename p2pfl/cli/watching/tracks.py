"""What came from each place that is watched, kept longer than a node keeps it itself.

Rule of the file: times are by the clock of whoever tells; what is kept is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from p2pfl.cli.watching.reading import NODES_MAX, Happening, Merge, Point, SwarmPoint, View
from p2pfl.cli.watching.source import Tie

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P", bound=tuple[Any, ...])

MERGES_MAX, TIMELINE_MAX, POINTS_MAX = 50, 200, 800


@dataclass(slots=True)
class Track:
    """What came from one place.

    Attributes:
        tie: how it stands with it, since when, and why if it is gone.
        view: the newest, and when it came by our clock.
    """

    address: str
    tie: Tie = Tie.CONNECTING
    since: float = 0.0
    why: str = ""
    view: View | None = None
    at: float = 0.0
    merges: dict[tuple[object, ...], Merge] = field(default_factory=dict)
    timeline: dict[tuple[object, ...], Happening] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    swarm_curve: list[SwarmPoint] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        """Whether it tells now."""
        return self.tie is Tie.LIVE

    @property
    def shift(self) -> float:
        """What makes a time by its clock one by ours."""
        return 0.0 if self.view is None else self.at - self.view.at

    def become(self, tie: Tie, at: float, why: str = "") -> None:
        """It stands so with it now."""
        # a repeated failure does not make it gone for a shorter time
        if tie is not self.tie:
            self.tie, self.since = tie, at
        self.why = why

    def forget(self) -> None:
        """Another node is at this place now."""
        self.view = None
        self.merges.clear()
        self.timeline.clear()
        self.curves.clear()
        self.swarm_curve.clear()

    def keep(self, view: View, at: float) -> None:
        """A restarted node tells less than it told before: what it told is kept."""
        if self.view is not None and self.view.node != view.node:
            self.forget()
        self.view, self.at = view, at
        for merge in reversed(view.merges):
            self.add_merge(merge)
        for happening in reversed(view.timeline):
            self.add_happening(happening)
        for node, points in view.curves.items():
            if node in self.curves or len(self.curves) < NODES_MAX:
                _append(self.curves.setdefault(node, []), points, view.at)
        _append(self.swarm_curve, view.swarm_curve, view.at)

    def add_merge(self, merge: Merge) -> None:
        """Keep an exchange, once."""
        self.merges.setdefault((merge.at, merge.peer, merge.role, merge.outcome), merge)
        _bound(self.merges, MERGES_MAX, lambda one: one.at)

    def add_happening(self, one: Happening) -> None:
        """Keep an entry of its timeline, once."""
        self.timeline.setdefault((one.at, one.kind, one.node, one.detail), one)
        _bound(self.timeline, TIMELINE_MAX, lambda one: one.at)


def _bound(table: dict[K, V], most: int, at: Callable[[V], float]) -> None:
    if len(table) > most:
        del table[min(table, key=lambda key: at(table[key]))]


def _append(kept: list[P], points: Sequence[P], now: float) -> None:
    """Add what is newer than what there is; of a clock that was set back, the future is dropped."""
    while kept and kept[-1][0] > now + 1.0:
        kept.pop()
    last = kept[-1][0] if kept else float("-inf")
    kept += [point for point in points if point[0] > last]
    if len(kept) > POINTS_MAX:
        # every second of the older half, so that the present stays as fine as it came
        half = len(kept) // 2
        kept[:half] = kept[:half:2]
