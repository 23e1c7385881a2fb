"""A run as one HTML page that needs nothing else: no network, no server, no other file.

Rule of the file: everything that came from outside (names, descriptions, paths, last words) is
escaped; the page itself forbids the browser to load anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from plotly.offline import get_plotlyjs

import p2pfl
from p2pfl.scenario.expect import Verdict as Stated
from p2pfl.scenario.page_bars import outcomes, staleness
from p2pfl.scenario.page_config import lines
from p2pfl.scenario.page_drawing import Drawing
from p2pfl.scenario.page_figures import over_time, thinned
from p2pfl.scenario.page_marks import DRAWN_MAX, when
from p2pfl.scenario.page_topology import topology
from p2pfl.scenario.retold import ENGINE as DEMO
from p2pfl.scenario.trace import Trace
from p2pfl.scenario.verdicts import Verdict, figures, passed
from p2pfl.scenario.wording import bound_told, meaning, title, told, without_bound

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
_LISTED_MAX = 1000

Verdicts: TypeAlias = Sequence[Verdict] | Sequence[Stated]


def write_html(trace: Trace, verdicts: Verdicts, path: Path, *, command: str) -> None:
    """Write the page of a run.

    Args:
        verdicts: of its scenario, or of the demo that it was.
        command: what does the same again.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(page(trace, verdicts, command), encoding="utf-8")


def page(trace: Trace, verdicts: Verdicts, command: str) -> str:
    """The page as text."""
    few = thinned(trace)
    timed = over_time(few) if len(trace.times) else []
    counted = [staleness(trace)] if trace.staleness.sum() else []
    counted += [outcomes(trace)] if trace.outcomes else []
    still = topology(few)
    head = f"{trace.scenario.name}: {_word(trace, verdicts).lower()}"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(head)}</title>",
            f"<style>{_beside('page.css')}</style>\n</head>\n<body>",
            '<a class="skip" href="#figures">Skip to the figures</a>',
            _header(trace, verdicts, command),
            "<main>",
            _deaths(trace),
            _expectations(trace, verdicts),
            _notes(trace),
            '<h2 id="figures">Over time</h2>',
            "<noscript><p>The figures need JavaScript; nothing is loaded for it.</p></noscript>",
            _marks(trace),
            _span(trace) if timed else "<p>The run ended before anybody looked.</p>",
            *(_figure(one) for one in timed),
            "<h2>Exchanges and topology</h2>",
            _pair(counted),
            _figure(still),
            _config(trace),
            "</main>",
            f"<footer>Written by p2pfl {escape(p2pfl.__version__)}. This page is one file "
            "and loads nothing.</footer>",
            f"<script>{get_plotlyjs()}</script>",
            _data([*timed, *counted, still]),
            f"<script>{_beside('page.js')}</script>\n</body>\n</html>\n",
        ]
    )


def _beside(name: str) -> str:
    return (files("p2pfl.scenario") / name).read_text(encoding="utf-8")


def _word(trace: Trace, verdicts: Verdicts) -> str:
    figures = [one for one in verdicts if isinstance(one, Verdict)]
    held = all(one.held for one in verdicts)
    return "PASSED" if held and passed(figures, trace) else "FAILED"


def _data(drawings: Iterable[Drawing]) -> str:
    plain = [
        {key: value for key, value in asdict(one).items() if key not in ("key", "reading")}
        for one in drawings
    ]
    text = json.dumps(plain, allow_nan=False, separators=(",", ":"))
    # inside a script element only this could end it
    safe = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="drawings">{safe}</script>'


# --- at the top ---------------------------------------------------------------------------------


def _header(trace: Trace, verdicts: Verdicts, command: str) -> str:
    scenario, word = trace.scenario, _word(trace, verdicts)
    facts = {
        "engine": trace.engine,
        "nodes": f"{scenario.nodes:,}",
        "topology": scenario.topology,
        "task": f"{scenario.task.name}, {scenario.task.partition}",
        "seed": str(scenario.seed),
        "the nodes' time": f"{trace.seconds:,.5g} s",
        "computed in": f"{trace.wall_s:,.3g} s",
        "local steps": f"{trace.steps:,}",
    }
    if trace.event_hash is not None:
        facts["event hash"] = f"{trace.event_hash[:16]} ({trace.events or 0:,} events)"
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items()
    )
    lead = f'<p class="lead">{escape(scenario.description)}</p>' if scenario.description else ""
    return (
        f'<header>\n<div class="top"><h1>{escape(scenario.name)}</h1>'
        f'<p class="verdict {word.lower()}">{word}</p></div>\n{lead}\n'
        f'<dl class="facts">{cells}</dl>\n<p id="again">Run it again with</p>\n'
        f'<div class="again"><pre class="wrap" id="command" aria-labelledby="again">'
        f'{escape(command)}</pre><button type="button" id="copy">Copy</button></div>\n</header>'
    )


