"""What can be configured, in which unit, within which bounds, and why.

Rule of the file: models are frozen and reject unknown keys; each part of the program is given
only the part of the configuration that it needs. Seconds are bare floats; everything else carries
its unit in its name. Nothing here reads files or the environment: `configuring` makes these of
what the command line or a TOML file says.

Relations that must hold (checked where both are known):
    gossip.weight * gossip.outstanding <= 1      two-sided averaging diverges beyond it
    membership.probe_timeout_s < membership.probe_interval_s
    limits.pending >= gossip.outstanding         what is in flight must not be given up
    trust = "byzantine"  =>  train.momentum = 0  it would gather an attacker's bias
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from p2pfl.errors import ConfigError
from p2pfl.hours import hours

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CodecName = Literal["float32", "float16", "int8"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class TrainConfig(_Frozen):
    """How a node trains between exchanges (PROTOCOL section 3)."""

    cycle_target_s: Positive = Field(
        0.1, description="a cycle aims at this much training time; local steps K adapt to it"
    )
    cycle_min_s: NonNegative = Field(
        0.1, description="a shorter cycle waits, so that a small model does not flood the LAN"
    )
    steps_max: Count = Field(
        20, description="upper bound of K; more local steps drift apart on non-IID data"
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="beta of quasi-global momentum; 0 switches it off"
    )
    evaluate_every_s: Positive = Field(2.0, description="pause between two evaluations")
    backoff_max_s: Positive = Field(
        5.0, description="longest pause after training went non-finite several times in a row"
    )


class GossipConfig(_Frozen):
    """How a node exchanges models (PROTOCOL sections 2, 4 and 5)."""

    codec: CodecName = Field("float32", description="how weights travel")
    weight: float = Field(0.5, gt=0, le=1, description="c0, mixing weight of a fresh model")
    outstanding: Count = Field(2, description="exchanges this node may have in flight")
    exchanges_per_cycle: Count = Field(2, description="exchanges started after each cycle")
    fresh_cycles: Positive = Field(1.0, description="staleness up to which a model counts in full")
    staleness_exponent: NonNegative = Field(
        0.5, description="a in s(tau) = tau^-a beyond `fresh_cycles`; 0 ignores staleness"
    )
    adopt_ratio: float = Field(
        0.1, ge=0, lt=1, description="a model younger than this share of the other's age adopts it"
    )
    retry_horizon_s: Positive = Field(
        120.0,
        description="how long an unanswered exchange is resolved, and its answer kept for that",
    )
    exchange_timeout_s: Positive = Field(
        10.0, description="upper bound of the wait for an answer, transfer time excluded"
    )

    @model_validator(mode="after")
    def _bounded(self) -> GossipConfig:
        if self.weight * self.outstanding > 1:
            raise ValueError(
                f"weight x outstanding is {self.weight * self.outstanding:g}, must be <= 1 "
                "(more diverges); lower one of them"
            )
        return self


class MembershipConfig(_Frozen):
    """Who is alive: SWIM with Lifeguard, memberlist's LAN defaults (PROTOCOL section 6)."""

    probe_interval_s: Positive = Field(1.0, description="one peer is probed per interval")
    probe_timeout_s: Positive = Field(
        0.5, description="wait for a direct probe's answer; must be below `probe_interval_s`"
    )
    indirect_probes: int = Field(
        3, ge=0, description="peers asked to probe on our behalf before we suspect"
    )
    suspicion_mult: Positive = Field(
        4.0, description="a suspect is dead after mult x log10(n + 1) x probe_interval_s, or more"
    )
    suspicion_max_mult: Positive = Field(
        6.0, description="that time is this many times longer until others confirm the suspicion"
    )
    awareness_max: Count = Field(
        8, description="local health: own missed answers slow our probes down up to this factor"
    )
    retransmit_mult: Positive = Field(
        4.0, description="an update rides on mult x log10(n + 1) messages"
    )
    rumours_per_message: int = Field(
        8, ge=1, le=32, description="updates that ride on one message, whose header is bounded"
    )
    forget_dead_after_s: Positive = Field(
        3600.0, description="a dead peer is remembered (and retried now and then) this long"
    )

    @model_validator(mode="after")
    def _ordered(self) -> MembershipConfig:
        if self.probe_timeout_s >= self.probe_interval_s:
            raise ValueError(
                f"probe_timeout_s is {self.probe_timeout_s:g}, "
                f"must be below probe_interval_s = {self.probe_interval_s:g}"
            )
        return self


