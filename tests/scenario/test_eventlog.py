"""Events as bytes: their hash, their file, and the first thing a replay does otherwise."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from p2pfl.core.events import Cycle, Event, Exchanged, Fault, Measured, MemberChanged
from p2pfl.errors import ConfigError
from p2pfl.scenario.eventlog import LOG, Diverged, EventLog, Happened, read

CYCLE = Cycle(at=1.0, cycle=1, steps=5, age=5, own_steps=5, loss=0.5, seconds=0.1)
STORY: list[tuple[int, int, Event]] = [
    (1_000_000_000, 0, CYCLE),
    (1_500_000_000, 1, MemberChanged(1.5, "ab", "alive", 1, "met")),
    (2_000_000_000, 0, Exchanged(2.0, "ab", "asked", "flow", 0.5, 1.0, 3.25, 40, 40, 0.01)),
    (2_000_000_001, 1, Fault(2.0, "training", "loss is nan")),
    (3_000_000_000, 1, Measured(3.0, 2, 10, 0.25, 0.75, 100, {"f1": 0.5, "auc": 0.75})),
]


def told(log: EventLog, story: list[tuple[int, int, Event]] = STORY) -> EventLog:
    for ns, place, event in story:
        log.add(ns, place, event)
    return log


def changed(index: int, **changes: Any) -> list[tuple[int, int, Event]]:
    ns, place, event = STORY[index]
    return [*STORY[:index], (ns, place, replace(event, **changes)), *STORY[index + 1 :]]


def test_the_hash_is_that_of_the_whole_story() -> None:
    first, again = told(EventLog()), told(EventLog())
    assert first.digest() == again.digest()
    assert first.count == len(STORY)
    assert len(first.digest()) == 32


@pytest.mark.parametrize(
    "other",
    [
        STORY[:-1],
        [STORY[1], STORY[0], *STORY[2:]],
        [(1_000_000_001, *STORY[0][1:]), *STORY[1:]],
        [(STORY[0][0], 2, STORY[0][2]), *STORY[1:]],
        changed(0, loss=np.nextafter(0.5, 1)),
        changed(2, outcome="busy"),
        changed(4, metrics={"f1": 0.5, "auc": 0.76}),
        [],
    ],
)
def test_the_least_difference_is_another_hash(other: list[tuple[int, int, Event]]) -> None:
    assert told(EventLog(), other).digest() != told(EventLog()).digest()


def test_the_hash_may_be_asked_for_at_any_time() -> None:
    log, one = EventLog(), EventLog()
    for event in STORY:
        log.add(*event)
        log.digest()
    assert log.digest() == told(one).digest()


def test_a_nodes_own_clock_and_the_order_of_metrics_do_not_matter() -> None:
    other = changed(4, at=99.0, metrics={"auc": 0.75, "f1": 0.5})
    assert told(EventLog(), other).digest() == told(EventLog()).digest()


def test_numbers_of_numpy_are_numbers() -> None:
    other = changed(0, loss=np.float64(0.5), age=np.int64(5))
    assert told(EventLog(), other).digest() == told(EventLog()).digest()


def _written(folder: Path, story: list[tuple[int, int, Event]] = STORY) -> Path:
    path = folder / LOG
    told(EventLog(path), story).close()
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = list(read(_written(tmp_path)))
    assert [(one.ns, one.place) for one in found] == [(ns, place) for ns, place, _ in STORY]
    assert [one.kind for one in found] == [
        "cycle",
        "member-changed",
        "exchanged",
        "fault",
        "measured",
    ]
    assert str(found[3]) == (
        "2.000000001 s, node 2: fault kind='training', detail='loss is nan', peer=None"
    )


def test_equal_stories_are_equal_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert _written(tmp_path / "a").read_bytes() == _written(tmp_path / "b").read_bytes()


def test_a_replay_that_is_the_same_says_nothing(tmp_path: Path) -> None:
    log = told(EventLog(recorded=read(_written(tmp_path))))
    log.close()


def replayed(path: Path, story: list[tuple[int, int, Event]]) -> None:
    told(EventLog(recorded=read(path)), story).close()


def test_the_first_difference_is_named_with_what_was_recorded(tmp_path: Path) -> None:
    path = _written(tmp_path)
    with pytest.raises(Diverged) as found:
        replayed(path, changed(2, outcome="busy"))
    text = str(found.value)
    assert text.startswith("event 3 differs: 2.000000000 s, node 1: exchanged peer='ab'")
    assert "outcome='busy'" in text
    assert "recorded was 2.000000000 s, node 1: exchanged" in text
    assert "outcome='flow'" in text


def test_a_replay_with_more_and_one_with_less_are_told_apart(tmp_path: Path) -> None:
    path = _written(tmp_path)
    with pytest.raises(Diverged, match=r"event 6 differs: .*; the record ends before it"):
        replayed(path, [*STORY, (4_000_000_000, 0, CYCLE)])
    with pytest.raises(Diverged, match=r"event 5 is missing; recorded was 3.000000000 s, node 2"):
        replayed(path, STORY[:-1])


def test_a_file_that_is_not_there_says_how_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the run was made with --no-events"):
        list(read(tmp_path / LOG))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, share: float) -> None:
    path = _written(tmp_path, STORY * 500)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read(path))


def _items(*items: Any) -> bytes:
    packed = b"".join(msgpack.packb(item) for item in items)
    return gzip.compress(packed, mtime=0)  # test names must not depend on the second


@pytest.mark.parametrize(
    "data",
    [
        b"no gzip at all",
        _items("a string"),
        _items([1, 2, "cycle"]),
        _items(["x", 2, "cycle", []]),
        _items(7),
        gzip.compress(b"\xc1\xc1", mtime=0),
    ],
)
def test_whatever_is_no_log_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / LOG
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read(path))


def test_half_an_event_at_the_end_is_noticed(tmp_path: Path) -> None:
    """gzip is whole, the last event is not."""
    path = tmp_path / LOG
    raw = gzip.decompress(_written(tmp_path).read_bytes())
    path.write_bytes(gzip.compress(raw[:-3], mtime=0))
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read(path))


def test_an_event_of_a_kind_nobody_knows_can_be_told_all_the_same() -> None:
    def recorded() -> Iterator[Happened]:
        yield Happened(1, 0, "of-the-future", (1, 2))

    with pytest.raises(Diverged, match="of-the-future"):
        told(EventLog(recorded=recorded()))
