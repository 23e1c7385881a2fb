"""Names, shapes and the flat vector; what leaves the owner cannot be written through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.compression import CODECS
from p2pfl.core.weights import PIECE, Entry, Layout, is_finite, pieces, read_only
from p2pfl.errors import ConfigError

SHAPES = st.dictionaries(
    st.text(max_size=8), st.lists(st.integers(0, 4), max_size=3).map(tuple), max_size=6
)
LAYOUT = Layout((Entry("w", (2, 3)), Entry("b", (3,)), Entry("t", ())))
LARGEST = np.finfo(np.float32).max


@given(SHAPES, st.integers(0, 2**32))
def test_flatten_and_views_are_inverse_for_any_names_and_shapes(shapes, seed):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    layout = Layout.of(arrays)
    vector = layout.flatten(arrays)
    assert vector.shape == (layout.size,) == (sum(a.size for a in arrays.values()),)
    views = layout.views(vector)
    assert list(views) == list(arrays)
    for name, view in views.items():
        assert view.shape == shapes[name]
        assert np.array_equal(view, arrays[name])
        assert np.shares_memory(view, vector) or view.size == 0


def test_views_write_through_to_the_vector_in_the_order_of_the_layout():
    vector = np.arange(10, dtype=np.float32)
    views = LAYOUT.views(vector)
    views["t"][...] = -1
    views["w"][1, 2] = -2
    assert vector.tolist() == [0, 1, 2, 3, 4, -2, 6, 7, 8, -1]


def test_a_vector_of_another_length_is_named_with_both_lengths():
    with pytest.raises(ConfigError, match="vector has 7 values, expected 10"):
        LAYOUT.views(np.zeros(7, np.float32))


def test_flatten_names_the_array_that_is_missing_or_has_another_shape():
    arrays = {name: view.copy() for name, view in LAYOUT.views(np.zeros(10, np.float32)).items()}
    with pytest.raises(ConfigError, match=r"weights lack 'b' of shape \(3,\)"):
        LAYOUT.flatten({name: a for name, a in arrays.items() if name != "b"})
    with pytest.raises(ConfigError, match=r"'b' has shape \(4,\), expected \(3,\)"):
        LAYOUT.flatten(arrays | {"b": np.zeros(4, np.float32)})


def test_the_digest_tells_names_shapes_dtypes_and_order_apart():
    w, b, t = LAYOUT.entries
    others = [
        (b, w, t),
        (w, b),
        (replace(w, name="w2"), b, t),
        (replace(w, shape=(3, 2)), b, t),
        (replace(w, shape=(6,)), b, t),
        (replace(w, dtype="float16"), b, t),
        (Entry("w 2,3 float32\nb", (3,)), t),
    ]
    digests = {Layout(entries).digest for entries in others} | {LAYOUT.digest}
    assert len(digests) == len(others) + 1
    assert all(len(d) == 16 and set(d) <= set("0123456789abcdef") for d in digests)
    assert Layout(tuple(replace(e) for e in LAYOUT.entries)).digest == LAYOUT.digest


@given(st.integers(0, 500), st.integers(1, 64))
def test_pieces_cover_every_value_once_and_in_order(size, piece):
    found = [i for at in pieces(size, piece) for i in range(at.start, at.stop)]
    assert found == list(range(size))
    assert all(at.stop - at.start == piece for at in list(pieces(size, piece))[:-1])


def test_every_piece_begins_at_a_block_of_every_codec():
    assert all(PIECE % codec.block == 0 for codec in CODECS.values())


@settings(deadline=None)
@given(
    st.integers(1, 300),
    st.sampled_from([1.0, 1e-45, 1e19, 1e30, float(LARGEST)]),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.data(),
)
def test_is_finite_sees_one_bad_value_anywhere_and_no_huge_one_as_bad(size, scale, bad, data):
    values = np.linspace(-1, 1, size, dtype=np.float32) * np.float32(scale)
    assert is_finite(values)
    values[data.draw(st.integers(0, size - 1))] = bad
    assert not is_finite(values)


def test_no_values_at_all_are_finite():
    assert is_finite(np.empty(0, np.float32))


def test_what_is_read_only_follows_the_owner_but_cannot_be_written():
    mine = np.zeros(3, np.float32)
    theirs = read_only(mine)
    mine[0] = 1
    assert theirs[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        theirs[0] = 2
    assert mine.flags.writeable
