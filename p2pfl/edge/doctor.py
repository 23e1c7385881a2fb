"""Explains why two nodes do not see each other, and what to do about it.

From the inside out: the interfaces of this device, multicast on them, whether our own announcement
comes back, whether our port takes connections, and who else is there: of another run, of another
model, of a run with another key, or visible and yet unreachable. Nodes never compare their clocks;
only certificates do, so a wrong one is found where it keeps two nodes of a run with a key apart.

Rule of the file: a check never fails, it finds; and every `wrong` finding comes with its fix.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from p2pfl.edge.announcement import compatible, is_keyed, tagged
from p2pfl.edge.certfiles import said
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.interfaces import Interface, Verdict, multicast_addresses, survey
from p2pfl.edge.mdns import browse
from p2pfl.edge.probes import (
    MDNS_GROUP,
    MDNS_GROUP6,
    STATUS_S,
    Answer,
    Outcome,
    ask_all,
    can_bind_port,
    is_heard,
    join_problem,
)
from p2pfl.edge.static import join, parse
from p2pfl.errors import NetworkError
from p2pfl.ports import Sighting

Grade: TypeAlias = Literal["ok", "info", "wrong"]

BROWSE_S = 3.0
MDNS_PORT = 5353

_KEY = "--key-file, in a strict run --cert and --state-dir"
_OPEN_MDNS = (
    "allow multicast DNS in this device's firewall: `sudo ufw allow 5353/udp`, or "
    "`sudo firewall-cmd --permanent --add-service=mdns && sudo firewall-cmd --reload`"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it is about, in a word or two.
        verdict: ok, info (good to know) or wrong.
        text: what was found.
        fix: what to do; never empty where the verdict is wrong.
    """

    topic: str
    verdict: Grade
    text: str
    fix: str = ""


async def diagnose(
    *,
    interfaces: Sequence[str] = (),
    port: int | None = None,
    run: str | None = None,
    layout: str | None = None,
    version: str | None = None,
    seconds: float = BROWSE_S,
    credentials: Credentials | None = None,
) -> list[Finding]:
    """Look at everything that can keep nodes apart; takes a little longer than `seconds`.

    Args:
        interfaces: what `--interface` says; empty looks at the default choice.
        port: where the local node serves; None looks for a local node by mDNS.
        run, layout, version: what peers are compared with; None takes it from a local node.
        seconds: how long peers are listened for.
        credentials: of a run with a key; peers are then compared with its tag, not with `run`.
    """
    run = run if credentials is None else tagged(credentials.tag)
    try:
        found = survey(interfaces)
    except NetworkError as error:
        return [Finding("interfaces", "wrong", str(error), "choose one of the known interfaces")]
    used = [interface for interface in found if interface.verdict is Verdict.USED]
    # First of all, since the other checks open the mDNS port themselves.
    findings = [*await interface_findings(found), *await daemon_findings()]
    if not used:
        return findings
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(_seen(seconds, interfaces))
        checks = [
            group.create_task(check(used))
            for check in (family_findings, multicast_findings, echo_findings)
        ]
    for check in checks:
        findings += check.result()
    seen = listening.result()
    mine = {str(address.ip) for interface in found for address in interface.addresses}
    local = [peer for peer in seen if any(parse(a)[0] in mine for a in peer.addresses)]
    local = [peer for peer in local if run in (None, peer.run)]
    port_is, answers = await port_findings(used, port, local, credentials)
    findings += port_is
    says = next((answer for answer in answers if answer.outcome == "node"), None)
    if port is not None and says is not None:
        run, layout = run or says.says("run"), layout or says.says("layout")
    elif len({(peer.run, peer.layout, peer.version) for peer in local}) == 1:
        # Nodes of several kinds on this device would leave open whom to compare with.
        run, layout = run or local[0].run, layout or local[0].layout
        version = version or local[0].version
    others = [peer for peer in seen if peer not in local]
    about_peers = await peer_findings(others, run, layout, version, seconds, credentials)
    return [*findings, *about_peers, *clock_findings(credentials)]


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if nothing is wrong, else 1."""
    return int(any(finding.verdict == "wrong" for finding in findings))


def render(findings: Iterable[Finding]) -> str:
    """One line for each finding, and under it the fix where there is one."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.verdict:<6}{finding.topic}: {finding.text}")
        if finding.fix:
            lines.append(f"{'':<6}→ {finding.fix}")
    return "\n".join(lines)


