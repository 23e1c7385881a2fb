"""Which of this device's network interfaces a node uses, and why not the others.

Two devices meet on the network that a person would call "the LAN". Addresses of containers and
virtual machines lead nowhere for anybody else, those of a VPN lead to somebody else, so both are
skipped unless they are asked for by name or address.

Rule of the file: every interface gets a verdict, none is dropped silently; `p2pfl doctor` prints
them all. An address counts once a socket can be bound to it (a fresh IPv6 address cannot, while
the kernel still looks for duplicates on the link).
"""

from __future__ import annotations

import fnmatch
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from pathlib import Path
from typing import TypeAlias

import ifaddr

from p2pfl.errors import NetworkError

Address: TypeAlias = IPv4Interface | IPv6Interface

TUNNELS = (
    *("tun*", "utun*", "wg*", "tailscale*", "ppp*", "zt*", "ipsec*", "sit*", "gre*", "ip6tnl*"),
    *("nordlynx*", "proton*", "wt[0-9]*", "nebula*"),
)
VIRTUALS = (
    *("docker*", "br-*", "veth*", "virbr*", "vnet*", "cni*", "flannel*", "podman*", "tap*"),
    *("cali*", "cilium*", "kube*", "weave*", "lxc*", "lxdbr*", "incusbr*", "dummy*", "ifb*"),
    *("vmnet*", "vboxnet*", "vEthernet*", "bridge[0-9]*", "awdl*", "llw*", "anpi*"),
)
"""Names as Linux, macOS and Windows give them; a plain `br0` is not here, since it is a server's
own way to its LAN."""

_SYSFS = Path("/sys/class/net")
_POINT_TO_POINT = 0x10
_UP = 0x1
_TAP = 0x2
_DEAD_STATES = ("down", "lowerlayerdown", "notpresent")


class Verdict(StrEnum):
    """What becomes of an interface; the value completes the sentence "skipped: ..."."""

    USED = "used"
    NOT_CHOSEN = "not among the chosen interfaces"
    LOOPBACK = "loopback"
    VIRTUAL = "docker, bridge or virtual"
    TUNNEL = "VPN or tunnel"
    DOWN = "down"
    NO_ADDRESS = "no address"
    LINK_LOCAL = "link-local address only"

    @property
    def may_change(self) -> bool:
        """True if the interface becomes usable by itself once its network comes."""
        return self in (Verdict.DOWN, Verdict.NO_ADDRESS, Verdict.LINK_LOCAL)


