"""`p2pfl record`: a real run, from its nodes' journals, as a scenario that replays it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli.completion import partitions, state_dirs, tasks
from p2pfl.cli.saying import say, working
from p2pfl.errors import ConfigError, TaskError
from p2pfl.toml import parsed

if TYPE_CHECKING:
    from p2pfl.config import DeviceConfig, NodeConfig
    from p2pfl.scenario.recording import Estimate, Recording, Seen

_NAME_MAX = 40
_LARGE_BYTES = 10_000_000
"""Journals of so much take seconds to read."""
_OUT = Path("recordings")


_FROM = "Leave out what was before, as in '2026-05-01 14:30', or in seconds since 1970."
_UNTIL = "Leave out what came after; as --from."


def _wall(_: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """A date and time, or seconds since 1970, as seconds since 1970."""
    if text is None:
        return None
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        fix = "try '2026-05-01 14:30:00' (this device's time), or seconds since 1970"
        raise ConfigError(f"{param.opts[0]} is '{text}', which is no time; {fix}") from None


@click.command(
    epilog="""\b
Examples:
  p2pfl record ~/.local/state/p2pfl/kitchen --task digits
  p2pfl record runs/demo-1 --task digits --partition dirichlet:0.1 --name demo
  p2pfl record laptop/ phone/ pi/ --task my_task.py --config node.toml
  p2pfl record laptop/ --task digits --from '2026-05-01 14:30'
  p2pfl record runs/demo-1 --task digits --json | jq .estimates

\b
In FOLDER are left:
  NAME.toml         the scenario, each value with its evidence; edit it freely
  NAME-steps.csv    node, step_s: the median local step of each node
  NAME-churn.csv    node, at, up: who came and went (if anybody did)
"""
)
@click.argument(
    "state_dirs",
    nargs=-1,
    type=click.Path(path_type=Path),
    metavar="STATE_DIR...",
    shell_complete=state_dirs,
)
@click.option(
    "--task",
    metavar="TASK",
    shell_complete=tasks,
    help="What the nodes learned: journals do not tell. Default: the built-in task with their "
    "model, or what --config says.",
)
@click.option(
    "--partition",
    metavar="RULE",
    shell_complete=partitions,
    help="How their data were split: iid, dirichlet:ALPHA, classes:K. Default: what --config "
    "says, or iid.",
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The TOML file the nodes were started with; what stands in it is not estimated.",
)
@click.option("--from", "since", metavar="TIME", callback=_wall, help=_FROM)
@click.option("--until", metavar="TIME", callback=_wall, help=_UNTIL)
@click.option(
    "--out",
    metavar="FOLDER",
    default=_OUT,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go.",
)
@click.option("--name", metavar="NAME", help="Of the scenario; default: the run's name.")
@click.option("--overwrite", is_flag=True, help="Replace files of that name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Print only where the scenario is.")
def record(
    state_dirs: tuple[Path, ...],
    task: str | None,
    partition: str | None,
    config_file: Path | None,
    since: float | None,
    until: float | None,
    out: Path,
    name: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn a run that really happened into a scenario.

    STATE_DIR is the state directory of a node, or a folder that holds several, such as the folder
    of a demo; copy those of other devices here, each as a whole. The nodes may still be running.
    Their journals tell who was up when, how fast each device trained, and what the network was
    like; the scenario replays that in the simulator with `p2pfl run`, from untrained models.

    What the estimates mean, and what they cannot: the devices' wall clocks put the lives in order,
    so clocks that differ by seconds shift them. Latency is half of a fast round trip, and
    includes transfer and processing. Loss counts exchanges that timed out while the peer was up;
    an overloaded peer looks like a lossy network. Bandwidth is not estimated.
    """
    from p2pfl.scenario.recording import journals, recorded, written

    if not state_dirs:
        raise ConfigError(
            "no STATE_DIR given; try the folder of a run, as in p2pfl record runs/demo-1, or "
            "~/.local/state/p2pfl/RUN"
        )
    if since is not None and until is not None and until <= since:
        raise ConfigError(f"--until must be after --from: {until:.0f} is not after {since:.0f}")
    device = None if config_file is None else _configured(config_file)
    with working("reading the journals", quiet=quiet or _size(state_dirs) < _LARGE_BYTES):
        told = journals(state_dirs, since=since, until=until)
        found = recorded(told, config=_node(device), since=since, until=until)
    learned, doubt = _task(task, device, found.layout)
    split = _partition(partition, device)
    path = written(
        found, out, name or _name(found.run), task=learned, partition=split, overwrite=overwrite
    )
    notes = [*found.notes, *doubt, *_assumed(split, device)]
    command = shlex.join(["p2pfl", "run", str(path)])
    if as_json:
        told_of = {"task.name": learned, "task.partition": split, **found.estimates}
        say(json.dumps(_object(found, path, command, told_of, notes), allow_nan=False))
    else:
        say(str(path) if quiet else readable(found, path, command, notes))


