from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pfl.cli import cli
from p2pfl.edge.announcement import Announcement
from p2pfl.edge.credentials import Credentials
from p2pfl.edge.mdns import Mdns
from p2pfl.edge.nodekey import NodeKey
from p2pfl.edge.runkey import RunKey
from p2pfl.errors import ConfigError, NetworkError
from tests.cli.watch_server import Moving, Server, heard_of, id_of, view

PATIENCE_S = 60.0
COMMAND = [sys.executable, "-m", "p2pfl", "watch"]


def server(place: int = 0, count: int = 3, **changes: object) -> Server:
    return Server(lambda: view(place, count, time.time(), **changes))


async def said(*arguments: str) -> Result:
    """What the command prints, while the servers of the test go on."""
    return await asyncio.to_thread(CliRunner().invoke, cli, ["watch", *arguments])


# --- once ----------------------------------------------------------------------------------------


def test_the_help_teaches_with_an_example() -> None:
    text = CliRunner().invoke(cli, ["watch", "--help"]).output
    assert "  p2pfl watch 192.168.1.5:4000" in text
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert re.search(r"^  watch +Show the swarm live in the terminal\.$", listed, re.M)


async def test_once_prints_a_table_of_what_the_nodes_tell() -> None:
    async with server(0).running() as anna, server(1).running() as boris:
        result = await said("--once", anna.address, f"http://{boris.address}")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "run 'kitchen'  3 nodes: 3 training"
    assert [line.split()[0] for line in lines[4:7]] == ["anna*", "boris*", "chloe"]
    assert "\x1b" not in result.output


async def test_json_prints_the_merged_view() -> None:
    async with server(0).running() as anna, server(1).running() as boris:
        result = await said("--json", anna.address, boris.address)
    found = json.loads(result.output)
    assert [one["state"] for one in found["watched"]] == ["live", "live"]
    assert [one["is_watched"] for one in found["nodes"]] == [True, True, False]
    assert found["staleness"]["edges"][-1] is None


async def test_a_node_that_is_silent_is_named_and_the_others_are_shown() -> None:
    async with server().running() as anna:
        result = await said("--once", anna.address, "127.0.0.1:1")
    assert result.exit_code == 0
    assert "silent    127.0.0.1:1: nothing runs there" in result.output


async def test_without_any_node_that_tells_it_is_an_error() -> None:
    result = await said("--once", "127.0.0.1:1", "localhost:1")
    assert isinstance(result.exception, NetworkError)
    assert str(result.exception).startswith("127.0.0.1:1 shows nothing: nothing runs there; ")


async def test_nodes_of_another_run_are_not_shown() -> None:
    async with server().running() as anna:
        result = await said("--once", "--run", "garden", anna.address)
    assert isinstance(result.exception, NetworkError)
    assert str(result.exception).endswith("shows nothing: it is in run 'kitchen'")


@pytest.mark.parametrize("address", ["localhost", "http://10.0.0.1", "::1:4000", "a:0", ""])
async def test_what_is_no_address_says_what_one_is(address: str) -> None:
    result = await said("--once", address)
    assert isinstance(result.exception, ConfigError)
    assert "expected HOST:PORT as `p2pfl node` prints" in str(result.exception)


async def test_https_without_a_key_asks_for_it() -> None:
    result = await said("--once", "https://127.0.0.1:1")
    assert isinstance(result.exception, ConfigError)
    assert "--key-file" in str(result.exception)


async def test_a_run_with_a_key_is_shown_to_who_has_it(tmp_path: Path) -> None:
    key, file = RunKey.new(), tmp_path / "run.key"
    file.write_text(key.text, encoding="utf-8")
    file.chmod(0o600)
    node = server()
    node.credentials = Credentials.member(NodeKey.new(), key, time.time())
    async with node.running():
        result = await said("--once", "--key-file", str(file), node.address)
        assert result.output.startswith("run 'kitchen'  3 nodes")
        result = await said("--once", node.address)
        assert isinstance(result.exception, NetworkError)


# --- what mDNS finds ------------------------------------------------------------------------------


