"""What was done to the nodes of a run, counted, beside how many of them ended by themselves.

Rule of the file: pure functions of a `Trace`. Whoever was killed because the scenario says so did
not end by itself, so the figure `deaths` says nothing of it; this does.
"""

from __future__ import annotations

from collections import Counter

from p2pfl.scenario.trace import Mark, Presence, Trace

_AGAIN, _LATE = "started again", "joined late"
_WORDS = {"kill": "killed", "stop": "asked to stop", "pause": "frozen"}
_ORDER = ("killed", "asked to stop", _AGAIN, _LATE, "frozen")


def deeds(trace: Trace) -> Counter[str]:
    """How often a node was killed, started again and so on, what chance did left out."""
    found: Counter[str] = Counter()
    been = set[int]()
    for mark in trace.marks:
        if mark.kind == "start":
            for place in mark.nodes:
                found[_AGAIN if place in been or _was_there(trace, mark, place) else _LATE] += 1
        elif mark.kind in _WORDS:
            found[_WORDS[mark.kind]] += len(mark.nodes)
        else:
            continue
        been.update(mark.nodes)
    return found


def _was_there(trace: Trace, mark: Mark, place: int) -> bool:
    before = trace.presence[trace.times < mark.at, place]
    return bool((before != Presence.ABSENT).any())


def deeds_told(trace: Trace) -> str:
    """The same in words; empty if nothing was done."""
    found = deeds(trace)
    text = ", ".join(f"{found[what]:,} {what}" for what in _ORDER if found[what])
    is_all = trace.scenario.churn.mode == "none"
    return text if is_all or not text else f"{text}; who came and went by chance is not counted"
