"""How aiohttp serves here, whichever listener it is: what a head may cost, and how it ends.

Rule of the file: every option has a bound for strangers; what a request's body may cost is decided
where it is read.
"""

from __future__ import annotations

from aiohttp import web

from p2pfl.edge.connections import Connections

_FIELDS, _FIELD_BYTES, _LINE_BYTES = 40, 4096, 1024
_KEPT_S, _LINGER_S, _SHUTDOWN_S = 75.0, 2.0, 1.0
_BUFFER_BYTES = 1 << 16


def runner(
    app: web.Application, connections: Connections, buffer_bytes: int = _BUFFER_BYTES
) -> web.AppRunner:
    """What serves an application; it has no socket of its own (see `listening.Door`).

    Args:
        app: what is served.
        connections: counts what is no HTTP.
        buffer_bytes: of a body, taken in before anybody asks for it; it becomes twice as much.
    """
    return web.AppRunner(
        app,
        access_log=None,
        logger=connections.log(),
        auto_decompress=False,
        keepalive_timeout=_KEPT_S,
        lingering_time=_LINGER_S,
        max_headers=_FIELDS,
        max_field_size=_FIELD_BYTES,
        max_line_size=_LINE_BYTES,
        read_bufsize=buffer_bytes,
        shutdown_timeout=_SHUTDOWN_S,
    )
