"""`p2pfl run` and `p2pfl replay`: one scenario, in the simulator or with real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli.completion import scenarios
from p2pfl.cli.options import needs, vacant
from p2pfl.cli.saying import console_on, say
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from p2pfl.scenario.spec import Scenario
    from p2pfl.scenario.trace import Progress, Trace
    from p2pfl.scenario.verdicts import Verdict

SCENARIO = "scenario.json"
"""What a run was, in its folder: enough to do it again."""

_NEEDS = ("rich", "matplotlib", "plotly")
_INTERRUPTED = 130


@click.command(
    epilog="""\b
Examples:
  p2pfl run scenarios/hello-8.toml
  p2pfl run churn-30 --seed 3 --set gossip.codec=int8  by name, of scenarios/
  p2pfl run scenarios/hello-8.toml --engine processes  the same, real nodes
  p2pfl run blackout --json --quiet | jq .ok
"""
)
@click.argument("scenario", shell_complete=scenarios)
@click.option(
    "--engine",
    type=click.Choice(["virtual", "processes"]),
    default="virtual",
    show_default=True,
    help="The simulator, or real node processes on this machine.",
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(0, 2**62), help="Instead of the scenario's own."
)
@click.option(
    "--set", "changes", metavar="KEY=VALUE", multiple=True, help="Change a key; repeatable."
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for all files. Default: runs/NAME-TIME.",
)
@click.option("--no-events", is_flag=True, help="Keep the hash of the events, not the events.")
@click.option("--no-report", is_flag=True, help="Write no report and no picture.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; all else to stderr.")
@click.option("--quiet", is_flag=True, help="Show no progress and no table.")
def run(
    scenario: str,
    engine: str,
    seed: int | None,
    changes: tuple[str, ...],
    out: Path | None,
    no_events: bool,
    no_report: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run one SCENARIO, a .toml file, a .py file, or a name in scenarios/.

    Shows how it stands, then a verdict for each expectation, then where the report is. The exit
    code is 0 only if every expectation held, so a scenario is also a test.
    """
    needs("p2pfl run", *(("rich",) if no_report else _NEEDS))
    from p2pfl.scenario.load import load

    asked = load(scenario, changes, seed)
    folder = vacant(out if out is not None else Path("runs", _unique(asked.name)))
    console = console_on(stderr=as_json)
    command = _command(scenario, engine, asked.seed, changes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _interruptible():
            trace = _played(asked, engine, folder, console, no_events=no_events, quiet=quiet)
        passed = _reported(
            trace,
            folder,
            console,
            command,
            with_report=not no_report,
            as_json=as_json,
            quiet=quiet,
        )
    except ConfigError:
        _tidied(folder)
        raise
    except KeyboardInterrupt:
        click.echo(f"interrupted; what there is lies in {folder}", err=True)
        sys.exit(_INTERRUPTED)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}; give another --out") from None
    sys.exit(0 if passed else 1)