@asynccontextmanager
async def announced(place: int, run: str, address: str) -> AsyncIterator[None]:
    """Somebody on loopback says that a node of this run is at this address."""
    announcement = Announcement(id_of(place), "made", run, "9a8b7c6d5e4f3a2b", "3")
    events = Mdns(announcement, lambda: address, interfaces=["lo"]).events()

    async def listen() -> None:
        async for _ in events:
            pass

    async with asyncio.TaskGroup() as group:
        task = group.create_task(listen())
        try:
            yield
        finally:
            task.cancel()


async def test_without_an_address_the_nodes_of_the_run_are_found() -> None:
    run, other = f"watched-{os.getpid()}", f"other-{os.getpid()}"
    async with server(run=run).running() as node, announced(0, run, node.address):
        async with announced(1, other, "127.0.0.1:1"):
            result = await said("--once", "--interface", "lo", "--run", run)
            assert result.exit_code == 0, result.exception
            assert result.output.startswith(f"run '{run}'  3 nodes")
            result = await said("--once", "--interface", "lo")
            assert isinstance(result.exception, NetworkError)
            assert f"'{other}'" in str(result.exception)
            assert f"'{run}'" in str(result.exception)
            assert str(result.exception).endswith("choose one with --run")
        result = await said("--once", "--interface", "lo", "--run", f"no-{run}")
        assert isinstance(result.exception, NetworkError)
        assert "no node of this run was seen" in str(result.exception)


# --- lines ----------------------------------------------------------------------------------------


