"""Who came to the page of a run with a key with a link, over the requests of a browser.

Rule of the file: without a session nothing is answered but how to get one.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from p2pfl.edge.page.guard import Handler, refused
from p2pfl.edge.page.links import Links

_ASK = "ask `p2pfl page` on the node's device for a new one"


class Session:
    """Lets in browsers that came with a link, and keeps them apart by a cookie.

    Args:
        links: of the node.
        cookie: its name; browsers do not tell the ports of a host apart.
    """

    def __init__(self, links: Links, cookie: str) -> None:
        self._links = links
        self._cookie = cookie

    def needed(self, handler: Handler) -> Handler:
        """The handler, for browsers that came with a link."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if self._is_known(request):
                return await handler(request)
            return refused(
                HTTPStatus.FORBIDDEN, f"this page is opened with a one-time link: {_ASK}"
            )

        return answer

    def begun(self, handler: Handler) -> Handler:
        """As `needed`; with a link in the question, a session begins."""
        page = self.needed(handler)

        async def answer(request: web.Request) -> web.StreamResponse:
            token = request.query.get("once")
            if token is None:
                return await page(request)
            session = self._links.enter(token)
            if session is None and not self._is_known(request):
                return refused(
                    HTTPStatus.FORBIDDEN,
                    f"this link was used already, or is older than ten minutes: {_ASK}",
                )
            # Not a redirection: if the link was followed from another site, a cookie that is for
            # this site only would not come with what it redirects to. A page that loads itself
            # again does come from here.
            response = refused(HTTPStatus.OK, "the page opens", {"Refresh": "0; url=/"})
            if session is not None:
                response.set_cookie(
                    self._cookie, session, httponly=True, samesite="Strict", path="/"
                )
            return response

        return answer

    def _is_known(self, request: web.Request) -> bool:
        return self._links.knows(request.cookies.get(self._cookie, ""))
