"""Reads what a node tells at `/v1/view` and `/v1/live`.

Rule of the file: a node is a stranger. Texts are printable and short, numbers finite, lists
bounded. What is not there, or is not what it should be, is unknown (None); only what cannot be a
view at all is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from p2pfl.errors import WireError

FORMAT = 1
TEXT_MAX = 240
NODES_MAX = 2048
LIST_MAX = 256
POINTS_MAX = 1024

HEARD_OF = "only heard of"
"""State of a node that never spoke to the one that tells, and may be made up."""
STATES = (
    *("training", "alone", "holding", "starting", "leaving", "suspect", "left", "dead"),
    *("unknown", HEARD_OF),
)
"""What a node can be, the best first."""

Point: TypeAlias = tuple[float, float | None, float | None]
"""Unix seconds by the clock of whoever tells, accuracy, loss."""
SwarmPoint: TypeAlias = tuple[float, float | None, float | None, float | None]
"""Unix seconds, mean accuracy, that of the worst tenth, consensus distance."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one node says of one node; None is unknown.

    Attributes:
        cycle_s: seconds of a cycle. staleness: mean, in cycles. distance: of what it mixes.
        told_ago_s: how old the figures are; 0 of itself, None: none were ever told.
        heard_ago_s: since the teller heard of it.
        refusals: what the teller refused of it, by reason. suspended: why it mixes none of it now.
    """

    node: str
    name: str | None = None
    is_self: bool = False
    state: str = "unknown"
    incarnation: int | None = None
    addresses: tuple[str, ...] = ()
    age: int | None = None
    own_steps: int | None = None
    cycles: int | None = None
    cycle_s: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    staleness: float | None = None
    distance: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    holding: str = ""
    told_ago_s: float | None = None
    heard_ago_s: float | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)
    suspended: Mapping[str, int] = field(default_factory=dict)
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Merge:
    """One exchange of the node that tells, and why it went as it did."""

    at: float
    peer: str
    role: str
    outcome: str
    weight: float | None
    staleness: float | None
    distance: float | None
    bytes_in: int | None
    bytes_out: int | None
    seconds: float | None
    is_accepted: bool
    why: str


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of a timeline; `node` None: it happened to the node that tells."""

    at: float
    kind: str
    node: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values in bins: `len(edges) == len(values) + 1`; the last edge may be infinite."""

    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the node believes of the whole swarm.

    Attributes:
        count: of nodes. reporting: of those that told an accuracy.
        histogram: share of the nodes by accuracy.
    """

    count: float | None = None
    reporting: float | None = None
    mean_accuracy: float | None = None
    worst_tenth_accuracy: float | None = None
    mean_loss: float | None = None
    consensus_distance: float | None = None
    histogram: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the node that tells, each second."""

    bytes_in_per_s: float | None = None
    bytes_out_per_s: float | None = None
    exchanges_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All that one node knows, at one time by its own clock.

    Attributes:
        unlisted: nodes that it only heard of, besides those in `nodes`.
    """

    at: float
    node: str
    name: str
    run: str
    is_keyed: bool
    version: str
    trust: str
    topology: str
    parameters: int | None
    started: float | None
    incarnation: int | None
    nodes: tuple[Told, ...]
    unlisted: int
    others: Mapping[str, str]
    swarm: Estimate | None
    staleness: Histogram
    merges: tuple[Merge, ...]
    timeline: tuple[Happening, ...]
    curves: Mapping[str, tuple[Point, ...]]
    swarm_curve: tuple[SwarmPoint, ...]
    rates: Rates
    holding: tuple[str, ...]


# --- a view -------------------------------------------------------------------------------------


