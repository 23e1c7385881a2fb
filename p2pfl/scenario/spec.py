"""A scenario: what runs, what hits it, and what must hold at the end; data for either engine.

    [task]      what is learned, and how its data are split
    [duration]  how long, in cycles or in seconds
    [node]      configuration of every node: train, gossip, membership, limits
    [compute]   how long a local step takes, and on whom longer
    [network]   latency, loss, bandwidth; [[network.nodes]] and [[network.links]] for exceptions
    [churn]     who comes and goes, by chance, by a trace, or as [[churn.events]] say
    [faults]    what else goes wrong, by chance or as [[faults.events]] say
    [adversary] which nodes are hostile, and what they do
    [measure]   how often the swarm is looked at
    [expect]    bounds; a run passes only if every one of them holds

Rule of the file: frozen, unknown keys are errors, every value is bounded. Seconds are the nodes'
own: virtual ones in the simulator, real ones with processes. `who` is a share of the nodes that
are up (0.3), a number of them (3), or names and ranges ("n01", "n05-n08", "all").
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from p2pfl.config import Count, NodeConfig, NonNegative, Positive
from p2pfl.errors import ConfigError

Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


# --- who ----------------------------------------------------------------------------------------

_RANGE = re.compile(r"n([0-9]{1,9})-n?([0-9]{1,9})")
_NAME = re.compile(r"n([0-9]{1,9})")


def _checked_who(who: Any) -> Any:
    """Before pydantic tries one type after the other, so that a mistake is one sentence."""
    match who:
        case bool():
            pass
        case float() if not 0 < who <= 1:
            raise ValueError(f"a share is > 0 and <= 1, not {who:g} (a number of nodes has no '.')")
        case int() if who < 1:
            raise ValueError(f"a number of nodes is >= 1, not {who}")
        case float() | int():
            return who
        case str():
            return _checked_names((who,))
        case list() | tuple() if who and all(isinstance(text, str) for text in who):
            return _checked_names(tuple(who))
    raise ValueError("expected a share (0.3), a number (3), or names and ranges (['n1', 'n5-n8'])")


def _checked_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if text != "all" and not (_RANGE.fullmatch(text) or _NAME.fullmatch(text)):
            raise ValueError(
                f"'{text}' names nobody, expected 'all', a name (n3) or a range (n3-n7)"
            )
    return texts


Who: TypeAlias = Annotated[int | float | tuple[str, ...], BeforeValidator(_checked_who)]


def named(who: Sequence[str], nodes: int) -> list[int]:
    """The places (from 0) of the nodes that names and ranges mean, in order, each once.

    Raises:
        ConfigError: a name is not one of n1 .. n`nodes`.
    """
    found: dict[int, None] = {}
    for text in who:
        if text == "all":
            first, last = 1, nodes
        else:
            match = _RANGE.fullmatch(text) or _NAME.fullmatch(text)
            if match is None:
                raise ConfigError(f"'{text}' names nobody, expected a name (n3) or a range (n3-n7)")
            first, last = int(match[1]), int(match[match.lastindex or 1])
        if not 1 <= first <= last <= nodes:
            raise ConfigError(f"'{text}' is not within n1 .. n{nodes}")
        found |= dict.fromkeys(range(first - 1, last))
    return list(found)


def names(nodes: int) -> tuple[str, ...]:
    """The nodes' names, n1 .. n20 padded to equal length, so that they sort by number."""
    width = len(str(nodes))
    return tuple(f"n{place:0{width}d}" for place in range(1, nodes + 1))


# --- what is learned ----------------------------------------------------------------------------


MODELLED = ("averaging", "quadratic")
"""Tasks without data, which only the simulator knows."""


class TaskSpec(_Frozen):
    """What is learned, and who holds which data."""

    name: str = Field(
        "digits",
        min_length=1,
        description="built-in task, path of a task file, or without data: averaging, quadratic",
    )
    partition: str = Field(
        "dirichlet:0.1",
        description="iid, dirichlet:ALPHA, classes:K, quantity:ALPHA, shift:SIGMA, or drawn:ALPHA "
        "(exactly `minimum` samples each, in common with others)",
    )
    minimum: Count = Field(10, description="samples every node has at least")
    learning_rate: Positive | None = Field(None, description="of plain SGD; None: the task's own")
    batch_size: Count | None = Field(None, description="samples a step; None: the task's own")
    size: int = Field(
        100, ge=1, le=10**8, description="values of the model of averaging and quadratic"
    )
    spread: Positive = Field(3.0, description="of the nodes' optima in averaging and quadratic")


