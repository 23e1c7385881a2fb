"""Whose requests for the page are answered, how long an answer may take, and with which headers.

A page of another site must not read this node through somebody's browser. It cannot name us: a
host that is neither an address nor this device's own is refused (DNS rebinding), and so is a
request that another origin makes. And what we serve loads nothing from elsewhere (Content Security
Policy).

Rule of the file: nothing is waited for without a bound. Whoever does not read is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import TypeAlias

from aiohttp import hdrs, web

from p2pfl.config import LimitsConfig
from p2pfl.edge.bodies import GRACE_S, patience_s
from p2pfl.edge.browsers import refusal
from p2pfl.edge.connections import abort, plain_host
from p2pfl.edge.static import join
from p2pfl.errors import WireError
from p2pfl.ports import Service

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Turn: TypeAlias = Callable[[web.Request], Awaitable[object]]

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-store",
}
"""Of every answer; files of the page may be kept by a browser, see `files`."""

NONE: Mapping[str, str] = {}

PIECE_BYTES = 1 << 16
"""Written at once; nothing of one connection waits in our memory beyond about twice as much."""


class Guard:
    """Lets requests in to handlers.

    Args:
        service: counts the faults.
        limits: the slowest line that we bear.
        turn: waits until whoever asks may be answered (`connections.Connections.turn`).
        names: hosts, besides addresses and this device's own, by which we may be asked; None asks
            for none: whoever got so far has shown a certificate, which no browser is tricked into.
    """

    def __init__(
        self, service: Service, limits: LimitsConfig, turn: Turn, names: Collection[str] | None
    ) -> None:
        self._service = service
        self._limits = limits
        self._turn = turn
        self._names = names

    def __call__(self, handler: Handler) -> Handler:
        """The handler, for those who may ask it."""

        async def answer(request: web.Request) -> web.StreamResponse:
            await self._turn(request)
            refusal = self._refusal(request)
            if refusal is not None:
                return refused(HTTPStatus.FORBIDDEN, refusal)
            try:
                # who asks again and reads no answer must not make us keep many
                async with asyncio.timeout(GRACE_S):
                    await request.writer.drain()
                return await handler(request)
            except TimeoutError:
                fault = WireError("reads no answer")
                self._service.faulty(join(plain_host(request.remote or ""), 0), fault)
                abort(request.protocol)
            except ConnectionError:
                abort(request.protocol)
            return web.StreamResponse()

        return answer

    def _refusal(self, request: web.Request) -> str | None:
        if self._names is None:
            return None
        return refusal(request.headers, self._names)

    async def write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        """Send some bytes of an answer, piece by piece.

        Raises:
            TimeoutError: whoever asked does not read.
            ConnectionError: it is gone.
        """
        view = memoryview(data)
        for start in range(0, len(data), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            async with asyncio.timeout(patience_s(len(piece), self._limits)):
                await response.write(piece)
                await request.writer.drain()

    async def whole(
        self,
        request: web.Request,
        data: bytes,
        content_type: str,
        headers: Mapping[str, str] = NONE,
    ) -> web.StreamResponse:
        """Answer with some bytes.

        Args:
            request: the question.
            data: the answer.
            content_type: its media type.
            headers: instead of, or besides, `HEADERS`.

        Raises:
            TimeoutError: whoever asked does not read.
            ConnectionError: it is gone.
        """
        of_this = {hdrs.CONTENT_TYPE: content_type, **headers}
        response = web.StreamResponse(headers={**HEADERS, **of_this})
        response.content_length = len(data)
        async with asyncio.timeout(GRACE_S):
            await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await self.write(request, response, data)
        async with asyncio.timeout(GRACE_S):
            await response.write_eof()
        return response


def refused(status: HTTPStatus, why: str, headers: Mapping[str, str] = NONE) -> web.Response:
    """An answer for people that says what is wrong, and the fix."""
    return web.Response(status=status, text=f"{why}\n", headers={**HEADERS, **headers})
