"""`p2pfl page`, and what `p2pfl node` says of its page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import cli
from p2pfl.core import wire
from p2pfl.core.events import Started
from p2pfl.edge.announcement import Announcement, tagged
from p2pfl.edge.identity import JOURNAL
from p2pfl.edge.journal import SqliteJournal
from p2pfl.edge.mdns import Mdns
from p2pfl.edge.page.scraping import SCRAPE_FILE, made
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, NetworkError, P2pflError, StateError
from tests.edge.page_nodes import Living, asking, bearer, entered, living

KEY = RunKey.new()
PATIENCE_S = 60


async def said(*arguments: str) -> Result:
    """What `p2pfl page` does, in a thread: the nodes live on this event loop."""
    return await asyncio.to_thread(CliRunner().invoke, cli, ["page", *arguments])


async def refused(*arguments: str) -> P2pflError:
    """The error that it ends with."""
    done = await said(*arguments)
    assert isinstance(done.exception, P2pflError), (done.output, done.exception)
    assert done.stdout == ""
    return done.exception


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    return written(tmp_path / "run.key", KEY)


def written(file: Path, key: RunKey) -> str:
    """A file with a run's key in it."""
    file.write_text(f"{key.text}\n", encoding="utf-8")
    file.chmod(0o600)
    return str(file)


@asynccontextmanager
async def announced(node: Living, run: str) -> AsyncIterator[None]:
    """A node that mDNS sees on loopback."""
    digest = node.node.vitals.layout.digest
    ours = Announcement(node.id, node.node.vitals.config.name, run, digest, str(wire.VERSION))
    address = f"127.0.0.1:{node.transport.port}"

    async def announce() -> None:
        async with aclosing(Mdns(ours, lambda: address, interfaces=("lo",)).events()) as seen:
            async for _ in seen:
                pass

    async with asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(announce())
        yield
        announcing.cancel()


# --- an open run ---------------------------------------------------------------------------------


async def test_the_page_of_an_open_node_is_at_its_address() -> None:
    async with living("anna") as anna:
        for given in (anna.url, f"{anna.url}/v1/status", anna.url.removeprefix("http://")):
            done = await said(given)
            assert (done.exit_code, done.stdout) == (0, f"{anna.url}/\n")


async def test_the_page_is_found_by_the_nodes_state_directory(tmp_path: Path) -> None:
    async with living("anna") as anna:
        served(tmp_path, anna, "127.0.0.1:9", f"[::]:{anna.transport.port}")
        done = await said(str(tmp_path))
        assert done.stdout == f"{anna.url}/\n"


def served(state_dir: Path, node: Living, *addresses: str) -> None:
    """The journal says that this node has served there, the last one now."""
    journal = SqliteJournal(state_dir / JOURNAL)
    for address in addresses:
        journal.record(Started(1.0, node.id, "anna", "kitchen", "x", address, 1, 0, False))
    journal.close()


async def test_scripts_get_json() -> None:
    async with living("anna") as anna:
        done = await said(anna.url, "--json")
    assert json.loads(done.stdout) == [
        {
            "page": f"{anna.url}/",
            "address": anna.url.removeprefix("http://"),
            "node": anna.id,
            "name": "anna",
            "run": "kitchen",
            "port_changes": False,
        }
    ]


async def test_a_name_is_looked_for_with_mdns() -> None:
    async with living(name := f"anna-{os.getpid()}") as anna, announced(anna, "kitchen"):
        done = await said(name, "--interface", "lo")
        assert done.stdout == f"{anna.url}/\n", done.output
        done = await said("--interface", "lo")
        assert f"{anna.url}/   {name} ({anna.id[:8]}), run 'kitchen'\n" in done.stdout
        wrong = await refused("nobody", "--interface", "lo")
        assert isinstance(wrong, NetworkError)
        assert str(wrong).startswith("no node 'nobody' was seen, but ")
        assert name in str(wrong)


async def test_a_browser_is_opened_where_that_is_wanted(tmp_path: Path) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n', encoding="utf-8")
    browser.chmod(0o755)
    async with living("anna") as anna:
        command = [sys.executable, "-m", "p2pfl", "page", anna.url, "--open"]
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | {"BROWSER": f"{browser} %s"}, stdout=subprocess.DEVNULL
        )
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    assert opened.read_text(encoding="utf-8") == f"{anna.url}/"


