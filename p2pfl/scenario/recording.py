"""What a real run was like, from its nodes' journals, and the scenario that replays it.

    journals()    the journals of state directories, also while their nodes run
    recorded()    who was up when, and how fast devices and network were, each with its evidence
    written()     NAME.toml, NAME-steps.csv, and NAME-churn.csv if anybody came and went

What is observed, and what becomes of it:

    Started .. Stopped              a life; churn.events stop and start
    Started .. silence              a crash: no Stopped before the next Started, or silent long
                                    before the others' end; kill and start
    silence within a life           frozen (faults.events pause); if the node's own clock stood
                                    still too, the device slept (churn.state kept)
    Cycle.seconds / Cycle.steps     a step; its median is the node's, the spread of its logarithm
                                    the jitter
    Exchanged.seconds               a round trip; half of a low quantile is the latency, and an
                                    upper bound of it: transfer and processing are in it
    Exchanged.outcome timeout       p of those whose peer was up; a message is lost with
                                    probability q where p = 1 - (1 - q)^2

Lives of different devices are aligned by their wall clocks: where those differ by seconds, so do
the beginnings in the replay. What a crash had not flushed, half a second at most, is gone; what
peers heard of the node after its last word makes up for it.

Rule of the file: an estimate carries its evidence; what is not in a journal is asked for or named
as assumed; nothing is written before the scenario is known to be valid.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ValidationError

from p2pfl.config import NodeConfig, TrainConfig, from_mapping
from p2pfl.core.compression import CODECS
from p2pfl.core.events import Cycle, Event, Exchanged, Measured, Started, Stopped
from p2pfl.edge.identity import IDENTITY, JOURNAL, Identity
from p2pfl.edge.journal import TABLES, read
from p2pfl.errors import ConfigError, StateError
from p2pfl.scenario.spec import Scenario, State, names

SILENT_CYCLES, SILENT_S = 10, 3.0
"""A node that says nothing for longer than both is frozen, asleep or dead."""
ENDING_S = 3.0
"""Who stops so shortly before the end stayed until the end: everybody was told to stop."""
TOGETHER_S = 1.0
"""Who starts so shortly after the first was there from the beginning."""
SHORTEST_S = 1.0

_FLUSH_S = 1.0  # a journal is flushed twice a second
_MARGIN_S = 1.0  # so near to a peer's beginning or end, silence is not the network's
_STOPPING_S = 1.5  # a node that is asked to stop settles for a second
_EVALUATIONS = 3
_LOW = 0.05
_RTT_MIN = 3
_JITTER_MIN = 10
_IDLE_S = 60.0
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_MIXING = frozenset(("flow", "adopt", "adopted"))
_DEAF = frozenset(("timeout", "unreachable", "wire", "repeated", "mismatched"))

Timed: TypeAlias = tuple[float, Event]
"""An event and the wall time at which it was recorded, seconds since 1970."""
Ending: TypeAlias = Literal["stopped", "crashed", "present"]


@dataclass(frozen=True, slots=True)
class Journal:
    """What one node wrote down.

    Attributes:
        where: its state directory.
        events: by wall time.
        whole_since: rows older than this were dropped by the journal, in one table at least.
        values: of the model; None where its identity cannot be read.
        notes: what is to be known about it.
    """

    where: str
    events: tuple[Timed, ...]
    whole_since: float = -math.inf
    values: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A node was silent; `slept` if its own clock stood still as well."""

    begin: float
    end: float
    slept: bool


