"""`/metrics`: what a node counts and measures, in Prometheus's text format.

Names and units as https://prometheus.io/docs/practices/naming/ has them: base units, `_total` for
what only grows, `_ratio` for shares of one. The registry is this node's own, so several nodes in
one process do not mix, and nothing is counted twice: every figure is read from the node's status
when somebody asks.

Rule of the file: label values are of a small, known set. No node id, address or text of a stranger
becomes one; what is not known is "other".
"""

from __future__ import annotations

import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from p2pfl.core.messages import Reason, Status
from p2pfl.ports import Clock

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FRESH_S = 0.5
"""Whoever asks again within it gets the same answer: a flood costs no more than one who asks."""

_OUTCOMES = frozenset(
    (
        *("flow", "swap", "adopt", "adopted", "busy", "cancelled", "replaced", "mismatched"),
        *("ignored", "repeated", "unreachable", "timeout", "wire", "malformed"),
    )
)
_REFUSED, _REJECTED = "refused", "rejected"
_REASONS = frozenset((*(reason.value for reason in Reason), "timeout", "unreachable", "wire"))
_FAULTS = frozenset(
    (
        *("training", "evaluation", "checkpoint", "unresolved", "too-few", "bug", "journal"),
        *("evidence", "held"),
    )
)
_OTHER = "other"

# (name, what it is, key of the status)
_COUNTERS = (
    ("p2pfl_received_bytes", "Bytes of message bodies received from peers.", "bytes_in"),
    ("p2pfl_sent_bytes", "Bytes of message bodies sent to peers.", "bytes_out"),
    ("p2pfl_training_cycles", "Training cycles done, those before a restart included.", "cycles"),
    ("p2pfl_own_steps", "Local steps taken, those before a restart included.", "own_steps"),
)
_GAUGES = (
    ("p2pfl_model_age_steps", "Steps that went into this node's model, anybody's.", "age"),
    ("p2pfl_accuracy_ratio", "Accuracy on this node's test data, when last measured.", "accuracy"),
    ("p2pfl_loss", "Mean training loss of the latest cycle.", "loss"),
    ("p2pfl_cycle_duration_seconds", "Moving average of the time between cycles.", "cycle_s"),
    (
        "p2pfl_cycle_age_seconds",
        "Time since the latest training cycle ended.",
        "since_cycle_s",
    ),
    (
        "p2pfl_model_distance",
        "Moving average of the l2 distance to models that were mixed.",
        "distance",
    ),
    ("p2pfl_pending_exchanges", "Exchanges whose end is not known yet.", "pending"),
    (
        "p2pfl_kept_answers_bytes",
        "Memory of answers kept for peers that may ask again.",
        "kept_bytes",
    ),
    ("p2pfl_uptime_seconds", "Time since this node was started.", "uptime_s"),
)
_SWARM = (
    ("p2pfl_swarm_nodes", "Estimated number of nodes in the swarm.", "count"),
    (
        "p2pfl_swarm_reporting_ratio",
        "Estimated share of nodes that have an accuracy.",
        "reporting",
    ),
    (
        "p2pfl_swarm_mean_accuracy_ratio",
        "Estimated mean accuracy over all nodes that have one.",
        "mean_accuracy",
    ),
    (
        "p2pfl_swarm_worst_tenth_accuracy_ratio",
        "Estimated mean accuracy of the worst tenth of these nodes.",
        "worst_tenth_accuracy",
    ),
    ("p2pfl_swarm_mean_loss", "Estimated mean loss over all nodes that have one.", "mean_loss"),
    (
        "p2pfl_swarm_consensus_distance",
        "Estimated root mean square l2 distance of the nodes' models to their mean.",
        "consensus_distance",
    ),
)


