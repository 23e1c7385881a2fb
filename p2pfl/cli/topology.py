"""`p2pfl topology`: what a neighbour rule is worth, before any node runs it."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pfl.cli.completion import rules
from p2pfl.cli.saying import Group, say, working
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from p2pfl.core.graph import Shape
    from p2pfl.core.neighbours import Rule

FOLDER = Path("topologies")
MOST_NODES = 3000
"""Eigenvalues come from a dense matrix: seconds here, minutes and gigabytes far beyond."""

_NODES = 16
_LARGE = 500
"""Nodes whose eigenvalues take their time."""
_ONE_PERCENT = 0.01
_WIDTH = 100
ENDINGS = (".toml", ".graphml")
"""Of files that hold a topology."""

ABOUT: Mapping[str, str] = {
    "full": "Everybody is everybody's neighbour.",
    "random": "Everybody too, but only DRAWS of them are asked a cycle, drawn anew.",
    "ring": "The next and the previous of the sorted ids.",
    "torus": "A grid closed in both directions, of COLUMNS columns.",
    "exponential": "Those 1, 2, 4, ... places away, in both directions.",
    "small-world": "The NEAREST nearest on the ring, and long links chosen by hash.",
    "random-regular": "DEGREE links each, as circles in the order of hashes.",
    "star": "The smallest id is everybody's only neighbour.",
}
"""Every rule of `p2pfl.core.neighbours.RULES` in a sentence."""


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  p2pfl topology list
  p2pfl topology show torus --nodes 64
  p2pfl topology show edges:kitchen--hall,hall--attic
""",
)
def topology() -> None:
    """Show what a neighbour rule looks like, and how fast it mixes."""


# --- show ---------------------------------------------------------------------------------------


@topology.command(
    epilog="""\b
Examples:
  p2pfl topology show ring                          16 nodes, with a picture
  p2pfl topology show torus-8 --nodes 64            a grid of 8 columns
  p2pfl topology show random-2 --nodes 100          drawn anew each time
  p2pfl topology show edges:a--b,b--c               your own links
  p2pfl topology show topologies/petersen.graphml   from a file
  p2pfl topology show two-islands                   the same, in ./topologies
  p2pfl topology show ring --nodes 32 --json --no-picture | jq .spectral_gap
"""
)
@click.argument("rule_or_file", metavar="RULE_OR_FILE", shell_complete=rules)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"How many, up to {MOST_NODES:,}; {_NODES} if not given, but edge lists have their own.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="The picture, replaced if it exists; default: topology-RULE-N.png, here.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--no-picture", is_flag=True, help="Draw nothing; needs no matplotlib.")
@click.option("--quiet", is_flag=True, help="Do not say that a large graph takes its time.")
def show(
    rule_or_file: str,
    nodes: int | None,
    out: Path | None,
    as_json: bool,
    no_picture: bool,
    quiet: bool,
) -> None:
    """Measure RULE_OR_FILE and draw it.

    Says links, degree, diameter, the second eigenvalue (lambda2) of the Metropolis-Hastings matrix,
    the spectral gap 1 - lambda2, and how many synchronous mixing steps shrink the distance between
    the models to 1/e and to 1% of itself. The larger the gap, the faster all agree.

    `p2pfl topology list` knows all rules, and what their number means.
    """
    from p2pfl.core.graph import shape

    if no_picture and out is not None:
        raise ConfigError(f"--out {out} and --no-picture exclude each other; leave one away")
    chosen, name = found(rule_or_file)
    members = _members(chosen, name, nodes)
    path = None
    if not no_picture:
        path = _picture_path(out, name, len(members))
    quiet = quiet or len(members) < _LARGE
    with working(f"measuring {len(members):,} nodes", quiet=quiet):
        measured = shape(chosen, members)
    if path is not None:
        with working(f"drawing {len(members):,} nodes", quiet=quiet):
            _draw(chosen, members, path, measured, name)
    facts = {"rule": chosen.text, "name": name, **_facts(chosen, measured)}
    facts["picture"] = None if path is None else str(path)
    say(json.dumps(facts) if as_json else readable(facts))


def found(text: str) -> tuple[Rule, str]:
    """The rule that a word of the command line means, and a short name for it.

    A rule's name wins over a file's; a bare name that is no rule is looked for in `FOLDER`.

    Raises:
        ConfigError: neither a rule nor a file, or a mistake in it.
    """
    from p2pfl.core import graph, neighbours

    if text.endswith(ENDINGS):
        return graph.topology(text), Path(text).stem
    try:
        chosen = neighbours.rule(text)
    except ConfigError:
        there = [path for path in _files() if path.stem == text]
        if not there:
            raise
        return graph.read(there[0]), text
    return chosen, chosen.name if chosen.links else chosen.text


def _files() -> list[Path]:
    return [path for ending in ENDINGS for path in sorted(FOLDER.glob(f"*{ending}"))]


