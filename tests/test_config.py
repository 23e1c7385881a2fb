"""Configuration: frozen, bounded, and mistakes answered with one clear sentence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from p2pfl.config import (
    DeviceConfig,
    GossipConfig,
    LimitsConfig,
    MembershipConfig,
    NodeConfig,
    StopConfig,
    TrainConfig,
)
from p2pfl.configuring import from_mapping
from p2pfl.core.compression import CODECS
from p2pfl.errors import ConfigError

PARTS = [TrainConfig, GossipConfig, MembershipConfig, LimitsConfig, StopConfig, NodeConfig]


def mistake(values: dict, kind: type[BaseModel] = NodeConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(values, kind, where="node.toml")
    return str(caught.value)


# --- defaults -----------------------------------------------------------------------------------


def test_defaults_are_those_of_the_protocol():
    config = NodeConfig()
    assert (config.gossip.weight, config.gossip.outstanding) == (0.5, 2)
    assert (config.gossip.fresh_cycles, config.gossip.staleness_exponent) == (1.0, 0.5)
    assert config.gossip.adopt_ratio == 0.1
    assert (config.train.momentum, config.train.steps_max) == (0.9, 20)
    assert config.train.cycle_min_s == 0.1
    assert config.membership.probe_interval_s == 1.0
    assert config.membership.indirect_probes == 3
    assert config.limits.header_bytes == 64 * 1024
    assert config.stop == StopConfig(cycles=None, minutes=None, target_accuracy=None)


@pytest.mark.parametrize("part", PARTS)
def test_every_field_says_what_it_is(part):
    undocumented = [
        name
        for name, field in part.model_fields.items()
        if not field.description and not isinstance(field.default, BaseModel)
    ]
    assert undocumented == []


def test_every_codec_can_be_configured_and_nothing_else():
    for codec in CODECS:
        assert from_mapping({"codec": codec}, GossipConfig).codec == codec
    assert "'codec' is 'float64'" in mistake({"codec": "float64"}, GossipConfig)


# --- frozen -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_nothing_can_be_changed_afterwards(part):
    config = part()
    for name in part.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(config, name, getattr(config, name))


# --- relations ----------------------------------------------------------------------------------


@given(st.floats(0.01, 1), st.integers(1, 200))
def test_weight_times_outstanding_never_exceeds_one(weight, outstanding):
    values = {"weight": weight, "outstanding": outstanding}
    if weight * outstanding <= 1:
        assert from_mapping(values, GossipConfig).outstanding == outstanding
    else:
        assert "must be <= 1" in mistake(values, GossipConfig)


def test_too_much_outstanding_is_told_with_the_product_and_the_bound():
    text = mistake({"gossip": {"outstanding": 16}})
    assert text == (
        "node.toml: gossip: weight x outstanding is 8, must be <= 1 (more diverges); "
        "lower one of them"
    )


def test_a_probe_must_time_out_before_the_next_one():
    text = mistake({"membership": {"probe_timeout_s": 2.0}})
    assert "probe_timeout_s is 2, must be below probe_interval_s = 1" in text
    assert (
        from_mapping(
            {"probe_timeout_s": 2.0, "probe_interval_s": 2.1}, MembershipConfig
        ).probe_timeout_s
        == 2.0
    )


def test_what_is_in_flight_must_fit_what_is_remembered():
    text = mistake({"limits": {"pending": 1}})
    assert text == "node.toml: limits.pending is 1, must be at least gossip.outstanding = 2"
    config = from_mapping({"limits": {"pending": 1}, "gossip": {"outstanding": 1}}, NodeConfig)
    assert config.limits.pending == 1


# --- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.momentum", 1.0),
        ("train.momentum", -0.1),
        ("train.steps_max", 0),
        ("train.cycle_target_s", 0.0),
        ("gossip.weight", 0.0),
        ("gossip.weight", 1.5),
        ("gossip.outstanding", 0),
        ("gossip.adopt_ratio", 1.0),
        ("gossip.retry_horizon_s", -1.0),
        ("membership.rumours_per_message", 65),
        ("limits.header_bytes", 10),
        ("limits.done_bytes", -1),
        ("limits.peers", 0),
        ("stop.target_accuracy", 1.01),
        ("stop.cycles", 0),
        ("run", ""),
        ("run", "x" * 65),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_value(key, value):
    values: dict = {}
    *parents, leaf = key.split(".")
    inner = values
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[leaf] = value
    text = mistake(values)
    assert text.startswith(f"node.toml: '{key}' is {value!r}: ")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinite_and_undefined_numbers_are_refused(value):
    assert "'train.cycle_target_s'" in mistake({"train": {"cycle_target_s": value}})
    assert "'gossip.staleness_exponent'" in mistake({"gossip": {"staleness_exponent": value}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": {"steps_max": "many"}}, "'train.steps_max' is 'many'"),
        ({"train": {"steps_max": 2.5}}, "'train.steps_max' is 2.5"),
        ({"train": 5}, "'train' is 5"),
        ({"gossip": {"codec": ["int8"]}}, "'gossip.codec' is ['int8']"),
        ({"stop": {"cycles": []}}, "'stop.cycles' is []"),
    ],
)
def test_a_wrong_type_is_named_with_its_key_and_value(values, words):
    assert words in mistake(values)


# --- unknown keys and whole sentences -----------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"topologie": "ring"}, "unknown key 'topologie', did you mean 'topology'?"),
        ({"gossip": {"wieght": 1}}, "unknown key 'gossip.wieght', did you mean 'weight'?"),
        ({"train": {"cycle_min": 0}}, "unknown key 'train.cycle_min', did you mean 'cycle_min_s'?"),
        ({"stop": {"zzz": 1}}, "unknown key 'stop.zzz'; known: cycles, minutes, target_accuracy"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(values, sentence):
    assert mistake(values) == f"node.toml: {sentence}"


def test_every_mistake_is_told_in_one_go():
    text = mistake({"gossip": {"outstanding": 0}, "trian": {}, "limits": {"peers": -1}})
    assert text.count("node.toml: ") == 3
    assert "'gossip.outstanding' is 0" in text
    assert "did you mean 'train'?" in text
    assert "'limits.peers' is -1" in text


def test_a_missing_task_is_named():
    assert mistake({}, DeviceConfig) == "node.toml: 'task' is missing"


def test_what_is_no_table_at_all_is_one_sentence_too():
    with pytest.raises(ConfigError, match=r"^node\.toml: "):
        from_mapping(["run"], NodeConfig, where="node.toml")


def test_a_device_takes_lists_of_peers_as_tuples():
    config = from_mapping({"task": "digits", "peers": ["10.0.0.1:4000"]}, DeviceConfig)
    assert config.peers == ("10.0.0.1:4000",)
    assert "'peers.0' is 5" in mistake({"task": "digits", "peers": [5]}, DeviceConfig)


KEYS = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*NodeConfig.model_fields, *GossipConfig.model_fields, "x"])


@given(st.dictionaries(NAMES | KEYS, JSON | st.dictionaries(NAMES | KEYS, JSON)))
def test_whatever_stands_in_the_file_gives_a_configuration_or_a_sentence(values):
    try:
        config = from_mapping(values, NodeConfig)
    except ConfigError as error:
        assert str(error)
    else:
        assert config.gossip.weight * config.gossip.outstanding <= 1
