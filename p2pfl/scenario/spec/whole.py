"""A whole scenario: its tables, and what only holds between them.

Rule of the file: whoever is meant anywhere is one of its nodes, and no event comes after the end.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from p2pfl.config import NodeConfig
from p2pfl.errors import ConfigError
from p2pfl.scenario.spec.bounds import Expect, Measure
from p2pfl.scenario.spec.fields import Frozen
from p2pfl.scenario.spec.setting import Compute, Duration, NetworkSpec, TaskSpec
from p2pfl.scenario.spec.trouble import FAULTS, Adversary, Churn, Faults
from p2pfl.scenario.spec.who import named, names


class Scenario(Frozen):
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
