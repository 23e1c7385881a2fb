"""Two nodes that exchange, while one of them is attacked over the network.

Each attack lasts some seconds, from an address of its own (127.0.0.66: on Linux, all of 127/8 is
loopback), by up to a hundred workers that together try at most a thousand times a second; the
attacker's processor time is taken from the same cores. Anna is the victim; the exchanges that took
effect at boris, who exchanges with nobody but her, are the honest ones. `kept` is their rate during
an attack over their rate undisturbed, measured in the same run before and after each attack.

`extra_mb` is what anna's resident memory grew by at most; it must stay below `budget_mb`, which is

    limits.connections x edge.http.STALLED_BYTES      whatever connections make her keep
    + max(limits.done_bytes, 2 models)                answers kept for RESOLVE, payloads arriving
    + limits.peers x 8 KiB                            what is known and counted of others

`complaint` is what she counted most often meanwhile, and `counted` how often. With --tls the run
has a key; `stranger` attacks are then those of somebody without it, and `member` attacks those of
somebody who has it.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import secrets
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
from _nodes import Running, nodes
from _report import finish, table

from p2pfl.config import LimitsConfig
from p2pfl.core import wire
from p2pfl.core.compression import Encoded
from p2pfl.core.messages import Body, Exchange, Packet, Probe, Pull, Statement
from p2pfl.core.statements import statement_bytes
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.http import STALLED_BYTES
from p2pfl.edge.runkey import RunKey

ATTACKER = "127.0.0.66"
WORKERS, TRIES_PER_S = 100, 1000
_NODE = ("--set", "train.evaluate_every_s=1e9", "--topology", "edges:anna--boris")
_SETTLE_S, _KNOWN_BYTES = 3.0, 8192
_pause = Event().wait


@dataclass
class Aim:
    """Anna, as the attacker knows her."""

    host: str
    port: int
    run: str
    layout: str
    parameters: int
    age: int
    id: str
    key: str = ""
    context: ssl.SSLContext | None = field(init=False, default=None)
    credentials: Credentials | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.key:
            self.credentials = Credentials.observer(RunKey.parse(self.key), time.time())
            self.context, self.id = self.credentials.client_context(), self.credentials.node

    @asynccontextmanager
    async def connected(
        self, *, plain: bool = False
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection from the attacker's address, through TLS where the run has a key."""
        reader, writer = await asyncio.open_connection(
            self.host,
            self.port,
            local_addr=(ATTACKER, 0),
            ssl=None if plain else self.context,
            limit=1 << 20,
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def packet(self, body: Body) -> bytes:
        """A valid packet."""
        packet = Packet(self.run, self.layout, self.id, "127.0.0.1:1", 1, body)
        return wire.encode(packet)

    def exchange(self, seq: int) -> bytes:
        """A valid question: a model of noise, as old as anna's."""
        rng = np.random.default_rng(seq)
        noise = rng.standard_normal(self.parameters, np.float32) * np.float32(0.01)
        payload = Encoded("float32", self.parameters, noise.view(np.uint8))
        digest = proof = b""
        if self.credentials is not None:
            digest = hashlib.sha256(payload.data).digest()
            said = Statement(self.id, 1, seq, self.age, digest, b"")
            proof = self.credentials.sign(statement_bytes(self.run, said))
        ask = Exchange(seq, self.age, self.age, 10, 0.0, 0.0, 0.5, payload, 0.0, digest, proof)
        return self.packet(ask)


def post(body: bytes, kind: str, more: bytes = b"", length: int | None = None) -> bytes:
    """A request, as text."""
    size = len(body) if length is None else length
    head = b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n"
    return head % (kind.encode(), size, more) + body


async def read_answer(reader: asyncio.StreamReader) -> None:
    """Receive one answer and forget it."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
    await reader.readexactly(length)


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the other end has had enough, and forget what it says."""
    while await reader.read(1 << 16):
        pass


# --- attacks: what one worker does, again and again ----------------------------------------------


async def half_open(aim: Aim) -> None:
    """Connect, and say nothing."""
    async with aim.connected(plain=True) as (reader, _):
        await ended(reader)


async def hello_only(aim: Aim) -> None:
    """The first half of a TLS hello."""
    async with aim.connected(plain=True) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + secrets.token_bytes(99))
        await ended(reader)


