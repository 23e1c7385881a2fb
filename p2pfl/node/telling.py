"""What a node tells of itself and of the swarm: it rides on what is said anyway.

    packed    reports (core/reports.py), ours among them, and what the averages of the swarm need
              (core/figures.py)
    heard     the same, of members only: a report says whatever its author, or whoever passed it
              on, likes

Rule of the file: nothing here decides what the node does. Where `figures.enabled` is off, nothing
is told, and nothing that others tell is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pfl.core.messages import (
    AGE_MAX,
    LOSS_MAX,
    Adopted,
    Body,
    Figures,
    Packet,
    Recent,
    Report,
    Request,
    payload_of,
)

if TYPE_CHECKING:
    from p2pfl.node.vitals import Vitals

_NAME, _HOLDING = 64, 160
_RECENT = 3


def state_of(vitals: Vitals) -> str:
    """What the node is doing, in a word."""
    if vitals.leaving:
        return "leaving"
    if vitals.holding and not vitals.courtesy.only_slows:
        return "holding"
    if vitals.cycles == 0:
        return "starting"
    is_alone = len(set(vitals.members.alive()) & set(vitals.members.met())) == 1
    return "alone" if is_alone else "training"


def ride(vitals: Vitals, body: Body, to: str) -> tuple[tuple[Report, ...], Figures | None]:
    """What rides on a packet with `body` to the member `to`."""
    reports, figures = vitals.reports, vitals.figures
    if reports is None or figures is None:
        return (), None
    now = vitals.clock()
    _look_around(vitals)
    if reports.is_due(now):
        reports.renew(_of_me(vitals, reports.number + 1, now), now)
    told = None
    if _keeps_averages_with(vitals, to):
        told = figures.tell(to, now, answers=not isinstance(body, Request))
    return reports.ride(to, now), told


def take_in(vitals: Vitals, packet: Packet, now: float) -> None:
    """Hear what rides on a member's packet."""
    reports, figures, sender = vitals.reports, vitals.figures, packet.sender
    if reports is None or figures is None:
        return
    _look_around(vitals)
    if packet.reports:
        reports.hear(packet.reports, sender, now)
    # what a relay brings, or what was meant for whoever lived here before, is between others
    if packet.recipient == vitals.id:
        told = packet.figures if _keeps_averages_with(vitals, sender) else None
        before = figures.tick
        figures.hear(sender, packet.incarnation, told, now)
        if figures.tick != before:
            vitals.ticked.set()


def exchanged(vitals: Vitals, peer: str, answer: Body | None) -> None:
    """Note that an exchange with a peer came to something, for our report."""
    if vitals.reports is None or (payload_of(answer) is None and not isinstance(answer, Adopted)):
        return
    vitals.recent.pop(peer, None)
    if len(vitals.recent) >= _RECENT:
        del vitals.recent[next(iter(vitals.recent))]
    vitals.recent[peer] = vitals.clock()


def _keeps_averages_with(vitals: Vitals, peer: str) -> bool:
    return peer in vitals.acquainted and not vitals.keeps_away_from(peer)


def _look_around(vitals: Vitals) -> None:
    """Take note of who is there, where that changed: membership keeps its tuples until it does."""
    live, met = vitals.members.live(), vitals.members.met()
    if live is not vitals.seen_live and vitals.reports is not None and vitals.figures is not None:
        vitals.seen_live = live
        vitals.reports.keep(frozenset(live))
    if met is not vitals.seen_met and vitals.figures is not None:
        vitals.seen_met, vitals.acquainted = met, frozenset(met)
        vitals.figures.keep(vitals.acquainted)
        # of those met: somebody who was only heard of may be made up, and would make no ticks
        vitals.figures.count_as_first(met[0] == vitals.id)


def _of_me(vitals: Vitals, number: int, now: float) -> Report:
    """Our own report; a value that others would refuse is left out."""
    state, tally, traffic = vitals.state, vitals.tally, vitals.transport.traffic
    measured = vitals.measured
    return Report(
        node=vitals.id,
        incarnation=vitals.incarnation,
        number=number,
        ago_s=0.0,
        name=_label(vitals.config.name, _NAME),
        state=state_of(vitals),
        age=min(state.age, AGE_MAX),
        own_steps=state.own_steps,
        cycles=vitals.cycles,
        cycle_s=_finite(state.cycle_s) or 0.0,
        loss=_within(vitals.loss, -LOSS_MAX, LOSS_MAX),
        accuracy=_within(measured.accuracy, 0.0, 1.0) if measured is not None else None,
        staleness=_finite(tally.staleness) or 0.0,
        distance=_finite(tally.distance) if any(tally.staleness_counts) else None,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        recent=tuple(
            [Recent(peer, max(now - at, 0.0)) for peer, at in reversed(vitals.recent.items())]
        ),
        holding=_label("; ".join(vitals.holding), _HOLDING),
    )


def _within(value: float | None, least: float, most: float) -> float | None:
    return float(value) if value is not None and least <= value <= most else None


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _label(text: str, longest: int) -> str:
    """As much of a text as others take, of what can be shown."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])
