"""`/metrics`: read by Prometheus's own parser, and checked with promtool where it is installed."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2pfl.core.events import Exchanged
from p2pfl.edge.metrics import CONTENT_TYPE, Metrics
from tests.edge.page_nodes import asking, living
from tests.edge.test_http import come_true
from tests.edge.test_page_feed import ANNA, BORIS, CHLOE, Looked, member, status

ROOT = Path(__file__).parents[2]
SWARM = {
    "count": 3.02,
    "reporting": 1.0,
    "mean_accuracy": 0.93,
    "worst_tenth_accuracy": 0.9,
    "mean_loss": 0.2,
    "histogram": {"edges": [], "share": []},
    "consensus_distance": 1.4,
}
FULL: Mapping[str, Any] = status(
    member(BORIS),
    member(CHLOE, status="dead"),
    codec="float32",
    exchanges={
        "asked": {"flow": 7, "busy": 2, "refused: distance": 1, "refused: rate": 2},
        "answered": {"flow": 5, "rejected: clip": 1, "made up": 1},
    },
    refusals={BORIS: {"clip": 1, "timeout": 2}, "10.0.0.9": {"not HTTP: BadStatusLine": 4}},
    faults={"checkpoint": 2, "something new": 1},
    neighbours=[BORIS],
    pending=1,
    kept_bytes=4096,
    since_cycle_s=0.05,
    staleness_histogram={"edges": [0, 0.5, 1.0, None], "counts": [4, 2, 1]},
    swarm=SWARM,
    holding=["training rests"],
    suspended={CHLOE: {"clip": 3}},
)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: bytes) -> Samples:
    """Every sample, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def full() -> Samples:
    return read(Metrics(lambda: FULL, lambda: (7, 5.5), lambda: 2).text())


def test_every_figure_has_its_value() -> None:
    found = full()
    assert of(found, "p2pfl_received_bytes_total") == 1000
    assert of(found, "p2pfl_sent_bytes_total") == 2000
    assert of(found, "p2pfl_model_age_steps") == 1000
    assert of(found, "p2pfl_accuracy_ratio") == 0.95
    assert of(found, "p2pfl_loss") == 0.2
    assert of(found, "p2pfl_members", status="alive") == 1
    assert of(found, "p2pfl_members", status="dead") == 1
    assert of(found, "p2pfl_members", status="suspect") == 0
    assert of(found, "p2pfl_swarm_nodes") == 3.02
    assert of(found, "p2pfl_swarm_mean_accuracy_ratio") == 0.93
    assert of(found, "p2pfl_swarm_consensus_distance") == 1.4
    assert of(found, "p2pfl_holding_reasons") == 1
    assert of(found, "p2pfl_suspended_peers") == 1
    assert of(found, "p2pfl_live_streams") == 2
    assert of(found, "p2pfl_build_info", version="0.1.0", python=platform.python_version()) == 1


def test_exchanges_are_counted_by_role_and_outcome_without_their_reasons() -> None:
    found = full()
    assert of(found, "p2pfl_exchanges_total", role="asked", outcome="flow") == 7
    assert of(found, "p2pfl_exchanges_total", role="asked", outcome="refused") == 3
    assert of(found, "p2pfl_exchanges_total", role="answered", outcome="rejected") == 1
    assert of(found, "p2pfl_exchanges_total", role="answered", outcome="other") == 1


def test_what_strangers_choose_becomes_no_label() -> None:
    found = full()
    assert of(found, "p2pfl_refusals_total", reason="clip") == 1
    assert of(found, "p2pfl_refusals_total", reason="timeout") == 2
    assert of(found, "p2pfl_refusals_total", reason="other") == 4
    assert of(found, "p2pfl_faults_total", kind="other") == 1
    said = " ".join(value for _, labels in found for _, value in labels)
    for secret in (ANNA, BORIS, CHLOE, "10.0.0.9", "BadStatusLine", "made up", "garden"):
        assert secret not in said