@dataclass(frozen=True, slots=True)
class Life:
    """From one start of a node to its end.

    Attributes:
        begin, end: wall time; of a recording, seconds since its beginning.
        ending: stopped in order, crashed, or present until the recording's end.
        resumed: it continued from a checkpoint.
        lost: it did not, though the life before must have left one.
        age: of the model it began with.
        gaps: when it was silent.
    """

    begin: float
    end: float
    ending: Ending = "present"
    resumed: bool = False
    lost: bool = False
    age: int = 0
    gaps: tuple[Gap, ...] = ()

    def shifted(self, zero: float, end: float) -> Life:
        """The part within zero .. end, in seconds since `zero`."""
        gaps = (Gap(max(g.begin, zero), min(g.end, end), g.slept) for g in self.gaps)
        return replace(
            self,
            begin=max(self.begin, zero) - zero,
            end=min(self.end, end) - zero,
            ending="present" if self.end > end else self.ending,
            gaps=tuple(Gap(g.begin - zero, g.end - zero, g.slept) for g in gaps if g.end > g.begin),
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and what it was concluded from."""

    value: Any
    why: str


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was observed of one node; times count from the recording's beginning.

    Attributes:
        name: in the scenario, n1 ..
        label, where: its own name, and its state directory.
        ids: its node ids; one, unless its identity was deleted.
        steps: (cycles,) local steps of each cycle that counts, cold ones left out.
        step_s: (cycles,) seconds of a step in it.
        periods: seconds from a cycle's end to the next one's.
        evaluations, evaluated_every: seconds an evaluation took, and from one to the next.
        trips: seconds of the round trips with each peer that it asked, by node id.
        exchanges: that it asked for, and that took effect.
        asked: that were answered, or should have been: the peer was up.
        losses: those of them that were not answered.
        sizes: bytes of the models it sent.
    """

    name: str
    label: str
    where: str
    ids: frozenset[str]
    lives: tuple[Life, ...]
    cycles: int = 0
    steps: list[int] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    periods: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    evaluated_every: list[float] = field(default_factory=list)
    trips: dict[str, list[float]] = field(default_factory=dict)
    exchanges: int = 0
    asked: int = 0
    losses: int = 0
    sizes: Counter[int] = field(default_factory=Counter)

    @property
    def up_s(self) -> float:
        """How long it was up and not silent."""
        gaps = (gap.end - gap.begin for life in self.lives for gap in life.gaps)
        return sum(life.end - life.begin for life in self.lives) - sum(gaps)

    @property
    def median_step_s(self) -> float | None:
        """Of a local step; None if it never trained."""
        return float(np.median(self.step_s)) if self.step_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A real run.

    Attributes:
        run, layout: its name, and the digest of its model.
        zero: wall time of its beginning.
        seconds: how long it was.
        nodes: by name.
        estimates: by key of a scenario, dotted.
        slow: latency of nodes that are much farther away than most, by name.
        config: of the nodes, as far as it was given.
        notes: what a reader should know.
    """

    run: str
    layout: str
    zero: float
    seconds: float
    nodes: tuple[Seen, ...]
    estimates: Mapping[str, Estimate]
    slow: Mapping[str, Estimate]
    config: NodeConfig | None
    notes: tuple[str, ...]


# --- journals -----------------------------------------------------------------------------------


def journals(
    paths: Iterable[Path], *, since: float | None = None, until: float | None = None
) -> list[Journal]:
    """The journals of nodes, each once, in the order of their folders.

    Args:
        paths: state directories, or folders with state directories in them.
        since, until: wall time; what happened outside is not kept, but for starts and stops.

    Raises:
        ConfigError: a path has no journal in it.
        StateError: a journal cannot be read.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.name == JOURNAL and path.is_file():
            inside = [path]
        else:
            inside = [path / JOURNAL] if (path / JOURNAL).is_file() else sorted(path.rglob(JOURNAL))
        if not inside:
            what = "has no journal in it" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"{path} {what}; give state directories of nodes, or a folder of them: the "
                "--state-dir of `p2pfl node` (else ~/.local/state/p2pfl/RUN), or a folder in runs/"
            )
        found |= dict.fromkeys(journal.resolve().parent for journal in inside)
    return [_journal(folder, since, until) for folder in found]


def _journal(folder: Path, since: float | None, until: float | None) -> Journal:
    path, timed, whole_since = folder / JOURNAL, list[tuple[float, int, Event]](), -math.inf
    first, last = since or -math.inf, math.inf if until is None else until
    for kind, table in TABLES.items():
        rows = read(path, table.name)
        if rows and rows[0]["id"] > 1:
            whole_since = max(whole_since, rows[0]["wall"])
        is_edge = kind in (Started, Stopped)
        rank = 0 if kind is Started else 2 if kind is Stopped else 1
        for row in rows:
            wall = row.pop("wall")
            if not ((is_edge or first <= wall) and wall <= last):
                continue
            del row["id"]
            try:
                timed.append((wall, rank, kind(**row)))
            except TypeError:
                raise StateError(
                    f"journal {path} cannot be read: table {table.name} lacks a column; "
                    "start its node once with this version, or leave it out"
                ) from None
    timed.sort(key=lambda entry: entry[:2])
    notes = []
    if folder.joinpath(JOURNAL).with_stem(f"{Path(JOURNAL).stem}.damaged-1").exists():
        notes.append(f"{folder}: an earlier journal was damaged; what it held is missing")
    if whole_since > max(first, timed[0][0] if timed else first):
        told = _moment(whole_since)
        notes.append(f"{folder}: its journal is whole only since {told}; try --from '{told}'")
    return Journal(
        str(folder),
        tuple((wall, event) for wall, _, event in timed),
        whole_since,
        _values(folder / IDENTITY),
        tuple(notes),
    )


