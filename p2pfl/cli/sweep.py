"""`p2pfl sweep`: one scenario over a grid of values, with many seeds, many runs at a time."""

from __future__ import annotations

import asyncio
import csv
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli.completion import scenarios
from p2pfl.cli.saying import console_on, say
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from p2pfl.scenario.pool import Folder, Outcome
    from p2pfl.scenario.sweep import Row, Run, Summary, Sweep

_SHOWING = ("rich", "matplotlib")
_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILURES = 5


@click.command(
    epilog="""\b
Examples:
  p2pfl sweep ring-16 --seeds 20
  p2pfl sweep ring-16 --seeds 20 --over nodes=16,64,256
  p2pfl sweep ring-16 --over nodes=16,64 --over gossip.codec=float32,int8
  p2pfl sweep ring-16 --over churn.offline=0,0.3,0.6 --set churn.mode=on-off
  p2pfl sweep ring-16 --over nodes=1000,4000 --ray 10.0.0.7:6379   with Ray
  p2pfl sweep ring-16 --json --quiet | jq .cells

\b
In DIR are left:
  sweep.png    a panel for every figure the scenario expects something of
  table.csv    a row for every cell: of each figure mean, half the interval, n
  table.md     the main figures, to be pasted
  runs.csv     a row for every run, with the command that does it alone
"""
)
@click.argument("scenario", shell_complete=scenarios)
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Runs of every cell, counted from the scenario's seed; more of them can be asked later.",
)
@click.option(
    "--over",
    metavar="KEY=V,V,...",
    multiple=True,
    help="A key and the values it takes; given again, every value meets every other.",
)
@click.option(
    "--set",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a key of the scenario, in all runs.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 10_000),
    help="Runs at a time; default: one for every core, or all that Ray has room for.",
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Run on this Ray cluster: HOST:PORT, ray://HOST:PORT or auto; local starts one here.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for all files; default: sweeps/NAME-DIGEST, which the same question finds again.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 also if an expectation did not hold.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; all else to stderr.")
@click.option("--quiet", is_flag=True, help="Print neither progress nor table.")
def sweep(
    scenario: str,
    seeds: int,
    over: tuple[str, ...],
    changes: tuple[str, ...],
    jobs: int | None,
    address: str | None,
    out: Path | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a scenario over a grid of values, with many seeds.

    SCENARIO is a file, or a name in scenarios/. Every --over is an axis of the grid, every point
    of the grid a cell, and every cell is run with the same seeds. At the end stands a table: for
    every cell the mean of each figure and its 95% confidence interval, and how many runs held
    what the scenario expects.

    Runs that are done stay: a sweep that was interrupted, or killed, goes on where it was when
    the same command is given again, and runs that failed are tried again. The exit code is 0 only
    if every run gave figures.
    """
    _require(*_SHOWING)
    from p2pfl.scenario.pool import Folder
    from p2pfl.scenario.sweep import passed, planned

    plan = planned(scenario, over, changes, seeds)
    path = out if out is not None else Path("sweeps", f"{plan.name}-{plan.digest}")
    console = console_on(stderr=as_json, quiet=quiet)
    try:
        with Folder.opened(path, plan) as folder:
            done = folder.done(plan.runs)
            _begin(console, plan, path, len(done))
            failed: dict[str, str] = {}
            finished = _played(console, folder, plan, done, failed, jobs, address)
            if not finished:
                _broken_off(console, plan, path, len(done))
                sys.exit(_INTERRUPTED)
            found = _left(folder, plan, done, failed)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}; give another --out") from None
    _tell(console, plan, found, failed, path)
    if as_json:
        say(json.dumps(_object(plan, found, done, failed, path), allow_nan=False))
    held = all(map(passed, done.values()))
    sys.exit(1 if failed or (strict and not held) else 0)


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"a sweep needs {', '.join(missing)}, which is not installed; "
            "pip install 'p2pfl-node[demo]'"
        )


# --- running ------------------------------------------------------------------------------------


def _played(
    console: Console,
    folder: Folder,
    plan: Sweep,
    done: dict[str, Summary],
    failed: dict[str, str],
    jobs: int | None,
    address: str | None,
) -> bool:
    """Run what is left, and note in `done` and `failed` how it ended; False if interrupted."""
    from p2pfl.scenario import pool

    left = [run for run in plan.runs if run.id not in done]
    if not left:
        return True
    with ExitStack() as closing:
        show = closing.enter_context(_show_on(console, plan, len(plan.runs) - len(left)))

        def ended(outcome: Outcome) -> None:
            folder.keep(outcome)
            if outcome.summary is None:
                failed[outcome.run.id] = outcome.reason
            else:
                done[outcome.run.id] = outcome.summary
            show.ended(outcome)

        playing: Coroutine[Any, Any, None]
        # looked up now, and not bound at import, so that it is what the module has by then
        if address is None:
            show.jobs = min(jobs or pool.cores(), len(left))
            playing = pool.locally(left, show.jobs, ended, pool.simulated)
        else:
            try:
                ray = closing.enter_context(pool.cluster(address, jobs))
            except KeyboardInterrupt:
                return False
            show.jobs = min(jobs or round(ray.cluster_resources().get("CPU", 1)), len(left))
            playing = pool.on_ray(ray, left, jobs, ended, pool.simulated)
        show.begin(left)
        try:
            asyncio.run(_until_signal(playing))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return False
    return True


async def _until_signal(playing: Coroutine[Any, Any, None]) -> None:
    """Await it; the first signal ends it in order, later ones must not disturb that."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def end() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    await playing


# --- showing ------------------------------------------------------------------------------------


class _Show:
    """A line for every run that ended; on a terminal a bar below them, there only for failures.

    Attributes:
        jobs: how many run at a time.
    """

    def __init__(self, console: Console, plan: Sweep, before: int) -> None:
        self.jobs = 1
        self._console, self._plan = console, plan
        self._before, self._ended, self._failed = before, 0, 0
        self._left: dict[str, Run] = {}
        self._took: list[tuple[Any, float]] = []
        self._began = time.monotonic()
        self._bar: Callable[[], None] = lambda: None

    @contextmanager
    def on_terminal(self) -> Iterator[_Show]:
        """Draw a bar as long as it is open."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.fields[count]} runs", style="bold"),
            TextColumn("{task.fields[lost]}", style="red"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="dim"),
        )
        progress = Progress(*columns, console=self._console, expand=True)
        total = len(self._plan.runs)
        task = progress.add_task("", total=total, count=f"0/{total}", lost="", left="")

        def update() -> None:
            known = self._before + self._ended
            progress.update(
                task,
                completed=known,
                count=f"{known}/{total}",
                lost=f"{self._failed} failed" if self._failed else "",
                left=self._rest(),
            )

        self._bar = update
        update()
        with progress:
            yield self

    def begin(self, left: Sequence[Run]) -> None:
        """These are about to be run."""
        self._left = {run.id: run for run in left}
        self._began = time.monotonic()
        if not self._console.is_terminal:
            self._say(f"{len(left)} runs, {self.jobs} at a time")

    def ended(self, outcome: Outcome) -> None:
        """Say how a run ended."""
        self._left.pop(outcome.run.id, None)
        self._ended += 1
        self._took.append((outcome.run.cell, outcome.seconds))
        self._failed += outcome.summary is None
        if outcome.summary is None or not self._console.is_terminal:
            self._say(self._line(outcome))
        self._bar()

    def _line(self, outcome: Outcome) -> str:
        from p2pfl.scenario.sweep import passed

        total = len(self._plan.runs)
        place = f"{self._before + self._ended:{len(str(total))}d}/{total}"
        if outcome.summary is None:
            return f"{place}  {outcome.run}: failed: {outcome.reason}"
        held = "held" if passed(outcome.summary) else "MISSED"
        rest = self._rest()
        return f"{place}  {outcome.run}: {held}, {outcome.seconds:.1f} s{rest and f'; {rest}'}"

    def _rest(self) -> str:
        from p2pfl.scenario.sweep import left_s

        rest = left_s(self._took, self._left.values(), self.jobs)
        return f"about {_span(rest)} left" if rest and self._left else ""

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _show_on(console: Console, plan: Sweep, before: int) -> Iterator[_Show]:
    show = _Show(console, plan, before)
    if console.is_terminal and not console.quiet:
        with show.on_terminal():
            yield show
    else:
        yield show


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _begin(console: Console, plan: Sweep, path: Path, done: int) -> None:
    from rich.text import Text

    cells, seeds = len(plan.cells), len(plan.seeds)
    what = " × ".join(f"{one.key} {', '.join(one.texts)}" for one in plan.axes)
    console.print(Text.assemble(("p2pfl sweep", "bold"), f"  {plan.name}{what and ': '}{what}"))
    grid = f"{_count(cells, 'cell')} × {_count(seeds, 'seed')} = {_count(cells * seeds, 'run')}"
    if done:
        grid += f", {done} of them done before: they are kept"
    console.print(f"{grid}, in {path}", markup=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _broken_off(console: Console, plan: Sweep, path: Path, done: int) -> None:
    console.print(
        f"interrupted; {done} of {len(plan.runs)} runs are kept in {path}, "
        "the same command goes on from there",
        markup=False,
        soft_wrap=True,
    )


def _tell(
    console: Console, plan: Sweep, found: Sequence[Row], failed: dict[str, str], path: Path
) -> None:
    """The table, what failed, and where the rest is."""
    from rich.text import Text

    from p2pfl.scenario.sweep import PICTURE, RUNS, TABLE

    table, hidden = _table(plan, found, console.width)
    console.print()
    console.print(table)
    console.print()
    notes = ["mean over seeds ± half the 95% confidence interval"]
    if hidden:
        notes.append(f"for {', '.join(hidden)} see {TABLE}")
    console.print(Text("; ".join(notes), style="dim"))
    for place, (name, reason) in enumerate(failed.items()):
        if place == _FAILURES:
            console.print(Text(f"... and {len(failed) - place} more", "red"))
            break
        console.print(Text(f"failed  {name}: {reason}", "red"), soft_wrap=True)
    if failed:
        console.print("the same command tries them again; see runs/*/error.log", markup=False)
    console.print(Text(f"files   {path}: {PICTURE}, {TABLE}, {RUNS}, ..."), soft_wrap=True)


def _table(plan: Sweep, found: Sequence[Row], width: int) -> tuple[Any, list[str]]:
    """The main figures, as many as `width` columns hold, and the names of the others."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from p2pfl.scenario.sweep import said, share, shown, title

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    bounds, names = plan.bounds(), shown(plan, found)
    room = width
    short = [one.key.rpartition(".")[2] for one in plan.axes]
    for place, one in enumerate(plan.axes):
        head = short[place] if short.count(short[place]) == 1 else one.key
        words = [str(row.cell.values[place][1]) for row in found]
        side = "right" if one.is_numeric else "left"
        table.add_column(head, justify=side, no_wrap=True)  # type: ignore[arg-type]
        room -= max(map(len, [head, *words])) + 2
    for head in ("runs", "held"):
        table.add_column(head, justify="right", no_wrap=True)
        room -= 7
    told: list[str] = []
    for name in names:
        head = title(name)
        # a head breaks between its words, a figure does not break
        words = [*head.split(), *(said(row, name) for row in found), str(bounds.get(name) or "")]
        wide = max(map(len, words))
        if told and wide + 2 > room:
            break
        room -= wide + 2
        bound = bounds.get(name)
        lines = Text(_broken(head, wide))
        if bound:
            lines.append(f"\n{bound}", "dim not bold")
        table.add_column(lines, justify="right", min_width=wide)
        told.append(name)
    for row in found:
        runs = Text(f"{row.runs}")
        if row.failed:
            runs.append(f" of {row.runs + row.failed}", "red")
        good = row.held == row.runs
        held = Text(share(row), "green" if good and row.runs else "red" if row.runs else "dim")
        values = [f"{value}" for _, value in row.cell.values]
        table.add_row(*values, runs, held, *(_figure(row, name) for name in told))
    return table, names[len(told) :]


def _broken(text: str, width: int) -> str:
    """A head in lines of at most `width`."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def _figure(row: Row, name: str) -> Any:
    """Mean and interval; red if not even the mean is what the scenario expects."""
    from rich.text import Text

    from p2pfl.scenario.sweep import said

    one, bound = row.figures.get(name), row.cell.scenario.expect.bounds().get(name)
    missed = bound is not None and not bound.holds(one.mean if one else None)
    mean, sign, half = said(row, name).partition(" ±")
    return Text.assemble((mean, "red" if missed else ""), (f"{sign}{half}", "dim"))


# --- files --------------------------------------------------------------------------------------


def _left(
    folder: Folder, plan: Sweep, done: dict[str, Summary], failed: dict[str, str]
) -> list[Row]:
    """Write the tables and the picture; the rows they show."""
    from p2pfl.scenario import sweep as lib

    found = lib.rows(plan, done, failed)
    _csv(folder.path / lib.TABLE, lib.table(plan, found))
    _csv(folder.path / lib.RUNS, lib.run_table(plan, done, failed))
    text = lib.markdown(plan, found, _command(plan))
    (folder.path / lib.MARKDOWN).write_text(text, encoding="utf-8")
    lib.draw(plan, found, folder.path / lib.PICTURE)
    return found


def _csv(path: Path, lines: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def _command(plan: Sweep) -> str:
    words = ["p2pfl", "sweep", plan.text, "--seeds", str(len(plan.seeds))]
    for one in plan.axes:
        words += ["--over", str(one)]
    for change in plan.changes:
        words += ["--set", change]
    return shlex.join(words)


def _object(
    plan: Sweep,
    found: Sequence[Row],
    done: dict[str, Summary],
    failed: dict[str, str],
    path: Path,
) -> dict[str, Any]:
    from p2pfl.scenario import sweep as lib

    return {
        "ok": not failed,
        "held": not failed and all(map(lib.passed, done.values())),
        "name": plan.name,
        "folder": str(path),
        "command": _command(plan),
        "runs": len(plan.runs),
        "seeds": list(plan.seeds),
        "over": {one.key: list(one.values) for one in plan.axes},
        "cells": lib.as_json(plan, found),
        "failed": failed,
    }
