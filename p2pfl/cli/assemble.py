"""Puts a real node together: the LAN's transport, discovery, worker, files and clock.

Rule of the file: what can be wrong with the user's words is found before anything is written.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2pfl.cli.keys import Pass, passed
from p2pfl.config import DeviceConfig
from p2pfl.core import wire
from p2pfl.core.neighbours import rule
from p2pfl.edge import conditions, denials, scalars
from p2pfl.edge.announcement import Announcement, tagged
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.evidence import EVIDENCE, EvidenceFiles
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.identity import JOURNAL, StateDir, default_path, node_key
from p2pfl.edge.interfaces import announced, survey, usable
from p2pfl.edge.journal import SqliteJournal
from p2pfl.edge.mdns import Mdns
from p2pfl.edge.nodekey import parse_node
from p2pfl.edge.page import scraping, serving
from p2pfl.edge.page.feed import Feed
from p2pfl.edge.page.serving import Page
from p2pfl.edge.static import StaticPeers, join, merge, parse
from p2pfl.edge.worker import Worker
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.learning.paced import Paced
from p2pfl.learning.partition import parse_partition, parse_shard
from p2pfl.learning.task import adapted, build_learner, find_task
from p2pfl.node import Node
from p2pfl.node.status import describe
from p2pfl.ports import Discovery, Journal, Learner

_NOBODY = "0" * 32
"""An id to check an announcement with, before the state directory says who we are."""

_PORT = "port"
"""File in the state directory: where the node listened last."""

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


@dataclass(frozen=True, slots=True)
class Assembled:
    """A node that is ready to run, and what goes with it.

    Attributes:
        journal: writes down what happens.
        page: what people see of it.
        scalars: for TensorBoard; None where nobody wants them.
        credentials: of a run with a key.
    """

    node: Node
    journal: SqliteJournal
    page: Page
    scalars: scalars.Scalars | None
    credentials: Credentials | None


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
    serving.check(config.page, is_keyed=ours.tag is not None)
    if config.tensorboard is not None:
        scalars.check()
    conditions.check(config.courtesy)
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
async def assembled(ready: Prepared) -> AsyncIterator[Assembled]:
    """A node that is ready to run; all that belongs to it is closed on leaving.

    Raises:
        ConfigError: the certificate, the deny list or TensorBoard's directory cannot be used.
        StateError: the state directory cannot be used.
        NetworkError: a port is taken.
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
    journal = SqliteJournal(path / JOURNAL)
    feed = Feed(journal)
    async with AsyncExitStack() as closing:
        page = Page(
            feed,
            config.limits,
            is_keyed=credentials is not None,
            where=config.page,
            bind=config.bind,
        )
        closing.callback(page.close)
        transport = _listening(config, path / _PORT, credentials, page)
        closing.callback(transport.close)
        state = closing.enter_context(StateDir.open(path, run=config.run, layout=learner.layout))
        if page.address is not None:
            page.let_scrape(scraping.made(path))
        with suppress(OSError):
            (path / _PORT).write_text(f"{transport.port}\n", encoding="ascii")
        checkpoints = Checkpoints(
            path, learner.layout, run=config.run, node=state.node, incarnation=state.incarnation
        )
        saved = checkpoints.load()
        closing.callback(journal.close)
        told: Journal = feed
        curves: scalars.Scalars | None = None
        if config.tensorboard is not None:
            folder = scalars.folder_of(Path(config.tensorboard), config.name, state.node)
            told = curves = scalars.Scalars(feed, folder)
            closing.callback(curves.close)
        sources: list[Discovery] = [ready.static]
        if config.mdns:
            ours = replace(ready.announcement, node=state.node)
            sources.append(Mdns(ours, lambda: transport.address, interfaces=config.interfaces))
        worker = Worker()
        closing.callback(worker.close)
        node = Node(
            node_id=state.node,
            incarnation=state.incarnation,
            config=config,
            learner=learner,
            transport=transport,
            discovery=merge(*sources),
            journal=told,
            store=checkpoints,
            clock=time.monotonic,
            run=worker,
            rng=np.random.default_rng([seed, state.incarnation]),
            saved=saved,
            notary=credentials,
            deny_list=deny_list,
            evidence=EvidenceFiles(path / EVIDENCE, config.run),
            conditions=conditions.Device(config.courtesy),
        )
        yield Assembled(node, journal, page, curves, credentials)


def _listening(
    config: DeviceConfig, last: Path, credentials: Credentials | None, page: Page
) -> HttpTransport:
    """A transport at the port the node had last, where any will do and that one is free.

    So an open page, and whoever knows the address, finds it again after a restart.
    """
    others = config.limits, config.advertise, credentials, [page.mount]
    if config.port == 0:
        with suppress(OSError, ValueError, NetworkError):
            port = int(last.read_text(encoding="ascii"))
            if 1024 <= port < 65536:
                return HttpTransport(config.bind, port, *others)
    return HttpTransport(config.bind, config.port, *others)


async def journalled(being: Assembled) -> str:
    """Run a node while its journal is written and its certificate is kept valid.

    Says why the node stopped.
    """
    node = being.node
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(being.journal.run(), name="journal")]
        if being.credentials is not None:
            beside.append(tasks.create_task(_renewing(being.credentials), name="certificate"))
        if being.scalars is not None:
            writing = being.scalars.run(lambda: describe(node.vitals))
            beside.append(tasks.create_task(writing, name="scalars"))
        try:
            return await node.run()
        finally:
            for task in beside:
                task.cancel()


def pages(being: Assembled, config: DeviceConfig) -> list[str]:
    """Where the page is, best first; of a run with a key a link that opens it once."""
    page, address = being.page, being.node.vitals.transport.address
    if not page.is_shown:
        return []
    if page.address is not None:
        host, port = page.address
        seen = _reached(host, port, config)[0]
        return [page.link(parse(seen)[0])]
    host, port = parse(address)
    return [f"http://{seen}/" for seen in _reached(host, port, config)]


def _reached(host: str, port: int, config: DeviceConfig) -> list[str]:
    """The addresses at which people reach what listens here, as `host:port`."""
    if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        return [join(host, port)]
    try:
        found = announced(usable(survey(config.interfaces)), host)
    except NetworkError:
        found = []
    # a browser cannot be told on which link an address is meant
    found = [ip for ip in found if not ipaddress.ip_address(ip.partition("%")[0]).is_link_local]
    found.sort(key=lambda ip: ":" in ip)
    return [join(ip, port) for ip in found] or [f"localhost:{port}"]


async def _renewing(credentials: Credentials) -> None:
    while True:
        credentials.renew(time.time())
        await asyncio.sleep(_RENEWAL_S)


def _no_admissions(message: bytes, proof: bytes) -> bool:
    """Nobody admits anybody to an open run."""
    return False
