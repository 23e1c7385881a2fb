"""Puts a real node together: the LAN's transport, discovery, worker, files and clock.

Rule of the file: what can be wrong with the user's words is found before anything is written.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2pfl.cli.keys import Pass, passed
from p2pfl.config import DeviceConfig
from p2pfl.core import wire
from p2pfl.core.neighbours import rule
from p2pfl.edge import denials
from p2pfl.edge.announcement import Announcement, tagged
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.evidence import EVIDENCE, EvidenceFiles
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.identity import StateDir, default_path, node_key
from p2pfl.edge.interfaces import survey, usable
from p2pfl.edge.journal import SqliteJournal
from p2pfl.edge.mdns import Mdns
from p2pfl.edge.nodekey import parse_node
from p2pfl.edge.static import StaticPeers, merge, parse
from p2pfl.edge.worker import Worker
from p2pfl.errors import ConfigError
from p2pfl.learning.paced import Paced
from p2pfl.learning.partition import parse_partition, parse_shard
from p2pfl.learning.task import adapted, build_learner, find_task
from p2pfl.node import Node
from p2pfl.ports import Discovery, Learner

_NOBODY = "0" * 32
"""An id to check an announcement with, before the state directory says who we are."""

_RENEWAL_S = 60.0
"""Between two looks at the certificate: it has hours left when a new one is due."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was checked and loaded before anything is written or opened.

    Attributes:
        seed: of this node's choices.
        announcement: as it will be, but for the node's id.
        passed: what lets us into the run.
        denied: node ids that are denied here.
    """

    config: DeviceConfig
    learner: Learner
    static: StaticPeers
    seed: int
    announcement: Announcement
    passed: Pass
    denied: tuple[str, ...]


def prepared(config: DeviceConfig, key: str | None = None) -> Prepared:
    """Load the task and its data; takes as long as these take, and Ctrl-C ends it at once.

    Args:
        config: of the node.
        key: the run's key, where it was given as text.

    Raises:
        ConfigError: the task, its data, a key or an option cannot be used.
        NetworkError: there is no usable interface.
    """
    rule(config.topology)
    ours = passed(config, key)
    denied = tuple(parse_node(text) for text in config.deny)
    if config.deny_list is not None:
        denials.read(Path(config.deny_list))
    static = StaticPeers(config.peers)
    if config.advertise is not None:
        _checked_advertise(config.advertise)
    if config.mdns:
        found = survey(config.interfaces)
        if not any(interface.verdict.may_change for interface in found):
            usable(found)
    partition, shard = parse_partition(config.partition), None
    if config.shard is None and "partition" in config.model_fields_set:
        raise ConfigError(
            f"partition {config.partition} does nothing without a shard; add --shard I/N, as in 1/3"
        )
    if config.shard is not None:
        shard = parse_shard(config.shard, partition, config.data_seed)
    seed = secrets.randbits(63) if config.seed is None else config.seed
    task = adapted(
        find_task(config.task), learning_rate=config.learning_rate, batch_size=config.batch_size
    )
    learner = build_learner(task, run=config.run, seed=seed, shard=shard, threads=config.threads)
    if config.step_s is not None:
        learner = Paced(learner, config.step_s)
    run = config.run if ours.tag is None else tagged(ours.tag)
    announcement = Announcement(_NOBODY, config.name, run, learner.layout.digest, str(wire.VERSION))
    return Prepared(config, learner, static, seed, announcement, ours, denied)


def _checked_advertise(address: str) -> None:
    """A host name would not do: packets tell peers where to answer, and nobody asks a name server.

    Raises:
        ConfigError: it is not IP:PORT.
    """
    try:
        ipaddress.ip_address(parse(address)[0])
    except (ConfigError, ValueError):
        raise ConfigError(
            f"advertise is '{address}', expected IP:PORT as in 203.0.113.7:4000"
        ) from None


def state_path(config: DeviceConfig) -> Path:
    """The state directory of a node."""
    if config.state_dir:
        return Path(config.state_dir)
    return default_path(config.run, config.name)


@asynccontextmanager
async def assembled(ready: Prepared) -> AsyncIterator[Node]:
    """A node that is ready to run; all that belongs to it is closed on leaving.

    Raises:
        ConfigError: the certificate or the deny list cannot be used.
        StateError: the state directory cannot be used.
        NetworkError: the port is taken.
    """
    config, learner, seed = ready.config, ready.learner, ready.seed
    path = state_path(config)
    credentials: Credentials | None = None
    if ready.passed.tag is not None:
        credentials = ready.passed.credentials(node_key(path, run=config.run))
    deny_list = denials.DenyFiles(
        path / denials.DENIALS,
        _no_admissions if credentials is None else credentials.is_admissions,
        own=ready.denied,
        shared=None if config.deny_list is None else Path(config.deny_list),
    )
    async with AsyncExitStack() as closing:
        transport = HttpTransport(
            config.bind, config.port, config.limits, config.advertise, credentials
        )
        closing.callback(transport.close)
        state = closing.enter_context(StateDir.open(path, run=config.run, layout=learner.layout))
        checkpoints = Checkpoints(
            path, learner.layout, run=config.run, node=state.node, incarnation=state.incarnation
        )
        saved = checkpoints.load()
        journal = SqliteJournal(state.journal)
        closing.callback(journal.close)
        sources: list[Discovery] = [ready.static]
        if config.mdns:
            ours = replace(ready.announcement, node=state.node)
            sources.append(Mdns(ours, lambda: transport.address, interfaces=config.interfaces))
        worker = Worker()
        closing.callback(worker.close)
        yield Node(
            node_id=state.node,
            incarnation=state.incarnation,
            config=config,
            learner=learner,
            transport=transport,
            discovery=merge(*sources),
            journal=journal,
            store=checkpoints,
            clock=time.monotonic,
            run=worker,
            rng=np.random.default_rng([seed, state.incarnation]),
            saved=saved,
            notary=credentials,
            deny_list=deny_list,
            evidence=EvidenceFiles(path / EVIDENCE, config.run),
        )


async def journalled(node: Node) -> str:
    """Run a node while its journal is written and its certificate is kept valid.

    Says why the node stopped.
    """
    journal, transport = node.vitals.journal, node.vitals.transport
    async with asyncio.TaskGroup() as tasks:
        beside = []
        if isinstance(journal, SqliteJournal):
            beside.append(tasks.create_task(journal.run(), name="journal"))
        if isinstance(transport, HttpTransport) and transport.credentials is not None:
            renewing = _renewing(transport.credentials)
            beside.append(tasks.create_task(renewing, name="certificate"))
        try:
            return await node.run()
        finally:
            for task in beside:
                task.cancel()


async def _renewing(credentials: Credentials) -> None:
    while True:
        credentials.renew(time.time())
        await asyncio.sleep(_RENEWAL_S)


def _no_admissions(message: bytes, proof: bytes) -> bool:
    """Nobody admits anybody to an open run."""
    return False
