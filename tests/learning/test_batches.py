"""Batches: every epoch sees each sample once, in equal batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.learning.batches import Batches, run_seed


@given(st.integers(1, 60), st.integers(1, 25), st.integers(0, 99))
def test_each_epoch_sees_each_sample_once_in_batches_of_one_size(samples, batch_size, seed):
    batches = Batches(samples, batch_size, np.random.default_rng(seed))
    drawn = [batches.next() for _ in range(samples)]
    assert {len(batch) for batch in drawn} == {min(samples, batch_size)}
    stream = np.concatenate(drawn)
    for start in range(0, len(stream) - samples + 1, samples):
        assert sorted(stream[start : start + samples]) == list(range(samples))


def test_the_order_is_the_seeds():
    one, same, other = (Batches(50, 7, np.random.default_rng(s)) for s in (1, 1, 2))
    first = np.concatenate([one.next() for _ in range(20)])
    np.testing.assert_array_equal(first, np.concatenate([same.next() for _ in range(20)]))
    assert not np.array_equal(first, np.concatenate([other.next() for _ in range(20)]))


def test_a_runs_seed_is_the_same_for_ever_and_everywhere():
    assert run_seed("default") == 1639487754854085962
    assert run_seed("default") != run_seed("default ")


@given(st.text())
def test_a_runs_seed_fits_what_generators_take(run):
    assert 0 <= run_seed(run) < 2**63


@pytest.mark.parametrize("size", [1, 7, 16, 50])
def test_several_batches_are_those_of_as_many_nexts(size):
    one, other = (Batches(23, size, np.random.default_rng(4)) for _ in range(2))
    for count in (1, 5, 2, 30, 1):
        expected = np.stack([other.next() for _ in range(count)])
        np.testing.assert_array_equal(one.several(count), expected)
