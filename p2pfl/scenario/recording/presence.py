"""Who was up when: the lives of a node, and its silences, from the times of its events.

    Started .. Stopped              a life
    Started .. silence              a crash: no Stopped before the next Started, or silent long
                                    before the others' end
    silence within a life           frozen; if the node's own clock stood still too, the device
                                    slept

Rule of the file: pure functions of events. Times are wall times; how long a silence must be to mean
something follows from the node's own pace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from p2pfl.config import NodeConfig
from p2pfl.core.events import Cycle, Exchanged, Measured, Started, Stopped
from p2pfl.scenario.recording.evidence import Ending, Gap, Life, median
from p2pfl.scenario.recording.reading import Journal, Timed

SILENT_CYCLES, SILENT_S = 10, 3.0
"""A node that says nothing for longer than both is frozen, asleep or dead."""
ENDING_S = 3.0
"""Who stops so shortly before the end stayed until the end: everybody was told to stop."""
TOGETHER_S = 1.0
"""Who starts so shortly after the first was there from the beginning."""
DEAF = frozenset(("timeout", "unreachable", "wire", "repeated", "mismatched"))
"""Outcomes after which the asker knows nothing of the peer."""

_FLUSH_S = 1.0  # a journal is flushed twice a second
_EVALUATIONS = 3


def silence_s(events: Sequence[Timed]) -> float:
    """How long one node must say nothing to be taken for frozen or dead.

    Args:
        events: of one node, by time.

    Returns:
        Ten of its usual cycles, three of its usual evaluations, and `SILENT_S` at least.
    """
    cycles, evaluations = list[float](), list[float]()
    before: Cycle | None = None
    for _, event in events:
        match event:
            case Started():
                before = None
            case Cycle():
                if before is not None:
                    cycles.append(event.at - before.at)
                before = event
            case Measured() if before is not None:
                evaluations.append(event.at - before.at)
    return max(SILENT_S, SILENT_CYCLES * median(cycles), _EVALUATIONS * median(evaluations))


def lives(
    events: Sequence[Timed],
    *,
    end: float,
    checkpoint_every_s: float = NodeConfig().checkpoint_every_s,
    whole_since: float = -math.inf,
) -> list[Life]:
    """The lives of one node, by time.

    Silence counts only once the life had a training cycle: the first one may take any time.

    Args:
        events: of one node, by wall time.
        end: wall time of the recording's end, not before the last event.
        checkpoint_every_s: a life as long as this has left a checkpoint.
        whole_since: silence that began earlier means nothing, the journal dropped rows.
    """
    parts: list[list[Timed]] = []
    for wall, event in events:
        if not parts or (isinstance(event, Started) and not _is_prelude(parts[-1], wall)):
            parts.append([])
        parts[-1].append((wall, event))
    silent = silence_s(events)
    found: list[Life] = []
    before: tuple[Life, Started | None] | None = None
    for number, part in enumerate(parts):
        started = next((event for _, event in part if isinstance(event, Started)), None)
        stops = [wall for wall, event in part if isinstance(event, Stopped)]
        last = stops[-1] if stops else part[-1][0]
        is_last = number == len(parts) - 1
        ending: Ending = "stopped" if stops else "crashed"
        if is_last and end - last <= (ENDING_S if stops else silent):
            ending = "present"
        lost = False
        if before is not None and started is not None and not started.resumed:
            earlier, first = before
            saved = earlier.ending == "stopped" or earlier.end - earlier.begin > checkpoint_every_s
            lost = saved or (first is not None and first.node != started.node)
        life = Life(
            begin=part[0][0],
            end=last,
            ending=ending,
            resumed=started is None or started.resumed,
            lost=lost,
            age=0 if started is None else started.age,
            gaps=tuple(_gaps(part, silent, whole_since)),
        )
        found.append(life)
        before = life, started
    return found


def _is_prelude(part: Sequence[Timed], wall: float) -> bool:
    """Whether these events are of the life whose Started comes now."""
    return not isinstance(part[0][1], Started) and wall - part[0][0] < TOGETHER_S


def _gaps(part: Sequence[Timed], silent: float, whole_since: float) -> Iterable[Gap]:
    trained = False
    for (begin, before), (end, after) in pairwise(part):
        trained = trained or isinstance(before, Cycle)
        length = end - begin
        if trained and length > silent and begin >= whole_since:
            stood_still = length - (after.at - before.at)
            yield Gap(begin, end, stood_still > max(1.0, length / 2))


def heard_of(crashes: Mapping[str, Sequence[float]], told: Iterable[Journal]) -> dict[float, float]:
    """For each crash, by the node's own last word: when peers last heard of it, soon after."""
    latest: dict[float, float] = {}
    for journal in told:
        for wall, event in journal.events:
            if not isinstance(event, Exchanged) or event.peer not in crashes:
                continue
            is_deaf = event.outcome in DEAF or event.outcome.startswith("refused")
            if event.role == "asked" and is_deaf:
                continue
            for last in crashes[event.peer]:
                if last < wall <= last + _FLUSH_S:
                    latest[last] = max(latest.get(last, last), wall)
    return latest
