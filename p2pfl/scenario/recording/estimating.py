"""What nodes were like and how they were configured, from what they did.

    Cycle.seconds / Cycle.steps     its median is the node's step time, the spread of its logarithm
                                    the jitter
    steps, and time between cycles  what makes a node train so much, so often (`core.pace`)
    bytes of a model                the codec

Rule of the file: pure functions of what nodes saw; an estimate carries its evidence, and a default
that explains what was seen is preferred to a figure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from p2pfl.config import NodeConfig, TrainConfig
from p2pfl.core.compression import CODECS
from p2pfl.scenario.recording.evidence import Estimate, Seen, median
from p2pfl.scenario.recording.links import network
from p2pfl.scenario.recording.text import counted, short

_JITTER_MIN = 10


def estimates(
    nodes: Sequence[Seen], config: NodeConfig | None, values: int | None
) -> dict[str, Estimate]:
    """All that a scenario is made of, by its dotted key; what was given is not estimated."""
    found = _compute(nodes) | _pace(nodes) | _evaluating(nodes) | network(nodes)
    codec = _codec(nodes, values)
    if codec is not None:
        found["node.gossip.codec"] = codec
    given = {} if config is None else _flat(_given(config), "node.")
    return found | {key: Estimate(value, "given with --config") for key, value in given.items()}


def _compute(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    trained = [node for node in nodes if node.step_s]
    medians = [float(np.median(node.step_s)) for node in trained]
    cycles = sum(len(node.step_s) for node in trained)
    # relative to the median of the node; a quantile range, because a busy device has outliers
    residuals = np.concatenate(
        [np.log(node.step_s) - math.log(m) for node, m in zip(trained, medians, strict=True)]
    )
    jitter = Estimate(0.1, "assumed: too few cycles to tell")
    if cycles >= _JITTER_MIN:
        low, high = np.quantile(residuals, [0.1587, 0.8413])
        why = f"sigma of ln(step), as half its 16% .. 84% range over {cycles:,} cycles"
        jitter = Estimate(short((high - low) / 2), why)
    why = f"median of {counted(len(trained), 'node')}, {cycles:,} cycles"
    return {
        "compute.step_s": Estimate(short(float(np.median(medians))), why),
        "compute.jitter": jitter,
    }


def _pace(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    """What makes a node do so many steps, so often.

    K = clamp(round(cycle_target_s / step_s), 1, steps_max), and a cycle that took less than
    cycle_min_s waits (`core.pace`).
    """
    trained = [node for node in nodes if node.step_s]
    most = max(max(node.steps) for node in trained)
    usual = [(float(np.median(n.steps)), float(np.median(n.step_s)), n) for n in trained]
    found = {"node.train.steps_max": Estimate(most, "most local steps that a cycle had")}
    found["node.train.cycle_target_s"] = _target(
        [(steps, step_s) for steps, step_s, _ in usual], most
    )
    waiting, busy = list[float](), list[float]()
    for steps, step_s, node in usual:
        if node.periods:
            period = float(np.median(node.periods))
            (waiting if period > 1.1 * steps * step_s + 0.002 else busy).append(period)
    usual_s = TrainConfig().cycle_min_s
    if waiting:
        why = (
            f"median time from cycle to cycle of {counted(len(waiting), 'node')} "
            "whose cycles are longer than their training"
        )
        pause = Estimate(short(float(np.median(waiting))), why)
    elif busy:
        why = "no more: nodes train without a pause, the fastest so often"
        pause = Estimate(short(min(usual_s, *busy)), why)
    else:
        pause = Estimate(usual_s, "the default: no two cycles were seen")
    found["node.train.cycle_min_s"] = pause
    return found


def _target(usual: Sequence[tuple[float, float]], most: int) -> Estimate:
    """The training time a cycle aims at, from (steps, step_s) of each node."""
    default = TrainConfig().cycle_target_s

    def fits(steps: float, step_s: float) -> bool:
        aimed = min(max(round(default / step_s), 1), most)
        return abs(aimed - steps) <= max(1.0, 0.15 * steps)

    if all(fits(*of_node) for of_node in usual):
        return Estimate(default, "the default: it explains the steps of every node")
    between = [steps * step_s for steps, step_s in usual if 1 < steps < most]
    if between:
        why = f"median training time of a cycle, of {counted(len(between), 'node')} below the most"
        return Estimate(short(float(np.median(between))), why)
    capped = [steps * step_s for steps, step_s in usual if steps >= most]
    why = "more than a cycle of the most steps took the slowest node that does them"
    return Estimate(short(1.25 * max(capped, default=default)), why)


def _evaluating(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    every = [seconds for node in nodes for seconds in node.evaluated_every]
    if not every:
        return {}
    takes = median([seconds for node in nodes for seconds in node.evaluations])
    cycle = median([seconds for node in nodes for seconds in node.periods])
    apart, usual = median(every), TrainConfig().evaluate_every_s
    why = (
        f"{len(every):,} evaluations, {apart:.3g} s apart; they took {takes:.2g} s, "
        "the simulator gives them two local steps"
    )
    # an evaluation comes with the first cycle that ends after the pause
    if apart - takes - cycle <= 1.02 * usual and usual <= 1.02 * apart:
        return {"node.train.evaluate_every_s": Estimate(usual, f"the default: it explains {why}")}
    pause = max(apart - takes - cycle / 2, 0.01)
    return {"node.train.evaluate_every_s": Estimate(short(pause), why)}


def _codec(nodes: Sequence[Seen], values: int | None) -> Estimate | None:
    sizes: Counter[int] = sum((node.sizes for node in nodes), Counter())
    if values is None or not sizes:
        return None
    nbytes, count = sizes.most_common(1)[0]
    for name, codec in CODECS.items():
        if codec.nbytes(values) == nbytes:
            share = f"{count:,} of {sizes.total():,} times"
            why = f"{values:,} values travel in {nbytes:,} bytes, {share}"
            return Estimate(name, why)
    return None


def _given(config: BaseModel) -> dict[str, Any]:
    """What was set in a node's configuration and means something in a scenario."""
    outside = {"run", "name", "topology", "stop"}
    return config.model_dump(mode="json", exclude_unset=True, exclude=outside)


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        found |= {prefix + key: value} if inner is None else inner
    return found
