"""Real mDNS: between processes on loopback, and between hosts that are network namespaces.

Run as a program, this file is one such process: it announces a node, and prints what it sights.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from aiohttp import web
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from p2pfl.edge.announcement import SERVICE, Announcement
from p2pfl.edge.doctor import diagnose, exit_code, render
from p2pfl.edge.mdns import Mdns, browse
from p2pfl.edge.static import join
from p2pfl.errors import NetworkError
from p2pfl.ports import Sighting
from tests.integration.netns import PREFIX, Lan, needs_netns, sweep

PATIENCE_S = 20.0
LAYOUT = "9a8b7c6d5e4f3a2b"
RUN = f"discovery-{os.getpid()}"
# Others may test on this machine's loopback at the same time: our ids are our own.
ANNA, BORIS, CHLOE = (f"{letter * 4}{os.getpid():08x}".ljust(32, "0") for letter in "abc")


@dataclass
class Beacon:
    """A process that announces a node and prints what it sights."""

    node: str
    process: asyncio.subprocess.Process
    port: int = 0
    heard: list[Sighting] = field(default_factory=list)

    async def until(self, wanted: Callable[[Sighting], bool]) -> Sighting:
        """The next sighting that is wanted."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.process.stdout.readline():
                said = json.loads(line)
                if "port" in said:
                    self.port = said["port"]
                    continue
                self.heard.append(Sighting(**said | {"addresses": tuple(said["addresses"])}))
                if wanted(self.heard[-1]):
                    return self.heard[-1]
        raise AssertionError(f"the process ended with {await self.process.wait()}")

    async def sees(self, node: str) -> Sighting:
        """The latest sighting of a node that is there; waits for one if need be."""
        latest = next((seen for seen in reversed(self.heard) if seen.node == node), None)
        if latest is not None and not latest.gone:
            return latest
        return await self.until(lambda seen: seen.node == node and not seen.gone)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def beacon(
    node: str, *options: str, lan: Lan | None = None, host: int = 0
) -> AsyncIterator[Beacon]:
    """Start one, on loopback or on a host of the LAN; it is stopped at the end."""
    argv = [sys.executable, "-W", "error", __file__, node, "--run", RUN, *options]
    argv = [*argv, "--interface", "lo"] if lan is None else lan.command(host, argv)
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        yield Beacon(node, process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


# --- on loopback ---------------------------------------------------------------------------------


async def test_two_processes_sight_each_other_on_loopback() -> None:
    async with beacon(ANNA, "--port", "4001") as anna, beacon(BORIS, "--port", "4002") as boris:
        seen = await anna.sees(BORIS)
        assert await boris.sees(ANNA)
    expected = Sighting(("127.0.0.1:4002",), BORIS, RUN, LAYOUT, "1", "beacon")
    assert seen == expected
    assert all(sighting.node != ANNA for sighting in anna.heard), "it sighted itself"


async def test_a_node_that_stops_says_goodbye() -> None:
    async with beacon(ANNA) as anna, beacon(BORIS) as boris:
        await anna.sees(BORIS)
        assert await boris.stop() == 0
        seen = await anna.until(lambda sighting: sighting.node == BORIS and sighting.gone)
        assert seen.addresses, "who is gone is told by its addresses, too"


async def test_a_node_that_comes_again_is_sighted_again() -> None:
    async with beacon(ANNA) as anna:
        async with beacon(BORIS, "--port", "4002"):
            await anna.sees(BORIS)
        await anna.until(lambda sighting: sighting.node == BORIS and sighting.gone)
        async with beacon(BORIS, "--port", "4003"):
            assert (await anna.sees(BORIS)).addresses == ("127.0.0.1:4003",)


async def test_nodes_of_one_name_are_told_apart() -> None:
    async with AsyncExitStack() as stack:
        anna, boris, chloe = [
            await stack.enter_async_context(beacon(node, "--name", "laptop"))
            for node in (ANNA, BORIS, CHLOE)
        ]
        assert (await anna.sees(BORIS)).name == (await boris.sees(CHLOE)).name == "laptop"
        assert await chloe.sees(ANNA)
        assert {ANNA, BORIS, CHLOE} <= {seen.node for seen in await browse(2.0, ["lo"])}


async def test_closing_the_stream_says_goodbye() -> None:
    node = Announcement(ANNA, "anna", RUN, LAYOUT, "1")
    async with beacon(BORIS) as boris:
        events = Mdns(node, lambda: "0.0.0.0:4001", interfaces=["lo"]).events()
        async with aclosing(events), asyncio.timeout(PATIENCE_S):
            while (await anext(events)).node != BORIS:
                pass
            await boris.sees(ANNA)
        await boris.until(lambda seen: seen.node == ANNA and seen.gone)


async def test_nodes_of_other_runs_and_models_are_sighted_too() -> None:
    other = ("--run", "kitchen", "--layout", "3f" * 8)
    async with beacon(ANNA) as anna, beacon(BORIS, *other):
        seen = await anna.sees(BORIS)
        assert (seen.run, seen.layout) == ("kitchen", "3f" * 8)


async def test_a_node_that_serves_elsewhere_is_not_announced_here() -> None:
    async with beacon(ANNA) as anna, beacon(BORIS, "--host", "192.0.2.77") as boris:
        assert await boris.sees(ANNA)
        async with beacon(CHLOE):
            await anna.sees(CHLOE)
    assert all(sighting.node != BORIS for sighting in anna.heard)


async def test_browsing_lists_who_is_there_and_not_who_left() -> None:
    async with beacon(ANNA), beacon(BORIS) as boris, beacon(CHLOE) as chloe:
        await chloe.sees(BORIS)
        await boris.stop()
        await chloe.until(lambda sighting: sighting.node == BORIS and sighting.gone)
        nodes = [seen.node for seen in await browse(2.0, ["lo"])]
    assert ANNA in nodes
    assert CHLOE in nodes
    assert BORIS not in nodes


async def test_browsing_an_unknown_interface_is_an_error() -> None:
    with pytest.raises(NetworkError, match="unknown interface 'nowhere0', known: "):
        await browse(0.1, ["nowhere0"])


def listener(**kwargs: Any) -> Mdns:
    return Mdns(None, interfaces=["lo"], **kwargs)


async def follow(mdns: Mdns, note: Callable[[Sighting], None]) -> None:
    async for seen in mdns.events():
        note(seen)


async def come_true(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not claim():  # noqa: ASYNC110 (what is counted tells nobody)
            await asyncio.sleep(0.05)


async def test_garbage_on_the_wire_is_counted_and_disturbs_nothing() -> None:
    good = Announcement(ANNA, "anna", RUN, LAYOUT, "1").txt()
    broken = {
        "empty": (b"", 4000),
        "not-text": (b"\x06node=\xff", 4000),
        "no-port": (good, 0),
        "cut": (good[:40], 4000),
    }
    mdns = listener(poll_s=0.2)
    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as stranger:
        for name, (txt, port) in broken.items():
            service = AsyncServiceInfo(
                SERVICE,
                f"{name}.{SERVICE}",
                port=port,
                properties=txt,
                server=f"{name}.local.",
                parsed_addresses=["127.0.0.1"],
            )
            await stranger.async_register_service(service, cooperating_responders=True)
        sightings: list[Sighting] = []
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow(mdns, sightings.append))
            await come_true(lambda: mdns.ignored >= len(broken))
            make_noise()
            async with beacon(BORIS):
                await come_true(lambda: any(seen.node == BORIS for seen in sightings))
            following.cancel()
    assert ANNA not in {seen.node for seen in sightings}


def make_noise() -> None:
    """Send packets of nonsense to the mDNS group."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for seed in range(64):
            noise = bytes((seed * 31 + at * at) % 256 for at in range(200))
            # The second looks like a response, so that zeroconf reads on.
            for packet in (noise, b"\0\0\x84\0\0\0\0\x01\0\0\0\0" + noise):
                raw.sendto(packet, ("224.0.0.251", 5353))


async def test_a_flood_of_made_up_nodes_stops_at_the_limit() -> None:
    mdns = listener(known=5, poll_s=0.2)
    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as stranger:
        for number in range(12):
            crowd = Announcement(f"{number:032x}", "crowd", RUN, LAYOUT, "1")
            await stranger.async_register_service(
                crowd.service(["127.0.0.1"], 4000), cooperating_responders=True
            )
        sightings: list[Sighting] = []
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow(mdns, sightings.append))
            await come_true(lambda: mdns.ignored >= 7 and len(sightings) >= 5)
            following.cancel()
    assert len({seen.node for seen in sightings if seen.run == RUN}) <= 5


async def test_the_doctor_finds_loopback_healthy() -> None:
    async with beacon(ANNA, "--serve") as anna, beacon(BORIS, "--serve") as boris:
        await anna.sees(BORIS)
        await boris.sees(ANNA)
        findings = await diagnose(interfaces=["lo"], run=RUN, seconds=1.5)
    assert exit_code(findings) == 0, render(findings)
    text = render(findings)
    assert "own announcement on lo (127.0.0.1) is heard back" in text
    assert f"(node {ANNA[:8]}) answers at 127.0.0.1:" in text


# --- between hosts -------------------------------------------------------------------------------


async def doctor(lan: Lan, host: int, *options: str) -> tuple[int, str]:
    """What `p2pfl doctor` would say on that host, and its exit code."""
    argv = [sys.executable, "-W", "error", __file__, "doctor", *options]
    process = await asyncio.create_subprocess_exec(
        *lan.command(host, argv), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@needs_netns
async def test_hosts_of_a_lan_sight_each_other_over_both_families() -> None:
    with Lan(hosts=3) as lan:
        async with AsyncExitStack() as stack:
            anna, boris, chloe = [
                await stack.enter_async_context(
                    beacon(node, "--host", "::", "--port", "4000", lan=lan, host=host)
                )
                for host, node in enumerate((ANNA, BORIS, CHLOE))
            ]
            seen = await anna.sees(CHLOE)
            assert seen.addresses == (f"{lan.address(2)}:4000", f"[{lan.address6(2)}]:4000")
            assert await boris.sees(ANNA)
            assert await chloe.sees(BORIS)


@needs_netns
async def test_an_ipv6_only_lan_works() -> None:
    with Lan(hosts=2, ipv4=False) as lan:
        async with (
            beacon(ANNA, "--host", "::", "--serve", lan=lan, host=0) as anna,
            beacon(BORIS, "--host", "::", "--serve", lan=lan, host=1) as boris,
        ):
            seen = await anna.sees(BORIS)
            await boris.sees(ANNA)
            assert seen.addresses == (join(lan.address6(1), boris.port),)
            code, said = await doctor(lan, 0)
            assert code == 0, said
            assert f"answers at {seen.addresses[0]}" in said


@needs_netns
async def test_an_ipv4_only_lan_works() -> None:
    with Lan(hosts=2, ipv6=False) as lan:
        async with (
            beacon(ANNA, lan=lan, host=0) as anna,
            beacon(BORIS, "--port", "4000", lan=lan, host=1),
        ):
            assert (await anna.sees(BORIS)).addresses == (f"{lan.address(1)}:4000",)


@needs_netns
async def test_a_network_that_is_down_at_the_start_is_used_once_it_is_up() -> None:
    with Lan(hosts=2) as lan:
        lan.link_down(1)
        async with (
            beacon(ANNA, lan=lan, host=0) as anna,
            beacon(BORIS, "--complain", lan=lan, host=1) as boris,
        ):
            # It tells, once, that it waits; only then the cable is plugged in.
            await boris.until(lambda seen: seen.name == "waits")
            lan.link_up(1)
            assert await anna.sees(BORIS)
            assert await boris.sees(ANNA)


@needs_netns
async def test_a_changed_address_is_announced_again_without_a_goodbye() -> None:
    with Lan(hosts=2, ipv6=False) as lan:
        async with (
            beacon(ANNA, lan=lan, host=0) as anna,
            beacon(BORIS, "--port", "4000", lan=lan, host=1) as boris,
        ):
            assert (await anna.sees(BORIS)).addresses == (f"{lan.address(1)}:4000",)
            await boris.sees(ANNA)
            second, fresh = (lan.address(1).rsplit(".", 1)[0] + end for end in (".98", ".99"))
            lan.run(1, ["ip", "addr", "add", f"{second}/24", "dev", "eth0"])
            await anna.until(lambda seen: f"{second}:4000" in seen.addresses)
            lan.readdress(1, fresh)
            # For a second all are known; then the old ones have expired.
            await anna.until(lambda seen: seen.addresses == (f"{fresh}:4000",))
            assert not any(seen.gone for seen in anna.heard)


@needs_netns
async def test_a_pulled_cable_says_no_goodbye_and_plugged_in_all_go_on() -> None:
    with Lan(hosts=2) as lan:
        async with beacon(ANNA, lan=lan, host=0) as anna:
            async with beacon(BORIS, "--complain", lan=lan, host=1) as boris:
                await anna.sees(BORIS)
                lan.link_down(1)
                await boris.until(lambda seen: seen.name == "waits")
                lan.link_up(1)
                async with beacon(CHLOE, lan=lan, host=0):
                    await boris.sees(CHLOE)
            await anna.until(lambda seen: seen.node == BORIS and seen.gone)
        assert [seen.gone for seen in anna.heard if seen.node == BORIS] == [False, True]


@needs_netns
async def test_the_doctor_finds_a_healthy_lan_healthy() -> None:
    with Lan(hosts=2) as lan:
        async with (
            beacon(ANNA, "--serve", lan=lan, host=0) as anna,
            beacon(BORIS, "--serve", lan=lan, host=1),
        ):
            seen = await anna.sees(BORIS)
            code, said = await doctor(lan, 0, "--version", "1")
    assert code == 0, said
    assert "ok    multicast: eth0 joins 224.0.0.251" in said
    assert "ok    multicast: eth0 joins ff02::fb" in said
    assert f"own announcement on eth0 ({lan.address(0)}) is heard back" in said
    assert "lo (127.0.0.1, ::1) is skipped: loopback" in said
    assert f"(node {BORIS[:8]}) answers at {seen.addresses[0]}" in said


@needs_netns
async def test_the_doctor_finds_a_peer_that_is_visible_but_refuses() -> None:
    with Lan(hosts=2) as lan:
        async with (
            beacon(ANNA, "--serve", lan=lan, host=0) as anna,
            beacon(BORIS, lan=lan, host=1) as boris,
        ):
            seen = await anna.sees(BORIS)
            await boris.sees(ANNA)
            code, said = await doctor(lan, 0)
    assert code == 1
    assert f"{seen.addresses[0]} refuses the connection" in said
    assert "sudo ufw allow" in said


@needs_netns
async def test_the_doctor_finds_a_peer_that_is_visible_but_silent() -> None:
    with Lan(hosts=2) as lan:
        async with (
            beacon(ANNA, "--serve", lan=lan, host=0) as anna,
            beacon(BORIS, "--mute", lan=lan, host=1),
        ):
            seen = await anna.sees(BORIS)
            code, said = await doctor(lan, 0)
    assert code == 1
    assert f"{seen.addresses[0]} does not answer" in said
    assert "client isolation" in said


@needs_netns
async def test_the_doctor_tells_other_runs_from_other_models() -> None:
    with Lan(hosts=3) as lan:
        async with (
            beacon(ANNA, "--serve", lan=lan, host=0) as anna,
            beacon(BORIS, "--serve", "--run", "kitchen", lan=lan, host=1),
            beacon(CHLOE, "--serve", "--layout", "3f" * 8, lan=lan, host=2),
        ):
            await anna.sees(BORIS)
            await anna.sees(CHLOE)
            code, said = await doctor(lan, 0)
    assert code == 1
    lines = {line.split(" ")[0]: line for line in said.splitlines() if "peer" in line}
    assert f"(node {BORIS[:8]}) is of another run, 'kitchen'" in lines["info"]
    assert f"(node {CHLOE[:8]}): other model (layout 3f3f3f3f instead of" in lines["wrong"]


# --- the LAN itself ------------------------------------------------------------------------------


def namespaces() -> str:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return listed.stdout


@needs_netns
def test_a_lan_is_removed_when_a_test_in_it_fails() -> None:
    prefix = f"{PREFIX}-{os.getpid()}-"
    with pytest.raises(ZeroDivisionError), Lan(hosts=2) as lan:
        process = lan.popen(0, ["sleep", "60"])
        assert prefix in namespaces()
        raise ZeroDivisionError
    assert prefix not in namespaces()
    assert process.returncode is not None


@needs_netns
def test_a_lan_that_cannot_be_made_is_removed() -> None:
    with pytest.raises(RuntimeError, match="rate"), Lan(hosts=2, rate="nonsense"):
        pass
    assert f"{PREFIX}-{os.getpid()}-" not in namespaces()


@needs_netns
def test_what_a_killed_process_left_is_swept() -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    name = f"{PREFIX}-{dead.pid}-0-h0"
    subprocess.run(["ip", "netns", "add", name], check=True)
    sweep()
    assert name not in namespaces()


@needs_netns
def test_hosts_are_apart_from_this_machine() -> None:
    with Lan(hosts=1) as lan:
        seen = lan.run(0, ["ip", "-br", "link"])
        assert sorted(line.split()[0].split("@")[0] for line in seen.splitlines()) == ["eth0", "lo"]


# --- the process ---------------------------------------------------------------------------------


async def serve(options: argparse.Namespace, stack: AsyncExitStack) -> int:
    """Answer `/v1/status`, or be mute, or bind a port and never listen; give the port."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    sock = stack.enter_context(closing(socket.socket(family)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host = "" if options.host == "192.0.2.77" else options.host
    sock.bind((host, options.port))
    if options.mute:
        sock.listen()
    if options.serve:
        says = {"node": options.node, "name": options.name, "run": options.run}
        says |= {"layout": options.layout, "version": 1}

        async def status(_: web.Request) -> web.Response:
            return web.json_response(says)

        app = web.Application()
        app.router.add_get("/v1/status", status)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, sock).start()
    return int(sock.getsockname()[1])


