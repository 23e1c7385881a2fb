"""Nodes on hosts of their own: real mDNS, cables that are pulled, slow links, two networks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.netns import Lan, needs_netns
from tests.integration.nodes import (
    TASK,
    NodeProcess,
    Nodes,
    Status,
    accuracy,
    alive,
    belief,
    mixed,
    until_all,
    until_together,
)

NEAR = 0.03
HEALING_S = 120.0
"""The dead are asked again at least every thirty seconds."""


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan(hosts=3) as lan:
        yield lan


def settle(nodes: Nodes, lan: Lan, *options: str, task: str = TASK) -> list[NodeProcess]:
    """A node on each host, each with an uneven third of the data, and no addresses."""
    return [
        nodes.start(
            f"host-{host}",
            *("--shard", f"{host + 1}/{lan.hosts}", "--partition", "dirichlet:0.3", *options),
            task=task,
            lan=lan,
            host=host,
        )
        for host in range(lan.hosts)
    ]


async def until_one(swarm: list[NodeProcess], patience_s: float = HEALING_S) -> None:
    """Wait until all believe all others alive and their models are equally good."""
    ids = {node.id for node in swarm}
    for node in swarm:
        await node.until(lambda now, node=node: alive(now) == ids - {node.id}, patience_s)
    await until_together(swarm, are_equally_good, patience_s)


def are_equally_good(found: Sequence[Status]) -> bool:
    good = [accuracy(now) for now in found]
    return sum(good) / len(good) >= 0.93 and max(good) - min(good) <= NEAR


@pytest.mark.slow
@needs_netns
async def test_three_hosts_find_each_other_and_learn(nodes: Nodes, lan: Lan) -> None:
    swarm = settle(nodes, lan)
    await nodes.ready()
    await until_one(swarm)
    for host, node in enumerate(swarm):
        for member in node.last["members"]:
            others = [h for h in range(lan.hosts) if h != host]
            reachable = {a for h in others for a in (lan.address(h), f"[{lan.address6(h)}]")}
            assert member["addresses"][0].rpartition(":")[0] in reachable


@pytest.mark.slow
@needs_netns
async def test_both_sides_of_a_cut_go_on_and_end_up_as_one(nodes: Nodes, lan: Lan) -> None:
    anna, boris, chloe = swarm = settle(nodes, lan)
    await nodes.ready()
    await until_one(swarm)
    lan.link_down(2)
    await until_all((anna, boris), lambda now: belief(now, chloe.id) == "dead")
    await chloe.until(lambda now: alive(now) == set())
    cut = {node.name: dict(node.last) for node in swarm}
    for node in swarm:
        await node.until(lambda now, was=cut[node.name]: now["cycles"] > was["cycles"] + 20)
    # those that can still talk do so, and the one that cannot is left with what it had
    await anna.until(lambda now: mixed(now) > mixed(cut["host-0"]) + 20)
    assert belief(await anna.status(), boris.id) == "alive"
    assert mixed(await chloe.status()) == mixed(cut["host-2"])
    assert chloe.last["state"] == "alone"
    lan.link_up(2)
    await until_one(swarm)
    healed = mixed(await chloe.status())
    assert healed > mixed(cut["host-2"])
    assert chloe.last["incarnation"] == 1


LARGE_TASK = """
from p2pfl.learning.datasets import digits
from p2pfl.learning.numpy_learner import MLP

def model():
    return MLP(64, 2000, 10)

def train_data():
    return digits().train

def test_data():
    return digits().test
"""


@pytest.mark.slow
@needs_netns
async def test_a_host_on_a_slow_link_slows_nobody_else(
    nodes: Nodes, lan: Lan, tmp_path: Path
) -> None:
    """A model of 600 kB takes half a second on 10 Mbit/s, longer than two training cycles."""
    task = tmp_path / "large.py"
    task.write_text(LARGE_TASK, encoding="utf-8")
    # most of a cycle is a pause, so that what else runs on this machine is not measured
    light = ("--set", "train.steps_max=2", "--set", "train.cycle_min_s=0.2")
    anna, boris, chloe = settle(nodes, lan, *light, task=str(task))
    fast = (anna, boris)
    await nodes.ready()
    await until_all((anna, boris, chloe), lambda now: mixed(now) > 20)
    without = await pace(fast)
    lan.limit(2, "10mbit")
    begun = mixed(await anna.status())
    await anna.until(lambda now: mixed(now) > begun + 10)
    assert await pace(fast) >= 0.9 * without
    slow = mixed(await chloe.status())
    await chloe.until(lambda now: mixed(now) > slow)


async def pace(nodes: Sequence[NodeProcess]) -> float:
    """Their training cycles a second, over eight seconds."""
    before = [await node.status() for node in nodes]
    until = before[0]["uptime_s"] + 8
    await nodes[0].until(lambda now: now["uptime_s"] >= until)
    after = [await node.status() for node in nodes]
    return sum(
        (now["cycles"] - was["cycles"]) / (now["uptime_s"] - was["uptime_s"])
        for was, now in zip(before, after, strict=True)
    )


# --- two networks --------------------------------------------------------------------------------


@pytest.fixture
def networks() -> Iterator[tuple[Lan, Lan]]:
    """Two LANs whose hosts 0 are routers, joined by a cable; multicast does not pass a router."""
    with ExitStack() as stack:
        lans = [stack.enter_context(Lan(hosts=3)) for _ in range(2)]
        names = [lan.command(0, [])[3] for lan in lans]
        cable = ["type", "veth", "peer", "name", "wan0", "netns", names[1]]
        ip(names[0], "link", "add", "wan0", *cable)
        for at, (lan, other) in enumerate(((lans[0], lans[1]), (lans[1], lans[0]))):
            ip(names[at], "addr", "add", f"10.76.0.{at + 1}/30", "dev", "wan0")
            ip(names[at], "link", "set", "wan0", "up")
            lan.run(0, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
            theirs = f"{other.address(0).rpartition('.')[0]}.0/24"
            lan.run(0, ["ip", "route", "add", theirs, "via", f"10.76.0.{2 - at}"])
            for host in range(1, lan.hosts):
                lan.run(host, ["ip", "route", "add", theirs, "via", lan.address(0)])
        yield lans[0], lans[1]


def ip(namespace: str, *argv: str) -> None:
    subprocess.run(["ip", "-n", namespace, *argv], check=True, timeout=30)


@pytest.mark.slow
@needs_netns
async def test_two_networks_become_one_swarm_by_one_address(
    nodes: Nodes, networks: tuple[Lan, Lan]
) -> None:
    here, there = networks
    anna = nodes.start("anna", "--shard", "1/4", lan=here, host=1)
    boris = nodes.start("boris", "--shard", "2/4", lan=here, host=2)
    await nodes.ready()
    port = anna.address.rpartition(":")[2]
    peer = ("--peer", f"{here.address(1)}:{port}")
    chloe = nodes.start("chloe", "--shard", "3/4", *peer, lan=there, host=1)
    dora = nodes.start("dora", "--shard", "4/4", lan=there, host=2)
    await nodes.ready()
    await until_one([anna, boris, chloe, dora])
    # those that nobody was told of talk too
    before = mixed(await dora.status())
    await dora.until(lambda now: mixed(now) > before + 20)
