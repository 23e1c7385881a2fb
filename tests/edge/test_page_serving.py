"""A node's page over real sockets on loopback: who gets it, and what it may cost the node."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from contextlib import AsyncExitStack, closing
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from p2pfl.config import LimitsConfig
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.page.feed import Feed
from p2pfl.edge.page.files import assets
from p2pfl.edge.page.serving import LINK_PATH, Page
from p2pfl.edge.page.streams import STREAMS
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, NetworkError
from tests.edge.page_nodes import Living, asking, bearer, entered, events, living
from tests.edge.test_http import come_true
from tests.node.swarm import Memory

KEY = RunKey.new()
PAGES = ("/", "/assets/page.css", "/v1/view", "/metrics")
"""What a browser asks for, but for the stream."""


async def status(session: aiohttp.ClientSession, url: str, **options: Any) -> int:
    async with session.get(url, allow_redirects=False, **options) as response:
        await response.read()
        return response.status


# --- an open run ---------------------------------------------------------------------------------


async def test_an_open_node_serves_its_page_beside_the_protocol() -> None:
    async with living("anna") as anna, asking() as browser:
        for path in PAGES:
            async with browser.get(f"{anna.url}{path}") as response:
                assert response.status == 200, path
                policy = response.headers["Content-Security-Policy"]
                assert "default-src 'none'; script-src 'self'" in policy
                assert "frame-ancestors 'none'" in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Referrer-Policy"] == "no-referrer"
                assert "Access-Control-Allow-Origin" not in response.headers
        async with browser.get(f"{anna.url}/v1/view") as response:
            view = await response.json()
        assert view["node"] == anna.id
        assert view["nodes"][0]["addresses"] == [anna.transport.address]
        assert await status(browser, f"{anna.url}/v1/status") == 200


async def test_two_nodes_show_each_other_their_exchanges_and_an_end() -> None:
    async with living("anna") as anna, living("boris", anna) as boris, asking() as browser:
        seen: dict[str, list[Any]] = {"view": [], "merge": [], "timeline": [], "": []}
        flows: list[Any] = []
        async with browser.get(f"{anna.url}/v1/live") as response:
            async for kind, data in events(response):
                seen[kind].append(data)
                flows = [merge for merge in seen["merge"] if merge["outcome"] == "flow"]
                if flows and len(seen["view"]) > 1 and boris.task.cancelling() == 0:
                    boris.task.cancel()
                # where a machine is busy a goodbye may come too late, and silence tells
                ends = [each for each in seen["timeline"] if each["kind"] in ("left", "dead")]
                if ends:
                    break
        first, second = seen["view"][:2]
        assert first["node"] == anna.id
        assert first["curves"]["nodes"].keys() <= {anna.id, boris.id}
        assert second["at"] >= first["at"]
        assert flows[0]["peer"] == boris.id
        assert flows[0]["why"].startswith("mixed with weight")
        assert ends[0]["node"] == boris.id
        view: dict[str, Any] = {}
        while {node["node"]: node["state"] for node in view.get("nodes", ())}.get(boris.id) not in (
            "left",
            "dead",
        ):
            async with browser.get(f"{anna.url}/v1/view") as response:
                view = await response.json()
        assert {anna.id, boris.id} in [{link["a"], link["b"]} for link in view["links"]]
        assert view["rates"]["exchanges_per_s"] > 0
        assert view["nodes"][1]["name"] == "boris"


async def test_later_views_of_a_stream_have_only_new_points() -> None:
    times: list[float] = []
    views = 0
    async with (
        living("anna") as anna,
        asking() as browser,
        browser.get(f"{anna.url}/v1/live") as response,
    ):
        assert response.headers["Content-Type"] == "text/event-stream"
        async for kind, data in events(response):
            if kind == "view":
                views += 1
                times += [point[0] for point in data["curves"]["nodes"].get(anna.id, [])]
            if views == 4:
                break
    assert times == sorted(set(times))
    assert len(times) >= 3


async def test_a_stream_begins_with_how_soon_to_come_again() -> None:
    async with living("anna") as anna:
        reader, writer = await asyncio.open_connection("127.0.0.1", anna.transport.port)
        with closing(writer):
            writer.write(b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"retry: 1000\n\n" in await reader.readuntil(b"event: view")


async def test_a_browser_that_has_a_file_is_told_so() -> None:
    async with living("anna") as anna, asking() as browser:
        async with browser.get(f"{anna.url}/") as response:
            etag, body = response.headers["ETag"], await response.read()
            assert response.headers["Cache-Control"] == "no-cache"
        assert body == assets()["index.html"].data
        known = {"If-None-Match": etag}
        async with browser.get(f"{anna.url}/", headers=known) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["ETag"] == etag
        assert await status(browser, f"{anna.url}/", headers={"If-None-Match": '"x"'}) == 200
        async with browser.head(f"{anna.url}/") as response:
            assert response.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "name", ["nothing.js", "%2e%2e/feed.py", "..%2ffeed.py", "../feed.py", "index.html%00", ""]
)
async def test_nothing_but_the_pages_files_is_served(name: str) -> None:
    async with living("anna") as anna:
        reader, writer = await asyncio.open_connection("127.0.0.1", anna.transport.port)
        with closing(writer):
            writer.write(f"GET /assets/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == b"404"


async def test_a_page_of_another_site_gets_nothing_through_somebodys_browser() -> None:
    async with living("anna") as anna, asking() as browser:
        port = anna.transport.port
        rebound = {"Host": f"evil.com:{port}"}
        foreign = {"Origin": "https://evil.com"}
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        for path in (*PAGES, "/v1/live"):
            for headers in (rebound, foreign, embedded, {"Origin": "null"}):
                async with browser.get(f"{anna.url}{path}", headers=headers) as response:
                    assert response.status == 403, (path, headers)
                    assert "Set-Cookie" not in response.headers
        async with browser.get(f"{anna.url}/v1/view", headers=rebound) as response:
            assert await response.text() == (
                f"'evil.com:{port}' is no address of this node: ask by its IP address, as in "
                "http://192.168.1.7:4000/\n"
            )
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert await status(browser, f"{anna.url}/", headers=followed) == 200
        own = {"Origin": anna.url, "Host": f"localhost:{port}"}
        assert await status(browser, f"{anna.url}/v1/view", headers=own) == 403
        own = {"Origin": anna.url}
        assert await status(browser, f"{anna.url}/v1/view", headers=own) == 200


async def test_a_host_that_is_no_text_is_refused_like_any_other() -> None:
    async with living("anna") as anna:
        reader, writer = await asyncio.open_connection("127.0.0.1", anna.transport.port)
        with closing(writer):
            writer.write(b"GET /v1/view HTTP/1.1\r\nHost: \xff\xfe.com\r\n\r\n")
            assert (await reader.readline()).split()[1] in (b"403", b"400")


async def test_without_a_page_programs_may_ask_all_the_same() -> None:
    async with living("anna", where="off") as anna, asking() as browser:
        assert [await status(browser, f"{anna.url}{path}") for path in PAGES] == [
            404,
            404,
            200,
            200,
        ]


# --- streams -------------------------------------------------------------------------------------


async def test_beyond_the_most_streams_the_next_is_told_so_and_a_place_that_is_left_is_free() -> (
    None
):
    async with living("anna") as anna, asking() as browser, AsyncExitStack() as streams:
        opened = [
            await streams.enter_async_context(browser.get(f"{anna.url}/v1/live"))
            for _ in range(STREAMS)
        ]
        assert {stream.status for stream in opened} == {200}
        async with browser.get(f"{anna.url}/v1/live") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "5"
            assert "close a page" in await response.text()
        assert await status(browser, f"{anna.url}/v1/view") == 200
        opened[0].close()
        await come_true(lambda: anna.feed.watchers == STREAMS - 1)
        async with browser.get(f"{anna.url}/v1/live") as response:
            assert response.status == 200


async def test_an_address_that_holds_all_streams_gives_way_to_another() -> None:
    async with living("anna", bind="") as anna, asking() as greedy, AsyncExitStack() as streams:
        for _ in range(STREAMS):
            await streams.enter_async_context(greedy.get(f"{anna.url}/v1/live"))
        async with (
            asking(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as other,
            other.get(f"{anna.url}/v1/live") as response,
        ):
            assert response.status == 200
            kind, _ = await anext(events(response))
            assert kind == "view"
        await come_true(lambda: anna.feed.watchers < STREAMS)


async def test_streams_end_at_once_when_the_node_stops() -> None:
    async with (
        living("anna") as anna,
        asking() as browser,
        browser.get(f"{anna.url}/v1/live") as response,
    ):
        told = events(response)
        await anext(told)
        began = time.monotonic()
        stopping = asyncio.gather(anna.stop())
        last = [(kind, data) async for kind, data in told][-1]
        took_s = time.monotonic() - began
        await stopping
    assert took_s < 1.0
    assert last[0] == "timeline"
    assert last[1]["detail"] == "this node stopped: cancelled"


async def test_a_stream_that_nobody_reads_does_not_hold_up_the_end_of_the_node() -> None:
    async with living("anna") as anna:
        anna.node.vitals.others.update({f"192.168.1.9:{n}": "x" * 4000 for n in range(1000)})
        _, writer = await connected(anna)
        with closing(writer):
            writer.write(b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await come_true(lambda: anna.feed.watchers == 1)
            began = time.monotonic()
            await anna.stop()
            assert time.monotonic() - began < 1.0


async def test_a_reader_that_does_not_read_is_cut_off_and_costs_no_memory() -> None:
    limits = LimitsConfig(body_min_bytes_per_s=1e9)
    async with living("anna", limits=limits) as anna:
        others = {f"192.168.1.9:{port}": "x" * 4000 for port in range(1000)}
        anna.node.vitals.others.update(others)
        _, writer = await connected(anna)
        with closing(writer):
            writer.write(b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await come_true(lambda: anna.feed.watchers == 1)
            # one view is more than the system keeps
            await come_true(lambda: anna.feed.watchers == 0)
        faults = anna.node.vitals.tally.by_peer["127.0.0.1"]
        assert faults == {"reads no answer": 1}


async def connected(anna: Living) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that takes little and reads nothing."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", anna.transport.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return reader, writer


@pytest.mark.slow
async def test_a_stream_outlives_the_watch_for_connections_that_do_not_read() -> None:
    """The connections' own limits: what is read, however slowly it is told, is not stalled."""
    limits = LimitsConfig(first_byte_s=0.3, body_min_bytes_per_s=1e12)
    async with living("anna", limits=limits) as anna, asking() as browser:
        async with browser.get(f"{anna.url}/v1/live") as response:
            views = 0
            async for kind, _ in events(response):
                views += kind == "view"
                # whoever reads nothing for ten seconds is cut off
                if views == 13:
                    break
        assert anna.node.vitals.tally.by_peer == {}


