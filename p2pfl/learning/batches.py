"""In which order a learner sees its samples, and where the run's common start comes from.

Rule of the file: chance is a seed. The order belongs to one node (`seed`); the initial weights
belong to the run (`run_seed`), so that all nodes of a run start equal without talking.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def run_seed(run: str) -> int:
    """A seed from the run's name: the same on every device, 0 .. 2**63 - 1."""
    digest = hashlib.sha256(f"p2pfl initial weights {run}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Batches:
    """Endless minibatches: every epoch is a new order, each sample once.

    All batches have the same size: one that begins at the end of an epoch is filled up from the
    next, so that no sample is skipped and no batch is too small to be worth its step.

    Args:
        samples: n >= 1.
        batch_size: at most so many samples at once; all n if there are fewer.
        rng: source of the orders.
    """

    def __init__(self, samples: int, batch_size: int, rng: np.random.Generator) -> None:
        self.size = min(samples, batch_size)
        self._samples = samples
        self._rng = rng
        self._order = rng.permutation(samples)
        self._at = 0

    def next(self) -> NDArray[np.int64]:
        """Indices of the next batch: (size,)."""
        end = self._at + self.size
        if end <= self._samples:
            batch = self._order[self._at : end]
            self._at = end
            return batch
        rest = self._order[self._at :]
        self._order = self._rng.permutation(self._samples)
        self._at = end - self._samples
        return np.concatenate([rest, self._order[: self._at]])

    def several(self, count: int) -> NDArray[np.int64]:
        """Indices of the next `count` batches, as so many `next` give them: (count, size)."""
        end = self._at + count * self.size
        parts = []
        while end > self._samples:
            parts.append(self._order[self._at :])
            self._order = self._rng.permutation(self._samples)
            self._at, end = 0, end - self._samples
        parts.append(self._order[self._at : end])
        self._at = end
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return flat.reshape(count, self.size)