class LimitsConfig(_Frozen):
    """What strangers may cost us; each bound with its reason."""

    header_bytes: int = Field(65_536, ge=16_384, description="a message header is plain fields")
    peers: Count = Field(1024, description="peers remembered; a flood of made-up ids stops here")
    pending: Count = Field(64, description="unanswered exchanges remembered for RESOLVE")
    done_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="kept answers; beyond it, and beyond two of our own models, we answer BUSY",
    )
    requests_per_peer_per_s: Positive = Field(
        100.0, description="sustained requests of one address; a burst of twice as many passes"
    )
    connections: Count = Field(256, description="open inbound connections")
    first_byte_s: Positive = Field(
        10.0, description="a connection that asks nothing for so long is closed"
    )
    body_min_bytes_per_s: Positive = Field(
        16_384.0, description="a body slower than this (after 5 s of grace) is dropped: slow drip"
    )


RuleName = Literal[
    "clip",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "geometric-median",
    "centred-clip",
    "clipped-gossip",
]


class RobustConfig(_Frozen):
    """How models of members that may be hostile are mixed; only with `trust = "byzantine"`."""

    rule: RuleName = Field(
        "clip",
        description="clip: two-sided exchanges behind a distance gate, clipped (PROTOCOL section "
        "4); the others judge a buffer of fresh models together, one-sided (core/robust.py)",
    )
    nearest: bool = Field(
        False, description="nearest-neighbour mixing before the rule (not with clip)"
    )
    hostile: float = Field(
        0.25,
        ge=0,
        lt=0.5,
        description="share of the others' models that may be hostile; their number is rounded up",
    )
    models: int = Field(
        5, ge=2, le=64, description="fresh models, our own included, that a rule judges together"
    )
    reach: Positive = Field(
        0.3, description="clip: a model farther away than this share of our own norm is refused"
    )
    quantile: float = Field(
        0.25,
        gt=0,
        le=1,
        description="clip: a difference is shortened to 0.6 of this quantile of the peers' "
        "distances; below the share of the hostile they choose it",
    )
    rescue_after: Count = Field(
        3, description="clip: refused by so many peers in a row, a node pulls several models"
    )
    pulls: int = Field(
        5, ge=1, le=32, description="models whose median a newcomer, or a rescued node, adopts"
    )

    @model_validator(mode="after")
    def _fits(self) -> RobustConfig:
        if self.nearest and self.rule == "clip":
            raise ValueError("nearest needs a rule that judges several models; clip judges one")
        return self


class ReputationConfig(_Frozen):
    """What a peer's faults cost it here: a local opinion, never told to others."""

    half_life_s: Positive = Field(60.0, description="points fade to half in this time")
    suspend_at: Positive = Field(8.0, description="points at which a peer is suspended")
    resume_at: NonNegative = Field(2.0, description="points at which it may take part again")

    @model_validator(mode="after")
    def _ordered(self) -> ReputationConfig:
        if self.resume_at >= self.suspend_at:
            raise ValueError(
                f"resume_at is {self.resume_at:g}, must be below suspend_at = {self.suspend_at:g}"
            )
        return self


class FiguresConfig(_Frozen):
    """What nodes tell each other for people to see: of themselves, and of the swarm as a whole."""

    enabled: bool = Field(
        True, description="whether any of it rides on messages; simulated nodes do without"
    )
    reports_per_message: int = Field(
        4, ge=0, le=8, description="what nodes say of themselves that rides on one message"
    )
    partners: int = Field(
        64,
        ge=1,
        le=1024,
        description="members that one keeps the swarm's averages with; a kilobyte of memory each",
    )


