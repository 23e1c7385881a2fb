"""What a node says of itself on the LAN, and what it makes of what strangers say.

A node is one DNS-SD instance; its TXT record says protocol version, node id, run, layout digest and
name (RFC 6763); of a keyed run it says the tag of the key, which is the same on every device, and
not the name. Rule of the file: whatever the bytes, the result is a sound `Sighting` or None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zeroconf.asyncio import AsyncServiceInfo

from p2pfl.errors import ConfigError
from p2pfl.ports import Sighting

SERVICE = "_p2pfl._tcp.local."
_LABEL_BYTES = 63
_NODE = re.compile(r"[0-9a-f]{8,57}")
_LAYOUT = re.compile(r"[0-9a-f]{8,64}")
_VERSION = re.compile(r"[A-Za-z0-9.]{1,16}")
_LABEL_UNSAFE = re.compile(r"[^A-Za-z0-9 _-]+")
_KEYED = re.compile(r"key-[0-9a-f]{16}")
_TEXT_CHARS, _TEXT_BYTES = 64, 250


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node says of itself.

    Attributes:
        node: its id: 8 to 57 hex digits, so that `p2pfl-<id>` is a host name of at most 63.
        name: a label for people; two nodes may have the same.
        run: name of its run, or `tagged` if it has a key.
        layout: digest of its model's layout.
        version: of the protocol it speaks.

    Raises:
        ConfigError: a value cannot be announced.
    """

    node: str
    name: str
    run: str
    layout: str
    version: str

    def __post_init__(self) -> None:
        for key, value in (("name", self.name), ("run", self.run)):
            if not _is_text(value):
                raise ConfigError(
                    f"{key} is {value!r}, expected 1 to {_TEXT_CHARS} printable characters in at "
                    f"most {_TEXT_BYTES} bytes"
                )
        patterns = (("node id", self.node, _NODE), ("layout digest", self.layout, _LAYOUT))
        for key, value, pattern in (*patterns, ("protocol version", self.version, _VERSION)):
            if not pattern.fullmatch(value):
                raise ConfigError(f"{key} is {value!r}, expected {pattern.pattern}")

    def txt(self) -> bytes:
        """The TXT record: one length byte before each `key=value`."""
        pairs = {"v": self.version, "node": self.node, "run": self.run, "layout": self.layout}
        items = [f"{key}={value}".encode() for key, value in (*pairs.items(), ("name", self.name))]
        return b"".join(bytes([len(item)]) + item for item in items)

    def service(self, addresses: Iterable[str], port: int) -> AsyncServiceInfo:
        """The DNS-SD instance; its name starts with the label people see and ends with the id."""
        room = _LABEL_BYTES - len(self.node) - 1
        label = _LABEL_UNSAFE.sub("-", self.name)[:room].strip()
        return AsyncServiceInfo(
            SERVICE,
            f"{label} {self.node}".strip() + f".{SERVICE}",
            port=port,
            properties=self.txt(),
            server=f"p2pfl-{self.node}.local.",
            parsed_addresses=list(addresses),
        )


def sighting(txt: bytes, addresses: Sequence[str]) -> Sighting | None:
    """Read a stranger's TXT record.

    A node of another protocol version may announce other things, so only version and id must be
    there; but what is there must be sound.

    Args:
        txt: the record as it came, any bytes.
        addresses: `host:port`, best first.

    Returns:
        What it says, or None if it is not a node's record.
    """
    pairs = _pairs(txt)
    try:
        text = {
            key: pairs[key].decode()
            for key in ("v", "node", "run", "layout", "name") & pairs.keys()
        }
    except UnicodeDecodeError:
        return None
    version, node, layout = text.get("v"), text.get("node"), text.get("layout")
    if not (version and _VERSION.fullmatch(version) and node and _NODE.fullmatch(node)):
        return None
    if layout is not None and not _LAYOUT.fullmatch(layout):
        return None
    if not all(_is_text(text[key]) for key in ("run", "name") if key in text):
        return None
    return Sighting(tuple(addresses), node, text.get("run"), layout, version, text.get("name"))


def tagged(tag: str) -> str:
    """What is announced instead of the name of a run that has a key."""
    return f"key-{tag}"


def is_keyed(run: str | None) -> bool:
    """Whether what is announced as a run's name is the tag of a key."""
    return run is not None and _KEYED.fullmatch(run) is not None


def compatible(
    seen: Sighting, run: str | None, layout: str | None, version: str | None
) -> str | None:
    """Why a peer cannot be mixed with; None if it can, or if nothing speaks against it.

    Args:
        seen: the peer; what it did not say (a static peer says nothing) is not held against it.
        run, layout, version: ours; None is not compared.
    """
    if version and seen.version and seen.version != version:
        return f"other protocol version {seen.version} (this is {version})"
    if run and seen.run and seen.run != run and is_keyed(seen.run):
        return f"a run with {'another' if is_keyed(run) else 'a'} key ({seen.run})"
    if run and seen.run and seen.run != run:
        return f"other run '{seen.run}'"
    if layout and seen.layout and seen.layout != layout:
        return f"other model (layout {seen.layout[:8]} instead of {layout[:8]})"
    return None


def _is_text(text: str) -> bool:
    """Short, and nothing in it that could play tricks on a terminal."""
    is_short = 0 < len(text) <= _TEXT_CHARS
    # Only printable text is sure to have an encoding: a lone surrogate has none.
    return is_short and text.isprintable() and len(text.encode()) <= _TEXT_BYTES


def _pairs(txt: bytes) -> dict[str, bytes]:
    """Split a TXT record; the first of equal keys counts (RFC 6763 section 6.4).

    A record that is cut short says nothing, half a value would pass for a whole one.
    """
    pairs: dict[str, bytes] = {}
    at = 0
    while at < len(txt):
        end = at + 1 + txt[at]
        if end > len(txt):
            return {}
        key, _, value = txt[at + 1 : end].partition(b"=")
        pairs.setdefault(key.decode("ascii", "replace").lower(), value)
        at = end
    return pairs
