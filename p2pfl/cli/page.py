"""`p2pfl page`: where a running node shows the swarm; of a run with a key, a link that opens it."""

from __future__ import annotations

import asyncio
import json
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import click

from p2pfl.cli.keys import looking, observer
from p2pfl.cli.saying import say
from p2pfl.edge.announcement import is_keyed, tagged
from p2pfl.edge.identity import JOURNAL
from p2pfl.edge.journal import read
from p2pfl.edge.mdns import browse
from p2pfl.edge.page.serving import LINK_PATH
from p2pfl.edge.static import parse
from p2pfl.errors import ConfigError, NetworkError, StateError

if TYPE_CHECKING:
    from p2pfl.edge.credentials import Credentials
    from p2pfl.ports import Sighting

_TIMEOUT_S = 5.0
_BROWSE_S = 2.0
_SAID = 300
_KEY_FIX = "give its key: --key-file FILE, or --cert FILE --state-dir DIR"


@dataclass(frozen=True, slots=True)
class Found:
    """A page.

    Attributes:
        page: what to open; with a key it opens once.
        address: of the node.
        node, name, run: of the node, as it says.
    """

    page: str
    address: str
    node: str
    name: str
    run: str


@click.command(
    epilog="""\b
Examples:
  p2pfl page                                 of every node that mDNS finds
  p2pfl page laptop --open                   of the node with that name, in a browser
  p2pfl page 192.168.1.5:4000
  p2pfl page ~/.local/state/p2pfl/kitchen/laptop --key-file run.key
"""
)
@click.argument("which", metavar="[ADDRESS|STATE_DIR|NAME]", required=False)
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NAME",
    help="Interface or address to look at (repeatable); all real ones if not given.",
)
@looking
@click.option("--open", "opens", is_flag=True, help="Open the first one in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def page(
    which: str | None,
    interfaces: tuple[str, ...],
    opens: bool,
    as_json: bool,
    **keys: str | None,
) -> None:
    """Print where a running node's page is, or a link that opens it.

    Any node shows the whole swarm. In a run with a key the page opens with a link that is good
    once, for ten minutes; only the node's own device gets one, unless the node was started with
    --page for others.
    """
    credentials = observer(**keys)
    given = _given(which, credentials)
    found, failed = asyncio.run(_pages(given, which, interfaces, credentials))
    if not found:
        raise failed[0]
    for error in failed:
        # mDNS remembers for minutes who died without a goodbye
        click.echo(f"p2pfl: {error}", err=True)
    if as_json:
        say(json.dumps([asdict(each) for each in found]))
    else:
        for each in found:
            about = "" if which else f"   {each.name} ({each.node[:8]}), run '{each.run}'"
            say(f"{each.page}{about}")
    if opens and not webbrowser.open(found[0].page):
        click.echo("p2pfl: no browser could be started here; open the address yourself", err=True)


async def _pages(
    address: str | None,
    name: str | None,
    interfaces: Sequence[str],
    credentials: Credentials | None,
) -> tuple[list[Found], list[NetworkError]]:
    """The pages of the nodes that are meant, and why others have none.

    Raises:
        NetworkError: there is no such node.
    """
    from p2pfl.edge.probes import session

    addresses = [address] if address else await _seen(name, interfaces, credentials)
    async with session(credentials, _TIMEOUT_S) as asker, asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_page(asker, each, credentials)) for each in addresses]
    answers = [each.result() for each in asked]
    found = [answer for answer in answers if isinstance(answer, Found)]
    return found, [answer for answer in answers if isinstance(answer, NetworkError)]


def _given(which: str | None, credentials: Credentials | None) -> str | None:
    """The address that was given, itself or as a state directory; None for a name, or nothing.

    Raises:
        ConfigError: it can be neither of them.
        StateError: no node was ever started in that directory.
    """
    if which is None:
        return None
    directory = Path(which).expanduser()
    if directory.is_dir():
        return _address_in(directory)
    scheme, colons, rest = which.partition("://")
    spoken = "http" if credentials is None else "https"
    if colons and scheme == "https" != spoken:
        raise ConfigError(f"'{which}': a node that speaks https is in a run with a key; {_KEY_FIX}")
    address = (rest if colons else which).partition("/")[0]
    try:
        parse(address)
    except ConfigError:
        if "/" in which:
            raise ConfigError(
                f"'{which}' is neither a directory nor an address; expected HOST:PORT, the state "
                "directory of a node, or a node's name"
            ) from None
        return None
    return address


