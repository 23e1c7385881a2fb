"""A node that others reach at another address than the one it listens on."""

from __future__ import annotations

from contextlib import closing

import pytest

from p2pfl.cli.assemble import prepared
from p2pfl.config import DeviceConfig, LimitsConfig
from p2pfl.edge.http import HttpTransport
from p2pfl.errors import ConfigError


def test_the_advertised_address_is_the_one_that_others_are_told() -> None:
    limits = LimitsConfig()
    with closing(HttpTransport("127.0.0.1", 0, limits, "203.0.113.7:4000")) as transport:
        assert transport.address == "203.0.113.7:4000"
        assert transport.port not in (0, 4000)
    with closing(HttpTransport("127.0.0.1", 0, limits)) as transport:
        assert transport.address == f"127.0.0.1:{transport.port}"


@pytest.mark.parametrize("address", ["router.example:4000", "203.0.113.7", "4000", "1.2.3.4:0"])
def test_what_peers_could_not_answer_to_is_refused_before_anything_starts(address: str) -> None:
    config = DeviceConfig(task="digits-numpy", advertise=address)
    with pytest.raises(ConfigError, match=f"advertise is '{address}', expected IP:PORT"):
        prepared(config)


def test_a_device_config_makes_the_learner_it_describes() -> None:
    config = DeviceConfig(
        task="digits-numpy",
        mdns=False,
        advertise="[2001:db8::7]:4000",
        learning_rate=0.03,
        step_s=1e-6,
    )
    learner = prepared(config).learner
    assert learner.step(learner.initial(), 1, None).learning_rate == 0.03
