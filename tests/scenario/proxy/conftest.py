"""Three nodes behind their doors."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.scenario.proxy.made import World, opened


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with opened(World()) as world:
        yield world
