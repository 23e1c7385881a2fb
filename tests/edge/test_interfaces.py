from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.edge.interfaces import (
    Interface,
    Traits,
    Verdict,
    announced,
    best_first,
    multicast_addresses,
    select,
    survey,
    usable,
    verdict,
)
from p2pfl.errors import NetworkError


def made(name: str, *addresses: str, index: int = 1, is_up: bool = True) -> Interface:
    parsed = tuple(ip_interface(address) for address in addresses)
    return Interface(name, index, parsed, verdict(name, parsed, Traits(is_up=is_up)), is_up)


LO = made("lo", "127.0.0.1/8", "::1/128")
ETH0 = made("eth0", "192.168.1.5/24", "fd00::5/64", "fe80::5%2/64", index=2)
DOCKER = made("docker0", "172.17.0.1/16", index=3)
WLAN = made("wlan0", "10.0.0.7/24", index=4, is_up=False)
TUN = made("tun0", "10.8.0.2/24", index=5)
DEVICE = (LO, ETH0, DOCKER, WLAN, TUN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eth0", Verdict.USED),
        ("enp3s0", Verdict.USED),
        ("wlan0", Verdict.USED),
        ("wlp2s0", Verdict.USED),
        ("en0", Verdict.USED),
        ("br0", Verdict.USED),
        ("bond0", Verdict.USED),
        ("Ethernet", Verdict.USED),
        ("lo", Verdict.LOOPBACK),
        ("docker0", Verdict.VIRTUAL),
        ("br-4f2a99", Verdict.VIRTUAL),
        ("veth12ab", Verdict.VIRTUAL),
        ("virbr0", Verdict.VIRTUAL),
        ("cni0", Verdict.VIRTUAL),
        ("flannel.1", Verdict.VIRTUAL),
        ("podman1", Verdict.VIRTUAL),
        ("tap0", Verdict.VIRTUAL),
        ("bridge100", Verdict.VIRTUAL),
        ("vEthernet (WSL)", Verdict.VIRTUAL),
        ("tun0", Verdict.TUNNEL),
        ("wg0", Verdict.TUNNEL),
        ("tailscale0", Verdict.TUNNEL),
        ("utun3", Verdict.TUNNEL),
        ("ppp0", Verdict.TUNNEL),
        ("ztabcdef12", Verdict.TUNNEL),
    ],
)
def test_the_name_of_an_interface_decides_its_kind(name: str, expected: Verdict) -> None:
    assert verdict(name, [ip_interface("10.0.0.5/24")], Traits()) is expected


@pytest.mark.parametrize(
    ("addresses", "traits", "expected"),
    [
        (["10.0.0.5/24"], Traits(is_up=False), Verdict.DOWN),
        ([], Traits(is_up=False), Verdict.DOWN),
        ([], Traits(), Verdict.NO_ADDRESS),
        (["169.254.3.4/16"], Traits(), Verdict.LINK_LOCAL),
        (["fe80::1/64"], Traits(), Verdict.LINK_LOCAL),
        (["fe80::1/64", "fd00::1/64"], Traits(), Verdict.USED),
        (["127.0.0.1/8"], Traits(), Verdict.LOOPBACK),
        (["10.0.0.5/24"], Traits(is_tunnel=True), Verdict.TUNNEL),
        (["10.0.0.5/24"], Traits(is_tap=True), Verdict.VIRTUAL),
    ],
)
def test_addresses_and_traits_decide_where_the_name_says_nothing(
    addresses: list[str], traits: Traits, expected: Verdict
) -> None:
    assert verdict("x0", [ip_interface(a) for a in addresses], traits) is expected


def test_only_verdicts_that_a_network_can_cure_may_change() -> None:
    curable = {Verdict.DOWN, Verdict.NO_ADDRESS, Verdict.LINK_LOCAL}
    assert {v for v in Verdict if v.may_change} == curable


def names(chosen: tuple[Interface, ...]) -> list[str]:
    return [interface.name for interface in chosen]