class Metrics:
    """The metrics of one node.

    Args:
        status: its `/v1/status`.
        mixed: exchanges that moved a model, and the sum of their staleness in cycles.
        streams: how many live streams it serves.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        mixed: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
        streams: Callable[[], int] = lambda: 0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._status = status
        self._mixed = mixed
        self._streams = streams
        self._clock = clock
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._latest: tuple[float, bytes] | None = None

    def text(self) -> bytes:
        """All of them now, in `CONTENT_TYPE`."""
        now = self._clock()
        if self._latest is None or now - self._latest[0] > _FRESH_S:
            self._latest = now, generate_latest(self._registry)
        return self._latest[1]

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry is not to ask for a status when it is made."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Each metric that has a value now; what is not known is left out."""
        status = self._status()
        yield _labelled(
            GaugeMetricFamily,
            "p2pfl_build_info",
            "Version of p2pfl and of Python; the value is always 1.",
            ("version", "python"),
            {(status["version"], platform.python_version()): 1},
        )
        yield _labelled(
            GaugeMetricFamily,
            "p2pfl_node_info",
            "What this node was started as; the value is always 1.",
            ("name", "run", "trust", "topology", "codec"),
            {tuple(str(status[key]) for key in ("name", "run", "trust", "topology", "codec")): 1},
        )
        for name, text, key in _COUNTERS:
            yield from _single(CounterMetricFamily, name, text, status.get(key))
        for name, text, key in _GAUGES:
            yield from _single(GaugeMetricFamily, name, text, status.get(key))
        yield from self._of_peers(status)
        yield from self._staleness(status)
        swarm = status.get("swarm") or {}
        for name, text, key in _SWARM:
            yield from _single(GaugeMetricFamily, name, text, swarm.get(key))
        yield from _single(
            GaugeMetricFamily,
            "p2pfl_holding_reasons",
            "Reasons for which this node holds itself back now, as quiet hours are.",
            len(status.get("holding") or ()),
        )
        yield from _single(
            GaugeMetricFamily,
            "p2pfl_live_streams",
            "Pages and terminals that watch this node now.",
            self._streams(),
        )

    def _of_peers(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        exchanges: Counter[tuple[str, ...]] = Counter()
        for role, outcomes in status["exchanges"].items():
            for outcome, count in outcomes.items():
                exchanges[role, _outcome(outcome)] += count
        yield _labelled(
            CounterMetricFamily,
            "p2pfl_exchanges",
            "Exchanges of models by role of this node and outcome.",
            ("role", "outcome"),
            exchanges,
        )
        members = Counter({state.value: 0 for state in Status})
        members.update(member["status"] for member in status["members"])
        yield _labelled(
            GaugeMetricFamily,
            "p2pfl_members",
            "Other nodes of the run by what this node believes of them.",
            ("status",),
            {(state,): count for state, count in members.items()},
        )
        yield _labelled(
            CounterMetricFamily,
            "p2pfl_refusals",
            "Faults of peers, and of strangers, by reason.",
            ("reason",),
            _by(_REASONS, *status["refusals"].values()),
        )
        yield _labelled(
            CounterMetricFamily,
            "p2pfl_faults",
            "What went wrong at this node and was survived, by kind.",
            ("kind",),
            _by(_FAULTS, status["faults"]),
        )
        for name, text, key in (
            (
                "p2pfl_neighbours",
                "Members that the topology makes this node talk to.",
                "neighbours",
            ),
            ("p2pfl_suspended_peers", "Peers that this node has suspended.", "suspended"),
            ("p2pfl_denied_nodes", "Nodes that may not take part.", "denied"),
            (
                "p2pfl_left_out_addresses",
                "Addresses seen that do not mix with this node.",
                "others",
            ),
        ):
            yield from _single(GaugeMetricFamily, name, text, len(status[key]))

    def _staleness(self, status: Mapping[str, Any]) -> Iterator[Metric]:
        found = status.get("staleness_histogram") or {}
        edges, counts = found.get("edges", ()), found.get("counts", ())
        if not counts or len(edges) != len(counts) + 1:
            return
        # an edge that has no end is told as null: JSON has no infinity
        uppers = [float("inf") if edge is None else float(edge) for edge in edges[1:]]
        buckets, total = [], 0
        for upper, count in zip(uppers, counts, strict=True):
            total += count
            buckets.append(("+Inf" if math.isinf(upper) else repr(upper), float(total)))
        if buckets[-1][0] != "+Inf":
            buckets.append(("+Inf", float(total)))
        yield HistogramMetricFamily(
            "p2pfl_staleness_cycles",
            "How many cycles behind the models were that were mixed.",
            buckets=buckets,
            sum_value=self._mixed()[1],
        )


def _outcome(outcome: str) -> str:
    """An outcome without its reason, which `p2pfl_refusals_total` tells."""
    kind = outcome.partition(":")[0]
    return kind if kind in _OUTCOMES or kind in (_REFUSED, _REJECTED) else _OTHER


def _by(known: Iterable[str], *counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """Counts summed up by a label of a known set."""
    found: Counter[str] = Counter()
    for each in counts:
        for label, count in each.items():
            found[label if label in known else _OTHER] += count
    return {(label,): float(count) for label, count in found.items()}


def _single(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, value: object
) -> Iterator[Metric]:
    """A metric without labels, where it has a finite value."""
    if isinstance(value, int | float) and math.isfinite(value):
        yield kind(name, text, value=float(value))


def _labelled(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Mapping[tuple[str, ...], float],
) -> Metric:
    found = kind(name, text, labels=labels)
    for label_values, value in values.items():
        found.add_metric(label_values, value)
    return found
