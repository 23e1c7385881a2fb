"""`p2pfl peers`, `status` and `doctor`: looking, without taking part."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import click

import p2pfl
from p2pfl.cli.completion import runs, tasks
from p2pfl.cli.keys import KEY_FIX, looking, observer
from p2pfl.cli.lookup import fits, none_fits, sighted, unreachable
from p2pfl.cli.options import FloatRange
from p2pfl.cli.saying import say
from p2pfl.core import wire
from p2pfl.edge.announcement import compatible, is_keyed, tagged
from p2pfl.edge.mdns import browse
from p2pfl.edge.static import join, parse
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Sighting

if TYPE_CHECKING:
    from p2pfl.edge.credentials import Credentials

_INTERFACE = click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NAME",
    help="Interface or address to look at (repeatable); all real ones if not given.",
)
_RUN = click.option(
    "--run", metavar="NAME", shell_complete=runs, help="Say whether they fit this run."
)
_TASK = click.option(
    "--task", metavar="TASK", shell_complete=tasks, help="Say whether they fit this task's model."
)
_F = TypeVar("_F", bound=Callable[..., Any])
_STATUS_TIMEOUT_S = 5.0
_SHOWN = 5


def _seconds(least: float, *, default: float) -> Callable[[_F], _F]:
    return click.option(
        "--seconds",
        metavar="SECONDS",
        type=FloatRange(least, 60),
        default=default,
        show_default=True,
        help="How long to listen for nodes.",
    )


def _layout(task: str | None, run: str | None) -> str | None:
    if task is None:
        return None
    from p2pfl.learning.task import build_learner, find_task

    return build_learner(find_task(task), run=run or "default", seed=0).layout.digest


@click.command(
    epilog="\b\nExamples:\n  p2pfl peers --run kitchen --task digits\n"
    "  p2pfl peers --key-file run.key"
)
@_RUN
@_TASK
@_INTERFACE
@looking
@_seconds(0.2, default=2.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def peers(
    run: str | None,
    task: str | None,
    interfaces: tuple[str, ...],
    seconds: float,
    as_json: bool,
    **keys: str | None,
) -> None:
    """List the nodes that mDNS sees on this LAN now, and whether they fit.

    A run with a key does not tell its name here: with a key, nodes fit whose run has the same.
    """
    layout = _layout(task, run)
    credentials = observer(**keys)
    run = run if credentials is None else tagged(credentials.tag)
    seen = asyncio.run(browse(seconds, interfaces))
    rows = [_peer(sighting, run, layout) for sighting in seen]
    if as_json:
        say(json.dumps(rows))
    elif rows:
        say(_table(rows))
    else:
        say(
            f"no node was seen within {seconds:g} s; is one running on this network? "
            "`p2pfl doctor` finds out what is in the way"
        )


def _peer(seen: Sighting, run: str | None, layout: str | None) -> dict[str, str]:
    why_not = compatible(seen, run, layout, str(wire.VERSION))
    if why_not is None and run is None and is_keyed(seen.run):
        why_not = "its run has a key; give it with --key-file, in a strict run with --cert"
    return {
        "name": seen.name or "?",
        "node": (seen.node or "?")[:8],
        "address": seen.addresses[0] if seen.addresses else "?",
        "run": seen.run or "?",
        "model": seen.layout or "?",
        "protocol": seen.version or "?",
        "compatible": "yes" if why_not is None else f"no: {why_not}",
    }


@click.command(
    epilog="\b\nExamples:\n  p2pfl status\n  p2pfl status http://192.168.1.5:4000\n"
    "  p2pfl status --json | jq .accuracy\n  p2pfl status --key-file run.key"
)
@click.argument("url", required=False)
@_INTERFACE
@looking
@click.option("--json", "as_json", is_flag=True, help="Print the raw JSON, one line for each node.")
def status(url: str | None, interfaces: tuple[str, ...], as_json: bool, **keys: str | None) -> None:
    """Show what one node is doing; without URL, every node that mDNS finds.

    Nodes of a run with a key tell only who has it.
    """
    answers = asyncio.run(_statuses(url, interfaces, observer(**keys)))
    silent = [answer for answer in answers if isinstance(answer, NetworkError)]
    if len(silent) == len(answers):
        raise silent[0]
    for answer in answers:
        if isinstance(answer, NetworkError):
            # mDNS remembers for minutes who died without a goodbye
            click.echo(f"p2pfl: {answer}", err=True)
        else:
            say(json.dumps(answer) if as_json else readable(answer))


async def _statuses(
    url: str | None, interfaces: Sequence[str], credentials: Credentials | None
) -> list[dict[str, Any] | NetworkError]:
    from p2pfl.edge.probes import session

    addresses = [_address(url, credentials)] if url else await _found(interfaces, credentials)
    async with session(credentials, _STATUS_TIMEOUT_S) as asker:
        return await asyncio.gather(*(_status(asker, a, credentials) for a in addresses))


def _address(url: str, credentials: Credentials | None) -> str:
    scheme, colons, rest = url.partition("://")
    spoken = "http" if credentials is None else "https"
    if colons and (scheme, spoken) == ("https", "http"):
        raise ConfigError(f"'{url}': nodes speak https in a run with a key; give it too: {KEY_FIX}")
    if colons and scheme not in (spoken, "http"):
        raise ConfigError(f"'{url}': nodes speak {spoken}, not {scheme}; try {spoken}://{rest}")
    address = (rest if colons else url).partition("/")[0]
    if not address.rpartition(":")[2].isdigit():
        raise ConfigError(
            f"'{url}' has no port; expected {spoken}://HOST:PORT as `p2pfl node` prints"
        )
    try:
        return join(*parse(address))
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("peer ")) from None


async def _found(interfaces: Sequence[str], credentials: Credentials | None) -> list[str]:
    seen = await sighted(interfaces)
    ours = [each for each in seen if fits(each, None, credentials)]
    if not ours:
        raise none_fits(seen, None, credentials)
    return [sighting.addresses[0] for sighting in ours]


async def _status(
    asker: aiohttp.ClientSession, address: str, credentials: Credentials | None
) -> dict[str, Any] | NetworkError:
    from p2pfl.edge.listening import refused_by_them
    from p2pfl.edge.probes import url

    try:
        async with asker.get(url(address, credentials)) as response:
            if response.status != 200:
                said = (await response.text())[:200].strip()
                return NetworkError(f"{address} answers {response.status}: {_printable(said)}")
            found = await response.json()
    except aiohttp.ClientConnectorError as error:
        refusal = refused_by_them(error)
        if refusal is not None:
            return NetworkError(f"{address} does not answer us: {refusal}")
        return NetworkError(
            f"{address} does not answer as a node: {unreachable(error)}; start one, or give the "
            "address that it prints"
        )
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
        return NetworkError(f"{address} does not answer as a node: {reason}")
    if not isinstance(found, dict) or "node" not in found:
        return NetworkError(f"{address} answers, but is no p2pfl node")
    return found


def readable(found: Mapping[str, Any]) -> str:
    """One node's status as aligned lines.

    Raises:
        NetworkError: it is not as this version knows it.
    """
    try:
        return _readable(_printable(found))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise NetworkError(
            f"its status is not as this version ({p2pfl.__version__}) knows it "
            f"({type(error).__name__}: {error}); --json prints it as it is"
        ) from None


def _printable(value: Any) -> Any:
    """The same without what could play tricks on a terminal: others chose these texts."""
    if isinstance(value, str):
        return "".join(char if char.isprintable() else "?" for char in value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _readable(found: Mapping[str, Any]) -> str:
    from p2pfl.edge.nodekey import grouped

    asked, answered = found["exchanges"]["asked"], found["exchanges"]["answered"]
    accuracy = "" if found["accuracy"] is None else f"accuracy {found['accuracy']:.3f}, "
    loss = "not trained yet" if found["loss"] is None else f"loss {found['loss']:.4g}"
    lines = {
        "node": f"{found['name']} ({found['node'][:8]}), run '{found['run']}', p2pfl "
        f"{found['version']}, up {found['uptime_s']:.0f} s, start {found['incarnation']}",
        "id": grouped(found["node"]),
        "trust": ("only members, over TLS" if found["is_keyed"] else "open: anybody may join")
        + f"; {found['trust']}",
        "model": f"{found['parameters']:,} weights, layout {found['layout']}, age {found['age']}",
        "training": f"{found['state']}: {accuracy}{loss}, cycle {found['cycles']} "
        f"({found['cycle_steps']} steps, {found['cycle_s']:.2f} s)",
        "exchanges": f"asked {_counts(asked)}; answered {_counts(answered)}; "
        f"staleness {found['staleness_cycles']:.2f} cycles",
        "traffic": f"{_bytes(found['bytes_in'])} in, {_bytes(found['bytes_out'])} out",
    }
    text = [f"{key:<10} {value}" for key, value in lines.items()]
    text += [f"{'holding':<10} {sentence}" for sentence in found.get("holding", ())]
    if found.get("energy_j") is not None:
        text.append(f"{'energy':<10} {found['energy_j']:,.0f} J by this whole machine")
    members = [
        {
            "member": f"{member.get('name') or '?'} ({member['node'][:8]})",
            "address": (member["addresses"] or ["?"])[0],
            "status": member["status"],
            "own steps": f"{member['own_steps']:,}",
            "heard": f"{member['heard_ago_s']:.1f} s ago",
            "neighbour": "yes" if member["node"] in found["neighbours"] else "",
        }
        for member in found["members"]
    ]
    if members:
        text += ["", _table(members)]
    others = list(found["others"].items())
    text += [f"left out   {address}: {why}" for address, why in others[-_SHOWN:]]
    if len(others) > _SHOWN:
        text.append(f"left out   and {len(others) - _SHOWN} more; --json lists all")
    for peer, reasons in found["refusals"].items():
        text.append(f"faults of  {peer[:40]}: {_counts(reasons)}")
    for peer, reasons in found["suspended"].items():
        text.append(f"suspended  {peer[:40]}: {_counts(reasons)}")
    text += [f"denied     {grouped(node)}" for node in found["denied"]]
    if found["faults"]:
        text.append(f"own faults {_counts(found['faults'])}")
    return "\n".join(text) + "\n"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _table(rows: Iterable[Mapping[str, str]]) -> str:
    rows = list(rows)
    heads = list(rows[0])
    cells = [heads, *([row[head] for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


@click.command(
    epilog="\b\nExample, on each of two devices that do not see each other:\n"
    "  p2pfl doctor --run kitchen"
)
@_RUN
@_TASK
@_INTERFACE
@looking
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(1, 65_535),
    help="Port of the node on this device.",
)
@_seconds(0.5, default=3.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list of findings.")
def doctor(
    run: str | None,
    task: str | None,
    interfaces: tuple[str, ...],
    port: int | None,
    seconds: float,
    as_json: bool,
    **keys: str | None,
) -> None:
    """Explain why two nodes do not see each other, and what to do about it.

    Looks at interfaces, multicast, mDNS, ports, the nodes nearby and, with a key, at the clocks
    that certificates depend on. Exit code 1 if anything is wrong.
    """
    from p2pfl.edge.doctor import diagnose, exit_code, render

    findings = asyncio.run(
        diagnose(
            interfaces=interfaces,
            port=port,
            run=run,
            layout=_layout(task, run),
            version=str(wire.VERSION),
            seconds=seconds,
            credentials=observer(**keys),
        )
    )
    if as_json:
        plain = [
            {"topic": f.topic, "verdict": f.verdict, "text": f.text, "fix": f.fix} for f in findings
        ]
        say(json.dumps(plain))
    else:
        say(render(findings))
    sys.exit(exit_code(findings))
