"""Looking at nodes: one that is frozen delays nobody, and our own pulls are not counted."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from p2pfl.core import wire
from p2pfl.core.compression import encode
from p2pfl.core.messages import Model, Packet, Pull
from p2pfl.core.weights import Vector
from p2pfl.scenario.processes import Swarm
from p2pfl.scenario.watching import PULL_VALUES_MAX, Look, Watch, look, together
from tests.scenario.made import made_look, until
from tests.scenario.test_processes import Told

LAYOUT = "0123456789abcdef"


def status(name: str, **changes: Any) -> dict[str, Any]:
    members = [("me", "alive"), ("b", "alive"), ("c", "suspect"), ("d", "dead"), ("e", "alive")]
    return {
        "node": "me",
        "name": name,
        "run": "r",
        "layout": LAYOUT,
        "parameters": 4,
        "state": "training",
        "incarnation": 1,
        "age": 120,
        "own_steps": 40,
        "cycles": 2,
        "loss": 0.25,
        "accuracy": 0.9,
        "measured_ago_s": 0.5,
        "neighbours": ["b", "e"],
        "members": [{"node": node, "status": state} for node, state in members],
        "exchanges": {
            "asked": {"flow": 5, "adopt": 1, "timeout": 9},
            "answered": {"flow": 3, "adopted": 1, "refused: run": 4},
        },
        "staleness_cycles": 0.75,
        "bytes_in": 1000,
        "bytes_out": 2000,
    } | changes


def test_a_look_counts_other_members_alive_and_models_that_were_mixed() -> None:
    seen = look(100.0, status("a"))
    assert (seen.alive, seen.neighbours, seen.exchanges) == (2, 2, 10)
    assert (seen.measured_at, seen.bytes_in, seen.bytes_out) == (99.5, 1000, 2000)


def test_a_node_that_never_measured_itself_has_no_accuracy_and_no_time_of_it() -> None:
    seen = look(100.0, status("a", accuracy=None, measured_ago_s=None))
    assert (seen.accuracy, seen.measured_at) == (None, None)


def test_what_is_no_status_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        look(100.0, {"name": "a"})


def test_a_swarm_is_summed_up_over_those_who_know() -> None:
    looks = [made_look("a", accuracy=0.9), made_look("b", accuracy=None), made_look("c", 0, 0.6)]
    summed = together(3.0, looks, 0.5)
    assert (summed.answering, summed.mean, summed.worst) == (3, 0.75, 0.6)
    assert together(3.0, [], None).mean is None


class Node:
    """Serves as a node would, counting what it moves."""

    def __init__(self, name: str, weights: Vector, *, frozen: bool = False) -> None:
        self.name = name
        self.moved_in = self.moved_out = 0
        self._weights = weights
        self._frozen = frozen

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/v1/status", self._status)
        app.router.add_post("/v1/pull", self._pull)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        if self._frozen:
            await asyncio.Event().wait()
        moved = {"bytes_in": 1000 + self.moved_in, "bytes_out": 2000 + self.moved_out}
        return web.json_response(status(self.name, parameters=self._weights.size, **moved))

    async def _pull(self, request: web.Request) -> web.Response:
        asked = await request.read()
        assert wire.decode(asked).body == Pull()
        payload = encode("float32", self._weights, np.random.default_rng(0))
        answer = wire.encode(
            Packet(
                run="r",
                layout=LAYOUT,
                sender="ab" * 8,
                address=request.host,
                incarnation=1,
                body=Model(120, payload),
            )
        )
        self.moved_in += len(asked)
        self.moved_out += len(answer)
        return web.Response(body=answer)


@asynccontextmanager
async def watched(folder: Path, *nodes: Node) -> AsyncIterator[Watch]:
    """A watch over these nodes, whose processes only sleep."""
    program = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)")
    swarm = Swarm(folder, "r", "digits-numpy", program=program, discovery=Told)
    async with swarm.running(), asyncio.TaskGroup() as tasks:
        over, addresses = asyncio.Event(), asyncio.Queue[tuple[str, str]]()

        async def serve(node: Node) -> None:
            async with node.serving() as address:
                addresses.put_nowait((node.name, address))
                await over.wait()

        for node in nodes:
            swarm.add(node.name).start()
            tasks.create_task(serve(node))
        for _ in nodes:
            name, address = await addresses.get()
            swarm.addresses[name] = address
        watch = Watch(swarm, time.monotonic)
        try:
            async with watch.running():
                yield watch
        finally:
            over.set()


def names(looks: list[Look]) -> list[str]:
    return sorted(seen.name for seen in looks)


async def test_a_frozen_node_is_missing_and_delays_nobody(tmp_path: Path) -> None:
    zeros = np.zeros(4, np.float32)
    nodes = (Node("a", zeros), Node("ice", zeros, frozen=True), Node("b", zeros))
    async with watched(tmp_path, *nodes) as watch:
        # three looks at each take a second; a sequential watch would wait two seconds for `ice`
        await until(lambda: len(watch.looks["a"]) >= 3 and len(watch.looks["b"]) >= 3)
        assert names(watch.answering()) == ["a", "b"]
        assert watch.last("ice") is None


async def test_the_consensus_distance_is_that_of_all_models(tmp_path: Path) -> None:
    nodes = (
        Node("a", np.array([0, 0, 0, 0], np.float32)),
        Node("b", np.array([2, 0, 0, 0], np.float32)),
    )
    async with watched(tmp_path, *nodes) as watch:
        await until(lambda: any(one.distance is not None for one in watch.history))
        found = next(one for one in watch.history if one.distance is not None)
    assert (found.answering, found.distance, found.mean) == (2, 1.0, 0.9)


async def test_our_own_pulls_are_taken_out_of_the_byte_counts(tmp_path: Path) -> None:
    nodes = (Node("a", np.ones(4, np.float32)), Node("b", np.ones(4, np.float32)))
    async with watched(tmp_path, *nodes) as watch:
        await until(lambda: nodes[0].moved_out and len(watch.history) > 2)
        seen = len(watch.looks["a"])
        await until(lambda: len(watch.looks["a"]) > seen)
        last = watch.last("a")
    assert last is not None
    assert (last.bytes_in, last.bytes_out) == (1000, 2000)


async def test_large_models_are_not_pulled(tmp_path: Path) -> None:
    large = np.zeros(PULL_VALUES_MAX + 1, np.float32)
    nodes = (Node("a", large), Node("b", large))
    async with watched(tmp_path, *nodes) as watch:
        await until(lambda: len(watch.history) > 1)
        assert {one.distance for one in watch.history} == {None}
    assert nodes[0].moved_out == nodes[1].moved_out == 0


async def test_whoever_answers_under_a_wrong_name_is_not_believed(tmp_path: Path) -> None:
    zeros = np.zeros(4, np.float32)
    liar = Node("a", zeros)
    async with watched(tmp_path, liar, Node("b", zeros)) as watch:
        await until(lambda: watch.looks["a"])
        liar.name = "mallory"
        await until(lambda: len(watch.looks["b"]) > len(watch.looks["a"]) + 1)
        assert {seen.name for seen in watch.looks["a"]} == {"a"}
