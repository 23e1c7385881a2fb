"""What the network was like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenario.recording.made import Made, record, replayed, value


def test_latency_is_half_of_a_fast_round_trip_and_says_that_it_is_a_bound() -> None:
    a, b = Made("a", trip_s=0.02), Made("b", trip_s=0.02, seed=1)
    found = record(a.lives(0, 60, peer=b), b.lives(0, 60, peer=a))
    assert value(found, "network.latency_s") == pytest.approx(0.01, rel=0.15)
    assert "upper bound" in found.estimates["network.latency_s"].why
    assert found.slow == {}


def test_a_node_far_away_has_a_latency_of_its_own(tmp_path: Path) -> None:
    a, b, c = Made("a"), Made("b"), Made("c", trip_s=0.2)
    found = record(a.lives(0, 60, peer=b), b.lives(0, 60, peer=a), c.lives(0, 60, peer=a))
    scenario = replayed(found, tmp_path)
    assert scenario.network.latency_s == pytest.approx(0.005, rel=0.2)
    (far,) = scenario.network.nodes
    assert far.who == ("n3",)
    assert far.latency_s == pytest.approx(0.1, rel=0.2)


def test_loss_is_of_each_message_not_of_the_exchange() -> None:
    a, b = Made("a"), Made("b")
    outcomes = ["flow"] * 81 + ["timeout"] * 19  # 1 - 0.9^2
    found = record(a.lives(0, 100, peer=b, outcomes=outcomes), b.lives(0, 100))
    assert value(found, "network.loss_probability") == pytest.approx(0.1, rel=0.1)
    assert (found.nodes[0].losses, found.nodes[0].asked) == pytest.approx((95, 500), abs=3)
