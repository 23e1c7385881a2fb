"""Which running nodes are meant: by an address, or among those that mDNS sees.

Rule of the file: whoever finds nothing learns what was seen instead, and what to give.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from p2pfl.cli.keys import KEY_FIX
from p2pfl.edge.announcement import is_keyed, tagged
from p2pfl.edge.listening import refused_by_them
from p2pfl.edge.mdns import browse
from p2pfl.edge.static import parse
from p2pfl.errors import ConfigError, NetworkError

if TYPE_CHECKING:
    import aiohttp

    from p2pfl.edge.credentials import Credentials
    from p2pfl.ports import Sighting

BROWSE_S = 2.0


def address_of(text: str, credentials: Credentials | None) -> str | None:
    """`host:port` of an address, however it was written; None if it is no address.

    Raises:
        ConfigError: its scheme is not the one that the nodes speak.
    """
    scheme, colons, rest = text.partition("://")
    if colons and scheme == "https" and credentials is None:
        raise ConfigError(
            f"'{text}': a node that speaks https is in a run with a key; give its key: {KEY_FIX}"
        )
    address = (rest if colons else text).partition("/")[0]
    try:
        parse(address)
    except ConfigError:
        return None
    return address


async def sighted(interfaces: Sequence[str]) -> list[Sighting]:
    """The nodes that mDNS sees now, of whichever run, with an address each."""
    return [one for one in await browse(BROWSE_S, interfaces) if one.addresses]


def fits(seen: Sighting, run: str | None, credentials: Credentials | None) -> bool:
    """Whether a node is one of those that are meant.

    Args:
        run: name of an open run; None: any.
        credentials: of a run with a key, which alone says which run that is.
    """
    if credentials is not None:
        return seen.run == tagged(credentials.tag)
    return not is_keyed(seen.run) and (run is None or seen.run == run)


def none_fits(
    seen: Iterable[Sighting], run: str | None, credentials: Credentials | None
) -> NetworkError:
    """Why none of these is meant, and what to do."""
    runs = sorted({one.run for one in seen if one.run})
    if not runs:
        return NetworkError(
            "no node was seen; start one with `p2pfl node TASK`, give the address that it prints "
            "(HOST:PORT), or ask `p2pfl doctor`"
        )
    others = ", ".join(one if is_keyed(one) else f"'{one}'" for one in runs)
    if credentials is not None:
        return NetworkError(
            f"no node of this run was seen, but of {others}; `p2pfl run-key show` tells whether "
            "two devices have the same key; in a strict run give the --cert of that run"
        )
    if run is not None:
        return NetworkError(f"no node of this run was seen, but of {others}")
    return NetworkError(
        f"only nodes of runs with a key were seen ({others}); give its key: {KEY_FIX}"
    )


def unreachable(error: aiohttp.ClientConnectorError) -> str:
    """Why no connection came about, in words; in those of the other end if it has refused us."""
    refusal, code = refused_by_them(error), error.os_error.errno
    if refusal is not None:
        return refusal
    if isinstance(error.os_error, ConnectionRefusedError):
        return "nothing runs there"
    # asyncio's own text repeats the address; names that are not found have no system's code
    said = os.strerror(code) if code and code > 0 else error.os_error.strerror
    return str(said or error.os_error).lower()