async def garbage(aim: Aim) -> None:
    """Bytes of chance."""
    async with aim.connected(plain=True) as (reader, writer):
        writer.write(secrets.token_bytes(4096) + b"\r\n\r\n")
        await ended(reader)


async def drip_head(aim: Aim) -> None:
    """The head of a request, a byte in half a second."""
    await _drip(aim, post(b"", "probe"))


async def drip_body(aim: Aim) -> None:
    """A valid question, of which a byte comes in half a second after the first hundred."""
    await _drip(aim, post(aim.exchange(secrets.randbits(40)), "exchange"), start=100)


async def _drip(aim: Aim, words: bytes, start: int = 0) -> None:
    async with aim.connected() as (reader, writer):
        writer.write(words[:start])
        for at in range(start, len(words)):
            writer.write(words[at : at + 1])
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await ended(reader)
                    return


async def deaf(aim: Aim) -> None:
    """Ask for the model without end, and read no answer."""
    pull = post(aim.packet(Pull()), "pull") * 50
    async with aim.connected() as (_, writer):
        while True:
            writer.write(pull)
            await writer.drain()


async def oversized_head(aim: Aim) -> None:
    """A megabyte of HTTP fields."""
    async with aim.connected() as (reader, writer):
        writer.write(b"POST /v1/probe HTTP/1.1\r\n" + b"X: %s\r\n" % (b"y" * 3000) * 350)
        await ended(reader)


async def oversized_header(aim: Aim) -> None:
    """A message whose header claims two gigabytes."""
    async with aim.connected() as (reader, writer):
        writer.write(post(b"\xff\xff\xff\x7f" + bytes(1 << 16), "exchange"))
        await ended(reader)


async def wrong_length(aim: Aim) -> None:
    """A body as long as no model is."""
    async with aim.connected() as (reader, writer):
        writer.write(post(aim.exchange(0), "exchange", length=2**50))
        await ended(reader)


async def bomb(aim: Aim) -> None:
    """64 MiB of zeros in 64 kB."""
    async with aim.connected() as (reader, writer):
        writer.write(post(BOMB, "exchange", more=b"Content-Encoding: gzip\r\n"))
        await ended(reader)


async def pipelined(aim: Aim) -> None:
    """A hundred probes in one breath."""
    async with aim.connected() as (reader, writer):
        writer.write(post(aim.packet(Probe()), "probe") * 100)
        for _ in range(100):
            await read_answer(reader)


async def crowd(aim: Aim) -> None:
    """Ask for the status once and stay: a thousand of these at once."""
    async with aim.connected() as (reader, writer):
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await read_answer(reader)
        await ended(reader)


async def flood(aim: Aim) -> None:
    """Valid exchanges, one after the other, as fast as they are answered."""
    async with aim.connected() as (reader, writer):
        while True:
            writer.write(post(aim.exchange(secrets.randbits(40)), "exchange"))
            await read_answer(reader)


BOMB = gzip.compress(bytes(64 << 20))


@dataclass(frozen=True)
class Attack:
    """Attributes:
    does: what one worker does.
    who: "stranger" knows what anybody can see, "member" also the run's key.
    workers: at once.
    """

    does: Callable[[Aim], Awaitable[None]]
    who: str = "stranger"
    workers: int = WORKERS


ATTACKS = {
    "half-open": Attack(half_open),
    "hello-only": Attack(hello_only),
    "garbage": Attack(garbage),
    "1000-connections": Attack(crowd, "member", 1000),
    "drip-head": Attack(drip_head, "member"),
    "drip-body": Attack(drip_body, "member"),
    "deaf": Attack(deaf, "member"),
    "oversized-head": Attack(oversized_head, "member"),
    "oversized-header": Attack(oversized_header, "member"),
    "wrong-length": Attack(wrong_length, "member"),
    "bomb": Attack(bomb, "member"),
    "pipelined": Attack(pipelined, "member"),
    "flood": Attack(flood, "member", 8),
}


