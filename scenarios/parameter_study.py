"""A parameter study through the API: how much of the swarm may be away, and with which codec?

    python scenarios/parameter_study.py          the study, a table at the end
    p2pfl run scenarios/parameter_study.py       only the scenario that it varies

Every run is a `Scenario`, every result a `Trace`; what a sweep on the command line cannot say can
be said here: a figure of one's own, or a grid that depends on earlier results.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from p2pfl.config import NodeConfig
from p2pfl.scenario.spec import Churn, Compute, Duration, Measure, Scenario, TaskSpec
from p2pfl.scenario.trace import Trace
from p2pfl.scenario.verdicts import figures, mean_accuracy
from p2pfl.scenario.virtual import simulate

OFFLINE = (0.0, 0.3, 0.6)
CODECS = ("float32", "int8")
SEEDS = (0, 1)
GOOD = 0.9


def scenario(offline: float = 0.3, codec: str = "float32", seed: int = 0) -> Scenario:
    """One cell of the study."""
    node = {"gossip": {"codec": codec}, "train": {"steps_max": 5}, "checkpoint_every_s": 2}
    return Scenario(
        name="parameter-study",
        nodes=12,
        seed=seed,
        task=TaskSpec(name="digits-numpy", partition="dirichlet:0.3"),
        duration=Duration(cycles=60),
        node=NodeConfig.model_validate(node),
        compute=Compute(step_s=0.01, distribution="lognormal", sigma=0.5),
        churn=Churn(mode="on-off", offline=offline, session_s=5),
        measure=Measure(samples=40),
    )


def seconds_until_good(trace: Trace) -> float:
    """A figure of one's own: when the mean accuracy first reached `GOOD`; infinite if never."""
    good = np.flatnonzero(mean_accuracy(trace) >= GOOD)
    return float(trace.times[good[0]]) if len(good) else np.inf


def main() -> None:
    """Run the grid and print it."""
    table = Table("away", "codec", "accuracy", f"s until {GOOD}", "kB/s per node")
    for offline in OFFLINE:
        for codec in CODECS:
            traces = [simulate(scenario(offline, codec, seed)) for seed in SEEDS]
            found = [figures(trace) for trace in traces]
            accuracy = [one["mean_accuracy"] or np.nan for one in found]
            sent = [one["bytes_per_node_per_s"] or np.nan for one in found]
            table.add_row(
                f"{offline:.0%}",
                codec,
                f"{np.mean(accuracy):.3f} ± {np.std(accuracy):.3f}",
                f"{np.mean([seconds_until_good(trace) for trace in traces]):.1f}",
                f"{np.mean(sent) / 1000:.0f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
