"""What a node measures of its peers' answers, by its own clock.

Round-trip estimation as TCP does it: RFC 6298. Rule of the file: averages only, bounded, because
strangers choose the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_SMOOTHING = 0.2
"""Share of a new measurement in a moving average: about the last ten count."""

_MISSES_MAX = 4
_MEDIAN_KEPT = 32
"""So many questions are answered with one median of all peers: to sort them costs."""


def smoothed(mean: float, value: float) -> float:
    """Exponential moving average whose first value is the first measurement."""
    return value if mean == 0 else mean + _SMOOTHING * (value - mean)


@dataclass(slots=True)
class Pulse:
    """How long answers take: mean and deviation.

    Attributes:
        misses: answers in a row that did not come.
    """

    mean_s: float = 0.0
    deviation_s: float = 0.0
    misses: int = 0

    def came(self, seconds: float) -> None:
        """An answer came after `seconds`."""
        if self.mean_s == 0:
            self.deviation_s = seconds / 2
        else:
            self.deviation_s = smoothed(self.deviation_s, abs(seconds - self.mean_s))
        self.mean_s = smoothed(self.mean_s, seconds)
        self.misses = 0

    def missed(self) -> None:
        """No answer came in time."""
        self.misses = min(self.misses + 1, _MISSES_MAX)

    def patience_s(self) -> float:
        """How long to wait for the next one; 0 while nothing is known.

        Where it is known how long answers take, one that does not come is lost rather than late:
        to wait ever longer would leave a lossy link idle (30 % loss, 20 nodes: accuracy 0.90 with
        doubling four times, 0.95 with once).
        """
        longest_usual = max(4 * self.mean_s, self.mean_s + 4 * self.deviation_s)
        return longest_usual * (2.0 if self.misses else 1.0)


@dataclass(slots=True)
class PeerMeter:
    """Moving averages of one peer.

    Attributes:
        small: answers to small messages: the round trip.
        whole: answers to whole exchanges, payload included.
        lag_cycles: own cycles that passed between asking it and applying its answer.
    """

    small: Pulse = field(default_factory=Pulse)
    whole: Pulse = field(default_factory=Pulse)
    lag_cycles: float = 0.0


class Meters:
    """The meters of up to `limit` peers; the one known longest is forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._meters: dict[str, PeerMeter] = {}
        self._median_s, self._looks = 0.0, 0

    def of(self, peer: str) -> PeerMeter:
        """The peer's meter, a new one if there is none."""
        meter = self._meters.get(peer)
        if meter is None:
            if len(self._meters) >= self._limit:
                del self._meters[next(iter(self._meters))]
            meter = self._meters[peer] = PeerMeter()
        return meter

    def usual_s(self) -> float:
        """How long the median peer takes to answer an exchange; 0 while nothing is known."""
        if self._looks == 0 or self._median_s == 0:
            means = sorted([m.whole.mean_s for m in self._meters.values() if m.whole.mean_s > 0])
            self._median_s = means[(len(means) - 1) // 2] if means else 0.0
        self._looks = (self._looks + 1) % _MEDIAN_KEPT
        return self._median_s

    def slowness(self, peer: str) -> float:
        """How many times as long as the median peer one takes to answer an exchange; or 1."""
        known, usual_s = self._meters.get(peer), self.usual_s()
        if known is None or known.whole.mean_s == 0 or usual_s == 0:
            return 1.0
        return max(known.whole.mean_s / usual_s, 1.0)

    def patience_s(self, peer: str, *, whole: bool) -> float:
        """How long an answer of `peer` may take, judged by other peers while it is new; or 0."""
        known = self._meters.get(peer) or PeerMeter()
        mine = known.whole if whole else known.small
        if mine.mean_s > 0:
            # a whole exchange takes no less than a round trip, however lucky the first one was
            return max(mine.patience_s(), known.small.patience_s())
        pulses = [meter.whole if whole else meter.small for meter in self._meters.values()]
        return max((pulse.patience_s() for pulse in pulses), default=0.0) * 2.0**mine.misses
