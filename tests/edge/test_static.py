from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.edge.static import StaticPeers, join, merge, parse
from p2pfl.errors import ConfigError, NetworkError
from p2pfl.ports import Sighting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.1.5:4000", ("192.168.1.5", 4000)),
        ("laptop:1", ("laptop", 1)),
        ("laptop.local.:65535", ("laptop.local.", 65535)),
        ("my_box-2.lan:80", ("my_box-2.lan", 80)),
        ("[fd00::5]:4000", ("fd00::5", 4000)),
        ("[fe80::1%eth0]:4000", ("fe80::1%eth0", 4000)),
        ("  10.0.0.1:4000 ", ("10.0.0.1", 4000)),
    ],
)
def test_an_address_is_split_into_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no port"),
        ("laptop", "no port"),
        ("192.168.1.5", "no port"),
        ("[fd00::5]", "no port"),
        ("laptop:", "port is ''"),
        ("laptop:0", "port is '0', expected 1 to 65535"),
        ("laptop:65536", "port is '65536'"),
        ("laptop:123456789", "port is '123456789'"),
        ("laptop:-1", "port is '-1'"),
        ("laptop:http", "port is 'http'"),
        ("laptop:٣", "port is '٣'"),
        (":4000", "'' is not a host name"),
        ("http://laptop:4000", "brackets"),
        ("fd00::5:4000", "brackets"),
        ("fd00::5", "brackets"),
        ("[laptop]:4000", "not an IPv6 address"),
        ("[fd00::5]4000", "no port"),
        ("a b:4000", "not a host name"),
        ("a..b:4000", "not a host name"),
        ("999.1.1.1:4000", "not a host name"),
        ("1.2.3:4000", "not a host name"),
    ],
)
def test_a_bad_address_is_an_error_that_names_it(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert f"peer '{text}'" in str(caught.value)
    assert reason in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        host, port = parse(text)
    except ConfigError:
        return
    assert parse(join(host, port)) == (host, port)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_is_joined_is_parsed_again(ip: object, port: int) -> None:
    assert parse(join(str(ip), port)) == (str(ip), port)


def test_static_peers_with_a_bad_address_are_refused_when_made() -> None:
    with pytest.raises(ConfigError, match="peer 'nonsense'"):
        StaticPeers(["10.0.0.1:4000", "nonsense"])


async def first(count: int, stream: AsyncIterator[Sighting]) -> list[Sighting]:
    found = []
    async with aclosing(stream), asyncio.timeout(5):
        async for sighting in stream:
            found.append(sighting)
            if len(found) == count:
                break
    return found


async def test_each_static_peer_is_sighted_once_in_the_users_order() -> None:
    peers = StaticPeers(["b:2", "[FD00::5]:1", "b:2", "a:1"])
    found = await first(3, peers.events())
    assert found == [Sighting(("b:2",)), Sighting(("[FD00::5]:1",)), Sighting(("a:1",))]


async def test_static_peers_do_not_end_the_stream() -> None:
    events = StaticPeers(["a:1"]).events()
    async with aclosing(events):
        assert (await anext(events)).addresses == ("a:1",)
        waiting = asyncio.wait_for(anext(events), 0.05)
        with pytest.raises(TimeoutError):
            await waiting


class Script:
    """A source that plays what it was given, `after` another is closed, and ends as it was told."""

    def __init__(
        self, *addresses: str, error: Exception | None = None, after: Script | None = None
    ) -> None:
        self.addresses = addresses
        self.error = error
        self.after = after
        self.closed = asyncio.Event()

    async def events(self) -> AsyncIterator[Sighting]:
        try:
            if self.after is not None:
                await self.after.closed.wait()
            for address in self.addresses:
                yield Sighting((address,))
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            # Saying goodbye takes an await, as it does in mDNS.
            await asyncio.sleep(0)
            self.closed.set()


async def test_merged_sources_give_everything_each_in_its_order() -> None:
    one, two = Script("a:1", "a:2", "a:3"), Script("b:1", "b:2")
    found = [s.addresses[0] for s in await first(5, merge(one, two).events())]
    assert [a for a in found if a.startswith("a")] == ["a:1", "a:2", "a:3"]
    assert [a for a in found if a.startswith("b")] == ["b:1", "b:2"]


async def test_a_source_that_fails_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Script("a:1", error=NetworkError("multicast refused"))
    found = await first(3, merge(broken, Script("b:1", "b:2", after=broken)).events())
    assert [s.addresses[0] for s in found] == ["a:1", "b:1", "b:2"]
    assert "multicast refused" in caplog.text


async def test_a_mistake_in_a_source_is_not_hidden() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await first(2, merge(Script("a:1", error=ValueError("a bug"))).events())
    assert caught.group_contains(ValueError, match="a bug")


async def test_closing_a_merged_stream_closes_every_source() -> None:
    sources = [Script("a:1"), Script(), Script(*(f"c:{port}" for port in range(1, 999)))]
    await first(2, merge(*sources).events())
    assert all(source.closed.is_set() for source in sources)


async def test_cancelling_the_reader_of_a_merged_stream_closes_every_source() -> None:
    sources = [Script(), Script("b:1")]
    sighted = asyncio.Event()

    async def read() -> None:
        async for _ in merge(*sources).events():
            sighted.set()

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        await sighted.wait()
        reading.cancel()
    assert all(source.closed.is_set() for source in sources)


async def test_a_slow_reader_makes_the_sources_wait() -> None:
    played = 0

    class Flood:
        async def events(self) -> AsyncIterator[Sighting]:
            nonlocal played
            while True:
                played += 1
                yield Sighting((f"a:{played}",))

    events = merge(Flood()).events()
    async with aclosing(events):
        await anext(events)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert played < 200


@pytest.mark.parametrize(
    "address", ["a" * 64 + ".b:80", "b." + "a" * 64 + ":80", "[::1%" + "x" * 60 + "]:80"]
)
def test_a_name_that_no_resolver_can_write_down_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError):
        parse(address)
