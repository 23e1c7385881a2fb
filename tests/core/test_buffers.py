"""Recycled memory: back when nobody looks at it any more, never before."""

import numpy as np

from p2pfl.core.buffers import Buffers

MODEL = 1 << 20


def address(array):
    return array.__array_interface__["data"][0]


def test_a_large_buffer_comes_back_when_its_last_view_is_gone():
    buffers = Buffers()
    first = buffers.take(MODEL)
    place, view = address(first), first[100:200].view(np.float32)
    del first
    other = buffers.take(MODEL)
    assert address(other) != place, "a view of it is still alive"
    del view
    assert address(buffers.take(MODEL)) == place


def test_small_buffers_are_plain_arrays():
    assert Buffers().take(10).base is None


def test_no_more_than_the_spare_ones_are_kept_and_only_of_the_size_wanted_last():
    buffers = Buffers(spare=2)
    taken = [buffers.take(MODEL) for _ in range(5)]
    del taken
    assert len(buffers._free) == 2
    buffers.take(2 * MODEL)
    assert all(block.nbytes == 2 * MODEL for block in buffers._free)
