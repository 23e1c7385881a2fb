"""Put a node on every device you have; they find each other and train one model together.

What scripts use is here, imported when it is asked for, so that `import p2pfl` costs nothing:
`Node`, `NodeConfig`, `DeviceConfig`, `Layout` and `P2pflError`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2pfl.config import DeviceConfig, NodeConfig
    from p2pfl.core.weights import Layout
    from p2pfl.errors import P2pflError
    from p2pfl.node import Node

__version__ = "0.1.0"
__all__ = ["DeviceConfig", "Layout", "Node", "NodeConfig", "P2pflError"]

_HOMES = {
    "DeviceConfig": "p2pfl.config",
    "Layout": "p2pfl.core.weights",
    "Node": "p2pfl.node",
    "NodeConfig": "p2pfl.config",
    "P2pflError": "p2pfl.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pfl' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
