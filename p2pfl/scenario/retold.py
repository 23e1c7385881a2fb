"""A demo told as a run of a scenario, so that it has the same report.

Rule of the file: a pure function of the record, but for the journals it reads; what nobody measured
is NaN. The scenario says what the demo did; node-2 of the demo is n2 there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from p2pfl.core.graph import topology
from p2pfl.edge.identity import JOURNAL
from p2pfl.scenario.expect import BOUNDS, STALL_S, without_bound
from p2pfl.scenario.linking import known_links
from p2pfl.scenario.measure import Counted, tallied
from p2pfl.scenario.record import Happening, Plan, Record, Sample, What
from p2pfl.scenario.spec import Scenario, names
from p2pfl.scenario.timeline import Action
from p2pfl.scenario.trace import STALENESS_EDGES, Floats, Mark, Presence, Trace
from p2pfl.scenario.watching import FRESH_S, Look, Together

ENGINE = "demo"
SETTINGS: Mapping[str, float] = {"train.evaluate_every_s": 1.0}
"""What the nodes of every demo are told, beside how often they save."""

_KINDS = {
    What.KILLED: "kill",
    What.FROZEN: "pause",
    What.RESTARTED: "start",
    What.JOINS: "start",
}
_PRESENCE = {
    "waiting": Presence.ABSENT,
    "starting": Presence.ABSENT,
    "restarting": Presence.DOWN,
    "frozen": Presence.PAUSED,
    "killed": Presence.DOWN,
    "stopped": Presence.DOWN,
    "died": Presence.DOWN,
}


def checkpoint_every_s(plan: Plan) -> float:
    """How often a demo's nodes save: so often that a restart loses little of a short run."""
    return max(0.5, min(2.0, plan.seconds / 20))


def as_scenario(plan: Plan) -> Scenario:
    """What a plan does, as a scenario."""
    called = dict(zip(plan.names, names(len(plan.names)), strict=True))
    churn, faults = [], []
    thaws = {step.node: round(step.at, 3) for step in plan.steps if step.action is Action.THAW}
    for step in plan.steps:
        who, at = [called[step.node]], round(step.at, 3)
        match step.action:
            case Action.KILL:
                churn.append({"at": at, "kill": who})
            case Action.RESTART | Action.JOIN:
                churn.append({"at": at, "start": who})
            case Action.FREEZE:
                faults.append({"at": at, "until": thaws[step.node], "pause": who})
            case Action.THAW:
                pass  # the end of the one before
    expect = {"stall_s": f"<= {STALL_S:g}"}
    if plan.task in BOUNDS:
        expect["mean_accuracy"] = f">= {BOUNDS[plan.task]:g}"
    absent = {"absent": [called[plan.late]]} if plan.with_faults else {}
    late = ", one more joins late" if plan.with_faults else ""
    return Scenario.model_validate(
        {
            "name": "demo",
            "description": f"{plan.nodes} real nodes on one machine{late}: run {plan.run}",
            "nodes": len(plan.names),
            "seed": plan.seed,
            "task": {"name": plan.task, "partition": plan.partition},
            "duration": {"seconds": plan.seconds},
            "node": {
                "checkpoint_every_s": checkpoint_every_s(plan),
                "train": {"evaluate_every_s": SETTINGS["train.evaluate_every_s"]},
            },
            "churn": {**absent, "events": churn},
            "faults": {"events": faults},
            "expect": expect,
        }
    )


