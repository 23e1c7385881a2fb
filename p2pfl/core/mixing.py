"""The staleness-aware averaging of two models, and how far a swarm is from agreeing.

One exchange moves one *flow* f = c (v - x): the answerer adds it, the asker subtracts exactly the
same decoded values, so the sum of the two models does not change, whatever the weight, clip or
codec (AD-PSGD's pairwise averaging, Lian et al., ICML 2018, arXiv:1710.06952; staleness functions
of FedAsync, Xie et al. 2019, arXiv:1903.03934, section 5.2).

Rule of the file: functions on vectors; a large vector is handled in pieces, and a piece that was
begun is finished. Every invariant holds coordinate by coordinate, so what happens between two
pieces can do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.compression import CODECS, Encoded
from p2pfl.core.weights import Vector, pieces

STALENESS_MAX = 1e6
"""Cycles; beyond it a model is as old as can be."""


def staleness(
    *,
    version_lag_steps: int,
    cycle_steps: int,
    lag_cycles: float,
    rested_s: float,
    round_trip_s: float,
    cycle_s: float,
) -> float:
    """How old a received model is, in cycles: the largest of four local measurements.

    No clock of one node is compared with another's (PROTOCOL section 5).

    Args:
        version_lag_steps: newest own-step count known of the sender minus the message's.
        cycle_steps: the sender's K, >= 1.
        lag_cycles: own cycles the sender expects to take before it applies the answer.
        rested_s: time the data lay at its holders, each by its own clock.
        round_trip_s: mean round trip to the sender.
        cycle_s: the receiver's own mean cycle time; 0 while it has none.

    Returns:
        At most `STALENESS_MAX`: the sender chooses some of these numbers, and means are made of it.
    """
    ages = [max(version_lag_steps, 0) / max(cycle_steps, 1), lag_cycles]
    if cycle_s > 0:
        ages += [rested_s / cycle_s, round_trip_s / cycle_s]
    return min(max(ages), STALENESS_MAX)


def mixing_weight(tau: float, *, weight: float, fresh_cycles: float, exponent: float) -> float:
    """c = c0 s(tau), with s = 1 up to `fresh_cycles` and tau^-exponent beyond."""
    if tau <= fresh_cycles:
        return weight
    return float(weight * (tau / fresh_cycles) ** -exponent)


class FlowNorm:
    """Collects |f|^2 over the pieces of a flow, and stops it where it becomes too large.

    Args:
        most: l2 norm beyond which no further piece flows.

    Attributes:
        is_cut: it was stopped.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.squared = 0.0
        self.is_cut = False
        self._most_squared = most * most

    def takes(self, size_squared: float) -> bool:
        """Count one more piece, if the flow may have it."""
        if self.squared + size_squared > self._most_squared:
            self.is_cut = True
            return False
        self.squared += size_squared
        return True

    @property
    def norm(self) -> float:
        """l2 norm of the flow so far."""
        return float(np.sqrt(self.squared))


def squared(values: Vector) -> float:
    """|values|^2 of (n,) float32, infinite where the square of a huge one overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.dot(values, values))


def flow_in(
    x: Vector, received: Encoded, weight: float, rng: np.random.Generator, norm: FlowNorm
) -> Iterator[None]:
    """Mix a received model into `x`, and turn the received bytes into the flow's bytes.

    The answer is written over the question, so an exchange costs no second buffer. The first step
    begins; each further one needs only the next piece of `received` to be there. Closed early, or
    stopped by `norm`, what was not reached does not flow: its bytes become those of zero.

    Args:
        x: (d,) float32, changed in place.
        received: the other's model of d values, finite; becomes the encoded flow.
        weight: c.
        rng: for codecs that round by chance.
        norm: collects the size of the flow.
    """
    codec, reached = CODECS[received.codec], 0
    try:
        yield
        for at in pieces(x.size):
            data, size = received.piece(at), at.stop - at.start
            flow = codec.decode(data, size)
            with np.errstate(over="ignore", invalid="ignore"):
                flow -= x[at]
                flow *= np.float32(weight)
                size_squared = float(np.dot(flow, flow))
                if not math.isfinite(size_squared):
                    # what overflows, or is not a number here, does not flow: the other end is whole
                    np.nan_to_num(flow, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
                    size_squared = float(np.dot(flow, flow))
                if not norm.takes(size_squared):
                    return
                if not codec.in_place:
                    codec.encode(flow, rng, data)
                    flow = codec.decode(data, size)
                x[at] += flow
            reached = at.stop
            yield
    finally:
        if reached < x.size:
            received.data[codec.nbytes(reached) :] = 0


def flow_out(x: Vector, flow: Encoded, norm: FlowNorm, begin: int = 0) -> Iterator[int]:
    """Subtract from `x`, (d,) float32, exactly what the answerer added.

    The first step begins; each further one needs only the next piece of `flow` to be there, and
    gives how many values are done. Stopped by `norm`, all are: what is beyond belief is not
    subtracted, whatever the other end did.

    Args:
        x: changed in place.
        flow: of d values.
        norm: collects the size of the flow.
        begin: values that were done before, when the answer broke off.
    """
    yield begin
    for at in pieces(x.size):
        if at.stop > begin:
            values = flow.values(at)
            with np.errstate(over="ignore", invalid="ignore"):
                if not norm.takes(float(np.dot(values, values))):
                    yield x.size
                    return
                x[at] -= values
            yield at.stop


def copy_in(x: Vector, model: Encoded) -> Iterator[None]:
    """Adopt: overwrite `x`, (d,) float32, with a received model."""
    for at in pieces(x.size):
        x[at] = model.values(at)
        yield


def add_in(x: Vector, delta: Vector) -> Iterator[None]:
    """Add a training update to `x`: both (d,) float32."""
    for at in pieces(x.size):
        x[at] += delta[at]
        yield


def consensus_distance(stack: NDArray[np.float32]) -> float:
    """Ξ, root of the mean squared distance to the mean model; `stack` is (n, d)."""
    wide = stack.astype(np.float64)
    wide -= wide.mean(axis=0)
    return float(np.sqrt((wide * wide).sum(axis=1).mean()))
