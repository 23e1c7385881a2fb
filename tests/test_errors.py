"""The tree of errors says who is to blame."""

from __future__ import annotations

import inspect
import re

from p2pfl import errors
from p2pfl.errors import (
    ConfigError,
    LearnerError,
    NetworkError,
    P2pflError,
    PeerError,
    PeerGone,
    PeerTimeout,
    PeerUnreachable,
    StateError,
    TaskError,
    WireError,
)

DEFINED = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
}


def test_the_tree_in_the_docstring_is_the_tree():
    drawn, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]*)(\w+Error|Peer\w+)\b", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[: depth - 1], found[2]]
            drawn[found[2]] = path[-2] if len(path) > 1 else None
    assert drawn == {
        name: kind.__base__.__name__ if kind is not P2pflError else None
        for name, kind in DEFINED.items()
    }


def test_catching_the_root_catches_everything():
    assert all(issubclass(kind, P2pflError) for kind in DEFINED.values())


def test_a_peers_fault_is_never_taken_for_ours():
    ours = {ConfigError, TaskError, StateError, LearnerError, NetworkError}
    theirs = {PeerError, PeerUnreachable, PeerGone, PeerTimeout, WireError}
    assert ours | theirs | {P2pflError} == set(DEFINED.values())
    assert all(issubclass(kind, PeerError) == (kind in theirs) for kind in ours | theirs)
