"""What a scenario's network is like, in the words of whoever carries its messages."""

from __future__ import annotations

from p2pfl.scenario.spec import Scenario
from p2pfl.sim.faults import Conditions


def conditions(scenario: Scenario) -> Conditions:
    """Of all messages; what differs by node or way is another matter."""
    network, faults = scenario.network, scenario.faults
    return Conditions(
        latency_s=network.latency_s,
        latency_sigma=network.latency_sigma,
        loss_probability=network.loss_probability,
        duplicate_probability=faults.duplicate_probability,
        reorder_probability=faults.reorder_probability,
        corrupt_probability=faults.corrupt_probability,
        fifo=network.fifo,
        sees=network.sees,
    )