# --- this device --------------------------------------------------------------------------------


async def interface_findings(found: Sequence[Interface]) -> list[Finding]:
    """Which interfaces are used, which are skipped, and why."""
    findings = []
    for interface in found:
        if interface.verdict is Verdict.USED:
            findings.append(Finding("interface", "ok", f"{interface} is used"))
        else:
            is_overruled = interface.verdict in (Verdict.LOOPBACK, Verdict.VIRTUAL, Verdict.TUNNEL)
            fix = f"--interface {interface.name} uses it" if is_overruled else ""
            text = f"{interface} is skipped: {interface.verdict}"
            findings.append(Finding("interface", "info", text, fix))
    if not any(interface.verdict is Verdict.USED for interface in found):
        waiting = " or ".join(i.name for i in found if i.verdict.may_change)
        fix = f"connect {waiting} to the network, or use " if waiting else "use "
        fix += "--interface lo for nodes on this device only"
        findings.append(Finding("interface", "wrong", "no interface is usable", fix))
    return findings


async def daemon_findings() -> list[Finding]:
    """Whether the mDNS port can be shared; another responder on it is fine."""
    if can_bind_port(MDNS_PORT, shared=False):
        return [Finding("port 5353", "ok", "no other mDNS responder on this device")]
    if can_bind_port(MDNS_PORT, shared=True):
        text = "another mDNS responder (avahi, systemd-resolved, a node) is on it too; both work"
        return [Finding("port 5353", "ok", text)]
    text = "another program holds UDP 5353 for itself"
    fix = (
        "find it with `ss -ulpn sport = 5353`; for avahi set disallow-other-stacks=no in "
        "/etc/avahi/avahi-daemon.conf and restart it"
    )
    return [Finding("port 5353", "wrong", text, fix)]


async def family_findings(used: Sequence[Interface]) -> list[Finding]:
    """Which of IPv4 and IPv6 this device can offer its peers."""
    addresses = [a for interface in used for a in interface.addresses if not a.is_link_local]
    families = {address.version for address in addresses}
    if families == {4, 6}:
        return [Finding("addresses", "ok", "IPv4 and IPv6")]
    if not families:
        text = "only link-local addresses: nodes must be on the same cable or radio"
        return [Finding("addresses", "info", text)]
    has, lacks = ("IPv4", "IPv6") if 4 in families else ("IPv6", "IPv4")
    text = f"{has} only: nodes that have only {lacks} cannot be reached"
    return [Finding("addresses", "info", text)]


async def multicast_findings(used: Sequence[Interface]) -> list[Finding]:
    """Whether each used interface joins the groups of mDNS."""
    findings = []
    for interface in used:
        for voice in multicast_addresses(interface):
            group = MDNS_GROUP6 if ":" in voice else MDNS_GROUP
            problem = join_problem(voice, interface.index)
            text = f"{interface.name} joins {group}"
            if problem is None:
                findings.append(Finding("multicast", "ok", text))
                continue
            fix = "choose another interface with --interface, or name peers with --peer HOST:PORT"
            if problem.errno == errno.ENOBUFS:
                fix = "raise the limit: `sudo sysctl net.ipv4.igmp_max_memberships=256`"
            findings.append(Finding("multicast", "wrong", f"{text} not: {problem.strerror}", fix))
    return findings


async def echo_findings(used: Sequence[Interface]) -> list[Finding]:
    """Whether a service announced here is heard by a second listener here."""
    findings = []
    for interface in used:
        for voice in multicast_addresses(interface):
            if await is_heard(voice):
                text = f"own announcement on {interface.name} ({voice}) is heard back"
                findings.append(Finding("announcement", "ok", text))
            else:
                text = f"own announcement on {interface.name} ({voice}) is not heard back"
                findings.append(Finding("announcement", "wrong", text, _OPEN_MDNS))
    return findings


