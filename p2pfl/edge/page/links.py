"""Who may look at the page of a run with a key: whoever came with a one-time link.

    new() -> token      printed where only who may see it looks: the node's terminal, `p2pfl page`
    enter(token)        used up; gives a session, which the page shows with what it asks

A link is good once, and not for long, so one that stays in a browser's history or a terminal's
scrollback opens nothing. Sessions end with the node.

Rule of the file: bounded, and compared in constant time, because strangers guess.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterable

from p2pfl.ports import Clock

LINK_S = 600.0
"""A link is good for so long."""

LINKS, SESSIONS = 32, 32
"""Unused links, and browsers that came with one; the oldest goes where there are more."""

_BYTES = 32


class Links:
    """The links and sessions of one node; `clock` is monotonic."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._links: dict[str, float] = {}
        self._sessions: dict[str, None] = {}

    def new(self) -> str:
        """A token that opens the page once."""
        token = secrets.token_urlsafe(_BYTES)
        self._links[token] = self._clock()
        while len(self._links) > LINKS:
            del self._links[next(iter(self._links))]
        return token

    def enter(self, token: str) -> str | None:
        """Use a link up; gives the session that it opens, None where it opens none (any more)."""
        now = self._clock()
        for old in [old for old, made in self._links.items() if now - made > LINK_S]:
            del self._links[old]
        found = _find(token, self._links)
        if found is None:
            return None
        del self._links[found]
        session = secrets.token_urlsafe(_BYTES)
        self._sessions[session] = None
        while len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def knows(self, session: str) -> bool:
        """Whether a session is open."""
        return _find(session, self._sessions) is not None


def _find(given: str, known: Iterable[str]) -> str | None:
    """The known secret that was given; all of them are compared, whichever it is."""
    data, found = given.encode(errors="surrogateescape"), None
    for secret in known:
        if hmac.compare_digest(data, secret.encode()):
            found = secret
    return found
