from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from ipaddress import ip_interface

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.edge.doctor import (
    Finding,
    exit_code,
    family_findings,
    interface_findings,
    multicast_findings,
    peer_findings,
    port_findings,
    render,
)
from p2pfl.edge.interfaces import Interface, Verdict
from p2pfl.ports import Sighting

NODE, LAYOUT = "0123456789abcdef" * 2, "9a8b7c6d5e4f3a2b"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def made(name: str, verdict: Verdict, *addresses: str) -> Interface:
    return Interface(name, 1, tuple(ip_interface(a) for a in addresses), verdict)


def peer(address: str, **says: str) -> Sighting:
    told = {"node": NODE, "run": "kitchen", "layout": LAYOUT, "version": "1", "name": "pi"}
    return Sighting((address,), **(told | says))


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """Something on loopback that answers `/v1/status`; gives its address."""
    app = web.Application()
    app.router.add_get("/v1/status", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


async def is_node(_: web.Request) -> web.StreamResponse:
    return web.json_response({"node": NODE, "run": "kitchen", "layout": LAYOUT, "version": 1})


async def examined(other: Sighting, run: str | None = "kitchen") -> list[Finding]:
    return await peer_findings([other], run, LAYOUT, "1", 3.0)


# --- what is said --------------------------------------------------------------------------------


def test_only_a_wrong_finding_makes_the_exit_code_one() -> None:
    fine = [Finding("a", "ok", "x"), Finding("b", "info", "y", "z")]
    assert exit_code([]) == exit_code(fine) == 0
    assert exit_code([*fine, Finding("c", "wrong", "x", "y")]) == 1


def test_a_fix_stands_under_its_finding() -> None:
    findings = [Finding("port", "wrong", "it is shut", "open it"), Finding("mdns", "ok", "fine")]
    assert render(findings).splitlines() == [
        "wrong port: it is shut",
        "      → open it",
        "ok    mdns: fine",
    ]


# --- this device ---------------------------------------------------------------------------------


async def test_every_interface_is_found_with_its_reason() -> None:
    found = [
        made("lo", Verdict.LOOPBACK, "127.0.0.1/8"),
        made("eth0", Verdict.USED, "192.168.1.5/24"),
        made("docker0", Verdict.VIRTUAL, "172.17.0.1/16"),
        made("wlan0", Verdict.DOWN),
    ]
    findings = await interface_findings(found)
    assert [(f.verdict, f.text) for f in findings] == [
        ("info", "lo (127.0.0.1) is skipped: loopback"),
        ("ok", "eth0 (192.168.1.5) is used"),
        ("info", "docker0 (172.17.0.1) is skipped: docker, bridge or virtual"),
        ("info", "wlan0 (no address) is skipped: down"),
    ]
    assert [f.fix for f in findings] == [
        "--interface lo uses it",
        "",
        "--interface docker0 uses it",
        "",
    ]


async def test_no_usable_interface_is_wrong_and_says_what_to_do() -> None:
    found = [made("lo", Verdict.LOOPBACK, "127.0.0.1/8"), made("wlan0", Verdict.DOWN)]
    wrong = (await interface_findings(found))[-1]
    assert wrong.verdict == "wrong"
    assert wrong.fix.startswith("connect wlan0 to the network, or use --interface lo")


@pytest.mark.parametrize(
    ("addresses", "verdict", "text"),
    [
        (["192.168.1.5/24", "fd00::5/64"], "ok", "IPv4 and IPv6"),
        (["192.168.1.5/24", "fe80::5/64"], "info", "IPv4 only"),
        (["fd00::5/64"], "info", "IPv6 only"),
        (["fe80::5/64"], "info", "only link-local"),
    ],
)
async def test_the_address_families_are_told(addresses: list[str], verdict: str, text: str) -> None:
    (finding,) = await family_findings([made("eth0", Verdict.USED, *addresses)])
    assert finding.verdict == verdict
    assert finding.text.startswith(text)


async def test_an_address_that_is_not_here_cannot_join_the_group() -> None:
    (finding,) = await multicast_findings([made("eth7", Verdict.USED, "192.0.2.77/24")])
    assert finding.verdict == "wrong"
    assert finding.text.startswith("eth7 joins 224.0.0.251 not: ")
    assert "--peer HOST:PORT" in finding.fix


LO = made("lo", Verdict.USED, "127.0.0.1/8")


async def test_without_a_node_a_listener_of_our_own_is_connected_to() -> None:
    findings, answers = await port_findings([LO], None, [])
    assert [(f.verdict, f.text) for f in findings] == [("ok", "127.0.0.1 takes connections")]
    assert answers == []


async def test_an_address_that_is_not_here_takes_no_connections() -> None:
    elsewhere = made("eth7", Verdict.USED, "192.0.2.77/24")
    (finding,), _ = await port_findings([elsewhere], None, [])
    assert finding.verdict == "wrong"
    assert finding.text.startswith("192.0.2.77 does not take connections")


async def test_the_given_port_is_asked_and_its_node_known() -> None:
    async with answering(is_node) as address:
        (finding,), (answer,) = await port_findings([LO], int(address.split(":")[1]), [])
    assert (finding.verdict, finding.text) == ("ok", f"the node answers at {address}")
    assert (answer.says("run"), answer.says("version")) == ("kitchen", "1")


async def test_a_given_port_on_which_nothing_listens_is_wrong() -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        (finding,), _ = await port_findings([LO], port, [])
    assert finding.verdict == "wrong"
    assert f"--bind 0.0.0.0 --port {port}" in finding.fix


# --- the others ----------------------------------------------------------------------------------


async def test_nobody_nearby_is_no_mistake_but_comes_with_what_to_try() -> None:
    (finding,) = await peer_findings([], "kitchen", LAYOUT, "1", 3.0)
    assert finding.verdict == "info"
    assert "client isolation" in finding.fix
    assert "--peer HOST:PORT" in finding.fix


async def test_a_peer_that_fits_and_answers_is_fine() -> None:
    async with answering(is_node) as address:
        (finding,) = await examined(peer(address))
    assert (finding.verdict, finding.text) == (
        "ok",
        f"'pi' (node 01234567) answers at {address}",
    )


async def test_a_peer_that_answers_at_one_of_its_addresses_is_fine() -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        shut = f"127.0.0.1:{deaf.getsockname()[1]}"
        async with answering(is_node) as address:
            both = Sighting((shut, address), NODE, "kitchen", LAYOUT, "1", "pi")
            (finding,) = await examined(both)
    assert finding.verdict == "ok"
    assert f"{shut} refuses the connection" in finding.text


async def test_a_visible_peer_that_refuses_is_wrong_and_the_firewall_is_named() -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        (finding,) = await examined(peer(f"127.0.0.1:{port}"))
    assert finding.verdict == "wrong"
    assert f"127.0.0.1:{port} refuses the connection" in finding.text
    assert f"sudo ufw allow {port}/tcp" in finding.fix
    assert f"sudo firewall-cmd --add-port={port}/tcp" in finding.fix


async def test_a_visible_peer_that_never_answers_is_wrong_and_the_router_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        (finding,) = await examined(peer(f"127.0.0.1:{mute.getsockname()[1]}"))
    assert finding.verdict == "wrong"
    assert "client isolation" in finding.fix


async def is_html(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<h1>A printer</h1>", content_type="text/html")


async def is_another(_: web.Request) -> web.StreamResponse:
    return web.json_response({"node": "f" * 32})


async def is_a_list(_: web.Request) -> web.StreamResponse:
    return web.json_response([NODE])


async def is_deep(_: web.Request) -> web.StreamResponse:
    return web.Response(text="[" * 100_000)


async def is_binary(_: web.Request) -> web.StreamResponse:
    return web.Response(body=bytes(range(256)))


async def is_huge(_: web.Request) -> web.StreamResponse:
    return web.Response(text='{"node": "' + "a" * 2**21 + '"}')


async def is_elsewhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://192.0.2.1/v1/status")


@pytest.mark.parametrize(
    "handler", [is_html, is_another, is_a_list, is_deep, is_binary, is_huge, is_elsewhere]
)
async def test_whatever_else_answers_there_is_not_the_peer(handler: Handler) -> None:
    async with answering(handler) as address:
        (finding,) = await examined(peer(address))
    assert finding.verdict == "wrong"
    assert "restart the node there with another --port" in finding.fix


async def test_a_peer_of_another_run_is_no_mistake_and_is_left_alone() -> None:
    (finding,) = await examined(peer("192.0.2.1:1", run="garage"))
    assert finding.verdict == "info"
    assert "another run, 'garage'" in finding.text
    assert "--run kitchen" in finding.fix


@pytest.mark.parametrize(
    ("says", "text", "fix"),
    [
        ({"layout": "3f" * 8}, "other model", "the same TASK"),
        ({"version": "7"}, "other protocol version 7 (this is 1)", "the same version of p2pfl"),
    ],
)
async def test_a_peer_of_the_run_that_does_not_fit_is_wrong(
    says: dict[str, str], text: str, fix: str
) -> None:
    async with answering(is_node) as address:
        wrong, reached = await examined(peer(address, **says))
    assert (wrong.verdict, reached.verdict) == ("wrong", "ok")
    assert text in wrong.text
    assert fix in wrong.fix


async def test_without_a_run_of_ours_peers_are_only_reached() -> None:
    async with answering(is_node) as address:
        findings = await peer_findings([peer(address, run="garage")], None, None, None, 3.0)
    assert [finding.verdict for finding in findings] == ["ok"]


findings = st.builds(
    Finding, st.text(max_size=9), st.sampled_from(["ok", "info", "wrong"]), st.text(max_size=9)
)


@given(st.lists(findings, max_size=6))
def test_what_is_wrong_does_not_depend_on_the_order(some: list[Finding]) -> None:
    assert exit_code(some) == exit_code(reversed(some))
