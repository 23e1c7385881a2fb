"""The seams of the house: what a `Node` is given, and nothing else of the world.

On a LAN these are aiohttp, zeroconf, a worker thread, SQLite and the monotonic clock; in the
simulator an in-memory network, a virtual clock and a modelled compute time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from p2pfl.core.compression import Bytes
from p2pfl.core.events import Event
from p2pfl.core.messages import Denial, Packet
from p2pfl.core.weights import Layout, Vector

T = TypeVar("T")

Clock: TypeAlias = Callable[[], float]
"""Monotonic seconds; only differences mean anything, and clocks of two nodes are never compared."""


class Run(Protocol):
    """Runs a function off the event loop, or charges virtual time for it."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Await the function's result; its exception is raised here."""
        ...


# --- learning -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Update:
    """What some local steps changed.

    Attributes:
        delta: (d,) float32; the node adds it to weights that may have moved meanwhile.
        steps: local steps taken, >= 1.
        loss: mean training loss over these steps.
        learning_rate: eta, the size of a step, to tell momentum from movement.
    """

    delta: Vector
    steps: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good some weights are on the node's test data."""

    loss: float
    accuracy: float | None
    samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """A model and its data. Its methods run off the event loop, one at a time."""

    @property
    def layout(self) -> Layout:
        """Names and shapes of the model's arrays."""
        ...

    def initial(self) -> Vector:
        """The weights all nodes of the run start from: (d,) float32, from the run's seed."""
        ...

    def step(self, weights: Vector, steps: int, drift: Vector | None) -> Update:
        """Take local steps from `weights` and return the delta; the argument is not changed.

        Args:
            weights: (d,) float32, read-only.
            steps: K >= 1.
            drift: (d,) float32 or None; each step subtracts learning_rate x drift besides its own
                gradient step: the momentum of the swarm (PROTOCOL section 3).

        Raises:
            LearnerError: loss or weights became non-finite.
        """
        ...

    def evaluate(self, weights: Vector) -> Evaluation:
        """Measure `weights`, (d,) float32 read-only, on the test data."""
        ...


# --- network ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """A handler's answer, and arithmetic that ends before the answer does.

    A large model is mixed piece by piece, so whoever drives `work` may look at its event loop
    between two pieces. It takes the first step at once and always ends what it began: by going on
    to the end or, where the payload stopped arriving, by closing it; then the flow is zero from
    there on, for both ends.

    Attributes:
        packet: the answer.
        work: the first step begins; each further one does one piece of `core.weights.pieces`.
        streams: a piece needs no more of the request's payload than that piece itself, and leaves
            that piece of the answer's payload complete. Otherwise work begins when all is there.
    """

    packet: Packet
    work: Iterator[None] = field(default_factory=lambda: iter(()))
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """A handler's wish: send `packet` to `address` and give that answer to whoever asked."""

    address: str
    packet: Packet


Reply: TypeAlias = Answered | Forward


class Service(Protocol):
    """What a transport serves: synchronous functions of the node."""

    @property
    def needs_whole(self) -> bool:
        """Whether a payload must be there before `handle`, which judges all of it."""
        ...

    def admit(self, packet: Packet) -> Packet | None:
        """Look at a packet before its payload is read; a packet given back refuses it."""
        ...

    def room(self, nbytes: int, sender: str = "") -> AbstractContextManager[Bytes]:
        """A buffer for an admitted payload; it counts as arriving until the context is left."""
        ...

    def handle(self, packet: Packet) -> Reply:
        """Answer a packet; synchronous on purpose, so an exchange is atomic.

        Its payload's buffer is the handler's from now on; a large payload may still be arriving in
        it (`Answered.streams`).
        """
        ...

    def faulty(self, address: str, error: Exception, sender: str = "") -> None:
        """Somebody at `address` sent what is not a message; count it, against `sender` if sure."""
        ...

    def status(self) -> dict[str, Any]:
        """What people and tools may know of this node, as plain JSON values."""
        ...


def _at_once() -> float:
    return 0.0


