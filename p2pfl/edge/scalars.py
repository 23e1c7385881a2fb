"""TensorBoard scalars of one node: a journal in front of the journal (`--tensorboard DIR`).

    record(event)   event loop: sums up, nothing else
    run(status)     every two seconds hands what came over to a thread that writes it

Each node writes to a folder of its own below the directory, so one TensorBoard shows a whole
device's nodes side by side. The step of a scalar is the node's training cycle.

Rule of the file: the event loop never waits for a disk, and what cannot be written costs a warning.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from p2pfl.core.events import Cycle, Event, Exchanged, Measured
from p2pfl.errors import ConfigError
from p2pfl.ports import Journal

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

EVERY_S = 2.0
WAITING = 2000
"""Scalars that wait for a disk; more are dropped."""

_PACKAGES = ("torch", "tensorboard")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_SWARM = ("count", "mean_accuracy", "worst_tenth_accuracy", "mean_loss", "consensus_distance")


@dataclass(frozen=True, slots=True)
class _Scalar:
    name: str
    value: float
    step: int
    wall: float


@dataclass(slots=True)
class _Exchanges:
    """Exchanges since they were last written; of those that mixed, the sums."""

    since: float
    count: int = 0
    mixed: int = 0
    staleness: float = 0.0
    distance: float = 0.0


class Scalars:
    """The `Journal` of a node whose scalars are written.

    Args:
        journal: where the events go.
        folder: of this node's scalars; made if there is none.
        wall: Unix seconds.

    Raises:
        ConfigError: torch or tensorboard is missing, or the folder cannot be made.
    """

    def __init__(
        self, journal: Journal, folder: Path, *, wall: Callable[[], float] = time.time
    ) -> None:
        check()
        self.journal = journal
        self.folder = folder
        self._wall = wall
        self._rows: list[_Scalar] = []
        self._cycle = 0
        self._exchanges = _Exchanges(wall())
        self._writer: SummaryWriter | None = _opened(folder)
        # a flush that was cancelled at shutdown may still run in its thread when `close` comes
        self._writing = Lock()

    def record(self, event: Event) -> None:
        """Pass an event on, and keep its numbers; cheap, and never raises."""
        self.journal.record(event)
        match event:
            case Cycle():
                self._cycle = event.cycle
                self._keep("train/loss", event.loss)
                self._keep("train/age_steps", event.age)
            case Measured():
                self._keep("test/loss", event.loss)
                self._keep("test/accuracy", event.accuracy)
            case Exchanged():
                self._exchanges.count += 1
                if event.weight:
                    self._exchanges.mixed += 1
                    self._exchanges.staleness += event.staleness
                    self._exchanges.distance += event.distance
            case _:
                pass

    async def run(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """Write, off the event loop, until cancelled; then call `close`.

        Args:
            status: the node's `/v1/status`, for what is known of the whole swarm.
        """
        while True:
            await asyncio.sleep(EVERY_S)
            self.look(status())
            await asyncio.to_thread(self.flush)

    def look(self, status: Mapping[str, Any]) -> None:
        """Keep what no event tells: rates, and the estimates of the whole swarm."""
        now, seen = self._wall(), self._exchanges
        self._exchanges = _Exchanges(now)
        if now > seen.since:
            self._keep("exchanges/per_second", seen.count / (now - seen.since))
        if seen.mixed:
            self._keep("exchanges/staleness_cycles", seen.staleness / seen.mixed)
            self._keep("exchanges/distance", seen.distance / seen.mixed)
        swarm = status.get("swarm") or {}
        for key in _SWARM:
            self._keep(f"swarm/{key}", swarm.get(key))

    def flush(self) -> None:
        """Write what was kept, and see that it is in the file; blocks, and never raises.

        What a disk did not take is lost, and so is all that comes after it: the file would have a
        torn record in its middle.
        """
        with self._writing:
            rows, self._rows = self._rows, []
            if self._writer is None or not rows:
                return
            try:
                for row in rows:
                    self._writer.add_scalar(row.name, row.value, row.step, row.wall)
                self._writer.flush()
            except OSError as error:
                log.warning(
                    "scalars in %s cannot be written, no more are: %s", self.folder, error.strerror
                )
                self._end()

    def close(self) -> None:
        """Write the rest and end; closing twice does nothing."""
        self.flush()
        with self._writing:
            self._end()

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                log.debug("scalars in %s: %s", self.folder, error)

    def _keep(self, name: str, value: float | None) -> None:
        if value is not None and math.isfinite(value) and len(self._rows) < WAITING:
            self._rows.append(_Scalar(name, float(value), self._cycle, self._wall()))


def check() -> None:
    """See that what writes the scalars is installed.

    Raises:
        ConfigError: it is not; the text says how to get it.
    """
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"tensorboard needs {' and '.join(missing)}, which this Python has not; "
            f"pip install {' '.join(missing)}, or start the node without --tensorboard"
        )


def folder_of(directory: Path, name: str, node: str) -> Path:
    """Where a node's scalars go below a directory that several share."""
    return directory / f"{_UNSAFE.sub('-', name)[:64]}-{node[:8]}"


def _opened(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    try:
        return SummaryWriter(str(folder))
    except OSError as error:
        raise ConfigError(
            f"tensorboard: {folder} cannot be written: {error.strerror}; give another directory"
        ) from None
