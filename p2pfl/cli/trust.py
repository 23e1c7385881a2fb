"""`p2pfl id`, `admit`, `deny` and `evidence`: who a node is, and who decides about it.

Rule of the file: what concerns a node names it in groups of four digits, so that two people can
compare them; nothing here talks to a network.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli.completion import labels, runs, state_dirs
from p2pfl.cli.options import FloatRange
from p2pfl.cli.saying import say
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from p2pfl.edge.runkey import RunKey

_OUT = click.Path(dir_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_ADMISSION_KEY = click.option(
    "--key-file", required=True, metavar="FILE", help="admission.key of `p2pfl run-key split`."
)
_RUN = click.option(
    "--run",
    default="default",
    show_default=True,
    metavar="NAME",
    shell_complete=runs,
    help="Its run.",
)
_NAME = click.option(
    "--name",
    metavar="TEXT",
    shell_complete=labels,
    help="Its name. Default: this device's host name.",
)
_STATE_DIR = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    shell_complete=state_dirs,
    help="Where its state lives.",
)


@click.command(
    "id",
    epilog="""\b
Examples:
  p2pfl id --run kitchen
  p2pfl id --state-dir runs/demo/node-1 --json
""",
)
@_RUN
@_NAME
@_STATE_DIR
@_JSON
def identify(run: str, name: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Show this node's id, and the request that `p2pfl admit` makes a certificate of.

    Options as you give them to `p2pfl node`. A node that never ran gets its key now.
    """
    from p2pfl.edge.identity import node_key
    from p2pfl.edge.nodekey import grouped

    path = _state(run, name, state_dir)
    key = node_key(path, run=run)
    if as_json:
        say(json.dumps({"node": key.node, "request": key.request, "state_dir": str(path)}))
        return
    say(f"node     {grouped(key.node)}\nstate    {path}\nrequest  {key.request}")


@click.command(
    epilog="""\b
Examples:
  p2pfl admit p2pfl-join-... --key-file admission.key --out laptop.crt
  p2pfl admit p2pfl-join-... --key-file admission.key --days 365
"""
)
@click.argument("request")
@_ADMISSION_KEY
@click.option(
    "--days",
    metavar="DAYS",
    type=FloatRange(0, 3650, min_open=True),
    default=30.0,
    show_default=True,
    help="How long it is valid.",
)
@click.option("--out", type=_OUT, help="Default: the id's first digits, and .crt.")
@_JSON
def admit(request: str, key_file: str, days: float, out: Path | None, as_json: bool) -> None:
    """Make a certificate for the node whose REQUEST `p2pfl id` printed.

    Compare the id that is shown with the one on that device. An earlier certificate of the same
    node is replaced; a running node picks the new one up.
    """
    from p2pfl.edge import certificates
    from p2pfl.edge.durable import replacement
    from p2pfl.edge.nodekey import fingerprint, grouped, parse_request

    public = parse_request(request)
    key, node, now = _admission_key(key_file), fingerprint(public), time.time()
    out = out or Path(f"{node[:8]}.crt")
    _check_replaceable(out, node)
    until = now + days * 86_400
    leaf = certificates.leaf_certificate(key.authority, public, now - certificates.BACK_S, until)
    made = certificates.chain(leaf, certificates.authority_certificate(key.authority))
    try:
        with replacement(out) as file:
            file.write(made.pem)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}; give another --out") from None
    if as_json:
        about = {"node": node, "file": str(out), "until": round(made.until), "tag": made.tag}
        say(json.dumps(about))
        return
    say(
        f"node {grouped(node)}   compare with `p2pfl id` there\n"
        f"wrote {out}, valid until {_day(made.until)}; carry it there:\n"
        f"  p2pfl node TASK --cert {out.name}"
    )