@dataclass(slots=True)
class Traffic:
    """Bytes of message bodies that a transport moved, and how fast payloads may follow.

    Attributes:
        bytes_in, bytes_out: counted while they move.
        is_paced: large payloads are sent in small pieces, and each asks `pause_s` before.
        pause_s: seconds that the next piece of a payload has to wait; the node sets it where it
            has a bound (`node/courtesy.py`). A transport that carries messages whole, as the
            simulator's, need not ask: the node then begins the next exchange later.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    is_paced: bool = False
    pause_s: Callable[[], float] = _at_once


class Transport(Protocol):
    """Carries packets."""

    @property
    def traffic(self) -> Traffic:
        """What was moved so far."""
        ...

    @property
    def address(self) -> str:
        """Where this node serves, `host:port`; the host may be unspecified."""
        ...

    @property
    def authenticates(self) -> bool:
        """Whether a packet's sender is surely the node it names (mutual TLS), relays excepted."""
        ...

    def serve(self, service: Service) -> AbstractAsyncContextManager[None]:
        """Answer requests with `service` while the context is open.

        Raises:
            NetworkError: the address cannot be bound.
        """
        ...

    async def request(
        self,
        address: str,
        packet: Packet,
        room: Callable[[int], Bytes] | None = None,
        begin: Callable[[Packet], Iterator[None]] | None = None,
    ) -> Packet:
        """Send a packet and await the answer; the caller sets the time-out.

        Args:
            address: `host:port`.
            packet: what to say.
            room: gives the buffer for the answer's payload; a new one if None.
            begin: called when the answer begins to arrive; its work is driven, piece by piece as
                they come, as that of `Answered`.

        Raises:
            PeerUnreachable: not connected, the packet never left.
            PeerTimeout: the connection broke after the packet may have left.
            WireError: the answer is not a message.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """Discovery's news: somebody announces itself, or said goodbye.

    Attributes:
        addresses: `host:port`, best first.
        node: its id, None where only an address is known (a static peer).
        run, layout, version, name: what it announces of itself; None where not known.
        gone: it said goodbye (or its record expired, which proves nothing).
    """

    addresses: tuple[str, ...]
    node: str | None = None
    run: str | None = None
    layout: str | None = None
    version: str | None = None
    name: str | None = None
    gone: bool = False


class Discovery(Protocol):
    """Finds peers; never decides whether they are alive."""

    def events(self) -> AsyncGenerator[Sighting, None]:
        """Sightings as they happen, for ever; announces this node until it is closed."""
        ...


# --- trust ----------------------------------------------------------------------------------------


class Notary(Protocol):
    """This node's signature, and the checking of others'; see `core.statements` for what is signed.

    Ed25519 on devices (RFC 8032), a cheap keyed hash in the simulator.
    """

    def sign(self, message: bytes) -> bytes:
        """(96 bytes): this node's public key (32), and its signature (64) of the message."""
        ...

    def is_signed(self, node: str, message: bytes, proof: bytes) -> bool:
        """Whether `proof` signs `message` by the key whose fingerprint is `node`."""
        ...

    def is_admissions(self, message: bytes, proof: bytes) -> bool:
        """Whether `proof` (64 bytes) is the signature of the run's admission key.

        False wherever every member holds that key: whoever can deny all must be trusted by all.
        """
        ...


class DenyList(Protocol):
    """Who may not take part, across restarts."""

    def fresh(self) -> tuple[Denial, ...]:
        """Denials that came to the list since this was last asked; all of them at first.

        A denial without a proof is this node's own opinion: it is obeyed and not passed on.
        """
        ...

    def keep(self, denial: Denial) -> None:
        """Remember what a peer told; it was found to be signed."""
        ...


# --- the device -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is going on around a node, on its device, at one moment.

    Attributes:
        minute: of the week, in local time: 0 is Monday 00:00.
        is_on_battery: it is running down its battery; False where it has none, or cannot tell.
        load: share of all processor cores that other programs take, None if nobody asked for it.
        energy_j: what the whole machine took since the node began, None if it does not tell.
    """

    minute: float
    is_on_battery: bool = False
    load: float | None = None
    energy_j: float | None = None


class Conditions(Protocol):
    """Looks at the device."""

    def look(self) -> Surroundings:
        """What it is like now; takes milliseconds, and runs off the event loop."""
        ...


# --- memory -------------------------------------------------------------------------------------


class Journal(Protocol):
    """Takes measurements; must not block for long and must not raise."""

    def record(self, event: Event) -> None:
        """Keep one event."""
        ...


@dataclass(frozen=True, slots=True)
class Saved:
    """What a node needs to go on where it was.

    Attributes:
        weights: x, (d,) float32.
        momentum, previous: m and x_previous of PROTOCOL section 3, None where not used yet.
        age, own_steps, cycles: u, h and the training cycles done.
    """

    weights: Vector
    momentum: Vector | None
    previous: Vector | None
    age: int
    own_steps: int
    cycles: int


class Store(Protocol):
    """Keeps what must survive a crash."""

    def save(self, saved: Saved) -> None:
        """Write a checkpoint atomically; runs off the event loop.

        Raises:
            OSError: it could not be written; the previous one is intact.
        """
        ...
