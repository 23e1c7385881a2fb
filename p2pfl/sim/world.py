"""A world of simulated hosts: the composition root of the simulator, and what can be done to hosts.

    start ──► UP ── pause ──► PAUSED ── resume ──► UP
               │ stop: it settles, saves, says goodbye      │ kill: memory is lost, the disk is not
               ▼                                            ▼
              DOWN ── start ──► UP, from its disk          DOWN

The node is the very class that runs on devices; only what it is given differs. A killed process is
one whose ports were unplugged before it was cancelled: what it still does, nobody hears.

Rules of the file: one generator per concern, made from the seed and a name; ordered containers; an
error in a loop of a node ends that node only; an `Escape` ends the world, and so does a bug that
the node survives, as it would on a device: a simulation is there to find it.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfl.config import FiguresConfig, NodeConfig
from p2pfl.core.events import Event, Fault
from p2pfl.errors import P2pflError
from p2pfl.node import Node
from p2pfl.node.vitals import BUG
from p2pfl.ports import Learner, Saved, Sighting, Transport
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.faults import Conditions
from p2pfl.sim.loop import NS, Host, VirtualLoop
from p2pfl.sim.network import Network
from p2pfl.sim.notary import SimNotary
from p2pfl.sim.presence import Presence
from p2pfl.sim.strays import forbidden
from p2pfl.sim.transport import MemoryTransport

log = logging.getLogger(__name__)

T = TypeVar("T")
_PORT = 4000


class Recorder(Protocol):
    """Takes what happens: every event of every node, and to every host."""

    def record(self, place: int, event: Event) -> None:
        """Node `place` recorded an event, now."""
        ...

    def was_away(self, place: int) -> None:
        """Host `place` was paused, or its process ended, now."""
        ...

    def is_back(self, place: int) -> None:
        """A paused host goes on, now."""
        ...


@dataclass(slots=True, eq=False)
class Life:
    """One start of a host's process, and what it was given."""

    node: Node
    transport: MemoryTransport
    device: Device
    journal: _Journal
    store: _Store
    task: asyncio.Task[None] | None = None
    freezes: int = 0
    is_stopping: bool = False


@dataclass(slots=True, eq=False)
class Machine:
    """One host.

    Attributes:
        place: its number, from 0.
        address: the same in all its lives.
        step_s: median time of a local step.
        latency_s, loss_probability, up_bytes_per_s, down_bytes_per_s: of its connection, None
            where it is like all.
        clock_ahead_s: how far its clock is ahead of virtual time.
        life: its process, None while it is down.
        cycles: done when it was last up.
        bytes_out, messages: of its earlier lives together.
    """

    place: int
    name: str
    address: str
    step_s: float
    host: Host
    disk: Disk = field(default_factory=Disk)
    latency_s: float | None = None
    loss_probability: float | None = None
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    clock_ahead_s: float = 0.0
    presence: Presence = Presence.ABSENT
    life: Life | None = None
    wiped: int = 0
    starts: int = 0
    cycles: int = 0
    bytes_out: int = 0
    messages: int = 0

    @property
    def node(self) -> Node | None:
        """Its node, while it is up or paused."""
        return None if self.life is None else self.life.node


