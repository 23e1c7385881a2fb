"""The picture without a screen: a table once, a line now and then, or JSON.

Rule of the file: pure; nothing here needs more than the standard library, and no line holds
anything but text, so that it goes well through a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from p2pfl.cli.watching.columns import COLUMNS, NAME_MAX
from p2pfl.cli.watching.memory import Merged, Row
from p2pfl.cli.watching.reading import Estimate, Histogram
from p2pfl.cli.watching.source import Tie
from p2pfl.cli.watching.wording import (
    clock,
    counted,
    entry,
    figure,
    fit,
    mixed,
    ratio,
    tied,
    volume,
    width,
)

_SHOWN = 5


def table(found: Merged) -> str:
    """All of it in lines: what it is, each node, the swarm, who holds back, who is left out."""
    kind = ", ".join(
        part
        for part in (
            "only members, over TLS" if found.is_keyed else "open",
            found.trust,
            f"topology {found.topology}" if found.topology else "",
            f"{found.parameters:,} weights" if found.parameters is not None else "",
        )
        if part
    )
    lines = [f"run '{found.run}'  {counted(found)}", f"{kind}", ""]
    lines += _rows(found.rows)
    lines.append("")
    lines += [f"swarm     {text}" for text in estimated(found)]
    lines.append(f"traffic   {traffic(found)}")
    lines += [f"holding   {found.label(node)}: {why}" for node, why in found.holding]
    lines += [f"merged    {clock(m.at)}  {mixed(found, m)}" for m in found.merges[:_SHOWN]]
    lines += [f"happened  {clock(e.at)}  {entry(found, e)}" for e in found.timeline[:_SHOWN]]
    for row in found.rows:
        lines += [f"refused   {row.label}: {text}" for text in refusals(row)]
    lines += [f"left out  {address}: {why}" for address, why in found.others.items()]
    lines += [
        f"silent    {one.address}: {one.why}" for one in found.watched if one.tie is not Tie.LIVE
    ]
    return "\n".join(lines)


def line(found: Merged) -> str:
    """How it stands, in one line."""
    swarm = found.swarm
    parts = [clock(found.at), f"{found.run or 'no run yet'}", counted(found)]
    if swarm is not None and swarm.mean_accuracy is not None:
        parts.append(
            f"accuracy ~{ratio(swarm.mean_accuracy)} "
            f"worst tenth ~{ratio(swarm.worst_tenth_accuracy)} "
            f"distance ~{figure(swarm.consensus_distance)}"
        )
    else:
        parts.append(f"accuracy {ratio(found.mean_accuracy)}")
    parts.append(
        f"in {volume(found.rates.bytes_in_per_s)}/s out {volume(found.rates.bytes_out_per_s)}/s"
    )
    parts += [tied(one) for one in found.watched if one.tie in (Tie.GONE, Tie.FOREIGN)]
    parts += [f"{found.label(node)}: {why}" for node, why in found.holding]
    return "  ".join(parts)


def estimated(found: Merged) -> list[str]:
    """What the nodes believe of the swarm, in one or two sentences."""
    swarm = found.swarm
    if swarm is None:
        return ["no estimate yet: nodes need to exchange some models first"]
    return [
        f"about {figure(swarm.count)} nodes, {figure(_reporting(swarm))} % tell an accuracy; "
        f"estimated by {found.estimates} of them",
        f"mean accuracy ~{ratio(swarm.mean_accuracy)}, worst tenth "
        f"~{ratio(swarm.worst_tenth_accuracy)}, mean loss ~{figure(swarm.mean_loss)}, "
        f"consensus distance ~{figure(swarm.consensus_distance)}",
    ]


def traffic(found: Merged) -> str:
    """What moves at the nodes that are watched."""
    rates = found.rates
    who = f"the {found.live} nodes watched" if found.live != 1 else "the node watched"
    return (
        f"{volume(rates.bytes_in_per_s)}/s in, {volume(rates.bytes_out_per_s)}/s out, "
        f"{figure(rates.exchanges_per_s)} exchanges/s at {who}"
    )


def refusals(row: Row) -> list[str]:
    """What is held against a node, a sentence each."""
    found = [f"{reason}, {_times(count)}" for reason, count in row.refusals.items()]
    found += [f"suspended: {why}, {_times(count)}" for why, count in row.suspended.items()]
    return [*found, "denied: it may not take part"] if row.denied else found


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _reporting(swarm: Estimate) -> float | None:
    return None if swarm.reporting is None else 100 * swarm.reporting


def _rows(rows: Iterable[Row]) -> Iterable[str]:
    cells = [[column.title for column in COLUMNS]]
    # the mark before the state would be a column of its own for whatever reads on
    cells += [
        [row.state if column.key == "state" else column.text(row) for column in COLUMNS]
        for row in rows
    ]
    widths = [
        min(max(width(line[place]) for line in cells), NAME_MAX if place == 0 else 99)
        for place in range(len(COLUMNS))
    ]
    for one in cells:
        yield "  ".join(
            fit(cell, wide, right=column.is_number)
            for cell, wide, column in zip(one, widths, COLUMNS, strict=True)
        ).rstrip()


# --- as JSON ------------------------------------------------------------------------------------


def jsonable(found: Merged) -> dict[str, Any]:
    """All of it as plain JSON values, named as in a node's own view where they are the same."""
    return {
        "format": 1,
        "at": found.at,
        "run": found.run,
        "is_keyed": found.is_keyed,
        "trust": found.trust,
        "topology": found.topology,
        "parameters": found.parameters,
        "watched": [
            {
                "address": one.address,
                "node": one.node,
                "state": one.tie.value,
                "since_s": round(one.since_s, 3),
                "why": one.why,
            }
            for one in found.watched
        ],
        "nodes": [_plain_row(row) for row in found.rows],
        "others": dict(found.others),
        "swarm": None
        if found.swarm is None
        else {
            "count": found.swarm.count,
            "reporting": found.swarm.reporting,
            "mean_accuracy": found.swarm.mean_accuracy,
            "worst_tenth_accuracy": found.swarm.worst_tenth_accuracy,
            "mean_loss": found.swarm.mean_loss,
            "histogram": _plain_histogram(found.swarm.histogram, "share"),
            "consensus_distance": found.swarm.consensus_distance,
        },
        "staleness": _plain_histogram(found.staleness, "counts"),
        "merges": [
            {
                "at": one.at,
                "by": one.by,
                "peer": one.merge.peer,
                "role": one.merge.role,
                "outcome": one.merge.outcome,
                "weight": one.merge.weight,
                "staleness": one.merge.staleness,
                "distance": one.merge.distance,
                "bytes_in": one.merge.bytes_in,
                "bytes_out": one.merge.bytes_out,
                "seconds": one.merge.seconds,
                "is_accepted": one.merge.is_accepted,
                "why": one.merge.why,
            }
            for one in found.merges
        ],
        "timeline": [
            {
                "at": one.at,
                "kind": one.kind,
                "node": one.node,
                "detail": one.detail,
                "by": list(one.by),
            }
            for one in found.timeline
        ],
        "curves": {
            "nodes": {node: [list(p) for p in points] for node, points in found.curves.items()},
            "swarm": [list(point) for point in found.swarm_curve],
        },
        "rates": {
            "bytes_in_per_s": found.rates.bytes_in_per_s,
            "bytes_out_per_s": found.rates.bytes_out_per_s,
            "exchanges_per_s": found.rates.exchanges_per_s,
        },
        "holding": [{"by": by, "why": why} for by, why in found.holding],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    told = row.told
    return {
        "node": row.node,
        "name": told.name,
        "is_watched": row.is_watched,
        "state": row.state,
        "incarnation": row.incarnation,
        "addresses": list(row.addresses),
        "age": told.age,
        "own_steps": told.own_steps,
        "cycles": told.cycles,
        "cycle_s": told.cycle_s,
        "loss": told.loss,
        "accuracy": told.accuracy,
        "staleness": told.staleness,
        "distance": told.distance,
        "bytes_in": told.bytes_in,
        "bytes_out": told.bytes_out,
        "holding": told.holding,
        "told_ago_s": row.told_ago_s,
        "told_by": row.told_by,
        "heard_ago_s": row.heard_ago_s,
        "refusals": dict(row.refusals),
        "suspended": dict(row.suspended),
        "denied": row.denied,
    }


def _plain_histogram(found: Histogram, key: str) -> dict[str, Any]:
    # JSON has no infinity
    edges = [edge if edge != float("inf") else None for edge in found.edges]
    return {"edges": edges, key: list(found.values)}
