"""What is learned, for how long, on which devices and over which network.

    [task]      what is learned, and how its data are split
    [duration]  how long, in cycles or in seconds
    [compute]   how long a local step takes, and on whom longer
    [network]   latency, loss, bandwidth; [[network.nodes]] and [[network.links]] for exceptions

Rule of the file: how it is while nothing goes wrong; every value is bounded, and keys that do
nothing together are refused.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from p2pfl.config import Count, NonNegative, Positive
from p2pfl.scenario.spec.fields import Frozen, Probability
from p2pfl.scenario.spec.who import Who

MODELLED = ("averaging", "quadratic")
"""Tasks without data, which only the simulator knows."""


class TaskSpec(Frozen):
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


class Duration(Frozen):
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


class Compute(Frozen):
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


class Link(Frozen):
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


class NetworkSpec(Frozen):
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
