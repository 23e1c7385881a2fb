"""What the network was like: latency from round trips, loss from those that never came back.

    Exchanged.seconds               half of a low quantile is the latency, and an upper bound of it:
                                    transfer and processing are in it
    Exchanged.outcome timeout       p of those whose peer was up; a message is lost with
                                    probability q where p = 1 - (1 - q)^2

Rule of the file: pure functions of what nodes saw; an estimate carries its evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from p2pfl.scenario.recording.evidence import Estimate, Seen, median
from p2pfl.scenario.recording.text import short

_LOW = 0.05
_RTT_MIN = 3


def network(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    """What the network was like for all: its latency, and how much it lost."""
    found: dict[str, Estimate] = {}
    own = _latencies(nodes)
    if own:
        count = sum(len(trips) for node in nodes for trips in node.trips.values())
        typical = 1000 * median([t for n in nodes for of in n.trips.values() for t in of])
        why = (
            f"half of the 5% quantile of {count:,} round trips (median {typical:.3g} ms); "
            "an upper bound, transfer and processing are in it"
        )
        found["network.latency_s"] = Estimate(short(median(list(own.values()))), why)
    asked, lost = sum(n.asked for n in nodes), sum(n.losses for n in nodes)
    if asked:
        share = lost / asked
        why = f"{lost:,} of {asked:,} exchanges were not answered in time though the peer was up"
        if lost:
            why += "; an overloaded peer looks the same"
        probability = min(1 - math.sqrt(1 - share), 0.99)
        found["network.loss_probability"] = Estimate(short(probability), why)
    return found


def _latencies(nodes: Sequence[Seen]) -> dict[str, float]:
    """Of each node's connection: half the low quantile with the peer that it reaches fastest.

    A way is as slow as the slower of its two ends (`sim.network`), so the best peer tells most
    about oneself.
    """
    names_by_id = {node_id: node.name for node in nodes for node_id in node.ids}
    trips: dict[frozenset[str], list[float]] = {}
    for node in nodes:
        for peer, seconds in node.trips.items():
            trips.setdefault(frozenset((node.name, names_by_id.get(peer, peer))), []).extend(
                seconds
            )
    enough = {pair: of for pair, of in trips.items() if len(of) >= _RTT_MIN} or trips
    best: dict[str, float] = {}
    for pair, seconds in enough.items():
        one_way = float(np.quantile(seconds, _LOW)) / 2
        for name in pair:
            best[name] = min(best.get(name, math.inf), one_way)
    return {node.name: best[node.name] for node in nodes if node.name in best}


def slow(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    """Latency of the nodes that are much farther away than most, by name."""
    own = _latencies(nodes)
    usual = median(list(own.values()))
    return {
        name: Estimate(short(latency), "with the peer that it reaches fastest")
        for name, latency in own.items()
        if latency > max(2 * usual, usual + 0.002)
    }
