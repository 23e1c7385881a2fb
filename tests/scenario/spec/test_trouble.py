"""Events: of one kind, and with an end where there can be one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from p2pfl.scenario.spec import FAULTS, FaultEvent


def test_one_island_is_enough_and_may_be_a_share() -> None:
    for island in (0.5, 3, "n1-n4"):
        event = FaultEvent.model_validate({"at": 1, "partition": island})
        assert event.partition is not None
        assert len(event.partition) == 1


@pytest.mark.parametrize("kind", FAULTS)
def test_an_event_is_of_one_kind(kind: str) -> None:
    pair = kind in ("one_way", "hold")
    values: dict[str, Any] = {"at": 1.0, kind: [1, 2] if pair else 1}
    if kind not in ("torn", "clock_jump"):
        values["until"] = 2.0
    assert FaultEvent.model_validate(values).kind == kind
    other = next(one for one in ("pause", "torn") if one != kind)
    with pytest.raises(ValidationError, match=f"exactly one of .* is needed, .*{kind}.* given"):
        FaultEvent.model_validate({**values, other: 1})


@pytest.mark.parametrize("kind", ["torn", "clock_jump"])
def test_what_happens_at_one_moment_has_no_end(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"{kind} happens at one moment, it has no 'until'"):
        FaultEvent.model_validate({"at": 1.0, "until": 2.0, kind: 1})