def _size(state_dirs: Sequence[Path]) -> int:
    """Bytes of the journals that are about to be read; what cannot be looked at has none."""
    from p2pfl.edge.identity import JOURNAL

    found = 0
    for folder in state_dirs:
        for journal in (folder / JOURNAL, *folder.glob(f"*/{JOURNAL}")):
            with suppress(OSError):
                found += journal.stat().st_size
    return found


# --- what journals do not tell ------------------------------------------------------------------


def _configured(path: Path) -> DeviceConfig:
    """A node's TOML file, which need not name the task."""
    from p2pfl.config import DeviceConfig
    from p2pfl.configuring import from_mapping

    try:
        values = parsed(path.read_bytes())
    except OSError as error:
        fix = "give the path of a TOML file"
        raise ConfigError(f"--config {path}: {error.strerror}; {fix}") from None
    except ConfigError as error:
        raise ConfigError(f"--config {path}: {error}") from None
    return from_mapping({"task": "?", **values}, DeviceConfig, where=f"--config {path}")


def _node(device: DeviceConfig | None) -> NodeConfig | None:
    """The part of a device's configuration that is the node's, as far as it was given."""
    from p2pfl.config import NodeConfig

    if device is None:
        return None
    known = set(NodeConfig.model_fields)
    return NodeConfig.model_validate(device.model_dump(include=known, exclude_unset=True))


def _task(
    given: str | None, device: DeviceConfig | None, layout: str
) -> tuple[Estimate, tuple[str, ...]]:
    """What is learned, and what speaks against it.

    Raises:
        ConfigError: nobody said, and no built-in task has such a model.
        TaskError: what was said is no task.
    """
    from p2pfl.learning.task import BUILT_IN
    from p2pfl.scenario.recording import Estimate
    from p2pfl.scenario.spec import MODELLED

    why = "given with --task"
    if given is None and device is not None and device.task != "?":
        given, why = device.task, "given with --config"
    if given in MODELLED:
        return Estimate(given, why), ()
    if given is not None:
        if (ours := _layout(given)) != layout:
            doubt = f"the nodes learned another model than {given}: {layout}, not {ours}"
            return Estimate(given, f"{why}; {doubt}"), (doubt,)
        return Estimate(given, f"{why}; its model is the one of the journals"), ()
    # those that need no torch first
    for name in sorted(BUILT_IN, key=lambda name: name not in ("digits-numpy", "breast-cancer")):
        try:
            if _layout(name) == layout:
                return Estimate(name, "the built-in task with the model of the journals"), ()
        except TaskError:
            continue
    raise ConfigError(
        f"the nodes learned model {layout}, which no built-in task has; say what it was: "
        "--task my_task.py (or another task that takes its place: --task digits)"
    )


def _layout(task: str) -> str:
    from p2pfl.learning.task import build_learner, find_task

    return build_learner(find_task(task), run="default", seed=0).layout.digest


