"""What the text of a document claims of what its cells of Python have computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2pfl.scenario.verdicts import figures


def of_the_churn_experiment(cells: Mapping[str, Any]) -> None:
    """docs/churn-experiment.md, in the order of the page."""

    def mean(trace: Any) -> float:
        found = figures(trace)["mean_accuracy"]
        assert found is not None
        return found

    calm, third = mean(cells["calm"]), mean(cells["third"])
    assert calm > 0.94
    assert cells["calm"].wall_s < cells["calm"].seconds, "virtual time is faster"
    alone = mean(cells["alone"])
    assert alone < 0.6, "what each would reach alone"
    assert abs(third - calm) < 0.04, "accuracy has hardly suffered"
    assert 0.7 < cells["there"] < 0.9
    reached = {away: float(np.mean(found)) for away, found in cells["reached"].items()}
    assert reached[0.0] - 0.05 < reached[0.4] < reached[0.0], "a few hundredths"
    assert reached[0.8] < reached[0.4], "slower"
    assert min(min(found) for found in cells["reached"].values()) > alone + 0.2
    assert cells["cycles"][0.8] < 0.75 * cells["cycles"][0.0], "who is away does not train"
    assert abs(mean(cells["amnesia"]) - calm) < 0.04
    assert cells["again"].event_hash == cells["third"].event_hash != cells["other"].event_hash
    assert Path("churn-40.png").read_bytes().startswith(b"\x89PNG")


CLAIMS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "docs/churn-experiment.md": of_the_churn_experiment,
}
