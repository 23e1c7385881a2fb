"""What a node tells people and tools: `/v1/status`, plain JSON values.

Rule of the file: reading only; every key says its unit; ids are whole, names are labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import p2pfl
from p2pfl.core.figures import HISTOGRAM, SwarmFigures
from p2pfl.core.members import UNTOLD
from p2pfl.core.reports import Told
from p2pfl.core.tally import STALENESS_EDGES
from p2pfl.node.telling import state_of

if TYPE_CHECKING:
    from p2pfl.node.vitals import Vitals


def describe(vitals: Vitals) -> dict[str, Any]:
    """The status of one node."""
    now, state, tally, measured = vitals.clock(), vitals.state, vitals.tally, vitals.measured
    traffic = vitals.transport.traffic
    return {
        "node": vitals.id,
        "name": vitals.config.name,
        "run": vitals.config.run,
        "layout": vitals.layout.digest,
        "parameters": vitals.layout.size,
        "version": p2pfl.__version__,
        "state": state_of(vitals),
        "address": vitals.transport.address,
        "incarnation": vitals.incarnation,
        "uptime_s": round(now - vitals.started_at, 3),
        "age": state.age,
        "own_steps": state.own_steps,
        "cycles": vitals.cycles,
        "cycle_steps": state.cycle_steps,
        "cycle_s": round(state.cycle_s, 4),
        "since_cycle_s": round(now - vitals.last_cycle_at, 3),
        "loss": vitals.loss,
        "accuracy": measured.accuracy if measured else None,
        "metrics": dict(measured.metrics) if measured else {},
        "measured_ago_s": round(now - measured.at, 3) if measured else None,
        "topology": vitals.config.topology,
        "codec": vitals.config.gossip.codec,
        "neighbours": list(vitals.rule.neighbours(vitals.id, vitals.members.met(), vitals.names)),
        "members": [
            {
                "node": member.node,
                "name": vitals.names.get(member.node),
                "addresses": list(member.addresses),
                "status": member.status.value,
                # of the dead: it said goodbye, and did not just fall silent
                "left": member.left,
                # who never spoke to us may be made up
                "is_met": member.told != UNTOLD,
                "incarnation": member.incarnation,
                "own_steps": member.own_steps,
                "heard_ago_s": round(now - member.heard, 3),
            }
            for member in vitals.members.members()
        ],
        "others": dict(vitals.others),
        "exchanges": {"asked": dict(tally.asked), "answered": dict(tally.answered)},
        "staleness_cycles": round(tally.staleness, 4),
        "staleness_histogram": {
            # JSON has no infinity: the last bin is open
            "edges": [*STALENESS_EDGES[:-1], None],
            "counts": list(tally.staleness_counts),
        },
        "distance": tally.distance,
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
        "pending": len(state.outbox),
        "unresolved": len(state.outbox) - len(state.outbox.in_flight),
        "kept_bytes": state.inbox.nbytes,
        "faults": dict(tally.faults),
        "holding": list(vitals.holding),
        "energy_j": vitals.courtesy.energy_j,
        "trust": vitals.config.trust,
        "is_keyed": vitals.transport.authenticates,
        "suspended": vitals.reputation.suspended(now),
        "denied": sorted(vitals.denied),
        "refusals": {peer: dict(reasons) for peer, reasons in tally.by_peer.items()},
        "reports": [_report(told, now) for told in vitals.reports.newest()]
        if vitals.reports is not None
        else [],
        "swarm": _swarm(vitals.figures, now) if vitals.figures is not None else None,
    }


def _report(told: Told, now: float) -> dict[str, Any]:
    """What another node says of itself: hearsay."""
    report, ago_s = told.report, max(now - told.made, 0.0)
    return {
        "node": report.node,
        "name": report.name,
        "state": report.state,
        "incarnation": report.incarnation,
        "number": report.number,
        "told_ago_s": round(ago_s, 3),
        "age": report.age,
        "own_steps": report.own_steps,
        "cycles": report.cycles,
        "cycle_s": round(report.cycle_s, 4),
        "loss": report.loss,
        "accuracy": report.accuracy,
        "staleness": round(report.staleness, 4),
        "distance": report.distance,
        "bytes_in": report.bytes_in,
        "bytes_out": report.bytes_out,
        "recent": [
            {"peer": recent.peer, "ago_s": round(ago_s + recent.ago_s, 3)}
            for recent in report.recent
        ],
        "holding": report.holding,
    }


def _swarm(figures: SwarmFigures, now: float) -> dict[str, Any]:
    """Estimates of the whole swarm."""
    found = figures.shown(now)
    return {
        "count": found.count,
        "reporting": found.reporting,
        "mean_accuracy": found.mean_accuracy,
        "worst_tenth_accuracy": found.worst_tenth_accuracy,
        "mean_loss": found.mean_loss,
        "histogram": {
            "edges": [place / HISTOGRAM for place in range(HISTOGRAM + 1)],
            "share": list(found.shares),
        },
        "consensus_distance": found.consensus_distance,
    }
