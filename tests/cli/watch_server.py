"""A node that is none: it serves `/v1/view` and `/v1/live` on loopback, with made-up data.

python -m tests.cli.watch_server 20     twenty nodes, three of which can be asked, moving
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from p2pfl.edge.credentials import Credentials

NAMES = ("anna", "boris", "chloe", "dora", "emil", "fritz", "greta", "hugo", "ida", "jan")
EDGES = [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, None]


def name_of(place: int) -> str:
    """The label of a node, by its place."""
    return NAMES[place] if place < len(NAMES) else f"node-{place:02}"


def id_of(place: int) -> str:
    """The id of a node, by its place."""
    return f"{place + 10:02x}" * 16


def told(place: int, **changes: Any) -> dict[str, Any]:
    """One entry of `nodes`."""
    return {
        "node": id_of(place),
        "name": name_of(place),
        "is_self": False,
        "state": "training",
        "incarnation": 1,
        "addresses": [f"127.0.0.1:{4000 + place}"],
        "age": 1000 + 10 * place,
        "own_steps": 200,
        "cycles": 10 + place,
        "cycle_s": 0.5,
        "loss": 0.5 + place / 100,
        "accuracy": 0.9 - place / 100,
        "staleness": 0.5,
        "distance": 1.5,
        "bytes_in": 1_000_000 + place,
        "bytes_out": 2_000_000,
        "holding": "",
        "told_ago_s": 2.0,
        "heard_ago_s": 1.0,
        "refusals": {},
        "suspended": None,
        "denied": False,
    } | changes


def view(place: int, count: int = 3, at: float = 1000.0, **changes: Any) -> dict[str, Any]:
    """What the node at this place of so many would tell."""
    entries = [
        told(one, is_self=True, told_ago_s=0.0, heard_ago_s=None) if one == place else told(one)
        for one in range(count)
    ]
    return {
        "format": 1,
        "at": at,
        "node": id_of(place),
        "name": name_of(place),
        "run": "kitchen",
        "is_keyed": False,
        "version": "0.1.0",
        "trust": "cooperative",
        "topology": "random-3",
        "parameters": 12345,
        "uptime_s": 60.0,
        "started": at - 60,
        "incarnation": 1,
        "nodes": entries,
        "unlisted": 0,
        "others": {},
        "links": [],
        "swarm": {
            "count": float(count),
            "reporting": 1.0,
            "mean_accuracy": 0.875,
            "worst_tenth_accuracy": 0.81,
            "mean_loss": 0.52,
            "histogram": {
                "edges": [i / 20 for i in range(21)],
                "share": [0.0] * 16 + [0.2, 0.5, 0.3, 0.0],
            },
            "consensus_distance": 2.5,
        },
        "staleness": {"edges": EDGES, "counts": [5, 9, 4, 2, 0, 0, 1, 0, 0]},
        "merges": [merge(at - 1, peer=id_of((place + 1) % max(count, 1)))],
        "timeline": [{"at": at - 60, "kind": "started", "node": None, "detail": ""}],
        "curves": {
            "nodes": {
                id_of(one): [
                    [at - 30 + i, 0.5 + 0.01 * i - one / 100, 1 - 0.01 * i] for i in range(30)
                ]
                for one in range(count)
            },
            "swarm": [
                [at - 30 + i, 0.5 + 0.01 * i, 0.45 + 0.01 * i, 3 - i / 15] for i in range(30)
            ],
        },
        "rates": {"bytes_in_per_s": 1e5, "bytes_out_per_s": 2e5, "exchanges_per_s": 1.25},
        "holding": [],
    } | changes


def heard_of(count: int) -> list[dict[str, Any]]:
    """Entries of `nodes` that were made up; their names come before all others."""
    return [
        told(100 + place, name=f"a-{place:03}", state="only heard of", accuracy=1.0)
        for place in range(count)
    ]


def merge(at: float, peer: str, **changes: Any) -> dict[str, Any]:
    """One entry of `merges`."""
    return {
        "at": at,
        "peer": peer,
        "role": "asked",
        "outcome": "flow",
        "weight": 0.42,
        "staleness": 1.3,
        "distance": 2.1,
        "bytes_in": 50_000,
        "bytes_out": 50_000,
        "seconds": 0.02,
        "is_accepted": True,
        "why": "mixed with weight 0.42: 1.3 cycles old, 2.1 away",
    } | changes


@dataclass
class Server:
    """One node on one port.

    Attributes:
        tells: makes its view.
        port: 0 before it was first started; it is the same from then on.
        asked: requests by path.
    """

    tells: Callable[[], dict[str, Any]]
    credentials: Credentials | None = None
    every_s: float = 0.1
    port: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    _streams: set[web.StreamResponse] = field(default_factory=set)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        """Serve; streams end at once when it ends."""
        app = web.Application()
        app.router.add_get("/v1/view", self._view)
        app.router.add_get("/v1/live", self._live)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        self._ending.clear()
        context = self.credentials.server_context() if self.credentials is not None else None
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            self._ending.set()
            await runner.cleanup()

    async def say(self, kind: str, body: dict[str, Any]) -> None:
        """Tell all who listen."""
        for stream in list(self._streams):
            await self._write(stream, kind, body)

    async def _write(self, stream: web.StreamResponse, kind: str, body: dict[str, Any]) -> None:
        await stream.write(f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode())

    async def _view(self, request: web.Request) -> web.Response:
        self.asked["view"] = self.asked.get("view", 0) + 1
        return web.json_response(self.tells())

    async def _live(self, request: web.Request) -> web.StreamResponse:
        self.asked["live"] = self.asked.get("live", 0) + 1
        stream = web.StreamResponse()
        stream.content_type = "text/event-stream"
        await stream.prepare(request)
        await stream.write(b"retry: 1000\n: hello\n\n")
        self._streams.add(stream)
        try:
            while not self._ending.is_set():
                await self._write(stream, "view", self.tells())
                try:
                    async with asyncio.timeout(self.every_s):
                        await self._ending.wait()
                except TimeoutError:
                    pass
        except ConnectionError:
            pass
        finally:
            self._streams.discard(stream)
        return stream


class Moving:
    """A swarm that trains; nodes die, come back and refuse, by its own clock."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._began = time.time() - 240

    def accuracy(self, place: int, at: float) -> float:
        """Of one node: rises, with a wave."""
        seconds = max(0.0, at - self._began)
        level = 0.93 - 0.01 * (place % 7)
        wave = 0.02 * math.sin(seconds / 7 + place)
        return level - 0.6 * math.exp(-seconds / (60 + 5 * (place % 5))) + wave

    def view(self, place: int) -> dict[str, Any]:
        """What the node at this place tells now."""
        now = time.time()
        seconds = now - self._began
        found = view(place, self._nodes, now, started=self._began, uptime_s=seconds)
        for one, entry in enumerate(found["nodes"]):
            entry["accuracy"] = self.accuracy(one, now)
            entry["loss"] = 1.5 * (1 - entry["accuracy"])
            entry["age"] = int(seconds * 20) + 13 * one
            entry["cycles"] = int(seconds * 2) + one
            entry["staleness"] = 0.3 + 0.2 * math.sin(seconds / 11 + one) ** 2
            entry["distance"] = 4 * math.exp(-seconds / 90) + 0.3 + one / 40
            entry["bytes_in"] = int(seconds * 51_234 * (1 + one % 3))
            entry["bytes_out"] = int(seconds * 48_321 * (1 + one % 4))
            if one != place:
                entry["told_ago_s"] = (seconds * 3 + 7 * one) % 9
        if self._nodes > 4:
            found["nodes"][3] |= {"state": "dead", "told_ago_s": 75.0, "heard_ago_s": 70.0}
            found["nodes"][4] |= {"state": "holding", "holding": "it trains only on mains power"}
        if self._nodes > 6:
            found["nodes"][5] |= {"state": "suspect", "heard_ago_s": 6.0}
            found["nodes"][6] |= {"refusals": {"too far away": 12}, "suspended": {"distance": 1}}
        if self._nodes > 8:
            never = dict.fromkeys(
                ("accuracy", "loss", "age", "cycles", "staleness", "distance", "told_ago_s")
            )
            found["nodes"][8] |= {"state": "starting", "bytes_in": None, "bytes_out": None} | never
        times = [self._began + i * (now - self._began) / 150 for i in range(151)]
        found["curves"] = {
            "nodes": {
                id_of(one): [[at, self.accuracy(one, at), None] for at in times]
                for one in range(self._nodes)
            },
            "swarm": [[at, self.accuracy(2, at), self.accuracy(6, at) - 0.05, 1.0] for at in times],
        }
        found["merges"] = [
            merge(now - 1.7 * i - 0.4, id_of((place + i + 1) % self._nodes), why=WHYS[i % 3])
            | {"is_accepted": i % 3 == 0}
            for i in range(12)
        ]
        found["timeline"] = [
            {
                "at": self._began + 200,
                "kind": "refused",
                "node": id_of(1),
                "detail": "too far away",
            },
            {
                "at": self._began + 165,
                "kind": "dead",
                "node": id_of(3),
                "detail": "no answer for 5 s",
            },
            {"at": self._began + 160, "kind": "suspect", "node": id_of(3), "detail": ""},
            {"at": self._began + 90, "kind": "back", "node": id_of(2), "detail": "start 2"},
            {"at": self._began + 9, "kind": "joined", "node": id_of(2), "detail": ""},
            {"at": self._began, "kind": "started", "node": None, "detail": ""},
        ]
        found["others"] = {"192.168.1.9:4000": "other run 'garden'"}
        if place == 0:
            found["holding"] = ["training rests until 07:00 (quiet hours 22:00-07:00)"]
        return found


WHYS = (
    "mixed with weight 0.42: 1.3 cycles old, 2.1 away",
    "refused: 5.1 away, reach is 3.0",
    "busy, tried again later",
)


async def _main(nodes: int) -> None:
    swarm = Moving(nodes)
    async with AsyncExitStack() as stack:
        for place in range(min(nodes, 3)):
            server = Server(lambda place=place: swarm.view(place), every_s=1.0)  # type: ignore[misc]
            await stack.enter_async_context(server.running())
            sys.stdout.write(f"{server.address}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 6))
