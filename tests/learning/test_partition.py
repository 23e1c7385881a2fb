"""Partitions: every sample goes to exactly one node, and every node gets what was promised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import ConfigError, TaskError
from p2pfl.learning.partition import (
    RULES,
    Partition,
    Shard,
    check_shift,
    feature_shift,
    parse_partition,
    parse_shard,
    shards,
    shift_of,
    shifted,
    take,
)

BALANCED = np.repeat(np.arange(10), 100)


@st.composite
def problems(draw):
    """Labels, a number of nodes, and a partition that can be done."""
    count = draw(st.integers(1, 12))
    minimum = draw(st.integers(1, 12))
    size = draw(st.integers(count * minimum, count * minimum + 200))
    classes = draw(st.integers(1, 8))
    y = np.random.default_rng(draw(st.integers(0, 99))).integers(classes, size=size)
    rule = draw(st.sampled_from(sorted(RULES.keys() - {"drawn"})))
    parameter = None
    if rule in ("dirichlet", "quantity", "shift"):
        parameter = draw(st.sampled_from([0.001, 0.1, 0.5, 10.0, 1000.0]))
    elif rule == "classes":
        parameter = draw(st.integers(-(-classes // count), classes + 2))
    return y, count, Partition(rule, parameter, minimum)


@given(problems(), st.integers(0, 2**32))
def test_shards_are_disjoint_complete_and_none_is_below_the_minimum(problem, seed):
    y, count, partition = problem
    parts = shards(y, count, partition, seed)
    assert len(parts) == count
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    assert min(map(len, parts)) >= partition.minimum
    assert all((np.diff(part) > 0).all() for part in parts)


@given(problems(), st.integers(0, 2**32))
def test_the_same_labels_partition_and_seed_give_the_same_shards(problem, seed):
    y, count, partition = problem
    once, again = (shards(y, count, partition, seed) for _ in range(2))
    for index, (a, b) in enumerate(zip(once, again, strict=True)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, take(y, Shard(index, count, partition, seed)))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_another_seed_gives_other_shards(rule):
    one, other = (shards(BALANCED, 5, Partition(rule), seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_iid_shards_differ_by_one_sample_at_most():
    sizes = [len(part) for part in shards(BALANCED[:997], 7, Partition("iid"), 0)]
    assert max(sizes) - min(sizes) <= 1


def class_shares(parts, y):
    """(nodes, classes): how much of each class every node holds."""
    table = np.array([np.bincount(y[part], minlength=10) for part in parts])
    return table / table.sum(axis=1, keepdims=True)


def test_dirichlet_with_a_small_alpha_leaves_each_node_few_classes():
    top = class_shares(shards(BALANCED, 5, parse_partition("dirichlet:0.05"), 3), BALANCED)
    assert top.max(axis=1).mean() > 0.3


def test_dirichlet_with_a_large_alpha_is_next_to_iid():
    parts = shards(BALANCED, 5, parse_partition("dirichlet:10000"), 3)
    np.testing.assert_allclose(class_shares(parts, BALANCED), 0.1, atol=0.02)


def test_dirichlet_with_an_alpha_that_underflows_still_deals_out_everything():
    parts = shards(BALANCED, 5, parse_partition("dirichlet:1e-12"), 0)
    assert sum(map(len, parts)) == len(BALANCED)


def test_poor_nodes_are_raised_to_the_minimum_at_the_cost_of_the_richest():
    y = np.zeros(40, int)
    sizes = sorted(len(p) for p in shards(y, 4, parse_partition("quantity:0.001:min=9"), 0))
    assert sizes == [9, 9, 9, 13]


@pytest.mark.parametrize("seed", range(5))
def test_classes_gives_each_node_exactly_as_many_as_asked(seed):
    parts = shards(BALANCED, 20, parse_partition("classes:2"), seed)
    assert [len(np.unique(BALANCED[part])) for part in parts] == [2] * 20
    assert [len(part) for part in parts] == [50] * 20


def test_classes_that_cannot_cover_all_are_refused_with_the_number_that_can():
    with pytest.raises(TaskError, match=r"3 nodes with 2 classes .* all 10 .* 'classes:4'"):
        shards(BALANCED, 3, parse_partition("classes:2"), 0)


def test_quantity_skew_keeps_the_mix_of_classes_and_skews_the_sizes():
    y = np.repeat(np.arange(10), 1000)
    parts = shards(y, 4, parse_partition("quantity:0.3:min=500"), 1)
    np.testing.assert_allclose(class_shares(parts, y), 0.1, atol=0.05)
    assert max(map(len, parts)) > 2 * min(map(len, parts))


def test_quantity_and_iid_split_floating_targets_but_label_skew_does_not():
    y = np.linspace(0, 1, 100, dtype=np.float32)
    for text in ("iid", "quantity:1"):
        assert sum(map(len, shards(y, 3, parse_partition(text), 0))) == 100
    for text in ("dirichlet:1", "classes:1"):
        with pytest.raises(TaskError, match="integer class per sample, y has dtype float32"):
            shards(y, 3, parse_partition(text), 0)


def test_too_few_samples_are_refused_with_the_number_of_nodes_they_allow():
    with pytest.raises(TaskError, match=r"95 samples cannot give 10 nodes at least 10 each.* 9 "):
        shards(np.zeros(95, int), 10, Partition(), 0)


def test_shift_deals_the_samples_out_like_iid():
    for one, other in zip(
        shards(BALANCED, 7, parse_partition("shift:0.3"), 4),
        shards(BALANCED, 7, parse_partition("iid"), 4),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_shift_has_the_stated_spread_and_belongs_to_seed_and_index():
    drawn = feature_shift(2000, 3, 0.4, seed=5)
    for scale, offset in drawn:
        assert scale.dtype == offset.dtype == np.float32
        assert offset.std() == pytest.approx(0.4, rel=0.1)
        assert np.log(scale).std() == pytest.approx(0.2, rel=0.1)
        assert abs(offset.mean()) < 0.05
    more = feature_shift(2000, 4, 0.4, seed=5)
    np.testing.assert_array_equal(drawn, more[:3])
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], feature_shift(2000, 1, 0.4, seed=6)[0])
    mine = shift_of(2000, Shard(2, 3, parse_partition("shift:0.4"), 5))
    np.testing.assert_array_equal(mine, drawn[2])


def test_other_rules_shift_nothing():
    assert shift_of(5, Shard(0, 2, Partition("iid"))) is None


def test_samples_are_shifted_feature_by_feature_whatever_their_shape():
    x = np.ones((3, 2, 2), np.float32)
    scale, offset = np.arange(4, dtype=np.float32), np.full(4, 0.5, np.float32)
    moved = shifted(x, (scale, offset))
    np.testing.assert_array_equal(moved, np.broadcast_to([[0.5, 1.5], [2.5, 3.5]], x.shape))
    np.testing.assert_array_equal(x, 1)


def test_data_that_cannot_be_shifted_are_refused():
    shift = feature_shift(4, 1, 0.5, 0)[0]
    with pytest.raises(TaskError, match="needs floating features, x has dtype int64"):
        check_shift(np.ones((3, 4), np.int64), shift)
    with pytest.raises(TaskError, match=r"scale has shape \(4,\), x has 5 features"):
        shifted(np.ones((3, 5), np.float32), shift)


@given(problems())
def test_a_partition_is_what_its_text_says(problem):
    partition = problem[2]
    assert parse_partition(str(partition)) == partition


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dirichlt:0.1", "did you mean 'dirichlet'"),
        ("zipf", "known: iid, dirichlet, classes, quantity, shift"),
        ("dirichlet:0", "needs a number > 0"),
        ("dirichlet:nan", "needs a number > 0"),
        ("dirichlet:many", "is not RULE"),
        ("dirichlet:0.1:5", "too many parts"),
        ("classes:1.5", "needs a whole number"),
        ("classes:0", "needs a number > 0"),
        ("iid:3", "takes no parameter, got 3"),
        ("iid:min=0", "minimum is 0, must be >= 1"),
        ("iid:min=x", "is not RULE"),
    ],
)
def test_a_wrong_partition_is_refused_in_one_sentence(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_partition(text)


def test_a_shard_is_counted_from_one_on_the_command_line():
    first, last = parse_shard("1/20"), parse_shard(" 20/20", "dirichlet:0.5", seed=7)
    assert (first.index, str(first)) == (0, "1/20")
    assert (last.index, str(last)) == (19, "20/20")
    assert (last.partition, last.seed) == (Partition("dirichlet", 0.5), 7)


@pytest.mark.parametrize("text", ["0/20", "21/20", "0/0", "1/0", "3", "a/b", "-1/3", "1/2/3", ""])
def test_a_wrong_shard_is_refused(text):
    with pytest.raises(ConfigError, match="shard"):
        parse_shard(text)


def test_drawn_shards_have_just_the_minimum_and_may_be_more_than_the_data() -> None:
    y = np.repeat(np.arange(4), 25)
    parts = shards(y, 300, parse_partition("drawn:0.3:min=16"), 5)
    assert len(parts) == 300
    assert {len(part) for part in parts} == {16}
    assert all(len(np.unique(part)) == 16 for part in parts)
    mixes = np.array([np.bincount(y[part], minlength=4) for part in parts])
    assert (mixes.max(axis=1) >= 9).mean() > 0.5, "they are skewed"
    assert np.abs(mixes.sum(axis=0) / mixes.sum() - 0.25).max() < 0.06, "and cover all together"
    again = shards(y, 300, parse_partition("drawn:0.3:min=16"), 5)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


def test_a_class_with_too_few_samples_is_drawn_from_several_times() -> None:
    y = np.array([0, 0, 1, 1])
    (part,) = shards(y, 1, parse_partition("drawn:0.001:min=10"), 0)
    assert len(part) == 10