RATE_LEAST_BYTES_PER_S = 65_536
"""Below it, peers that wait for a body at `limits.body_min_bytes_per_s` would give us up."""


class CourtesyConfig(_Frozen):
    """What a node leaves to others: of the LAN, and of the device it runs on."""

    rate_bytes_per_s: NonNegative = Field(
        0,
        description="what this node takes of the network at most, sent and received together, on "
        "average over a few seconds; 0: no bound, else 65536 at least. Models wait for it; the "
        "small messages that keep the node a member count, and never wait",
    )
    quiet: tuple[str, ...] = Field(
        (),
        description="hours of local time at which the node rests, as in 22:00-07:00, Sat "
        "00:00-24:00 or Mon-Fri 08:00-18:00: it neither trains nor mixes, and stays a member",
    )
    only_on_ac: bool = Field(
        False,
        description="train only while the device is not on battery; needs psutil. A device "
        "without a battery never is",
    )
    only_when_load_below: float | None = Field(
        None,
        gt=0,
        le=1,
        description="train only while other programs take less than this share of all processor "
        "cores, and go on once it is less than three quarters of that; needs psutil. It takes "
        "up to 20 s to react, either way: the device is looked at every 5 s, each look is the mean "
        "since the one before, and three in a row must agree, so that a short burst stops nothing",
    )

    @field_validator("rate_bytes_per_s")
    @classmethod
    def _is_bearable(cls, rate: float) -> float:
        if 0 < rate < RATE_LEAST_BYTES_PER_S:
            raise ValueError(
                f"must be 0 (no bound) or at least {RATE_LEAST_BYTES_PER_S}: others would take a "
                "slower node for a dead one"
            )
        return rate

    @field_validator("quiet")
    @classmethod
    def _are_hours(cls, quiet: tuple[str, ...]) -> tuple[str, ...]:
        for text in quiet:
            try:
                hours(text)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return quiet

    @property
    def needs_looking(self) -> bool:
        """Whether what the node may do depends on the time of day or on the device."""
        return bool(self.quiet) or self.only_on_ac or self.only_when_load_below is not None


class StopConfig(_Frozen):
    """When a node ends by itself; nothing set means never."""

    cycles: Count | None = Field(
        None, description="stop after so many training cycles, counted from this start"
    )
    minutes: Positive | None = Field(None, description="stop after so many minutes")
    target_accuracy: float | None = Field(
        None, gt=0, le=1, description="stop once the test accuracy reaches this"
    )


class NodeConfig(_Frozen):
    """Everything the `Node` itself needs."""

    run: str = Field(
        "default", min_length=1, max_length=64, description="only nodes of one run mix"
    )
    name: str = Field("node", min_length=1, max_length=64, description="a label, never an identity")
    topology: str = Field(
        "random-2",
        description="neighbour rule over the members: full, ring, random-S, exponential, torus, "
        "star, random-regular-K, small-world-K, or edges:a--b,b--c by id or name",
    )
    checkpoint_every_s: Positive = Field(
        10.0, description="pause between checkpoints; a crash loses at most this"
    )
    trust: Literal["cooperative", "byzantine"] = Field(
        "cooperative",
        description="cooperative: members may fail, not lie; byzantine: up to a fifth may be "
        "hostile, at some cost in accuracy, and without momentum",
    )
    train: TrainConfig = TrainConfig()
    gossip: GossipConfig = GossipConfig()
    robust: RobustConfig = RobustConfig()
    reputation: ReputationConfig = ReputationConfig()
    membership: MembershipConfig = MembershipConfig()
    limits: LimitsConfig = LimitsConfig()
    figures: FiguresConfig = FiguresConfig()
    courtesy: CourtesyConfig = CourtesyConfig()
    stop: StopConfig = StopConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> NodeConfig:
        if self.trust == "cooperative" and self.robust != RobustConfig():
            raise ValueError('[robust] does nothing without trust = "byzantine"')
        has_momentum = "momentum" in self.train.model_fields_set and self.train.momentum > 0
        if self.trust == "byzantine" and has_momentum:
            raise ValueError(
                f"train.momentum is {self.train.momentum:g}, must be 0 with trust = "
                '"byzantine": momentum gathers whatever bias the clip lets through'
            )
        if self.limits.pending < self.gossip.outstanding:
            raise ValueError(
                f"limits.pending is {self.limits.pending}, "
                f"must be at least gossip.outstanding = {self.gossip.outstanding}"
            )
        return self

    @property
    def momentum(self) -> float:
        """beta of quasi-global momentum, as it is used."""
        return 0.0 if self.trust == "byzantine" else self.train.momentum


