"""Real nodes on loopback that are looked at: sockets and clocks as they are, quadratic tasks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from p2pfl.config import LimitsConfig, NodeConfig
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.http import HttpTransport
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.page.feed import Feed
from p2pfl.edge.page.serving import Page
from p2pfl.edge.runkey import RunKey
from p2pfl.edge.static import StaticPeers
from p2pfl.edge.worker import Worker
from p2pfl.node import Node
from tests.node.swarm import Memory, Quadratic

PATIENCE_S = 20.0
SIZE = 16
QUICK = {
    "train": {"cycle_min_s": 0.02, "cycle_target_s": 0.01, "evaluate_every_s": 0.1},
    "membership": {"probe_interval_s": 0.2, "probe_timeout_s": 0.1},
}


@dataclass
class Living:
    """A node that lives, and what shows it.

    Attributes:
        url: where its page is; of a run with a key, its listener's.
    """

    node: Node
    feed: Feed
    page: Page
    transport: HttpTransport
    task: asyncio.Task[str]
    url: str

    @property
    def id(self) -> str:
        return self.node.vitals.id

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@asynccontextmanager
async def living(
    name: str,
    *peers: Living,
    run_key: RunKey | None = None,
    where: str = "",
    bind: str = "127.0.0.1",
    limits: LimitsConfig | None = None,
    scrape_token: str | None = None,
    incarnation: int = 1,
    **config: Any,
) -> AsyncIterator[Living]:
    """A node of one run with `peers`; it is stopped in the end."""
    key = NodeKey.new()
    limits = limits or LimitsConfig()
    credentials = None if run_key is None else Credentials.member(key, run_key, time.time())
    feed, worker = Feed(Memory()), Worker()
    page = Page(feed, limits, is_keyed=run_key is not None, where=where, bind=bind)
    if scrape_token is not None:
        page.let_scrape(scrape_token)
    transport = HttpTransport(bind, 0, limits, None, credentials, [page.mount])
    target = np.random.default_rng([len(name), *name.encode()]).standard_normal(SIZE)
    settings = {"name": name, "run": "kitchen", "limits": limits, **QUICK, **config}
    node = Node(
        node_id=key.node,
        incarnation=incarnation,
        config=NodeConfig.model_validate(settings),
        learner=Quadratic(target.astype(np.float32)),
        transport=transport,
        discovery=StaticPeers([f"127.0.0.1:{peer.transport.port}" for peer in peers]),
        journal=feed,
        store=None,
        clock=time.monotonic,
        run=worker,
        rng=np.random.default_rng(1),
        notary=credentials,
    )
    async with AsyncExitStack() as ending:
        ending.enter_context(closing(worker))
        ending.enter_context(closing(transport))
        ending.enter_context(closing(page))
        tasks = await ending.enter_async_context(asyncio.TaskGroup())
        port = transport.port if page.address is None else page.address[1]
        task = tasks.create_task(node.run())
        found = Living(node, feed, page, transport, task, f"http://127.0.0.1:{port}")
        try:
            yield found
        finally:
            await found.stop()


@asynccontextmanager
async def asking(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who asks, and would collect cookies as a browser does: of every port of a host."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession(cookie_jar=jar, **options) as session,
    ):
        yield session


async def entered(asker: aiohttp.ClientSession, link: str) -> str:
    """Use a link up as the page's script does; gives the session, or "" where there is none."""
    url, secret = link.split("/#once=")
    async with asker.post(f"{url}/v1/session", data=secret, headers={"Origin": url}) as response:
        return str((await response.json())["session"]) if response.status == 200 else ""


def bearer(secret: str) -> dict[str, str]:
    """Headers with a secret, as programs give it."""
    return {"Authorization": f"Bearer {secret}"}


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Server-sent events as they come; comments as ("", text)."""
    kind = ""
    async for line in response.content:
        text = line.decode().rstrip("\n")
        field, _, value = text.partition(": ")
        match field:
            case "event":
                kind = value
            case "data":
                yield kind, json.loads(value)
            case "" if value:
                yield "", value
            case _:
                pass
