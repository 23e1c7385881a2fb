"""What goes wrong between hosts: by chance (`Conditions`), or on certain ways for a while (`Ways`).

The words are turmoil's: partition and repair, hold and release. What goes wrong with a host
(crash, pause, a disk, a clock) is done to it by the world.

Rule of the file: descriptions only; the network asks them for every message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Conditions:
    """What the network is like; may be changed while it runs.

    Attributes:
        latency_s: one way, median, where a host has no latency of its own.
        latency_sigma: of its lognormal spread from message to message.
        loss_probability, duplicate_probability, reorder_probability, corrupt_probability: of each
            message; only requests are duplicated.
        fifo: messages of one host to another do not overtake each other.
        sees: other hosts that discovery tells a newcomer of, at most.
    """

    latency_s: float = 0.002
    latency_sigma: float = 0.0
    loss_probability: float = 0.0
    duplicate_probability: float = 0.0
    reorder_probability: float = 0.0
    corrupt_probability: float = 0.0
    fifo: bool = True
    sees: int | None = None


@dataclass(slots=True, eq=False)
class Way:
    """How one way differs from the rest: from some hosts to others, in this direction only.

    Attributes:
        latency_s, loss_probability: None where it does not differ.
        is_cut: nothing gets through.
        held: messages wait here until it is over; None if they do not.
    """

    sources: frozenset[str]
    targets: frozenset[str]
    latency_s: float | None = None
    loss_probability: float | None = None
    is_cut: bool = False
    held: list[Callable[[], None]] | None = None


class Ways:
    """The ways that differ from the rest; over the same pair a cut wins, then the last one."""

    def __init__(self) -> None:
        self._open: list[Way] = []

    def between(self, source: str, target: str) -> Iterable[Way]:
        """Those that a message from `source` to `target` goes."""
        if not self._open:
            return ()
        return [way for way in self._open if source in way.sources and target in way.targets]

    def open(self, way: Way) -> Way:
        """From now on it is like this; `repair` ends it."""
        self._open.append(way)
        return way

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> Way:
        """From now on nothing gets from `sources` to `targets`."""
        return self.open(Way(frozenset(sources), frozenset(targets), is_cut=True))

    def part(self, *islands: Iterable[str]) -> list[Way]:
        """Islands that do not hear each other; each way is to be repaired."""
        sets = [frozenset(island) for island in islands]
        return [self.cut(a, b) for a in sets for b in sets if a is not b]

    def hold(self, sources: Iterable[str], targets: Iterable[str]) -> Way:
        """Messages from `sources` to `targets` wait until `repair` lets all of them go."""
        return self.open(Way(frozenset(sources), frozenset(targets), held=[]))

    def repair(self, *ways: Way) -> None:
        """What was cut, held or otherwise is as the rest again."""
        for way in ways:
            self._open.remove(way)
            for deliver in way.held or ():
                deliver()
