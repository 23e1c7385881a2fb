"""What a browser may ask a node, and what another site may not make it ask.

A page of another site must not read this node, or speak to it, through somebody's browser. It
cannot name us: a host that is neither an address nor this device's own name is refused (DNS
rebinding), and so is a request that another origin makes.

Rule of the file: pure functions of a request's headers. Nodes send none of those that browsers add.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from aiohttp import hdrs


def refusal(headers: Mapping[str, str], names: Collection[str]) -> str | None:
    """Why a request to look at this node is refused, with the fix; None if it is not.

    Args:
        headers: of the request, found whatever their case.
        names: hosts, besides addresses and this device's own, by which we may be asked.
    """
    host, origin = headers.get(hdrs.HOST, ""), headers.get(hdrs.ORIGIN)
    if not is_own(host, names):
        shown = "".join(char if char.isprintable() else "?" for char in host[:80])
        return (
            f"'{shown}' is no address of this node: ask by its IP address, as in "
            "http://192.168.1.7:4000/"
        )
    is_foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
    is_embedded = (
        headers.get("Sec-Fetch-Site") == "cross-site"
        and headers.get("Sec-Fetch-Mode") != "navigate"
    )
    return "pages of other sites may not ask a node" if is_foreign or is_embedded else None


def is_of_a_page(headers: Mapping[str, str]) -> bool:
    """Whether a page sends this: browsers name the origin of every POST, nodes never do."""
    return hdrs.ORIGIN in headers


def is_own(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header names this device: by an address, or by a name nobody else has.

    Args:
        host: the header; the port in it does not matter.
        names: that we were told to listen at.
    """
    bare = host.strip().lower()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    bare = bare.rstrip(".")
    if bare == "localhost" or bare.endswith((".local", ".localhost")) or bare in names:
        return True
    try:
        ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return False
    return True
