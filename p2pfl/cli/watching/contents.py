"""What stands in each pane: texts that fill the room that there is.

Rule of the file: pure functions of a picture. All texts are `rich.text.Text`, never markup: names
come from strangers.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.geometry import Size

from p2pfl.cli.watching.drawing import Curve, Spans, bars, plot
from p2pfl.cli.watching.picture import Merged
from p2pfl.cli.watching.plain import estimates, lonely, traffic
from p2pfl.cli.watching.reading import Histogram
from p2pfl.cli.watching.wording import KINDS, clock, entry, fit, mixed, width

CURVES_MAX = 24
"""Of single nodes, as many as a plot can show; the marked one is always among them."""

_NODE, _MARKED, _MEAN, _WORST = "blue", "bold cyan", "bold green", "bold yellow"


def accuracies(found: Merged, size: Size, marked: str | None) -> Text:
    """Accuracy over time: each node, the marked one, the swarm's mean and its worst tenth."""
    nodes, swarm = _chosen(found, marked), found.swarm_curve
    curves = [_curve(found, node, _NODE) for node in nodes if node != marked]
    parts: Spans = []
    if any(mean is not None for _, mean, _, _ in swarm):
        curves.append(Curve([(at, worst) for at, _, worst, _ in swarm], _WORST))
        curves.append(Curve([(at, mean) for at, mean, _, _ in swarm], _MEAN))
        parts += [("━ swarm's mean  ", _MEAN), ("━ worst tenth  ", _WORST)]
    if marked in nodes:
        curves.append(_curve(found, marked, _MARKED))
        parts.append((f"━ {found.label(marked)}  ", _MARKED))
    if len(nodes) > (marked in nodes):
        known = sum(1 for points in found.curves.values() if points)
        some = f"{len(nodes)} of {known} nodes" if known > len(nodes) else "nodes"
        parts.append((f"━ {some}", _NODE))
    lines = plot(curves, size.width, size.height - 1, found.at)
    if not lines:
        return Text("no node has told an accuracy yet", "dim")
    legend = Text.assemble(*parts)
    legend.truncate(size.width, overflow="ellipsis")
    return Text("\n").join([*(Text.assemble(*line) for line in lines), legend])


def _chosen(found: Merged, marked: str | None) -> list[str]:
    """Those with a curve, those first that are there."""
    known = [row.node for row in found.rows if found.curves.get(row.node)]
    if len(known) <= CURVES_MAX:
        return known
    # evenly over the names, so that the same ones stay while others come and go
    some = known[:: -(-len(known) // CURVES_MAX)]
    if marked in known and marked not in some:
        some[-1] = marked
    return some


def _curve(found: Merged, node: str, style: str) -> Curve:
    return Curve([(at, accuracy) for at, accuracy, _ in found.curves[node]], style)


def believed(found: Merged, size: Size, marked: str | None) -> Text:
    """What the nodes believe of the swarm as a whole: figures, and the nodes by accuracy."""
    swarm = found.swarm
    why = lonely(found)
    text = Text(f"{why}\n" if why else "", "dim")
    if swarm is None:
        return text.append(traffic(found), "default")
    pairs = [*estimates(found).items()]
    for place, (word, value) in enumerate(pairs):
        is_left = place % 2 == 0
        text.append(f"{word:<14}" if is_left else f"{word:<19}", "dim")
        text.append(f"{value:<9}" if is_left else f"{value}\n", "bold")
    text.append(traffic(found) + "\n", "dim")
    histogram = swarm.histogram
    lines = bars(histogram.values, size.width, max(1, min(4, size.height - 5)))
    if lines:
        text.append("\n".join(lines) + "\n", "green")
        ends = f"{histogram.edges[0]:g}", f"{histogram.edges[-1]:g}"
        text.append(_scale(ends[0], "nodes by accuracy", ends[1], len(lines[0])), "dim")
    return text


def staleness(found: Merged, size: Size, marked: str | None) -> Text:
    """How old what was mixed was: one bar for each bin, with its edge below."""
    histogram = found.staleness
    if not sum(histogram.values):
        return Text("no exchange yet", "dim")
    each = max(1, min(6, size.width // len(histogram.values)))
    lines = bars(histogram.values, each * len(histogram.values), max(1, min(5, size.height - 1)))
    text = Text("\n".join(lines) + "\n", "cyan")
    return text.append(_edges(histogram, each), "dim")


def timeline(found: Merged, size: Size, marked: str | None) -> Text:
    """What happened, the newest first: one line for each, or more where the room is narrow."""
    if not found.timeline:
        return Text("nothing yet", "dim")
    return _lines(
        [
            (clock(one.at), KINDS.get(one.kind, ("", ""))[1] or "default", entry(found, one))
            for one in found.timeline
        ],
        size.width,
    )


def merges(found: Merged, size: Size, marked: str | None) -> Text:
    """The latest exchanges, and why each went as it did; the newest first."""
    if not found.merges:
        return Text("none yet", "dim")
    return _lines(
        [
            (clock(one.at), "default" if one.merge.is_accepted else "yellow", mixed(found, one))
            for one in found.merges
        ],
        size.width,
    )


def _lines(rows: Iterable[tuple[str, str, str]], columns: int) -> Text:
    """Times, and beside them texts that are broken between words."""
    text = Text()
    for when, style, sentence in rows:
        room = max(12, columns - len(when) - 1)
        for place, line in enumerate(_wrapped(sentence, room)):
            text.append(when if place == 0 else " " * len(when), "dim")
            text.append(f" {line}\n", style)
    text.right_crop(1)
    return text


def _wrapped(sentence: str, columns: int) -> list[str]:
    lines = [""]
    for word in sentence.split(" "):
        if lines[-1] and width(lines[-1]) + 1 + width(word) > columns:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return [fit(line, min(width(line), columns)) for line in lines]


def _scale(left: str, middle: str, right: str, columns: int) -> str:
    room = columns - len(left) - len(right)
    return f"{left}{middle.center(room) if room > len(middle) else ' ' * max(1, room)}{right}"


def _edges(histogram: Histogram, each: int) -> str:
    labels = (f"{edge:g}".removeprefix("0") or "0" for edge in histogram.edges[:-1])
    return "".join(fit(one, each - 1) + " " if each > 1 else "" for one in labels).rstrip()
