"""The scenario of these tests, as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenario.sweep.made import SCENARIO


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ring.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path