def test_the_histogram_of_staleness_is_cumulative_with_sum_and_count() -> None:
    found = full()
    bucket = "p2pfl_staleness_cycles_bucket"
    assert [of(found, bucket, le=le) for le in ("0.5", "1.0", "+Inf")] == [4, 6, 7]
    assert of(found, "p2pfl_staleness_cycles_count") == 7
    assert of(found, "p2pfl_staleness_cycles_sum") == 5.5


def test_what_is_not_known_is_left_out() -> None:
    bare = dict(FULL) | {"accuracy": None, "loss": None, "swarm": None, "distance": float("inf")}
    del bare["staleness_histogram"]
    names = {name for name, _ in read(Metrics(lambda: bare).text())}
    assert not names & {"p2pfl_accuracy_ratio", "p2pfl_loss", "p2pfl_model_distance"}
    assert not any(name.startswith(("p2pfl_swarm", "p2pfl_staleness")) for name in names)


def test_two_nodes_in_one_process_have_metrics_of_their_own() -> None:
    one, other = Metrics(lambda: FULL), Metrics(lambda: FULL | {"age": 5})
    assert of(read(one.text()), "p2pfl_model_age_steps") == 1000
    assert of(read(other.text()), "p2pfl_model_age_steps") == 5


def test_who_asks_often_gets_the_same_answer_for_half_a_second() -> None:
    asked, now = [], 0.0

    def told() -> Mapping[str, Any]:
        asked.append(now)
        return FULL

    metrics = Metrics(told, clock=lambda: now)
    for _ in range(100):
        metrics.text()
        now += 0.01
    assert len(asked) == 2


def test_the_sum_of_staleness_is_of_what_was_mixed() -> None:
    looked = Looked()
    for weight, staleness in ((0.5, 1.25), (0.0, 9.0), (0.25, 2.0)):
        looked.record(Exchanged(1.0, BORIS, "asked", "flow", weight, staleness, 1.0))
    assert looked.feed.mixed == (2, 3.25)


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is missing: apt-get install prometheus",
)
async def test_promtool_finds_nothing_to_complain_about() -> None:
    async with living("anna") as anna, living("boris", anna), asking() as scraper:
        await come_true(lambda: anna.node.vitals.tally.answered["flow"] >= 3)
        await come_true(lambda: anna.node.vitals.measured is not None)
        async with scraper.get(f"{anna.url}/metrics") as response:
            assert response.headers["Content-Type"] == CONTENT_TYPE
            text = await response.read()
    for each in (text, Metrics(lambda: FULL, lambda: (7, 5.5)).text()):
        command = ["promtool", "check", "metrics"]
        done = subprocess.run(command, input=each, capture_output=True, check=False)  # noqa: ASYNC221
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    found = read(text)
    assert of(found, "p2pfl_exchanges_total", role="answered", outcome="flow") >= 3
    assert of(found, "p2pfl_accuracy_ratio") == 0.5
    assert of(found, "p2pfl_staleness_cycles_count") >= 3


# --- the dashboard -------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs/grafana.json").read_text(encoding="utf-8"))
    return found


def expressions() -> list[str]:
    shown = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())
    ]
    return shown + [each.get("definition", "") for each in dashboard()["templating"]["list"]]


def test_every_metric_that_the_dashboard_names_exists_and_every_metric_is_shown() -> None:
    named = set(re.findall(r"\b(?:p2pfl|process)_\w+", " ".join(expressions())))
    existing = {name for name, _ in full()}
    assert named <= existing
    shown = {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in named}
    ours = {name for name in existing if name.startswith("p2pfl_")}
    assert {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in ours} == {
        name for name in shown if name.startswith("p2pfl_")
    }


def test_the_dashboard_asks_whichever_prometheus_is_chosen() -> None:
    found = dashboard()
    variables = {each["name"]: each for each in found["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    panels = [panel for panel in found["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert all(panel["title"] and panel["description"] for panel in panels)


def test_no_two_panels_have_the_same_id_or_place() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is missing: apt-get install prometheus",
)
def test_promtool_can_read_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    exprs = [
        expr.replace("$__rate_interval", "1m").replace("$instance", ".*")
        for expr in expressions()
        if expr and not expr.startswith("label_values")
    ]
    rules = [{"record": f"r:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