def _partition(given: str | None, device: DeviceConfig | None) -> Estimate:
    from p2pfl.learning.partition import parse_partition
    from p2pfl.scenario.recording import Estimate

    why = "given with --partition"
    if given is None and device is not None and "partition" in device.model_fields_set:
        given, why = device.partition, "given with --config"
    if given is None:
        given, why = "iid", "assumed: journals do not tell, --partition does"
    parse_partition(given)
    return Estimate(given, why)


def _assumed(split: Estimate, device: DeviceConfig | None) -> list[str]:
    """What nobody said and no journal tells."""
    notes = []
    if split.why.startswith("assumed"):
        notes.append(f"data are split {split.value}, as journals do not tell; see --partition")
    if device is None or "topology" not in device.model_fields_set:
        notes.append("neighbours are as by default, as journals do not tell; see --config")
    return notes


def _name(run: str) -> str:
    """A scenario's name made of a run's."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in run)
    return plain.strip("-._")[:_NAME_MAX] or "recorded"


# --- what is told -------------------------------------------------------------------------------


def readable(found: Recording, path: Path, command: str, notes: Sequence[str]) -> str:
    """The recording as text: a table of nodes, what to mind, and how to run it."""
    rows = [_row(node) for node in found.nodes]
    heads = list(rows[0])
    cells = [heads, *([row[head] for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    counted = f"{len(found.nodes)} node" + "s" * (len(found.nodes) != 1)
    text = [f"run '{found.run}': {counted} for {found.seconds:.1f} s", "", *table, ""]
    text += [f"note: {note}" for note in notes]
    text += [f"wrote {path}; replay it with: {command}"]
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in "\n".join(text))


def _row(node: Seen) -> dict[str, str]:
    silent = sum(len(life.gaps) for life in node.lives)
    ends = [life.ending for life in node.lives]
    told = {
        "crashed": ends.count("crashed"),
        "stopped": ends.count("stopped"),
        "frozen": silent,
        "lost its state": sum(life.lost for life in node.lives),
    }
    step_s = node.median_step_s
    return {
        "node": f"{node.name} = {node.label}",
        "lives": str(len(node.lives)),
        "up": f"{node.up_s:.1f} s",
        "cycles": f"{node.cycles:,}",
        "step": "?" if step_s is None else f"{1000 * step_s:.3g} ms",
        "exchanges": f"{node.exchanges:,}",
        "losses": f"{node.losses:,} of {node.asked:,}",
        "seen": ", ".join(f"{what} {n} x" for what, n in told.items() if n)
        + (f"{', ' * any(told.values())}joined late" if node.lives[0].begin >= 1 else ""),
    }


def _object(
    found: Recording,
    path: Path,
    command: str,
    estimates: Mapping[str, Estimate],
    notes: Sequence[str],
) -> dict[str, Any]:
    return {
        "scenario": str(path),
        "command": command,
        "run": found.run,
        "layout": found.layout,
        "zero": found.zero,
        "seconds": found.seconds,
        "nodes": [
            {
                "name": node.name,
                "label": node.label,
                "node": sorted(node.ids),
                "state_dir": node.where,
                "lives": [
                    {
                        "begin_s": life.begin,
                        "end_s": life.end,
                        "ending": life.ending,
                        "resumed": life.resumed,
                        "lost_state": life.lost,
                        "silent": [
                            {"begin_s": gap.begin, "end_s": gap.end, "slept": gap.slept}
                            for gap in life.gaps
                        ],
                    }
                    for life in node.lives
                ],
                "up_s": node.up_s,
                "cycles": node.cycles,
                "step_s": node.median_step_s,
                "exchanges": node.exchanges,
                "asked": node.asked,
                "losses": node.losses,
            }
            for node in found.nodes
        ],
        "estimates": {key: {"value": of.value, "why": of.why} for key, of in estimates.items()},
        "notes": list(notes),
    }