async def shine(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        port = await serve(options, stack)
        say(json.dumps({"port": port}))
        node = Announcement(options.node, options.name, options.run, options.layout, "1")
        mdns = Mdns(node, lambda: join(options.host, port), interfaces=options.interface)
        async for seen in mdns.events():
            say(json.dumps(asdict(seen)))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def examine(options: argparse.Namespace) -> int:
    findings = await diagnose(version=options.version, seconds=1.5)
    say(render(findings))
    return exit_code(findings)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("node")
    parser.add_argument("--name", default="beacon")
    parser.add_argument("--run")
    parser.add_argument("--layout", default=LAYOUT)
    parser.add_argument("--version")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--interface", action="append", default=[])
    for flag in ("--serve", "--mute", "--complain"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    if options.node == "doctor":
        return asyncio.run(examine(options))
    if options.complain:
        logging.getLogger("p2pfl").addHandler(Complaint())
    with suppress(asyncio.CancelledError):
        asyncio.run(shine(options))
    return 0


class Complaint(logging.Handler):
    """Prints a warning as if it were a sighting, so that the test can wait for it."""

    def emit(self, record: logging.LogRecord) -> None:
        say(json.dumps(asdict(Sighting((record.getMessage(),), name="waits"))))


if __name__ == "__main__":
    sys.exit(main())
