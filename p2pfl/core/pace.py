"""How many local steps a cycle takes, so that unequal devices take similar time for one.

K = clamp(round(T_target / T_step), 1, K_max), PROTOCOL section 3: a device ten times slower takes
fewer steps a cycle instead of ten times as long, and its model stays fresh.
"""

from __future__ import annotations

from p2pfl.config import TrainConfig


class Pace:
    """Adapts K to the measured time of a step; begins with a single one, to measure."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._step_s: float | None = None
        self._is_cold = True

    @property
    def steps(self) -> int:
        """K for the coming cycle."""
        if self._step_s is None:
            return 1
        fitting = self._config.cycle_target_s / max(self._step_s, 1e-9)
        return int(min(max(round(fitting), 1), self._config.steps_max))

    def took(self, steps: int, seconds: float) -> None:
        """Learn from a finished cycle; the first is cold, and forgotten with the second."""
        step_s = seconds / steps
        if self._step_s is None or self._is_cold:
            self._is_cold = self._step_s is None
            self._step_s = step_s
        else:
            self._step_s = 0.7 * self._step_s + 0.3 * step_s

    def pause(self, seconds: float) -> float:
        """How long a cycle that took `seconds` in all still has to wait."""
        return max(self._config.cycle_min_s - seconds, 0.0)
