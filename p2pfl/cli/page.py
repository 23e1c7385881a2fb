"""`p2pfl page`: where a running node shows the swarm; of a run with a key, a link that opens it."""

from __future__ import annotations

import asyncio
import json
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import click

from p2pfl.cli.keys import KEY_FIX, looking, observer
from p2pfl.cli.lookup import address_of, fits, none_fits, sighted, unreachable
from p2pfl.cli.saying import say
from p2pfl.edge.identity import JOURNAL
from p2pfl.edge.journal import read
from p2pfl.edge.listening import refused_by_them
from p2pfl.edge.page.scraping import SCRAPE_FILE
from p2pfl.edge.page.serving import LINK_PATH
from p2pfl.edge.probes import bounded, session
from p2pfl.edge.static import parse
from p2pfl.errors import ConfigError, NetworkError, StateError

if TYPE_CHECKING:
    from p2pfl.edge.credentials import Credentials
    from p2pfl.ports import Sighting

_TIMEOUT_S = 5.0
_SAID = 300


@dataclass(frozen=True, slots=True)
class Found:
    """A page.

    Attributes:
        page: what to open; with a key it opens once.
        address: of the node.
        node, name, run: of the node, as it says.
        port_changes: the page of a run with a key has another port at each start of the node.
    """

    page: str
    address: str
    node: str
    name: str
    run: str
    port_changes: bool = False