async def test_while_all_streams_are_open_the_protocol_goes_on() -> None:
    async with living("anna") as anna, asking() as browser, AsyncExitStack() as streams:
        for _ in range(STREAMS):
            await streams.enter_async_context(browser.get(f"{anna.url}/v1/live"))
        async with living("boris", anna) as boris:
            await come_true(lambda: boris.node.vitals.tally.asked["flow"] >= 5)
        assert anna.feed.watchers == STREAMS


async def test_a_flood_of_questions_costs_no_more_views_than_one_who_asks() -> None:
    async with living("anna") as anna, asking() as browser:
        bodies = set()
        began = time.monotonic()
        for _ in range(200):
            async with browser.get(f"{anna.url}/v1/view") as response:
                bodies.add(await response.read())
        took_s = time.monotonic() - began
    assert len(bodies) <= 2 + took_s / 0.5


async def test_questions_that_are_sent_without_reading_answers_are_not_all_answered() -> None:
    async with living("anna") as anna:
        _, writer = await connected(anna)
        anna.node.vitals.others.update({f"192.168.1.9:{n}": "x" * 4000 for n in range(1000)})
        with closing(writer):
            writer.write(100 * b"GET /v1/view HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await come_true(lambda: anna.node.vitals.tally.by_peer.get("127.0.0.1"))
        assert anna.node.vitals.tally.by_peer["127.0.0.1"]["reads no answer"] == 1


# --- a run with a key ----------------------------------------------------------------------------


def member_of(key: RunKey) -> aiohttp.TCPConnector:
    """Somebody who has the run's key, and asks with it."""
    return aiohttp.TCPConnector(ssl=Credentials.observer(key, time.time()).client_context())


SHELL, DATA = ("/", "/assets/main.js"), ("/v1/view", "/v1/live", "/metrics")
"""Of a run with a key: what has no secrets, and what needs a session."""


async def test_with_a_key_the_page_is_for_all_and_what_it_shows_for_who_came_with_a_link() -> None:
    async with living("anna", run_key=KEY) as anna, asking() as browser, asking() as thief:
        for path in SHELL:
            assert await status(browser, f"{anna.url}{path}") == 200
            assert await status(browser, f"{anna.url}{path}", headers=bearer("x")) == 200
        for path in DATA:
            assert await refusal(browser, f"{anna.url}{path}") == (
                "this page opens with a one-time link: `p2pfl page` on the node's device prints one"
            )
        link = anna.page.link()
        assert link.startswith(f"{anna.url}/#once=")
        session = await entered(browser, link)
        for shown in ({"params": {"session": session}}, {"headers": bearer(session)}):
            for path in ("/v1/view", "/metrics"):
                assert await status(browser, f"{anna.url}{path}", **shown) == 200
            async with browser.get(f"{anna.url}/v1/live", **shown) as response:
                assert (await anext(events(response)))[0] == "view"
        assert await entered(thief, link) == "", "a link is good once"
        assert await status(thief, f"{anna.url}/v1/view") == 403
        assert len(browser.cookie_jar) == 0


async def refusal(session: aiohttp.ClientSession, url: str | URL, **options: Any) -> str:
    """What somebody who is not let in is told."""
    async with session.get(url, **options) as response:
        assert response.status == 403
        assert "Set-Cookie" not in response.headers
        return (await response.text()).strip()


@pytest.mark.parametrize("guess", ["x", "%ff%00", "%ED%A0%80", "a" * 900, "\u00e4", "é"])
async def test_a_wrong_session_is_told_to_open_a_new_link(guess: str) -> None:
    async with living("anna", run_key=KEY) as anna, asking() as browser:
        await entered(browser, anna.page.link())
        for path in DATA:
            where = URL(f"{anna.url}{path}?session={guess}", encoded=guess.isascii())
            assert "open a new link" in await refusal(browser, where)


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Basic eDp4", "Bearer \xff", "x", ""])
async def test_a_header_without_a_session_opens_nothing(value: str) -> None:
    async with living("anna", run_key=KEY, scrape_token="t" * 43) as anna:
        assert anna.page.address is not None
        for path in DATA:
            reader, writer = await asyncio.open_connection(*anna.page.address)
            with closing(writer):
                head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {value}\r\n\r\n"
                writer.write(head.encode("latin-1"))
                assert (await reader.readline()).split()[1] in (b"403", b"400")


async def test_a_used_link_is_told_so() -> None:
    async with living("anna", run_key=KEY) as anna, asking() as browser:
        link = anna.page.link()
        assert await entered(browser, link)
        url, secret = link.split("/#once=")
        async with browser.post(f"{url}/v1/session", data=secret) as response:
            assert response.status == 403
            assert "was used already, is older than ten minutes" in await response.text()


async def test_only_the_page_itself_begins_a_session_from_a_browser() -> None:
    async with living("anna", run_key=KEY) as anna, asking() as browser:
        link = anna.page.link()
        where, secret = f"{anna.url}/v1/session", link.partition("=")[2]
        assert anna.page.address is not None
        other_port = f"http://127.0.0.1:{anna.page.address[1] ^ 1}"
        for origin in (other_port, "https://evil.com", "null"):
            async with browser.post(where, data=secret, headers={"Origin": origin}) as response:
                assert response.status == 403
                assert "pages of other sites" in await response.text()
        rebound = {"Host": "evil.com", "Origin": "http://evil.com"}
        async with browser.post(where, data=secret, headers=rebound) as response:
            assert response.status == 403
        assert await entered(browser, link), "what was refused has used nothing up"


async def test_what_is_sent_for_a_session_is_bounded_in_size_and_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("p2pfl.edge.page.sessions.GRACE_S", 0.2)
    async with living("anna", run_key=KEY) as anna:
        assert await posted(anna, "Content-Length: 129\r\n\r\n") == b"413"
        assert await posted(anna, "Transfer-Encoding: chunked\r\n\r\n") == b"413"
        assert await posted(anna, "Content-Length: 43\r\n\r\nno more") == b"408"
        assert await posted(anna, "Content-Length: 4\r\n\r\n\xff\xff\xff\xff") == b"403"
        assert await posted(anna, "Content-Length: 0\r\n\r\n") == b"403"
        assert anna.page.address is not None
        _, writer = await asyncio.open_connection(*anna.page.address)
        with closing(writer):
            head = "POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
        async with asking() as browser:
            assert await status(browser, f"{anna.url}/") == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def posted(anna: Living, rest: str) -> bytes:
    """The status of an answer to what is sent for a session; the connection ends if it has to."""
    assert anna.page.address is not None
    reader, writer = await asyncio.open_connection(*anna.page.address)
    with closing(writer):
        writer.write(f"POST /v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}".encode("latin-1"))
        code = (await reader.readline()).split()[1]
        if code in (b"413", b"408"):
            assert b"connection: close" in (await reader.read()).lower()
    return code


async def test_a_link_or_a_session_of_one_node_opens_no_other() -> None:
    async with (
        living("anna", run_key=KEY) as anna,
        living("boris", run_key=KEY) as boris,
        asking() as browser,
    ):
        assert await entered(browser, anna.page.link().replace(anna.url, boris.url)) == ""
        session = await entered(browser, anna.page.link())
        assert await status(browser, f"{anna.url}/v1/view", headers=bearer(session)) == 200
        assert await status(browser, f"{boris.url}/v1/view", headers=bearer(session)) == 403


async def test_a_scraper_reads_metrics_with_its_token_and_nothing_else() -> None:
    token = "t" * 43
    async with living("anna", run_key=KEY, scrape_token=token) as anna, asking() as scraper:
        async with scraper.get(f"{anna.url}/metrics", headers=bearer(token)) as response:
            assert response.status == 200
            assert "p2pfl_training_cycles_total" in await response.text()
        for path in ("/v1/view", "/v1/live"):
            assert await status(scraper, f"{anna.url}{path}", headers=bearer(token)) == 403
        for path in DATA:
            assert await status(scraper, f"{anna.url}{path}", params={"session": token}) == 403
        wrong = bearer(token[:-1])
        assert await status(scraper, f"{anna.url}/metrics", headers=wrong) == 403
        assert await entered(scraper, f"{anna.url}/#once={token}") == ""


async def test_without_a_token_no_scraper_is_let_in() -> None:
    async with living("anna", run_key=KEY) as anna, asking() as scraper:
        for secret in ("", "None"):
            assert await status(scraper, f"{anna.url}/metrics", headers=bearer(secret)) == 403


async def test_an_open_run_has_neither_links_nor_sessions() -> None:
    async with living("anna") as anna, asking() as browser:
        with pytest.raises(ConfigError):
            anna.page.link()
        async with browser.post(f"{anna.url}/v1/session", data="x") as response:
            assert response.status == 404


async def test_with_a_key_only_members_reach_the_nodes_own_port() -> None:
    async with (
        living("anna", run_key=KEY) as anna,
        asking(connector=member_of(KEY)) as member,
        asking(connector=aiohttp.TCPConnector(ssl=False)) as stranger,
    ):
        port = f"https://127.0.0.1:{anna.transport.port}"
        codes = [await status(member, f"{port}{path}") for path in PAGES]
        assert codes == [404, 404, 200, 200]
        async with member.get(f"{port}/v1/live") as response:
            assert (await anext(events(response)))[1]["is_keyed"] is True
        for path in (*PAGES, LINK_PATH):
            with pytest.raises(aiohttp.ClientError):
                await status(stranger, f"{port}{path}")


async def test_a_member_on_this_device_is_given_a_link() -> None:
    async with (
        living("anna", run_key=KEY) as anna,
        asking(connector=member_of(KEY)) as member,
        asking() as browser,
    ):
        where = f"https://127.0.0.1:{anna.transport.port}{LINK_PATH}"
        async with member.post(where) as response:
            link = (await response.json())["page"]
        assert await entered(browser, link)
        assert await status(member, where) == 405


async def test_a_member_elsewhere_gets_one_only_where_the_page_is_for_others() -> None:
    elsewhere = "10.255.255.254"
    async with living("anna", run_key=KEY) as anna:
        answer = await asked_from(anna.page, elsewhere, "10.0.0.5")
        assert answer.status == 403
        assert "only for its own device" in str(answer.text)
        assert (await asked_from(anna.page, "10.0.0.5", "10.0.0.5")).status == 200
    async with living("boris", run_key=KEY, where="0.0.0.0:0") as boris:
        answer = await asked_from(boris.page, elsewhere, "10.0.0.5")
        assert boris.page.address is not None
        port = boris.page.address[1]
        told = json.loads(answer.text or "")
        assert told["page"].startswith(f"http://10.0.0.5:{port}/#once=")
        assert told["port_changes"] is True
    async with living("clara", run_key=KEY, where=f"127.0.0.1:{port}") as clara:
        answer = await asked_from(clara.page, "127.0.0.1", "127.0.0.1")
        assert json.loads(answer.text or "")["port_changes"] is False


async def asked_from(page: Page, there: str, here: str) -> Any:
    """The answer to a request for a link that came from an address to another of ours."""

    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return {"sockname": (here, 4000), "peername": (there, 999)}.get(name, default)

    return await page.new_link(make_mocked_request("POST", LINK_PATH, transport=Transport()))


async def test_a_page_for_others_warns_that_it_travels_unencrypted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    feed, limits = Feed(Memory()), LimitsConfig()
    with closing(Page(feed, limits, is_keyed=True)) as here:
        assert not here.is_reached_by_others
    assert caplog.records == []
    with closing(Page(feed, limits, is_keyed=True, where="0.0.0.0:0")) as everywhere:
        assert everywhere.is_reached_by_others
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "travels unencrypted" in warning.getMessage()


async def test_with_a_key_and_without_a_page_there_is_neither_listener_nor_link() -> None:
    async with (
        living("anna", run_key=KEY, where="off") as anna,
        asking(connector=member_of(KEY)) as member,
    ):
        assert anna.page.address is None
        port = f"https://127.0.0.1:{anna.transport.port}"
        async with member.post(f"{port}{LINK_PATH}") as response:
            assert response.status == 404
            assert "--no-page" in await response.text()
        assert await status(member, f"{port}/v1/view") == 200
        with pytest.raises(ConfigError, match="without a page"):
            anna.page.link()


async def test_the_listener_of_a_page_is_on_loopback_and_gives_its_port_back() -> None:
    async with living("anna", run_key=KEY) as anna:
        assert anna.page.address is not None
        host, port = anna.page.address
        assert host == "127.0.0.1"
        with pytest.raises(NetworkError, match=r"the page: .* is in use; give another --page"):
            Page(Feed(Memory()), LimitsConfig(), is_keyed=True, where=f"127.0.0.1:{port}")
    with closing(Page(Feed(Memory()), LimitsConfig(), is_keyed=True, where=f"127.0.0.1:{port}")):
        pass


async def test_streams_of_a_run_with_a_key_end_when_the_node_stops() -> None:
    async with living("anna", run_key=KEY) as anna, asking() as browser:
        session = await entered(browser, anna.page.link())
        async with browser.get(f"{anna.url}/v1/live", headers=bearer(session)) as response:
            told = events(response)
            await anext(told)
            began = time.monotonic()
            stopping = asyncio.gather(anna.stop())
            async for _ in told:
                pass
            took_s = time.monotonic() - began
            await stopping
    assert took_s < 1.0


async def test_what_is_no_request_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with living("anna", run_key=KEY) as anna:
        assert anna.page.address is not None
        reader, writer = await asyncio.open_connection(*anna.page.address)
        with closing(writer):
            writer.write(b"\x16\x03\x01 no HTTP\r\n\r\n")
            await reader.read()
        await come_true(lambda: anna.node.vitals.tally.by_peer.get("127.0.0.1"))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
