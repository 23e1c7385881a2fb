"""One exchange of 1M, 10M and 100M float32 weights between two processes on loopback.

The reference is a plain-socket echo of the same bytes, measured in the same run, exchange by
exchange in turn: send the model, get as many bytes back. `ratio` compares with an echo that
receives into memory of its own for each message, as a program does that cannot know what comes;
`ratio_warm` with one whose buffers exist already and are never read or written otherwise, which is
as fast as the loopback goes. Both ends of the exchange are whole nodes (HTTP, checks, arithmetic,
bookkeeping).

Reported: MB/s (both directions added), the two ratios, peak extra memory of both processes as
multiples of the model, from before the first exchange on, and the longest time the event loop of
either process was blocked.

With --tls the same two processes hold a second pair of nodes, of a run with a key: mutual TLS 1.3,
and every snapshot signed and checked. Open exchange, keyed exchange and a bare echo of the same
bytes through aiohttp under the same TLS (read into a buffer that exists, answered from it in pieces
of 1 MiB; no node, no arithmetic, no signature) are measured in turn: `of_open` is the keyed rate
over the open one, `of_bare` over that of the echo.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from _report import finish, table
from aiohttp import payload, web

from p2pfl.config import LimitsConfig, NodeConfig, TrainConfig
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.runkey import RunKey
from p2pfl.edge.static import StaticPeers
from p2pfl.edge.worker import Worker
from p2pfl.node import Node
from p2pfl.ports import Evaluation, Update

SIZES = {"1M": 1_000_000, "10M": 10_000_000, "100M": 100_000_000}
REPEATS = {"1M": 60, "10M": 20, "100M": 6}
_PIECE_BYTES = 1 << 20


class Resting:
    """A learner that never trains: what is measured is the exchange."""

    def __init__(self, size: int, seed: int) -> None:
        self.layout = Layout((Entry("w", (size,)),))
        self._seed = seed

    def initial(self) -> np.ndarray:
        rng = np.random.default_rng(self._seed)
        return rng.random(self.layout.size, dtype=np.float32)

    def step(self, weights: np.ndarray, steps: int, drift: np.ndarray | None) -> Update:
        threading.Event().wait()
        raise AssertionError

    def evaluate(self, weights: np.ndarray) -> Evaluation:
        return Evaluation(0.0, None, 0)


class Silent:
    """A journal that keeps nothing."""

    def record(self, event: object) -> None:
        pass


class Process:
    """Memory and event-loop lag of this process since `reset`."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.before_bytes = 0

    async def watch(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.002)
            self.longest_s = max(self.longest_s, time.perf_counter() - asked - 0.002)

    def reset(self) -> None:
        """Begin to measure; memory counts from the first time on."""
        Path("/proc/self/clear_refs").write_text("5")
        self.before_bytes = self.before_bytes or _status("VmRSS")
        self.longest_s = 0.0

    def read(self) -> dict[str, float]:
        extra = _status("VmHWM") - self.before_bytes
        return {"extra_bytes": extra, "lag_ms": 1000 * self.longest_s}


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _node(
    size: int,
    seed: int,
    codec: str,
    peers: tuple[str, ...],
    credentials: Credentials | None = None,
) -> Node:
    config = NodeConfig.model_validate(
        {"run": "bench", "train": TrainConfig(momentum=0), "gossip": {"codec": codec}}
    )
    return Node(
        node_id=f"{seed:032x}" if credentials is None else credentials.node,
        incarnation=1,
        config=config,
        learner=Resting(size, seed),
        transport=HttpTransport("127.0.0.1", 0, LimitsConfig(), credentials=credentials),
        discovery=StaticPeers(peers),
        journal=Silent(),
        store=None,
        clock=time.monotonic,
        run=Worker(),
        rng=np.random.default_rng(seed),
        notary=credentials,
    )


async def answerer(size: int, codec: str) -> None:
    """One process: a node, a socket that echoes, and a pipe that asks for figures."""
    node, process = _node(size, 2, codec, ()), Process()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_echo, args=(listener, 4 * size), daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run())
        tasks.create_task(process.watch())
        _tell({"address": node.vitals.transport.address, "echo": listener.getsockname()[1]})
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip() == "reset":
                process.reset()
            _tell(process.read())
        _exit()


