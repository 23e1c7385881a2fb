"""What fuzzing ever found, and what every reader takes, again and without the fuzzer.

A finding is replayed by hand with `python -m tests.fuzz --target NAME --replay FILE`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.feeding import LONGEST, fed, scratch
from tests.fuzz.targets import TARGETS
from tests.fuzz.trees import changed

CORPUS = Path(__file__).parent / "corpus"
FOUND = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
CUTS = 12
TWISTS = 40


@pytest.fixture
def place() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


def fails(name: str, data: bytes, place: Path) -> str:
    """What is wrong with what came of an input; nothing if all is well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd data, as a user would see them
        finding = fed(TARGETS[name], data, place)
    return "" if finding is None else f"{finding.where}\n{finding.told}"


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:12]}")
def test_what_was_found_once_is_borne(path: Path, place: Path) -> None:
    assert not fails(path.parent.name, path.read_bytes(), place)


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_reader_takes_is_borne_whole_and_cut_anywhere(name: str, place: Path) -> None:
    for seed in TARGETS[name].seeds():
        step = max(len(seed) // CUTS, 1)
        for end in (*range(0, len(seed), step), len(seed)):
            assert not fails(name, seed[:end], place)


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.is_tree])
def test_what_a_reader_takes_is_borne_with_values_changed(name: str, place: Path) -> None:
    rng, kind = np.random.default_rng(7), TARGETS[name].is_tree or ""
    seeds = TARGETS[name].seeds()
    for number in range(TWISTS):
        twisted = changed(kind, seeds[number % len(seeds)], rng)
        assert not (twisted is not None and fails(name, twisted, place)), twisted


def test_findings_belong_to_targets_and_are_small() -> None:
    for path in FOUND:
        assert path.parent.name in TARGETS
        assert path.stat().st_size <= LONGEST


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_at_least_one_of_its_seeds(name: str, place: Path) -> None:
    """Else nothing behind its first check would ever be reached."""
    target, taken = TARGETS[name], 0
    for seed in target.seeds():
        try:
            target.feed(seed, place)
        except target.documented:
            continue
        taken += 1
    assert taken
