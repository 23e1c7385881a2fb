"""Bandwidth that transfers share: each goes as fast as the slower of its two ends lets it.

A line that n transfers use gives each of them 1/n of its rate: processor sharing, which is what
TCP's fairness comes to on a home's uplink. Rates change only when a transfer begins or ends.

Rule of the file: exact arithmetic over virtual time, nothing by chance; ordered containers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol

from p2pfl.sim.loop import NS, VirtualLoop


class Cancellable(Protocol):
    """Something planned."""

    def cancel(self) -> None:
        """It will not happen."""
        ...


@dataclass(slots=True, eq=False)
class _Line:
    rate: float
    users: dict[_Flow, None] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return self.rate / len(self.users)


@dataclass(slots=True, eq=False)
class _Flow:
    left: float
    lines: list[_Line]
    then: Callable[[], None]
    rate: float = 0.0
    since_ns: int = 0
    timer: Cancellable | None = None


class Links:
    """All lines of one network, by name."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def begin(
        self,
        nbytes: int,
        lines: tuple[tuple[str, float | None], ...],
        then: Callable[[], None],
    ) -> None:
        """Move `nbytes` over some lines at once, and call `then` when they have passed.

        Args:
            nbytes: > 0.
            lines: (name, bytes per second); None is no limit. At least one has one.
            then: called in the context of whoever begins.
        """
        limited = []
        for name, rate in lines:
            if rate is not None:
                line = self._lines.setdefault(name, _Line(rate))
                line.rate = rate
                limited.append(line)
        flow = _Flow(float(nbytes), limited, then)
        for line in limited:
            line.users[flow] = None
        self._adjust(limited)

    def _end(self, flow: _Flow) -> None:
        for line in flow.lines:
            del line.users[flow]
        flow.then()
        self._adjust(flow.lines)

    def _adjust(self, lines: list[_Line]) -> None:
        """Give everybody on these lines the rate that is now theirs."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for flow in dict.fromkeys(flow for line in lines for flow in line.users):
            flow.left -= flow.rate * (loop.now_ns - flow.since_ns) / NS
            flow.since_ns = loop.now_ns
            rate = min(line.share for line in flow.lines)
            if flow.timer is not None:
                if rate == flow.rate:
                    continue
                flow.timer.cancel()
            flow.rate = rate
            when = loop.now_ns + max(0, round(flow.left / rate * NS))
            flow.timer = loop.call_at_ns(when, self._end, flow, context=Context())
