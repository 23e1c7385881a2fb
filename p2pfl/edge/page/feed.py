"""What the page shows: a journal in front of the journal, with a short memory.

    record(event)      passes on, remembers, tells whoever watches
    json(since)        the view, with the curves' points that are newer than `since`
    watched()          a watcher's events, as they happen
    run()              now and then looks at what the others tell, for their curves

Rule of the file: bounded, and idle while nobody watches: sentences, views and JSON are made when
somebody asks. A view is made once for all who ask at about the same time, however many they are;
one that takes long (a thousand nodes) is made more rarely. A watcher that is slow loses events.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from p2pfl.core import events
from p2pfl.core.events import Event, Exchanged, Fault, Measured, MemberChanged, Started, Stopped
from p2pfl.core.messages import Status
from p2pfl.core.outcomes import REFUSED, REJECTED
from p2pfl.edge.page import view as pages
from p2pfl.edge.page import wording
from p2pfl.edge.page.curves import Curves
from p2pfl.edge.page.rates import Rates
from p2pfl.edge.page.watchers import Watcher, sent
from p2pfl.edge.page.wording import Moment, kind_of
from p2pfl.ports import Clock, Journal

MERGES, TIMELINE = 50, 200

_KNOWN = 2048
"""Peers whose last exchange, status or refusal is remembered; the oldest goes first."""

_FRESH_S = 0.5
"""Whoever asks again within it gets the same view."""

_PATIENCE = 20.0
"""A view is as fresh as so many times the time that it took: 5 % of a processor at most."""

_LOOK_S, _LOOK_SHARE = 5.0, 500.0
"""Pause between two looks at the others while nobody watches: at least so long, and so many times
as long as a look takes."""

_REFUSED_AGAIN_S = 60.0


@dataclass(slots=True)
class _Look:
    """A view without its curves, as JSON, and the curves that were asked for with it."""

    at: float
    fresh_s: float
    nodes: int
    body: bytes
    whole: dict[int, tuple[bytes, int]] = field(default_factory=dict)


class Feed:
    """The `Journal` of a node that can be looked at.

    Args:
        journal: where the events go.
        wall: Unix seconds.
        clock: monotonic seconds.

    Attributes:
        journal: as given.
        mixed: exchanges that moved a model, and the sum of their staleness in cycles.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        wall: Callable[[], float] = time.time,
        clock: Clock = time.monotonic,
    ) -> None:
        self.journal = journal
        self.mixed: tuple[int, float] = (0, 0.0)
        self._wall = wall
        self._clock = clock
        self._status: Callable[[], Mapping[str, Any]] | None = None
        self._node = ""
        self._started = wall()
        self._merges: deque[tuple[float, Exchanged]] = deque(maxlen=MERGES)
        self._timeline: deque[dict[str, Any]] = deque(maxlen=TIMELINE)
        self._members: dict[str, Moment] = {}
        self._links: dict[str, float] = {}
        self._refused: dict[tuple[str, str], float] = {}
        self._rates = Rates(clock())
        self._curves = Curves()
        self._numbers: dict[str, tuple[int, int]] = {}
        self._watchers: set[Watcher] = set()
        self._look: _Look | None = None

    def attach(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """From now on the node can be looked at; `status` is its `/v1/status`."""
        self._status = status

    # --- what happens ---------------------------------------------------------------------------

    def record(self, event: Event) -> None:
        """Pass an event on, and keep what the page shows of it; cheap, and never raises."""
        self.journal.record(event)
        match event:
            case Exchanged():
                self._exchanged(event)
            case MemberChanged():
                self._changed(event)
            case Fault():
                self._failed(event)
            case Measured():
                self._curves.node(self._node, self._wall(), event.accuracy, event.loss)
            case Started():
                self._begun(event)
            case Stopped():
                self._note("left", self._node, f"this node stopped: {event.reason}")
            case events.Cycle():
                pass

    def _exchanged(self, event: Exchanged) -> None:
        now = self._wall()
        self._merges.append((now, event))
        # as `core.tally` counts the staleness of what was mixed
        if event.weight and math.isfinite(event.distance):
            count, total = self.mixed
            self.mixed = count + 1, total + event.staleness
        if wording.is_accepted(event):
            _put(self._links, event.peer, now)
        elif event.outcome.startswith((REFUSED, REJECTED)):
            self._refusal(event.peer, event.outcome, event.peer, wording.why(event))
        if self._watchers:
            self._tell("merge", pages.merge(now, event))

    def _refusal(self, whose: str, why: str, peer: str | None, detail: str) -> None:
        """Told once a minute: whoever is refused asks again and again."""
        key, now = (whose, why), self._wall()
        if now - self._refused.get(key, float("-inf")) >= _REFUSED_AGAIN_S:
            _put(self._refused, key, now)
            self._note("refused", peer, detail)

    def _changed(self, event: MemberChanged) -> None:
        before = self._members.get(event.peer)
        if before is None and not wording.is_own_word(event):
            # only heard of: it may be made up, and is no news before it speaks
            return
        _put(self._members, event.peer, Moment(event.status, event.incarnation))
        kind = kind_of(event, before)
        if kind is not None:
            reason = wording.FIRST_WORD if before is None else event.reason
            self._note(kind, event.peer, wording.of_member(reason))

    def _failed(self, event: Fault) -> None:
        match event.kind:
            case "kept-out":
                host = (event.peer or "").rpartition(":")[0]
                self._refusal(host, event.detail, None, f"{event.peer}: {event.detail}")
            case "suspended" | "denied" | "rescued" | "held":
                self._note(event.kind, event.peer, event.detail)
            case _:
                self._note("fault", event.peer, f"{event.kind}: {event.detail}")

    def _begun(self, event: Started) -> None:
        self._node, self._started = event.node, self._wall()
        how = f"goes on at age {event.age}" if event.resumed else "begins anew"
        self._note("started", event.node, f"start {event.incarnation}, {how}")

    def _note(self, kind: str, node: str | None, detail: str) -> None:
        noted = {"at": round(self._wall(), 3), "kind": kind, "node": node, "detail": detail}
        self._timeline.append(noted)
        if self._watchers:
            self._tell("timeline", noted)

    # --- who watches ----------------------------------------------------------------------------

    @contextmanager
    def watched(self) -> Iterator[Watcher]:
        """Somebody watches while the context is open."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def _tell(self, kind: str, what: Mapping[str, Any]) -> None:
        event = sent(kind, _json(what))
        for watcher in self._watchers:
            watcher.tell(event)

    # --- what is known --------------------------------------------------------------------------

    def json(self, since: int = 0) -> tuple[bytes, int]:
        """The view as JSON.

        Args:
            since: a serial; the curves hold only what is newer, 0 for all of it.

        Returns:
            The JSON, and the serial of the newest point in it.
        """
        look = self._fresh()
        if since not in look.whole:
            curves, serial = self._curves.json(since), self._curves.serial
            look.whole[since] = look.body[:-1] + b',"curves":' + curves + b"}", serial
        return look.whole[since]

    @property
    def nodes(self) -> int:
        """How many nodes are in the latest view."""
        return self._look.nodes if self._look is not None else 0

    def status(self) -> Mapping[str, Any]:
        """What the node says of itself now.

        Raises:
            RuntimeError: it is not served yet.
        """
        if self._status is None:
            raise RuntimeError("a feed without a node: `attach` comes first")
        return self._status()

    async def run(self) -> None:
        """Look at what the others tell now and then, until cancelled."""
        while True:
            began = self._clock()
            self._learn(self.status())
            took_s = self._clock() - began
            await asyncio.sleep(max(_LOOK_S, _LOOK_SHARE * took_s))

    def _fresh(self) -> _Look:
        began = self._clock()
        if self._look is None or began - self._look.at > self._look.fresh_s:
            status = self.status()
            self._learn(status)
            found = self._view(status)
            body = _json(found)
            fresh_s = max(_FRESH_S, _PATIENCE * (self._clock() - began))
            self._look = _Look(began, fresh_s, len(found["nodes"]), body)
        return self._look

    def _view(self, status: Mapping[str, Any]) -> dict[str, Any]:
        now = self._wall()
        oldest = now - pages.LINK_S
        self._links = {peer: at for peer, at in self._links.items() if at >= oldest}
        return pages.view(
            status,
            now=now,
            started=self._started,
            own_links=self._links,
            rates=self._rates.per_s(),
            merges=[pages.merge(at, event) for at, event in reversed(self._merges)],
            timeline=list(reversed(self._timeline)),
        )

    def _learn(self, status: Mapping[str, Any]) -> None:
        """Take from a status what curves and rates are made of."""
        traffic = status["bytes_in"], status["bytes_out"]
        self._rates.read(self._clock(), *traffic, self.mixed[0])
        now, told = self._wall(), pages.reports(status)
        shown = pages.listed(status, told)
        self._meet(shown)
        known = {self._node, *(member["node"] for member in shown)}
        for node, report in told.items():
            if node not in known:
                continue
            number = report["incarnation"], report["number"]
            accuracy, loss = pages.number(report["accuracy"]), pages.number(report["loss"])
            if self._numbers.get(node) == number or (accuracy is None and loss is None):
                continue
            self._numbers[node] = number
            self._curves.node(node, now - report["told_ago_s"], accuracy, loss)
        swarm = pages.swarm(status)
        if swarm is not None:
            self._curves.swarm(
                now,
                swarm["mean_accuracy"],
                swarm["worst_tenth_accuracy"],
                swarm["consensus_distance"],
            )
        self._curves.forget_all_but(known)
        for node in self._numbers.keys() - known:
            del self._numbers[node]

    def _meet(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Note who has spoken that was only heard of: membership has no event for that."""
        for member in members:
            node, state = member["node"], member["status"]
            if member["is_met"] and node not in self._members:
                _put(self._members, node, Moment(state, member["incarnation"]))
                if state != Status.DEAD:
                    self._note("joined", node, wording.of_member(wording.FIRST_WORD))


def _put(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Remember, and forget the oldest where there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > _KNOWN:
        del known[next(iter(known))]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
