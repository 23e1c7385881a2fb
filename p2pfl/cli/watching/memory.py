"""What several nodes told, as one: the newest figure of each node wins.

    figures of a node    its own while it is there; else the newest that anybody told
    state of a node      its own while it is there; else of who heard of it last
    refusals             added up over those who tell; whoever is denied by one is shown as denied
    swarm's estimates    the median of those who tell: each node's is an estimate of the same thing
    timeline             what several tell of one node within a quarter of a minute is one entry

Rule of the file: no I/O and no clock; the same news give the same picture. Times that a node tells
are by its own clock and are shifted to ours by what its latest view shows; two nodes' clocks are
never compared. What is remembered is bounded.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, TypeVar

from p2pfl.cli.watching.reading import (
    NODES_MAX,
    STATES,
    Estimate,
    Happening,
    Histogram,
    Merge,
    Point,
    Rates,
    SwarmPoint,
    Told,
    View,
)
from p2pfl.cli.watching.source import Contact, News, Tie

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P", bound=tuple[Any, ...])

MERGES_MAX, TIMELINE_MAX, POINTS_MAX = 50, 200, 800
TOGETHER_S = 15.0
"""Two nodes notice a death within some periods of the failure detector of each other."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A node that we ask, and how that goes.

    Attributes:
        node: its id, once it told. label: its name, or its address. since_s: for how long it is so.
    """

    place: str
    address: str
    node: str | None
    label: str
    tie: Tie
    since_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """A node of the swarm, as far as known.

    Attributes:
        label: what people call it.
        state: one of `STATES`.
        told: its newest figures.
        told_ago_s: how old they are; None: there are none.
        told_by: who told them; None: itself.
        heard_ago_s: since somebody heard of it.
        is_watched: we ask it ourselves.
        known_by: nodes among those watched that know it.
    """

    node: str
    label: str
    state: str
    told: Told
    told_ago_s: float | None
    told_by: str | None
    heard_ago_s: float | None
    is_watched: bool
    known_by: int
    addresses: tuple[str, ...]
    incarnation: int | None
    refusals: Mapping[str, int]
    suspended: Mapping[str, int]
    denied: bool


@dataclass(frozen=True, slots=True)
class Mixed:
    """An exchange of one of those watched; `at` by our clock."""

    at: float
    by: str
    merge: Merge


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the timeline; `at` by our clock, `by`: those who tell."""

    at: float
    kind: str
    node: str
    detail: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """All that is known at one time.

    Attributes:
        at: Unix seconds by our clock.
        run: "" before the first view.
        estimates: how many nodes' estimates `swarm` is the median of.
        curves: of each node, by our clock. swarm_curve: of the one that has watched longest.
        rates: of those watched, together.
        holding: who holds back what, and why.
        labels: name of each node that told one; with part of its id if another has the same name.
    """

    at: float
    run: str
    is_keyed: bool
    trust: str
    topology: str
    parameters: int | None
    watched: tuple[Watched, ...]
    rows: tuple[Row, ...]
    others: Mapping[str, str]
    swarm: Estimate | None
    estimates: int
    staleness: Histogram
    merges: tuple[Mixed, ...]
    timeline: tuple[Entry, ...]
    curves: Mapping[str, tuple[Point, ...]]
    swarm_curve: tuple[SwarmPoint, ...]
    rates: Rates
    holding: tuple[tuple[str, str], ...]
    labels: Mapping[str, str]

    @property
    def live(self) -> int:
        """Nodes that tell now."""
        return sum(one.tie is Tie.LIVE for one in self.watched)

    @property
    def states(self) -> dict[str, int]:
        """How many nodes are in each state; the best first."""
        found = Counter(row.state for row in self.rows)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def mean_accuracy(self) -> float | None:
        """Of the nodes that told one and are not dead."""
        known = [
            row.told.accuracy
            for row in self.rows
            if row.told.accuracy is not None and row.state != "dead"
        ]
        return statistics.fmean(known) if known else None

    def label(self, node: str) -> str:
        """What people call a node."""
        return self.labels.get(node, node[:8])


