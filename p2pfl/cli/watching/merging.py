"""What several nodes told, as one: the newest figure of each node wins.

    figures of a node    its own while it is there; else the newest that anybody told
    state of a node      its own while it is there; else of who heard of it last
    refusals             added up over those who tell; whoever is denied by one is shown as denied
    swarm's estimates    the median of those who tell: each node's is an estimate of the same thing
    timeline             what several tell of one node within a quarter of a minute is one entry

Rule of the file: pure. Times that a node tells are by its own clock and are shifted to ours by what
its latest view shows; two nodes' clocks are never compared.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from p2pfl.cli.watching.picture import Entry, Merged, Mixed, Row, Watched
from p2pfl.cli.watching.reading import (
    HEARD_OF,
    Estimate,
    Histogram,
    Point,
    Rates,
    SwarmPoint,
    Told,
)
from p2pfl.cli.watching.tracks import MERGES_MAX, TIMELINE_MAX, Track

TOGETHER_S = 15.0
"""Two nodes notice a death within some periods of the failure detector of each other."""


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What one node tells of another."""

    teller: str
    track: Track
    told: Told
    told_at: float | None
    heard_at: float | None

    @property
    def is_own_and_live(self) -> bool:
        return self.told.is_self and self.track.is_live


def merged(run: str, tracks: Mapping[str, Track], now: float) -> Merged:
    """The picture at a time by our clock.

    Args:
        run: "" before the first view.
        tracks: what came from each place.
    """
    return _Merging(run, tracks, now).merged()


class _Merging:
    """One picture in the making."""

    def __init__(self, run: str, tracks: Mapping[str, Track], now: float) -> None:
        self._run = run
        self._now = now
        self._all = tracks
        by_node: dict[str, Track] = {}
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
                sorted(
                    map(self._row, self._opinions),
                    key=lambda row: (not row.is_met, row.label, row.node),
                )
            ),
            # whom one leaves out another may list: the least that is certainly besides
            unlisted=max((view.unlisted for view in live or views), default=0),
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

    def _by_presence(self) -> list[Track]:
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
        found: dict[str, tuple[bool, int, Track]] = {}
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


def _opinion(teller: str, track: Track, told: Told) -> _Opinion:
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
    # whoever only heard of it knows less than whoever was spoken to, however long ago
    return max(
        others,
        key=lambda one: (
            one.told.state != HEARD_OF,
            one.track.is_live,
            *_newer(one.heard_at),
        ),
    ).told.state


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
