"""Scenarios made up for tests, those that are refused among them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from p2pfl.scenario.spec import Scenario


def scenario(**values: Any) -> Scenario:
    whole = {"nodes": 12, "duration": {"seconds": 10.0}}
    return Scenario.model_validate(whole | values)


def refused(words: str, **values: Any) -> None:
    with pytest.raises(ValidationError) as found:
        scenario(**values)
    assert words in str(found.value)