# --- remembering --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Track:
    """What came from one place."""

    address: str
    tie: Tie = Tie.CONNECTING
    since: float = 0.0
    why: str = ""
    view: View | None = None
    at: float = 0.0
    merges: dict[tuple[object, ...], Merge] = field(default_factory=dict)
    timeline: dict[tuple[object, ...], Happening] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    swarm_curve: list[SwarmPoint] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        return self.tie is Tie.LIVE

    @property
    def shift(self) -> float:
        """What makes a time by its clock one by ours."""
        return 0.0 if self.view is None else self.at - self.view.at

    def become(self, tie: Tie, at: float, why: str = "") -> None:
        # a repeated failure does not make it gone for a shorter time
        if tie is not self.tie:
            self.tie, self.since = tie, at
        self.why = why

    def forget(self) -> None:
        """Another node is at this place now."""
        self.view = None
        self.merges.clear()
        self.timeline.clear()
        self.curves.clear()
        self.swarm_curve.clear()

    def keep(self, view: View, at: float) -> None:
        """A restarted node tells less than it told before: what it told is kept."""
        if self.view is not None and self.view.node != view.node:
            self.forget()
        self.view, self.at = view, at
        for merge in reversed(view.merges):
            self.add_merge(merge)
        for happening in reversed(view.timeline):
            self.add_happening(happening)
        for node, points in view.curves.items():
            if node in self.curves or len(self.curves) < NODES_MAX:
                _append(self.curves.setdefault(node, []), points, view.at)
        _append(self.swarm_curve, view.swarm_curve, view.at)

    def add_merge(self, merge: Merge) -> None:
        self.merges.setdefault((merge.at, merge.peer, merge.role, merge.outcome), merge)
        _bound(self.merges, MERGES_MAX, lambda one: one.at)

    def add_happening(self, one: Happening) -> None:
        self.timeline.setdefault((one.at, one.kind, one.node, one.detail), one)
        _bound(self.timeline, TIMELINE_MAX, lambda one: one.at)


def _bound(table: dict[K, V], most: int, at: Callable[[V], float]) -> None:
    if len(table) > most:
        del table[min(table, key=lambda key: at(table[key]))]


def _append(kept: list[P], points: Sequence[P], now: float) -> None:
    """Add what is newer than what there is; of a clock that was set back, the future is dropped."""
    while kept and kept[-1][0] > now + 1.0:
        kept.pop()
    last = kept[-1][0] if kept else float("-inf")
    kept += [point for point in points if point[0] > last]
    if len(kept) > POINTS_MAX:
        # every second of the older half, so that the present stays as fine as it came
        half = len(kept) // 2
        kept[:half] = kept[:half:2]


class Memory:
    """Takes news, and gives the picture they make."""

    def __init__(self, run: str | None = None) -> None:
        """Nothing is known yet.

        Args:
            run: name of the run that is watched; None: that of the first node that tells.
        """
        self._run = run
        self._tracks: dict[str, _Track] = {}

    def take(self, news: News) -> None:
        """Remember."""
        if isinstance(news, Contact):
            track = self._tracks.setdefault(news.place, _Track(news.address, since=news.at))
            track.address = news.address
            track.become(news.tie, news.at, news.why)
            return
        track = self._tracks.setdefault(news.place, _Track(news.place, Tie.LIVE, news.at))
        what = news.what
        if isinstance(what, View):
            if self._run is None:
                self._run = what.run
            if what.run == self._run:
                track.become(Tie.LIVE, news.at)
                track.keep(what, news.at)
            else:
                track.forget()
                track.become(Tie.FOREIGN, news.at, f"it is in run '{what.run}'")
        elif track.view is None:
            return
        elif isinstance(what, Merge):
            track.add_merge(what)
        else:
            track.add_happening(what)

    def merged(self, now: float) -> Merged:
        """The picture at a time by our clock."""
        return _Merging(self._run or "", self._tracks, now).merged()


# --- merging ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What one node tells of another."""

    teller: str
    track: _Track
    told: Told
    told_at: float | None
    heard_at: float | None

    @property
    def is_own_and_live(self) -> bool:
        return self.told.is_self and self.track.is_live


