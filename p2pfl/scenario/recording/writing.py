"""The scenario that replays a recording, and the files it names.

    NAME.toml           each value with the evidence it comes from
    NAME-steps.csv      node, step_s
    NAME-churn.csv      node, at, up; only if anybody came and went

Rule of the file: nothing is written before the scenario is known to be valid, and nothing is
replaced unasked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from p2pfl.config import NodeConfig
from p2pfl.configuring import from_mapping
from p2pfl.errors import ConfigError
from p2pfl.scenario.recording.absences import absences_of, churn_rows, churn_table, usual_state
from p2pfl.scenario.recording.evidence import Estimate, Recording
from p2pfl.scenario.recording.text import counted, keys, moment, printable, short, short_time, toml
from p2pfl.scenario.spec import Scenario

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def written(
    found: Recording,
    folder: Path,
    name: str,
    *,
    task: Estimate,
    partition: Estimate,
    overwrite: bool = False,
) -> Path:
    """Write the scenario of a recording, with the files it names beside it.

    Args:
        found: the recording.
        folder: is made if it does not exist.
        name: of the scenario and its files.
        task, partition: what is learned, and how its data are split; journals do not tell.
        overwrite: whether files of that name are replaced.

    Returns:
        The path of the scenario.

    Raises:
        ConfigError: the name or a value cannot be used, files exist, or cannot be written. What
            was there is as it was, unless the disk filled up.
    """
    if not _FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"name is '{name}', expected up to 40 letters, digits, '_', '.' and '-', "
            "of which the first is a letter or digit"
        )
    absences = {node.name: absences_of(node) for node in found.nodes}
    state = usual_state(absences.values())
    churn = churn_rows(found, absences, state)
    text = rendered(found, name, task=task, partition=partition)
    from_mapping(tomllib.loads(text), Scenario, where=f"{name}.toml")
    path, steps = folder / f"{name}.toml", folder / f"{name}-steps.csv"
    trace = folder / f"{name}-churn.csv"
    for file in (path, steps, trace):
        if file.exists() and not overwrite:
            raise ConfigError(f"{file} exists; give another --name or --out, or --overwrite")
    medians = ((node.name, node.median_step_s) for node in found.nodes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [f"{node},{short(step_s, 6)!r}" for node, step_s in medians if step_s is not None]
        steps.write_text("\n".join(("node,step_s", *rows, "")), encoding="utf-8")
        if churn:
            trace.write_text("\n".join(("node,at,up", *churn, "")), encoding="utf-8")
        else:
            trace.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; try --out") from None
    return path


def rendered(found: Recording, name: str, *, task: Estimate, partition: Estimate) -> str:
    """The scenario as TOML, each value with its evidence; it names files beside it."""
    absences = {node.name: absences_of(node) for node in found.nodes}
    state = usual_state(absences.values())
    config = found.config
    topology = Estimate(NodeConfig().topology, "the default: journals do not tell")
    if config is not None and "topology" in config.model_fields_set:
        topology = Estimate(config.topology, "given with --config")
    estimates = {
        **found.estimates,
        "compute.distribution": Estimate("trace", "the median of each node, beside this file"),
        "compute.trace": Estimate(f"{name}-steps.csv", "node, step_s"),
    }
    count = counted(len(found.nodes), "node")
    lines = [
        f"# Recorded by `p2pfl record` from the journals of run '{printable(found.run)}'.",
        f"# Second 0 is {moment(found.zero)}. Lives are aligned by the devices' wall clocks; who",
        "# started within a second of the first is there from the beginning.",
        *(f"# Note: {printable(note)}" for note in found.notes),
        "#",
        *(
            f"# {node.name} = {node.label} ({min(node.ids)[:8]}), {printable(node.where)}"
            for node in found.nodes
        ),
        "",
        f"name = {toml(name)}",
        f"description = {toml(f'Recorded from {count} of run {printable(found.run)}.')}",
        f"nodes = {len(found.nodes)}",
        *keys({"topology": topology}),
        "",
        "[task]",
        *keys({"name": task, "partition": partition}),
        "",
        "[duration]",
        f"seconds = {short_time(found.seconds)!r}",
    ]
    lines += _tables(estimates)
    for who, latency in found.slow.items():
        lines += ["", "[[network.nodes]]", f"who = [{toml(who)}]"]
        lines += keys({"latency_s": latency})
    lines += churn_table(found, name, absences, state)
    for node in found.nodes:
        for life in node.lives:
            for gap in (gap for gap in life.gaps if state != "kept" or not gap.slept):
                lines += ["", "[[faults.events]]"]
                if gap.slept:
                    lines.append("# its device slept; here its connections stay open")
                lines += [
                    f"at = {short_time(gap.begin)!r}",
                    f"until = {short_time(gap.end)!r}",
                    f"pause = [{toml(node.name)}]  # silent for {gap.end - gap.begin:.1f} s",
                ]
    return "\n".join([*lines, ""])


def _tables(estimates: Mapping[str, Estimate]) -> list[str]:
    """Dotted keys as tables: the node's, then the others."""
    tables: dict[str, dict[str, Estimate]] = {}
    for key in sorted(estimates, key=lambda key: (key.count("."), key)):
        table, _, last = key.rpartition(".")
        tables.setdefault(table, {})[last] = estimates[key]
    lines: list[str] = []
    for table in sorted(tables, key=lambda table: (not table.startswith("node"), table)):
        lines += ["", f"[{table}]", *keys(tables[table])]
    return lines
