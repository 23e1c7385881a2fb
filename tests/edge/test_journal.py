"""The journal: what was flushed stays, what is damaged is moved aside, the node never notices."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.core.events import Cycle, Event, Exchanged, Fault, Measured, MemberChanged, Stopped
from p2pfl.edge.journal import DAMAGED_MAX, SCHEMA, TABLES, SqliteJournal, events, read
from p2pfl.errors import ConfigError, StateError
from p2pfl.ports import Journal

WALL = 1.7e9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def journal(path: Path, **options: Any) -> SqliteJournal:
    return SqliteJournal(path, wall=lambda: WALL, **options)


def cycle(number: int) -> Cycle:
    return Cycle(number / 4, number, 5, 5 * number, 5 * number, 1 / (number + 1), 0.1)


def written(path: Path, *recorded: Event, **options: Any) -> None:
    keeper = journal(path, **options)
    for event in recorded:
        keeper.record(event)
    keeper.close()


def cycles(path: Path) -> list[int]:
    return [event.cycle for event in events(path, Cycle)]


def same(a: object, b: object) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return nan or (a == b and type(a) is type(b))


# --- round trip ---------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = {
    "int": st.integers(-(2**62), 2**62),
    "float": st.floats(),
    "str": text,
    "bool": st.booleans(),
    "str | None": st.none() | text,
    # NULL stands for both NaN and None where None is allowed
    "float | None": st.none() | st.floats(allow_nan=False),
    "Mapping[str, float]": st.dictionaries(text, st.floats(), max_size=3),
}
any_event = st.one_of(
    st.builds(kind, **{field.name: values[str(field.type)] for field in fields(kind)})
    for kind in get_args(Event)
)


@settings(deadline=None)
@given(st.lists(any_event, max_size=10))
def test_every_event_comes_back_as_it_was_recorded_in_order(recorded: list[Event]) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "journal.sqlite"
        written(path, Stopped(0.0, "so that there is a file"), *recorded)
        for kind in get_args(Event):
            found = events(path, kind)
            expected = [event for event in recorded if type(event) is kind]
            for a, b in zip(found[len(found) - len(expected) :], expected, strict=True):
                assert all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(kind))


def test_rows_are_dicts_with_id_wall_time_and_the_fields(path: Path) -> None:
    written(path, Measured(2.5, 7, 35, 0.5, None, 100, {"f1": 0.25}), Stopped(3.0, "signal"))
    assert read(path, "measured") == [
        {
            "id": 1,
            "wall": WALL,
            "at": 2.5,
            "cycle": 7,
            "age": 35,
            "loss": 0.5,
            "accuracy": None,
            "samples": 100,
            "metrics": {"f1": 0.25},
        }
    ]
    assert [row["reason"] for row in read(path, "stopped")] == ["signal"]


def test_there_is_one_table_for_each_kind_of_event_with_types_that_people_can_query(
    path: Path,
) -> None:
    written(path, cycle(1))
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        columns = {row[1]: row[2] for row in db.execute("PRAGMA table_info(fault)")}
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert tables == {
        "started",
        "stopped",
        "cycle",
        "exchanged",
        "member_changed",
        "fault",
        "measured",
    }
    assert columns == {
        "id": "INTEGER",
        "wall": "REAL",
        "at": "REAL",
        "kind": "TEXT",
        "detail": "TEXT",
        "peer": "TEXT",
    }


def test_no_field_of_an_event_has_the_name_of_a_column_of_ours() -> None:
    assert all(not {"id", "wall"} & set(table.hints) for table in TABLES.values())


def test_values_sqlite_does_not_know_are_stored_as_what_they_mean(path: Path) -> None:
    odd: Any = {"a": np.float32(0.5), 3: np.int64(4), "c": object}
    written(
        path,
        MemberChanged(np.float32(1.5), "p\ud800q", "dead", 2**80, "x"),  # type: ignore[arg-type]
        Measured(0.0, 1, 1, math.inf, np.float64(0.25), np.int32(7), odd),  # type: ignore[arg-type]
        Exchanged(math.nan, "p", "asked", "flow"),
    )
    (member,) = events(path, MemberChanged)
    assert member == MemberChanged(1.5, "p?q", "dead", 2**63 - 1, "x")
    (measured,) = events(path, Measured)
    assert (measured.loss, measured.accuracy, measured.samples) == (math.inf, 0.25, 7)
    assert measured.metrics == {"a": 0.5, "3": 4, "c": str(object)}
    assert math.isnan(events(path, Exchanged)[0].at)


def test_reading_after_an_id_follows_a_running_node(path: Path) -> None:
    keeper = journal(path)
    keeper.record(cycle(1))
    keeper.flush()
    (first,) = read(path, "cycle")
    keeper.record(cycle(2))
    keeper.flush()
    assert [row["cycle"] for row in read(path, "cycle", after=first["id"])] == [2]
    keeper.close()


def test_a_journal_is_a_journal() -> None:
    keep: type[Journal] = SqliteJournal
    assert keep is SqliteJournal


# --- flushing -----------------------------------------------------------------------------------


def test_nothing_touches_the_disk_before_the_first_flush(path: Path) -> None:
    keeper = journal(path)
    keeper.record(cycle(1))
    assert not path.exists()
    keeper.flush()
    assert cycles(path) == [1]
    keeper.close()


async def test_run_flushes_by_itself_until_it_is_cancelled_and_close_writes_the_rest(
    path: Path,
) -> None:
    keeper = journal(path, every_s=0.001)

    def is_written() -> bool:
        return path.exists() and cycles(path) == [1]

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run(), name="journal")
        keeper.record(cycle(1))
        while not is_written():  # noqa: ASYNC110 (a thread writes: there is no event to wait for)
            await asyncio.sleep(0)
        running.cancel()
    keeper.record(cycle(2))
    keeper.close()
    keeper.close()
    assert cycles(path) == [1, 2]


def test_a_closed_journal_forgets_without_a_word(path: Path) -> None:
    keeper = journal(path)
    keeper.close()
    keeper.record(cycle(1))
    keeper.flush()
    assert not path.exists()


def test_recording_while_another_thread_flushes_loses_and_doubles_nothing(path: Path) -> None:
    keeper = journal(path, buffered=100_000)
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            keeper.flush()

    threads = [threading.Thread(target=flush) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        keeper.record(cycle(number))
    done.set()
    for thread in threads:
        thread.join()
    keeper.close()
    assert cycles(path) == list(range(20_000))


def test_a_restarted_node_appends(path: Path) -> None:
    written(path, cycle(1), cycle(2))
    written(path, cycle(3))
    assert [(row["id"], row["cycle"]) for row in read(path, "cycle")] == [(1, 1), (2, 2), (3, 3)]


KILLED = """
import os, signal, sys
from pathlib import Path
from p2pfl.core.events import Cycle
from p2pfl.edge.journal import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
for number in range(3000):
    journal.record(Cycle(0.0, number, 1, 1, 1, 0.5, 0.1))
    if number % 100 == 99:
        journal.flush()
