"""Codecs: what both ends decode is the same, finite where it says so, and close to what was sent.

int8 is QSGD's stochastic rounding (arXiv:1610.02132): unbiased, and never off by more than a step.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfl.core.compression import CODECS, INT8_BLOCK, Encoded, encode
from p2pfl.core.weights import PIECE, pieces

LARGEST = float(np.finfo(np.float32).max)
EDGE_SIZES = [1, 2, 255, 256, 257, 511, 512, 513, PIECE - 1, PIECE, PIECE + 1]
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = arrays(np.float32, st.integers(1, 600), elements=FINITE)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some(size: int, scale: float = 1.0) -> np.ndarray:
    return chance(size).normal(scale=scale, size=size).astype(np.float32)


def steps_of(vector: np.ndarray) -> np.ndarray:
    """Largest magnitude of each value's int8 block, / 127: (d,) float64."""
    padded = np.zeros(-(-vector.size // INT8_BLOCK) * INT8_BLOCK)
    padded[: vector.size] = np.abs(vector)
    return np.repeat(padded.reshape(-1, INT8_BLOCK).max(axis=1) / 127, INT8_BLOCK)[: vector.size]


# --- lengths and pieces -------------------------------------------------------------------------


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_lengths_are_4_2_and_260_bytes_for_each_256_values(size):
    expected = {"float32": 4 * size, "float16": 2 * size, "int8": 260 * ((size + 255) // 256)}
    for name, nbytes in expected.items():
        encoded = encode(name, some(size), chance())
        assert CODECS[name].nbytes(size) == encoded.data.nbytes == encoded.nbytes == nbytes
        assert encoded.values().shape == (size,)
        assert encoded.values().dtype == np.float32


def test_the_length_of_a_payload_is_known_before_its_data():
    assert Encoded("int8", 257, np.empty(0, np.uint8)).nbytes == 520


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 257, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 300])
def test_pieces_decode_like_the_whole(codec, size):
    encoded = encode(codec, some(size), chance())
    whole = encoded.values().copy()
    assert np.array_equal(np.concatenate([encoded.values(at) for at in pieces(size)]), whole)
    tail = slice(size // INT8_BLOCK * INT8_BLOCK, size)
    assert np.array_equal(encoded.values(tail), whole[tail])
    assert sum(encoded.piece(at).nbytes for at in pieces(size)) == encoded.nbytes


@pytest.mark.parametrize("codec", CODECS)
def test_encoding_piece_by_piece_gives_values_as_close_as_encoding_the_whole(codec):
    x = some(PIECE + 257)
    encoded = Encoded(codec, x.size, np.full(CODECS[codec].nbytes(x.size), 0xFF, np.uint8))
    for at in pieces(x.size):
        CODECS[codec].encode(x[at], chance(), encoded.piece(at))
    assert CODECS[codec].finite(encoded.data)
    assert np.abs(encoded.values() - x).max() <= steps_of(x).max() * 1.001


# --- round trips --------------------------------------------------------------------------------


@given(VECTORS)
def test_float32_comes_back_bit_by_bit(vector):
    assert np.array_equal(encode("float32", vector, chance()).values(), vector)


@given(VECTORS)
def test_float16_is_the_nearest_half_and_beyond_65504_the_largest(vector):
    decoded = encode("float16", vector, chance()).values()
    nearest = np.clip(vector, -65504, 65504).astype(np.float16).astype(np.float32)
    assert np.array_equal(decoded, nearest)
    ordinary = (np.abs(vector) >= 2.0**-14) & (np.abs(vector) <= 65504)
    assert (np.abs(decoded - vector) <= np.abs(vector) * 2.0**-11)[ordinary].all()


@settings(deadline=None)
@given(arrays(np.float32, st.integers(1, 600), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
@example(np.full(257, 127.0, np.float32))
@example(np.array([-127.0, 127.0, 126.99999, -126.99999], np.float32))
def test_int8_is_never_off_by_more_than_one_step_of_its_block(vector):
    # a float32 sum of at most 128 is off by 2^-18 of a step, a product by 2^-24 of 127 steps;
    # steps below the smallest normal number are themselves off by half of 2^-149, 127 times
    decoded = encode("int8", vector, chance()).values()
    off = np.abs(decoded.astype(np.float64) - vector)
    assert (off <= steps_of(vector) * (1 + 2.0**-16) + 127 * 2.0**-149).all()


def test_int8_keeps_what_lies_on_the_grid_and_blocks_do_not_disturb_each_other():
    vector = np.concatenate([np.zeros(256), np.arange(-127, 129), [1e-20]]).astype(np.float32)
    vector[511] = 0
    decoded = encode("int8", vector, chance()).values()
    assert not decoded[:256].any()
    assert np.allclose(decoded[256:], vector[256:], rtol=1e-6, atol=0)


def test_int8_rounding_is_unbiased_within_hoeffdings_bound():
    # each error lies in an interval of one step, so by Hoeffding's inequality the mean of n is off
    # by t steps with probability at most 2 exp(-2 n t^2); 256 values, one chance in 10^9
    n, x = 4000, np.linspace(-1, 1, 256).astype(np.float32)
    decoded = encode("int8", np.tile(x, n), chance(7)).values().reshape(n, 256)
    bias = (decoded.mean(axis=0, dtype=np.float64) - x) * 127
    bound = np.sqrt(np.log(2 * 256 / 1e-9) / (2 * n))
    assert bound < 0.06, "rounding to nearest must not pass"
    assert np.abs(bias).max() < bound
    assert np.unique(decoded[:, 1]).size == 2, "a value between two steps goes to either"


def test_the_same_chance_encodes_the_same_bytes():
    first, again, other = (encode("int8", some(1000), chance(seed)).data for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# --- the edges of float32 (a warning is an error here) ------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None)
@given(vector=VECTORS)
@example(vector=np.array([LARGEST, -LARGEST, 0, 1e-45], np.float32))
@example(vector=np.full(256, LARGEST, np.float32))
@example(vector=np.array([1e-45, -1e-45], np.float32))
@example(vector=np.array([65504, 65519.996, 65520, 1e9], np.float32))
@example(vector=np.zeros(256, np.float32))
def test_any_finite_vector_is_encoded_without_a_warning_and_decodes_to_finite_values(codec, vector):
    encoded = encode(codec, vector, chance())
    assert CODECS[codec].finite(encoded.data)
    assert np.isfinite(encoded.values()).all()
    assert (np.sign(encoded.values()) * np.sign(vector) >= 0).all()


def test_int8_clips_the_largest_numbers_by_one_part_in_128():
    decoded = encode("int8", np.array([LARGEST, -LARGEST], np.float32), chance()).values()
    assert np.allclose(decoded, [LARGEST * 127 / 128, -LARGEST * 127 / 128], rtol=1e-6)


# --- finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "words"), [("float32", np.uint32), ("float16", np.uint16)])
@settings(deadline=None)
@given(data=st.data())
def test_finite_says_exactly_whether_all_floats_are(codec, words, data):
    exponent = np.array(np.inf, codec).view(words)
    word = st.one_of(
        st.integers(0, np.iinfo(words).max), st.integers(0, 3).map(lambda low: int(exponent) + low)
    )
    raw = np.array(data.draw(st.lists(word, min_size=1, max_size=20)), words).view(np.uint8)
    assert CODECS[codec].finite(raw) == bool(np.isfinite(raw.view(codec)).all())


SCALES = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32)),
    st.floats(LARGEST / 130, LARGEST / 125).map(np.float32),
)


@settings(deadline=None)
@given(st.lists(st.tuples(SCALES, st.integers(-128, 127)), min_size=1, max_size=4))
@example([(np.float32(LARGEST / 127), 127)])
@example([(np.float32(LARGEST / 128), -128)])
@example([(np.nextafter(np.float32(LARGEST / 128), np.float32(np.inf)), -128)])
@example([(np.float32(LARGEST / 100), 99)])
@example([(np.float32(np.nan), 0)])
@example([(np.float32(1), 127), (np.float32(-np.inf), 0)])
def test_finite_says_exactly_whether_all_int8_values_are(blocks):
    raw = np.zeros(len(blocks), np.dtype([("scale", "<f4"), ("q", "i1", (INT8_BLOCK,))]))
    for block, (scale, q) in zip(raw, blocks, strict=True):
        block["scale"], block["q"][17] = scale, q
    # the product of 24 and 8 bits is exact in float64; this is where float32 rounds to infinity
    with np.errstate(invalid="ignore"):
        exact = raw["scale"].astype(np.float64)[:, None] * raw["q"]
    expected = bool((np.abs(exact) < (2 - 2.0**-24) * 2.0**127).all())
    assert CODECS["int8"].finite(raw.view(np.uint8)) == expected


@pytest.mark.parametrize(
    ("codec", "nan"), [("float32", "<f4"), ("float16", "<f2"), ("int8", "<f4")]
)
def test_finite_finds_one_bad_value_in_a_large_payload(codec, nan):
    good = encode(codec, some(PIECE + 1), chance()).data
    assert CODECS[codec].finite(good)
    block = CODECS[codec].block_bytes
    for at in (0, good.nbytes // 2 // block * block, good.nbytes - block):
        bad = good.copy()
        word = np.array([np.nan], nan).view(np.uint8)
        bad[at : at + word.nbytes] = word
        assert not CODECS[codec].finite(bad)
