"""What nodes say to each other: frozen dataclasses, and the exchange drawn as arrows.

    asker i                                            answerer j
    Exchange(seq, age, own_steps, payload x_i)  ──►    f = c (x_i - x_j);  x_j += f
    x_i -= f                                    ◄──    Flow(f)              the usual answer
    x_i = x_j                                   ◄──    Adopt(x_j)           i has next to no history
    nothing to do                               ◄──    Adopted              j had none, took x_i
    try later                                   ◄──    Busy                 j keeps too many answers
    nothing changed at j                        ◄──    Refused(reason)      other run, layout, ...
    x_j waits to be judged with others          ◄──    Swap(x_j)            and x_i waits at j

    no answer in time:
    Resolve(seq)                                ──►    the stored answer, or from now on Cancelled

    Probe()                                     ──►    Ack                  are you there?
    Probe(target=k)                             ──►    j asks k for us and passes its Ack on
    Pull()                                      ──►    Model(x_j)           a newcomer's first words

Rule of the file: a packet is one body plus what every message carries: who speaks, for which run
and layout, what it has finished with, news of the members (`Rumour`), and what nodes tell people of
themselves (`Report`) and of the whole swarm (`Figures`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from p2pfl.core.compression import Encoded

AGE_MAX = 2**53
"""No lineage gets older: a bound that a liar cannot push an honest node beyond."""


LOSS_MAX = 1e9
"""What a node tells of its loss at most; one that is larger is not told."""


class Reason(StrEnum):
    """Why a packet was refused; every value is explained by `p2pfl peers` and `/v1/status`."""

    VERSION = "version"
    RUN = "run"
    LAYOUT = "layout"
    MALFORMED = "malformed"
    SHAPE = "shape"
    INCARNATION = "incarnation"
    STALE_SEQ = "stale-seq"
    RATE = "rate"
    SELF = "self"
    RECIPIENT = "recipient"
    UNREACHABLE = "unreachable"
    IDENTITY = "identity"
    DENIED = "denied"
    SUSPENDED = "suspended"
    DISTANCE = "distance"
    CLIP = "clip"
    NORM = "norm"
    PROOF = "proof"
    EQUIVOCATION = "equivocation"


class Status(StrEnum):
    """What is believed of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Rumour:
    """News of one member; a later (incarnation, refutation) overrules an earlier one.

    Attributes:
        node: id of the member spoken of.
        addresses: where it can be reached, best first, as `host:port`.
        incarnation: how often it was started.
        refutation: how often, since then, it had to say that it is alive.
        own_steps: local steps it has taken itself, newest known.
    """

    node: str
    addresses: tuple[str, ...]
    status: Status
    incarnation: int
    refutation: int = 0
    own_steps: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """What a node signed of one snapshot: two that differ for one seq convict it.

    Attributes:
        node: who says so: the fingerprint of the key in `proof`.
        incarnation, seq, age: as in `Packet` and `Exchange`.
        digest: (32 bytes) of the payload.
        proof: (96 bytes) the public key, and its signature; see `core.statements`.
    """

    node: str
    incarnation: int
    seq: int
    age: int
    digest: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Denial:
    """A node that may not take part any more, says whoever admits nodes to the run.

    Attributes:
        node: who is denied.
        at: since when, Unix seconds; for people to read.
        proof: (64 bytes) signature of the run's admission key; see `core.statements`.
    """

    node: str
    at: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class Recent:
    """An exchange with `peer`, so many seconds before the report was made that names it."""

    peer: str
    ago_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What one node says of itself, for people to look at; others pass it on.

    It is hearsay: nobody checks it, whoever passes it on may have changed it, and nothing but what
    people see depends on it. A later (incarnation, number) overrules an earlier one.

    Attributes:
        node: who says so.
        incarnation: how often it was started.
        number: grows with every report of this incarnation.
        ago_s: how old the report was when this packet was packed; ages add up from hop to hop,
            and clocks are never compared.
        name, state: a label, and a word such as `training`.
        age, own_steps, cycles, cycle_s: as in `/v1/status`.
        loss, accuracy: of its newest training, and of its newest evaluation; None where there is
            none.
        staleness: mean of its exchanges, in cycles.
        distance: mean l2 norm between its model and those it met; None before it met any.
        bytes_in, bytes_out: since it was started.
        recent: its newest exchanges.
        holding: what it holds back and why, in a sentence; empty if nothing.
    """

    node: str
    incarnation: int
    number: int
    ago_s: float
    name: str
    state: str
    age: int
    own_steps: int
    cycles: int
    cycle_s: float
    loss: float | None
    accuracy: float | None
    staleness: float
    distance: float | None
    bytes_in: int
    bytes_out: int
    recent: tuple[Recent, ...] = ()
    holding: str = ""


FIGURES = 79
"""Averages over the swarm that `Figures` speaks of, see `core.figures`."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One end's state of the averages that it and the recipient keep together.

    Attributes:
        number: grows with every message of the sender's incarnation, to whomever.
        answered: number of the recipient's newest offer that was answered; 0 for none.
        given: (FIGURES,) float32, little-endian: what the sender gave the recipient in all.
        estimate: the same of its estimates, as an offer to meet; empty where it offers nothing.
        tick: number of the newest moment at which all sketch their weights.
    """

    number: int
    answered: int
    given: bytes
    estimate: bytes = b""
    tick: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """Average with me: here is my model, encoded.

    Attributes:
        seq: number of this exchange within the sender's incarnation.
        age: local steps in the longest lineage mixed into the model.
        own_steps: local steps the sender took itself.
        cycle_steps: the sender's K, to count its steps in cycles.
        residence_s: how long the snapshot rested before it left.
        lag_cycles: own cycles the sender expects to take before it applies the answer.
        weight: share of its model the sender has set aside for this exchange; the mixing weight
            is at most that.
        clip: the sender takes no flow of a model farther away than this: in robust mode the
            difference is shortened to it, else nothing more flows; 0 is no bound.
        digest, proof: what makes it a `Statement`; empty where nothing is signed.
    """

    seq: int
    age: int
    own_steps: int
    cycle_steps: int
    residence_s: float
    lag_cycles: float
    weight: float
    payload: Encoded
    clip: float = 0.0
    digest: bytes = b""
    proof: bytes = b""


@dataclass(frozen=True, slots=True)
class Resolve:
    """What became of my exchange `seq`?"""

    seq: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Are you there? With a target: is that member there, as you see it?"""

    target: str | None = None


