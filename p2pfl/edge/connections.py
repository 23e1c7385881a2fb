"""What the connections of strangers may cost: how many, how long silent, and what is not even HTTP.

A connection that asks nothing is closed after a while; beyond the limit the silent and the newest
go first, so that whoever was here keeps its place. What cannot be read as HTTP is answered with 400
by aiohttp itself, which would log it with a traceback as if the fault were ours.

Rule of the file: each of them is counted against the address it came from, and never waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from p2pfl.config import LimitsConfig
from p2pfl.edge.static import join
from p2pfl.errors import WireError
from p2pfl.ports import Service

log = logging.getLogger(__name__)

_EVERY_S = 1.0


class Connections:
    """The inbound connections of one server.

    Args:
        service: counts the faults.
        limits: how many there may be, and how long one may be silent.
    """

    def __init__(self, service: Service, limits: LimitsConfig) -> None:
        self._service = service
        self._limits = limits
        self._asked: set[web.RequestHandler] = set()

    def note_asked(self, request: web.Request) -> None:
        """This connection has sent a complete request head."""
        self._asked.add(request.protocol)

    async def watch(self, runner: web.AppRunner) -> None:
        """Close what is silent for too long or too many, until cancelled."""
        opened: dict[web.RequestHandler, float] = {}
        while (server := runner.server) is not None:
            now, patience, most = time.monotonic(), self._limits.first_byte_s, self._most
            opened = {handler: opened.get(handler, now) for handler in server.connections}
            self._asked.intersection_update(opened)
            # sorting is stable: among equals, those that came first stay
            for index, handler in enumerate(sorted(opened, key=self._is_silent)):
                if self._is_silent(handler) and now - opened[handler] > patience:
                    self._drop(handler, f"asked nothing for {patience:g} s")
                elif index >= most:
                    self._drop(handler, f"more than {most} connections")
            await asyncio.sleep(_EVERY_S)

    def log(self) -> logging.Logger:
        """A log for the server that does not repeat what strangers got wrong."""
        of_server = logging.Logger(f"{__name__}.server")
        of_server.parent = log
        of_server.setLevel(logging.DEBUG)  # the filter sees all, and lets through what `log` takes
        of_server.addFilter(self._is_ours)
        return of_server

    @property
    def _most(self) -> int:
        return self._limits.connections

    def _is_silent(self, handler: web.RequestHandler) -> bool:
        return handler not in self._asked

    def _drop(self, handler: web.RequestHandler, why: str) -> None:
        transport = handler.transport
        host = transport.get_extra_info("peername")[0] if transport is not None else ""
        self._service.faulty(join(plain_host(host), 0), WireError(why))
        abort(handler)

    def _is_ours(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return log.isEnabledFor(record.levelno)
        remote = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        fault = WireError(f"not HTTP: {type(error).__name__}")
        self._service.faulty(join(plain_host(str(remote)), 0), fault)
        return False


def abort(handler: web.RequestHandler) -> None:
    """Close a connection at once, whatever the other end has not read yet."""
    transport = handler.transport
    handler.force_close()
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def plain_host(host: str) -> str:
    """IPv4 seen through a dual-stack socket is written as IPv4."""
    return host.removeprefix("::ffff:")
