"""What stays of a run for other programs: tables of the curves, and a summary.

    series.csv      a row for each look: how the swarm as a whole stood
    nodes.parquet   a row for each look and node (nodes.csv where pyarrow is not installed)
    summary.json    what was expected and measured, and everything needed to run it again

Rule of the file: figures are written as they were measured; what was not measured stays empty
(null in JSON and Parquet). JSON knows no infinity: it is the text "inf" there.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import p2pfl
from p2pfl.scenario.load import dump
from p2pfl.scenario.trace import STALENESS_EDGES, Floats, Presence, Trace
from p2pfl.scenario.verdicts import (
    Verdict,
    figures,
    mean_accuracy,
    nodewise,
    passed,
    up,
    worst_tenth,
)

SERIES, NODES, NODES_CSV, SUMMARY = "series.csv", "nodes.parquet", "nodes.csv", "summary.json"

_BLOCK_ROWS = 500_000
"""Rows made at a time, so that a long run of many nodes needs little memory."""
_COLUMNS = ("seconds", "node", "presence", "accuracy", "cycles", "age", "sent_bytes")


def write_tables(
    trace: Trace, verdicts: list[Verdict], folder: Path, *, command: str = ""
) -> list[Path]:
    """Write all tables and the summary into a folder, which is made if need be; what was written.

    Args:
        command: what does the same again, for the summary.

    Raises:
        OSError: one of them cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wide = series(trace)
    rows = zip(*(column.tolist() for column in wide.values()), strict=True)
    _csv(folder / SERIES, tuple(wide), rows)
    if importlib.util.find_spec("pyarrow") is not None:
        nodes = folder / NODES
        _parquet(trace, nodes)
    else:
        nodes = folder / NODES_CSV
        _csv(nodes, _COLUMNS, _long(trace))
    text = json.dumps(summary(trace, verdicts, command), indent=2, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    return [folder / SUMMARY, folder / SERIES, nodes]


def series(trace: Trace) -> dict[str, Floats]:
    """The swarm over time: (T,) columns by name."""
    return {
        "seconds": trace.times,
        "up": up(trace),
        "mean_accuracy": mean_accuracy(trace),
        "worst_tenth_accuracy": worst_tenth(trace.accuracy),
        "std_accuracy": nodewise(np.nanstd, trace.accuracy),
        "consensus_distance": trace.distance,
        "optimum_distance": trace.optimum,
        "mass_drift": trace.drift,
        "pending": trace.pending,
        "mean_cycles": nodewise(np.nanmean, trace.cycles),
        "mean_age": nodewise(np.nanmean, trace.age),
        "sent_bytes": total(trace.sent),
        "messages": total(trace.messages),
        **({"backdoor_success": trace.backdoor} if len(trace.backdoor) else {}),
        **({"suspended": trace.suspended} if len(trace.suspended) else {}),
    }


def total(counters: Floats) -> Floats:
    """(T,) sum of the nodes' counters; one that is gone counts with what was last known of it.

    Args:
        counters: (T, n), NaN where unknown.
    """
    rows = np.arange(len(counters))[:, None]
    latest = np.maximum.accumulate(np.where(np.isfinite(counters), rows, -1), axis=0)
    last = np.take_along_axis(counters, np.maximum(latest, 0), axis=0)
    return nodewise(np.nansum, np.where(latest >= 0, last, np.nan))


def summary(trace: Trace, verdicts: list[Verdict], command: str) -> dict[str, Any]:
    """A run without its curves, as plain JSON values."""
    scenario = trace.scenario
    return {
        "ok": passed(verdicts, trace),
        "scenario": scenario.name,
        "engine": trace.engine,
        "seed": scenario.seed,
        "nodes": scenario.nodes,
        "topology": scenario.topology,
        "hostile": [trace.names[place] for place in trace.hostile],
        "command": command,
        "expectations": [
            {
                "name": one.name,
                "bound": str(one.bound),
                "value": _plain(one.value),
                "held": one.held,
            }
            for one in verdicts
        ],
        "figures": {name: _plain(value) for name, value in figures(trace).items()},
        "outcomes": {how: int(count) for how, count in trace.outcomes.items()},
        "staleness": {
            "edges_cycles": list(STALENESS_EDGES),
            "exchanges": [int(count) for count in trace.staleness],
        },
        "marks": [
            {"at": mark.at, "until": mark.until, "kind": mark.kind, "text": mark.text}
            for mark in trace.marks
        ],
        "deaths": dict(trace.deaths),
        "notes": list(trace.notes),
        "seconds": _plain(trace.seconds),
        "wall_s": round(trace.wall_s, 3),
        "steps": int(trace.steps),
        "events": trace.events,
        "event_hash": trace.event_hash,
        "versions": versions(),
        "cores": os.cpu_count(),
        "config": dump(scenario),
    }


def versions() -> dict[str, str]:
    """Of what a run's figures depend on."""
    return {
        "p2pfl": p2pfl.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _plain(value: float | None) -> float | str | None:
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))


# --- tables -------------------------------------------------------------------------------------


def _csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return ""
    return int(value) if value.is_integer() else float(f"{value:.9g}")


def _long(trace: Trace) -> Iterable[tuple[Any, ...]]:
    names, states = trace.names, [state.name.lower() for state in Presence]
    for row, at in enumerate(trace.times.tolist()):
        presence = [states[code] for code in trace.presence[row]]
        columns = (values[row].tolist() for values in _measured(trace))
        yield from zip([at] * len(names), names, presence, *columns, strict=True)


def _measured(trace: Trace) -> tuple[Floats, Floats, Floats, Floats]:
    return trace.accuracy, trace.cycles, trace.age, trace.sent


def _parquet(trace: Trace, path: Path) -> None:
    """In blocks of looks; names and states are dictionaries, so that they cost next to nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.array(trace.names)
    states = pa.array([state.name.lower() for state in Presence])
    words = pa.dictionary(pa.int32(), pa.string())
    kinds = (pa.float64(), words, words, *[pa.float64()] * 4)
    schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)))
    n = trace.scenario.nodes
    block = max(1, _BLOCK_ROWS // n)
    # a file of ours, because pyarrow takes a name with a colon for an address
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for begin in range(0, len(trace.times), block):
            rows = slice(begin, begin + block)
            times = trace.times[rows]
            places = np.tile(np.arange(n, dtype=np.int32), len(times))
            presence = trace.presence[rows].ravel().astype(np.int32)
            columns = [
                pa.array(np.repeat(times, n)),
                pa.DictionaryArray.from_arrays(pa.array(places), names),
                pa.DictionaryArray.from_arrays(pa.array(presence), states),
                *(pa.array(all_[rows].ravel(), from_pandas=True) for all_ in _measured(trace)),
            ]
            writer.write_table(pa.table(columns, schema=schema))
