"""All targets by name."""

from __future__ import annotations

from tests.fuzz.feeding import Target
from tests.fuzz.files import FILES
from tests.fuzz.keys import KEYS
from tests.fuzz.peers import PEERS

TARGETS: dict[str, Target] = PEERS | FILES | KEYS
