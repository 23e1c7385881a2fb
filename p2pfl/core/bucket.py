"""What one node may take of the LAN: a token bucket that may go into debt, and a promise.

    counted     what has moved, told as a running total; it can only be paid for afterwards
    promised    what an exchange that begins now is going to move (a virtual clock, as in the
                generic cell rate algorithm, ITU-T I.371): the next one begins when that is through

Without the promise all that wants to begin would begin in the one moment without debt, and each
would then get a share so small that its other end gives it up. A promise ends by itself, at the
time at which it could have been kept: nobody holds our rate by being slow.

Rule of the file: pure; time is `now`. Over any T seconds at most rate x (T + BURST_S) moves, and
one piece for each payload that is on its way.
"""

from __future__ import annotations

BURST_S = 1.0
"""What was not used is kept for so long: a cycle of training is not lost."""


class Bucket:
    """The bound, what was taken of it, and what is going to be.

    Args:
        rate_bytes_per_s: sustained, > 0.
        now: seconds; the bucket is empty then, and owes nothing.
    """

    def __init__(self, rate_bytes_per_s: float, now: float) -> None:
        self.rate_bytes_per_s = rate_bytes_per_s
        self._left = 0.0
        self._at = now
        self._total = 0
        self._promised_until = now

    def counted(self, total: int, now: float) -> None:
        """So many bytes have moved in all, since the beginning."""
        earned = (now - self._at) * self.rate_bytes_per_s
        self._left = min(self._left + earned, BURST_S * self.rate_bytes_per_s)
        self._left -= total - self._total
        self._at, self._total = now, total

    def debt_s(self) -> float:
        """How long it takes, from when it was counted last, until what has moved is paid for."""
        return max(-self._left / self.rate_bytes_per_s, 0.0)

    def wait_s(self, now: float, counted: int = 0) -> float:
        """How long, from when it was counted last, until the next exchange may begin.

        Args:
            now: seconds.
            counted: bytes of that exchange that may have been counted before it was allowed.
        """
        owed_s = self.debt_s() - counted / self.rate_bytes_per_s
        return max(owed_s, self._promised_until - BURST_S - now, 0.0)

    def promise(self, nbytes: int, now: float) -> None:
        """An exchange begins that is going to move so many bytes."""
        self._promised_until = max(self._promised_until, now) + nbytes / self.rate_bytes_per_s

    def forgo(self, nbytes: int, now: float) -> None:
        """So many bytes that were promised are not going to move."""
        self._promised_until = max(self._promised_until - nbytes / self.rate_bytes_per_s, now)