def read_view(body: object) -> View:
    """A whole view.

    Args:
        body: what the JSON says.

    Raises:
        WireError: it is no view, or one of a later format.
    """
    if not isinstance(body, dict) or not isinstance(body.get("node"), str):
        raise WireError("it answers, but is no p2pfl node")
    if body.get("format") != FORMAT:
        raise WireError(
            f"its view has format {clean(str(body.get('format')), 20)}, this p2pfl knows {FORMAT}: "
            "use the same version on both"
        )
    at = _number(body.get("at"))
    if at is None or not isinstance(body.get("nodes"), list):
        raise WireError("its view lacks when it was made, or the nodes")
    curves = _mapping(body.get("curves"))
    return View(
        at=at,
        node=clean(body["node"], 64),
        name=_text(body.get("name")),
        run=_text(body.get("run")),
        is_keyed=body.get("is_keyed") is True,
        version=_text(body.get("version")),
        trust=_text(body.get("trust")),
        topology=_text(body.get("topology")),
        parameters=_whole(body.get("parameters")),
        started=_number(body.get("started")),
        incarnation=_whole(body.get("incarnation")),
        nodes=tuple(_nodes(body["nodes"])),
        unlisted=max(0, _whole(body.get("unlisted")) or 0),
        others={
            clean(address, 64): _text(why)
            for address, why in list(_mapping(body.get("others")).items())[:LIST_MAX]
        },
        swarm=_estimate(body.get("swarm")),
        staleness=_histogram(body.get("staleness"), "counts"),
        merges=tuple(
            merge for one in _list(body.get("merges")) if (merge := _merge(one)) is not None
        ),
        timeline=tuple(
            found for one in _list(body.get("timeline")) if (found := _happening(one)) is not None
        ),
        curves={
            clean(node, 64): tuple(_points(points))
            for node, points in list(_mapping(curves.get("nodes")).items())[:NODES_MAX]
        },
        swarm_curve=tuple(_swarm_points(curves.get("swarm"))),
        rates=_rates(_mapping(body.get("rates"))),
        holding=tuple(_text(one) for one in _list(body.get("holding")) if isinstance(one, str)),
    )


def read_merge(body: object) -> Merge:
    """One exchange.

    Raises:
        WireError: it is none.
    """
    found = _merge(body)
    if found is None:
        raise WireError("what it calls a merge is none")
    return found


def read_happening(body: object) -> Happening:
    """One entry of the timeline.

    Raises:
        WireError: it is none.
    """
    found = _happening(body)
    if found is None:
        raise WireError("what it calls an entry of the timeline is none")
    return found


# --- its parts ----------------------------------------------------------------------------------


def _nodes(body: list[Any]) -> list[Told]:
    """Each node once; of two entries for one the first counts."""
    found: dict[str, Told] = {}
    for one in body[:NODES_MAX]:
        if isinstance(one, dict) and isinstance(one.get("node"), str) and one["node"]:
            told = _told(one)
            found.setdefault(told.node, told)
    return list(found.values())


def _told(body: Mapping[str, Any]) -> Told:
    state = body.get("state")
    name = body.get("name")
    return Told(
        node=clean(body["node"], 64),
        name=clean(name, 64) if isinstance(name, str) and name else None,
        is_self=body.get("is_self") is True,
        state=state if isinstance(state, str) and state in STATES else "unknown",
        incarnation=_whole(body.get("incarnation")),
        addresses=tuple(clean(a, 64) for a in _list(body.get("addresses")) if isinstance(a, str)),
        age=_whole(body.get("age")),
        own_steps=_whole(body.get("own_steps")),
        cycles=_whole(body.get("cycles")),
        cycle_s=_number(body.get("cycle_s")),
        loss=_number(body.get("loss")),
        accuracy=_number(body.get("accuracy")),
        staleness=_number(body.get("staleness")),
        distance=_number(body.get("distance")),
        bytes_in=_whole(body.get("bytes_in")),
        bytes_out=_whole(body.get("bytes_out")),
        holding=_text(body.get("holding")),
        told_ago_s=_span(body.get("told_ago_s")),
        heard_ago_s=_span(body.get("heard_ago_s")),
        refusals=_counts(body.get("refusals")),
        suspended=_counts(body.get("suspended")),
        denied=body.get("denied") is True,
    )


