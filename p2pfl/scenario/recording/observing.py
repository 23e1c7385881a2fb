"""What one node saw while it was up: cycles, evaluations, and exchanges with its peers.

    Cycle.seconds / Cycle.steps     a step; the first of a life is cold and does not count
    Exchanged.seconds               a round trip
    Exchanged.outcome timeout       a loss, if the peer was up

Rule of the file: it counts and concludes nothing. What a silence reached into is left out: it tells
of the silence, not of the device or the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfl.core.events import Cycle, Exchanged, Measured, Started
from p2pfl.scenario.recording.evidence import Seen
from p2pfl.scenario.recording.presence import DEAF, TOGETHER_S
from p2pfl.scenario.recording.reading import Timed
from p2pfl.scenario.recording.text import counted

_MARGIN_S = 1.0  # so near to a peer's beginning or end, silence is not the network's
_MIXING = frozenset(("flow", "adopt", "adopted"))


def observe(
    seen: Seen, events: Sequence[Timed], by_id: Mapping[str, Seen], zero: float, end: float
) -> None:
    """Fill in what a node measured within zero .. end."""
    cold: tuple[int, float] | None = None
    before: Cycle | None = None
    evaluated: Measured | None = None
    is_cold = True
    for wall, event in events:
        now = wall - zero
        if isinstance(event, Started):
            before, evaluated, is_cold = None, None, True
        if not zero <= wall <= end:
            continue
        match event:
            case Cycle():
                seen.cycles += 1
                if event.steps > 0 and event.seconds > 0 and _calm(seen, now - event.seconds, now):
                    measured = event.steps, event.seconds / event.steps
                    if is_cold:
                        cold = cold or measured
                    else:
                        seen.steps.append(measured[0])
                        seen.step_s.append(measured[1])
                    is_cold = False
                if before is not None and _calm(seen, now - (event.at - before.at), now):
                    seen.periods.append(event.at - before.at)
                before = event
            case Measured():
                if before is not None and _calm(seen, now - (event.at - before.at), now):
                    seen.evaluations.append(event.at - before.at)
                if evaluated is not None and _calm(seen, now - (event.at - evaluated.at), now):
                    seen.evaluated_every.append(event.at - evaluated.at)
                evaluated = event
            case Exchanged(role="asked") if event.bytes_out > 0:
                # without bytes it is the answer to a RESOLVE, whose exchange is counted already
                _asked(seen, event, now, by_id)
    if not seen.step_s and cold is not None:
        seen.steps, seen.step_s = [cold[0]], [cold[1]]


def _asked(seen: Seen, event: Exchanged, now: float, by_id: Mapping[str, Seen]) -> None:
    seen.exchanges += event.outcome in _MIXING
    seen.sizes[event.bytes_out] += 1
    begin, peer = now - event.seconds, by_id.get(event.peer)
    if event.outcome == "flow" and _calm(seen, begin, now):
        seen.trips.setdefault(event.peer, []).append(event.seconds)
    if peer is None:
        return
    if event.outcome not in DEAF:
        seen.asked += 1
    elif event.outcome == "timeout" and _calm(seen, begin, now) and _was_up(peer, begin, now):
        seen.asked += 1
        seen.losses += 1


def _calm(seen: Seen, begin: float, end: float) -> bool:
    """Whether a node was never silent in that time."""
    return not any(gap.begin < end and begin < gap.end for life in seen.lives for gap in life.gaps)


def _was_up(seen: Seen, begin: float, end: float) -> bool:
    """Whether a peer was there all the time, neither coming nor going, and not silent."""
    begin, end = begin - _MARGIN_S, end + _MARGIN_S
    return _calm(seen, begin, end) and any(
        (life.begin <= begin or life.begin == 0.0) and (end <= life.end or life.ending == "present")
        for life in seen.lives
    )


def noted(nodes: Sequence[Seen]) -> list[str]:
    """What is to be known of these nodes, beside the figures."""
    notes = []
    known = {node_id for node in nodes for node_id in node.ids}
    strangers = {peer for node in nodes for peer in node.trips} - known
    if strangers:
        notes.append(
            f"{counted(len(strangers), 'peer')} without a journal here took part; "
            "give their state directories too, the replay lacks them"
        )
    aged = [node for node in nodes if node.lives[0].begin < TOGETHER_S and node.lives[0].age]
    if aged:
        oldest = max(node.lives[0].age for node in aged)
        notes.append(
            f"{counted(len(aged), 'node')} began with a trained model (age up to {oldest:,}); "
            "in the replay everybody begins untrained"
        )
    idle = [node.name for node in nodes if not node.cycles]
    if idle:
        notes.append(f"no training cycle of {', '.join(idle)} was seen; they get the median step")
    return notes