@click.command(
    epilog="""\b
Examples:
  p2pfl page                                 of every node that mDNS finds
  p2pfl page laptop --open                   of the node with that name, in a browser
  p2pfl page 192.168.1.5:4000
  p2pfl page ~/.local/state/p2pfl/kitchen/laptop --key-file run.key
  p2pfl page laptop --prometheus             what Prometheus needs to know
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
@click.option(
    "--prometheus",
    "scrapes",
    is_flag=True,
    help="Print scrape_configs for Prometheus instead; in a run with a key, give a STATE_DIR.",
)
def page(
    which: str | None,
    interfaces: tuple[str, ...],
    opens: bool,
    as_json: bool,
    scrapes: bool,
    **keys: str | None,
) -> None:
    """Print where a running node's page is, or a link that opens it.

    Any node shows the whole swarm. In a run with a key the page opens with a link that is good
    once, for ten minutes; only the node's own device gets one, unless the node was started with
    --page for others.
    """
    if scrapes and (opens or as_json):
        raise ConfigError("--prometheus excludes --open and --json; give one of them")
    credentials = observer(**keys)
    token = _token(which) if scrapes and credentials is not None else None
    given = _given(which, credentials)
    asked = _pages(given, which, interfaces, credentials, is_page_needed=not scrapes)
    found, failed = asyncio.run(asked)
    if not found:
        raise failed[0]
    for error in failed:
        # mDNS remembers for minutes who died without a goodbye
        click.echo(f"p2pfl: {error}", err=True)
    if scrapes:
        say(_scrape_configs(found, token))
    elif as_json:
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
    *,
    is_page_needed: bool,
) -> tuple[list[Found], list[NetworkError]]:
    """The pages of the nodes that are meant, and why others have none.

    Raises:
        NetworkError: there is no such node.
    """
    addresses = [address] if address else await _seen(name, interfaces, credentials)
    async with session(credentials, _TIMEOUT_S) as asker, asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(_page(asker, each, credentials, is_page_needed=is_page_needed))
            for each in addresses
        ]
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
    directory = _directory(which)
    if directory is not None:
        return _address_in(directory)
    address = address_of(which, credentials)
    if address is None and "/" in which:
        raise ConfigError(
            f"'{which}' is neither a directory nor an address; expected HOST:PORT, the state "
            "directory of a node, or a node's name"
        )
    return address


def _token(which: str | None) -> Path:
    """The file with which Prometheus reads a node of a run with a key.

    Raises:
        ConfigError: its state directory was not given.
        StateError: there is none.
    """
    directory = _directory(which) if which else None
    if directory is None:
        raise ConfigError(
            "--prometheus in a run with a key needs the token in the state directory of a node of "
            "this device; give that directory, which `p2pfl node` prints"
        )
    file = directory.resolve() / SCRAPE_FILE
    if not file.is_file():
        raise StateError(
            f"{file} is missing: a node of a run with a key writes it when it starts with a page; "
            "start it again, without --no-page"
        )
    return file


def _scrape_configs(found: Sequence[Found], token: Path | None) -> str:
    """The part of prometheus.yml that reads these nodes; JSON's strings are YAML's too."""
    targets = ", ".join(_quoted(urlsplit(each.page).netloc) for each in found)
    job = "p2pfl" if token is None else f"p2pfl {found[0].run} {found[0].name}"
    lines = [
        "scrape_configs:",
        f"  - job_name: {_quoted(job)}",
        "    scrape_interval: 5s",
    ]
    if token is not None:
        lines += [
            "    authorization:",
            "      # for its owner alone: Prometheus must run as that user, or get a copy",
            f"      credentials_file: {_quoted(str(token))}",
        ]
    lines.append("    static_configs:")
    if any(each.port_changes for each in found):
        lines.append(
            "      # the port is another at each start; `p2pfl node --page HOST:PORT` keeps it"
        )
    elif token is None:
        lines.append("      # the port stays where it can; `p2pfl node --port PORT` makes it sure")
    return "\n".join([*lines, f"      - targets: [{targets}]"])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _directory(text: str) -> Path | None:
    """The directory of that name; None if there is none, or could not be any."""
    try:
        found = Path(text).expanduser()
        return found if found.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        # longer than any name, or of a user that is not there
        return None


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
    seen = await sighted(interfaces)
    if seen and name is not None:
        named = [each for each in seen if name in (each.name, each.node, (each.node or "")[:8])]
        if not named:
            raise NetworkError(
                f"no node '{name}' was seen, but {', '.join(sorted(map(_called, seen)))}; give one "
                "of these, an address HOST:PORT, or a state directory"
            )
        seen = named
    ours = [each for each in seen if fits(each, None, credentials)]
    if not ours:
        raise none_fits(seen, None, credentials)
    return [each.addresses[0] for each in ours]


def _called(seen: Sighting) -> str:
    return seen.name or (seen.node or "?")[:8]


async def _page(
    asker: aiohttp.ClientSession,
    address: str,
    credentials: Credentials | None,
    *,
    is_page_needed: bool,
) -> Found | NetworkError:
    """Ask one node for its page; of an open run, `/metrics` is there without one too."""
    scheme = "http" if credentials is None else "https"
    base = f"{scheme}://{address}"
    try:
        status = await _json(asker, "GET", f"{base}/v1/status")
        if not isinstance(status.get("node"), str):
            return NetworkError(f"{address} answers, but is no p2pfl node")
        if credentials is None:
            async with asker.get(f"{base}/", allow_redirects=False) as response:
                if is_page_needed and response.status != 200:
                    return NetworkError(f"{address} has no page: start that node without --no-page")
            where, port_changes = f"{base}/", False
        else:
            link = await _json(asker, "POST", f"{base}{LINK_PATH}")
            where, port_changes = str(link["page"]), link.get("port_changes") is True
            if not where.startswith("http://"):
                return NetworkError(f"{address} gives '{_printable(where[:80])}' as its page")
    except NetworkError as error:
        return NetworkError(f"{address} {error}")
    except aiohttp.ClientConnectorError as error:
        if refused_by_them(error) is not None:
            return NetworkError(f"{address} does not answer us: {unreachable(error)}")
        return NetworkError(
            f"{address} does not answer: {unreachable(error)}; start the node with `p2pfl node`, "
            "or give the address that it prints"
        )
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        return NetworkError(f"{address} does not answer as a node: {error or type(error).__name__}")
    return Found(
        _printable(where),
        address,
        _printable(status["node"]),
        _printable(str(status.get("name"))),
        _printable(str(status.get("run"))),
        port_changes,
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
                raise NetworkError(f"is in a run with a key; give its key: {KEY_FIX}")
            raise NetworkError(f"answers {response.status}: {said}")
        found = json.loads(await bounded(response))
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _printable(text: str) -> str:
    """Without what could play tricks on a terminal: others chose these texts."""
    return "".join(char if char.isprintable() else "?" for char in text)
