"""What bodies cost besides the bytes that they move."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
from p2pfl.edge.bodies import hold_pieces

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        pieces = [b"x" * (256 << 10) for _ in range(4)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

hold_pieces()
print(faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that has to be taught")
def test_pieces_that_come_and_go_stay_in_memory() -> None:
    """In a process of its own: what a process freed before, it has learnt from."""
    said = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, check=True)
    first, then = map(int, said.stdout.split())
    pages = 100 * 4 * (256 << 10) // 4096
    assert first < pages / 20
    assert then < pages / 100
