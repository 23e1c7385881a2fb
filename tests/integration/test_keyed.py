"""Runs with a key, among real processes: who has it takes part, and nobody else connects.

Nodes find each other by mDNS on loopback, speak mutual TLS, and are asked for their status by
somebody who has the key.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from p2pfl.config import LimitsConfig
from p2pfl.core.compression import Bytes
from p2pfl.core.messages import Packet
from p2pfl.edge.announcement import tagged
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.doctor import peer_findings
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.identity import node_key
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.probes import ask_all
from p2pfl.edge.runkey import RunKey
from p2pfl.ports import Reply, Sighting
from tests.integration.nodes import (
    PATIENCE_S,
    NodeProcess,
    Nodes,
    Said,
    Status,
    alive,
    belief,
    mixed,
    p2pfl,
)

_ADDRESS = re.compile(r"^status: p2pfl status https://(\S+) ", re.MULTILINE)
_SOON_S = 20.0
"""A few probe periods, on a machine that has other things to do."""
_PROBES = ("--set", "membership.probe_interval_s=0.5", "--set", "membership.probe_timeout_s=0.3")


class Eye:
    """Looks at nodes of a run with a key."""

    def __init__(self, credentials: Credentials) -> None:
        self._context = credentials.client_context()

    async def status(self, node: NodeProcess) -> Status:
        """What it tells now.

        Raises:
            OSError: it does not answer, or not us.
        """
        address = (await located(node)).replace("localhost", "127.0.0.1")
        url = f"https://{address}/v1/status"
        loop = asyncio.get_running_loop()

        def asked() -> Any:
            with urlopen(url, timeout=5.0, context=self._context) as answer:
                return json.load(answer)

        node.last = await loop.run_in_executor(None, asked)
        return node.last

    async def until(self, node: NodeProcess, claim: Callable[[Status], object]) -> Status:
        """The first status of which `claim` is true."""
        until = time.monotonic() + PATIENCE_S
        while not claim(now := await self.status(node)):
            if time.monotonic() > until:
                raise AssertionError(f"it never came true\n{node.report()}")
            await asyncio.sleep(0.1)
        return now


async def located(node: NodeProcess) -> str:
    """Where it serves, once it says so."""
    until = time.monotonic() + PATIENCE_S
    while (told := _ADDRESS.search(node.said, node._said_before)) is None:
        if time.monotonic() > until or node._process is None or node._process.poll() is not None:
            raise AssertionError(f"{node.name} does not come up\n{node.report()}")
        await asyncio.sleep(0.05)
    return told[1]


def said_nothing_open(node: NodeProcess) -> bool:
    return "OPEN" not in node.said


@pytest.fixture
def key(tmp_path: Path) -> tuple[RunKey, str]:
    """A run key, and the file that it lies in."""
    drawn, file = RunKey.new(), tmp_path / "run.key"
    file.write_text(drawn.text.lower().replace("-", " ") + "\n")
    file.chmod(0o600)
    return drawn, str(file)


async def test_who_has_the_key_meets_and_mixes_and_a_stranger_gets_nothing(
    nodes: Nodes, key: tuple[RunKey, str]
) -> None:
    drawn, file = key
    anna = nodes.start("anna", "--key-file", file, "--shard", "1/2")
    boris = nodes.start("boris", "--key", drawn.text, "--shard", "2/2")
    eye = Eye(Credentials.observer(drawn, time.time()))
    now = await eye.until(anna, lambda now: mixed(now) >= 5 and len(alive(now)) == 1)
    assert alive(now) == {(await eye.status(boris))["node"]}
    assert said_nothing_open(anna)
    assert now["node"] == NodeKey.load(anna.state_dir / "node.key").node
    assert nodes.run not in await announced_runs()

    stranger = nodes.start("stranger", "--peer", await located(anna))
    other = nodes.start("other", "--key", RunKey.new().text, "--peer", await located(anna))
    await stranger.until(lambda now: f"key-{drawn.tag}" in json.dumps(now["others"]))
    assert "OPEN: anybody on this network can read" in stranger.said
    await eye.until(anna, lambda now: len(now["refusals"]) > 0)
    cycles = (await eye.status(anna))["cycles"]
    now = await eye.until(anna, lambda now: now["cycles"] > cycles + 20)
    assert alive(now) == {boris.last["node"]}
    assert not alive(await stranger.status())
    await located(other)
    for node in (anna, boris, stranger, other):
        node.send(signal.SIGTERM)
    for node in (anna, boris, stranger, other):
        assert await node.ended() == 0


async def announced_runs() -> set[str]:
    """The runs that are told to everybody on loopback."""
    done = await p2pfl("peers", "--interface", "lo", "--json", "--seconds", "3")
    assert done.code == 0, done.errors
    return {peer["run"] for peer in json.loads(done.out)}


async def test_looking_needs_the_key_and_says_so(nodes: Nodes, key: tuple[RunKey, str]) -> None:
    drawn, file = key
    anna = nodes.start("anna", "--key-file", file)
    address = await located(anna)
    loopback = ("--interface", "lo")

    done = await p2pfl("status", f"https://{address}", "--key-file", file)
    assert (done.code, done.errors) == (0, "")
    assert "'" + nodes.run + "'" in done.out
    done = await p2pfl("status", "--json", *loopback, "--key-file", file)
    assert json.loads(done.out)["name"] == "anna"

    for without in (f"http://{address}", f"https://{address}"):
        done = await p2pfl("status", without)
        assert done.code == 2
        assert "key" in done.errors, done.errors
        assert done.errors.count("\n") == 1
    done = await p2pfl("status", address, "--key", RunKey.new().text)
    assert (done.code, "another run's key" in done.errors) == (2, True), done.errors

    # others on this device may have open nodes
    assert nodes.run not in (await p2pfl("status", "--json", *loopback)).out

    looked = ("peers", *loopback, "--seconds", "3", "--json")
    row = peer(await p2pfl(*looked, "--key-file", file), drawn)
    assert (row["name"], row["compatible"]) == ("anna", "yes")
    row = peer(await p2pfl(*looked), drawn)
    assert row["compatible"] == (
        "no: its run has a key; give it with --key-file, in a strict run with --cert"
    )

    # all nodes on this device are local ones to the doctor
    port = ("--port", address.rpartition(":")[2], "--seconds", "1.5", "--json", *loopback)
    done = await p2pfl("doctor", *port, "--key-file", file)
    findings = {f["topic"]: f for f in json.loads(done.out)}
    assert "clock" in findings
    topic = f"port {port[1]}"
    assert any(f["topic"] == topic and f["verdict"] == "ok" for f in json.loads(done.out)), done.out
    done = await p2pfl("doctor", *port)
    assert "answers only who has its run's key" in done.out
    done = await p2pfl("doctor", *port, "--key", RunKey.new().text)
    assert "not with this run's key" in done.out


def peer(done: Said, key: RunKey) -> dict[str, str]:
    """The one that announces this key."""
    assert done.code == 0, done.errors
    (found,) = (row for row in json.loads(done.out) if row["run"] == tagged(key.tag))
    assert isinstance(found, dict)
    return found


@asynccontextmanager
async def serving(credentials: Credentials | None) -> AsyncIterator[str]:
    """A node, as far as the doctor sees one; its address."""
    service = _Served()
    transport = HttpTransport("127.0.0.1", 0, LimitsConfig(), credentials=credentials)
    async with transport.serve(service):
        yield transport.address


class _Served:
    """Answers questions for a status, and nothing else."""

    def status(self) -> dict[str, Any]:
        return {"node": "ab" * 16}

    needs_whole = False

    def faulty(self, address: str, error: Exception, sender: str = "") -> None:
        pass

    def admit(self, packet: Packet) -> Packet | None:
        raise NotImplementedError

    def handle(self, packet: Packet) -> Reply:
        raise NotImplementedError

    def room(self, nbytes: int, sender: str = "") -> AbstractContextManager[Bytes]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("off_s", "has_key", "of_another", "outcome", "fix"),
    [
        (0.0, True, False, "node", ""),
        (3600.0, True, False, "node", ""),
        (-3600.0, True, False, "node", ""),
        (-3 * 86_400.0, True, False, "clock", "set the clocks of both devices"),
        (3 * 86_400.0, True, False, "clock", "set the clocks of both devices"),
        (0.0, True, True, "foreign", "give both devices the same key"),
        (0.0, False, False, "keyed", "give the same to this command (--key-file"),
    ],
)
async def test_the_doctor_tells_a_wrong_clock_another_key_and_none_apart(
    off_s: float, has_key: bool, of_another: bool, outcome: str, fix: str
) -> None:
    key, now = RunKey.new(), time.time()
    mine = Credentials.observer(RunKey.new() if of_another else key, now) if has_key else None
    async with serving(Credentials.observer(key, now + off_s)) as address:
        (answer,) = await ask_all([address], mine)
        assert answer.outcome == outcome
        run = tagged(key.tag)
        peer = Sighting((address,), "ab" * 16, run, "0" * 16, "2", "anna")
        (finding,) = await peer_findings([peer], run, None, None, 1.0, mine)
        assert (finding.verdict == "ok") == (outcome == "node")
        assert fix in finding.fix


async def test_an_open_node_is_told_from_one_with_a_key() -> None:
    mine = Credentials.observer(RunKey.new(), time.time())
    async with serving(None) as address:
        (answer,) = await ask_all([address], mine)
        assert answer.outcome == "foreign"
        assert (await ask_all([address]))[0].outcome == "node"
        peer = Sighting((address,), "ab" * 16, "kitchen", "0" * 16, "2", "anna")
        (finding,) = await peer_findings([peer], tagged(mine.tag), None, None, 1.0, mine)
        assert "is of an open run, 'kitchen'" in finding.text
        keyed = Sighting((address,), "ab" * 16, tagged("0" * 16), "0" * 16, "2", "anna")
        (finding,) = await peer_findings([keyed], "kitchen", None, None, 1.0)
        assert "is of a run with a key (key-0000000000000000)" in finding.text
        (finding,) = await peer_findings([keyed], tagged(mine.tag), None, None, 1.0, mine)
        assert "is of a run with another key" in finding.text


# --- a strict run --------------------------------------------------------------------------------


async def admitted(folder: Path, run: str, names: Sequence[str]) -> dict[str, str]:
    """Certificates for some nodes, made with the commands that people use."""
    done = await p2pfl("run-key", "split", "--out", str(folder / "kitchen"))
    assert done.code == 0, done.errors
    ids = {}
    for name in names:
        where = ("--run", run, "--state-dir", str(folder / name))
        asked = json.loads((await p2pfl("id", *where, "--json")).out)
        out = str(folder / f"{name}.crt")
        secret = str(folder / "kitchen" / "admission.key")
        done = await p2pfl("admit", asked["request"], "--key-file", secret, "--out", out)
        assert done.code == 0, done.errors
        ids[name] = asked["node"]
    return ids


async def test_a_strict_run_takes_whom_it_admitted_and_cuts_off_whom_it_denies(
    nodes: Nodes, tmp_path: Path
) -> None:
    ids = await admitted(tmp_path, nodes.run, ("anna", "boris", "carla"))
    denied = tmp_path / "denied.jsonl"
    denied.write_text("# nobody yet\n")
    run_cert = ("--run-cert", str(tmp_path / "kitchen" / "run.crt"), *_PROBES)
    anna = nodes.start(
        "anna", "--cert", str(tmp_path / "anna.crt"), *run_cert, "--deny-list", str(denied)
    )
    boris = nodes.start("boris", "--cert", str(tmp_path / "boris.crt"), *run_cert)
    carla = nodes.start("carla", "--cert", str(tmp_path / "carla.crt"), *run_cert)
    own = node_key(anna.state_dir, run=nodes.run)
    eye = Eye(Credentials.admitted(own, tmp_path / "anna.crt", time.time()))
    for node in (anna, boris, carla):
        now = await eye.until(node, lambda now: mixed(now) >= 3 and len(alive(now)) == 2)
        assert now["node"] == ids[node.name]

    secret = str(tmp_path / "kitchen" / "admission.key")
    grouped = " ".join(re.findall("....", ids["carla"]))
    done = await p2pfl("deny", grouped, "--key-file", secret, "--out", str(denied))
    assert done.code == 0, done.errors
    since = time.monotonic()
    for node in (anna, boris):
        # boris has no list: a peer told him
        now = await eye.until(node, lambda now: now["denied"])
        assert now["denied"] == [ids["carla"]]
        assert belief(now, ids["carla"]) != "alive"
    assert time.monotonic() - since < _SOON_S
    before = (await eye.status(anna))["cycles"]
    now = await eye.until(anna, lambda now: now["cycles"] > before + 20)
    assert alive(now) == {ids["boris"]}

    # he remembers, though nobody is there who could tell him again
    for node in (boris, anna, carla):
        assert await node.stop() == 0
    boris.start()
    assert (await eye.until(boris, lambda now: now["cycles"] > 0))["denied"] == [ids["carla"]]


async def test_a_strict_run_refuses_who_has_no_certificate_of_it(
    nodes: Nodes, tmp_path: Path
) -> None:
    await admitted(tmp_path, nodes.run, ("anna",))
    anna = nodes.start("anna", "--cert", str(tmp_path / "anna.crt"))
    await located(anna)
    run_key = Credentials.observer(RunKey.new(), time.time())
    with pytest.raises(OSError, match="certificate verify failed") as refused:
        await Eye(run_key).status(anna)
    assert isinstance(refused.value.__cause__ or refused.value.args[0], ssl.SSLError)
    # who changes the file of the certificate changes nothing that runs
    (tmp_path / "anna.crt").write_text("nonsense")
    done = await p2pfl("node", "digits-numpy", "--cert", str(tmp_path / "anna.crt"))
    assert (done.code, done.out) == (2, "")
    assert "not a certificate in PEM" in done.errors