async def port_findings(
    used: Sequence[Interface],
    port: int | None,
    local: Sequence[Sighting],
    credentials: Credentials | None = None,
) -> tuple[list[Finding], list[Answer]]:
    """Whether TCP reaches this device at its own addresses: its node, or a listener for the test.

    Returns:
        The findings, and what the addresses of the local node answered.
    """
    hosts = [str(a.ip) for interface in used for a in interface.addresses if not a.is_link_local]
    if port is not None:
        answers = await ask_all([join(host, port) for host in hosts], credentials)
        return _port_given(port, answers), answers
    if local:
        addresses = [address for peer in local for address in peer.addresses]
        answers = await ask_all(addresses, credentials)
        findings = []
        for peer in local:
            own = [answer for answer in answers if answer.address in peer.addresses]
            findings += _reached(peer, own, "this device's node")
        return findings, answers
    return [await _listener_finding(host) for host in hosts], []


# --- the others ---------------------------------------------------------------------------------


async def peer_findings(
    others: Sequence[Sighting],
    run: str | None,
    layout: str | None,
    version: str | None,
    seconds: float,
    credentials: Credentials | None = None,
) -> list[Finding]:
    """Who else is there, who of them fits, and whether those can be reached."""
    if not others:
        text = f"no other node was seen within {seconds:g} s"
        fix = (
            "if one runs: start both with the same --interface network; switch off 'client "
            "isolation' (also 'AP isolation', guest network) in the router; allow UDP 5353 in the "
            "other device's firewall; or name it with --peer HOST:PORT, which needs no multicast"
        )
        return [Finding("peers", "info", text, fix)]
    findings: list[Finding] = []
    asked = [peer for peer in others if run is None or peer.run in (None, run)]
    addresses = [address for peer in asked for address in peer.addresses]
    answers = await ask_all(addresses, credentials)
    for peer in others:
        if peer not in asked and (is_keyed(peer.run) or is_keyed(run)):
            findings.append(_apart(peer, credentials))
            continue
        if peer not in asked:
            text = f"{_named(peer)} is of another run, '{peer.run}'"
            fix = f"if it should learn with this one, start both with --run {run}"
            findings.append(Finding("peer", "info", text, fix))
            continue
        why_not = compatible(peer, run, layout, version)
        if why_not is not None:
            is_version = version is not None and peer.version != version
            fix = "install the same version of p2pfl on both devices"
            fix = fix if is_version else "give both nodes the same TASK, its model must be equal"
            findings.append(Finding("peer", "wrong", f"{_named(peer)}: {why_not}", fix))
        own = [answer for answer in answers if answer.address in peer.addresses]
        findings += _reached(peer, own, "peer")
    return findings


def clock_findings(credentials: Credentials | None) -> list[Finding]:
    """What this device's clock says, where certificates depend on it."""
    if credentials is None:
        return []
    text = f"this device's clock says {said(time.time())}"
    return [Finding("clock", "info", text, "a day off keeps nodes of a run with a key apart")]


def _apart(peer: Sighting, credentials: Credentials | None) -> Finding:
    """A peer whose run has a key and ours has not, or the other way round, or another key."""
    if not is_keyed(peer.run):
        text = f"{_named(peer)} is of an open run, '{peer.run}'"
        return Finding(
            "peer", "info", text, "if it should learn with this one, give it the key too"
        )
    if credentials is None:
        text = f"{_named(peer)} is of a run with a key ({peer.run})"
        fix = "if it should learn with this one, start both, and this command, with that key"
        return Finding("peer", "info", f"{text}, looked at without one", f"{fix} ({_KEY})")
    text = f"{_named(peer)} is of a run with another key ({peer.run})"
    fix = "if it should learn with this one, give both devices the same key: `p2pfl run-key show`"
    return Finding("peer", "info", text, fix)


