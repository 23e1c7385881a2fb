"""One thread for each matrix product: small ones are faster so, and their last digits are the same.

OpenBLAS splits a product over the cores it finds, which changes the order of the sums, and makes a
busy machine wait for its threads (one virtual second of eight nodes: 0.2 s, or 14 s beside two
busy loops). Torch has a switch of its own.

Rule of the file: where `threadpoolctl` is missing, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy's matrix products use one thread in here."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield
