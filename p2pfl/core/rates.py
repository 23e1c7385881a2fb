"""How much of our time one peer may take: a token bucket for each.

Rule of the file: bounded, because strangers choose the keys; time is `now`.
"""

from __future__ import annotations


class Rates:
    """Token buckets by key: `per_s` sustained, twice as many (and one at least) in a burst.

    Args:
        per_s: sustained requests of one key a second.
        limit: keys told apart; beyond it the one that was quiet longest starts afresh.
    """

    def __init__(self, per_s: float, limit: int) -> None:
        self._per_s = per_s
        self._limit = limit
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, key: str, now: float) -> bool:
        """Take one token of `key`, if there is one."""
        burst = max(2 * self._per_s, 1.0)
        tokens, since = self._buckets.pop(key, (burst, now))
        tokens = min(tokens + (now - since) * self._per_s, burst)
        allowed = tokens >= 1
        if len(self._buckets) >= self._limit:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        return allowed
