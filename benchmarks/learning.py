"""What the shipped scenarios reach, over three seeds: PROTOCOL section 7.7 and the rest.

    python benchmarks/learning.py                 every scenario with bounds (some minutes)
    python benchmarks/learning.py churn-30        only this one

The reference is what the data allow: one model on all of them, trained by the same learner for as
many steps as a node takes (`centralised`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from _report import finish, table

from p2pfl.learning.task import build_learner, find_task
from p2pfl.scenario.load import load
from p2pfl.scenario.verdicts import figures, judged
from p2pfl.scenario.virtual import simulate

SEEDS = (0, 1, 2)
FOLDER = Path("scenarios")
SECTION_7_7 = ("clean-20", "churn-30", "churn-50", "amnesia", "mnist-50", "mnist-50-churn")
STEPS = 1500


def centralised(task: str) -> float:
    """Accuracy of one model on all data."""
    learner = build_learner(find_task(task), run="centralised", seed=0)
    weights = learner.initial()
    weights = weights + learner.step(weights, STEPS, None).delta
    return learner.evaluate(weights).accuracy or 0.0


def row(name: str) -> dict[str, Any]:
    """One scenario: its figures over the seeds, and how many runs held all bounds."""
    found, held = [], 0
    for seed in SEEDS:
        trace = simulate(load(name, seed=seed))
        found.append(figures(trace))
        held += all(verdict.held for verdict in judged(trace))
        print(f"{name}, seed {seed}: {found[-1]['mean_accuracy']:.4f}", file=sys.stderr, flush=True)
    scenario = load(name)

    def over(figure: str, how: Any) -> float:
        return float(how(one[figure] or 0.0 for one in found))

    return {
        "scenario": name,
        "mean": over("mean_accuracy", fmean),
        "lowest": over("mean_accuracy", min),
        "worst tenth": over("worst_tenth_accuracy", fmean),
        "bound": str(scenario.expect.mean_accuracy or ""),
        "centralised": centralised(scenario.task.name),
        "held": f"{held}/{len(SEEDS)}",
    }


def main() -> None:
    """Print a table, or one JSON object as the last line; exit code 1 if a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", help="names in scenarios/; default: all")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    shipped = sorted(path.stem for path in FOLDER.glob("*.toml"))
    names = arguments.scenarios or [
        *SECTION_7_7,
        *(name for name in shipped if name not in (*SECTION_7_7, "ten-thousand")),
    ]
    rows = [row(name) for name in names]
    if not arguments.json:
        print(table(rows))
    finish({"scenarios": rows}, as_json=arguments.json, packages=("numpy", "torch"))
    sys.exit(any(one["held"] != f"{len(SEEDS)}/{len(SEEDS)}" for one in rows))


if __name__ == "__main__":
    main()