@dataclass(frozen=True, slots=True)
class Traits:
    """What the kernel says of an interface besides its name and addresses."""

    is_up: bool = True
    is_tunnel: bool = False
    is_tap: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface.

    Attributes:
        name: as the system shows it.
        index: the system's number for it, 0 where it has none.
        addresses: those that can be bound, each with its network, in the system's order.
        verdict: used, or why not.
        is_up: switched on, and its cable or radio has a link.
    """

    name: str
    index: int
    addresses: tuple[Address, ...]
    verdict: Verdict
    is_up: bool = True

    def __str__(self) -> str:
        """As `eth0 (192.168.1.5, fd00::5)`."""
        return f"{self.name} ({', '.join(str(a.ip) for a in self.addresses) or 'no address'})"


def verdict(name: str, addresses: Sequence[Address], traits: Traits) -> Verdict:
    """Judge an interface nobody asked for: kind first, then whether it works now."""
    if name == "lo" or any(address.is_loopback for address in addresses):
        return Verdict.LOOPBACK
    if traits.is_tap or _matches(name, VIRTUALS):
        return Verdict.VIRTUAL
    if traits.is_tunnel or _matches(name, TUNNELS):
        return Verdict.TUNNEL
    if not traits.is_up:
        return Verdict.DOWN
    if not addresses:
        return Verdict.NO_ADDRESS
    if all(address.is_link_local for address in addresses):
        return Verdict.LINK_LOCAL
    return Verdict.USED


def select(found: Sequence[Interface], wanted: Sequence[str]) -> tuple[Interface, ...]:
    """Override the verdicts: exactly the wanted names and addresses are used, if they can be.

    Args:
        found: all interfaces with their own verdicts.
        wanted: interface names or addresses; empty leaves the verdicts as they are. An interface
            that is wanted by address only keeps just the wanted addresses.

    Raises:
        NetworkError: a wanted one does not exist; the text names those that do.
    """
    if not wanted:
        return tuple(found)
    names = {interface.name for interface in found}
    ips = {str(address.ip) for interface in found for address in interface.addresses}
    for want in wanted:
        if want not in names and _normal(want) not in ips:
            known = ", ".join(str(interface) for interface in found) or "none"
            raise NetworkError(f"unknown interface '{want}', known: {known}")
    return tuple(_chosen(interface, wanted) for interface in found)


def usable(found: Iterable[Interface]) -> tuple[Interface, ...]:
    """Keep the interfaces that are used.

    Raises:
        NetworkError: there is none; the text says why each was skipped, and the fix.
    """
    found = tuple(found)
    used = tuple(interface for interface in found if interface.verdict is Verdict.USED)
    if used:
        return used
    if any(interface.verdict is not Verdict.NOT_CHOSEN for interface in found):
        found = tuple(i for i in found if i.verdict is not Verdict.NOT_CHOSEN)
    reasons = ", ".join(f"{interface.name} ({interface.verdict})" for interface in found)
    waiting = [interface.name for interface in found if interface.verdict.may_change]
    fix = f"connect {' or '.join(waiting)} to a network, or use " if waiting else "use "
    raise NetworkError(
        f"no usable interface: {reasons or 'this device has none'}; {fix}"
        "--interface lo for nodes on this device only, or --interface NAME for a skipped one"
    )


def survey(wanted: Sequence[str] = ()) -> tuple[Interface, ...]:
    """Look at all interfaces of this device as they are now, each with its verdict.

    Args:
        wanted: what `--interface` says: names or addresses, empty for the default choice.

    Raises:
        NetworkError: a wanted one does not exist, or the system does not tell.
    """
    gathered: dict[str, tuple[int, list[Address]]] = {}
    try:
        adapters = list(ifaddr.get_adapters(include_unconfigured=True))
    except OSError as error:
        raise NetworkError(f"the system does not list its network interfaces: {error}") from error
    for adapter in adapters:
        # An alias such as `eth0:1` is another address of `eth0`.
        name = adapter.nice_name.split(":", 1)[0]
        index, addresses = gathered.setdefault(name, (adapter.index or 0, []))
        addresses += [address for ip in adapter.ips if can_bind(address := _address(ip, index))]
    found = []
    for name, (index, addresses) in sorted(gathered.items(), key=lambda item: item[1][0]):
        traits = _traits(name)
        judged = verdict(name, addresses, traits)
        found.append(Interface(name, index, tuple(addresses), judged, traits.is_up))
    return select(found, wanted)


def multicast_addresses(interface: Interface) -> list[str]:
    """The addresses to speak mDNS from: at most one of each family.

    IPv6 multicast does not work on loopback, and a routable address comes before a link-local one
    because it is what peers will connect to.
    """
    four = [str(a.ip) for a in interface.addresses if a.version == 4]
    six = [a for a in interface.addresses if a.version == 6 and not a.is_loopback]
    six.sort(key=lambda address: address.is_link_local)
    return [*four[:1], *[str(address.ip) for address in six[:1]]]


def scoped(address: Address) -> str:
    """The address as text, with its link where it means nothing without (`fe80::1%2`)."""
    scope = address.scope_id if isinstance(address, IPv6Interface) else None
    return f"{address.ip}%{scope}" if scope else str(address.ip)


def announced(used: Iterable[Interface], host: str) -> list[str]:
    """The addresses at which a node that serves on `host` is reached through these interfaces.

    A link-local address is announced only by an interface that has no other.
    """
    given: list[str] = []
    for interface in used:
        routable = [a for a in interface.addresses if not a.is_link_local]
        given += [str(address.ip) for address in routable or interface.addresses]
    if host in ("", "::"):
        return given
    if host == "0.0.0.0":  # noqa: S104 (compared, not bound)
        return [ip for ip in given if ":" not in ip]
    return [ip for ip in given if ip == host]


def best_first(addresses: Iterable[str], used: Sequence[Interface]) -> list[str]:
    """Order a peer's addresses by how likely they are to work from here.

    On one of our networks before elsewhere, then IPv4 before IPv6. A loopback address is kept only
    if there is no other (it is this device's), a link-local IPv6 one only if its link is known,
    and what is no host's address never.
    """
    networks = [address.network for interface in used for address in interface.addresses]
    parsed = [ip_address(text) for text in dict.fromkeys(addresses)]
    kept = [a for a in parsed if not (a.is_multicast or a.is_unspecified)]
    kept = [a for a in kept if not (a.is_link_local and a.version == 6 and not a.scope_id)]
    kept = [a for a in kept if not a.is_loopback] or kept

    def rank(address: IPv4Address | IPv6Address) -> tuple[bool, bool, int, int]:
        is_near = any(address in network for network in networks)
        return address.is_link_local, not is_near, address.version, int(address)

    return [str(address) for address in sorted(kept, key=rank)]


def can_bind(address: Address) -> bool:
    """Whether a socket can be bound to this address now."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        # Numeric, so this asks nobody; it turns a scope into the number that bind wants.
        info = socket.getaddrinfo(
            scoped(address), 0, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(info[0][4])
    except OSError:
        return False
    return True


def _chosen(interface: Interface, wanted: Sequence[str]) -> Interface:
    kept = interface.addresses
    if interface.name not in wanted:
        ips = {_normal(want) for want in wanted}
        kept = tuple(address for address in kept if str(address.ip) in ips)
        if not kept:
            return replace(interface, verdict=Verdict.NOT_CHOSEN)
    now = Verdict.USED if kept else Verdict.NO_ADDRESS
    return replace(interface, addresses=kept, verdict=now if interface.is_up else Verdict.DOWN)


def _traits(name: str) -> Traits:
    """Read flags where the system has them as files (Linux); elsewhere the name must do."""
    flags = _number(_read(name, "flags"))
    if flags is None:
        return Traits()
    tunnel_flags = _number(_read(name, "tun_flags")) or 0
    return Traits(
        is_up=bool(flags & _UP) and _read(name, "operstate") not in _DEAD_STATES,
        is_tunnel=bool(flags & _POINT_TO_POINT) or "DEVTYPE=wireguard" in _read(name, "uevent"),
        is_tap=bool(tunnel_flags & _TAP),
    )


def _read(name: str, item: str) -> str:
    try:
        return (_SYSFS / name / item).read_text().strip()
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _address(ip: ifaddr.IP, index: int) -> Address:
    if not isinstance(ip.ip, tuple):
        return IPv4Interface(f"{ip.ip}/{ip.network_prefix}")
    text, _, scope = ip.ip
    text = text.split("%", 1)[0]
    # Only a link-local address needs to say on which link it is meant.
    is_scoped = ip_address(text).is_link_local and (scope or index)
    return IPv6Interface(f"{text}{f'%{scope or index}' if is_scoped else ''}/{ip.network_prefix}")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _normal(text: str) -> str:
    """One spelling for one address; what is no address stays as it is."""
    try:
        return str(ip_address(text.split("%", 1)[0]))
    except ValueError:
        return text
