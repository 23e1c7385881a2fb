"""The mean of some runs and its 95 % confidence interval, by Student's t.

    mean ± t(0.975, n-1) · s / √n          s with n-1 in its denominator; none for n = 1

Quantile of t: a table up to 30 degrees of freedom, above it Abramowitz & Stegun 26.7.5.

Rule of the file: pure functions of numbers; a figure is written with as many digits as its interval
leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
_TINY = 1e-300
"""Nobody measures less, and its powers of ten are no numbers any more."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of one cell.

    Attributes:
        values: of the runs that measured it, n >= 1; infinite ones make the mean infinite.
        mean: of them.
        half: half the width of the 95 % confidence interval; None for n = 1.
    """

    values: tuple[float, ...]
    mean: float
    half: float | None

    @property
    def n(self) -> int:
        """How many runs measured it."""
        return len(self.values)

    def __str__(self) -> str:
        return plus_minus(self.mean, self.half)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and confidence interval of n >= 1 values."""
    mean, half = fmean(values), None
    if len(values) > 1 and math.isfinite(mean):
        half = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(tuple(values), mean, half)


def student_t(freedom: int) -> float:
    """The 0.975 quantile of Student's t with `freedom` >= 1 degrees of freedom, to 4 digits."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z, v = 1.959964, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def plus_minus(mean: float, half: float | None) -> str:
    """`0.953 ±0.004`: as many digits as the interval leaves, four at most."""
    if not math.isfinite(mean):
        return str(mean)
    if not half or half < 1e-12 * abs(mean) or half < _TINY:
        return f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.4g}"
    largest = max(abs(mean), half)
    power = math.floor(math.log10(largest))
    if power < -3 or power > 8:
        scale = 10.0**power
        return f"({_rounded(mean / scale, half / scale)})e{power}"
    return _rounded(mean, half)


def _rounded(mean: float, half: float) -> str:
    largest = max(abs(mean), half)
    digits = min(1 - math.floor(math.log10(half)), 3 - math.floor(math.log10(largest)))
    digits = max(digits, 0)
    return f"{mean:,.{digits}f} ±{half:,.{digits}f}"