class _Merging:
    """One picture in the making."""

    def __init__(self, run: str, tracks: Mapping[str, _Track], now: float) -> None:
        self._run = run
        self._now = now
        self._all = tracks
        by_node: dict[str, _Track] = {}
        for track in tracks.values():
            # one node at two addresses is one node
            if track.view is not None:
                other = by_node.get(track.view.node)
                if other is None or (track.is_live, track.at) > (other.is_live, other.at):
                    by_node[track.view.node] = track
        self._tracks = by_node
        self._opinions: dict[str, list[_Opinion]] = defaultdict(list)
        for teller, track in by_node.items():
            for told in track.view.nodes if track.view is not None else ():
                self._opinions[told.node].append(_opinion(teller, track, told))
        self._labels = self._named()

    def merged(self) -> Merged:
        views = [track.view for track in self._by_presence() if track.view is not None]
        first = views[0] if views else None
        live = [t.view for t in self._tracks.values() if t.view is not None and t.is_live]
        swarm, estimates = _median([v.swarm for v in live or views if v.swarm is not None])
        return Merged(
            at=self._now,
            run=self._run,
            is_keyed=first is not None and first.is_keyed,
            trust=first.trust if first else "",
            topology=first.topology if first else "",
            parameters=first.parameters if first else None,
            watched=tuple(self._watched()),
            rows=tuple(
                sorted(map(self._row, self._opinions), key=lambda row: (row.label, row.node))
            ),
            others={address: why for view in views for address, why in view.others.items()},
            swarm=swarm,
            estimates=estimates,
            staleness=_summed([view.staleness for view in views]),
            merges=self._merges(),
            timeline=self._timeline(),
            curves=self._curves(),
            swarm_curve=self._swarm_curve(),
            rates=Rates(
                bytes_in_per_s=_sum(view.rates.bytes_in_per_s for view in live),
                bytes_out_per_s=_sum(view.rates.bytes_out_per_s for view in live),
                exchanges_per_s=_sum(view.rates.exchanges_per_s for view in live),
            ),
            holding=tuple((view.node, text) for view in views for text in view.holding),
            labels=self._labels,
        )

    def _by_presence(self) -> list[_Track]:
        """Those that are there first, and else in the order in which they came."""
        return sorted(self._tracks.values(), key=lambda track: not track.is_live)

    def _named(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for node, opinions in self._opinions.items():
            own = [one.told.name for one in opinions if one.told.is_self and one.told.name]
            known = own or [one.told.name for one in opinions if one.told.name]
            if known:
                names[node] = known[0]
        for node, track in self._tracks.items():
            if track.view is not None and track.view.name:
                names[node] = track.view.name
        often = Counter(names.values())
        return {
            node: name if often[name] == 1 else f"{name} ({node[:6]})"
            for node, name in names.items()
        }

    def _label(self, node: str) -> str:
        return self._labels.get(node, node[:8])

    def _watched(self) -> Iterable[Watched]:
        for place, track in self._all.items():
            node = track.view.node if track.view is not None else None
            yield Watched(
                place=place,
                address=track.address,
                node=node,
                label=self._label(node) if node else track.address,
                tie=track.tie,
                since_s=max(0.0, self._now - track.since),
                why=track.why,
            )

    def _row(self, node: str) -> Row:
        opinions = self._opinions[node]
        told = max(opinions, key=lambda one: (one.is_own_and_live, *_newer(one.told_at)))
        heard = max(opinions, key=lambda one: _newer(one.heard_at))
        return Row(
            node=node,
            label=self._label(node),
            state=_state(opinions),
            told=told.told,
            told_ago_s=self._ago(told.told_at),
            told_by=None if told.told.is_self else told.teller,
            heard_ago_s=self._ago(heard.heard_at),
            is_watched=any(one.told.is_self for one in opinions),
            known_by=len(opinions),
            addresses=next((one.told.addresses for one in opinions if one.told.addresses), ()),
            incarnation=max(
                (i for one in opinions if (i := one.told.incarnation) is not None), default=None
            ),
            refusals=_added(one.told.refusals for one in opinions),
            suspended=_added(one.told.suspended for one in opinions),
            denied=any(one.told.denied for one in opinions),
        )

    def _ago(self, at: float | None) -> float | None:
        return None if at is None else max(0.0, self._now - at)

    def _merges(self) -> tuple[Mixed, ...]:
        found = [
            Mixed(merge.at + track.shift, node, merge)
            for node, track in self._tracks.items()
            for merge in track.merges.values()
        ]
        return tuple(sorted(found, key=lambda one: -one.at)[:MERGES_MAX])

    def _timeline(self) -> tuple[Entry, ...]:
        told = sorted(
            (
                (one.at + track.shift, teller, one.node or teller, one)
                for teller, track in self._tracks.items()
                for one in track.timeline.values()
            ),
            key=itemgetter(0),
        )
        entries: list[Entry] = []
        latest: dict[tuple[str, str], int] = {}
        for at, teller, node, one in told:
            place = latest.get((one.kind, node))
            if place is not None:
                before = entries[place]
                if at - before.at <= TOGETHER_S and teller not in before.by:
                    entries[place] = replace(before, by=(*before.by, teller))
                    continue
            latest[one.kind, node] = len(entries)
            entries.append(Entry(at, one.kind, node, one.detail, (teller,)))
        return tuple(reversed(entries[-TIMELINE_MAX:]))

    def _curves(self) -> dict[str, tuple[Point, ...]]:
        """Its own of each node that we watch, else the longest that somebody told."""
        found: dict[str, tuple[bool, int, _Track]] = {}
        for teller, track in self._tracks.items():
            for node, points in track.curves.items():
                rank = (teller == node, len(points), track)
                if points and (node not in found or rank[:2] > found[node][:2]):
                    found[node] = rank
        shifted: dict[str, tuple[Point, ...]] = {}
        for node, (_, _, track) in found.items():
            shift = track.shift
            shifted[node] = tuple((at + shift, a, b) for at, a, b in track.curves[node])
        return shifted

    def _swarm_curve(self) -> tuple[SwarmPoint, ...]:
        """Of one node, or the curve would jump: the one that has estimated for longest."""
        known = [track for track in self._by_presence() if track.swarm_curve]
        if not known:
            return ()
        best = min(
            known, key=lambda track: (not track.is_live, track.swarm_curve[0][0] + track.shift)
        )
        return tuple((at + best.shift, a, b, c) for at, a, b, c in best.swarm_curve)


def _opinion(teller: str, track: _Track, told: Told) -> _Opinion:
    heard_ago_s = 0.0 if told.is_self else told.heard_ago_s
    return _Opinion(
        teller,
        track,
        told,
        told_at=None if told.told_ago_s is None else track.at - told.told_ago_s,
        heard_at=None if heard_ago_s is None else track.at - heard_ago_s,
    )


def _newer(at: float | None) -> tuple[bool, float]:
    return (at is not None, at or 0.0)


def _state(opinions: Sequence[_Opinion]) -> str:
    for one in opinions:
        if one.is_own_and_live:
            return one.told.state
    # what a node that is gone said of itself is over; what others said of it may still hold
    others = [one for one in opinions if not one.told.is_self]
    if not others:
        return "unknown"
    return max(others, key=lambda one: (one.track.is_live, *_newer(one.heard_at))).told.state


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _added(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)


def _summed(histograms: Sequence[Histogram]) -> Histogram:
    """Counts added up, of those that have the bins of the first."""
    known = [one for one in histograms if one.values]
    if not known:
        return Histogram()
    same = [one.values for one in known if one.edges == known[0].edges]
    return Histogram(known[0].edges, tuple(map(sum, zip(*same, strict=True))))


def _median(estimates: Sequence[Estimate]) -> tuple[Estimate | None, int]:
    if not estimates:
        return None, 0

    def middle(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    histograms = [one.histogram for one in estimates if one.histogram.values]
    histogram = Histogram()
    if histograms:
        same = [one.values for one in histograms if one.edges == histograms[0].edges]
        shares = [statistics.median(column) for column in zip(*same, strict=True)]
        histogram = Histogram(histograms[0].edges, tuple(shares))
    return Estimate(
        count=middle(one.count for one in estimates),
        reporting=middle(one.reporting for one in estimates),
        mean_accuracy=middle(one.mean_accuracy for one in estimates),
        worst_tenth_accuracy=middle(one.worst_tenth_accuracy for one in estimates),
        mean_loss=middle(one.mean_loss for one in estimates),
        consensus_distance=middle(one.consensus_distance for one in estimates),
        histogram=histogram,
    ), len(estimates)
