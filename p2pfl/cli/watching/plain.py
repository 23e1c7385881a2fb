"""The picture without a screen: a table once, a line now and then, or JSON.

Rule of the file: pure; nothing here needs more than the standard library, and no line holds
anything but text, so that it goes well through a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from p2pfl.cli.watching.columns import COLUMNS, NAME_MAX
from p2pfl.cli.watching.picture import Merged, Row
from p2pfl.cli.watching.reading import Estimate, Histogram, Merge, Told
from p2pfl.cli.watching.source import Tie
from p2pfl.cli.watching.wording import (
    NOBODY,
    alone,
    clock,
    counted,
    entry,
    figure,
    fit,
    mixed,
    ratio,
    tied,
    unlisted,
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
    lines += [unlisted(found), ""] if found.unlisted else [""]
    lines += [f"swarm     {text}" for text in estimated(found)]
    lines.append(f"traffic   {traffic(found)}")
    lines += [f"holding   {found.label(node)}: {why}" for node, why in found.holding]
    lines += [f"merged    {clock(m.at)}  {mixed(found, m)}" for m in found.merges[:_SHOWN]]
    lines += [f"happened  {clock(e.at)}  {entry(found, e)}" for e in found.timeline[:_SHOWN]]
    for row in found.rows:
        lines += [f"against   {row.label}: {text}" for text in refusals(row)]
    lines += [f"left out  {address}: {why}" for address, why in found.others.items()]
    lines += [
        f"silent    {one.address}: {one.why}" for one in found.watched if one.tie is not Tie.LIVE
    ]
    return "\n".join(lines)


def line(found: Merged) -> str:
    """How it stands, in one line."""
    swarm = found.swarm
    parts = [clock(found.at), f"{found.run or 'no run yet'}", counted(found)]
    if swarm is not None and swarm.mean_accuracy is not None and not alone(found):
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
    swarm, why = found.swarm, lonely(found)
    words = [f"{word} {value}" for word, value in estimates(found).items()]
    if swarm is None or why:
        return [why, ", ".join(words)] if words else [why]
    return [
        f"about {figure(swarm.count)} nodes, {figure(_reporting(swarm))} % tell an accuracy; "
        f"estimated by {found.estimates} of them",
        ", ".join(words[2:]),
    ]


def lonely(found: Merged) -> str:
    """Why there is no estimate of the swarm, or one of a single node; nothing if there is one."""
    why = alone(found)
    if found.swarm is None:
        return why or "no estimate yet: nodes need to exchange some models first"
    return f"{why}: these are this node's own figures" if why == NOBODY else why


def estimates(found: Merged) -> dict[str, str]:
    """Figures of the swarm by what they are; of a node that is alone only those that it has."""
    swarm = found.swarm
    if swarm is None:
        return {}
    if alone(found) == NOBODY:
        return {"accuracy": ratio(swarm.mean_accuracy), "loss": figure(swarm.mean_loss)}
    return {
        "nodes": f"~{figure(swarm.count)}",
        "telling": f"~{figure(_reporting(swarm))} %",
        "mean accuracy": f"~{ratio(swarm.mean_accuracy)}",
        "worst tenth": f"~{ratio(swarm.worst_tenth_accuracy)}",
        "mean loss": f"~{figure(swarm.mean_loss)}",
        "consensus distance": f"~{figure(swarm.consensus_distance)}",
    }


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
        "unlisted": found.unlisted,
        "others": dict(found.others),
        "swarm": None
        if found.swarm is None
        else asdict(found.swarm) | {"histogram": _plain_histogram(found.swarm.histogram, "share")},
        "staleness": _plain_histogram(found.staleness, "counts"),
        "merges": [{"at": one.at, "by": one.by} | _but(one.merge, "at") for one in found.merges],
        "timeline": [asdict(one) for one in found.timeline],
        "curves": {"nodes": found.curves, "swarm": found.swarm_curve},
        "rates": asdict(found.rates),
        "holding": [{"by": by, "why": why} for by, why in found.holding],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    """What the newest teller said, and over it what all of them together say."""
    own = ("state", "incarnation", "addresses", "told_ago_s", "heard_ago_s", "refusals")
    return _but(row.told, "is_self") | {
        **{key: getattr(row, key) for key in (*own, "suspended", "denied")},
        "is_watched": row.is_watched,
        "told_by": row.told_by,
    }


def _but(one: Merge | Told, key: str) -> dict[str, Any]:
    """All of it but this."""
    return {name: value for name, value in asdict(one).items() if name != key}


def _plain_histogram(found: Histogram, key: str) -> dict[str, Any]:
    # JSON has no infinity
    edges = [edge if edge != float("inf") else None for edge in found.edges]
    return {"edges": edges, key: list(found.values)}