journal.record(Cycle(0.0, 3000, 1, 1, 1, 0.5, 0.1))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_flushed_survives_sigkill_and_the_next_start(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=60)
    assert killed.returncode == -9
    assert cycles(path) == list(range(3000))
    written(path, cycle(9))
    assert cycles(path) == [*range(3000), 9]


def test_another_process_reads_while_the_node_has_it_open(path: Path) -> None:
    keeper = journal(path)
    keeper.record(cycle(1))
    keeper.flush()
    script = (
        "import sys; from pathlib import Path; from p2pfl.edge.journal import read\n"
        "print(read(Path(sys.argv[1]), 'cycle')[-1]['cycle'])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout == "1\n"
    keeper.record(cycle(2))
    keeper.close()
    assert cycles(path) == [1, 2]


# --- bounds -------------------------------------------------------------------------------------


def test_each_table_keeps_its_newest_rows_and_no_more(path: Path) -> None:
    keeper = journal(path, rows=10)
    keeper.record(Stopped(0.0, "alone in its table"))
    for number in range(95):
        keeper.record(cycle(number))
        if number % 7 == 0:
            keeper.flush()
    keeper.close()
    assert cycles(path) == list(range(85, 95))
    assert len(read(path, "stopped")) == 1
    written(path, cycle(95), rows=10)
    assert cycles(path) == list(range(86, 96))


def test_what_does_not_fit_the_buffer_is_counted_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = journal(path, buffered=10)
    for number in range(25):
        keeper.record(cycle(number))
    keeper.flush()
    keeper.record(cycle(25))
    keeper.flush()
    keeper.close()
    assert cycles(path) == [*range(10), 25]
    (told,) = events(path, Fault)
    assert told == Fault(24 / 4, "journal", "15 events were not kept: 10 waited already", None)
    assert caplog.messages == [f"journal {path}: 15 events were not kept, too many waited"]


# --- places that cannot be written --------------------------------------------------------------


def test_a_place_that_cannot_be_written_costs_one_warning_and_heals(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    keeper = journal(path, buffered=5)
    for number in range(9):
        keeper.record(cycle(number))
        keeper.flush()
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.messages[0]
    path.rmdir()
    keeper.flush()
    keeper.record(cycle(9))
    keeper.close()
    assert cycles(path) == [0, 1, 2, 3, 4, 9]
    assert [fault.detail for fault in events(path, Fault)] == [
        "4 events were not kept: 5 waited already"
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_costs_one_warning_and_only_what_did_not_fit_the_buffer(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "journal.sqlite"
    keeper = journal(path, buffered=500)
    keeper.record(cycle(0))
    keeper.flush()
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(b"0" * 65_536) == 65_536:
            pass
    for number in range(1, 1001):
        keeper.record(cycle(number))
        if number % 100 == 0:
            keeper.flush()
    assert ["full" in message for message in caplog.messages] == [True]
    assert cycles(path) == [0]
    (small_disk / "ballast").unlink()
    keeper.flush()
    keeper.record(cycle(1001))
    keeper.close()
    assert cycles(path) == [*range(501), 1001]
    assert [fault.detail for fault in events(path, Fault)] == [
        "500 events were not kept: 500 waited already"
    ]


# --- damage -------------------------------------------------------------------------------------


def filled(path: Path) -> None:
    written(path, *map(cycle, range(2000)))


def test_a_file_that_is_no_database_is_moved_aside_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"something else entirely" * 100)
    written(path, cycle(1))
    assert cycles(path) == [1]
    assert (path.parent / "journal.damaged-1.sqlite").read_bytes().startswith(b"something else")
    (message,) = caplog.messages
    assert "is damaged" in message
    assert "journal.damaged-1.sqlite" in message


def test_damaged_files_are_numbered_and_none_is_overwritten(path: Path) -> None:
    for number in (1, 2, 3):
        path.write_bytes(b"damage %d" % number * 300)
        written(path, cycle(number))
        assert cycles(path) == [number]
    for number in (1, 2, 3):
        aside = path.parent / f"journal.damaged-{number}.sqlite"
        assert aside.read_bytes().startswith(b"damage %d" % number)


@pytest.mark.parametrize("at", [0, 16, 18, 30, 44, 56, 100, 4096, 5 * 4096, 8 * 4096 + 7])
def test_a_page_of_garbage_is_noticed_at_the_start(path: Path, at: int) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 64)
    written(path, cycle(1))
    assert cycles(path) == [1]
    assert (path.parent / "journal.damaged-1.sqlite").exists()


def test_a_truncated_file_is_noticed_at_the_start(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.truncate(5 * 4096 + 100)
    written(path, cycle(1))
    assert cycles(path) == [1]


def test_damage_while_the_node_runs_costs_no_event_that_was_not_flushed_yet(path: Path) -> None:
    filled(path)
    keeper = journal(path)
    keeper.record(cycle(1))
    keeper.flush()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.truncate(4096)
    for number in (2, 3):
        keeper.record(cycle(number))
        keeper.flush()
    keeper.close()
    assert cycles(path) == [2, 3]
    assert (path.parent / "journal.damaged-1.sqlite").exists()


def test_the_log_of_a_damaged_file_is_not_played_into_the_new_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=60)
    assert Path(f"{path}-wal").stat().st_size > 0
    path.write_bytes(b"\xa5" * path.stat().st_size)
    written(path, cycle(1))
    assert cycles(path) == [1]
    assert (path.parent / "journal.damaged-1.sqlite").exists()
    assert [message.count("\n") for message in caplog.messages] == [0]


def test_the_damaged_files_that_are_kept_are_bounded(path: Path) -> None:
    for number in range(DAMAGED_MAX + 3):
        path.write_bytes(b"damage %02d" % number * 300)
        written(path, cycle(number))
    asides = sorted(path.parent.glob("journal.damaged-*"))
    assert len(asides) == DAMAGED_MAX
    assert asides[-1].read_bytes().startswith(b"damage %02d" % (DAMAGED_MAX + 2))


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=1, max_size=3000), st.booleans())
def test_a_journal_begins_whatever_lies_in_its_place(data: bytes, like: bool) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "journal.sqlite"
        path.write_bytes((b"SQLite format 3\0" if like else b"") + data)
        written(path, cycle(1))
        assert cycles(path) == [1]