def _members(chosen: Rule, name: str, nodes: int | None) -> Sequence[str]:
    from p2pfl.core.graph import ids

    listed = sorted({vertex for link in chosen.links for vertex in link})
    if listed and nodes not in (None, len(listed)):
        raise ConfigError(f"'{name}' lists its own {len(listed)} nodes; leave --nodes {nodes} away")
    count = len(listed) or nodes or _NODES
    if count > MOST_NODES:
        raise ConfigError(
            f"{count:,} nodes are too many to measure: their eigenvalues come from a dense matrix, "
            f"which is bounded to {MOST_NODES:,} nodes"
        )
    return listed or ids(count)


def _picture_path(out: Path | None, name: str, count: int) -> Path:
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "a picture needs matplotlib, which is not installed; "
            "pip install 'p2pfl-node[demo]', or give --no-picture"
        )
    if out is None:
        return Path(f"topology-{name}-{count}.png")
    if out.suffix != ".png":
        raise ConfigError(f"--out {out}: pictures are PNG, expected a name that ends in .png")
    return out


def _draw(chosen: Rule, members: Sequence[str], path: Path, measured: Shape, name: str) -> None:
    from p2pfl.scenario.graph_picture import draw_rule

    try:
        draw_rule(chosen, members, path, measured, name)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}; give another --out, or --no-picture"
        ) from None


def _facts(chosen: Rule, measured: Shape) -> dict[str, Any]:
    """Everything that is said of a rule, as JSON can carry it: None stands for never."""
    from p2pfl.core.graph import steps

    return {
        "nodes": measured.nodes,
        "links": measured.links,
        "degree": {
            "min": measured.degree_min,
            "mean": measured.degree_mean,
            "max": measured.degree_max,
        },
        "diameter": int(measured.diameter) if math.isfinite(measured.diameter) else None,
        "lambda2": measured.lambda2,
        "spectral_gap": measured.gap,
        "steps_to_1_e": _finite(measured.mixing_steps),
        "steps_to_1_percent": _finite(steps(measured.lambda2, _ONE_PERCENT)),
        "drawn": _drawn(chosen, measured.nodes),
    }


