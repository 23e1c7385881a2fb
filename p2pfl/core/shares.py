"""How much of its model a node may promise: why exchanges that cross each other do not diverge.

An ask sets a share q of the model aside until its end is known; answering with weight c leaves
1 - c of what there was. With kappa, what is surely left of the model last spoken for, and Q, all
that is set aside, every exchange keeps kappa (1 - c) >= Q. Then each model stays a convex
combination of (possibly old) models, which converges for any bounded delay (Tsitsiklis, Bertsekas,
Athans: Distributed asynchronous optimization, IEEE TAC 31(9), 1986).

Rule of the file: accounts only; what is unresolved is not in them, because its flow comes late and
once, which disturbs but cannot feed back, and a dead peer must not hold the node up.
"""

from __future__ import annotations

LEAST_WEIGHT = 0.05
"""An exchange with less weight than this is not worth its bytes: BUSY instead."""


class Shares:
    """The account of one node; `weight` is c0, the most that one exchange takes."""

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._left = 1.0

    def none_in_flight(self) -> None:
        """Nobody was promised anything: the account begins anew."""
        self._left = 1.0

    def to_ask_with(self, set_aside: float) -> float:
        """q of the next ask, 0 if it would not be worth it.

        At most half of what is free: if all asked with all they have, all would be BUSY for all,
        and nothing would ever mix.

        Args:
            set_aside: Q.
        """
        free = (self._left - set_aside) / 2
        return min(self._weight, free) if free >= min(self._weight, LEAST_WEIGHT) else 0.0

    def to_answer_with(self, set_aside: float) -> float:
        """The largest weight an answer may have now, 0 if it would not be worth it."""
        most = 1 - set_aside / self._left if self._left > set_aside else 0.0
        return most if most >= LEAST_WEIGHT else 0.0

    def answered(self, weight: float) -> None:
        """An answer with this weight left less of our model."""
        self._left *= 1 - weight

    def settled(self, weight: float) -> None:
        """An ask was settled with this weight."""
        self._left = max(self._left - weight, 0.0)
