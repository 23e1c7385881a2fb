"""Accuracy over time: of every node, and of the swarm.

Rule of the file: bounded. A curve that is full keeps every second point and from then on takes
every second one, so what is kept always spreads evenly over the whole time; the newest point is
there besides. All curves together hold `BUDGET` points at most, so many nodes have short ones.

A point is kept as the JSON that it will be: whoever opens a page gets tens of thousands of them,
and to make them then would hold up the node.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator

POINTS = 400
"""Of one curve at most: more than a chart has pixels for."""

BUDGET = 40_000
"""Of all curves of nodes: about a megabyte for whoever opens the page."""

_LEAST = 20


class Curve:
    """One curve.

    Attributes:
        serial: of its newest point.
    """

    def __init__(self) -> None:
        self.serial = 0
        self._kept: list[bytes] = []
        self._newest = b""
        self._taken = 0
        self._stride = 1

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, serial: int, point: bytes, limit: int) -> None:
        """Append a point.

        Args:
            serial: larger than that of every earlier point.
            point: as JSON.
            limit: points kept besides this one, >= 2.
        """
        self.serial, self._newest = serial, point
        if self._taken % self._stride == 0:
            while len(self._kept) >= limit:
                self._kept = self._kept[::2]
                self._stride *= 2
            if self._taken % self._stride == 0:
                self._kept.append(point)
        self._taken += 1

    def json(self, since: int = 0) -> bytes:
        """All points, oldest first; or only the newest, if it is newer than `since`; or none."""
        if self.serial <= since:
            return b""
        if since:
            return self._newest
        tip = [] if self._kept[-1] is self._newest else [self._newest]
        return b",".join(self._kept + tip)


class Curves:
    """The curves that one node knows.

    Attributes:
        serial: of the newest point of any.
    """

    def __init__(self) -> None:
        self.serial = 0
        self._nodes: dict[str, Curve] = {}
        self._swarm = Curve()
        self._figures: tuple[float | None, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def node(self, node: str, at: float, accuracy: float | None, loss: float | None) -> None:
        """A node's model was measured, at Unix seconds; what is no number is a gap."""
        curve = self._nodes.get(node)
        if curve is None:
            curve = self._nodes[node] = Curve()
        self.serial += 1
        limit = max(_LEAST, min(POINTS - 1, BUDGET // len(self._nodes)))
        curve.add(self.serial, _point(at, accuracy, loss), limit)

    def swarm(
        self, at: float, mean: float | None, worst_tenth: float | None, distance: float | None
    ) -> None:
        """The swarm was estimated; the same figures again are no new point."""
        figures = (mean, worst_tenth, distance)
        if figures != self._figures:
            self._figures = figures
            self.serial += 1
            self._swarm.add(self.serial, _point(at, *figures), POINTS - 1)

    def forget_all_but(self, nodes: Collection[str]) -> None:
        """Let go of the curves of those who are not spoken of any more."""
        for node in self._nodes.keys() - set(nodes):
            del self._nodes[node]

    def json(self, since: int = 0) -> bytes:
        """Of each curve what is newer than `since`, all of it if that is 0; as in the view."""
        nodes = b",".join(
            b"%s:[%s]" % (json.dumps(node).encode(), points)
            for node, curve in self._nodes.items()
            if (points := curve.json(since))
        )
        return b'{"nodes":{%s},"swarm":[%s]}' % (nodes, self._swarm.json(since))


def _point(at: float, *values: float | None) -> bytes:
    # digits that matter: a distance of a millionth is not nothing
    plain = [
        None if value is None or not math.isfinite(value) else float(f"{value:.5g}")
        for value in values
    ]
    return json.dumps([round(at, 2), *plain], separators=(",", ":")).encode()
