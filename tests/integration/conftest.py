"""What the integration tests share: nodes that are gone when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.nodes import Nodes


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Nodes on loopback, or on the hosts of a `Lan`."""
    with closing(Nodes(tmp_path)) as nodes:
        yield nodes
