"""One recording of many journals: whose they are, from when until when, and all that they tell.

Lives of different devices are aligned by their wall clocks: where those differ by seconds, so do
the beginnings in the replay. What a crash had not flushed, half a second at most, is gone; what
peers heard of the node after its last word makes up for it.

Rule of the file: journals that do not belong together are an error that says which; what is left
out of a recording is noted in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from p2pfl.config import NodeConfig
from p2pfl.core.events import Started, Stopped
from p2pfl.errors import ConfigError
from p2pfl.scenario.recording.estimating import estimates
from p2pfl.scenario.recording.evidence import Life, Recording, Seen
from p2pfl.scenario.recording.links import slow
from p2pfl.scenario.recording.observing import noted, observe
from p2pfl.scenario.recording.presence import heard_of, lives
from p2pfl.scenario.recording.reading import Journal
from p2pfl.scenario.recording.text import counted, moment, printable
from p2pfl.scenario.spec import names

SHORTEST_S = 1.0

_IDLE_S = 60.0


@dataclass(slots=True, kw_only=True)
class _Known:
    """A journal with a node in it."""

    journal: Journal
    label: str
    ids: frozenset[str]
    run: str
    layout: str
    lives: list[Life] = field(default_factory=list)


def recorded(
    told: Sequence[Journal],
    *,
    config: NodeConfig | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Recording:
    """What a run was like.

    Args:
        told: journals of nodes of one run.
        config: of the nodes; what was set in it is taken as it is, the rest is estimated.
        since, until: wall time; from the first start and to the last event, if None.

    Raises:
        ConfigError: there is nothing to record, or the journals are of several runs, or two of
            them of the same node.
    """
    notes = [note for journal in told for note in journal.notes]
    known = _of_one_run(told, notes)
    every_s = (config or NodeConfig()).checkpoint_every_s
    last = max(node.journal.events[-1][0] for node in known)
    for node in known:
        node.lives = lives(
            node.journal.events,
            end=last,
            checkpoint_every_s=every_s,
            whole_since=node.journal.whole_since,
        )
    _corrected(known)
    zero, end = _window(known, last, since, until, notes)
    kept = []
    for node in known:
        within = [life for life in node.lives if life.end > zero and life.begin < end]
        if within:
            node.lives = within
            kept.append(node)
        else:
            notes.append(f"{node.journal.where}: not up in this time, left out")
    kept.sort(key=lambda node: (_natural(node.label), _natural(node.journal.where)))
    nodes = tuple(
        Seen(
            name=name,
            label=node.label,
            where=node.journal.where,
            ids=node.ids,
            lives=tuple(life.shifted(zero, end) for life in node.lives),
        )
        for name, node in zip(names(len(kept)), kept, strict=True)
    )
    by_id = {node_id: node for node in nodes for node_id in node.ids}
    for seen, node in zip(nodes, kept, strict=True):
        observe(seen, node.journal.events, by_id, zero, end)
    if not any(node.step_s for node in nodes):
        raise ConfigError(
            f"none of {counted(len(told), 'journal')} holds a training cycle "
            f"between {moment(zero)} and {moment(end)}; let the nodes train for some seconds"
        )
    notes += noted(nodes)
    sizes = {node.journal.values for node in kept if node.journal.values is not None}
    return Recording(
        run=kept[0].run,
        layout=kept[0].layout,
        zero=zero,
        seconds=end - zero,
        nodes=nodes,
        estimates=estimates(nodes, config, sizes.pop() if len(sizes) == 1 else None),
        slow=slow(nodes),
        config=config,
        notes=tuple(notes),
    )


def _of_one_run(told: Sequence[Journal], notes: list[str]) -> list[_Known]:
    known: list[_Known] = []
    for journal in told:
        starts = [event for _, event in journal.events if isinstance(event, Started)]
        if not starts:
            notes.append(f"{journal.where}: its journal holds no start of a node, left out")
            continue
        ids = frozenset(start.node for start in starts)
        newest = starts[-1]
        known.append(
            _Known(
                journal=journal,
                label=printable(newest.name),
                ids=ids,
                run=newest.run,
                layout=newest.layout,
            )
        )
    if not known:
        raise ConfigError(
            f"none of {counted(len(told), 'journal')} holds the start of a node in this time; "
            "let nodes run for some seconds, or give another --from and --until"
        )
    for key, what in (("run", "runs"), ("layout", "models")):
        groups: dict[str, list[str]] = {}
        for node in known:
            groups.setdefault(getattr(node, key), []).append(node.journal.where)
        if len(groups) > 1:
            each = "; ".join(f"'{value}': {', '.join(where)}" for value, where in groups.items())
            raise ConfigError(f"these are nodes of {len(groups)} {what}, give those of one: {each}")
    owners: dict[str, str] = {}
    for node in known:
        for node_id in sorted(node.ids):
            where = owners.setdefault(node_id, node.journal.where)
            if where != node.journal.where:
                raise ConfigError(
                    f"{where} and {node.journal.where} are of the same node, {node_id[:8]}; "
                    "give the one that is newer"
                )
    return known


def _corrected(known: Sequence[_Known]) -> None:
    """A crash comes after the node's last word; what peers heard of it later says how much."""
    crashes: dict[str, list[float]] = {}
    for node in known:
        for life in node.lives:
            if life.ending == "crashed":
                for node_id in node.ids:
                    crashes.setdefault(node_id, []).append(life.end)
    heard = heard_of(crashes, [node.journal for node in known])
    for node in known:
        bounds = [life.begin for life in node.lives[1:]] + [math.inf]
        node.lives = [
            replace(life, end=min(heard.get(life.end, life.end), following))
            if life.ending == "crashed"
            else life
            for life, following in zip(node.lives, bounds, strict=True)
        ]


def _window(
    known: Sequence[_Known],
    last: float,
    since: float | None,
    until: float | None,
    notes: list[str],
) -> tuple[float, float]:
    """Beginning and end of what is recorded, wall time."""
    first = min(node.lives[0].begin for node in known)
    stops = [
        life.end
        for node in known
        for life in node.lives
        if life.ending == "present" and isinstance(node.journal.events[-1][1], Stopped)
    ]
    end = min([last, *stops])
    if until is not None:
        end = min(end, until)
    zero = first
    if since is not None:
        later = [
            max(life.begin, since) for node in known for life in node.lives if life.end > since
        ]
        zero = min(later, default=math.inf)
        before = sum(any(life.begin < zero < life.end for life in node.lives) for node in known)
        if before:
            told = counted(before, "node")
            notes.append(f"{told} trained before --from; in the replay everybody begins untrained")
    if end - zero < SHORTEST_S:
        raise ConfigError(
            f"there is less than {SHORTEST_S:g} s to record: the journals tell of "
            f"{moment(first)} to {moment(last)}; let the nodes run for longer, or give another "
            "--from and --until"
        )
    idle = _idle(known, zero, end)
    if idle is not None:
        notes.append(
            f"nobody was up for {idle[1] - idle[0]:,.0f} s until {moment(idle[1])}; "
            f"--from '{moment(idle[1])}' leaves out what was before"
        )
    return zero, end


def _idle(known: Sequence[_Known], zero: float, end: float) -> tuple[float, float] | None:
    """The last long time within zero .. end in which nobody was up."""
    found, reached = None, zero
    for begin, until in sorted((life.begin, life.end) for node in known for life in node.lives):
        if zero < begin < end and begin - reached > _IDLE_S:
            found = (reached, begin)
        reached = max(reached, until)
    return found


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts node-2 before node-10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
