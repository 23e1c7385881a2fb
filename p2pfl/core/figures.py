"""Figures of the whole swarm without a server: averages that every node holds an estimate of.

    a node's own vector   v              what it contributes to the averages (see below)
    per partner k         out[k], in[k]  what we gave k in all, and what k gave us in all
    our estimate          s = v - sum of out[k] + sum of in[k]

    a question to k       out[k], and s as an offer        unless an offer is under way already
    its answer            out[i] += c (s - offered),  c = 1/2;  then out[i]

This is Flow Updating (Jesus, Baquero & Almeida, DAIS 2009, arXiv:1006.4235) with the two flows of a
pair kept apart, as in mass distribution with flow updating (Almeida, Baquero, Farach-Colton, Jesus
& Mosteiro, OPODIS 2011, arXiv:1109.4373): the member of the push-sum family that needs neither
epochs nor reliable messages. A message tells what was given in all, not what is given now. So a
lost one is made good by the next one; one that comes twice or too late is known by its number;
messages that cross disturb nothing; and when a partner is gone, what was given and got is simply
forgotten, which gives it back. The mean of all estimates is therefore the mean of v over those who
are there, but for messages under way.

Only an answer moves anything, because what it has just heard is fresh; and a node has one offer
under way, for half of its estimate. While it has, it gives others at most a quarter, and no more
than is left: these are the shares of PROTOCOL section 4, and for the same reason. Without them
averages swing ever wider where answers take longer than the pause between questions.

    v[ONE]                   1 if we have the smallest id of the live, else 0: the mean is 1/n
    v[KNOWN]                 1 if we have an accuracy
    v[LOSS], v[HAS_LOSS]     our loss, and 1 if there is one
    v[BINS], v[MASS]         20 bins of accuracy: 1, and our accuracy, in the bin that holds it
    v[HAS_SKETCH], v[SKETCH] 1, and a sketch of our weights, if there is one (core/sketch.py)
    v[HAS_SQUARED], v[SQUARED]  1, and the squared distance of our sketch from the mean of all,
                             taken once that had time to become known

Rules of the file: what was given is float32, which is what travels, so both ends hold exactly the
same. All of it is an estimate, and one liar can spoil it: what strangers say is clamped to what can
be, and no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.messages import FIGURES, Figures
from p2pfl.core.meters import smoothed
from p2pfl.core.sketch import BUCKETS
from p2pfl.core.weights import Vector

Floats: TypeAlias = NDArray[np.float64]

HISTOGRAM = 20
"""Bins of equal width from accuracy 0 to 1."""
ONE, KNOWN, LOSS, HAS_LOSS = range(4)
BINS = slice(4, 4 + HISTOGRAM)
MASS = slice(BINS.stop, BINS.stop + HISTOGRAM)
HAS_SKETCH = MASS.stop
SKETCH = slice(HAS_SKETCH + 1, HAS_SKETCH + 1 + BUCKETS)
HAS_SQUARED = SKETCH.stop
SQUARED = HAS_SQUARED + 1
SIZE = SQUARED + 1
assert SIZE == FIGURES

_LOSS_MOST = _SKETCH_MOST = 1e6
_HIGH = np.ones(SIZE, np.float32)
_HIGH[LOSS], _HIGH[SKETCH], _HIGH[SQUARED] = _LOSS_MOST, _SKETCH_MOST, BUCKETS * _SKETCH_MOST**2
_LOW = np.zeros(SIZE, np.float32)
_LOW[LOSS], _LOW[SKETCH] = -_LOSS_MOST, -_SKETCH_MOST
_FLOW_MOST = 1024 * _HIGH
"""What one gives another in all is at most what so many nodes have."""

_BUSY_WEIGHT, _WEIGHT_LEAST = 0.25, 0.05
_FIRST_PATIENCE_S, _PATIENCE_LEAST_S, _PATIENCE_MOST_S = 2.0, 0.2, 30.0
"""An offer that is not answered within four times the usual was lost, and another one is made."""
_SILENT_S = 300.0
"""A partner that said nothing for so long makes room for another."""
_TICKS_AHEAD = 1 << 20
"""Whoever follows ticks already believes none that is farther ahead."""
_TICK_MOST = 1 << 62
_SETTLING_S, _SHOWN_S = 8.0, 30.0
"""Since partners came or went, until estimates are shown again; and for how long old ones are."""
_SHARE_LEAST = 1e-3
_COUNT_MOST = 1e5


@dataclass(slots=True)
class _Partner:
    """One pair.

    Attributes:
        row: of the tables of what was given and got.
        at: when it spoke last.
        heard: (incarnation, number) of its newest message.
        offered: its estimate, as it offers it in that message; None if it does not, or once that
            was answered.
        answered: number of its newest offer that was answered.
    """

    row: int
    at: float
    heard: tuple[int, int] = (-1, -1)
    offered: Vector | None = None
    answered: int = 0


@dataclass(frozen=True, slots=True)
class _Offer:
    """Our estimate is under way to a partner, in a message of that number."""

    to: str
    number: int
    at: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a node thinks of the whole swarm.

    Attributes:
        count: nodes; None while nobody seems to have the smallest id, because the one that has it
            has just died, or tells nothing.
        reporting: share of them, 0 to 1, that have an accuracy.
        mean_accuracy, worst_tenth_accuracy: over those; the latter over the worst tenth of them, at
            least one; exact but for the last bin that is needed, of which all count alike.
        mean_loss: over those that have a loss.
        shares: (20) of those that have an accuracy, in each bin of it.
        consensus_distance: root of the mean squared distance of a model from the mean of all
            (PROTOCOL section 2), by sketches that all make at the same moment, or nearly: as soon
            as they hear of a tick. While models move fast it is also how far they move meanwhile.
            Of the tick before the newest one, so some seconds old; None until there were two.
    """

    count: float | None
    reporting: float
    mean_accuracy: float | None
    worst_tenth_accuracy: float | None
    mean_loss: float | None
    shares: tuple[float, ...]
    consensus_distance: float | None


