"""The command line: the composition root, and the only place that configures logging.

Rule of the room: a command imports what it needs when it runs, so that `--help` is instant and a
numpy node never pays for torch. Every error of ours ends as one clear sentence and exit code 2.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

import p2pfl
from p2pfl.cli.saying import Group, say
from p2pfl.errors import P2pflError

_COMMANDS = {
    "demo": ("p2pfl.cli.demo", "See six nodes find each other, train, fail and recover."),
    "node": ("p2pfl.cli.node", "Run one node on this device until stopped."),
    "run-key": ("p2pfl.cli.runkey", "Make the key of a run: who has it, takes part."),
    "id": ("p2pfl.cli.trust:identify", "Show this node's id, and ask for a certificate."),
    "admit": ("p2pfl.cli.trust", "Make a certificate for one node of a strict run."),
    "deny": ("p2pfl.cli.trust", "Tell a strict run that a node may not take part."),
    "evidence": ("p2pfl.cli.trust", "Show, and verify, who was caught signing two models."),
    "init": ("p2pfl.cli.files", "Write a task file to start from."),
    "peers": ("p2pfl.cli.look", "List the nodes that mDNS sees on this LAN now."),
    "status": ("p2pfl.cli.look", "Show what one node is doing."),
    "page": ("p2pfl.cli.page", "Show where a running node's page is, or a link that opens it."),
    "watch": ("p2pfl.cli.watch", "Show the swarm live in the terminal."),
    "doctor": ("p2pfl.cli.look", "Explain why two nodes do not see each other."),
    "run": ("p2pfl.cli.run", "Run a scenario: a swarm in virtual time, or real processes."),
    "sweep": ("p2pfl.cli.sweep", "Run a scenario over a grid of values, with many seeds."),
    "replay": ("p2pfl.cli.run", "Do a virtual run again and say whether it was the same."),
    "record": ("p2pfl.cli.record", "Turn a run that really happened into a scenario."),
    "topology": (
        "p2pfl.cli.topology",
        "Show what a neighbour rule looks like, and how fast it mixes.",
    ),
    "export": ("p2pfl.cli.files", "Save a node's trained model for use elsewhere."),
    "completion": ("p2pfl.cli.completion", "Let the Tab key complete commands, tasks and runs."),
}


class _Lazy(Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        name = name or cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # without importing every command for its help
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = ((name, text) for name, (_, text) in _COMMANDS.items())
        return [
            CompletionItem(name, help=text) for name, text in found if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _version(ctx: click.Context, option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        say(f"p2pfl, version {p2pfl.__version__}")
        ctx.exit()


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `p2pfl demo`, then `p2pfl node digits` on two devices of one network.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
def cli(verbose: int) -> None:
    """Put a node on every device you have; they find each other, train one model together, and
    none of them is in charge."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    if verbose < 2:
        logging.getLogger("asyncio").setLevel(logging.ERROR)


def main(args: list[str] | None = None) -> Any:
    """Entry point of the `p2pfl` command."""
    try:
        return cli.main(args=args, prog_name="p2pfl")
    except P2pflError as error:
        _refuse(error)
    except ExceptionGroup as group:
        ours, others = group.split(P2pflError)
        if ours is None or others is not None:
            raise
        _refuse(_first(ours))


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _refuse(error: BaseException) -> None:
    click.echo(f"p2pfl: {error}", err=True)
    sys.exit(2)