async def attack(name: str, aim: Aim) -> None:
    """What the attacker's process does until it is ended."""
    what, tries = ATTACKS[name], asyncio.Semaphore(0)

    async def worker() -> None:
        while True:
            await tries.acquire()
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await what.does(aim)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(what.workers):
            tasks.create_task(worker())
        while True:
            for _ in range(TRIES_PER_S // 100):
                if tries.locked():
                    tries.release()
            await asyncio.sleep(0.01)


# --- the measurement -----------------------------------------------------------------------------


def honest_rate(anna: Running, boris: Running, seconds: float) -> tuple[float, int]:
    """Exchanges a second that took effect at boris, and the most memory that anna held."""
    before, most = boris.status(), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _pause(0.1)
        most = max(most, anna.rss_bytes())
    after = boris.status()
    return (_mixed(after) - _mixed(before)) / (after["uptime_s"] - before["uptime_s"]), most


def _mixed(now: Mapping[str, Any]) -> int:
    return sum(int(role.get("flow", 0)) for role in now["exchanges"].values())


def _counted(now: Mapping[str, Any]) -> Counter[str]:
    """Everything but the honest ones' own small faults: two nodes hold next to nothing else."""
    return sum((Counter(reasons) for reasons in now["refusals"].values()), Counter())


def budget_bytes(limits: LimitsConfig, parameters: int) -> int:
    """What an attacked node may grow by."""
    return (
        limits.connections * STALLED_BYTES
        + max(limits.done_bytes, 2 * 4 * parameters)
        + limits.peers * _KNOWN_BYTES
    )


def besieged(
    name: str, anna: Running, boris: Running, seconds: float, key: RunKey | None
) -> dict[str, Any]:
    """One attack, between two quiet times."""
    quiet, rest = honest_rate(anna, boris, seconds)
    now = anna.status()
    aim = {key: now[key] for key in ("run", "layout", "parameters", "age")}
    aim |= {"host": "127.0.0.1", "port": anna.port, "id": secrets.token_hex(16)}
    if key is not None and ATTACKS[name].who == "member":
        aim["key"] = key.text
    attacker = subprocess.Popen([sys.executable, __file__, f"--attack={name}", json.dumps(aim)])
    try:
        _pause(1.0)
        during, most = honest_rate(anna, boris, seconds)
        assert attacker.poll() is None, f"the attack '{name}' itself failed"
    finally:
        attacker.kill()
        attacker.wait()
    counted = _counted(anna.status()) - _counted(now)
    _pause(1.0)
    again, _ = honest_rate(anna, boris, seconds)
    ((complaint, count),) = counted.most_common(1) or [("", 0)]
    return {
        "attack": name,
        "who": ATTACKS[name].who,
        "quiet_per_s": (quiet + again) / 2,
        "attacked_per_s": during,
        "kept": during / ((quiet + again) / 2),
        "extra_mb": max(most - rest, 0) / 1e6,
        "budget_mb": budget_bytes(LimitsConfig(), now["parameters"]) / 1e6,
        "counted": count,
        "complaint": complaint[:48],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the three times")
    parser.add_argument("--tls", action="store_true", help="the run has a key")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("aim", nargs="?", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        asyncio.run(attack(args.attack, Aim(**json.loads(args.aim))))
    rows = []
    key = RunKey.new() if args.tls else None
    with nodes(key=key) as group:
        anna = group.start("digits-numpy", *_NODE, "--name", "anna", "--shard", "1/2")
        peer = ("--peer", f"127.0.0.1:{anna.port}")
        boris = group.start("digits-numpy", *_NODE, *peer, "--name", "boris", "--shard", "2/2")
        boris.until(lambda now: _mixed(now) > 20)
        for name in args.attacks:
            _pause(_SETTLE_S)
            rows.append(besieged(name, anna, boris, args.seconds, key))
            print(table(rows[-1:]), file=sys.stderr)
        assert all(node.process.poll() is None for node in group.running), "a node has ended"
    print(table(rows))
    finish(
        {"tls": args.tls, "attacks": rows},
        as_json=args.json,
        packages=["aiohttp", "numpy", "msgpack"],
    )


if __name__ == "__main__":
    main()