def test_a_database_of_somebody_else_or_of_a_later_schema_is_moved_aside(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE cycle (mine TEXT)")
    written(path, cycle(1))
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    written(path, cycle(2))
    assert cycles(path) == [2]
    assert [message.split("(")[1].split(")")[0] for message in caplog.messages] == [
        f"it has schema 0, expected {SCHEMA}",
        f"it has schema {SCHEMA + 1}, expected {SCHEMA}",
    ]


def test_a_file_from_before_a_field_was_added_is_continued(path: Path) -> None:
    written(path, cycle(1))
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE cycle DROP COLUMN seconds")
        db.execute("DROP TABLE fault")
        db.commit()
    assert "seconds" not in read(path, "cycle")[0]
    assert read(path, "fault") == []
    written(path, cycle(2), Fault(1.0, "disk", "full"))
    old, new = read(path, "cycle")
    assert math.isnan(old["seconds"])
    assert new["seconds"] == 0.1
    assert len(read(path, "fault")) == 1
    assert list(path.parent.glob("*damaged*")) == []


# --- reading what is not there ------------------------------------------------------------------


def test_reading_an_unknown_table_names_the_known_ones(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no table 'cycles'; it has cycle, exchanged, fault"):
        read(path, "cycles")


def test_reading_a_missing_journal_makes_none(path: Path) -> None:
    with pytest.raises(StateError, match="there is no journal"):
        read(path, "cycle")
    assert not path.exists()


def test_reading_a_damaged_journal_is_an_error_that_says_so(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StateError, match="cannot be read: file is not a database"):
        read(path, "cycle")


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("cycle", "seven", "its column 'cycle' holds 'seven'"),
        ("cycle", b"\0\1", r"its column 'cycle' holds b'\\x00\\x01'"),
        ("cycle", None, "its column 'cycle' holds None"),
        ("loss", "low", "its column 'loss' holds 'low'"),
        ("wall", "noon", "its column 'wall' holds 'noon'"),
    ],
)
def test_a_cell_that_no_node_writes_is_an_error_and_no_value_of_another_type(
    path: Path, column: str, cell: Any, told: str
) -> None:
    written(path, cycle(1), cycle(2))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE cycle SET {column} = ? WHERE cycle = 1", (cell,))
    with pytest.raises(StateError, match=f"cannot be read: {told}"):
        read(path, "cycle")


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 9000])
def test_a_cell_of_figures_that_is_no_json_object_is_an_error(path: Path, text: str) -> None:
    written(path, Measured(0.0, 1, 1, 0.5, None, 7, {"f1": 0.5}))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE measured SET metrics = ?", (text,))
    with pytest.raises(StateError, match=r"its column 'metrics' holds .* expected a JSON object"):
        read(path, "measured")


def test_a_view_in_place_of_a_table_is_not_read(path: Path) -> None:
    """Its query could be one without an end."""
    written(path, cycle(1))
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE cycle")
        db.execute(f"CREATE VIEW cycle AS {endless}")
    assert read(path, "cycle") == []
