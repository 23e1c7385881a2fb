"""Neighbour rules: who talks to whom, as a pure function of the members that are alive.

    full              everybody
    random-S          everybody too, but at most S are asked per cycle (Epidemic Learning)
    ring              the next and the previous of the sorted ids
    torus-C           a grid of C columns over the sorted ids, closed in both directions
    exponential       1, 2, 4, ... places away in both directions
    small-world-K     the K nearest on the ring, and long links chosen by hash
    random-regular-K  next and previous on K/2 circles, each in the order of another hash
    star              the smallest id is everybody's only neighbour
    edges:A--B,B--C   exactly these links, between ids or names

Rule of the file: every node works this out for itself, so a rule is deterministic, symmetric (j is
a neighbour of i exactly if i is one of j), never names the asker, and is connected for any number
of members; when somebody leaves, the others close the gap without a word. Hashes are BLAKE2b: equal
on every device and in every process. A new rule is one function and one line in `RULES`.

Epidemic Learning: de Vos et al., NeurIPS 2023, arXiv:2310.01972. Exponential graphs: Ying et al.,
NeurIPS 2021, arXiv:2110.13363. Small worlds: Newman & Watts 1999; long links of mean degree 1 as in
Bollobás & Chung, "The diameter of a cycle plus a random matching", 1988. Unions of random circles
are random regular graphs in all but name (Law & Siu, INFOCOM 2003), and unlike a choice of the
best-ranked partners they cost O(n) and cannot fall apart.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

from p2pfl.errors import ConfigError

Members: TypeAlias = tuple[str, ...]
Links: TypeAlias = Callable[[int, Members, int], Iterable[int]]
"""(place of the asker, sorted members, parameter) -> places; the asker's own may be among them."""

EDGES = "edges:"
_VERTEX = re.compile(r"(?!.*--)[^,\s]([^,]*[^,\s])?")
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Kind:
    """What `RULES` knows of one rule.

    Attributes:
        links: the rule itself.
        parameter: what its number means, as topology files call it; None if it takes none.
        default, least, most: of that number; a default of 0 stands for "as the rule sees fit".
        even: whether it must be even.
    """

    links: Links
    parameter: str | None = None
    default: int = 0
    least: int = 1
    most: int = 1024
    even: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A neighbour rule, made by `rule` or `edges`.

    Attributes:
        name: a key of `RULES`, or "edges".
        parameter: its number, 0 if it has none.
        links: the edge list, each pair and all pairs sorted; empty for the other rules.
    """

    name: str
    parameter: int = 0
    links: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The rule in words: `rule(text)` gives an equal one."""
        if self.links:
            return EDGES + ",".join(f"{a}--{b}" for a, b in self.links)
        return f"{self.name}-{self.parameter}" if self.parameter else self.name

    @property
    def draws(self) -> int | None:
        """How many neighbours are asked per cycle at most; None leaves that to others."""
        return self.parameter if self.name == "random" else None

    def neighbours(
        self, me: str, members: Sequence[str], names: Mapping[str, str] = _NO_NAMES
    ) -> tuple[str, ...]:
        """The neighbours of `me`, sorted.

        O(n) for n members, and a function of the arguments alone: whoever asks often keeps the
        answer for as long as it is given the same members.

        Args:
            me: one of the members.
            members: ids of the live members, sorted, no duplicates.
            names: id -> name, as far as known; only an edge list looks at it.

        Raises:
            ValueError: `me` is not among the members.
        """
        members = tuple(members)
        place = bisect_left(members, me)
        if place == len(members) or members[place] != me:
            raise ValueError(f"'{me}' is not among the {len(members)} members")
        if self.links:
            return _listed(me, members, self.links, names)
        links = RULES[self.name].links
        if links is _full:
            return members[:place] + members[place + 1 :]
        near = set(links(place, members, self.parameter))
        near.discard(place)
        return tuple([members[i] for i in sorted(near)])


def rule(text: str) -> Rule:
    """The rule that `text` names, as in `ring`, `random-2` or `edges:a--b,b--c`.

    Raises:
        ConfigError: no such rule (with the nearest known one and the list), or a parameter that is
            missing, not wanted or out of bounds.
    """
    if text.startswith(EDGES):
        return edges(_pairs(text))
    match = re.fullmatch(r"(.+?)-([0-9]{1,9})", text)
    name, number = (match[1], int(match[2])) if match else (text, None)
    return parametrised(name, number, f"neighbour rule '{text}'")