def retold(record: Record) -> Trace:
    """A demo as the trace of a run; its journals must still be where they were."""
    plan, scenario = record.plan, as_scenario(record.plan)
    at_once: dict[float, dict[str, Sample]] = {}
    for sample in record.samples:
        at_once.setdefault(sample.at, {})[sample.node] = sample
    times = np.array(sorted(at_once))
    shape = (len(times), len(plan.names))
    presence = np.full(shape, Presence.ABSENT, np.int8)
    accuracy, age = np.full(shape, np.nan), np.full(shape, np.nan)
    pending = np.full(len(times), np.nan)
    for row, (_, samples) in enumerate(sorted(at_once.items())):
        for place, name in enumerate(plan.names):
            if name not in samples:
                continue
            presence[row, place] = _PRESENCE.get(samples[name].state, Presence.UP)
            seen = samples[name].seen
            if seen is None or presence[row, place] != Presence.UP:
                continue
            accuracy[row, place] = math.nan if seen.accuracy is None else seen.accuracy
            age[row, place] = seen.age
            if seen.pending is not None:
                pending[row] = np.fmax(pending[row], seen.pending)
    counted = [_counted(record.looks.get(name, ()), times) for name in plan.names]
    cycles, sent = (np.stack([one[which] for one in counted], axis=1) for which in (0, 1))
    begin = record.started + record.starting_s
    journals = [plan.folder / name / JOURNAL for name in plan.names]
    written = [path for path in journals if path.is_file()]
    found = [tallied([path], begin, begin + plan.seconds) for path in written]
    staleness: np.ndarray[tuple[int], np.dtype[np.int64]] = np.zeros(len(STALENESS_EDGES), np.int64)
    unknown: Floats = np.full(len(times), np.nan)
    return Trace(
        scenario=scenario,
        engine=ENGINE,
        times=times,
        presence=presence,
        accuracy=accuracy,
        cycles=cycles,
        age=age,
        sent=sent,
        messages=np.full(shape, np.nan),
        distance=_distances(record.history, times),
        pending=pending,
        drift=unknown,
        optimum=unknown.copy(),
        staleness=sum((one.staleness for one in found), staleness),
        outcomes=dict(sorted(sum((one.outcomes for one in found), Counter[str]()).items())),
        stalls=np.array([record.stalls.get(name, math.nan) for name in plan.names]),
        links=_links(record, scenario),
        marks=_marks(record.happenings, plan.names),
        events=None,
        event_hash=None,
        wall_s=record.wall_s,
        steps=sum(one.steps for one in found),
        deaths={one.node: one.text for one in record.happenings if one.what is What.DIED},
        notes=tuple(_notes(record)),
        labels=tuple(plan.names),
    )


def final_distance(record: Record) -> float | None:
    """The consensus distance of the end: the mean over the moments that final accuracies are of.

    The report has the same figure; None if it was not measured then.
    """
    times = np.array(sorted({sample.at for sample in record.samples}))
    if not len(times):
        return None
    share = as_scenario(record.plan).measure.last_share
    found = _distances(record.history, times[times >= times[-1] * (1 - share)])
    known = found[np.isfinite(found)]
    return float(known.mean()) if len(known) else None


def _counted(looks: Sequence[Look], times: Floats) -> tuple[Floats, Floats]:
    """Cycles done and bytes sent since the beginning at each time, NaN before the first look."""
    ats = [look.at for look in looks]
    counted = Counted()
    counted.take(looks[: bisect_right(ats, 0.0)])
    counted.cycles = counted.sent = 0.0
    cycles, sent = np.full(len(times), np.nan), np.full(len(times), np.nan)
    for row, at in enumerate(times):
        counted.take(looks[: bisect_right(ats, at)])
        if counted.last is not None:
            cycles[row], sent[row] = counted.cycles, counted.sent
    return cycles, sent


def _distances(history: Sequence[Together], times: Floats) -> Floats:
    """The latest distance at each time that was not measured long before it."""
    ats, found = [one.at for one in history], np.full(len(times), np.nan)
    for row, at in enumerate(times):
        last = history[place - 1] if (place := bisect_right(ats, at)) else None
        if last is not None and last.distance is not None and at - last.at <= FRESH_S:
            found[row] = last.distance
    return found


def _marks(happenings: Sequence[Happening], names: Sequence[str]) -> tuple[Mark, ...]:
    """What was done to the nodes, by time."""
    marks = []
    for place, one in enumerate(happenings):
        kind = _KINDS.get(one.what)
        if kind is None:
            continue
        later = (each for each in happenings[place:] if each.node == one.node)
        until = next((each.at for each in later if each.what is What.THAWED), None)
        over = until if kind == "pause" else None
        marks.append(Mark(max(one.at, 0.0), over, one.text, (names.index(one.node),), kind))
    return tuple(marks)


def _links(record: Record, scenario: Scenario) -> tuple[tuple[int, int], ...]:
    rule = topology(scenario.topology)
    looks = ((place, record.looks.get(name)) for place, name in enumerate(record.plan.names))
    ids = {place: seen[-1].node for place, seen in looks if seen and seen[-1].node}
    return known_links(rule, ids, record.plan.names, scenario.seed)


def _notes(record: Record) -> list[str]:
    plan, local = record.plan, record.local
    notes = [
        f"time begins when all {plan.nodes} nodes know each other, {record.starting_s:.1f} s after "
        "the first was started"
    ]
    if local is not None:
        notes.append(
            f"each shard trained by itself for {local.steps:,} steps, same learner and test set: "
            f"mean {local.mean:.3f}, best {max(local.accuracies):.3f}"
        )
    if reason := without_bound(plan):
        notes.append(reason)
    if record.killed_at_end:
        who = ", ".join(record.killed_at_end)
        notes.append(f"killed, because they did not end when asked to: {who}")
    return notes