def _values(path: Path) -> int | None:
    """How many values the model has; a damaged identity is the node's trouble, not ours."""
    try:
        fields = json.loads(path.read_bytes())
        fields.pop("checksum", None)
        return Identity.model_validate(fields).values
    except (OSError, ValueError, ValidationError, AttributeError, TypeError, RecursionError):
        return None


# --- lives --------------------------------------------------------------------------------------


def silence_s(events: Sequence[Timed]) -> float:
    """How long one node must say nothing to be taken for frozen or dead.

    Args:
        events: of one node, by time.

    Returns:
        Ten of its usual cycles, three of its usual evaluations, and `SILENT_S` at least.
    """
    cycles, evaluations = list[float](), list[float]()
    before: Cycle | None = None
    for _, event in events:
        match event:
            case Started():
                before = None
            case Cycle():
                if before is not None:
                    cycles.append(event.at - before.at)
                before = event
            case Measured() if before is not None:
                evaluations.append(event.at - before.at)
    return max(SILENT_S, SILENT_CYCLES * _median(cycles), _EVALUATIONS * _median(evaluations))


def lives(
    events: Sequence[Timed],
    *,
    end: float,
    checkpoint_every_s: float = NodeConfig().checkpoint_every_s,
    whole_since: float = -math.inf,
) -> list[Life]:
    """The lives of one node, by time.

    Silence counts only once the life had a training cycle: the first one may take any time.

    Args:
        events: of one node, by wall time.
        end: wall time of the recording's end, not before the last event.
        checkpoint_every_s: a life as long as this has left a checkpoint.
        whole_since: silence that began earlier means nothing, the journal dropped rows.
    """
    parts: list[list[Timed]] = []
    for wall, event in events:
        if not parts or (isinstance(event, Started) and not _is_prelude(parts[-1], wall)):
            parts.append([])
        parts[-1].append((wall, event))
    silent = silence_s(events)
    found: list[Life] = []
    before: tuple[Life, Started | None] | None = None
    for number, part in enumerate(parts):
        started = next((event for _, event in part if isinstance(event, Started)), None)
        stops = [wall for wall, event in part if isinstance(event, Stopped)]
        last = stops[-1] if stops else part[-1][0]
        is_last = number == len(parts) - 1
        ending: Ending = "stopped" if stops else "crashed"
        if is_last and end - last <= (ENDING_S if stops else silent):
            ending = "present"
        lost = False
        if before is not None and started is not None and not started.resumed:
            earlier, first = before
            saved = earlier.ending == "stopped" or earlier.end - earlier.begin > checkpoint_every_s
            lost = saved or (first is not None and first.node != started.node)
        life = Life(
            begin=part[0][0],
            end=last,
            ending=ending,
            resumed=started is None or started.resumed,
            lost=lost,
            age=0 if started is None else started.age,
            gaps=tuple(_gaps(part, silent, whole_since)),
        )
        found.append(life)
        before = life, started
    return found


def _is_prelude(part: Sequence[Timed], wall: float) -> bool:
    """Whether these events are of the life whose Started comes now."""
    return not isinstance(part[0][1], Started) and wall - part[0][0] < TOGETHER_S


def _gaps(part: Sequence[Timed], silent: float, whole_since: float) -> Iterable[Gap]:
    trained = False
    for (begin, before), (end, after) in pairwise(part):
        trained = trained or isinstance(before, Cycle)
        length = end - begin
        if trained and length > silent and begin >= whole_since:
            stood_still = length - (after.at - before.at)
            yield Gap(begin, end, stood_still > max(1.0, length / 2))


def _heard_of(
    crashes: Mapping[str, Sequence[float]], told: Iterable[Journal]
) -> dict[float, float]:
    """For each crash, by the node's own last word: when peers last heard of it, soon after."""
    latest: dict[float, float] = {}
    for journal in told:
        for wall, event in journal.events:
            if not isinstance(event, Exchanged) or event.peer not in crashes:
                continue
            is_deaf = event.outcome in _DEAF or event.outcome.startswith("refused")
            if event.role == "asked" and is_deaf:
                continue
            for last in crashes[event.peer]:
                if last < wall <= last + _FLUSH_S:
                    latest[last] = max(latest.get(last, last), wall)
    return latest


