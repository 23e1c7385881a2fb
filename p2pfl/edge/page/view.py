"""`/v1/view`: the whole swarm, as one node knows it, as plain JSON values.

Whoever is in an open run can make up members. So of those that this node only heard of, no more
are listed than of those that spoke to it (or `HEARD_OF_LEAST`), and it is said how many there are
besides. In a large swarm of honest nodes it takes minutes until all have spoken.

Rule of the file: a pure function of a status and of what the feed remembers. What others say of
themselves is hearsay; what is no finite number is null, and what nobody told is null too, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from p2pfl.core.events import Exchanged
from p2pfl.core.messages import Status
from p2pfl.edge.page import wording

FORMAT = 1
LINK_S = 60.0
"""A link is shown for so long after its newest exchange."""

HEARD_OF = "only heard of"
"""State of a member that never spoke to this node, whatever others say of it."""

LEFT = "left"
"""State of a member that said goodbye before it fell silent: nothing went wrong."""

HEARD_OF_LEAST = 20
"""So many of these are listed however few have spoken."""

_SIGNIFICANT = 6

_FRESH_S = 60.0
_DENIED_SHOWN = 64
_TOLD = ("age", "own_steps", "cycles", "bytes_in", "bytes_out")
_MEASURED = ("cycle_s", "loss", "accuracy", "staleness", "distance")


def number(value: object, decimals: int | None = None) -> float | None:
    """A finite number, rounded; None for everything else.

    Args:
        decimals: kept behind the point, as for times; None keeps six digits that matter, so that
            a small loss or distance stays more than 0.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return float(f"{value:.{_SIGNIFICANT}g}") if decimals is None else round(value, decimals)