class Duration(_Frozen):
    """How long: exactly one of the two."""

    cycles: Count | None = Field(
        None, description="until the nodes have done so many training cycles on average"
    )
    seconds: Positive | None = Field(None, le=1e9, description="of the nodes' time")

    @model_validator(mode="after")
    def _one_of_them(self) -> Duration:
        if (self.cycles is None) == (self.seconds is None):
            raise ValueError("exactly one of 'cycles' and 'seconds' is needed")
        return self


# --- where it runs ------------------------------------------------------------------------------


class Compute(_Frozen):
    """How long a local step takes."""

    step_s: Positive = Field(0.005, le=1e6, description="median time of a local step")
    distribution: Literal["fixed", "lognormal", "factors", "trace"] = Field(
        "fixed", description="how nodes differ: not, by `sigma`, by `factors`, or as in `trace`"
    )
    sigma: NonNegative = Field(0.8, le=10, description="of the lognormal distribution over nodes")
    factors: tuple[Positive, ...] = Field(
        (), description="step times as multiples of step_s, node by node, repeated as needed"
    )
    trace: str | None = Field(
        None, description="CSV with a column step_s (and node, if it is about certain ones)"
    )
    jitter: NonNegative = Field(
        0.1, le=10, description="sigma of the lognormal spread from job to job"
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Compute:
        if "sigma" in self.model_fields_set and self.distribution != "lognormal":
            raise ValueError(f'sigma does nothing with distribution = "{self.distribution}"')
        if (self.distribution == "factors") != bool(self.factors):
            raise ValueError("'factors' and distribution = \"factors\" need each other")
        if (self.distribution == "trace") != bool(self.trace):
            raise ValueError("'trace' and distribution = \"trace\" need each other")
        return self


class Link(_Frozen):
    """What a way through the network is like, where it differs from the rest."""

    latency_s: NonNegative | None = None
    loss_probability: Probability | None = None


class NodeLink(Link):
    """Some nodes' connection; what is not said is as for all."""

    who: Who
    up_bytes_per_s: Positive | None = None
    down_bytes_per_s: Positive | None = None


class OneWay(Link):
    """The way from some nodes to others, in this direction only."""

    from_: Who = Field(alias="from")
    to: Who
    blocked: bool = Field(False, description="nothing gets through")


class NetworkSpec(_Frozen):
    """The network between the nodes."""

    latency_s: NonNegative = Field(0.002, le=1e6, description="one way, median")
    latency_sigma: NonNegative = Field(0.0, le=10, description="of its lognormal spread by message")
    loss_probability: Probability = Field(
        0.0, description="of each message, requests and answers alike; the asker waits in vain"
    )
    up_bytes_per_s: Positive | None = Field(None, description="of each node; None: no limit")
    down_bytes_per_s: Positive | None = Field(None, description="of each node; None: no limit")
    fifo: bool = Field(True, description="messages between two nodes do not overtake each other")
    sees: Count | None = Field(
        None, description="discovery tells a node of so many others at most; None: of all"
    )
    nodes: tuple[NodeLink, ...] = ()
    links: tuple[OneWay, ...] = ()


# --- what hits it -------------------------------------------------------------------------------

State = Literal["kept", "checkpoint", "lost"]


class ChurnEvent(_Frozen):
    """At a time, something happens to some nodes: exactly one of kill, stop and start."""

    at: NonNegative
    kill: Who | None = Field(None, description="they crash: memory is lost, the disk is not")
    stop: Who | None = Field(None, description="they end in order: settle, save, say goodbye")
    start: Who | None = Field(None, description="of those that are down, or not there yet")
    lost_state: bool = Field(False, description="start: their disks are empty")

    @model_validator(mode="after")
    def _one_of_them(self) -> ChurnEvent:
        _exactly_one(self, "kill", "stop", "start")
        return self


class Churn(_Frozen):
    """Who comes and goes."""

    mode: Literal["none", "on-off", "diurnal", "trace"] = Field(
        "none", description="by chance with exponential times, by the hour, or as in `trace`"
    )
    offline: Probability = Field(
        0.3, description="share that is away: on average (on-off), at night (diurnal)"
    )
    session_s: Positive = Field(20.0, description="on-off: mean time between coming and going")
    period_s: Positive = Field(120.0, description="diurnal: length of a day")
    trace: str | None = Field(None, description="CSV with columns node, at and up (0 or 1)")
    state: State = Field(
        "checkpoint",
        description="what a node comes back with: kept (it slept), its checkpoint (it crashed), "
        "lost (its disk is empty too)",
    )
    silent: bool = Field(
        False,
        description="who is away is off: nothing answers there; else its process has ended, and "
        "connections are refused at once",
    )
    amnesia: Share = Field(0.0, description="share of comebacks that are 'lost' all the same")
    begins_s: NonNegative = Field(0.0, description="nobody leaves by chance before")
    ends_s: Positive | None = Field(None, description="nobody leaves by chance after; all return")
    absent: Who | None = Field(
        None, description="not there at the beginning; of a number or share: the last ones"
    )
    events: tuple[ChurnEvent, ...] = ()

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Churn:
        if (self.mode == "trace") != bool(self.trace):
            raise ValueError("'trace' and mode = \"trace\" need each other")
        idle = self.model_fields_set & {"offline", "session_s", "period_s"}
        if self.mode == "none" and idle:
            keys = ", ".join(sorted(idle))
            raise ValueError(f'{keys}: nothing happens by chance while mode is "none"')
        if self.ends_s is not None and self.ends_s <= self.begins_s:
            raise ValueError(
                f"ends_s is {self.ends_s:g}, must be after begins_s = {self.begins_s:g}"
            )
        return self


class FaultEvent(_Frozen):
    """From `at` until `until` (or for good) something is wrong; exactly one kind of it."""

    at: NonNegative
    until: Positive | None = Field(None, description="when it is repaired; None: never")
    partition: tuple[Who, ...] | None = Field(
        None, description="islands that do not hear each other; one is enough, the rest is another"
    )
    one_way: tuple[Who, Who] | None = Field(None, description="[from, to]: this way is cut")
    hold: tuple[Who, Who] | None = Field(
        None, description="messages between them wait until it is over, then all arrive"
    )
    pause: Who | None = Field(None, description="frozen, with all connections open (SIGSTOP)")
    disk_full: Who | None = Field(None, description="checkpoints cannot be written")
    torn: Who | None = Field(None, description="the next checkpoint breaks off: power is cut")
    clock_jump: Who | None = Field(None, description="their clock leaps by `by_s`")
    by_s: Positive = Field(60.0, description="how far a clock leaps")

    @field_validator("partition", mode="before")
    @classmethod
    def _one_island(cls, value: Any) -> Any:
        """`partition = 0.5` is short for one island of that share."""
        return (value,) if isinstance(value, int | float | str) else value

    @model_validator(mode="after")
    def _one_of_them(self) -> FaultEvent:
        kind = _exactly_one(self, *FAULTS)
        if self.until is not None and self.until <= self.at:
            raise ValueError(f"until is {self.until:g}, must be after at = {self.at:g}")
        if kind == "pause" and self.until is None:
            raise ValueError("a pause needs 'until'")
        if kind in ("clock_jump", "torn") and self.until is not None:
            raise ValueError(f"{kind} happens at one moment, it has no 'until'")
        return self

    @property
    def kind(self) -> str:
        """Which of `FAULTS` it is."""
        return next(kind for kind in FAULTS if getattr(self, kind) is not None)


FAULTS = ("partition", "one_way", "hold", "pause", "disk_full", "torn", "clock_jump")


class Faults(_Frozen):
    """What else goes wrong."""

    duplicate_probability: Probability = Field(0.0, description="a request arrives twice")
    reorder_probability: Probability = Field(
        0.0, description="a message is late by up to ten latencies and overtaken"
    )
    corrupt_probability: Probability = Field(
        0.0, description="a byte of a message flips; the receiver finds out, or does not"
    )
    events: tuple[FaultEvent, ...] = ()


AttackName = Literal[
    "none",
    "sign-flip",
    "gaussian",
    "ipm",
    "alie",
    "dissensus",
    "mimic",
    "label-flip",
    "backdoor",
    "free-riding",
    "replay",
    "equivocation",
    "non-finite",
    "wrong-shape",
    "old-age",
    "slow-drip",
    "flooding",
    "sybils",
]
TRAINED = ("label-flip", "backdoor", "free-riding")
"""Attacks by what is trained, which is so from beginning to end."""


class Adversary(_Frozen):
    """Hostile members: they stay up, know all models and agree on what they do."""

    attack: AttackName = Field(
        "none", description="what they do, see docs/robustness.md; none: nobody is hostile"
    )
    who: Who = Field(
        0.2, description="who they are; of a share or a number: evenly spread over the names"
    )
    strength: NonNegative | None = Field(
        None, description="of the attack, by its own measure; None: the attack's usual one"
    )
    begins_s: NonNegative = Field(0.0, description="they are honest before")
    ends_s: Positive | None = Field(None, description="they are honest after; None: never again")
    adaptive: Literal["never", "clip", "reach"] = Field(
        "clip",
        description="against rule clip. never: they say what the attack says; clip: they shorten "
        "answers to the clip that the question names; reach: and questions to what the receiver "
        "just does not refuse",
    )
    keyed: bool = Field(
        True, description="the run has a key: nobody can speak for another (mutual TLS)"
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Adversary:
        if self.attack == "none" and "strength" in self.model_fields_set:
            raise ValueError('strength does nothing with attack = "none"')
        if self.attack in TRAINED and (self.begins_s > 0 or self.ends_s is not None):
            raise ValueError(
                f"{self.attack} is about what is trained, from beginning to end: "
                "leave begins_s and ends_s out"
            )
        if self.ends_s is not None and self.ends_s <= self.begins_s:
            raise ValueError(
                f"ends_s is {self.ends_s:g}, must be after begins_s = {self.begins_s:g}"
            )
        return self


# --- what is looked at, and what must hold ------------------------------------------------------


class Measure(_Frozen):
    """How the swarm is looked at from outside."""

    samples: int = Field(100, ge=2, le=10_000, description="looks over the whole run")
    last_share: Positive = Field(
        0.1, le=1, description="final figures are means over this last share of the run"
    )
    recovered_within: Positive = Field(
        0.01, description="accuracy has recovered when it is so close to what it was"
    )


_BOUND = re.compile(r"\s*(>=|<=|>|<)\s*([-+0-9.eE_]+)\s*")


class Bound(_Frozen):
    """One bound, written as in ">= 0.95"."""

    sign: Literal[">=", "<=", ">", "<"]
    value: float

    @model_validator(mode="before")
    @classmethod
    def _read(cls, text: Any) -> Any:
        if not isinstance(text, str):
            if isinstance(text, dict):
                return text
            raise ValueError(f'is {text!r}, expected a bound such as ">= 0.95"')
        match = _BOUND.fullmatch(text)
        try:
            return {"sign": match[1], "value": float(match[2])}  # type: ignore[index]
        except (TypeError, ValueError):
            raise ValueError(f"is '{text}', expected a bound such as \">= 0.95\"") from None

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"

    def holds(self, value: float | None) -> bool:
        """Whether a measured value keeps it; one that could not be measured does not."""
        if value is None or math.isnan(value):
            return False
        return {
            ">=": value >= self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            "<": value < self.value,
        }[self.sign]


class Expect(_Frozen):
    """What must hold at the end; every figure is explained in docs/scenarios.md."""

    mean_accuracy: Bound | None = Field(None, description="mean over the nodes that are up")
    worst_tenth_accuracy: Bound | None = Field(None, description="mean over the worst tenth")
    std_accuracy: Bound | None = Field(None, description="standard deviation over nodes")
    consensus_distance: Bound | None = Field(None, description="Ξ of the models that are up")
    optimum_distance: Bound | None = Field(
        None, description="quadratic: distance of the mean model from the mean of the optima"
    )
    stall_s: Bound | None = Field(
        None, description="longest pause between two cycles of a node that was up"
    )
    bytes_per_node_per_s: Bound | None = Field(None, description="sent, message bodies")
    messages_per_cycle: Bound | None = Field(None, description="requests and answers sent")
    pending: Bound | None = Field(
        None, description="most exchanges a node left unresolved at the end"
    )
    mass_drift: Bound | None = Field(
        None, description="averaging: ‖Σx - Σx⁰‖/n over all nodes, flows under way accounted for"
    )
    recovery_s: Bound | None = Field(
        None, description="longest time from a fault's end until accuracy was what it had been"
    )
    deaths: Bound | None = Field(None, description="nodes that ended though nobody asked them to")
    backdoor_success: Bound | None = Field(
        None, description="backdoor: share of triggered samples that go to the trigger's class"
    )
    suspended: Bound | None = Field(
        None, description="share of the hostile nodes that an honest one keeps away from, mean"
    )

    def bounds(self) -> dict[str, Bound]:
        """Those that were given, by name."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: bound for name, bound in given if bound is not None}


class Scenario(_Frozen):
    """One experiment, whole."""

    name: str = Field("scenario", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=40)
    description: str = ""
    nodes: int = Field(ge=1, le=100_000)
    topology: str = Field(
        "random-2", description="neighbour rule, or a file in topologies/; see p2pfl topology list"
    )
    seed: int = Field(0, ge=0, le=2**62, description="of everything that happens by chance")
    task: TaskSpec = TaskSpec()
    duration: Duration
    node: NodeConfig = NodeConfig()
    compute: Compute = Compute()
    network: NetworkSpec = NetworkSpec()
    churn: Churn = Churn()
    faults: Faults = Faults()
    adversary: Adversary = Adversary()
    measure: Measure = Measure()
    expect: Expect = Expect()

    @field_validator("task", "duration", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`task = "digits"` is short for a table with that name."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("node")
    @classmethod
    def _is_for_all(cls, node: NodeConfig) -> NodeConfig:
        for key in ("run", "name", "topology"):
            if key in node.model_fields_set:
                where = (
                    "is a key of the scenario itself" if key == "topology" else "is ours to give"
                )
                raise ValueError(f"'{key}' cannot be set for nodes: it {where}")
        return node

    @model_validator(mode="after")
    def _means_somebody(self) -> Scenario:
        for who in self._whos():
            if isinstance(who, tuple):
                try:
                    named(who, self.nodes)
                except ConfigError as error:
                    raise ValueError(str(error)) from None
            elif isinstance(who, int) and who > self.nodes:
                raise ValueError(f"{who} nodes are meant, there are {self.nodes}")
        if len(self.hostile) >= self.nodes:
            raise ValueError(f"adversary.who is {self.adversary.who!r}: nobody would be honest")
        end = self.duration.seconds
        for at in [event.at for event in self.churn.events] + [e.at for e in self.faults.events]:
            if end is not None and at > end:
                raise ValueError(f"an event at {at:g} s comes after the end, {end:g} s")
        return self

    def _whos(self) -> list[Any]:
        found: list[Any] = [self.churn.absent, self.adversary.who]
        for churn in self.churn.events:
            found += [churn.kill, churn.stop, churn.start]
        for fault in self.faults.events:
            for kind in FAULTS:
                who = getattr(fault, kind)
                found += who if kind in ("partition", "one_way", "hold") and who else [who]
        found += [node.who for node in self.network.nodes]
        for link in self.network.links:
            found += [link.from_, link.to]
        return [who for who in found if who is not None]

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names."""
        return names(self.nodes)

    @property
    def hostile(self) -> tuple[int, ...]:
        """The places of the hostile nodes, in order."""
        who = self.adversary.who
        if self.adversary.attack == "none":
            return ()
        if isinstance(who, tuple):
            return tuple(sorted(named(who, self.nodes)))
        count = max(1, round(who * self.nodes)) if isinstance(who, float) else who
        return tuple(int((place + 0.5) * self.nodes / count) for place in range(count))


def _exactly_one(model: BaseModel, *keys: str) -> str:
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) != 1:
        what = " and ".join(given) or "none"
        raise ValueError(f"exactly one of {', '.join(keys)} is needed, {what} given")
    return given[0]