async def lined(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*COMMAND, "--every", "0.2", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_into_a_pipe_it_is_a_line_now_and_then_until_interrupted() -> None:
    node = server()
    async with asyncio.timeout(PATIENCE_S), node.running():
        process = await lined(node.address)
        assert process.stdout is not None
        lines: list[str] = []
        while sum("3 nodes: 3 training" in line for line in lines) < 3:
            lines.append((await process.stdout.readline()).decode())
        death = {"at": time.time(), "kind": "dead", "node": id_of(2), "detail": "no answer for 5 s"}
        await node.say("timeline", death)
        while "chloe is dead: no answer for 5 s" not in lines[-1]:
            lines.append((await process.stdout.readline()).decode())
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert all(re.match(r"\d\d:\d\d:\d\d  ", line) for line in lines)
    assert all(line[:-1].isprintable() for line in lines)


async def test_a_flood_of_invented_members_is_one_figure_in_a_line() -> None:
    entries = view(0)["nodes"] + heard_of(20)
    node = server(nodes=entries, unlisted=312)
    async with asyncio.timeout(PATIENCE_S), node.running():
        process = await lined(node.address)
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert "3 nodes: 3 training, and 332 only heard of  " in lines[-1]
    assert not [line for line in lines if "a-0" in line]


async def test_whoever_reads_may_stop_reading() -> None:
    async with asyncio.timeout(PATIENCE_S), server().running() as node:
        process = await asyncio.create_subprocess_shell(
            f"{' '.join(COMMAND)} --every 0.2 {node.address} </dev/null | head -n 1",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert output.count(b"\n") == 1
    assert errors == b""


async def test_lines_tell_that_a_node_is_gone() -> None:
    async with asyncio.timeout(PATIENCE_S):
        process = await lined("127.0.0.1:1")
        assert process.stdout is not None
        while b"is gone for 0 s: nothing runs there; trying again" not in (
            line := await process.stdout.readline()
        ):
            assert line
        process.send_signal(signal.SIGINT)
        await process.communicate()


# --- on a terminal --------------------------------------------------------------------------------


async def test_without_textual_the_error_says_what_to_install() -> None:
    script = (
        "import sys\nsys.modules['textual'] = None\nfrom p2pfl.cli import main\n"
        "main(['watch', '127.0.0.1:1'])"
    )
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script),
            stdin=theirs,
            stdout=theirs,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 2
    assert errors.decode().strip() == (
        "p2pfl: the screen needs textual, which is not installed; "
        "pip install 'p2pfl-node[watch]', or give --once"
    )


class Tmux:
    """A terminal of its own, with a shell in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    async def __call__(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *("tmux", "-S", self._socket, "-f", "/dev/null", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8"} | {"TMUX": ""},
        )
        output, _ = await process.communicate()
        return output.decode()

    async def start(self, columns: int, lines: int) -> None:
        size = ("-x", str(columns), "-y", str(lines))
        await self("new-session", "-d", *size, "env", "-i", *_ENVIRONMENT, "sh")

    async def type(self, *keys: str) -> None:
        await self("send-keys", *keys)

    async def seen(self) -> str:
        return await self("capture-pane", "-p")

    async def until(self, claim: Callable[[str], object]) -> str:
        """Wait for what is seen to be so; says what was seen instead."""
        seen = ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not claim(seen := await self.seen()):  # noqa: ASYNC110 (tmux calls nobody)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"instead there is:\n{seen}") from None
        return seen

    async def asked(self, what: str) -> str:
        return (await self("display-message", "-p", what)).strip()


_ENVIRONMENT = [
    *("TERM=tmux-256color", "PS1=$ ", "LC_ALL=C.UTF-8", f"HOME={Path.home()}"),
    f"PATH={os.environ.get('PATH', os.defpath)}",
]


@asynccontextmanager
async def terminal(folder: Path, columns: int, lines: int) -> AsyncIterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    tmux = Tmux(folder)
    await tmux.start(columns, lines)
    try:
        yield tmux
    finally:
        await tmux("kill-server")
        with suppress(FileNotFoundError):
            (folder / "tmux").unlink()


async def is_clean(tmux: Tmux) -> bool:
    """The terminal is as a shell expects it."""
    flags = "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_cursor_flag}"
    return await tmux.asked(flags) == "0 1 0 0"


@pytest.mark.slow
async def test_on_a_terminal_it_is_a_screen_with_keys_that_leaves_no_trace(tmp_path: Path) -> None:
    swarm = Moving(12)
    node = Server(lambda: swarm.view(0), every_s=0.5)
    async with node.running(), terminal(tmp_path, 80, 24) as tmux:
        await tmux.until(lambda seen: "$" in seen)
        watch = f"{' '.join(COMMAND)} {node.address}; echo exit code $?"
        await tmux.type("echo here before", "Enter", watch, "Enter")
        seen = await tmux.until(lambda seen: "anna*" in seen and "swarm's mean" in seen)
        assert "run 'kitchen'  ● live" in seen
        assert "training rests until 07:00" in seen
        assert "✕ dead" in seen
        assert "here before" not in seen

        await tmux.type("s", "s", "r")
        await tmux.until(lambda seen: "acc▼" in seen)
        await tmux("resize-window", "-x", "160", "-y", "50")
        await tmux.until(
            lambda seen: (
                any("nodes ━" in one and "swarm, as" in one for one in seen.splitlines())
                and "latest exchanges, and why" in seen
            )
        )
        await tmux.type("/", "emil")
        await tmux.until(lambda seen: "nodes: 1 of 12" in seen)
        await tmux.type("Escape")
        await tmux.until(lambda seen: "nodes: 1 of 12" not in seen)
        await tmux.type("?")
        await tmux.until(lambda seen: "how old these figures are" in seen)
        await tmux("resize-window", "-x", "60", "-y", "20")
        await tmux.type("q")
        await tmux.until(lambda seen: "how old these" not in seen and "jan" in seen)

        await tmux.type("q")
        seen = await tmux.until(lambda seen: re.search(r"exit code \d", seen, re.M))
        assert "here before" in seen
        assert "exit code 0" in seen
        assert "kitchen" not in seen
        assert await is_clean(tmux)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["C-c", "TERM", "HUP"])
async def test_however_it_ends_the_terminal_is_clean(tmp_path: Path, way: str) -> None:
    async with terminal(tmp_path, 80, 24) as tmux:
        await tmux.until(lambda seen: "$" in seen)
        watch = f"{' '.join(COMMAND)} 127.0.0.1:1 & echo $! >{tmp_path}/pid; fg; echo exit code $?"
        await tmux.type("set -m; clear", "Enter", watch, "Enter")
        await tmux.until(lambda seen: "○ not live" in seen and "nothing runs there" in seen)
        if way == "C-c":
            await tmux.type("C-c")
        else:
            pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
            os.kill(pid, getattr(signal, f"SIG{way}"))
        seen = await tmux.until(lambda seen: re.search(r"^exit code \d", seen, re.M))
        assert "exit code 0" in seen
        assert "Traceback" not in seen
        assert await is_clean(tmux)