class DeviceConfig(NodeConfig):
    """A node on a real device: what `p2pfl node` takes, as options or from a TOML file."""

    task: str = Field(min_length=1, description="built-in name, or path of a Python task file")
    bind: str = Field("", description="address to listen on; empty means all, IPv4 and IPv6")
    port: int = Field(0, ge=0, le=65_535, description="port to listen on; 0 takes any free one")
    advertise: str | None = Field(
        None,
        description="IP:PORT at which others reach this node, where it is not what it listens on: "
        "port forwarding, a proxy",
    )
    peers: tuple[str, ...] = Field((), description="HOST:PORT of nodes that mDNS cannot find")
    mdns: bool = Field(True, description="find peers, and be found, by multicast DNS")
    interfaces: tuple[str, ...] = Field(
        (), description="network interfaces or addresses to use; empty means all real ones"
    )
    key_file: str | None = Field(
        None,
        min_length=1,
        description="file with the run's key; without it, or cert, anybody on the network may join",
    )
    cert: str | None = Field(
        None,
        min_length=1,
        description="file with this node's certificate, as `p2pfl admit` made it: for a strict run",
    )
    run_cert: str | None = Field(
        None, min_length=1, description="the strict run's run.crt, which `cert` must be of"
    )
    deny: tuple[str, ...] = Field(
        (), description="node ids that may not take part, as far as this node is concerned"
    )
    deny_list: str | None = Field(
        None,
        min_length=1,
        description="file of such ids and of what `p2pfl deny` wrote; read again when it changes",
    )
    state_dir: str | None = Field(
        None, description="where key, identity, checkpoint and journal live"
    )
    page: str = Field(
        "",
        description="HOST:PORT of the web page of a run with a key; empty: a free port that only "
        "this device reaches; off: no page. That of an open run is at the node's own port",
    )
    tensorboard: str | None = Field(
        None, min_length=1, description="directory for TensorBoard scalars of this node"
    )
    shard: str | None = Field(
        None, description="I/N: train on the I-th of N parts of the data, as in 1/3"
    )
    partition: str = Field(
        "iid",
        description="how those parts are drawn: iid, dirichlet:ALPHA, classes:K, quantity:ALPHA, "
        "shift:SIGMA or drawn:ALPHA; with :min=N samples at least",
    )
    data_seed: int = Field(0, ge=0, description="seed of that draw, equal on all nodes")
    seed: int | None = Field(None, ge=0, description="seed of batches and choices; None: chance")
    threads: Count = Field(1, description="processor threads that training may use")
    nice: int = Field(
        0,
        ge=-20,
        le=19,
        description="how far the node steps back behind other programs: 19 takes only what they "
        "leave of the processor, 0 is like them all; below 0 needs root",
    )
    learning_rate: Positive | None = Field(None, description="of plain SGD; none: the task's own")
    batch_size: Count | None = Field(None, description="samples a local step; none: the task's own")
    step_s: Positive | None = Field(
        None,
        description="a local step lasts at least so long: models a slower device on this one",
    )

    @model_validator(mode="after")
    def _of_one_run(self) -> DeviceConfig:
        if self.key_file is not None and self.cert is not None:
            raise ValueError(
                "key_file and cert exclude each other: members of a strict run have no key"
            )
        if self.run_cert is not None and self.cert is None:
            raise ValueError("run_cert does nothing without cert, what `p2pfl admit` made")
        return self