@click.command(
    epilog="""\b
Example:
  p2pfl run scenarios/churn-30.toml --out churn
  p2pfl replay churn
"""
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; all else to stderr.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def replay(folder: Path, as_json: bool, quiet: bool) -> None:
    """Do a virtual run again, event by event, and say whether it was the same.

    FOLDER is where `p2pfl run` left its files. The exit code is 0 only if every event was the same
    as recorded; otherwise the first one that differs is shown.
    """
    needs("p2pfl replay", "rich")
    from p2pfl.scenario import eventlog
    from p2pfl.scenario.progress import showing
    from p2pfl.scenario.virtual import simulate

    asked, then = _recorded(folder)
    path = folder / eventlog.LOG
    recorded = eventlog.read(path) if path.is_file() else None
    console = console_on(stderr=as_json, quiet=quiet)
    difference, events, event_hash = "", None, None
    try:
        with (
            _interruptible(),
            showing(console, f"replay of {asked.name}", quiet=quiet) as show,
            _only_the_events(),
        ):
            trace = simulate(asked, show, recorded=recorded)
        events, event_hash = trace.events, trace.event_hash
        if event_hash != then["event_hash"]:
            difference = f"the hash is {event_hash}, recorded was {then['event_hash']}"
    except eventlog.Diverged as error:
        difference = str(error)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    if difference and (other := _other_versions(then)):
        difference += f"; recorded with {other}"
    same = not difference
    if as_json:
        found = {"same": same, "events": events, "event_hash": event_hash}
        say(json.dumps({**found, "difference": difference or None}))
    elif same:
        how = "event by event" if recorded is not None else "by their hash (no events were kept)"
        say(f"the same: {events:,} events, {how}; hash {event_hash}")
    else:
        say(f"NOT the same: {difference}")
    sys.exit(0 if same else 1)


def _played(
    asked: Scenario, engine: str, folder: Path, console: Console, *, no_events: bool, quiet: bool
) -> Trace:
    from p2pfl.scenario import eventlog
    from p2pfl.scenario.progress import showing

    title = f"{asked.name}, {asked.nodes} nodes, seed {asked.seed}"
    with showing(console, title, quiet=quiet) as show:
        if engine == "virtual":
            from p2pfl.scenario.virtual import simulate

            _note(asked, engine, folder, None)
            events = None if no_events else folder / eventlog.LOG
            with _only_the_events():
                trace = simulate(asked, show, events=events)
        else:
            trace = _with_processes(asked, folder, show)
    _note(asked, engine, folder, trace)
    return trace


@contextmanager
def _only_the_events() -> Iterator[None]:
    """What a simulated node would warn its owner of stands in the event log, a thousand times.

    Real nodes in this process, before and afterwards, warn as ever.
    """
    nodes = logging.getLogger("p2pfl.node")
    before = nodes.level
    if logging.getLogger().level == logging.WARNING:
        nodes.setLevel(logging.ERROR)
    try:
        yield
    finally:
        nodes.setLevel(before)


def _with_processes(asked: Scenario, folder: Path, show: Callable[[Progress], None]) -> Trace:
    from p2pfl.scenario.real import play

    return asyncio.run(play(asked, folder, show))


def _reported(
    trace: Trace,
    folder: Path,
    console: Console,
    command: str,
    *,
    with_report: bool,
    as_json: bool,
    quiet: bool,
) -> bool:
    from p2pfl.scenario.progress import tell
    from p2pfl.scenario.tables import summary
    from p2pfl.scenario.verdicts import judged, passed

    verdicts, files = judged(trace), []
    again = f"p2pfl replay {shlex.quote(str(folder))}" if trace.event_hash else command
    try:
        files = _written(trace, verdicts, folder, command, with_report=with_report)
    finally:
        # also where the files could not be written: it was computed, and is told
        if not quiet:
            tell(trace, verdicts, console, files, again)
    if as_json:
        say(json.dumps(summary(trace, verdicts, command), allow_nan=False))
    return passed(verdicts, trace)


def _written(
    trace: Trace, verdicts: list[Verdict], folder: Path, command: str, *, with_report: bool
) -> list[Path]:
    from p2pfl.scenario.tables import write_tables

    files = write_tables(trace, verdicts, folder, command=command)
    if with_report:
        from p2pfl.scenario.pages import write_html
        from p2pfl.scenario.picture import draw

        report, picture = folder / "report.html", folder / "curves.png"
        write_html(trace, verdicts, report, command=command)
        draw(trace, picture)
        files = [report, picture, *files]
    return files


def _tidied(folder: Path) -> None:
    """Take back what a run left that was refused before it began."""
    from p2pfl.scenario.eventlog import LOG

    with suppress(OSError):
        for name in (SCENARIO, LOG):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


# --- what a run was -----------------------------------------------------------------------------


def _note(asked: Scenario, engine: str, folder: Path, trace: Trace | None) -> None:
    """Say in the folder what ran; before the run too, so that a crash leaves what repeats it."""
    from p2pfl.scenario.load import dump

    about: dict[str, Any] = {"engine": engine, "versions": _versions(), "scenario": dump(asked)}
    if trace is not None:
        about |= {"events": trace.events, "event_hash": trace.event_hash}
    text = json.dumps(about, indent=2)
    (folder / SCENARIO).write_text(text + "\n", encoding="utf-8")


def _recorded(folder: Path) -> tuple[Scenario, dict[str, Any]]:
    from p2pfl.configuring import from_mapping
    from p2pfl.scenario.spec import Scenario

    path = folder / SCENARIO
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        engine, values = about["engine"], about["scenario"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; give the folder of a run") from None
    if engine != "virtual":
        raise ConfigError(f"{folder} is a run of real processes, only virtual ones replay")
    if not about.get("event_hash"):
        raise ConfigError(f"{folder} is a run that did not end, there is no hash to compare with")
    return from_mapping(values, Scenario, where=str(path)), about


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("p2pfl-node", "numpy", "torch"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _other_versions(then: dict[str, Any]) -> str:
    """Where the recorded versions were others than ours, in words."""
    ours, theirs = _versions(), then.get("versions", {})
    return ", ".join(f"{name} {v}" for name, v in theirs.items() if ours.get(name) != v)


def _unique(name: str) -> str:
    return f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _command(scenario: str, engine: str, seed: int, changes: tuple[str, ...]) -> str:
    words = ["p2pfl", "run", scenario, "--seed", str(seed)]
    words += ["--engine", engine] * (engine != "virtual")
    return shlex.join([*words, *(word for change in changes for word in ("--set", change))])


class _interruptible:  # noqa: N801 (used as a context manager)
    """SIGTERM and SIGHUP end a run as Ctrl-C does."""

    def __enter__(self) -> None:
        self._before = {
            number: signal.signal(number, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP)
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