@click.command(
    epilog="""\b
Examples:
  p2pfl deny 3f2a91c05be17d440a96c1f328ee6b02 --key-file admission.key
  p2pfl node digits --run kitchen --cert me.crt --deny-list denied.jsonl
"""
)
@click.argument("node_id")
@_ADMISSION_KEY
@click.option(
    "--out",
    type=_OUT,
    default="denied.jsonl",
    show_default=True,
    help="Deny list that it is appended to.",
)
@_JSON
def deny(node_id: str, key_file: str, out: Path, as_json: bool) -> None:
    """Sign that the node NODE_ID may not take part any more, and append it to a deny list.

    One running node with that list suffices: it tells the others, who check the signature. A
    denied node that is admitted again needs a new key.
    """
    from p2pfl.edge import denials
    from p2pfl.edge.nodekey import grouped, parse_node

    node, key = parse_node(node_id), _admission_key(key_file)
    found = denials.read(out) if out.exists() else {}
    found[node] = denials.signed(key, node, int(time.time()))
    try:
        denials.write(out, found)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}; give another --out") from None
    if as_json:
        say(json.dumps({"node": node, "file": str(out), "denied": len(found)}))
        return
    say(
        f"denied {grouped(node)}\n"
        f"wrote {out} ({len(found)} in all); any node of the run spreads it:\n"
        f"  p2pfl node TASK --cert ... --deny-list {out}"
    )


@click.command(
    epilog="""\b
Examples:
  p2pfl evidence --run kitchen
  p2pfl evidence ~/.local/state/p2pfl/kitchen/laptop --json
  p2pfl evidence 3f2a91c05be17d440a96c1f328ee6b02-4-117.json
"""
)
@click.argument("path", required=False, type=click.Path(path_type=Path), shell_complete=state_dirs)
@_RUN
@_NAME
@_STATE_DIR
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_context
def evidence(
    ctx: click.Context,
    path: Path | None,
    run: str,
    name: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Show who was caught signing two models for one exchange, and verify it.

    PATH is a state directory or one file of evidence, which proves itself to anybody; without it,
    options as you give them to `p2pfl node`. Exit code 1 if a file proves nothing.
    """
    from p2pfl.edge.evidence import cases

    if path is not None and state_dir is not None:
        raise ConfigError("PATH and --state-dir are the same thing twice; give one of them")
    rows = [_verdict(file) for file in cases(path or _state(run, name, state_dir))]
    if as_json:
        say(json.dumps(rows))
    else:
        for row in rows:
            say(row["text"] if "error" not in row else f"proves nothing: {row['error']}")
        if not rows:
            say("nobody was caught")
    ctx.exit(int(any("error" in row for row in rows)))


def _verdict(file: Path) -> dict[str, Any]:
    from p2pfl.edge.evidence import verified
    from p2pfl.edge.nodekey import grouped

    try:
        case = verified(file)
    except ConfigError as error:
        return {"file": str(file), "error": str(error)}
    first, second = case.evidence.first, case.evidence.second
    said = [f"age {one.age}, model {one.digest.hex()[:16]}" for one in (first, second)]
    return {
        "file": str(file),
        "node": first.node,
        "run": case.run,
        "incarnation": first.incarnation,
        "seq": first.seq,
        "text": f"{grouped(first.node)} signed, in run '{case.run}', for exchange {first.seq} of "
        f"start {first.incarnation}:\n  {said[0]}\n  {said[1]}\n  verified: {file}",
    }


def _state(run: str, name: str | None, state_dir: Path | None) -> Path:
    """As for `p2pfl node` with the same options.

    Raises:
        ConfigError: a name is empty, which no node would take.
    """
    from p2pfl.edge.identity import default_path

    for option, text in (("--run", run), ("--name", name)):
        if text == "":
            raise ConfigError(f"{option} is empty; give the one that `p2pfl node` gets")
    return state_dir or default_path(run, name or socket.gethostname()[:64] or "node")


def _admission_key(key_file: str) -> RunKey:
    from p2pfl.edge import keytext
    from p2pfl.edge.runkey import RunKey

    return RunKey.load(Path(key_file), keytext.ADMISSION)


def _check_replaceable(path: Path, node: str) -> None:
    """Only an earlier certificate of the same node is written over.

    Raises:
        ConfigError: it is anything else.
    """
    from p2pfl.edge.certfiles import read_chain

    if not path.exists():
        return
    try:
        whose = read_chain(path).node
    except ConfigError:
        whose = "no certificate"
    if whose != node:
        raise ConfigError(f"{path} exists and is of another ({whose}); give another --out")


def _day(wall: float) -> str:
    from p2pfl.edge.certfiles import said

    return said(wall)