def reports(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the others say of themselves, by id; empty where nobody tells."""
    return {report["node"]: report for report in status.get("reports") or ()}


def listed(
    status: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The members that are shown, in their order: all that were met, and some only heard of.

    Of these the alive come first, then those with fresh figures, then the others by their ids, so
    that the choice stays the same from one view to the next.

    Args:
        told: see `reports`.
    """
    members = status["members"]
    heard_of = [member for member in members if not member["is_met"]]
    most = max(HEARD_OF_LEAST, len(members) - len(heard_of))
    if len(heard_of) <= most:
        return list(members)

    def rank(member: Mapping[str, Any]) -> tuple[bool, bool, str]:
        report = told.get(member["node"])
        is_fresh = report is not None and report["told_ago_s"] <= _FRESH_S
        return member["status"] != Status.ALIVE, not is_fresh, member["node"]

    chosen = {member["node"] for member in sorted(heard_of, key=rank)[:most]}
    return [member for member in members if member["is_met"] or member["node"] in chosen]


def nodes(
    status: Mapping[str, Any],
    told: Mapping[str, Mapping[str, Any]],
    members: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The nodes that are shown: this one first, then the members, then who is denied.

    Args:
        told: see `reports`.
        members: see `listed`.
    """
    found = [_own(status)]
    found += [_other(member, told.get(member["node"]), status) for member in members]
    known = {status["node"], *(member["node"] for member in status["members"])}
    banned = [node for node in status["denied"] if node not in known]
    found += [_banned(node, status) for node in banned[:_DENIED_SHOWN]]
    return found


def links(
    told: Mapping[str, Mapping[str, Any]],
    own: Mapping[str, float],
    now: float,
    *,
    me: str,
    among: Collection[str],
) -> list[dict[str, str | float]]:
    """The newest exchange of each pair, of the last `LINK_S`.

    Args:
        told: see `reports`.
        own: when this node last exchanged a model with each peer, Unix seconds.
        now: Unix seconds.
        me: this node.
        among: the nodes that are shown.
    """
    newest: dict[tuple[str, str], float] = {}

    def add(one: str, other: str, ago_s: float | None) -> None:
        is_seen = one in among and other in among
        if ago_s is not None and ago_s <= LINK_S and one != other and is_seen:
            pair = (one, other) if one < other else (other, one)
            newest[pair] = min(max(ago_s, 0.0), newest.get(pair, math.inf))

    for peer, at in own.items():
        add(me, peer, now - at)
    for node, report in told.items():
        for recent in report["recent"]:
            add(node, recent["peer"], number(recent["ago_s"], 3))
    return [{"a": a, "b": b, "ago_s": round(ago_s, 2)} for (a, b), ago_s in newest.items()]


def swarm(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """The swarm-wide estimates; None while there are none."""
    found = status.get("swarm")
    if not isinstance(found, Mapping):
        return None
    histogram = found.get("histogram") or {}
    return {
        **{
            key: number(found.get(key))
            for key in (
                "count",
                "reporting",
                "mean_accuracy",
                "worst_tenth_accuracy",
                "mean_loss",
                "consensus_distance",
            )
        },
        "histogram": {
            "edges": _numbers(histogram.get("edges", ())),
            "share": _numbers(histogram.get("share", ())),
        },
    }


def staleness(status: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """How stale this node's exchanges were; an edge without end is null."""
    found = status.get("staleness_histogram") or {}
    return {
        "edges": _numbers(found.get("edges", ())),
        "counts": _numbers(found.get("counts", ())),
    }


def merge(at: float, event: Exchanged) -> dict[str, Any]:
    """An exchange that ended at `at`, Unix seconds, with its why."""
    return {
        "at": round(at, 3),
        "peer": event.peer,
        "role": event.role,
        "outcome": event.outcome,
        "weight": number(event.weight),
        "staleness": number(event.staleness, 3),
        "distance": number(event.distance),
        "bytes_in": event.bytes_in,
        "bytes_out": event.bytes_out,
        "seconds": number(event.seconds, 4),
        "is_accepted": wording.is_accepted(event),
        "why": wording.why(event),
    }


def view(
    status: Mapping[str, Any],
    *,
    now: float,
    started: float,
    own_links: Mapping[str, float],
    rates: Mapping[str, float],
    merges: list[dict[str, Any]],
    timeline: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything but the curves.

    Args:
        status: of this node, as of now.
        now, started: Unix seconds.
        own_links: see `links`.
        rates: bytes and exchanges per second.
        merges, timeline: newest first.
    """
    told = reports(status)
    members = listed(status, told)
    shown = nodes(status, told, members)
    ids = {node["node"] for node in shown}
    return {
        "format": FORMAT,
        "at": round(now, 3),
        "node": status["node"],
        "name": status["name"],
        "run": status["run"],
        "is_keyed": status["is_keyed"],
        "version": status["version"],
        "trust": status["trust"],
        "topology": status["topology"],
        "parameters": status["parameters"],
        "uptime_s": number(status["uptime_s"], 3),
        "started": round(started, 3),
        "incarnation": status["incarnation"],
        "nodes": shown,
        # members that were only heard of, besides those in `nodes`
        "unlisted": len(status["members"]) - len(members),
        "others": status["others"],
        "links": links(told, own_links, now, me=status["node"], among=ids),
        "swarm": swarm(status),
        "staleness": staleness(status),
        "merges": merges,
        "timeline": timeline,
        "rates": {key: number(value, 3) for key, value in rates.items()},
        "holding": list(status.get("holding") or ()),
    }


def _own(status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "node": status["node"],
        "name": status["name"],
        "is_self": True,
        "state": status["state"],
        "incarnation": status["incarnation"],
        "addresses": [status["address"]],
        **{key: number(status[key]) for key in _TOLD},
        "cycle_s": number(status["cycle_s"]),
        "loss": number(status["loss"]),
        "accuracy": number(status["accuracy"]),
        "staleness": number(status["staleness_cycles"]),
        "distance": number(status["distance"]),
        "holding": "; ".join(status.get("holding") or ()),
        "told_ago_s": 0.0,
        "heard_ago_s": 0.0,
        "refusals": {},
        "suspended": None,
        "denied": False,
    }


def _other(
    member: Mapping[str, Any], report: Mapping[str, Any] | None, status: Mapping[str, Any]
) -> dict[str, Any]:
    node, told = member["node"], report or {}
    state = member["status"]
    if not member["is_met"]:
        state = HEARD_OF
    elif state == Status.ALIVE:
        state = told.get("state") or "unknown"
    elif state == Status.DEAD and member["left"]:
        state = LEFT
    steps = [number(told.get("own_steps")), number(member["own_steps"])]
    return {
        "node": node,
        "name": member["name"] or told.get("name") or None,
        "is_self": False,
        "state": state,
        "incarnation": member["incarnation"],
        "addresses": member["addresses"],
        **{key: number(told.get(key)) for key in (*_TOLD, *_MEASURED)},
        "own_steps": max([count for count in steps if count is not None], default=None),
        "holding": told.get("holding") or "",
        "told_ago_s": number(told.get("told_ago_s"), 2),
        "heard_ago_s": number(member["heard_ago_s"], 2),
        "refusals": status["refusals"].get(node, {}),
        "suspended": status["suspended"].get(node),
        "denied": node in status["denied"],
    }


def _banned(node: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """Who is denied is no member any more, and still to be seen, with the reason."""
    return {
        "node": node,
        "name": None,
        "is_self": False,
        "state": "unknown",
        "incarnation": 0,
        "addresses": [],
        **dict.fromkeys((*_TOLD, *_MEASURED)),
        "holding": "",
        "told_ago_s": None,
        "heard_ago_s": None,
        "refusals": status["refusals"].get(node, {}),
        "suspended": status["suspended"].get(node),
        "denied": True,
    }


def _numbers(values: Iterable[object]) -> list[float | None]:
    return [number(value) for value in values]