def parametrised(name: str, number: int | None, where: str) -> Rule:
    """The rule `name` with parameter `number`, or with its default if None.

    Args:
        name: a key of `RULES`.
        number: its parameter.
        where: what asked for it, for the error's text.

    Raises:
        ConfigError: as for `rule`.
    """
    kind = RULES.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, RULES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"{where}: no such rule; {hint}known: {', '.join(known())}")
    if number is None:
        return Rule(name, kind.default)
    if kind.parameter is None:
        raise ConfigError(f"{where}: '{name}' takes no parameter, {number} was given")
    if not kind.least <= number <= kind.most:
        bounds = f"from {kind.least} to {kind.most}"
        raise ConfigError(f"{where}: {kind.parameter} is {number}, must be {bounds}")
    if kind.even and number % 2:
        raise ConfigError(f"{where}: {kind.parameter} is {number}, must be even")
    return Rule(name, number)


def known() -> list[str]:
    """How every rule is written, for help texts."""
    names = (f"{n}-{k.parameter.upper()}" if k.parameter else n for n, k in RULES.items())
    return [*sorted(names), f"{EDGES}A--B,B--C"]


def edges(pairs: Iterable[Sequence[str]]) -> Rule:
    """The rule of an explicit list of links between ids or names.

    What the list does not foresee is repaired, so that nobody is ever cut off. Where listed members
    are absent, those around the hole close it as a ring. A member that is not listed at all is tied
    to one listed member, chosen by hash; if no listed one is there, the others form a ring.

    Args:
        pairs: pairs of ids or names, in any order and direction.

    Raises:
        ConfigError: no link, not a pair, a name that cannot be used, a link to itself or listed
            twice, or a graph in more than one part.
    """
    seen: set[tuple[str, str]] = set()
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(v, str) and _VERTEX.fullmatch(v) for v in pair):
            raise ConfigError(
                f"edges: {pair!r} is not a link, expected two ids or names without ',' or '--'"
            )
        a, b = pair
        if a == b:
            raise ConfigError(f"edges: '{a}' is linked to itself")
        link = (min(a, b), max(a, b))
        if link in seen:
            raise ConfigError(f"edges: the link {a}--{b} is listed twice")
        seen.add(link)
    if not seen:
        raise ConfigError("edges: at least one link is needed, none is listed")
    links = tuple(sorted(seen))
    around = _around(links)
    start = links[0][0]
    reached = _component(start, around, around.keys() - {start}) | {start}
    if len(reached) < len(around):
        stray = min(around.keys() - reached)
        raise ConfigError(f"edges: '{stray}' cannot be reached from '{start}'; link the parts")
    return Rule("edges", 0, links)


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.removeprefix(EDGES).split(","):
        a, dashes, b = part.strip().partition("--")
        if not dashes:
            raise ConfigError(f"neighbour rule '{text}': '{part}' is not a link, expected A--B")
        pairs.append((a.strip(), b.strip()))
    return pairs


# --- rules over the sorted ids ------------------------------------------------------------------


def _full(_place: int, members: Members, _draws: int) -> Iterable[int]:
    return range(len(members))


def _ring(place: int, members: Members, _: int) -> Iterable[int]:
    return (place - 1) % len(members), (place + 1) % len(members)


def _star(place: int, members: Members, _: int) -> Iterable[int]:
    return (0,) if place else range(len(members))


def _exponential(place: int, members: Members, _: int) -> Iterable[int]:
    n = len(members)
    hops = [1 << bit for bit in range((n - 1).bit_length())]
    return [(place + sign * hop) % n for hop in hops for sign in (1, -1)]


