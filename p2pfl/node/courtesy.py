"""What a node leaves to others: of the LAN, and of the device it runs on.

    rate          models wait for what has moved, in both directions together, to be paid for: the
                  next exchange is not begun, a question is answered BUSY until it could be, and a
                  large payload leaves in small pieces. Probes and other small messages count, and
                  never wait: membership must not suffer. What somebody sends before it hears BUSY
                  nobody reads, so it is not counted: once a turn, as much as sockets buffer.
    quiet hours   no training and no exchanges; who asks for one hears BUSY, until they end. Probes,
                  pulls and what became of earlier exchanges are answered as always.
    battery,      no training, and so no exchanges of our own; those of others are answered, which
    load          costs milliseconds and keeps the model fresh.

Rule of the file: nothing is broken off: what is being trained or exchanged is finished. What is
held back is said in a sentence, and a reason that comes or goes is news once, not again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from p2pfl.config import CourtesyConfig
from p2pfl.core.bucket import Bucket
from p2pfl.hours import DAY_MIN, DAYS, WEEK_MIN, Hours, hours
from p2pfl.ports import Clock, Surroundings, Traffic

LOOK_S = 5.0
"""Between two looks at the device."""

_STEADY_LOOKS = 3
"""Load must stay on the other side of its bound for so many looks: a moment of it is nothing."""
_RELEASE = 0.75
_AFTERWARDS_S = 10.0
"""Exchanges that did not have to wait for so long are not held back any more."""
_BUSY_LEAST_S = 0.05
_MODELS_PER_TURN = 3
"""One comes and one goes; another one was sent in vain by whoever had to be told its turn."""
_NOT_LOOKED_YET_S = 1.0


class Courtesy:
    """Says what may begin now, and what has to wait.

    Args:
        config: what was asked for.
        traffic: of the transport, which is told to pace itself.
        clock: monotonic seconds.

    Attributes:
        energy_j: what the whole machine took since the node began; None if it does not tell.
    """

    def __init__(self, config: CourtesyConfig, traffic: Traffic, clock: Clock) -> None:
        self.energy_j: float | None = None
        self._config = config
        self._traffic = traffic
        self._clock = clock
        self._bucket: Bucket | None = None
        if config.rate_bytes_per_s > 0:
            self._bucket = Bucket(config.rate_bytes_per_s, clock())
            traffic.is_paced, traffic.pause_s = True, self._pause_s
        self._waited_at: float | None = None
        self._turns_until = self._backed_off_until = clock()
        self._quiet: list[Hours] = [hours(text) for text in config.quiet]
        self._seen: Surroundings | None = None
        self._seen_at = 0.0
        self._is_loaded = False
        self._looks_beyond = 0
        self._may_train = asyncio.Event()
        if not config.needs_looking:
            self._may_train.set()
        self._told: dict[str, str] = {}

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound on what the node takes of the LAN."""
        return self._bucket is not None

    @property
    def is_asked_for(self) -> bool:
        """Whether anything can ever be held back."""
        return self._bucket is not None or self._config.needs_looking

    # --- the LAN --------------------------------------------------------------------------------

    def _pause_s(self) -> float:
        """How long the next piece of a payload has to wait."""
        return 0.0 if self._bucket is None else self._counted(self._bucket).debt_s()

    def _counted(self, bucket: Bucket) -> Bucket:
        bucket.counted(self._traffic.bytes_in + self._traffic.bytes_out, self._clock())
        return bucket

    def holds_exchange(self) -> bool:
        """Whether an exchange of our own, which is due, has to wait; if so it is noted."""
        now = self._clock()
        if self._quiet_s(now) > 0 or self._rate_wait_s(now) > 0:
            return True
        return now < max(self._turns_until, self._backed_off_until)

    def busy_s(self, nbytes: int) -> float:
        """How long whoever asks for an exchange of so large models has to wait, 0 for not at all.

        Each is told a turn of its own. Told the same moment, all would come at that moment, and
        send models that cannot be taken; and ours would always be first, as we need not be told.
        """
        now = self._clock()
        quiet_s = self._quiet_s(now)
        if quiet_s > 0 or self._bucket is None:
            return quiet_s
        # a transport may have counted the question already
        wait_s = self._rate_wait_s(now, nbytes)
        if wait_s == 0:
            return 0.0
        turn = max(now + max(wait_s, _BUSY_LEAST_S), self._turns_until)
        self._turns_until = turn + _MODELS_PER_TURN * nbytes / self._bucket.rate_bytes_per_s
        return turn - now

    def _rate_wait_s(self, now: float, counted: int = 0) -> float:
        if self._bucket is None:
            return 0.0
        wait_s = self._counted(self._bucket).wait_s(now, counted)
        if wait_s > 0:
            self._waited_at = now
        return wait_s

    def begins(self, nbytes: int) -> None:
        """An exchange of models of so many bytes begins: one goes, one comes."""
        if self._bucket is not None:
            self._bucket.promise(2 * nbytes, self._clock())

    def came_to_nothing(self, nbytes: int, chance: float) -> None:
        """Of an exchange that began no model has moved, or none to speak of.

        Args:
            nbytes: as it began.
            chance: 0 to 1, of the time of one exchange, for which we leave it to others to ask:
                bounded nodes that all ask at the same moments would refuse each other for ever.
        """
        if self._bucket is not None:
            now, both = self._clock(), 2 * nbytes
            self._bucket.forgo(both, now)
            wait_s = self._counted(self._bucket).wait_s(now)
            self._turns_until = now
            self._backed_off_until = now + wait_s + chance * both / self._bucket.rate_bytes_per_s

    def transfer_s(self, nbytes: int) -> float:
        """How much longer an exchange may take because we pace it; others' may go on beside it."""
        return 0.0 if self._bucket is None else 4 * nbytes / self._bucket.rate_bytes_per_s

    # --- the device -----------------------------------------------------------------------------

    @property
    def rests(self) -> bool:
        """Whether the next training cycle has to wait."""
        return not self._may_train.is_set()

    async def may_train(self) -> None:
        """Wait until training may go on."""
        await self._may_train.wait()

    def saw(self, seen: Surroundings) -> None:
        """Take in what the device is like now."""
        now = self._clock()
        is_first, self._seen, self._seen_at = self._seen is None, seen, now
        if seen.energy_j is not None:
            self.energy_j = seen.energy_j
        self._weigh(seen.load, is_first=is_first)
        if self._rest(now):
            self._may_train.clear()
        else:
            self._may_train.set()

    def _weigh(self, load: float | None, *, is_first: bool) -> None:
        bound = self._config.only_when_load_below
        if bound is None or load is None:
            return
        is_beyond = load < _RELEASE * bound if self._is_loaded else load >= bound
        self._looks_beyond = self._looks_beyond + 1 if is_beyond else 0
        if self._looks_beyond >= _STEADY_LOOKS or (is_first and is_beyond):
            self._is_loaded = not self._is_loaded
            self._looks_beyond = 0

    def _rest(self, now: float) -> dict[str, str]:
        """Why training rests, by reason."""
        if self._seen is None:
            return {}
        found = {}
        left_min, texts = self._quiet_left(now)
        if texts:
            until = _clock_time(self._minute(now) + left_min, with_day=left_min > DAY_MIN)
            until = f" until {until}" if left_min < WEEK_MIN else " for ever"
            found["quiet"] = f"training and exchanges rest{until}: quiet hours {', '.join(texts)}"
        if self._config.only_on_ac and self._seen.is_on_battery:
            found["battery"] = "training rests: on battery (only_on_ac)"
        bound = self._config.only_when_load_below
        if self._is_loaded and bound is not None and self._seen.load is not None:
            found["load"] = (
                f"training rests: other programs take {100 * self._seen.load:.0f} % of the "
                f"processor (only_when_load_below = {bound:g})"
            )
        return found

    def _minute(self, now: float) -> float:
        assert self._seen is not None
        return (self._seen.minute + (now - self._seen_at) / 60) % WEEK_MIN

    def _quiet_left(self, now: float) -> tuple[float, list[str]]:
        """Minutes until the quiet is over, hours that follow each other included, and which."""
        minute, left, texts = self._minute(now), 0.0, list[str]()
        while left < WEEK_MIN:
            found = [(one.left_min((minute + left) % WEEK_MIN), one.text) for one in self._quiet]
            more, text = max(found, default=(0.0, ""))
            if more == 0:
                break
            left += more
            if text not in texts:
                texts.append(text)
        return left, texts

    def _quiet_s(self, now: float) -> float:
        if not self._quiet:
            return 0.0
        if self._seen is None:
            return _NOT_LOOKED_YET_S
        return 60 * self._quiet_left(now)[0]

    # --- saying so ------------------------------------------------------------------------------

    @property
    def only_slows(self) -> bool:
        """Whether the bound on the rate is all that holds back: training and mixing go on."""
        return self._told.keys() == {"rate"}

    def holding(self) -> list[str]:
        """What is held back and why, a sentence each."""
        return list(self._reasons().values())

    def news(self) -> list[str]:
        """What began to be held back, or is not any more, since this was last asked."""
        reasons = self._reasons()
        begun = [text for reason, text in reasons.items() if reason not in self._told]
        over = [_OVER[reason] for reason in self._told if reason not in reasons]
        self._told = reasons
        return begun + over

    def _reasons(self) -> dict[str, str]:
        now = self._clock()
        found = self._rest(now)
        if self._bucket is not None:
            wait_s = self._counted(self._bucket).wait_s(now)
            if self._waited_at is not None and now - self._waited_at < _AFTERWARDS_S:
                rate = f"{self._bucket.rate_bytes_per_s / 1e6:.3g} MB/s"
                found["rate"] = (
                    f"exchanges wait {wait_s:.1f} s: {rate} is used up"
                    if wait_s > 0
                    else f"exchanges are kept to {rate}"
                )
        return found


_OVER: Mapping[str, str] = {
    "quiet": "quiet hours are over",
    "battery": "not on battery any more",
    "load": "other programs leave enough of the processor again",
    "rate": "exchanges do not wait any more",
}


def _clock_time(minute: float, *, with_day: bool) -> str:
    day, of_day = divmod(round(minute) % WEEK_MIN, DAY_MIN)
    text = f"{of_day // 60:02d}:{of_day % 60:02d}"
    return f"{DAYS[day]} {text}" if with_day else text
