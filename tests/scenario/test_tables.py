"""The tables: every figure as it was measured, what was not measured stays empty."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.configuring import from_mapping
from p2pfl.scenario import tables
from p2pfl.scenario.spec import Scenario
from p2pfl.scenario.tables import NODES, NODES_CSV, SERIES, SUMMARY, summary, total, write_tables
from p2pfl.scenario.trace import Presence, Trace
from p2pfl.scenario.verdicts import judged
from tests.scenario.traces import empty, made, without_accuracy

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: None)


def test_the_series_has_a_row_for_each_look(tmp_path: Path) -> None:
    trace = made()
    write_tables(trace, judged(trace), tmp_path / "new" / "folder")
    found = rows(tmp_path / "new" / "folder" / SERIES)
    assert len(found) == len(trace.times)
    last = found[-1]
    assert float(last["seconds"]) == 60.0
    assert float(last["mean_accuracy"]) == pytest.approx(np.nanmean(trace.accuracy[-1]), rel=1e-8)
    assert int(last["up"]) == (trace.presence[-1] == Presence.UP).sum()
    assert float(last["sent_bytes"]) == pytest.approx(np.nansum(trace.sent[-1]), rel=1e-8)
    assert {row["mass_drift"] for row in found} == {""}


def test_nodes_are_written_as_csv_where_there_is_no_pyarrow(
    tmp_path: Path, without_pyarrow: None
) -> None:
    trace = made(3, 10)
    files = write_tables(trace, judged(trace), tmp_path)
    assert files[-1] == tmp_path / NODES_CSV
    found = rows(files[-1])
    assert [row["node"] for row in found[:4]] == ["n1", "n2", "n3", "n1"]
    for row, presence, accuracy in zip(
        found, trace.presence.ravel(), trace.accuracy.ravel(), strict=True
    ):
        assert row["presence"] == Presence(presence).name.lower()
        if math.isnan(accuracy):
            assert row["accuracy"] == ""
        else:
            assert float(row["accuracy"]) == pytest.approx(accuracy, rel=1e-8)


@needs_pyarrow
def test_nodes_are_written_as_parquet_and_read_back_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(tables, "_BLOCK_ROWS", 50)  # several blocks, the last one smaller
    trace = made(20, 7)
    files = write_tables(trace, judged(trace), tmp_path)
    assert files[-1] == tmp_path / NODES
    found = pq.read_table(files[-1])
    assert found.num_rows == 7 * 20
    assert found["node"].to_pylist() == list(trace.scenario.names) * 7
    states = [Presence(code).name.lower() for code in trace.presence.ravel()]
    assert found["presence"].to_pylist() == states
    assert found["accuracy"].null_count == np.isnan(trace.accuracy).sum()
    for name, values in (("accuracy", trace.accuracy), ("sent_bytes", trace.sent)):
        back = np.array([math.nan if v is None else v for v in found[name].to_pylist()])
        np.testing.assert_array_equal(back, values.ravel())


@needs_pyarrow
def test_a_thousand_nodes_and_looks_take_little_room(tmp_path: Path) -> None:
    trace = made(1000, 1000)
    write_tables(trace, judged(trace), tmp_path)
    assert (tmp_path / NODES).stat().st_size < 40e6


def test_the_summary_is_plain_json_with_all_that_is_needed_to_run_it_again(tmp_path: Path) -> None:
    trace = made(notes=("links are ignored",))
    verdicts = judged(trace)
    write_tables(trace, verdicts, tmp_path, command="p2pfl run made-up")
    found = json.loads((tmp_path / SUMMARY).read_text())
    assert found == summary(trace, verdicts, "p2pfl run made-up")
    assert found["ok"] is True
    assert found["command"] == "p2pfl run made-up"
    first = found["expectations"][0]
    assert (first["name"], first["bound"], first["held"]) == ("mean_accuracy", ">= 0.9", True)
    assert first["value"] == found["figures"]["mean_accuracy"]
    assert found["event_hash"] == trace.event_hash
    assert sum(found["outcomes"].values()) == sum(trace.outcomes.values())
    assert sum(found["staleness"]["exchanges"]) == trace.staleness.sum()
    assert found["notes"] == ["links are ignored"]
    assert from_mapping(found["config"], Scenario) == trace.scenario
    assert set(found["versions"]) == {"p2pfl", "python", "numpy"}


def test_the_summary_says_null_for_unknown_and_inf_for_infinity() -> None:
    trace = without_accuracy(nodes=4)
    found = summary(trace, judged(trace), "")
    assert found["figures"]["mean_accuracy"] is None
    runaway = replace(trace, distance=np.full(len(trace.times), np.inf))
    found = summary(runaway, judged(runaway), "")
    assert found["figures"]["consensus_distance"] == "inf"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "trace",
    [empty(), made(1, 2, marks=()), without_accuracy(), made(event_hash=None, events=None)],
    ids=["nobody looked", "one node", "nothing learnt", "processes"],
)
def test_tables_are_written_of_any_trace(trace: Trace, tmp_path: Path) -> None:
    for path in write_tables(trace, judged(trace), tmp_path):
        assert path.is_file()


def test_who_is_gone_counts_in_totals_with_what_was_last_known_of_him() -> None:
    nan = math.nan
    counters = np.array([[nan, nan], [1.0, nan], [2.0, 5.0], [nan, 6.0], [4.0, nan]])
    np.testing.assert_array_equal(total(counters), [nan, 1.0, 7.0, 8.0, 10.0])
