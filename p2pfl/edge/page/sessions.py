"""Who may ask for the data of a run with a key: whoever came with a link, and a scraper.

    POST /v1/session        the secret of a link there, that of a session back
    ?session=SECRET         of the page: its stream cannot send headers
    Authorization: Bearer   of programs: a session, or the scraper's token for `/metrics`

No cookies: browsers send those to every port of a host, so that another program on this device
could collect them.

Rule of the file: without a session nothing is answered but how to get one.
"""

from __future__ import annotations

import asyncio
import hmac
from http import HTTPStatus

from aiohttp import hdrs, web

from p2pfl.edge.bodies import GRACE_S
from p2pfl.edge.page.guard import HEADERS, Handler, refused
from p2pfl.edge.page.links import Links

SECRET_BYTES = 128
"""Longest body that could be the secret of a link."""

_PRINTS = "`p2pfl page` on the node's device prints one"
_NONE = f"this page opens with a one-time link: {_PRINTS}"
_UNKNOWN = (
    "the node does not know this session (any more), as after a restart of the node: open a new "
    f"link, {_PRINTS}"
)
_USED = (
    "this link was used already, is older than ten minutes, or many newer ones were made: open a "
    f"new one, {_PRINTS}"
)


class Sessions:
    """Begins sessions, and lets in who has one.

    Args:
        links: of the node.
        scrape_token: what a scraper shows for `/metrics`; None lets none in.
    """

    def __init__(self, links: Links, scrape_token: str | None) -> None:
        self._links = links
        self._scrape_token = scrape_token

    def needed(self, handler: Handler) -> Handler:
        """The handler, for those who have a session."""

        async def answer(request: web.Request) -> web.StreamResponse:
            session = request.query.get("session") or _bearer(request)
            if self._links.knows(session):
                return await handler(request)
            return refused(HTTPStatus.FORBIDDEN, _UNKNOWN if session else _NONE)

        return answer

    def scraped(self, handler: Handler) -> Handler:
        """As `needed`, and for the scraper."""
        others = self.needed(handler)

        async def answer(request: web.Request) -> web.StreamResponse:
            shown, token = _bearer(request).encode(errors="surrogateescape"), self._scrape_token
            if token is not None and hmac.compare_digest(shown, token.encode()):
                return await handler(request)
            return await others(request)

        return answer

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Use a link up for a session."""
        length = request.content_length
        if length is None or length > SECRET_BYTES:
            why = f"the secret of a link has at most {SECRET_BYTES} bytes, and a Content-Length"
            return _closed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)
        try:
            async with asyncio.timeout(GRACE_S):
                token = (await request.read()).decode(errors="replace")
        except TimeoutError:
            why = f"the secret of a link did not come within {GRACE_S:g} s"
            return _closed(HTTPStatus.REQUEST_TIMEOUT, why)
        session = self._links.enter(token)
        if session is None:
            return refused(HTTPStatus.FORBIDDEN, _USED)
        return web.json_response({"session": session}, headers=HEADERS)


def _closed(status: HTTPStatus, why: str) -> web.Response:
    """A refusal after which nothing is read: what was announced may never come."""
    answer = refused(status, why)
    answer.force_close()
    return answer


def _bearer(request: web.Request) -> str:
    """The secret in the header that is for secrets; "" where there is none."""
    scheme, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""