class World:
    """Hosts, their network and their time.

    Args:
        seed: of everything that happens by chance.
        names: of the hosts, n of them.
        config: of every node; its name is replaced. Where it does not say otherwise, nodes tell
            nothing for people to see (`figures`): the simulator sees everything itself, and telling
            would cost it time and memory.
        learner: makes a node's learner: (place, starts so far).
        step_s: (n,) median seconds of a local step.
        jitter: sigma of its lognormal spread from job to job.
        conditions: of the network.
        recorder: takes every event.
        signs: every node signs its snapshots and checks those of others.

    Attributes:
        deaths: hosts whose node ended though nobody asked it to, and why.
        around: puts something around the transport of a host's new life (`hostile.py`); None
            leaves it as it is.
    """

    def __init__(
        self,
        *,
        seed: int,
        names: Sequence[str],
        config: NodeConfig,
        learner: Callable[[int, int], Learner],
        step_s: Sequence[float] | NDArray[np.float64],
        jitter: float = 0.0,
        conditions: Conditions | None = None,
        recorder: Recorder,
        signs: bool = False,
    ) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.network = Network(self.rng("network"), conditions)
        self.machines = [
            Machine(place, name, _address(place), float(step_s[place]), Host(name))
            for place, name in enumerate(names)
        ]
        self.deaths: dict[str, str] = {}
        self.around: Callable[[Machine, MemoryTransport], Transport] | None = None
        self._signs = signs
        self._config = config
        if "figures" not in config.model_fields_set:
            self._config = config.model_copy(update={"figures": FiguresConfig(enabled=False)})
        self._learner = learner
        self._jitter = jitter
        self._recorder = recorder
        self._lives: asyncio.TaskGroup | None = None

    def rng(self, concern: str, *numbers: int) -> np.random.Generator:
        """The generator of one concern: chance in one does not change chance in another."""
        digest = hashlib.blake2b(concern.encode(), digest_size=8).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest, "big"), *numbers])

    def notary(self, node: str) -> SimNotary:
        """The signature of the node with that id."""
        return SimNotary(node, f"secret {self.seed}".encode())

    def play(self, script: Callable[[], Awaitable[T]]) -> T:
        """Run a script in this world, once; hosts that still live at its end are killed.

        Raises:
            Deadlock: everybody waits for nothing.
            Escape: something reached for the real world.
            Exception: whatever bug surprised a node.
        """
        with (
            asyncio.Runner(loop_factory=lambda: self.loop) as runner,
            _seldom_collected(),
            forbidden(self.loop),
        ):
            return runner.run(self._play(script))

    async def _play(self, script: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.TaskGroup() as self._lives:
            try:
                return await script()
            finally:
                for machine in self.machines:
                    self.kill(machine)

    # --- what can be done to a host -------------------------------------------------------------

    def start(self, machine: Machine) -> None:
        """Start its process; it continues from its disk, if there is something on it."""
        if machine.life is not None or self._lives is None:
            return
        disk = machine.disk
        disk.incarnation += 1
        disk.node = disk.node or _identity(self.seed, machine.place, machine.wiped)
        config = self._config.model_copy(update={"name": machine.name})
        learner = self._learner(machine.place, machine.starts)
        transport = self.network.host(machine.address, machine.host)
        transport.latency_s = machine.latency_s
        transport.loss_probability = machine.loss_probability
        transport.up_bytes_per_s = machine.up_bytes_per_s
        transport.down_bytes_per_s = machine.down_bytes_per_s
        transport.owner = disk.node
        rng = self.rng("node", machine.place, machine.starts)
        device = Device(
            learner, machine.step_s, self._jitter, self.rng("device", machine.place, machine.starts)
        )
        journal, store = _Journal(self._recorder, machine.place, self.loop), _Store(disk)
        sighting = Sighting(
            (machine.address,), disk.node, config.run, learner.layout.digest, name=machine.name
        )
        node = Node(
            node_id=disk.node,
            incarnation=disk.incarnation,
            config=config,
            learner=learner,
            transport=transport if self.around is None else self.around(machine, transport),
            discovery=_Announced(self.network, sighting),
            journal=journal,
            store=store,
            clock=self._clock(machine),
            run=device,
            rng=rng,
            saved=disk.load(),
            notary=self.notary(disk.node) if self._signs else None,
        )
        machine.starts += 1
        machine.presence = Presence.UP
        life = machine.life = Life(node, transport, device, journal, store)
        disk.cut = lambda: self.kill(machine)
        life.task = self._lives.create_task(
            self._live(machine, life), name=f"life of {machine.name}", context=machine.host.context
        )

    def _clock(self, machine: Machine) -> Callable[[], float]:
        loop = self.loop
        return lambda: loop.now_ns / NS + machine.clock_ahead_s

    def kill(self, machine: Machine, *, silently: bool = False) -> None:
        """Its process ends at once: it saves nothing and says nothing.

        Args:
            silently: the whole device is gone: connections are not refused, but never answered.
        """
        life = machine.life
        if life is None:
            return
        life.transport.is_unplugged = life.journal.is_closed = True
        life.transport.is_asleep = silently
        life.store.is_gone = life.device.is_off = True
        self._bury(machine, life)
        self.loop.resume(machine.host)
        if life.task is not None:
            life.task.cancel()

    async def stop(self, machine: Machine) -> None:
        """Ask it to end, and wait until it has: it settles, saves and says goodbye."""
        life = machine.life
        if life is None or life.task is None or life.is_stopping:
            return
        life.is_stopping = True
        life.freezes = 1
        self.resume(machine)
        self._recorder.was_away(machine.place)
        life.task.cancel()
        await asyncio.wait([life.task])
        self._bury(machine, life)  # one that had not even begun to live did not do it itself

    def pause(self, machine: Machine) -> None:
        """Nothing of it runs; its connections stay open. Every pause is to be resumed."""
        if machine.life is None:
            return
        machine.life.freezes += 1
        if machine.presence is Presence.UP:
            machine.presence = Presence.PAUSED
            self._recorder.was_away(machine.place)
            self.loop.pause(machine.host)

    def resume(self, machine: Machine, life: Life | None = None) -> None:
        """One pause is over; after the last it goes on, and finds that time has passed.

        Args:
            life: that was paused; a later one is not concerned. The present one if None.
        """
        if machine.life is None or (life is not None and machine.life is not life):
            return
        machine.life.freezes = max(machine.life.freezes - 1, 0)
        if machine.presence is Presence.PAUSED and machine.life.freezes == 0:
            machine.life.transport.is_asleep = False
            machine.presence = Presence.UP
            self._recorder.is_back(machine.place)
            self.loop.resume(machine.host)

    def sleep(self, machine: Machine) -> None:
        """A lid is closed: nothing of it runs, and nothing reaches it."""
        if machine.presence is Presence.UP and machine.life is not None:
            machine.life.transport.is_asleep = True
            self.pause(machine)

    def wipe(self, machine: Machine) -> None:
        """Its disk is empty, its identity forgotten; it is down."""
        machine.disk.wipe()
        machine.wiped += 1

    # --- its life -------------------------------------------------------------------------------

    async def _live(self, machine: Machine, life: Life) -> None:
        try:
            reason = await life.node.run()
        except asyncio.CancelledError:
            reason = "cancelled"
        except (P2pflError, ExceptionGroup, ValueError, ArithmeticError, LookupError) as error:
            reason = "died"
            if not life.transport.is_unplugged:
                self.deaths[machine.name] = _told(error)
                log.warning("%s died: %s", machine.name, self.deaths[machine.name])
                log.debug("%s died", machine.name, exc_info=error)
        log.debug("%s ended: %s", machine.name, reason)
        self._bury(machine, life)

    def _bury(self, machine: Machine, life: Life) -> None:
        if machine.life is not life:
            return
        machine.cycles = life.node.vitals.cycles
        machine.bytes_out += life.transport.traffic.bytes_out
        machine.messages += life.transport.messages
        machine.presence, machine.life = Presence.DOWN, None
        self._recorder.was_away(machine.place)


@dataclass(slots=True, eq=False)
class _Journal:
    recorder: Recorder
    place: int
    loop: VirtualLoop
    is_closed: bool = False

    def record(self, event: Event) -> None:
        if self.is_closed:
            return
        if type(event) is Fault and event.kind == BUG:
            # told while it is handled, so with its traceback; raised where nobody can handle it
            self.loop.failure = sys.exception() or RuntimeError(event.detail)
        else:
            self.recorder.record(self.place, event)


@dataclass(slots=True, eq=False)
class _Store:
    disk: Disk
    is_gone: bool = False

    def save(self, saved: Saved) -> None:
        if not self.is_gone:
            self.disk.save(saved)


@dataclass(slots=True)
class _Announced:
    network: Network
    sighting: Sighting

    def events(self) -> Any:
        return self.network.announce(self.sighting)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """A world has millions of objects that stay: looking through them again and again is slow."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _address(place: int) -> str:
    return f"10.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}:{_PORT}"


def _identity(seed: int, place: int, wiped: int) -> str:
    return hashlib.blake2b(f"{seed} {place} {wiped}".encode(), digest_size=16).hexdigest()


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
