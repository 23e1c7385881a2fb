"""Real nodes on loopback, found over mDNS: they learn, die, freeze, join late, and leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from p2pfl.core.events import Cycle, MemberChanged, Started, Stopped
from p2pfl.edge.announcement import Announcement
from p2pfl.edge.checkpoint import NEWEST, newest
from p2pfl.edge.mdns import Mdns
from p2pfl.learning.partition import parse_shard
from p2pfl.learning.task import build_learner, find_task
from tests.integration.nodes import (
    STOP_S,
    TASK,
    NodeProcess,
    Nodes,
    accuracy,
    alive,
    belief,
    mean_accuracy,
    mixed,
    p2pfl,
    until_all,
    until_mean,
)

UNEVEN = "dirichlet:0.1"
FREQUENT = ("--set", "checkpoint_every_s=1")
STALL_S = 3.0
"""No survivor may go so long without a training cycle, whatever happens to others."""
FROZEN_S = 10.0
NEAR = 0.03


def start(nodes: Nodes, count: int, *options: str) -> list[NodeProcess]:
    """So many nodes, each with its part of the digits, unevenly drawn."""
    names = ("anna", "boris", "chloe", "dora", "emil")[:count]
    shards = [f"{at}/{count}" for at in range(1, count + 1)]
    where = ("--partition", UNEVEN, *options)
    return [
        nodes.start(name, "--shard", shard, *where)
        for name, shard in zip(names, shards, strict=True)
    ]


def alone(nodes: Nodes, shard: str) -> float:
    """How good one gets on its shard without the others."""
    learner = build_learner(
        find_task(TASK), run=nodes.run, seed=0, shard=parse_shard(shard, UNEVEN)
    )
    weights = learner.initial()
    for _ in range(40):
        weights += learner.step(weights, 20, None).delta
    return learner.evaluate(weights).accuracy or 0.0


def longest_stall(node: NodeProcess) -> float:
    """Seconds between two training cycles, at most."""
    return max(after.at - before.at for before, after in pairwise(node.events(Cycle)))


# --- learning ------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_five_nodes_learn_what_none_of_them_could_alone(nodes: Nodes) -> None:
    assert np.mean([alone(nodes, f"{at}/5") for at in range(1, 6)]) < 0.7
    five = start(nodes, 5)
    await nodes.ready()
    await until_mean(five, 0.93)
    everybody = {node.id for node in five}
    for node in five:
        now = await node.until(lambda now, node=node: alive(now) == everybody - {node.id})
        assert now["state"] == "training"
        assert set(now["neighbours"]) <= everybody - {node.id}
        assert longest_stall(node) < STALL_S


# --- dying, freezing, joining --------------------------------------------------------------------


@pytest.mark.slow
async def test_a_killed_node_goes_on_from_its_checkpoint_as_the_same_node(nodes: Nodes) -> None:
    anna, boris, chloe = start(nodes, 3, *FREQUENT)
    others = (anna, chloe)
    await nodes.ready()
    before = await boris.until(lambda now: now["age"] > 500 and (boris.state_dir / NEWEST).exists())
    await boris.kill()
    await until_all(others, lambda now: belief(now, boris.id) != "alive")
    saved = newest(boris.state_dir)
    assert saved is not None
    boris.start()
    again = await boris.ready()
    assert again["node"] == before["node"]
    assert again["incarnation"] == before["incarnation"] + 1
    await boris.until(lambda _: len(boris.events(Started)) == 2)
    started = boris.events(Started)[-1]
    assert started.resumed
    assert started.age == saved.saved.age > 0
    await boris.until(lambda now: now["cycles"] > before["cycles"] and mixed(now) > 0)
    await until_all(others, lambda now: belief(now, boris.id) == "alive")
    await until_mean(others, 0.93)
    await boris.until(lambda now: accuracy(now) >= mean_accuracy(others) - NEAR)
    for other in others:
        assert longest_stall(other) < STALL_S


@pytest.mark.slow
async def test_a_frozen_node_holds_nobody_up_and_is_welcome_again(nodes: Nodes) -> None:
    anna, boris, chloe = start(nodes, 3)
    others = (anna, chloe)
    await nodes.ready()
    await until_all(others, lambda now: belief(now, boris.id) == "alive" and mixed(now) > 20)
    await boris.until(lambda now: mixed(now) > 20)
    froze = time.monotonic()
    boris.send(signal.SIGSTOP)
    await until_all(others, lambda now: belief(now, boris.id) != "alive", FROZEN_S)
    await asyncio.sleep(max(0.0, froze + FROZEN_S - time.monotonic()))
    boris.send(signal.SIGCONT)
    before = mixed(await boris.status())
    await boris.until(lambda now: len(alive(now)) == 2 and mixed(now) > before + 20)
    await until_all(others, lambda now: belief(now, boris.id) == "alive")
    await until_mean((anna, boris, chloe), 0.93)
    for other in others:
        assert longest_stall(other) < STALL_S


@pytest.mark.slow
async def test_a_late_node_takes_a_model_over_and_is_soon_as_good_as_the_others(
    nodes: Nodes,
) -> None:
    early = start(nodes, 3)
    await nodes.ready()
    await until_mean(early, 0.93)
    youngest = min(node.last["age"] for node in early)
    dora = nodes.start("dora", "--shard", "1/3", "--partition", UNEVEN)
    joined = await dora.until(lambda now: now["age"] >= youngest)
    assert joined["own_steps"] < youngest / 2, "it trained all that way itself"
    now = await dora.until(lambda now: accuracy(now) >= mean_accuracy(early) - NEAR)
    assert now["own_steps"] < youngest
    await until_all(early, lambda now: belief(now, dora.id) == "alive")


# --- who does not fit ----------------------------------------------------------------------------


async def test_other_models_and_other_runs_are_left_out_and_named(nodes: Nodes) -> None:
    anna, boris = start(nodes, 2)
    model = nodes.start("model", task="breast-cancer")
    run = nodes.start("run", run=f"{nodes.run}-other")
    quiet = nodes.start("quiet", task="breast-cancer")
    await nodes.ready()
    peer = ("--no-mdns", "--peer", anna.address)
    silent = nodes.start("silent", *peer, task="breast-cancer")
    await silent.ready()
    strangers = (model, run, quiet, silent)
    now = await anna.until(
        lambda now: mixed(now) > 5 and all(s.address in now["others"] for s in strangers)
    )
    wrong = f"other model (layout {model.last['layout']}"
    for stranger in (model, quiet, silent):
        assert now["others"][stranger.address].startswith(wrong)
    assert now["others"][run.address].startswith(f"other run '{nodes.run}-other'")
    assert {belief(now, stranger.id) for stranger in strangers} == {"unknown"}
    assert belief(now, boris.id) == "alive"


async def test_who_is_refused_names_the_other_model_and_not_its_own(nodes: Nodes) -> None:
    anna = nodes.start("anna", "--no-mdns")
    now = await anna.ready()
    silent = nodes.start("silent", "--no-mdns", "--peer", anna.address, task="breast-cancer")
    theirs = await silent.until(lambda now: anna.address in now["others"])
    assert theirs["others"][anna.address].startswith(f"other model (layout {now['layout']}")


async def test_a_torch_and_a_numpy_model_do_not_mix_and_say_so(nodes: Nodes) -> None:
    lean = nodes.start("numpy", task="digits-numpy")
    heavy = nodes.start("torch", task="digits")
    await nodes.ready()
    for one, other in ((lean, heavy), (heavy, lean)):
        now = await one.until(lambda now, other=other: other.address in now["others"])
        assert now["others"][other.address].startswith(
            f"other model (layout {other.last['layout']}"
        )
        assert now["parameters"] == 2410
        assert alive(now) == set()


async def test_static_peers_in_a_chain_learn_of_each_other(nodes: Nodes) -> None:
    anna = nodes.start("anna", "--no-mdns")
    await anna.ready()
    boris = nodes.start("boris", "--no-mdns", "--peer", anna.address)
    await boris.ready()
    chloe = nodes.start("chloe", "--no-mdns", "--peer", boris.address)
    await chloe.ready()
    everybody = {anna.id, boris.id, chloe.id}
    for node in (anna, boris, chloe):
        await node.until(
            lambda now, node=node: alive(now) == everybody - {node.id} and mixed(now) > 0
        )


# --- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_node_that_is_asked_to_end_saves_and_says_goodbye(
    nodes: Nodes, number: signal.Signals
) -> None:
    anna, boris = start(nodes, 2)
    await nodes.ready()
    await boris.until(lambda now: belief(now, anna.id) == "alive")
    last = await anna.until(lambda now: mixed(now) > 5 and now["age"] > 100)
    assert await anna.stop(number) == 0
    saved = newest(anna.state_dir)
    assert saved is not None
    assert saved.path.name == NEWEST
    assert saved.saved.age >= last["age"]
    assert anna.events(Stopped)
    await boris.until(lambda now: belief(now, anna.id) == "dead")
    assert await boris.stop() == 0
    changes = [change for change in boris.events(MemberChanged) if change.peer == anna.id]
    assert [change.status for change in changes] == ["alive", "dead"], "it was suspected first"
    assert changes[-1].reason == "left"


async def test_a_second_signal_breaks_no_checkpoint(nodes: Nodes) -> None:
    anna, _ = start(nodes, 2, *FREQUENT)
    await nodes.ready()
    await anna.until(lambda now: mixed(now) > 5 and (anna.state_dir / NEWEST).exists())
    for number in (signal.SIGINT, signal.SIGTERM):
        anna.send(number)
    # the second one ends it now, unless both were seen at once
    assert await anna.ended(STOP_S) in (0, 130)
    assert newest(anna.state_dir) is not None
    anna.start()
    assert (await anna.ready())["incarnation"] == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--cycles", "15"), "15 cycles are done"),
        (("--minutes", "0.03"), "0.03 minutes are over"),
        (("--target-accuracy", "0.3", "--set", "train.evaluate_every_s=0.2"), "reached the target"),
    ],
)
async def test_a_node_ends_by_itself_when_it_is_done(
    nodes: Nodes, options: tuple[str, ...], reason: str
) -> None:
    anna = nodes.start("anna", "--no-mdns", *options)
    assert await anna.ended() == 0
    assert f"{reason}" in anna.said.splitlines()[-1]
    (stopped,) = anna.events(Stopped)
    assert reason in stopped.reason
    assert newest(anna.state_dir) is not None


SLEEPY_TASK = """
import time
import numpy as np
from p2pfl.learning.numpy_learner import MLP