def _address_in(state_dir: Path) -> str:
    """Where the node whose state directory this is has served last.

    Raises:
        StateError: it was never started, or its journal cannot be read.
    """
    journal = state_dir / JOURNAL
    started = read(journal, "started") if journal.is_file() else []
    if not started:
        raise StateError(
            f"{state_dir} is not the state directory of a node that was started; `p2pfl node` "
            "prints its own"
        )
    host, port = parse(started[-1]["address"])
    return f"127.0.0.1:{port}" if host in ("::", "0.0.0.0") else started[-1]["address"]  # noqa: S104


async def _seen(
    name: str | None, interfaces: Sequence[str], credentials: Credentials | None
) -> list[str]:
    """The nodes that mDNS finds, of our run if it has a key, with that name if one was given.

    Raises:
        NetworkError: there is none.
    """
    seen = [each for each in await browse(_BROWSE_S, interfaces) if each.addresses]
    if not seen:
        raise NetworkError(
            "no node was seen; start one with `p2pfl node TASK`, or give the address that it "
            "prints (p2pfl page HOST:PORT), or its state directory"
        )
    if name is not None:
        named = [each for each in seen if name in (each.name, each.node, (each.node or "")[:8])]
        if not named:
            raise NetworkError(
                f"no node '{name}' was seen, but {', '.join(sorted(map(_called, seen)))}; give one "
                "of these, an address HOST:PORT, or a state directory"
            )
        seen = named
    run = None if credentials is None else tagged(credentials.tag)
    ours = [each for each in seen if (each.run == run if run else not is_keyed(each.run))]
    if not ours:
        runs = ", ".join(sorted({each.run for each in seen if each.run}))
        fix = _KEY_FIX if run is None else "`p2pfl run-key show` tells whether two keys are equal"
        raise NetworkError(f"only nodes of other runs were seen ({runs}); {fix}")
    return [each.addresses[0] for each in ours]


def _called(seen: Sighting) -> str:
    return seen.name or (seen.node or "?")[:8]


async def _page(
    asker: aiohttp.ClientSession, address: str, credentials: Credentials | None
) -> Found | NetworkError:
    """Ask one node for its page."""
    from p2pfl.edge.listening import refused_by_them

    scheme = "http" if credentials is None else "https"
    base = f"{scheme}://{address}"
    try:
        status = await _json(asker, "GET", f"{base}/v1/status")
        if not isinstance(status.get("node"), str):
            return NetworkError(f"{address} answers, but is no p2pfl node")
        if credentials is None:
            async with asker.get(f"{base}/", allow_redirects=False) as response:
                if response.status != 200:
                    return NetworkError(f"{address} has no page: start that node without --no-page")
            where = f"{base}/"
        else:
            where = str((await _json(asker, "POST", f"{base}{LINK_PATH}"))["page"])
            if not where.startswith("http://"):
                return NetworkError(f"{address} gives '{_printable(where[:80])}' as its page")
    except NetworkError as error:
        return NetworkError(f"{address} {error}")
    except aiohttp.ClientConnectorError as error:
        refusal = refused_by_them(error)
        if refusal is not None:
            return NetworkError(f"{address} does not answer us: {refusal}")
        is_refusal = isinstance(error.os_error, ConnectionRefusedError)
        reason = str(error.os_error.strerror or error.os_error).partition(" (")[0].lower()
        return NetworkError(
            f"{address} does not answer: {'nothing runs there' if is_refusal else reason}; start "
            "the node with `p2pfl node`, or give the address that it prints"
        )
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        return NetworkError(f"{address} does not answer as a node: {error or type(error).__name__}")
    return Found(
        _printable(where),
        address,
        _printable(status["node"]),
        _printable(str(status.get("name"))),
        _printable(str(status.get("run"))),
    )


async def _json(asker: aiohttp.ClientSession, method: str, url: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        NetworkError: what was answered instead, to be read after the address.
        ValueError: it is no object.
    """
    async with asker.request(method, url, allow_redirects=False) as response:
        if response.status != 200:
            said = _printable((await response.content.read(_SAID)).decode(errors="replace").strip())
            if "run with a key" in said:
                raise NetworkError(f"is in a run with a key; {_KEY_FIX}")
            raise NetworkError(f"answers {response.status}: {said}")
        found = await response.json()
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _printable(text: str) -> str:
    """Without what could play tricks on a terminal: others chose these texts."""
    return "".join(char if char.isprintable() else "?" for char in text)
