"""A packet on its way in memory: its size on a real wire, and itself with another payload.

Rule of the file: these are asked for with the messages of every simulated node, so copies are
written out field by field, several times as fast as `dataclasses.replace`.
"""

from __future__ import annotations

from p2pfl.core import wire
from p2pfl.core.compression import Encoded
from p2pfl.core.messages import Body, Exchange, Packet, payload_of


def nbytes_of(packet: Packet) -> int:
    """How many bytes the real codec would make of it."""
    payload = payload_of(packet.body)
    return len(wire.header(packet)) + (payload.nbytes if payload is not None else 0)


def with_payload(ask: Exchange, payload: Encoded) -> Exchange:
    """The same question about another model."""
    return Exchange(
        ask.seq,
        ask.age,
        ask.own_steps,
        ask.cycle_steps,
        ask.residence_s,
        ask.lag_cycles,
        ask.weight,
        payload,
        ask.clip,
        ask.digest,
        ask.proof,
    )


def with_body(packet: Packet, body: Body) -> Packet:
    """The same packet around another body."""
    return Packet(
        packet.run,
        packet.layout,
        packet.sender,
        packet.address,
        packet.incarnation,
        body,
        packet.recipient,
        packet.refutation,
        packet.floor,
        packet.own_steps,
        packet.rumours,
        packet.statements,
        packet.denials,
        packet.reports,
        packet.figures,
    )
