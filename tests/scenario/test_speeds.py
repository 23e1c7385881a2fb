"""How long a local step takes: the stated distribution over nodes, and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pfl.errors import ConfigError
from p2pfl.scenario.spec import Compute, names
from p2pfl.scenario.speeds import step_times


def times(nodes: int = 5, seed: int = 0, **compute: Any) -> NDArray[np.float64]:
    found = step_times(Compute(**compute), names(nodes), np.random.default_rng(seed))
    assert found.shape == (nodes,)
    assert found.dtype == np.float64
    return found


def test_fixed_times_are_all_the_same_and_ask_no_chance() -> None:
    rng = np.random.default_rng(5)
    assert set(step_times(Compute(step_s=0.02), names(3), rng)) == {0.02}
    assert rng.random() == np.random.default_rng(5).random()


def test_lognormal_times_have_the_stated_median_and_spread() -> None:
    found = times(20_000, distribution="lognormal", step_s=0.01, sigma=0.8)
    assert np.median(found) == pytest.approx(0.01, rel=0.03)
    assert np.log(found).std() == pytest.approx(0.8, rel=0.03)


def test_factors_are_dealt_out_in_order_and_repeated() -> None:
    found = times(5, distribution="factors", step_s=0.01, factors=(1.0, 10.0))
    np.testing.assert_allclose(found, [0.01, 0.1, 0.01, 0.1, 0.01])


def test_the_same_chance_gives_the_same_times() -> None:
    lognormal = {"distribution": "lognormal"}
    assert (times(seed=1, **lognormal) == times(seed=1, **lognormal)).all()
    assert (times(seed=1, **lognormal) != times(seed=2, **lognormal)).any()


def traced(tmp_path: Path, text: str, nodes: int = 5, seed: int = 0) -> NDArray[np.float64]:
    path = tmp_path / "devices.csv"
    path.write_text(text)
    return times(nodes, seed, distribution="trace", trace=str(path), step_s=0.5)


def test_a_trace_about_certain_nodes_leaves_the_rest_as_they_are(tmp_path: Path) -> None:
    found = traced(tmp_path, "node,step_s\nn2,0.1\n5,0.2\n")
    np.testing.assert_array_equal(found, [0.5, 0.1, 0.5, 0.5, 0.2])


def test_a_trace_of_devices_is_dealt_out_evenly_by_chance(tmp_path: Path) -> None:
    text = "model, step_s\na,0.1\nb,0.2\nc,0.3\n"
    found = traced(tmp_path, text, nodes=9)
    assert [round(10 * value) for value in sorted(found)] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    others = [tuple(traced(tmp_path, text, nodes=9, seed=seed)) for seed in range(5)]
    assert len(set(others)) > 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step_s\n0\n", "line 2: step_s is '0', expected a number > 0"),
        ("step_s\ninf\n", "line 2: step_s is 'inf'"),
        ("step_s,node\n0.1,n6\n", "line 2: node 'n6' is not within"),
        ("step_ms\n1\n", "has no column 'step_s'"),
        ("", "its first line is nothing"),
    ],
)
def test_what_is_wrong_in_a_trace_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        traced(tmp_path, text)
