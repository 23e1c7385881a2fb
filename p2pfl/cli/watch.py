"""`p2pfl watch`: the swarm in the terminal, from what its nodes tell."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from p2pfl.cli.keys import looking, observer
from p2pfl.cli.saying import say
from p2pfl.errors import ConfigError, NetworkError

if TYPE_CHECKING:
    from p2pfl.cli.watching.memory import Memory
    from p2pfl.cli.watching.picture import Merged
    from p2pfl.cli.watching.source import Nodes, Source
    from p2pfl.edge.credentials import Credentials
    from p2pfl.ports import Sighting

_FIRST_S = 1.0


@click.command(
    epilog="\b\nExamples:\n  p2pfl watch\n  p2pfl watch 192.168.1.5:4000 192.168.1.6:4000\n"
    "  p2pfl watch --run kitchen --key-file run.key\n"
    "  p2pfl watch --json | jq '.nodes[] | [.name, .accuracy]'"
)
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@click.option("--run", metavar="NAME", help="Watch only nodes of this run.")
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NAME",
    help="Interface or address to look at (repeatable); all real ones if not given.",
)
@looking
@click.option("--once", is_flag=True, help="Print one table and end.")
@click.option("--json", "as_json", is_flag=True, help="Print what is known as one JSON object.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two lines, where the output is no terminal.",
)
def watch(
    addresses: tuple[str, ...],
    run: str | None,
    interfaces: tuple[str, ...],
    once: bool,
    as_json: bool,
    every_s: float,
    **keys: str | None,
) -> None:
    """Show the swarm live in the terminal; without ADDRESS, every node that mDNS finds.

    What several nodes know is put together: the newest figure of each node wins. Where the output
    is no terminal it is one line every few seconds. Keys: q quits, ? explains. Nodes of a run with
    a key tell only who has it.
    """
    credentials = observer(**keys)
    asked = [_asked(address, credentials) for address in addresses]
    is_screen = not (once or as_json) and _is_terminal()
    if is_screen and find_spec("textual") is None:
        raise ConfigError(
            "the screen needs textual, which is not installed; pip install 'p2pfl-node[watch]', "
            "or give --once"
        )
    found = [] if asked else _seen(run, interfaces, credentials, must=once or as_json)
    if run is None and found and credentials is None:
        run = found[0].run
    if once or as_json:
        _show_once(asked, found, run, credentials, as_json=as_json)
        return

    from p2pfl.cli.watching.memory import Memory

    memory = Memory(run)
    try:
        if is_screen:
            asyncio.run(_screened(_source(asked, found, run, interfaces, credentials), memory))
        else:
            asyncio.run(
                _lined(_source(asked, found, run, interfaces, credentials), memory, every_s)
            )
    except KeyboardInterrupt:
        # that is how it ends
        sys.exit(0)


def _is_terminal() -> bool:
    is_dumb = os.environ.get("TERM", "dumb") == "dumb" and os.name == "posix"
    return sys.stdout.isatty() and sys.stdin.isatty() and not is_dumb


# --- which nodes --------------------------------------------------------------------------------


def _asked(address: str, credentials: Credentials | None) -> str:
    """`host:port` of an address, however it was written.

    Raises:
        ConfigError: it is none, or its scheme is not the one that the nodes speak.
    """
    from p2pfl.cli.lookup import address_of

    found = address_of(address, credentials)
    if found is None:
        raise ConfigError(
            f"'{address}' is no address of a node; expected HOST:PORT as `p2pfl node` prints"
        )
    return found


def _seen(
    run: str | None,
    interfaces: Sequence[str],
    credentials: Credentials | None,
    *,
    must: bool,
) -> list[Sighting]:
    """What mDNS sees now, of one run.

    Args:
        must: that there is none is an error.

    Raises:
        NetworkError: there is none, or there are several runs to choose from.
    """
    from p2pfl.cli.lookup import fits, none_fits, sighted

    seen = asyncio.run(sighted(interfaces))
    ours = [one for one in seen if fits(one, run, credentials)]
    runs = sorted({one.run for one in ours if one.run})
    if len(runs) > 1:
        names = ", ".join(f"'{name}'" for name in runs)
        raise NetworkError(f"nodes of {len(runs)} runs were seen: {names}; choose one with --run")
    # where all are of runs with a key, none that comes will be shown without it
    if not ours and (must or (seen and run is None and credentials is None)):
        raise none_fits(seen, run, credentials)
    return ours


def _source(
    asked: Sequence[str],
    found: Sequence[Sighting],
    run: str | None,
    interfaces: Sequence[str],
    credentials: Credentials | None,
) -> Nodes:
    from p2pfl.cli.lookup import fits
    from p2pfl.cli.watching.source import Nodes
    from p2pfl.edge.mdns import Mdns

    return Nodes(
        asked,
        found=found,
        search=None if asked else lambda: Mdns(None, interfaces=interfaces).events(),
        fits=lambda seen: fits(seen, run, credentials),
        credentials=credentials,
    )


# --- three ways to show them --------------------------------------------------------------------


def _show_once(
    asked: Sequence[str],
    found: Sequence[Sighting],
    run: str | None,
    credentials: Credentials | None,
    *,
    as_json: bool,
) -> None:
    """Print what the nodes tell now.

    Raises:
        NetworkError: none tells anything.
    """
    from p2pfl.cli.watching.memory import Memory
    from p2pfl.cli.watching.plain import jsonable, table
    from p2pfl.cli.watching.source import Tie, ask_once

    places: list[tuple[str, Sequence[str]]] = [(address, (address,)) for address in asked]
    places += [(seen.node or seen.addresses[0], seen.addresses) for seen in found]
    memory = Memory(run)
    for news in asyncio.run(ask_once(places, credentials)):
        memory.take(news)
    merged = memory.merged(time.time())
    silent = [one for one in merged.watched if one.tie is not Tie.LIVE]
    if len(silent) == len(merged.watched):
        raise NetworkError(
            "; ".join(f"{one.address} shows nothing: {one.why}" for one in silent[:3])
        )
    if as_json:
        say(json.dumps(jsonable(merged)))
    else:
        say(table(merged))


async def _lined(source: Source, memory: Memory, every_s: float) -> None:
    """A line for what happens, and one every few seconds, until whoever reads is gone."""
    from p2pfl.cli.watching.plain import line
    from p2pfl.cli.watching.wording import clock, entry

    told_until = time.time()

    def tell(found: Merged) -> None:
        nonlocal told_until
        for one in reversed(found.timeline):
            if one.at > told_until:
                click.echo(f"{clock(one.at)}  {entry(found, one)}")
                told_until = one.at
        click.echo(line(found))

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(source.follow(memory.take), name="watch")
            await asyncio.sleep(min(_FIRST_S, every_s))
            while True:
                tell(memory.merged(time.time()))
                await asyncio.sleep(every_s)
    except* BrokenPipeError:
        # as with `| head`: nobody reads on; what Python would still flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _screened(source: Source, memory: Memory) -> None:
    """The screen, until somebody quits; a signal ends it in order too."""
    from p2pfl.cli.watching.screen import Kept, WatchApp

    app = WatchApp(source, memory)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, app.exit)
    root, kept = logging.getLogger(), Kept(app)
    handlers = root.handlers[:]
    root.handlers[:] = [kept]
    try:
        await app.run_async()
    finally:
        root.handlers[:] = handlers
        for record in kept.lines:
            root.handle(record)
    if app.return_code:
        sys.exit(app.return_code)