def _deaths(trace: Trace) -> str:
    if not trace.deaths:
        return ""
    parts = [
        f'<h3>{escape(name)}</h3>\n<pre class="wrap">{escape(last_words)}</pre>'
        for name, last_words in trace.deaths.items()
    ]
    lead = "<p>These nodes ended though nobody asked them to. Their last words:</p>"
    return f'<section class="bad"><h2>Deaths</h2>{lead}\n' + "\n".join(parts) + "</section>"


def _expectations(trace: Trace, verdicts: Verdicts) -> str:
    rows = [
        f"<tr><td>{what}</td>"
        f'<td class="num">{escape(bound)}</td>'
        f'<td class="num">{escape(value)}</td>'
        f'<td class="{"held" if held else "missed"}">'
        f"{'✓ held' if held else '✗ MISSED'}</td></tr>"
        for what, bound, value, held in map(_row, verdicts)
    ]
    table = _table(("expected", "bound", "measured", "verdict"), rows)
    if not rows:
        table = "<p>Nothing was expected of this run.</p>"
    rest = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in without_bound(trace, figures(trace)).items()
    )
    also = f'<h3>Also measured</h3><dl class="facts">{rest}</dl>' if rest else ""
    return f"<section><h2>Expectations</h2>\n{table}\n{also}</section>"


def _row(one: Verdict | Stated) -> tuple[str, str, str, bool]:
    """What was expected, as HTML; the bound and what was measured, as text; whether it held."""
    if isinstance(one, Stated):
        return escape(one.what), one.bound, one.value, one.held
    what = f"{escape(title(one.name))}<small>{escape(meaning(one.name))}</small>"
    return what, bound_told(one.name, one.bound), told(one.name, one.value), one.held


def _table(columns: Iterable[str], rows: Iterable[str]) -> str:
    heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "\n".join(rows)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="expectations">'
        f"<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _notes(trace: Trace) -> str:
    if not trace.notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in trace.notes)
    return f"<section><h2>Notes</h2>\n<ul>{items}</ul></section>"


# --- figures ------------------------------------------------------------------------------------


def _marks(trace: Trace) -> str:
    if not trace.marks:
        return ""
    items = "".join(
        f"<li><span>{escape(when(mark))}</span> {escape(mark.text)}</li>\n"
        for mark in trace.marks[:_LISTED_MAX]
    )
    lead = "The numbers and shades over the figures are what was done to the swarm:"
    if len(trace.marks) > DRAWN_MAX:
        lead = f"The first {DRAWN_MAX} of these are drawn over the figures:"
    more = len(trace.marks) - _LISTED_MAX
    rest = f"<p>and {more:,} more.</p>" if more > 0 else ""
    listed = f'<ol class="marks">{items}</ol>{rest}'
    if len(trace.marks) > 30:
        listed = f"<details><summary>{len(trace.marks):,} marks</summary>{listed}</details>"
    return f"<p>{lead}</p>\n{listed}"


def _span(trace: Trace) -> str:
    end = f"{trace.seconds:.5g}"
    return (
        '<form class="span" id="span"><label>Show from <input name="begin" type="number" '
        f'step="any" min="0" value="0"></label><label>to <input name="end" type="number" '
        f'step="any" min="0" value="{end}"> s</label><button>Show</button>'
        '<button type="reset">All</button></form>'
    )


def _figure(one: Drawing) -> str:
    key = "".join(
        f'<li><i style="background:var({colour})"></i>{escape(words)}</li>'
        for colour, words in one.key
    )
    legend = f'<ul class="key">{key}</ul>' if key else ""
    return (
        f'<figure aria-labelledby="{one.name}-title"><figcaption><h3 id="{one.name}-title">'
        f"{escape(one.title)}</h3><p>{escape(one.reading)}</p>{legend}</figcaption>"
        f'<div class="plot" id="{one.name}" style="height:{one.height}px"></div></figure>'
    )


def _pair(drawings: Iterable[Drawing]) -> str:
    return f'<div class="pair">{"".join(map(_figure, drawings))}</div>'


# --- the configuration --------------------------------------------------------------------------


def _config(trace: Trace) -> str:
    every = lines(trace.scenario)
    changed = sum(line.changed for line in every)
    text = "\n".join(
        f"<b>{escape(line.text)}  # changed</b>" if line.changed else escape(line.text)
        for line in every
    )
    only = "\n".join(escape(line.text) for line in lines(trace.scenario, everything=False))
    if trace.engine == DEMO:
        # its nodes were no scenario's: what this leaves as it is was not theirs
        return (
            "<section><h2>Configuration</h2>\n<p>What was done, as a scenario for "
            f'<code>p2pfl run --engine processes</code>:</p>\n<pre tabindex="0">{only}</pre>'
            "</section>"
        )
    return (
        "<section><h2>Configuration</h2>\n<p>What this scenario sets, as TOML:</p>\n"
        f'<pre tabindex="0">{only}</pre>\n<details><summary>Every setting, with {changed} '
        f'marked that differ from the default</summary><pre tabindex="0">{text}</pre></details>'
        "</section>"
    )
