"""What a node tells people and tools: `/v1/status`, plain JSON values.

Rule of the file: reading only; every key says its unit; ids are whole, names are labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import p2pfl

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
        "state": _state(vitals),
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
                "incarnation": member.incarnation,
                "own_steps": member.own_steps,
                "heard_ago_s": round(now - member.heard, 3),
            }
            for member in vitals.members.members()
        ],
        "others": dict(vitals.others),
        "exchanges": {"asked": dict(tally.asked), "answered": dict(tally.answered)},
        "staleness_cycles": round(tally.staleness, 4),
        "distance": tally.distance,
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
        "pending": len(state.outbox),
        "unresolved": len(state.outbox) - len(state.outbox.in_flight),
        "kept_bytes": state.inbox.nbytes,
        "faults": dict(tally.faults),
        "trust": vitals.config.trust,
        "is_keyed": vitals.transport.authenticates,
        "suspended": vitals.reputation.suspended(now),
        "denied": sorted(vitals.denied),
        "refusals": {peer: dict(reasons) for peer, reasons in tally.by_peer.items()},
    }


def _state(vitals: Vitals) -> str:
    if vitals.leaving:
        return "leaving"
    if vitals.cycles == 0:
        return "starting"
    return "training" if len(vitals.members.alive()) > 1 else "alone"