def _merge(body: object) -> Merge | None:
    if not isinstance(body, dict):
        return None
    at, peer = _number(body.get("at")), body.get("peer")
    if at is None or not isinstance(peer, str):
        return None
    return Merge(
        at=at,
        peer=clean(peer, 64),
        role=_text(body.get("role")),
        outcome=_text(body.get("outcome")),
        weight=_number(body.get("weight")),
        staleness=_number(body.get("staleness")),
        distance=_number(body.get("distance")),
        bytes_in=_whole(body.get("bytes_in")),
        bytes_out=_whole(body.get("bytes_out")),
        seconds=_number(body.get("seconds")),
        is_accepted=body.get("is_accepted") is True,
        why=_text(body.get("why")),
    )


def _happening(body: object) -> Happening | None:
    if not isinstance(body, dict):
        return None
    at, kind, node = _number(body.get("at")), body.get("kind"), body.get("node")
    if at is None or not isinstance(kind, str):
        return None
    return Happening(
        at=at,
        kind=clean(kind, 24),
        node=clean(node, 64) if isinstance(node, str) and node else None,
        detail=_text(body.get("detail")),
    )


def _estimate(body: object) -> Estimate | None:
    if not isinstance(body, dict):
        return None
    return Estimate(
        count=_number(body.get("count")),
        reporting=_number(body.get("reporting")),
        mean_accuracy=_number(body.get("mean_accuracy")),
        worst_tenth_accuracy=_number(body.get("worst_tenth_accuracy")),
        mean_loss=_number(body.get("mean_loss")),
        consensus_distance=_number(body.get("consensus_distance")),
        histogram=_histogram(body.get("histogram"), "share"),
    )


def _histogram(body: object, key: str) -> Histogram:
    found = _mapping(body)
    edges = tuple(_edge(one) for one in _list(found.get("edges")))
    values = tuple(max(0.0, _number(one) or 0.0) for one in _list(found.get(key)))
    return Histogram(edges, values) if values and len(edges) == len(values) + 1 else Histogram()


def _edge(value: object) -> float:
    # JSON has no infinity; whoever writes it says null, a string, or what Python makes of it
    number = _number(value)
    return math.inf if number is None else number


def _points(body: object) -> list[Point]:
    return [
        (at, _number(one[1]), _number(one[2]))
        for one in _list(body, POINTS_MAX)
        if isinstance(one, list) and len(one) >= 3 and (at := _number(one[0])) is not None
    ]


def _swarm_points(body: object) -> list[SwarmPoint]:
    return [
        (at, _number(one[1]), _number(one[2]), _number(one[3]))
        for one in _list(body, POINTS_MAX)
        if isinstance(one, list) and len(one) >= 4 and (at := _number(one[0])) is not None
    ]


def _rates(body: Mapping[str, Any]) -> Rates:
    return Rates(
        bytes_in_per_s=_number(body.get("bytes_in_per_s")),
        bytes_out_per_s=_number(body.get("bytes_out_per_s")),
        exchanges_per_s=_number(body.get("exchanges_per_s")),
    )


# --- values -------------------------------------------------------------------------------------


def clean(text: str, most: int = TEXT_MAX) -> str:
    """The same, short, and without what could play tricks on a terminal."""
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return short if short.isprintable() else "".join(c if c.isprintable() else "?" for c in short)


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _span(value: object) -> float | None:
    number = _number(value)
    return None if number is None else max(0.0, number)


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object, most: int = LIST_MAX) -> list[Any]:
    return value[:most] if isinstance(value, list) else []


def _counts(value: object) -> dict[str, int]:
    return {
        clean(key, 40): count
        for key, one in list(_mapping(value).items())[:LIST_MAX]
        if (count := _whole(one)) is not None
    }