# --- a run with a key ----------------------------------------------------------------------------


async def test_with_the_key_a_link_opens_the_page_once(key_file: str) -> None:
    async with living("anna", run_key=KEY) as anna, asking() as browser:
        address = f"127.0.0.1:{anna.transport.port}"
        for given in (address, f"https://{address}", f"https://{address}/v1/status"):
            link = (await said(given, "--key-file", key_file)).stdout.strip()
            assert link.startswith(f"{anna.url}/#once=")
        session = await entered(browser, link)
        async with browser.get(f"{anna.url}/v1/view", headers=bearer(session)) as response:
            assert (await response.json())["node"] == anna.id


async def test_without_the_key_the_error_says_how_to_give_it() -> None:
    async with living("anna", run_key=KEY) as anna:
        address = f"127.0.0.1:{anna.transport.port}"
        assert str(await refused(address)) == (
            f"{address} is in a run with a key; give its key: --key-file FILE, or in a strict "
            "run --cert FILE --state-dir DIR"
        )
        assert "--key-file" in str(await refused(f"https://{address}"))


async def test_another_key_opens_nothing(tmp_path: Path) -> None:
    other = written(tmp_path / "other.key", RunKey.new())
    async with living("anna", run_key=KEY) as anna:
        address = f"127.0.0.1:{anna.transport.port}"
        wrong = await refused(address, "--key-file", other)
        assert str(wrong) == (
            f"{address} does not answer us: its certificate is of another run's key"
        )


async def test_nodes_of_a_run_with_a_key_are_found_by_mdns(key_file: str) -> None:
    async with (
        living(name := f"anna-{os.getpid()}", run_key=KEY) as anna,
        announced(anna, tagged(KEY.tag)),
    ):
        done = await said(name, "--interface", "lo", "--key-file", key_file)
        assert done.stdout.startswith(f"{anna.url}/#once="), done.output
        wrong = await refused(name, "--interface", "lo")
        assert "give its key: --key-file FILE" in str(wrong)


# --- for Prometheus ------------------------------------------------------------------------------