class SwarmFigures:
    """One node's part in the averages.

    Args:
        partners: pairs that are kept. Whoever comes beyond is not told anything, which tells it
            that it is no partner; so a pair is never forgotten at one end only for long. In a large
            swarm these few are still a random graph, through which everything spreads.

    Attributes:
        tick: the newest moment, of those we heard of, at which all sketch their weights: models
            move farther in a second than they are apart, so sketches of different moments tell
            nothing. Whoever counts as first makes ticks; they ride on every message.
    """

    def __init__(self, partners: int) -> None:
        self.tick = 0
        self._value: Floats = np.zeros(SIZE)
        self._given = np.zeros((partners, SIZE), np.float32)
        self._got = np.zeros((partners, SIZE), np.float32)
        self._net: Floats = np.zeros(SIZE)
        self._free = list(range(partners))[::-1]
        self._partners: dict[str, _Partner] = {}
        self._number = 0
        self._offer: _Offer | None = None
        self._left = 1.0
        self._usual_s = 0.0
        self._has_changed = False
        self._changed_at = -math.inf
        self._settled: tuple[float, Estimates] | None = None
        self._distance: float | None = None

    def __len__(self) -> int:
        return len(self._partners)

    # --- what we contribute -----------------------------------------------------------------------

    @property
    def is_first(self) -> bool:
        """Whether it is ours to say when all sketch their weights."""
        return bool(self._value[ONE])

    def make_tick(self) -> None:
        """Say that now is the moment."""
        self.tick = self.tick + 1 if self.tick < _TICK_MOST else 1

    def miss_ticks(self) -> None:
        """None came for long, so what we follow may be a liar's: take whatever comes next."""
        self.tick = 0

    def count_as_first(self, is_first: bool) -> None:
        """Whether our id is the smallest of the live ones that we know."""
        self._value[ONE] = float(is_first)

    def measured(self, accuracy: float | None, loss: float | None) -> None:
        """Our newest figures; what is not finite is as if it were not there.

        Args:
            accuracy: from 0 to 1, as in the bins; what is outside counts as the nearer end.
            loss: any number.
        """
        value = self._value
        value[KNOWN:HAS_SKETCH] = 0.0
        if accuracy is not None and math.isfinite(accuracy):
            accuracy = min(max(accuracy, 0.0), 1.0)
            place = min(int(accuracy * HISTOGRAM), HISTOGRAM - 1)
            value[KNOWN] = value[BINS.start + place] = 1.0
            value[MASS.start + place] = accuracy
        if loss is not None and math.isfinite(loss):
            value[LOSS], value[HAS_LOSS] = min(max(loss, -_LOSS_MOST), _LOSS_MOST), 1.0

    def moved(self, sketch: Floats) -> None:
        """Where our weights are at this tick, (BUCKETS,); not finite is as if it were not there.

        What the distances of the tick before came to is read now, and shown until the next one:
        all had the time since to agree on it, and soon everybody's next distance stirs it up.
        """
        value, own = self._value, self.averages()
        if own[HAS_SQUARED] > _SHARE_LEAST and own[SQUARED] >= 0:
            self._distance = math.sqrt(own[SQUARED] / own[HAS_SQUARED])
        value[HAS_SKETCH:HAS_SQUARED] = 0.0
        if np.isfinite(sketch).all():
            value[HAS_SKETCH] = 1.0
            value[SKETCH] = np.clip(sketch, -_SKETCH_MOST, _SKETCH_MOST)
        else:
            value[HAS_SQUARED:] = 0.0

    def compare(self) -> None:
        """See how far our sketch is from the mean: between two ticks, when nobody moves."""
        value, own = self._value, self.averages()
        if value[HAS_SKETCH] and own[HAS_SKETCH] > _SHARE_LEAST:
            off = value[SKETCH] - own[SKETCH] / own[HAS_SKETCH]
            value[HAS_SQUARED] = 1.0
            value[SQUARED] = min(float(off @ off), float(_HIGH[SQUARED]))

    # --- partners ---------------------------------------------------------------------------------

    def keep(self, members: Container[str]) -> None:
        """Forget all partners but these; what they were given comes back."""
        for node in [node for node in self._partners if node not in members]:
            self._forget(node)

    def tell(self, node: str, now: float, *, answers: bool) -> Figures | None:
        """What to say to a member; None says that it is no partner.

        Args:
            node: a member that was met.
            now: seconds.
            answers: whether it has just asked us something.
        """
        partner = self._partners.get(node)
        if partner is None:
            # nothing is given before it answers: it may have no room for us
            partner = None if answers else self._admit(node, now)
            if partner is None:
                return None
        self._number += 1
        self._give_up_offer(now)
        estimate = b""
        if answers:
            if partner.offered is not None:
                self._give(partner, partner.offered)
        elif self._offer is None:
            self._offer, self._left = _Offer(node, self._number, now), 1.0
            estimate = self.averages().astype("<f4").tobytes()
        given = self._given[partner.row].astype("<f4", copy=False).tobytes()
        return Figures(self._number, partner.answered, given, estimate, self.tick)

    def hear(self, node: str, incarnation: int, figures: Figures | None, now: float) -> None:
        """Take in what a member told us, meant for us; it was met.

        What is older than what we heard changes nothing.
        """
        partner = self._partners.get(node)
        if figures is not None and figures.tick <= _TICK_MOST:
            ahead = figures.tick - self.tick
            if ahead > 0 and (self.tick == 0 or ahead <= _TICKS_AHEAD):
                self.tick = figures.tick
        if figures is None:
            if partner is not None:
                self._forget(node)
            return
        order = (incarnation, figures.number)
        if partner is not None and order <= partner.heard:
            return
        if partner is None:
            partner = self._admit(node, now)
            if partner is None:
                return
        got = np.frombuffer(figures.given, "<f4").astype(np.float32)
        np.minimum(np.maximum(got, -_FLOW_MOST, out=got), _FLOW_MOST, out=got)
        before = self._got[partner.row]
        self._net += got.astype(np.float64) - before
        before[:] = got
        partner.offered = None
        if figures.estimate:
            offered = np.frombuffer(figures.estimate, "<f4").astype(np.float32)
            partner.offered = np.minimum(np.maximum(offered, _LOW, out=offered), _HIGH, out=offered)
        if incarnation != partner.heard[0]:
            partner.answered = 0
        partner.heard, partner.at = order, now
        self._partners[node] = self._partners.pop(node)  # who spoke last stands last
        offer = self._offer
        if offer is not None and offer.to == node and figures.answered >= offer.number:
            self._offer, self._usual_s = None, smoothed(self._usual_s, now - offer.at)

    def exchanged_with(self, node: str) -> tuple[Vector, Vector] | None:
        """(SIZE,) each: what we gave a partner in all, and got of it; None if it is none."""
        partner = self._partners.get(node)
        if partner is None:
            return None
        return self._given[partner.row].copy(), self._got[partner.row].copy()

    def _give(self, partner: _Partner, offered: Vector) -> None:
        """Answer an offer: meet in the middle, as far as our estimate is not spoken for."""
        partner.offered, partner.answered = None, partner.heard[1]
        weight = 0.5 if self._offer is None else min(_BUSY_WEIGHT, 1 - 0.5 / self._left)
        if weight < _WEIGHT_LEAST:
            return
        self._left *= 1 - weight
        before = self._given[partner.row]
        given = (before + weight * (self.averages() - offered)).astype(np.float32)
        np.minimum(np.maximum(given, -_FLOW_MOST, out=given), _FLOW_MOST, out=given)
        self._net -= given.astype(np.float64) - before
        before[:] = given

    def _give_up_offer(self, now: float) -> None:
        """An offer whose answer was lost does not keep us from making another one."""
        usual_s = 4 * self._usual_s if self._usual_s else _FIRST_PATIENCE_S
        patience_s = min(max(usual_s, _PATIENCE_LEAST_S), _PATIENCE_MOST_S)
        if self._offer is not None and now - self._offer.at > patience_s:
            self._offer = None

    def _admit(self, node: str, now: float) -> _Partner | None:
        if not self._free:
            longest_silent = next(iter(self._partners))
            if now - self._partners[longest_silent].at < _SILENT_S:
                return None
            self._forget(longest_silent)
        partner = self._partners[node] = _Partner(self._free.pop(), now)
        self._has_changed = True
        return partner

    def _forget(self, node: str) -> None:
        row = self._partners.pop(node).row
        self._given[row] = self._got[row] = 0.0
        self._free.append(row)
        self._has_changed = True
        if self._offer is not None and self._offer.to == node:
            self._offer = None
        # anew, so that what a liar gave leaves no rounding behind
        self._net = (self._got - self._given.astype(np.float64)).sum(axis=0)

    # --- estimates --------------------------------------------------------------------------------

    def averages(self) -> Floats:
        """(SIZE,) float64: our estimate of the mean of everybody's vector."""
        return self._value + self._net

    def shown(self, now: float) -> Estimates:
        """The estimates for people: while partners come and go they swing, and the last quiet ones
        stand for a while."""
        if self._has_changed:
            self._changed_at, self._has_changed = now, False
        if now - self._changed_at < _SETTLING_S and self._settled is not None:
            at, settled = self._settled
            if now - at < _SHOWN_S:
                return settled
        found = self.estimates()
        if now - self._changed_at >= _SETTLING_S:
            self._settled = now, found
        return found

    def estimates(self) -> Estimates:
        """The averages in people's words, as they are this moment."""
        own = self.averages()
        known, bins, mass = own[KNOWN], np.maximum(own[BINS], 0.0), own[MASS]
        count = max(float(1 / own[ONE]), 1.0) if own[ONE] > 1 / _COUNT_MOST else None
        in_all = float(bins.sum())
        mean, worst, shares = None, None, (0.0,) * HISTOGRAM
        if known > _SHARE_LEAST and in_all > _SHARE_LEAST:
            mean = _clamped(mass.sum() / known)
            # of ten, one is the worst tenth
            worst = _clamped(_worst_tenth(bins, mass, (count or 10.0) * in_all))
            shares = tuple((bins / in_all).tolist())
        return Estimates(
            count=count,
            reporting=_clamped(known),
            mean_accuracy=mean,
            worst_tenth_accuracy=worst,
            mean_loss=float(own[LOSS] / own[HAS_LOSS]) if own[HAS_LOSS] > _SHARE_LEAST else None,
            shares=shares,
            consensus_distance=self._distance,
        )


def _clamped(share: float) -> float:
    return float(min(max(share, 0.0), 1.0))


def _worst_tenth(bins: Floats, mass: Floats, nodes: float) -> float:
    """Mean accuracy of the worst tenth, at least one, of about so many nodes.

    Args:
        bins: (HISTOGRAM,) share of all nodes in each bin, >= 0.
        mass: (HISTOGRAM,) the same times the accuracy of these.
        nodes: that have an accuracy.
    """
    reporting = max(round(nodes), 1)
    wanted = max(1, round(reporting / 10)) / reporting * float(bins.sum())
    before = np.concatenate(([0.0], np.cumsum(bins)[:-1]))
    taken = np.clip(wanted - before, 0.0, bins)
    parts = np.divide(taken, bins, out=np.zeros_like(bins), where=bins > 0)
    return float((parts * mass).sum() / wanted)
