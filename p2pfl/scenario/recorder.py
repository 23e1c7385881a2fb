"""Takes every event of a virtual run and keeps what a trace needs of them: counts, not events.

Rule of the file: cheap; it is called some thousand times a second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable

import numpy as np

from p2pfl.core.events import Cycle, Event, Exchanged, Started
from p2pfl.scenario.eventlog import EventLog
from p2pfl.scenario.trace import STALENESS_EDGES, Floats


class Tallies:
    """Counts of one run.

    Args:
        nodes: n.
        log: takes the events as well.
        now_ns: the present.

    Attributes:
        staleness: answered exchanges by bins of STALENESS_EDGES.
        outcomes: asked exchanges by how they ended.
        steps: local steps of all nodes together.
        cycles: (n,) training cycles each node has done in all its lives.
        stalls: (n,) seconds, the longest pause between two cycles of each node while it was up.
    """

    def __init__(self, nodes: int, log: EventLog, now_ns: Callable[[], int]) -> None:
        self.staleness = np.zeros(len(STALENESS_EDGES), np.int64)
        self.outcomes: Counter[str] = Counter()
        self.steps = 0
        self.cycles = np.zeros(nodes, np.int64)
        self.stalls: Floats = np.zeros(nodes)
        self._since = np.full(nodes, -1, np.int64)
        self._log = log
        self._now_ns = now_ns

    def record(self, place: int, event: Event) -> None:
        """Node `place` recorded an event."""
        now = self._now_ns()
        self._log.add(now, place, event)
        match event:
            case Exchanged(role="answered"):
                if event.outcome == "flow":
                    self.staleness[bisect_right(STALENESS_EDGES, event.staleness) - 1] += 1
            case Exchanged():
                self.outcomes[event.outcome] += 1
            case Cycle():
                self.steps += event.steps
                self.cycles[place] += 1
                self._pause_over(place, now)
            case Started():
                self._since[place] = now

    def was_away(self, place: int) -> None:
        """A node was paused or down; that is no stall, and counting begins anew."""
        self._pause_over(place, self._now_ns())
        self._since[place] = -1

    def is_back(self, place: int) -> None:
        """A paused node goes on."""
        self._since[place] = self._now_ns()

    def end(self) -> None:
        """The run is over: a node that stopped training long ago has stalled until now."""
        for place in range(len(self.stalls)):
            self._pause_over(place, self._now_ns())

    def _pause_over(self, place: int, now: int) -> None:
        since = self._since[place]
        if since >= 0:
            self.stalls[place] = max(self.stalls[place], (now - since) / 1e9)
            self._since[place] = now
