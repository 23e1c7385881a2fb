"""A made-up swarm for the page: it learns, exchanges, dies and comes back, and never existed.

Rule of the file: it speaks the contract of `GET /v1/view` and knows no socket and no clock.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KEPT_LINK_S = 60.0
EDGES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, None]
"""The last bin is open: JSON has no infinity."""

_WHYS = {
    "flow": "mixed with weight {weight:.2f}: {staleness:.1f} cycles old, {distance:.1f} away",
    "busy": "busy, tried again later",
    "rejected: distance": "refused: {distance:.1f} away, reach is 3.0",
    "timeout": "no answer within 2.0 s",
}

_FIGURES = (
    *("age", "own_steps", "cycles", "cycle_s", "loss", "accuracy", "staleness", "distance"),
    *("bytes_in", "bytes_out"),
)


@dataclass
class Person:
    """One made-up node."""

    id: str
    name: str | None
    ceiling: float
    pace: float
    state: str = "training"
    incarnation: int = 1
    steps: float = 0.0
    bytes_out: float = 0.0
    accuracy: float | None = None
    told_at: float | None = None
    told: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    holding: str = ""
    suspended: dict[str, int] | None = None
    back_at: float | None = None

    @property
    def is_up(self) -> bool:
        return self.state not in ("dead", "unknown", "suspect", "only heard of")


class World:
    """The swarm as the first of its nodes knows it.

    Args:
        count: nodes, this one included.
        seed: of everything that happens.
        is_lively: nodes die, restart and are refused by themselves.
    """

    def __init__(self, count: int, *, seed: int = 7, is_lively: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.now = 1_732_000_000.0
        self.started = self.now
        self.incarnation = 3
        self.is_lively = is_lively
        self.people: list[Person] = []
        self.links: dict[tuple[str, str], float] = {}
        self.merges: list[dict[str, Any]] = []
        self.timeline: list[dict[str, Any]] = []
        self.news: list[tuple[str, dict[str, Any]]] = []
        self.curves: dict[str, list[list[float | None]]] = {}
        self.overall: list[list[float | None]] = []
        self.staleness = [0] * (len(EDGES) - 1)
        self.others: dict[str, str] = {}
        self.holding: list[str] = []
        self.unlisted = 0
        self.has_estimates = True
        self.rates = {"bytes_in_per_s": 0.0, "bytes_out_per_s": 0.0, "exchanges_per_s": 0.0}
        for _ in range(count):
            self.join(is_new=False)
        if self.people:
            self.happen("started", self.me, f"start {self.incarnation}")

    @property
    def me(self) -> Person:
        return self.people[0]

    def join(self, name: str | None = "", *, is_new: bool = True, **more: Any) -> Person:
        """One more node; without a name it gets the next one."""
        at = len(self.people) + 1
        identity = hashlib.sha256(f"{at}".encode()).hexdigest()[:16]
        name = f"n{at:02}" if name == "" else name
        ceiling = 0.97 - 0.05 * self.rng.beta(1.2, 4)
        pace = self.rng.lognormal(0, 0.4)
        person = Person(identity, name, ceiling, pace, **more)
        self.people.append(person)
        if is_new:
            self.happen("joined", person, "found by mDNS")
        return person

    def invent(self, count: int, *, unlisted: int = 0) -> None:
        """Somebody makes up so many members, and some that do not fit into the list."""
        for place in range(count):
            self.join(f"a{place:02}", is_new=False, state="only heard of", accuracy=0.01)
        self.unlisted = unlisted

    def happen(self, kind: str, person: Person | None, detail: str = "") -> None:
        """Something for the timeline, and for whoever watches it live."""
        node = None if person is None else person.id
        event = {"at": self.now, "kind": kind, "node": node, "detail": detail}
        self.timeline.insert(0, event)
        del self.timeline[200:]
        self.news.append(("timeline", event))

    def kill(self, person: Person) -> None:
        """It falls silent for good."""
        person.state = "dead"
        self.happen("dead", person, "no answer to 3 indirect probes")

    def restart(self) -> None:
        """The node that is looked at starts again and remembers nobody's curve."""
        self.incarnation += 1
        self.started = self.now
        self.links.clear()
        for kept in (self.merges, self.timeline, self.overall, self.news):
            kept.clear()
        self.curves.clear()
        self.happen("started", self.me, f"start {self.incarnation}, from its checkpoint")

    def step(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        self.now += dt
        me = self.me
        up = [person for person in self.people if person.is_up]
        for person in up:
            self._learn(person, dt)
        mine = 0
        for person in up:
            for _ in range(self.rng.poisson(0.6 * person.pace * dt)):
                other = up[self.rng.integers(len(up))]
                if other is not person:
                    mine += self._exchange(person, other)
        self.links = {pair: at for pair, at in self.links.items() if self.now - at < KEPT_LINK_S}
        volume = 38_000.0 * mine / dt
        for key, value in (("bytes_in_per_s", volume), ("bytes_out_per_s", volume * 1.04)):
            self.rates[key] = 0.8 * self.rates[key] + 0.2 * value
        rate = self.rates["exchanges_per_s"]
        self.rates["exchanges_per_s"] = 0.8 * rate + 0.2 * mine / dt
        for person in up:
            if person is me or self.rng.random() < min(dt * 20 / len(self.people), 0.6 * dt):
                self._tell(person)
        self._estimate()
        if self.is_lively:
            self._trouble(dt)

    def _learn(self, person: Person, dt: float) -> None:
        person.steps += 40 * person.pace * dt
        person.bytes_out += 45_000 * person.pace * dt
        if person.state == "starting" and person.steps > 60:
            person.state = "training"
        if person.steps > 20:
            way = 1 - math.exp(-person.steps / 1500)
            noise = 0.006 * self.rng.standard_normal()
            person.accuracy = min(0.1 + (person.ceiling - 0.1) * way + noise, 1.0)

    def _exchange(self, a: Person, b: Person) -> int:
        self.links[min(a.id, b.id), max(a.id, b.id)] = self.now
        if self.me not in (a, b):
            return 0
        peer = b if a is self.me else a
        staleness = float(self.rng.lognormal(-0.3, 0.8))
        distance = 0.6 + 4 * math.exp(-peer.steps / 2000) * self.rng.random()
        chance = self.rng.random()
        outcome = "flow" if chance < 0.9 else "busy" if chance < 0.96 else "timeout"
        if peer.refusals and chance > 0.3:
            outcome, distance = "rejected: distance", distance + 4.5
            peer.refusals["distance"] = peer.refusals.get("distance", 0) + 1
        is_accepted = outcome == "flow"
        if is_accepted:
            place = np.searchsorted([edge for edge in EDGES[1:] if edge is not None], staleness)
            self.staleness[int(place)] += 1
        weight = 0.5 * min(1.0, staleness**-0.5) if is_accepted else 0.0
        why = _WHYS[outcome].format(weight=weight, staleness=staleness, distance=distance)
        merge = {
            "at": self.now - float(self.rng.random()) * 0.01,
            "peer": peer.id,
            "role": "asked" if a is self.me else "answered",
            "outcome": outcome,
            "weight": weight,
            "staleness": staleness,
            "distance": distance,
            "bytes_in": 38_412,
            "bytes_out": 38_390 if is_accepted else 0,
            "seconds": float(self.rng.lognormal(-3.5, 0.6)),
            "is_accepted": is_accepted,
            "why": why,
        }
        self.merges.insert(0, merge)
        del self.merges[50:]
        self.news.append(("merge", merge))
        return 1

    def _tell(self, person: Person) -> None:
        person.told_at = self.now - (0 if person is self.me else float(self.rng.exponential(1.2)))
        loss = None if person.accuracy is None else 2.4 * (1 - person.accuracy) ** 1.3
        person.told = {
            "age": int(person.steps * 1.1),
            "own_steps": int(person.steps),
            "cycles": int(person.steps / 5),
            "cycle_s": 0.125 / person.pace,
            "loss": loss,
            "accuracy": person.accuracy,
            "staleness": 0.4 + 0.3 / person.pace,
            "distance": 0.6 + 3 * math.exp(-person.steps / 2000),
            "bytes_in": int(person.bytes_out * 0.97),
            "bytes_out": int(person.bytes_out),
        }
        if person.accuracy is not None:
            curve = self.curves.setdefault(person.id, [])
            if not curve or (curve[-1][0] or 0) < person.told_at:
                curve.append([person.told_at, person.accuracy, loss])
                del curve[:-400]

    def _known(self) -> list[float]:
        return sorted(p.accuracy for p in self.people if p.is_up and p.accuracy is not None)

    def _estimate(self) -> None:
        known = self._known()
        if known and self.has_estimates:
            tenth = known[: max(len(known) // 10, 1)]
            distance = 9 * math.exp(-(self.now - self.started) / 60) + 0.7
            distance += 0.05 * float(self.rng.standard_normal())
            self.overall.append([self.now, float(np.mean(known)), float(np.mean(tenth)), distance])
            del self.overall[:-400]

    def _trouble(self, dt: float) -> None:
        for person in self.people[1:]:
            if person.back_at is not None and self.now >= person.back_at:
                person.state, person.back_at = "starting", None
                person.incarnation += 1
                person.steps *= 0.5
                self.happen("restarted", person, f"start {person.incarnation}")
        if self.rng.random() < 0.05 * dt:
            up = [person for person in self.people[1:] if person.state == "training"]
            if up:
                victim = up[self.rng.integers(len(up))]
                self.kill(victim)
                victim.back_at = self.now + 20 + 40 * self.rng.random()
        if self.rng.random() < 0.03 * dt:
            self.happen("refused", None, "192.168.1.77:4000 is of another run: 'kitchen'")

    def view(self, since: float | None = None) -> dict[str, Any]:
        """What `GET /v1/view` says; `since`: only points of curves that are newer."""

        def newer(points: list[list[float | None]]) -> list[list[float | None]]:
            return [point for point in points if since is None or (point[0] or 0) > since]

        curves = {node: newer(points) for node, points in self.curves.items()}
        pairs = sorted(self.links.items())
        return {
            "format": 1,
            "at": self.now,
            "node": self.me.id,
            "name": self.me.name,
            "run": "digits-at-home",
            "is_keyed": False,
            "version": "0.1.0",
            "trust": "cooperative",
            "topology": "random-2",
            "parameters": 2410,
            "uptime_s": self.now - self.started,
            "started": self.started,
            "incarnation": self.incarnation,
            "nodes": [self._node(at, person) for at, person in enumerate(self.people)],
            "unlisted": self.unlisted,
            "others": self.others,
            "links": [{"a": a, "b": b, "ago_s": self.now - at} for (a, b), at in pairs],
            "swarm": self._swarm(),
            "staleness": {"edges": EDGES, "counts": self.staleness},
            "merges": self.merges,
            "timeline": self.timeline,
            "curves": {
                "nodes": {node: points for node, points in curves.items() if points},
                "swarm": newer(self.overall),
            },
            "rates": self.rates,
            "holding": self.holding,
        }

    def _node(self, at: int, person: Person) -> dict[str, Any]:
        never = person.told_at is None
        is_self = at == 0
        empty = dict.fromkeys(_FIGURES)
        told_ago_s = None if person.told_at is None else self.now - person.told_at
        return {
            "node": person.id,
            "name": person.name,
            "is_self": is_self,
            "state": "unknown" if never and not is_self and person.is_up else person.state,
            "incarnation": self.incarnation if is_self else person.incarnation,
            "addresses": [f"192.168.1.{at % 250 + 2}:4000"],
            "heard_ago_s": 0.0 if is_self else (told_ago_s or 0.0) * 0.3,
            "told_ago_s": told_ago_s,
            "holding": person.holding,
            "refusals": person.refusals,
            "suspended": person.suspended,
            "denied": False,
            **(empty | person.told),
        }

    def _swarm(self) -> dict[str, Any] | None:
        if not self.overall or not self.has_estimates:
            return None
        known = self._known()
        counts, edges = np.histogram(known, bins=20, range=(0, 1))
        _, mean, worst, distance = self.overall[-1]
        up = sum(person.is_up for person in self.people)
        return {
            "count": up * 1.004,
            "reporting": len(known) / max(up, 1),
            "mean_accuracy": mean,
            "worst_tenth_accuracy": worst,
            "mean_loss": 2.4 * (1 - (mean or 0)) ** 1.3,
            "histogram": {
                "edges": edges.tolist(),
                "share": (counts / max(len(known), 1)).tolist(),
            },
            "consensus_distance": distance,
        }


def trained(count: int, *, seconds: int = 240, seed: int = 7) -> World:
    """A world that has been running, with one of everything that can be wrong."""
    world = World(count, seed=seed, is_lively=True)
    if count > 5:
        odd = world.people
        odd[3].refusals = {"distance": 4, "busy": 1}
        odd[4].holding = "training rests until 07:00 (quiet hours 22:00-07:00)"
        odd[4].state = "holding"
    for _ in range(seconds):
        world.step(1.0)
    if count > 5:
        world.others = {
            "192.168.1.77:4000": "is of another run: 'kitchen', not 'digits-at-home'",
            "192.168.1.80:4000": "has another model: layout 1f3c0a, not 9f86d0",
        }
        world.join(state="starting")
        world.join(None, state="unknown")
        odd[6 % count].state = "suspect"
        world.happen("suspect", odd[6 % count], "no answer for 2.1 s")
        if count > 9:
            odd[9].suspended = {"clip": 6}
            world.happen("suspended", odd[9], "6 times clipped in 60 s")
    return world
