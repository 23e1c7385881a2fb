from __future__ import annotations

import pytest

from p2pfl.core.events import Exchanged
from p2pfl.core.messages import Reason
from p2pfl.edge.page.wording import is_accepted, of_member, why


def exchanged(outcome: str, role: str = "asked", **more: float) -> Exchanged:
    return Exchanged(1.0, "b" * 32, role, outcome, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            exchanged("flow", weight=0.42, staleness=1.3, distance=2.1),
            "mixed with weight 0.42: 1.3 cycles old, 2.1 away",
        ),
        (
            exchanged("flow", weight=0.5, staleness=1.0, distance=0.01234),
            "mixed with weight 0.5: 1.0 cycle old, 0.0123 away",
        ),
        (exchanged("busy"), "it was busy, tried again later"),
        (exchanged("busy", "answered"), "busy, it tries again later"),
        (
            exchanged("rejected: distance", "answered"),
            "refused: farther away than this node's reach",
        ),
        (
            exchanged("rejected: distance", "answered", distance=5.1, reach=3.0),
            "refused: 5.1 away, reach is 3",
        ),
        (
            exchanged("rejected: clip", distance=0.52, reach=0.5),
            "refused: its answer moved us farther than both had agreed (0.52, at most 0.5)",
        ),
        (exchanged("refused: distance"), "it refused: our model is farther away than its reach"),
        (exchanged("refused: something new"), "it refused: something new"),
        (exchanged("something new"), "something new"),
    ],
)
def test_why_of_an_exchange_is_one_sentence(event: Exchanged, sentence: str) -> None:
    assert why(event) == sentence


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("whose", ["refused: ", "rejected: "])
def test_every_reason_has_a_sentence(reason: Reason, whose: str) -> None:
    said = why(exchanged(f"{whose}{reason}"))
    assert "\n" not in said
    assert 10 < len(said) < 90


def test_a_model_that_was_taken_at_either_end_counts_as_accepted() -> None:
    assert all(is_accepted(exchanged(each)) for each in ("flow", "swap", "adopt", "adopted"))
    refused = ("busy", "timeout", "rejected: norm", "refused: distance", "replaced")
    assert not any(is_accepted(exchanged(each)) for each in refused)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("no answer", "it does not answer"),
        (f"suspected by {'b' * 32}", "bbbbbbbb suspects it"),
        (f"dead to {'c' * 32}", "cccccccc says that it is dead"),
        ("something new", "something new"),
    ],
)
def test_what_happened_to_a_member_is_said_with_short_ids(reason: str, said: str) -> None:
    assert of_member(reason) == said
