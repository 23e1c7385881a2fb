"""What hits the nodes: who comes and goes, what breaks, and who is hostile.

    [churn]     who comes and goes, by chance, by a trace, or as [[churn.events]] say
    [faults]    what else goes wrong, by chance or as [[faults.events]] say
    [adversary] which nodes are hostile, and what they do

Rule of the file: nothing happens by default. An event is of exactly one kind, and keys that do
nothing together are refused.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from p2pfl.config import NonNegative, Positive
from p2pfl.scenario.spec.fields import Frozen, Probability, Share, exactly_one
from p2pfl.scenario.spec.who import Who

State = Literal["kept", "checkpoint", "lost"]


class ChurnEvent(Frozen):
    """At a time, something happens to some nodes: exactly one of kill, stop and start."""

    at: NonNegative
    kill: Who | None = Field(None, description="they crash: memory is lost, the disk is not")
    stop: Who | None = Field(None, description="they end in order: settle, save, say goodbye")
    start: Who | None = Field(None, description="of those that are down, or not there yet")
    lost_state: bool = Field(False, description="start: their disks are empty")

    @model_validator(mode="after")
    def _one_of_them(self) -> ChurnEvent:
        exactly_one(self, "kill", "stop", "start")
        return self


class Churn(Frozen):
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


class FaultEvent(Frozen):
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
        kind = exactly_one(self, *FAULTS)
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


class Faults(Frozen):
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


class Adversary(Frozen):
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