def _torus(place: int, members: Members, columns: int) -> Iterable[int]:
    """Rows of `columns` (0: the square root of n, rounded up); the last row may be short.

    Rows and columns close on themselves, each as long as it has members.
    """
    n = len(members)
    columns = min(columns or math.isqrt(n - 1) + 1, n)
    row, column = divmod(place, columns)
    width = min(columns, n - row * columns)
    height = -(-(n - column) // columns)
    for step in (-1, 1):
        yield row * columns + (column + step) % width
        yield (row + step) % height * columns + column


# --- rules by hash ------------------------------------------------------------------------------


def _small_world(place: int, members: Members, nearest: int) -> Iterable[int]:
    n = len(members)
    for hop in range(1, nearest // 2 + 1):
        yield (place + hop) % n
        yield (place - hop) % n
    yield from _half_circle(place, members, "small-world")


def _random_regular(place: int, members: Members, degree: int) -> Iterable[int]:
    for number in range(degree // 2):
        yield from _circle(members, f"circle {number}")[place]
    if degree % 2:
        yield from _half_circle(place, members, "half circle")


def _half_circle(place: int, members: Members, salt: str) -> Iterable[int]:
    """The links of a circle that a coin tossed by both ids keeps: one per node on average."""
    me = members[place]
    for other in _circle(members, salt)[place]:
        low, high = sorted((me, members[other]))
        if _hash(salt, f"{low} {high}") & 1:
            yield other


@lru_cache(maxsize=32)
def _circle(members: Members, salt: str) -> tuple[tuple[int, int], ...]:
    """Every place's previous and next one on the circle of the members' hashes.

    Somebody who leaves changes nothing but that its two neighbours on the circle find each other.
    In a simulator many nodes see the same members, so a few orders are kept for all of them.
    """
    n = len(members)
    order = sorted(range(n), key=lambda i: (_hash(salt, members[i]), i))
    around = [(0, 0)] * n
    for rank, place in enumerate(order):
        around[place] = (order[rank - 1], order[(rank + 1) % n])
    return tuple(around)


@lru_cache(maxsize=1 << 16)
def _hash(salt: str, text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=salt.encode()[:16]).digest()
    return int.from_bytes(digest, "big")


# --- the explicit list --------------------------------------------------------------------------


def _listed(
    me: str, members: Members, links: tuple[tuple[str, str], ...], names: Mapping[str, str]
) -> tuple[str, ...]:
    around = _around(links)
    seats = _seats(members, around.keys(), names)
    if not seats:
        place = members.index(me)
        ring = {members[i % len(members)] for i in _ring(place, members, 0)}
        return tuple(sorted(ring - {me}))
    listed = tuple(sorted(seats.values()))
    if me not in listed:
        return (_host(me, listed),)
    mine = next(vertex for vertex, member in seats.items() if member == me)
    near, absent = set[str](), around.keys() - seats.keys()
    for vertex in around[mine]:
        near.update(_across(mine, vertex, around, absent) if vertex in absent else (vertex,))
    guests = {m for m in set(members).difference(listed) if _host(m, listed) == me}
    return tuple(sorted({seats[vertex] for vertex in near} - {me} | guests))


@lru_cache(maxsize=32)
def _around(links: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, ...]]:
    around: dict[str, list[str]] = {}
    for a, b in links:
        around.setdefault(a, []).append(b)
        around.setdefault(b, []).append(a)
    return {vertex: tuple(sorted(near)) for vertex, near in sorted(around.items())}


def _seats(members: Members, vertices: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Who takes which place of the list: by id first, then by name; the smaller id wins."""
    wanted = set(vertices)
    seats = {member: member for member in members if member in wanted}
    for member in members:
        if member not in wanted and names.get(member) in wanted:
            seats.setdefault(names[member], member)
    return seats


def _across(
    mine: str, hole: str, around: Mapping[str, tuple[str, ...]], absent: Iterable[str]
) -> tuple[str, ...]:
    """My two neighbours on the ring of those who stand around a hole of absent vertices."""
    missing = _component(hole, around, absent)
    rim = sorted({v for gone in missing for v in around[gone]} - missing)
    place = rim.index(mine)
    return rim[place - 1], rim[(place + 1) % len(rim)]


def _component(
    start: str, around: Mapping[str, tuple[str, ...]], within: Iterable[str]
) -> set[str]:
    """All that can be reached from `start` (included) by walking over `within` only."""
    open_, reached, frontier = set(within), {start}, [start]
    while frontier:
        for vertex in around[frontier.pop()]:
            if vertex in open_ and vertex not in reached:
                reached.add(vertex)
                frontier.append(vertex)
    return reached


def _host(stranger: str, listed: Members) -> str:
    """The listed member that takes a stranger in: rendezvous hashing (Thaler & Ravishankar)."""
    return max(listed, key=lambda member: (_hash("host", f"{stranger} {member}"), member))


RULES: Mapping[str, Kind] = MappingProxyType(
    {
        "full": Kind(_full),
        "random": Kind(_full, "draws", default=3),
        "ring": Kind(_ring),
        "torus": Kind(_torus, "columns", least=2),
        "exponential": Kind(_exponential),
        "small-world": Kind(_small_world, "nearest", default=4, least=2, most=64, even=True),
        "random-regular": Kind(_random_regular, "degree", default=4, least=2, most=64),
        "star": Kind(_star),
    }
)