def _drawn(chosen: Rule, nodes: int) -> dict[str, Any] | None:
    """What exchanges with partners drawn anew are worth; None for a rule that draws none."""
    from p2pfl.core.graph import exchange_contraction, steps

    if chosen.draws is None or nodes < 2:
        return None
    draws = min(chosen.draws, nodes - 1)
    contraction = exchange_contraction(nodes)
    # of the squared distance: down to the square of what the distance itself is to shrink to
    to_e, to_percent = steps(contraction, math.exp(-2)), steps(contraction, _ONE_PERCENT**2)
    return {
        "draws": draws,
        "exchange_contraction": contraction,
        "exchanges_to_1_e": to_e,
        "exchanges_to_1_percent": to_percent,
        "cycles_to_1_e": to_e / (nodes * draws),
        "cycles_to_1_percent": to_percent / (nodes * draws),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def readable(facts: Mapping[str, Any]) -> str:
    """What `show` found, as aligned lines."""
    degree, drawn = facts["degree"], facts["drawn"]
    low, high = degree["min"], degree["max"]
    spread = f"min {low}, mean {degree['mean']:.4g}, max {high}"
    lines = {
        "topology": facts["name"],
        "nodes": f"{facts['nodes']:,}",
        "links": f"{facts['links']:,}",
        "degree": f"{low}, the same for all" if low == high else spread,
        "diameter": "none, it is in parts" if facts["diameter"] is None else _hops(facts),
        "lambda2": f"{facts['lambda2']:.6f}",
        "spectral gap": f"{facts['spectral_gap']:.6f}",
        "mixing": f"{_steps(facts['steps_to_1_e'])} to 1/e of the consensus distance, "
        f"{_steps(facts['steps_to_1_percent'])} to 1% (synchronous, Metropolis-Hastings)",
    }
    if drawn is not None:
        lines["mixing"] += ", if all were asked at once"
        lines["drawn anew"] = (
            f"the graph is full, but only {drawn['draws']} of {facts['nodes'] - 1} are asked a "
            "cycle, drawn anew; by expectation one exchange multiplies the squared distance by "
            f"{drawn['exchange_contraction']:.5f}"
        )
        for words, key in (("to 1/e", "1_e"), ("to 1%", "1_percent")):
            lines[words] = (
                f"{drawn[f'exchanges_to_{key}']:,.1f} exchanges, at most "
                f"{drawn[f'cycles_to_{key}']:.3g} cycles of all nodes"
            )
    if facts["picture"] is not None:
        lines["picture"] = facts["picture"]
    return "\n".join(_hanging(f"{key:<14}", text) for key, text in lines.items())


def _hops(facts: Mapping[str, Any]) -> str:
    return f"{facts['diameter']:g} {'hop' if facts['diameter'] == 1 else 'hops'}"


def _steps(count: float | None) -> str:
    if count is None:
        return "never"
    return f"{count:,.1f} steps" if count else "1 step"


def _hanging(head: str, text: str) -> str:
    """A line whose end is wrapped under its own beginning, not under its head.

    Where nobody looks on it stays one line, because programs read there.
    """
    if not sys.stdout.isatty():
        return f"{head}{text}".rstrip()
    room = max(min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH), len(head) + 30)
    rows = textwrap.wrap(
        text,
        room - len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"\n{' ' * len(head)}".join([f"{head}{rows[0] if rows else ''}".rstrip(), *rows[1:]])


# --- list ---------------------------------------------------------------------------------------


@topology.command(
    "list",
    short_help="List all neighbour rules, and the files in ./topologies.",
    epilog="""\b
Examples:
  p2pfl topology list
  p2pfl topology list --nodes 100
  p2pfl topology list --json | jq '.rules[] | {rule, spectral_gap}'
""",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=_NODES,
    show_default=True,
    metavar="N",
    help=f"At how many, up to {MOST_NODES:,}; edge lists have their own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--quiet", is_flag=True, help="Do not say that large graphs take their time.")
def list_(nodes: int, as_json: bool, quiet: bool) -> None:
    """List all neighbour rules and the files in ./topologies, with what they are worth."""
    from p2pfl.core.neighbours import EDGES, RULES, Rule

    with working(f"measuring at {nodes:,} nodes", quiet=quiet or nodes < _LARGE):
        found = [_rule_row(name, Rule(name, kind.default), nodes) for name, kind in RULES.items()]
        files = [_file_row(path, nodes) for path in _files()]
    found.sort(key=lambda row: str(row["rule"]))
    if as_json:
        say(json.dumps({"nodes": nodes, "rules": found, "files": files}))
        return
    say(f"Rules, at {nodes:,} nodes\n")
    say(_table("rule", found))
    say(f"{EDGES}A--B,B--C\n    Exactly these links, between ids or names.")
    if files:
        say(f"\nFiles in ./{FOLDER}, at {nodes:,} nodes or their own\n")
        say(_table("file", files))
    else:
        say(f"\nThere are no files in ./{FOLDER}.")
    say("\n" + _hanging("", _LEGEND))


_LEGEND = (
    "gap: 1 - lambda2 of the Metropolis-Hastings matrix. to 1/e: synchronous mixing steps until "
    "the models are 1/e as far apart; where partners are drawn, cycles (at most) in which every "
    "node asks that many. `p2pfl topology show` says more, and draws."
)


def _rule_row(name: str, default: Rule, nodes: int) -> dict[str, Any]:
    from p2pfl.core.neighbours import RULES

    kind = RULES[name]
    row: dict[str, Any] = {"rule": name, "about": ABOUT[name], "parameter": None}
    if kind.parameter is not None:
        row["rule"] = f"{name}-{kind.parameter.upper()}"
        row["parameter"] = {
            "name": kind.parameter,
            "least": kind.least,
            "most": kind.most,
            "even": kind.even,
            "default": kind.default or None,
        }
    return row | _measured(default, name, nodes)


def _file_row(path: Path, nodes: int) -> dict[str, Any]:
    """A row for a file; of one that cannot be used, what is wrong with it."""
    from p2pfl.core.graph import description, read

    row = {"file": path.name, "about": "", "error": None}
    try:
        chosen = read(path)
        row["about"] = description(path)
        return row | _measured(chosen, path.name, None if chosen.links else nodes)
    except ConfigError as error:
        return row | {"error": str(error)}


def _measured(chosen: Rule, name: str, nodes: int | None) -> dict[str, Any]:
    from p2pfl.core.graph import shape

    members = _members(chosen, name, nodes)
    return {"measured": chosen.text} | _facts(chosen, shape(chosen, members))


def _table(what: str, rows: Sequence[Mapping[str, Any]]) -> str:
    heads = [what, "nodes", "degree", "diameter", "gap", "to 1/e"]
    cells = [heads, *(_cells(what, row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    said = ["", *(_about(row) for row in rows)]
    lines = []
    for line, about in zip(cells, said, strict=True):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
        if about:
            lines.append(_hanging("    ", about))
    return "\n".join(lines)


def _cells(what: str, row: Mapping[str, Any]) -> list[str]:
    if row.get("error"):
        return [row[what], *["-"] * 5]
    low, high = row["degree"]["min"], row["degree"]["max"]
    if row["drawn"] is not None:
        mixing = f"{row['drawn']['cycles_to_1_e']:.3g} cycles"
    else:
        mixing = _steps(row["steps_to_1_e"])
    return [
        row[what],
        f"{row['nodes']:,}",
        f"{low}" if low == high else f"{low} to {high}",
        "none" if row["diameter"] is None else f"{row['diameter']:g}",
        f"{row['spectral_gap']:.4f}",
        mixing,
    ]


def _about(row: Mapping[str, Any]) -> str:
    if row.get("error"):
        return str(row["error"])
    parameter = row.get("parameter")
    if parameter is None:
        return str(row["about"])
    even = "even, " if parameter["even"] else ""
    default = parameter["default"] or "the square root of the number of nodes"
    return (
        f"{row['about']} {parameter['name'].upper()}: {even}{parameter['least']} to "
        f"{parameter['most']:,}; {default} if left away."
    )