def test_by_default_only_the_lan_is_used() -> None:
    assert names(usable(select(DEVICE, []))) == ["eth0"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["lo"], ["lo"]),
        (["docker0", "lo"], ["lo", "docker0"]),
        (["172.17.0.1"], ["docker0"]),
        (["FD00:0::5"], ["eth0"]),
        (["tun0"], ["tun0"]),
    ],
)
def test_wanted_interfaces_are_used_exactly(wanted: list[str], expected: list[str]) -> None:
    assert names(usable(select(DEVICE, wanted))) == expected


def test_a_wanted_address_leaves_the_others_of_its_interface_out() -> None:
    (interface,) = usable(select(DEVICE, ["192.168.1.5"]))
    assert [str(address.ip) for address in interface.addresses] == ["192.168.1.5"]
    (whole,) = usable(select(DEVICE, ["192.168.1.5", "eth0"]))
    assert len(whole.addresses) == 3


@pytest.mark.parametrize("wanted", ["eth9", "10.9.9.9", "", "ETH0"])
def test_an_unknown_interface_is_an_error_that_names_the_known_ones(wanted: str) -> None:
    with pytest.raises(NetworkError, match=rf"unknown interface '{wanted}'.*eth0 \(192\.168\.1\.5"):
        select(DEVICE, [wanted])


def test_a_wanted_interface_that_is_down_says_so() -> None:
    with pytest.raises(NetworkError, match=r"wlan0 \(down\); connect wlan0 to a network"):
        usable(select(DEVICE, ["wlan0"]))


def test_without_a_usable_interface_the_error_gives_reasons_and_the_fix() -> None:
    with pytest.raises(NetworkError) as caught:
        usable((LO, DOCKER))
    text = str(caught.value)
    assert "lo (loopback), docker0 (docker, bridge or virtual)" in text
    assert "--interface lo for nodes on this device only" in text


def test_multicast_is_spoken_from_one_address_of_each_family() -> None:
    assert multicast_addresses(ETH0) == ["192.168.1.5", "fd00::5"]
    assert multicast_addresses(LO) == ["127.0.0.1"]
    assert multicast_addresses(made("eth0", "fe80::1%2/64")) == ["fe80::1"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::", ["192.168.1.5", "fd00::5"]),
        ("", ["192.168.1.5", "fd00::5"]),
        ("0.0.0.0", ["192.168.1.5"]),
        ("fd00::5", ["fd00::5"]),
        ("127.0.0.1", []),
    ],
)
def test_what_is_announced_follows_from_where_the_node_serves(
    host: str, expected: list[str]
) -> None:
    assert announced([ETH0], host) == expected


def test_an_interface_with_link_local_addresses_only_announces_these() -> None:
    assert announced([made("eth0", "169.254.1.2/16")], "0.0.0.0") == ["169.254.1.2"]


def test_a_peers_addresses_on_our_network_come_first() -> None:
    given = ["10.1.1.1", "2001:db8::1", "192.168.1.9", "fd00::9", "fe80::9%2"]
    expected = ["192.168.1.9", "fd00::9", "10.1.1.1", "2001:db8::1", "fe80::9%2"]
    assert best_first(given, [ETH0]) == expected


def test_a_peers_loopback_and_unscoped_link_local_addresses_are_left_out() -> None:
    assert best_first(["127.0.0.1", "192.168.1.9", "fe80::9"], [ETH0]) == ["192.168.1.9"]
    assert best_first(["127.0.0.1"], [ETH0]) == ["127.0.0.1"]


def test_what_is_no_hosts_address_is_left_out() -> None:
    assert best_first(["224.0.0.251", "0.0.0.0", "::", "ff02::1"], [ETH0]) == []


@given(st.lists(st.ip_addresses().map(str), max_size=8), st.randoms())
def test_the_order_of_a_peers_addresses_does_not_depend_on_how_they_came(
    given_addresses: list[str], chance: object
) -> None:
    shuffled = list(given_addresses)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert best_first(shuffled, [ETH0]) == best_first(given_addresses, [ETH0])


def test_this_device_has_a_loopback_that_is_skipped_unless_wanted() -> None:
    (loopback,) = (i for i in survey() if any(str(a.ip) == "127.0.0.1" for a in i.addresses))
    assert loopback.verdict is Verdict.LOOPBACK
    (chosen,) = usable(survey(["127.0.0.1"]))
    assert chosen.name == loopback.name