@dataclass(frozen=True, slots=True)
class Pull:
    """Give me your model; I have no history."""

    codec: str = "float32"


@dataclass(frozen=True, slots=True)
class Flow:
    """I added `payload` to my weights; subtract the same from yours."""

    seq: int
    age: int
    weight: float
    staleness: float
    payload: Encoded


@dataclass(frozen=True, slots=True)
class Swap:
    """Nothing flowed: I keep your model to judge it with others; here is mine for the same."""

    seq: int
    age: int
    own_steps: int
    payload: Encoded


@dataclass(frozen=True, slots=True)
class Adopt:
    """You have next to no history: take my weights, I did not mix yours."""

    seq: int
    age: int
    payload: Encoded


@dataclass(frozen=True, slots=True)
class Adopted:
    """I had next to no history: I took your weights; nothing for you to do."""

    seq: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Your exchange never took effect here, and never will."""

    seq: int


@dataclass(frozen=True, slots=True)
class Busy:
    """Not now; nothing changed."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and nothing changed."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """I am here."""

    age: int
    own_steps: int


@dataclass(frozen=True, slots=True)
class Model:
    """My weights; `payload` is None while I have no history either."""

    age: int
    payload: Encoded | None


Request: TypeAlias = Exchange | Resolve | Probe | Pull
Answer: TypeAlias = Flow | Swap | Adopt | Adopted | Cancelled | Busy | Refused | Ack | Model
Body: TypeAlias = Request | Answer


@dataclass(frozen=True, slots=True)
class Packet:
    """One message on its way.

    Attributes:
        run: name of the run; only nodes of one run mix.
        layout: digest of the model's layout.
        sender: the speaker's node id.
        recipient: the node id it is meant for, "" for whoever is there: addresses change hands.
        address: where the speaker serves, `host:port`; an unspecified host (`0.0.0.0`, `::`) is
            replaced on arrival by the address the packet came from.
        incarnation, refutation: of the speaker, as in `Rumour`.
        floor: the speaker has finished with all its exchanges with the receiver below this seq.
        rumours: news of other members.
        statements: what others signed lately, so that who contradicts itself is found out.
        denials: who may not take part any more.
        reports: what nodes say of themselves, the sender included.
        figures: for the recipient alone; None where the two keep no averages together.
    """

    run: str
    layout: str
    sender: str
    address: str
    incarnation: int
    body: Body
    recipient: str = ""
    refutation: int = 0
    floor: int = 0
    own_steps: int = 0
    rumours: tuple[Rumour, ...] = field(default=())
    statements: tuple[Statement, ...] = field(default=())
    denials: tuple[Denial, ...] = field(default=())
    reports: tuple[Report, ...] = field(default=())
    figures: Figures | None = None


def payload_of(body: Body | None) -> Encoded | None:
    """The encoded vector that travels behind the header, if this body has one."""
    return getattr(body, "payload", None)


def mismatch(
    run: str, layout: str, their_run: str | None, their_layout: str | None
) -> Refused | None:
    """Why a node of `their_run` and `their_layout` cannot mix with ours; None is not known yet."""
    if their_run is not None and their_run != run:
        return Refused(Reason.RUN, f"other run '{their_run}' instead of '{run}'")
    if their_layout is not None and their_layout != layout:
        return Refused(Reason.LAYOUT, f"other model (layout {their_layout} instead of {layout})")
    return None


def not_reached(onward: Packet, asker: str) -> Packet:
    """What a relay answers `asker` when the member it asked on its behalf did not answer.

    Always the same sentence: why is the relay's business, and would tell whoever chooses the
    targets what there is at an address.
    """
    refused = Refused(Reason.UNREACHABLE, "that member did not answer")
    return replace(
        onward, recipient=asker, floor=0, rumours=(), reports=(), figures=None, body=refused
    )