async def asker(size: int, codec: str, repeats: int) -> None:
    """The other process: starts the answerer, and measures exchanges and echoes in turn."""
    other = subprocess.Popen(
        [sys.executable, __file__, "--role=answerer", f"--size={size}", f"--codec={codec}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None and other.stdout is not None
    hello = json.loads(other.stdout.readline())

    async def ask(word: str) -> dict[str, float]:
        print(word, file=other.stdin, flush=True)
        answer: dict[str, float] = json.loads(await asyncio.to_thread(other.stdout.readline))
        return answer

    node, process = _node(size, 1, codec, (hello["address"],)), Process()
    peer, model = f"{2:032x}", 4 * size
    echo = socket.create_connection(("127.0.0.1", hello["echo"]))
    sent, back = np.ones(model, np.uint8), bytearray(model)
    back[:] = sent.data
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run())
        tasks.create_task(process.watch())
        while peer not in node.vitals.members.alive():
            await asyncio.sleep(0.01)
        # the node's own snapshot for training is not the exchange's
        await asyncio.sleep(2)
        exchanges, fresh, warm, mine, theirs = [], [], [], [], []
        for _ in range(1 + repeats):
            await ask("reset")
            process.reset()
            started = time.perf_counter()
            assert await node.asking.exchange(peer), node.vitals.tally
            exchanges.append(time.perf_counter() - started)
            mine.append(process.read())
            theirs.append(await ask("read"))
            fresh.append(await asyncio.to_thread(_round, echo, sent, None))
            warm.append(await asyncio.to_thread(_round, echo, sent, back))
        _tell(
            {
                "weights": size,
                "codec": codec,
                "mb_per_s": 2 * model / 1e6 / statistics.median(exchanges[1:]),
                "echo_mb_per_s": 2 * model / 1e6 / statistics.median(fresh),
                "ratio": statistics.median(fresh) / statistics.median(exchanges[1:]),
                "ratio_warm": statistics.median(warm) / statistics.median(exchanges[1:]),
                "asker_extra": max(f["extra_bytes"] for f in mine) / model,
                "answerer_extra": max(f["extra_bytes"] for f in theirs) / model,
                "asker_lag_ms": max(f["lag_ms"] for f in mine),
                "answerer_lag_ms": max(f["lag_ms"] for f in theirs),
            }
        )
        other.stdin.close()
        other.wait()
        _exit()


# --- the same under TLS --------------------------------------------------------------------------


async def keyed_answerer(size: int, codec: str, key: str) -> None:
    """One process: an open node, a keyed one, and a bare echo under TLS."""
    credentials = _member(key)
    nodes = _node(size, 2, codec, ()), _node(size, 2, codec, (), credentials)
    async with asyncio.TaskGroup() as tasks, _bare(4 * size, credentials) as port:
        for node in nodes:
            tasks.create_task(node.run())
        addresses = [node.vitals.transport.address for node in nodes]
        _tell({"addresses": addresses, "id": credentials.node, "bare": port})
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        _exit()


async def keyed_asker(size: int, codec: str, repeats: int) -> None:
    """The other process: open and keyed exchanges, and bare echoes, in turn."""
    key = RunKey.new().text
    other = subprocess.Popen(
        [
            *(sys.executable, __file__, "--role=answerer", f"--size={size}", f"--codec={codec}"),
            f"--key={key}",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None and other.stdout is not None
    hello = json.loads(other.stdout.readline())
    credentials = _member(key)
    plain = _node(size, 1, codec, (hello["addresses"][0],))
    keyed = _node(size, 1, codec, (hello["addresses"][1],), credentials)
    connector = aiohttp.TCPConnector(ssl=credentials.client_context())
    async with (
        asyncio.TaskGroup() as tasks,
        aiohttp.ClientSession(connector=connector, read_bufsize=_PIECE_BYTES) as session,
    ):
        for node, peer in (plain, f"{2:032x}"), (keyed, hello["id"]):
            tasks.create_task(node.run())
            while peer not in node.vitals.members.alive():
                await asyncio.sleep(0.01)
        # the nodes' own snapshots for training are not the exchange's
        await asyncio.sleep(2)
        sent, back = np.ones(4 * size, np.uint8), bytearray(4 * size)
        kinds: dict[str, Callable[[], Awaitable[bool]]] = {
            "open": lambda: plain.asking.exchange(f"{2:032x}"),
            "keyed": lambda: keyed.asking.exchange(hello["id"]),
            "bare": lambda: _bare_round(session, hello["bare"], sent, back),
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(1 + repeats):
            for kind, once in kinds.items():
                started = time.perf_counter()
                assert await once(), kind
                seconds[kind].append(time.perf_counter() - started)
        rates = {
            kind: 2 * 4 * size / 1e6 / statistics.median(taken[1:])
            for kind, taken in seconds.items()
        }
        _tell(
            {
                "weights": size,
                "codec": codec,
                "open_mb_per_s": rates["open"],
                "keyed_mb_per_s": rates["keyed"],
                "bare_tls_mb_per_s": rates["bare"],
                "of_open": rates["keyed"] / rates["open"],
                "of_bare": rates["keyed"] / rates["bare"],
            }
        )
        other.stdin.close()
        other.wait()
        _exit()


def _member(key: str) -> Credentials:
    return Credentials.member(NodeKey.new(), RunKey.parse(key), time.time())


@asynccontextmanager
async def _bare(nbytes: int, credentials: Credentials) -> AsyncIterator[int]:
    """An aiohttp server that sends back what it got; its port."""
    buffer = memoryview(bytearray(nbytes))

    async def echo(request: web.Request) -> web.StreamResponse:
        await _fill(request.content, buffer)
        response = web.StreamResponse()
        response.content_length = nbytes
        await response.prepare(request)
        await _write(response, buffer)
        await response.write_eof()
        return response

    app = web.Application(client_max_size=0)
    app.router.add_post("/", echo)
    runner = web.AppRunner(app, access_log=None, read_bufsize=_PIECE_BYTES)
    await runner.setup()
    try:
        context = credentials.server_context()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class _Pieces(payload.Payload):
    """A body in pieces, without a copy of it."""

    def __init__(self, data: np.ndarray) -> None:
        super().__init__(data.data)
        self._size = data.nbytes

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("no text")

    async def write(self, writer: Any) -> None:
        await _write(writer, self._value)


async def _bare_round(
    session: aiohttp.ClientSession, port: int, sent: np.ndarray, back: bytearray
) -> bool:
    url, length = f"https://127.0.0.1:{port}/", {"Content-Length": str(sent.nbytes)}
    async with session.post(url, data=_Pieces(sent), headers=length) as response:
        await _fill(response.content, memoryview(back))
    return True


async def _write(writer: Any, data: memoryview) -> None:
    for start in range(0, data.nbytes, _PIECE_BYTES):
        await writer.write(data[start : start + _PIECE_BYTES])


async def _fill(content: aiohttp.StreamReader, buffer: memoryview) -> None:
    filled = 0
    while filled < buffer.nbytes:
        chunk = await content.readany()
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)


# --- plain sockets -------------------------------------------------------------------------------


def _echo(listener: socket.socket, nbytes: int) -> None:
    connection, _ = listener.accept()
    warm = bytearray(nbytes)
    while kind := connection.recv(1):
        buffer = warm if kind == b"w" else bytearray(nbytes)
        _receive(connection, buffer)
        connection.sendall(buffer)


def _round(connection: socket.socket, sent: np.ndarray, back: bytearray | None) -> float:
    started = time.perf_counter()
    connection.sendall(b"w" if back is not None else b"f")
    connection.sendall(sent.data)
    _receive(connection, bytearray(sent.size) if back is None else back)
    return time.perf_counter() - started


def _receive(connection: socket.socket, buffer: bytearray) -> None:
    view = memoryview(buffer)
    while view.nbytes:
        view = view[connection.recv_into(view) :]


def _tell(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def _exit() -> None:
    # the resting learners never return, so there is nothing to wait for
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--codec", default="float32")
    parser.add_argument("--tls", action="store_true", help="open, keyed, and a bare TLS echo")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--role", choices=["asker", "answerer"], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "answerer":
        if args.key:
            asyncio.run(keyed_answerer(args.size, args.codec, args.key))
        asyncio.run(answerer(args.size, args.codec))
    if args.role == "asker":
        measure = keyed_asker if args.tls else asker
        asyncio.run(measure(args.size, args.codec, args.repeats))
    rows = []
    for name in args.sizes:
        run = subprocess.run(
            [
                *(sys.executable, __file__, "--role=asker", f"--size={SIZES[name]}"),
                *(f"--codec={args.codec}", f"--repeats={REPEATS[name]}"),
                *(["--tls"] if args.tls else []),
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
        rows.append(json.loads(run.stdout))
    print(table(rows))
    finish({"exchanges": rows}, as_json=args.json, packages=["aiohttp", "numpy", "msgpack"])


if __name__ == "__main__":
    main()