def _reached(peer: Sighting, answers: Sequence[Answer], topic: str) -> list[Finding]:
    """One finding for a peer that was asked at all its addresses."""
    good = [a for a in answers if a.outcome == "node" and a.says("node") in (None, peer.node)]
    if good:
        rest = [f"{a.address} {_HOW[a.outcome]}" for a in answers if a.outcome != "node"]
        text = f"{_named(peer)} answers at {', '.join(a.address for a in good)}"
        return [Finding(topic, "ok", text + (f" ({'; '.join(rest)})" if rest else ""))]
    tried = "; ".join(f"{answer.address} {_HOW[answer.outcome]}" for answer in answers)
    text = f"{_named(peer)} is visible by mDNS, but cannot be talked to: {tried}"
    port = parse(peer.addresses[0])[1]
    open_port = (
        f"allow TCP {port} there (`sudo ufw allow {port}/tcp`, or "
        f"`sudo firewall-cmd --add-port={port}/tcp`)"
    )
    outcomes = {answer.outcome for answer in answers}
    if "clock" in outcomes:
        fix = "set the clocks of both devices (`timedatectl set-ntp true`); in a strict run the "
        fix += "certificate may also have ended: `p2pfl id` there, then `p2pfl admit`"
    elif "keyed" in outcomes:
        fix = f"it is in a run with a key: give the same to this command ({_KEY})"
    elif "foreign" in outcomes:
        fix = "give both devices the same key; `p2pfl run-key show` tells whether they have it"
    elif "silent" in outcomes:
        fix = f"a firewall drops it: {open_port}; or the router isolates its clients ('client "
        fix += "isolation', 'AP isolation', guest network): switch that off"
    elif "refused" in outcomes:
        fix = "nothing listens at that address: start the node there with --bind 0.0.0.0 (or the "
        fix += f"announced address); if it does run, its firewall rejects us: {open_port}"
    elif "unreachable" in outcomes:
        fix = "connect both devices to the same network; if they are, a firewall forbids it: "
        fix += open_port
    else:
        fix = "something else has taken that port: restart the node there with another --port"
    return [Finding(topic, "wrong", text, fix)]


_HOW: Mapping[Outcome, str] = {
    "node": "answers as another node",
    "stranger": "answers, but is not a node",
    "keyed": "answers only who has its run's key",
    "foreign": "answers, but not with this run's key",
    "clock": "has a certificate that is not valid by this device's clock",
    "refused": "refuses the connection",
    "silent": f"does not answer within {STATUS_S:g} s",
    "unreachable": "is not reachable",
}


def _port_given(port: int, answers: Sequence[Answer]) -> list[Finding]:
    findings = []
    topic = f"port {port}"
    is_served = any(answer.outcome == "node" for answer in answers)
    for answer in answers:
        text = f"{answer.address} {_HOW[answer.outcome]}"
        if answer.outcome == "node":
            findings.append(Finding(topic, "ok", f"the node answers at {answer.address}"))
        elif answer.outcome == "refused" and is_served:
            findings.append(Finding(topic, "info", text, "--bind :: serves on every address"))
        elif answer.outcome in ("keyed", "foreign"):
            fix = f"give this command the key of that node's run ({_KEY})"
            findings.append(Finding(topic, "wrong", text, fix))
        elif answer.outcome == "clock":
            fix = "set the clock of this device (`timedatectl set-ntp true`)"
            findings.append(Finding(topic, "wrong", text, fix))
        elif answer.outcome == "stranger":
            fix = "another program uses this port: start the node with another --port"
            findings.append(Finding(topic, "wrong", text, fix))
        else:
            fix = f"start the node with --bind 0.0.0.0 --port {port}, or give its real --port here"
            findings.append(Finding(topic, "wrong", text, fix))
    return findings


async def _listener_finding(host: str) -> Finding:
    """Accept one connection at this address, from this device."""
    try:
        server = await asyncio.start_server(lambda _, writer: writer.close(), host, 0)
        async with server, asyncio.timeout(STATUS_S):
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        text = f"{host} does not take connections: {error or 'no answer'}"
        fix = "allow incoming TCP connections of p2pfl in this device's firewall"
        return Finding("connections", "wrong", text, fix)
    return Finding("connections", "ok", f"{host} takes connections")


async def _seen(seconds: float, interfaces: Sequence[str]) -> list[Sighting]:
    try:
        return await browse(seconds, interfaces)
    except NetworkError:
        # The interface vanished since it was listed: then nobody is seen.
        return []


# --- sockets ------------------------------------------------------------------------------------


def _named(peer: Sighting) -> str:
    return f"'{peer.name or 'unnamed'}' (node {(peer.node or 'unknown')[:8]})"