def checked(config: str, folder: Path) -> str:
    """The configuration, of which Prometheus's own tool says that it is one."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: Debian has it in `prometheus`")
    file = folder / "prometheus.yml"
    file.write_text(config, encoding="utf-8")
    done = subprocess.run(
        [promtool, "check", "config", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return config


async def test_prometheus_learns_where_an_open_node_is(tmp_path: Path) -> None:
    async with living("anna") as anna, living("boris", where="off") as boris:
        for node in (anna, boris):
            address = f"127.0.0.1:{node.transport.port}"
            config = (await said(address, "--prometheus")).stdout
            assert config == (
                "scrape_configs:\n"
                '  - job_name: "p2pfl"\n'
                "    scrape_interval: 5s\n"
                "    static_configs:\n"
                "      # the port stays where it can; `p2pfl node --port PORT` makes it sure\n"
                f'      - targets: ["{address}"]\n'
            )
    checked(config, tmp_path)


@pytest.mark.parametrize("which", ["~nobody-of-this-name/x", "a" * 300 + "/x", "a\0/b"])
async def test_what_can_be_no_directory_is_one_clear_error(which: str) -> None:
    assert "is neither a directory nor an address" in str(await refused(which))


async def test_prometheus_learns_of_all_that_mdns_finds(tmp_path: Path) -> None:
    async with living(name := f"anna-{os.getpid()}") as anna, announced(anna, "kitchen"):
        config = (await said(name, "--prometheus", "--interface", "lo")).stdout
        assert f'- targets: ["127.0.0.1:{anna.transport.port}"]' in config
    checked(config, tmp_path)


async def test_prometheus_is_told_the_page_and_the_token_of_a_run_with_a_key(
    tmp_path: Path, key_file: str
) -> None:
    state = tmp_path / 'a "state" directory: ä'
    state.mkdir()
    async with living("anna", run_key=KEY, scrape_token=made(state)) as anna, asking() as scraper:
        served(state, anna, f"127.0.0.1:{anna.transport.port}")
        config = (await said(str(state), "--prometheus", "--key-file", key_file)).stdout
        assert config == (
            "scrape_configs:\n"
            '  - job_name: "p2pfl kitchen anna"\n'
            "    scrape_interval: 5s\n"
            "    authorization:\n"
            "      # for its owner alone: Prometheus must run as that user, or get a copy\n"
            f"      credentials_file: {json.dumps(str(state / SCRAPE_FILE), ensure_ascii=False)}\n"
            "    static_configs:\n"
            "      # the port is another at each start; `p2pfl node --page HOST:PORT` keeps it\n"
            f'      - targets: ["{anna.url.removeprefix("http://")}"]\n'
        )
        token = (state / SCRAPE_FILE).read_text(encoding="ascii").strip()
        async with scraper.get(f"{anna.url}/metrics", headers=bearer(token)) as response:
            assert response.status == 200
    checked(config, tmp_path)


async def test_a_page_with_a_port_of_its_own_needs_no_warning(
    tmp_path: Path, key_file: str
) -> None:
    async with living("anna", run_key=KEY) as anna:
        port = int(anna.url.rpartition(":")[2])
    where = f"127.0.0.1:{port}"
    async with living("anna", run_key=KEY, where=where, scrape_token=made(tmp_path)) as anna:
        served(tmp_path, anna, f"127.0.0.1:{anna.transport.port}")
        config = (await said(str(tmp_path), "--prometheus", "--key-file", key_file)).stdout
    assert "another at each start" not in config
    assert f'["{where}"]' in config


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing")
async def test_prometheus_itself_reads_a_node_of_a_run_with_a_key(
    tmp_path: Path, key_file: str
) -> None:
    async with (
        living("anna", run_key=KEY, scrape_token=made(tmp_path)) as anna,
        asking() as browser,
    ):
        served(tmp_path, anna, f"127.0.0.1:{anna.transport.port}")
        config = (await said(str(tmp_path), "--prometheus", "--key-file", key_file)).stdout
        (tmp_path / "prometheus.yml").write_text(config.replace("5s", "1s"), encoding="utf-8")
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        prometheus = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stderr=subprocess.DEVNULL,
        )
        found: list[dict[str, Any]] = []
        try:
            while not found:
                await asyncio.sleep(0.2)
                with suppress(aiohttp.ClientError):
                    where = (
                        f"http://127.0.0.1:{port}/api/v1/query?query=p2pfl_training_cycles_total"
                    )
                    async with browser.get(where) as response:
                        answer = await response.json(content_type=None)
                    found = answer.get("data", {}).get("result", [])
        finally:
            prometheus.terminate()
            await prometheus.wait()
    assert found[0]["metric"]["job"] == "p2pfl kitchen anna"


async def test_without_a_state_directory_there_is_no_token_to_give(
    tmp_path: Path, key_file: str
) -> None:
    async with living("anna", run_key=KEY) as anna:
        address = f"127.0.0.1:{anna.transport.port}"
        key = ("--prometheus", "--key-file", key_file)
        for given in ((address,), ("anna",), ()):
            wrong = await refused(*given, *key)
            assert isinstance(wrong, ConfigError)
            assert "give that directory, which `p2pfl node` prints" in str(wrong)
        served(tmp_path, anna, address)
        wrong = await refused(str(tmp_path), *key)
        assert isinstance(wrong, StateError)
        assert "scrape-token is missing" in str(wrong)
        assert "give its key: --key-file FILE" in str(await refused(str(tmp_path), "--prometheus"))


@pytest.mark.parametrize("other", ["--open", "--json"])
async def test_for_prometheus_and_for_others_exclude_each_other(other: str) -> None:
    assert "give one of them" in str(await refused("127.0.0.1:9", "--prometheus", other))


# --- what is wrong -------------------------------------------------------------------------------


async def test_a_node_without_a_page_says_so(key_file: str) -> None:
    async with (
        living("anna", where="off") as anna,
        living("boris", run_key=KEY, where="off") as boris,
    ):
        address = f"127.0.0.1:{anna.transport.port}"
        assert str(await refused(address)) == (
            f"{address} has no page: start that node without --no-page"
        )
        wrong = await refused(f"127.0.0.1:{boris.transport.port}", "--key-file", key_file)
        assert "was started without a page (--no-page)" in str(wrong)


async def test_where_nothing_runs_the_error_names_the_fix(tmp_path: Path) -> None:
    async with living("anna") as anna:
        address = f"127.0.0.1:{anna.transport.port}"
    wrong = await refused(address)
    assert isinstance(wrong, NetworkError)
    assert str(wrong) == (
        f"{address} does not answer: nothing runs there; start the node with `p2pfl node`, or give "
        "the address that it prints"
    )
    assert isinstance(await refused(str(tmp_path)), StateError)
    assert "`p2pfl node` prints its own" in str(await refused(str(tmp_path)))
    assert isinstance(await refused("/nowhere/at/all"), ConfigError)


async def test_who_is_no_node_is_told_apart() -> None:
    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert str(await refused(address)) == f"{address} answers, but is no p2pfl node"


# --- what a node says of it ----------------------------------------------------------------------


def started(tmp_path: Path, *options: str) -> str:
    """What `p2pfl node` prints until its first cycle is over."""
    command = [sys.executable, "-W", "error", "-m", "p2pfl", "node", "digits-numpy", "--no-mdns"]
    command += ["--bind", "127.0.0.1", "--cycles", "1", "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_node_says_where_its_page_is(tmp_path: Path) -> None:
    assert re.search(r"^page:   http://127\.0\.0\.1:\d+/$", started(tmp_path), re.M)


def test_a_node_of_a_run_with_a_key_prints_a_link(tmp_path: Path, key_file: str) -> None:
    found = started(tmp_path, "--key-file", key_file)
    assert re.search(
        r"^page:   http://127\.0\.0\.1:\d+/#once=[\w-]{43}   \(opens once, within 10 minutes\)$",
        found,
        re.M,
    )


def test_a_node_of_a_run_with_a_key_and_a_page_keeps_a_token_for_prometheus(
    tmp_path: Path, key_file: str
) -> None:
    token = tmp_path / "state" / SCRAPE_FILE
    started(tmp_path, "--key-file", key_file, "--no-page")
    assert not token.exists()
    started(tmp_path, "--key-file", key_file)
    first = token.read_text(encoding="ascii")
    assert token.stat().st_mode & 0o777 == 0o600
    started(tmp_path, "--key-file", key_file)
    assert token.read_text(encoding="ascii") == first


def test_a_node_of_an_open_run_has_no_token(tmp_path: Path) -> None:
    started(tmp_path)
    assert not (tmp_path / "state" / SCRAPE_FILE).exists()


def test_a_node_that_is_to_be_quiet_prints_no_link(tmp_path: Path, key_file: str) -> None:
    assert started(tmp_path, "--key-file", key_file, "--quiet") == ""


@pytest.mark.parametrize("option", [("--no-page",), ("--page", "off"), ("--set", "page=off")])
def test_a_node_without_a_page_says_nothing_of_it(tmp_path: Path, option: tuple[str, ...]) -> None:
    found = started(tmp_path, *option)
    assert "status:" in found
    assert "page:" not in found


def test_a_node_writes_scalars_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is missing")
    pytest.importorskip("tensorboard", reason="tensorboard is missing")
    started(tmp_path, "--tensorboard", str(tmp_path / "tb"), "--name", "anna")
    (folder,) = (tmp_path / "tb").iterdir()
    assert folder.name.startswith("anna-")
    assert list(folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--page", "8080"], "page is '8080', expected HOST:PORT as in 127.0.0.1:8080"),
        (["--page", "127.0.0.1:0"], "but only a run with a key has its page elsewhere"),
    ],
)
def test_a_page_that_cannot_be_is_found_before_anything_is_written(
    tmp_path: Path, options: list[str], complaint: str
) -> None:
    state = tmp_path / "state"
    arguments = ["node", "digits-numpy", "--no-mdns", "--state-dir", str(state), *options]
    done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, ConfigError)
    assert complaint in str(done.exception)
    assert not state.exists()


def test_help_teaches_with_an_example() -> None:
    done = CliRunner().invoke(cli, ["page", "--help"])
    assert done.exit_code == 0
    assert "  p2pfl page laptop --open" in done.output
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert re.search(r"^  page +Show where", listed, re.M)