# --- a recording --------------------------------------------------------------------------------


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
        _observe(seen, node.journal.events, by_id, zero, end)
    if not any(node.step_s for node in nodes):
        raise ConfigError(
            f"none of {_counted(len(told), 'journal')} holds a training cycle "
            f"between {_moment(zero)} and {_moment(end)}; let the nodes train for some seconds"
        )
    notes += _noted(nodes)
    sizes = {node.journal.values for node in kept if node.journal.values is not None}
    return Recording(
        run=kept[0].run,
        layout=kept[0].layout,
        zero=zero,
        seconds=end - zero,
        nodes=nodes,
        estimates=_estimates(nodes, config, sizes.pop() if len(sizes) == 1 else None),
        slow=_slow(nodes),
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
                label=_printable(newest.name),
                ids=ids,
                run=newest.run,
                layout=newest.layout,
            )
        )
    if not known:
        raise ConfigError(
            f"none of {_counted(len(told), 'journal')} holds the start of a node in this time; "
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
    heard = _heard_of(crashes, [node.journal for node in known])
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
            told = _counted(before, "node")
            notes.append(f"{told} trained before --from; in the replay everybody begins untrained")
    if end - zero < SHORTEST_S:
        raise ConfigError(
            f"there is less than {SHORTEST_S:g} s to record: the journals tell of "
            f"{_moment(first)} to {_moment(last)}; let the nodes run for longer, or give another "
            "--from and --until"
        )
    idle = _idle(known, zero, end)
    if idle is not None:
        notes.append(
            f"nobody was up for {idle[1] - idle[0]:,.0f} s until {_moment(idle[1])}; "
            f"--from '{_moment(idle[1])}' leaves out what was before"
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


# --- what one node saw --------------------------------------------------------------------------


def _observe(
    seen: Seen, events: Sequence[Timed], by_id: Mapping[str, Seen], zero: float, end: float
) -> None:
    """Fill in what a node measured within zero .. end."""
    cold: tuple[int, float] | None = None
    before: Cycle | None = None
    evaluated: Measured | None = None
    is_cold = True
    for wall, event in events:
        now = wall - zero
        if isinstance(event, Started):
            before, evaluated, is_cold = None, None, True
        if not zero <= wall <= end:
            continue
        match event:
            case Cycle():
                seen.cycles += 1
                if event.steps > 0 and event.seconds > 0 and _calm(seen, now - event.seconds, now):
                    measured = event.steps, event.seconds / event.steps
                    if is_cold:
                        cold = cold or measured
                    else:
                        seen.steps.append(measured[0])
                        seen.step_s.append(measured[1])
                    is_cold = False
                if before is not None and _calm(seen, now - (event.at - before.at), now):
                    seen.periods.append(event.at - before.at)
                before = event
            case Measured():
                if before is not None and _calm(seen, now - (event.at - before.at), now):
                    seen.evaluations.append(event.at - before.at)
                if evaluated is not None and _calm(seen, now - (event.at - evaluated.at), now):
                    seen.evaluated_every.append(event.at - evaluated.at)
                evaluated = event
            case Exchanged(role="asked") if event.bytes_out > 0:
                # without bytes it is the answer to a RESOLVE, whose exchange is counted already
                _asked(seen, event, now, by_id)
    if not seen.step_s and cold is not None:
        seen.steps, seen.step_s = [cold[0]], [cold[1]]


def _asked(seen: Seen, event: Exchanged, now: float, by_id: Mapping[str, Seen]) -> None:
    seen.exchanges += event.outcome in _MIXING
    seen.sizes[event.bytes_out] += 1
    begin, peer = now - event.seconds, by_id.get(event.peer)
    if event.outcome == "flow" and _calm(seen, begin, now):
        seen.trips.setdefault(event.peer, []).append(event.seconds)
    if peer is None:
        return
    if event.outcome not in _DEAF:
        seen.asked += 1
    elif event.outcome == "timeout" and _calm(seen, begin, now) and _was_up(peer, begin, now):
        seen.asked += 1
        seen.losses += 1


def _calm(seen: Seen, begin: float, end: float) -> bool:
    """Whether a node was never silent in that time."""
    return not any(gap.begin < end and begin < gap.end for life in seen.lives for gap in life.gaps)


def _was_up(seen: Seen, begin: float, end: float) -> bool:
    """Whether a peer was there all the time, neither coming nor going, and not silent."""
    begin, end = begin - _MARGIN_S, end + _MARGIN_S
    return _calm(seen, begin, end) and any(
        (life.begin <= begin or life.begin == 0.0) and (end <= life.end or life.ending == "present")
        for life in seen.lives
    )


def _noted(nodes: Sequence[Seen]) -> list[str]:
    notes = []
    known = {node_id for node in nodes for node_id in node.ids}
    strangers = {peer for node in nodes for peer in node.trips} - known
    if strangers:
        notes.append(
            f"{_counted(len(strangers), 'peer')} without a journal here took part; "
            "give their state directories too, the replay lacks them"
        )
    aged = [node for node in nodes if node.lives[0].begin < TOGETHER_S and node.lives[0].age]
    if aged:
        oldest = max(node.lives[0].age for node in aged)
        notes.append(
            f"{_counted(len(aged), 'node')} began with a trained model (age up to {oldest:,}); "
            "in the replay everybody begins untrained"
        )
    idle = [node.name for node in nodes if not node.cycles]
    if idle:
        notes.append(f"no training cycle of {', '.join(idle)} was seen; they get the median step")
    return notes


# --- estimates ----------------------------------------------------------------------------------


def _estimates(
    nodes: Sequence[Seen], config: NodeConfig | None, values: int | None
) -> dict[str, Estimate]:
    found = _compute(nodes) | _pace(nodes) | _evaluating(nodes) | _network(nodes)
    codec = _codec(nodes, values)
    if codec is not None:
        found["node.gossip.codec"] = codec
    given = {} if config is None else _flat(_given(config), "node.")
    return found | {key: Estimate(value, "given with --config") for key, value in given.items()}


def _compute(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    trained = [node for node in nodes if node.step_s]
    medians = [float(np.median(node.step_s)) for node in trained]
    cycles = sum(len(node.step_s) for node in trained)
    # relative to the median of the node; a quantile range, because a busy device has outliers
    residuals = np.concatenate(
        [np.log(node.step_s) - math.log(m) for node, m in zip(trained, medians, strict=True)]
    )
    jitter = Estimate(0.1, "assumed: too few cycles to tell")
    if cycles >= _JITTER_MIN:
        low, high = np.quantile(residuals, [0.1587, 0.8413])
        why = f"sigma of ln(step), as half its 16% .. 84% range over {cycles:,} cycles"
        jitter = Estimate(_short((high - low) / 2), why)
    why = f"median of {_counted(len(trained), 'node')}, {cycles:,} cycles"
    return {
        "compute.step_s": Estimate(_short(float(np.median(medians))), why),
        "compute.jitter": jitter,
    }


def _pace(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    """What makes a node do so many steps, so often.

    K = clamp(round(cycle_target_s / step_s), 1, steps_max), and a cycle that took less than
    cycle_min_s waits (`core.pace`).
    """
    trained = [node for node in nodes if node.step_s]
    most = max(max(node.steps) for node in trained)
    usual = [(float(np.median(n.steps)), float(np.median(n.step_s)), n) for n in trained]
    found = {"node.train.steps_max": Estimate(most, "most local steps that a cycle had")}
    found["node.train.cycle_target_s"] = _target(
        [(steps, step_s) for steps, step_s, _ in usual], most
    )
    waiting, busy = list[float](), list[float]()
    for steps, step_s, node in usual:
        if node.periods:
            period = float(np.median(node.periods))
            (waiting if period > 1.1 * steps * step_s + 0.002 else busy).append(period)
    usual_s = TrainConfig().cycle_min_s
    if waiting:
        why = (
            f"median time from cycle to cycle of {_counted(len(waiting), 'node')} "
            "whose cycles are longer than their training"
        )
        pause = Estimate(_short(float(np.median(waiting))), why)
    elif busy:
        why = "no more: nodes train without a pause, the fastest so often"
        pause = Estimate(_short(min(usual_s, *busy)), why)
    else:
        pause = Estimate(usual_s, "the default: no two cycles were seen")
    found["node.train.cycle_min_s"] = pause
    return found


def _target(usual: Sequence[tuple[float, float]], most: int) -> Estimate:
    """The training time a cycle aims at, from (steps, step_s) of each node."""
    default = TrainConfig().cycle_target_s

    def fits(steps: float, step_s: float) -> bool:
        aimed = min(max(round(default / step_s), 1), most)
        return abs(aimed - steps) <= max(1.0, 0.15 * steps)

    if all(fits(*of_node) for of_node in usual):
        return Estimate(default, "the default: it explains the steps of every node")
    between = [steps * step_s for steps, step_s in usual if 1 < steps < most]
    if between:
        why = f"median training time of a cycle, of {_counted(len(between), 'node')} below the most"
        return Estimate(_short(float(np.median(between))), why)
    capped = [steps * step_s for steps, step_s in usual if steps >= most]
    why = "more than a cycle of the most steps took the slowest node that does them"
    return Estimate(_short(1.25 * max(capped, default=default)), why)


def _evaluating(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    every = [seconds for node in nodes for seconds in node.evaluated_every]
    if not every:
        return {}
    takes = _median([seconds for node in nodes for seconds in node.evaluations])
    cycle = _median([seconds for node in nodes for seconds in node.periods])
    apart, usual = _median(every), TrainConfig().evaluate_every_s
    why = (
        f"{len(every):,} evaluations, {apart:.3g} s apart; they took {takes:.2g} s, "
        "the simulator gives them two local steps"
    )
    # an evaluation comes with the first cycle that ends after the pause
    if apart - takes - cycle <= 1.02 * usual and usual <= 1.02 * apart:
        return {"node.train.evaluate_every_s": Estimate(usual, f"the default: it explains {why}")}
    pause = max(apart - takes - cycle / 2, 0.01)
    return {"node.train.evaluate_every_s": Estimate(_short(pause), why)}


def _network(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    own = _latencies(nodes)
    if own:
        count = sum(len(trips) for node in nodes for trips in node.trips.values())
        typical = 1000 * _median([t for n in nodes for of in n.trips.values() for t in of])
        why = (
            f"half of the 5% quantile of {count:,} round trips (median {typical:.3g} ms); "
            "an upper bound, transfer and processing are in it"
        )
        found["network.latency_s"] = Estimate(_short(_median(list(own.values()))), why)
    asked, lost = sum(n.asked for n in nodes), sum(n.losses for n in nodes)
    if asked:
        share = lost / asked
        why = f"{lost:,} of {asked:,} exchanges were not answered in time though the peer was up"
        if lost:
            why += "; an overloaded peer looks the same"
        probability = min(1 - math.sqrt(1 - share), 0.99)
        found["network.loss_probability"] = Estimate(_short(probability), why)
    return found


def _latencies(nodes: Sequence[Seen]) -> dict[str, float]:
    """Of each node's connection: half the low quantile with the peer that it reaches fastest.

    A way is as slow as the slower of its two ends (`sim.network`), so the best peer tells most
    about oneself.
    """
    names_by_id = {node_id: node.name for node in nodes for node_id in node.ids}
    trips: dict[frozenset[str], list[float]] = {}
    for node in nodes:
        for peer, seconds in node.trips.items():
            trips.setdefault(frozenset((node.name, names_by_id.get(peer, peer))), []).extend(
                seconds
            )
    enough = {pair: of for pair, of in trips.items() if len(of) >= _RTT_MIN} or trips
    best: dict[str, float] = {}
    for pair, seconds in enough.items():
        one_way = float(np.quantile(seconds, _LOW)) / 2
        for name in pair:
            best[name] = min(best.get(name, math.inf), one_way)
    return {node.name: best[node.name] for node in nodes if node.name in best}


def _slow(nodes: Sequence[Seen]) -> dict[str, Estimate]:
    own = _latencies(nodes)
    usual = _median(list(own.values()))
    return {
        name: Estimate(_short(latency), "with the peer that it reaches fastest")
        for name, latency in own.items()
        if latency > max(2 * usual, usual + 0.002)
    }


def _codec(nodes: Sequence[Seen], values: int | None) -> Estimate | None:
    sizes: Counter[int] = sum((node.sizes for node in nodes), Counter())
    if values is None or not sizes:
        return None
    nbytes, count = sizes.most_common(1)[0]
    for name, codec in CODECS.items():
        if codec.nbytes(values) == nbytes:
            share = f"{count:,} of {sizes.total():,} times"
            why = f"{values:,} values travel in {nbytes:,} bytes, {share}"
            return Estimate(name, why)
    return None


# --- as a scenario ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Away:
    """A node is not there from `leaves` until `returns`, which may be infinite."""

    leaves: float
    returns: float
    how: Literal["stop", "kill", "sleep"]
    lost: bool = False

    @property
    def state(self) -> State | None:
        """The `churn.state` that does it; None where only events can."""
        if self.how == "stop":
            return None
        return "kept" if self.how == "sleep" else "lost" if self.lost else "checkpoint"


def written(
    found: Recording,
    folder: Path,
    name: str,
    *,
    task: Estimate,
    partition: Estimate,
    overwrite: bool = False,
) -> Path:
    """Write the scenario of a recording, with the files it names beside it.

    Args:
        found: the recording.
        folder: is made if it does not exist.
        name: of the scenario and its files.
        task, partition: what is learned, and how its data are split; journals do not tell.
        overwrite: whether files of that name are replaced.

    Returns:
        The path of the scenario.

    Raises:
        ConfigError: the name or a value cannot be used, files exist, or cannot be written. What
            was there is as it was, unless the disk filled up.
    """
    if not _FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"name is '{name}', expected up to 40 letters, digits, '_', '.' and '-', "
            "of which the first is a letter or digit"
        )
    absences = {node.name: _absences(node) for node in found.nodes}
    state = _state(absences.values())
    churn = _churn_rows(found, absences, state)
    text = rendered(found, name, task=task, partition=partition)
    from_mapping(tomllib.loads(text), Scenario, where=f"{name}.toml")
    path, steps = folder / f"{name}.toml", folder / f"{name}-steps.csv"
    trace = folder / f"{name}-churn.csv"
    for file in (path, steps, trace):
        if file.exists() and not overwrite:
            raise ConfigError(f"{file} exists; give another --name or --out, or --overwrite")
    medians = ((node.name, node.median_step_s) for node in found.nodes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [f"{node},{_short(step_s, 6)!r}" for node, step_s in medians if step_s is not None]
        steps.write_text("\n".join(("node,step_s", *rows, "")), encoding="utf-8")
        if churn:
            trace.write_text("\n".join(("node,at,up", *churn, "")), encoding="utf-8")
        else:
            trace.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; try --out") from None
    return path


def rendered(found: Recording, name: str, *, task: Estimate, partition: Estimate) -> str:
    """The scenario as TOML, each value with its evidence; it names files beside it."""
    absences = {node.name: _absences(node) for node in found.nodes}
    state = _state(absences.values())
    config = found.config
    topology = Estimate(NodeConfig().topology, "the default: journals do not tell")
    if config is not None and "topology" in config.model_fields_set:
        topology = Estimate(config.topology, "given with --config")
    estimates = {
        **found.estimates,
        "compute.distribution": Estimate("trace", "the median of each node, beside this file"),
        "compute.trace": Estimate(f"{name}-steps.csv", "node, step_s"),
    }
    count = _counted(len(found.nodes), "node")
    lines = [
        f"# Recorded by `p2pfl record` from the journals of run '{_printable(found.run)}'.",
        f"# Second 0 is {_moment(found.zero)}. Lives are aligned by the devices' wall clocks; who",
        "# started within a second of the first is there from the beginning.",
        *(f"# Note: {_printable(note)}" for note in found.notes),
        "#",
        *(
            f"# {node.name} = {node.label} ({min(node.ids)[:8]}), {_printable(node.where)}"
            for node in found.nodes
        ),
        "",
        f"name = {_toml(name)}",
        f"description = {_toml(f'Recorded from {count} of run {_printable(found.run)}.')}",
        f"nodes = {len(found.nodes)}",
        *_keys({"topology": topology}),
        "",
        "[task]",
        *_keys({"name": task, "partition": partition}),
        "",
        "[duration]",
        f"seconds = {_short_time(found.seconds)!r}",
    ]
    lines += _tables(estimates)
    for who, latency in found.slow.items():
        lines += ["", "[[network.nodes]]", f"who = [{_toml(who)}]"]
        lines += _keys({"latency_s": latency})
    lines += _churn(found, name, absences, state)
    for node in found.nodes:
        for life in node.lives:
            for gap in (gap for gap in life.gaps if state != "kept" or not gap.slept):
                lines += ["", "[[faults.events]]"]
                if gap.slept:
                    lines.append("# its device slept; here its connections stay open")
                lines += [
                    f"at = {_short_time(gap.begin)!r}",
                    f"until = {_short_time(gap.end)!r}",
                    f"pause = [{_toml(node.name)}]  # silent for {gap.end - gap.begin:.1f} s",
                ]
    return "\n".join([*lines, ""])


def _churn(
    found: Recording, name: str, absences: Mapping[str, Sequence[_Away]], state: State
) -> list[str]:
    """The table `churn`: late ones, those who left in order, and the others as a trace."""
    late = [node for node in found.nodes if node.lives[0].begin >= TOGETHER_S]
    traced = _churn_rows(found, absences, state)
    kinds = Counter(away.state for of in absences.values() for away in of if away.state is not None)
    events: list[tuple[float, list[str]]] = [
        (node.lives[0].begin, [f"start = [{_toml(node.name)}]  # joined late"]) for node in late
    ]
    for node in found.nodes:
        begins = [life.begin for life in node.lives]
        for away in absences[node.name]:
            who = f"[{_toml(node.name)}]"
            if _is_traced(away, state) or away.how == "sleep":
                continue
            leaves = away.leaves
            if away.how == "stop":
                # it settles for a while, and can be started only when it is gone
                begin = max(at for at in begins if at <= leaves)
                leaves = max(min(leaves, away.returns - _STOPPING_S), (begin + leaves) / 2)
            events.append((leaves, [f"{away.how} = {who}"]))
            if away.returns < math.inf:
                again = [f"start = {who}", *(["lost_state = true"] if away.lost else [])]
                events.append((away.returns, again))
    if not (traced or events):
        return []
    lines = ["", "[churn]"]
    if traced:
        told = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
        lines += _keys({"mode": Estimate("trace", "who came and went, and when")})
        lines += _keys({"trace": Estimate(f"{name}-churn.csv", "node, at, up")})
        lines += _keys({"state": Estimate(state, f"absences that were seen: {told}")})
    if late:
        who = ", ".join(_toml(node.name) for node in late)
        lines.append(f"absent = [{who}]  # they join later, see below")
    for at, what in sorted(events, key=lambda event: event[0]):
        lines += ["", "[[churn.events]]", f"at = {_short_time(at)!r}", *what]
    return lines


def _churn_rows(
    found: Recording, absences: Mapping[str, Sequence[_Away]], state: State
) -> list[str]:
    """Lines of the churn trace: the absences that `state` describes."""
    rows: list[tuple[float, str]] = []
    for node in found.nodes:
        for away in absences[node.name]:
            if _is_traced(away, state):
                rows.append((away.leaves, f"{node.name},{_short_time(away.leaves)!r},0"))
                if away.returns < math.inf:
                    rows.append((away.returns, f"{node.name},{_short_time(away.returns)!r},1"))
    return [row for _, row in sorted(rows, key=lambda timed: timed[0])]


def _is_traced(away: _Away, state: State) -> bool:
    if away.how == "kill" and away.returns == math.inf:
        return state != "kept"  # whatever it would have come back with
    return away.state == state


def _absences(node: Seen) -> list[_Away]:
    """When a node that had been there was not, by time."""
    found = [
        _Away(gap.begin, gap.end, "sleep") for life in node.lives for gap in life.gaps if gap.slept
    ]
    for life, following in zip(node.lives, [*node.lives[1:], None], strict=True):
        if following is None and life.ending == "present":
            break
        returns, lost = (
            (math.inf, False) if following is None else (following.begin, following.lost)
        )
        how: Literal["stop", "kill"] = "stop" if life.ending == "stopped" else "kill"
        found.append(_Away(life.end, returns, how, lost))
    return sorted(found, key=lambda away: away.leaves)


def _state(absences: Iterable[Sequence[_Away]]) -> State:
    """What most of them came back with; the checkpoint, if as many did."""
    kinds = Counter(
        away.state
        for of in absences
        for away in of
        if away.state is not None and away.returns < math.inf
    )
    states: tuple[State, ...] = ("checkpoint", "kept", "lost")
    return max(states, key=lambda state: kinds[state])


# --- TOML ---------------------------------------------------------------------------------------


def _tables(estimates: Mapping[str, Estimate]) -> list[str]:
    """Dotted keys as tables: the node's, then the others."""
    tables: dict[str, dict[str, Estimate]] = {}
    for key in sorted(estimates, key=lambda key: (key.count("."), key)):
        table, _, last = key.rpartition(".")
        tables.setdefault(table, {})[last] = estimates[key]
    lines: list[str] = []
    for table in sorted(tables, key=lambda table: (not table.startswith("node"), table)):
        lines += ["", f"[{table}]", *_keys(tables[table])]
    return lines


def _keys(values: Mapping[str, Estimate]) -> list[str]:
    return [f"{key} = {_toml(of.value)}  # {_printable(of.why)}" for key, of in values.items()]


def _toml(value: Any) -> str:
    match value:
        case str():
            return json.dumps(_printable(value), ensure_ascii=False)
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return repr(value)


def _given(config: BaseModel) -> dict[str, Any]:
    """What was set in a node's configuration and means something in a scenario."""
    outside = {"run", "name", "topology", "stop"}
    return config.model_dump(mode="json", exclude_unset=True, exclude=outside)


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        found |= {prefix + key: value} if inner is None else inner
    return found


def _printable(text: str) -> str:
    """Without what could end a comment or play tricks on a terminal: others chose these texts."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _short(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def _short_time(seconds: float) -> float:
    return round(seconds, 3)


def _moment(wall: float) -> str:
    """A wall time as `--from` takes it."""
    try:
        return datetime.fromtimestamp(wall).astimezone().isoformat(" ", timespec="milliseconds")
    except (OverflowError, OSError, ValueError):  # a clock that was nowhere near
        return f"{wall:g} s after 1970"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts node-2 before node-10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