class Sleepy(MLP):
    def gradient(self, weights, x, y, out):
        if len(x) == batch_size:
            time.sleep(60)
        return MLP.gradient(self, weights, x, y, out)

def model():
    return Sleepy(2, 3, 2)

def train_data():
    return np.eye(8, 2), np.arange(8) % 2

test_data = train_data
batch_size = 7
"""


async def test_a_long_training_step_does_not_hold_the_exit_up(nodes: Nodes, tmp_path: Path) -> None:
    task = tmp_path / "sleepy.py"
    task.write_text(SLEEPY_TASK, encoding="utf-8")
    anna = nodes.start("anna", "--no-mdns", task=str(task))
    now = await anna.ready()
    assert now["cycles"] == 0
    assert await anna.stop() == 0
    assert newest(anna.state_dir) is not None


@pytest.mark.slow
async def test_nobody_has_to_read_what_a_node_prints(nodes: Nodes) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out, os.fdopen(reader) as lines:
        anna = nodes.planned("anna", "--no-mdns")
        anna.start(out=out)
        out.close()
        assert lines.readline().startswith("node ")
        for word in ("id: ", "trust: ", "state: "):
            assert lines.readline().startswith(word)
        anna.address = lines.readline().split("/")[2]
    # it prints a line every five seconds
    await anna.until(lambda now: now["uptime_s"] > 6)
    assert await anna.stop() == 0


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"root, but mount failed: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True, timeout=30)


async def test_a_full_disk_costs_the_checkpoint_and_nothing_else(
    nodes: Nodes, small_disk: Path
) -> None:
    state = small_disk / "state"
    where = ("--no-mdns", "--set", "checkpoint_every_s=0.5", "--state-dir", str(state))
    anna = nodes.start("anna", *where)
    await anna.until(lambda now: (state / NEWEST).exists() and now["age"] > 100)
    filler = small_disk / "filler"
    fill(filler)
    full = await anna.until(lambda now: now["faults"].get("checkpoint", 0) >= 2)
    saved = newest(state)
    assert saved is not None, "the checkpoint before is gone"
    assert 0 < saved.saved.age <= full["age"]
    await anna.until(lambda now: now["cycles"] > full["cycles"] + 10)
    assert "the previous one is intact: [Errno 28] No space left on device" in anna.complained
    filler.unlink()
    after = await anna.status()
    await anna.until(lambda _: (found := newest(state)) and found.saved.age >= after["age"])
    fill(filler)
    assert await anna.stop() == 0


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


# --- looking -------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_export_while_it_runs_is_the_model_that_the_status_speaks_of(
    nodes: Nodes, tmp_path: Path
) -> None:
    anna = nodes.planned("anna", "--no-mdns", "--set", "checkpoint_every_s=0.5")
    anna.start("--cycles", "40")
    assert await anna.ended() == 0
    anna.start("--set", "train.cycle_min_s=1000")  # one more cycle, and then it rests
    now = await anna.until(lambda now: now["accuracy"] is not None)
    assert now["accuracy"] > 0.5
    await anna.until(lambda _: newest(anna.state_dir).saved.age == now["age"])
    learner = build_learner(find_task(TASK), run=nodes.run, seed=0)
    for name in ("model.npz", "model.safetensors"):
        out = tmp_path / name
        done = await p2pfl("export", str(anna.state_dir), str(out))
        assert done.code == 0, done
        arrays = dict(np.load(out)) if out.suffix == ".npz" else load_file(out)
        found = learner.evaluate(learner.layout.flatten(arrays))
        assert found.accuracy == now["accuracy"]


async def test_nodes_are_listed_and_asked_from_the_command_line(nodes: Nodes) -> None:
    anna, boris = start(nodes, 2)
    await nodes.ready()
    await anna.until(lambda now: mixed(now) > 5)
    listed, asked, readable = await asyncio.gather(
        p2pfl("peers", "--json", "--interface", "lo", "--run", nodes.run, "--task", TASK),
        p2pfl("status", f"http://{anna.address}", "--json"),
        p2pfl("status", f"http://{boris.address}/v1/status"),
    )
    assert listed.code == asked.code == readable.code == 0, (listed, asked, readable)
    rows = {row["node"]: row for row in json.loads(listed.out)}
    for node in (anna, boris):
        row = rows[node.id[:8]]
        assert (row["name"], row["address"], row["run"]) == (node.name, node.address, nodes.run)
        assert row["compatible"] == "yes"
    assert json.loads(asked.out)["node"] == anna.id
    assert f"boris ({boris.id[:8]}), run '{nodes.run}'" in readable.out
    assert anna.id[:8] in readable.out


async def test_one_that_does_not_answer_does_not_hide_the_others(nodes: Nodes) -> None:
    anna = nodes.start("anna")
    await anna.ready()
    ghost = Announcement("d" * 32, "ghost", nodes.run, "9a8b7c6d5e4f3a2b", "1")
    sightings = Mdns(ghost, lambda: "127.0.0.1:1", interfaces=("lo",)).events()
    async with aclosing(sightings), asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(anext(sightings))  # type: ignore[arg-type]
        await anna.until(lambda now: "127.0.0.1:1" in now["others"])
        told = await p2pfl("status", "--interface", "lo")
        announcing.cancel()
    assert told.code == 0, told
    assert f"anna ({anna.id[:8]})" in told.out
    assert "p2pfl: 127.0.0.1:1 does not answer as a node: " in told.errors


async def test_ctrl_c_while_the_task_is_being_loaded_ends_it_at_once(tmp_path: Path) -> None:
    task = tmp_path / "slow.py"
    task.write_text(
        "import threading\n"
        "def model(): ...\n"
        "def train_data():\n"
        "    print('loading', flush=True)\n"
        "    threading.Event().wait()\n"
        "def test_data(): ...\n"
    )
    state = tmp_path / "state"
    command = [sys.executable, "-m", "p2pfl", "node", str(task), "--no-mdns", "--state-dir", state]
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert await process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        assert await process.wait() == 130
    assert b"nothing was written" in await process.stderr.read()
    await process.stdout.read()
    assert not state.exists()
