"""What all tables of a scenario have in common.

Rule of the file: a table is frozen, an unknown key in it is an error, and no number is infinite.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    """A table of a scenario."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


def exactly_one(model: BaseModel, *keys: str) -> str:
    """The one of these keys that was given.

    Raises:
        ValueError: none was, or several.
    """
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) != 1:
        what = " and ".join(given) or "none"
        raise ValueError(f"exactly one of {', '.join(keys)} is needed, {what} given")
    return given[0]
