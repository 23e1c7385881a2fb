"""Why: what became of an exchange, and what happened to a member, in one sentence for people.

Rule of the file: an outcome that is not known here is shown as it is, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2pfl.core.events import Exchanged, MemberChanged
from p2pfl.core.messages import Reason, Status
from p2pfl.core.outcomes import REFUSED, REJECTED

ACCEPTED = ("flow", "swap", "adopt", "adopted")
"""Outcomes after which a model had, or will have, an effect at one end."""

_OUTCOMES: Mapping[tuple[str, str], str] = {
    ("swap", "asked"): "kept, to be judged together with the models of others",
    ("swap", "answered"): "kept, to be judged together with the models of others",
    ("adopt", "asked"): "took its model: ours had next to no history beside it",
    ("adopt", "answered"): "gave it our model: its own had next to no history beside ours",
    ("adopted", "asked"): "it took our model: its own had next to no history beside ours",
    ("adopted", "answered"): "took its model: ours had next to no history beside it",
    ("busy", "asked"): "it was busy, tried again later",
    ("busy", "answered"): "busy, it tries again later",
    ("cancelled", "asked"): "not mixed: it had not taken effect at the other end",
    ("replaced", "asked"): "not mixed: our model was replaced while the answer was on its way",
    ("mismatched", "asked"): "not mixed: the answer was to another question",
    ("ignored", "asked"): "not mixed: it runs with another trust mode",
    ("ignored", "answered"): "not mixed: it runs with another trust mode",
    ("repeated", "answered"): "asked before, answered as before",
    ("repeated", "asked"): "answered before",
    ("unreachable", "asked"): "it could not be reached",
    ("timeout", "asked"): "no answer in time; it is asked later what became of it",
    ("wire", "asked"): "its answer was no message of this protocol",
    ("malformed", "asked"): "its answer did not fit the question",
}

_OURS: Mapping[str, str] = {
    Reason.DISTANCE: "farther away than this node's reach",
    Reason.CLIP: "its answer moved us farther than both had agreed",
    Reason.NORM: "so far away that it can only be broken",
    Reason.MALFORMED: "its answer claimed what cannot be",
}

_THEIRS: Mapping[str, str] = {
    Reason.DISTANCE: "our model is farther away than its reach",
    Reason.SUSPENDED: "it has suspended this node for its faults",
    Reason.DENIED: "this node is denied there",
    Reason.RATE: "this node asked too often",
    Reason.RUN: "it is of another run",
    Reason.LAYOUT: "it trains another model",
    Reason.VERSION: "it speaks another version of the protocol",
    Reason.INCARNATION: "it knows of a later start of this node",
    Reason.STALE_SEQ: "the exchange was finished already",
    Reason.RECIPIENT: "another node lives at its address now",
    Reason.PROOF: "this node's signature is missing or wrong",
    Reason.SHAPE: "our model has another shape",
}

_MEMBERS: Mapping[str, str] = {
    "met": "met",
    "heard": "it speaks again",
    "rumour": "others say so",
    "restarted": "it was started again",
    "left": "it said goodbye",
    "no answer": "it does not answer",
    "suspicion confirmed": "it did not answer, nor refute it in time",
    "made room": "forgotten, to make room for others",
    "never answered": "it was only heard of, and does not answer",
}


FIRST_WORD = "met"
_OWN_WORDS = (FIRST_WORD, "heard", "restarted")
"""Reasons of what a member told this node itself; all others are what somebody says of it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a member that has spoken was last known to be."""

    status: str
    incarnation: int


def is_accepted(event: Exchanged) -> bool:
    """Whether a model that moved was taken at the end where it arrived."""
    return event.outcome in ACCEPTED


def why(event: Exchanged) -> str:
    """What became of an exchange, and why."""
    if event.outcome == "flow":
        return (
            f"mixed with weight {event.weight:.2g}: {event.staleness:.1f} "
            f"cycle{'' if f'{event.staleness:.1f}' == '1.0' else 's'} old, "
            f"{event.distance:.3g} away"
        )
    known = _OUTCOMES.get((event.outcome, event.role))
    if known is not None:
        return known
    if event.outcome.startswith(REJECTED):
        reason = event.outcome.removeprefix(REJECTED)
        if reason == Reason.DISTANCE and event.reach:
            return f"refused: {event.distance:.3g} away, reach is {event.reach:.3g}"
        measured = f" ({event.distance:.3g}, at most {event.reach:.3g})" if event.reach else ""
        return f"refused: {_OURS.get(reason, reason)}{measured}"
    if event.outcome.startswith(REFUSED):
        reason = event.outcome.removeprefix(REFUSED)
        return f"it refused: {_THEIRS.get(reason, reason)}"
    return event.outcome


def of_member(reason: str) -> str:
    """Why this node believes something else of a member than before; ids are shortened."""
    for begins, ends in (("suspected by ", "suspects it"), ("dead to ", "says that it is dead")):
        if reason.startswith(begins):
            return f"{reason.removeprefix(begins)[:8]} {ends}"
    return _MEMBERS.get(reason, reason)


def is_own_word(event: MemberChanged) -> bool:
    """Whether the member itself has spoken to this node."""
    return event.reason in _OWN_WORDS


def kind_of(event: MemberChanged, before: Moment | None) -> str | None:
    """What happened to a member, as the timeline calls it; None for what is no news.

    Args:
        before: what it was; None: it speaks for the first time.
    """
    match event.status:
        case Status.ALIVE:
            if before is None:
                return "joined"
            return "restarted" if 0 <= before.incarnation < event.incarnation else "back"
        case Status.SUSPECT:
            return "suspect"
        case _ if event.reason == "denied":
            # told by the fault that goes with it
            return None
        case _ if event.reason == "left":
            return "left"
        case _:
            return "dead"
