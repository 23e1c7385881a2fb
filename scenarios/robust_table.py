"""The table of docs/robustness.md: every rule against every attack, at rest and under churn.

    python scenarios/robust_table.py                 three seeds of four rows, one of the others
    python scenarios/robust_table.py --seeds 3       as many of all; what is done stays done
    python scenarios/robust_table.py --only clip --only median

Two `p2pfl sweep` of the scenario adversary-none, which go on where they were broken off, and a
table that is written between two marks of the page. Every cell is the mean over the honest nodes
and the seeds; of the backdoor the share of triggered samples that go where it wants stands beside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BASE = Path(__file__).with_name("adversary-none.toml")
PAGE = Path(__file__).parent.parent / "docs" / "robustness.md"
FOLDER = Path("sweeps", "robust-table")
BEGIN, END = "<!-- table: scenarios/robust_table.py -->", "<!-- end of table -->"

COOPERATIVE = "cooperative"
SEEDS: Mapping[str, int] = {COOPERATIVE: 3, "clip": 3, "median": 3, "trimmed-mean": 3}
"""Of the rows that promises are made of, and of the best known rules; one of every other."""
RULES: Mapping[str, str] = {
    "clip": '{rule="clip"}',
    "median": '{rule="median"}',
    "trimmed-mean": '{rule="trimmed-mean"}',
    "krum": '{rule="krum"}',
    "multi-krum": '{rule="multi-krum"}',
    "geometric-median": '{rule="geometric-median"}',
    "centred-clip": '{rule="centred-clip"}',
    "clipped-gossip": '{rule="clipped-gossip"}',
    "nearest, then trimmed-mean": '{rule="trimmed-mean",nearest=true}',
}
ATTACKS: Mapping[str, str] = {
    "nobody": '{attack="none"}',
    "sign-flip": '{attack="sign-flip",who=4,adaptive="never"}',
    "adaptive": '{attack="sign-flip",who=4,adaptive="reach"}',
    "gaussian": '{attack="gaussian",who=4,adaptive="never"}',
    "ipm": '{attack="ipm",who=4,adaptive="never"}',
    "alie": '{attack="alie",who=4}',
    "label-flip": '{attack="label-flip",who=4}',
    "dissensus": '{attack="dissensus",who=4}',
    "mimic": '{attack="mimic",who=4}',
    "backdoor": '{attack="backdoor",who=4}',
}
CHURN: Mapping[str, str] = {
    "Nobody leaves": '{mode="none"}',
    "30 % are away": '{mode="on-off",offline=0.3,session_s=10}',
}


def main(words: Sequence[str] | None = None) -> int:
    """Run what is not done yet and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, help="of every row")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--only", action="append", choices=[COOPERATIVE, *RULES], default=[])
    given = parser.parse_args(words)
    chosen = given.only or [COOPERATIVE, *RULES]
    cells: list[Mapping[str, Any]] = []
    for rule in chosen:
        seeds = given.seeds or SEEDS.get(rule, 1)
        answer = swept(rule, seeds, given.jobs)
        if answer is None:
            return 1
        cells += [{**cell, "rule": rule, "seeds": seeds} for cell in answer["cells"]]
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(text, tables(cells, chosen)), encoding="utf-8")
    return 0


def swept(rule: str, seeds: int, jobs: int | None) -> Mapping[str, Any] | None:
    """One rule's sweep, as `p2pfl sweep --json` tells it; None if it was broken off."""
    out = FOLDER / rule.replace(", ", "-").replace(" ", "-")
    asked = [sys.executable, "-m", "p2pfl", "sweep", str(BASE), "--json", "--out", str(out)]
    asked += ["--seeds", str(seeds)] + (["--jobs", str(jobs)] if jobs else [])
    asked += ["--over", "adversary=" + ",".join(ATTACKS.values())]
    asked += ["--over", "churn=" + ",".join(CHURN.values()), "--set", "node.checkpoint_every_s=2"]
    changes = RULES.get(rule)
    asked += ["--set", f"node.robust={changes}" if changes else "trust=cooperative"]
    done = subprocess.run(asked, stdout=subprocess.PIPE, check=False)  # noqa: S603
    if not done.stdout.strip():
        return None
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def tables(cells: Iterable[Mapping[str, Any]], rules: Sequence[str]) -> str:
    """The tables as Markdown: mean accuracy, and the worst tenth's in brackets."""
    known: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    seeds: dict[str, int] = {}
    for cell in cells:
        seeds[cell["rule"]] = cell["seeds"]
        values = cell["values"]
        attack, churn = _name(values["adversary"]), values["churn"]["mode"]
        known[cell["rule"], attack, churn] = cell["figures"]
    lines = []
    for title, mode in zip(CHURN, ("none", "on-off"), strict=True):
        lines += [f"**{title}**", ""]
        lines.append(f"| rule | seeds | {' | '.join(ATTACKS)} |")
        lines.append(f"|---|---:|{'---:|' * len(ATTACKS)}")
        for rule in rules:
            row = [_cell(known.get((rule, attack, mode))) for attack in ATTACKS]
            lines.append(f"| `{rule}` | {seeds.get(rule, 0)} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def filled(page: str, table: str) -> str:
    """The page with another table between the marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def _name(adversary: Mapping[str, Any]) -> str:
    if adversary.get("adaptive") == "reach":
        return "adaptive"
    return "nobody" if adversary["attack"] == "none" else str(adversary["attack"])


def _cell(figures: Mapping[str, Any] | None) -> str:
    mean, worst = (_mean(figures, name) for name in ("mean_accuracy", "worst_tenth_accuracy"))
    if mean is None or worst is None:
        return "-"
    text = f"{mean:.3f} ({worst:.2f})"
    success = _mean(figures, "backdoor_success")
    return text if success is None else f"{text}, succeeds {success:.2f}"


def _mean(figures: Mapping[str, Any] | None, name: str) -> float | None:
    if figures is None or figures.get(name) is None:
        return None
    return float(figures[name]["mean"])


if __name__ == "__main__":
    sys.exit(main())
