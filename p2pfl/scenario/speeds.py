"""How long a local step takes each node: fixed, lognormal over nodes, by factors, or from a trace.

    fixed       step_s
    lognormal   step_s x e^(sigma z), z standard normal: median step_s
    factors     step_s x factors[i mod length]
    trace       CSV: with a column `node` these nodes, and step_s for the rest; without it the
                lines are dealt out in random order, again and again until every node has one

Rule of the file: both engines take the very same times; chance is an argument, and is asked only
where the distribution needs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfl.scenario.rows import rows
from p2pfl.scenario.spec import Compute


def step_times(
    compute: Compute, names: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Seconds of a local step of each node: (n,) float64, all > 0.

    Args:
        compute: what the scenario says; its `jitter` is another matter.
        names: of the n nodes, n1 .. n`n`.
        rng: chance of lognormal times, and of who gets which line of a trace.

    Raises:
        ConfigError: the trace cannot be read, or a value in it is out of bounds.
    """
    n = len(names)
    match compute.distribution:
        case "lognormal":
            return compute.step_s * np.exp(compute.sigma * rng.standard_normal(n))
        case "factors":
            return compute.step_s * np.resize(np.array(compute.factors, np.float64), n)
        case "trace":
            assert compute.trace is not None
            return _traced(compute.trace, compute.step_s, n, rng)
        case _:
            return np.full(n, compute.step_s)


def _traced(path: str, rest: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    lines = rows(path, ["step_s"])
    seconds = np.array([line.number("step_s", least=0, inclusive=False) for line in lines])
    if "node" in lines[0].values:
        found = np.full(n, rest)
        for line, value in zip(lines, seconds, strict=True):
            found[line.node(n)] = value
        return found
    rounds = -(-n // len(seconds))
    return np.concatenate([rng.permutation(seconds) for _ in range(rounds)])[:n]
