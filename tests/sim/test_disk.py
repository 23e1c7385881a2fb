"""A disk keeps what was written whole, and says what it could not write."""

from __future__ import annotations

from errno import ENOSPC

import numpy as np
import pytest

from p2pfl.ports import Saved
from p2pfl.sim.disk import Disk


def saved(value: float, momentum: bool = False) -> Saved:
    weights = np.full(3, value, np.float32)
    extra = weights.copy() if momentum else None
    return Saved(weights, extra, extra, int(value), 2, 3)


def test_a_new_disk_is_empty() -> None:
    assert Disk().load() is None


def test_what_was_saved_is_loaded_in_memory_of_its_own() -> None:
    disk, first = Disk(), saved(1, momentum=True)
    disk.save(first)
    first.weights[:] = 9
    assert first.momentum is not None
    first.momentum[:] = 9
    loaded = disk.load()
    assert loaded is not None
    assert loaded.momentum is not None
    assert loaded.previous is not None
    assert [loaded.weights[0], loaded.momentum[0], loaded.previous[0]] == [1, 1, 1]
    assert (loaded.age, loaded.own_steps, loaded.cycles) == (1, 2, 3)
    loaded.weights[:] = 7
    again = disk.load()
    assert again is not None
    assert again.weights[0] == 1


def test_a_full_disk_says_so_and_what_was_there_is_intact() -> None:
    disk = Disk()
    disk.save(saved(1))
    disk.is_full = True
    with pytest.raises(OSError, match="No space left") as refused:
        disk.save(saved(2))
    assert refused.value.errno == ENOSPC
    loaded = disk.load()
    assert loaded is not None
    assert loaded.age == 1


def test_a_torn_checkpoint_falls_back_to_the_previous_one_and_cuts_the_power_once() -> None:
    cuts: list[str] = []
    disk = Disk()
    disk.cut = lambda: cuts.append("cut")
    disk.save(saved(1))
    disk.save(saved(2))
    disk.is_torn = True
    disk.save(saved(3))
    loaded = disk.load()
    assert loaded is not None
    assert (loaded.age, disk.torn, cuts) == (2, 1, ["cut"])
    disk.save(saved(4))
    disk.is_torn = True
    disk.save(saved(5))
    disk.is_torn = True
    disk.save(saved(6))
    loaded = disk.load()
    assert loaded is not None
    assert loaded.age == 4, "torn twice in a row, the last whole one is still there"


def test_a_torn_first_checkpoint_leaves_nothing() -> None:
    disk = Disk(is_torn=True)
    disk.save(saved(1))
    assert disk.load() is None


def test_a_wiped_disk_has_forgotten_who_it_was() -> None:
    disk = Disk(incarnation=3, node="ab")
    disk.save(saved(1))
    disk.wipe()
    assert (disk.load(), disk.incarnation, disk.node) == (None, 0, "")
