"""What some attackers send besides their node's own questions, one thing each time they are asked.

    flood      exchanges that are valid, of a true model, to one victim after the other
    sybils     exchanges in the names of nodes that are not there (Douceur, IPTPS 2002)
    replays    packets that others sent us, word for word, and our own old ones

Rule of the file: nothing here waits for an answer or looks at one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from p2pfl.core.compression import encode
from p2pfl.core.messages import Exchange, Packet
from p2pfl.core.weights import Vector
from p2pfl.node import Node

if TYPE_CHECKING:
    from p2pfl.sim.hostile import Liar

_TURN_S = 5.0
"""A flood stays with one victim for so long: longer than a burst is let pass."""
_FIRST_SEQ = 1 << 40
"""Numbers that our own node never comes to."""


def flood(liar: Liar) -> None:
    """One more valid exchange, to whose turn it is."""
    node, victims = liar.node, liar.plot.insight.machines()
    if node is None or not victims:
        return
    turn = int(liar.plot.insight.now / _TURN_S) * (1 + liar.plot.members[1])
    victim = victims[(turn + _order(liar)) % len(victims)]
    packet = _question(node, liar, node.vitals.state.x, node.vitals.id)
    packet = replace(packet, recipient=victim.disk.node or "")
    liar.send(victim.address, packet)


def sybils(liar: Liar) -> None:
    """One more exchange in the next invented name: of the model that sign-flip would send."""
    node, victims = liar.node, liar.plot.insight.machines()
    if node is None or not victims:
        return
    count = max(int(liar.plot.strength), 1)
    text = f"{liar.transport.owner} {liar.number % count}"
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    liar.masks[name] = None
    victim = victims[int(liar.rng.integers(len(victims)))]
    packet = _question(node, liar, -node.vitals.state.x, name)
    liar.send(victim.address, replace(packet, recipient=victim.disk.node or ""))


def replays(liar: Liar) -> None:
    """Something that was said before: by another, to anybody; or by us, to whom we said it."""
    victims = liar.plot.insight.machines()
    if not victims:
        return
    if liar.number % 2 and liar.said:
        liar.send(*liar.said[int(liar.rng.integers(len(liar.said)))])
    elif liar.heard:
        packet = liar.heard[int(liar.rng.integers(len(liar.heard)))]
        victim = victims[int(liar.rng.integers(len(victims)))]
        liar.send(victim.address, packet)


SENT_BESIDES: Mapping[str, Callable[[Liar], None]] = {
    "flood": flood,
    "sybils": sybils,
    "replays": replays,
}


def _question(node: Node, liar: Liar, model: Vector, sender: str) -> Packet:
    vitals = node.vitals
    body = Exchange(
        seq=_FIRST_SEQ + liar.number,
        age=max(vitals.state.age, 1),
        own_steps=vitals.state.own_steps,
        cycle_steps=max(vitals.state.cycle_steps, 1),
        residence_s=0.0,
        lag_cycles=0.0,
        weight=vitals.config.gossip.weight,
        payload=encode(vitals.config.gossip.codec, np.ascontiguousarray(model), liar.rng),
    )
    is_own = sender == vitals.id
    return Packet(
        run=vitals.config.run,
        layout=vitals.layout.digest,
        sender=sender,
        address=liar.transport.address,
        incarnation=vitals.incarnation if is_own else 1,
        body=body,
        own_steps=vitals.state.own_steps,
    )


def _order(liar: Liar) -> int:
    """Which of the attackers this is."""
    return sorted(liar.plot.insight.hostile).index(liar.place)
