"""Plays a document: does what a reader would do, in order, on devices that are not there.

The reader has three laptops on one network: hosts of a `Lan` (network namespaces), which nothing
can leave. A command runs on the first one unless its comment says "second" or "third". Each has a
home of its own; the folder they work in is common, as if files had been carried over. A laptop has
one terminal: starting a node ends the one that ran there (Ctrl-C), unless the comment says "another
terminal"; so does reading what a node has left, which would otherwise have to wait for its first
checkpoint. Commands that need no network run in this process.

What a document says that a command prints is compared: every line must be there, with any numbers.
A line "..." stands for any lines, one that ends in "..." for any line that begins so, "^C" for
Ctrl-C. What looks at a swarm is asked again until it sees it so, because that takes a moment.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from p2pfl.cli import cli
from p2pfl.cli.topology import found
from p2pfl.errors import P2pflError
from p2pfl.scenario.load import load
from p2pfl.scenario.sweep import planned
from tests.docs.plan import BEFORE, CODES, ELSEWHERE, PARSED, SHORT, matching
from tests.docs.reading import ROOT, Cell, Command, Spelt, Step
from tests.integration.netns import Lan

PATIENCE_S = 90.0
"""How long anything may take on a busy machine."""
STOP_S = 10.0
LAPTOPS = {"first": 0, "second": 1, "third": 2}
ADDRESSES = ("192.168.1.5", "192.168.1.6", "192.168.1.7")
"""Of the laptops, in the documentation as well."""

STANDARD, STANDARD_PORT = f"{ADDRESSES[0]}:4000", "--port 4000"
"""Where documents have a node that was not told a port."""

LOOKING = ("peers", "status", "doctor", "page")
RUNNING = ("node", "watch")
"""Commands that need a network: those that end by themselves, and those that run until Ctrl-C."""
READING = ("export", "record")
"""Commands that read what nodes have left."""

_UNSEEMLY = re.compile(r"Traceback|Exception ignored|Warning: ")
_TRIED_AGAIN_S = 0.3
_CTRL_C = "^C"
_LATER = "cycle "
"""What a node prints only after some seconds of training is not waited for."""


# --- what is printed ------------------------------------------------------------------------------


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers, ids, widths of columns."""
    line = re.sub(r"\b([0-9a-f]{4} ){7}[0-9a-f]{4}\b", "#", line)
    line = re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{4,}\b", "#", line)
    line = re.sub(r"((?<!\S)[<≤≥±+~-])?\d[\d,.:]*(e[+-]?\d+)?", "#", line)
    line = re.sub(r"# ?([kMG]?B|[num]?s)\b", "#", line)
    return " ".join(re.sub(r"[─━┃│┏┓┗┛╭╮╰╯┡┩]+", " ", line).split())


def absent(shown: Iterable[str], printed: str) -> list[str]:
    """Lines that should have been printed and were not."""
    there = [plain(line) for line in printed.splitlines()]
    wanted = [line for line in shown if line.strip() not in ("", "...", _CTRL_C)]
    return [line for line in wanted if not any(_is(plain(line), one) for one in there)]


def _is(wanted: str, line: str) -> bool:
    if wanted.endswith("..."):
        return line.startswith(wanted.removesuffix("...").rstrip())
    return wanted == line


# --- what the command line takes ------------------------------------------------------------------


def parsed(words: Sequence[str]) -> click.Context:
    """What these words mean to the command line; nothing is run.

    Raises:
        click.ClickException: they mean nothing.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="p2pfl")
    rest = list(words)
    while isinstance(command, click.Group):
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        command = inner
        if not isinstance(command, click.Group):
            return command.make_context(name, rest, parent=context)
        context = click.Context(command, parent=context, info_name=name)
    raise AssertionError(words)


def checked(words: Sequence[str]) -> None:
    """Parse a command, and read the scenario or topology that it names."""
    with parsed(words) as context:
        given = context.params
    if words[0] == "run" and not given["scenario"].startswith("recordings/"):
        load(given["scenario"], given["changes"], given["seed"])
    elif words[0] == "sweep":
        planned(given["scenario"], given["over"], given["changes"], given["seeds"])
    elif tuple(words[:2]) == ("topology", "show"):
        found(given["rule_or_file"])


# --- doing it -------------------------------------------------------------------------------------


def kind_of(text: str) -> str | None:
    """Whether a command needs a network, and then whether it runs on ("running") or "looking"."""
    if matching(text, ELSEWHERE) or matching(text, PARSED) or text.startswith(("make ", "python ")):
        return None
    if not text.startswith("p2pfl "):
        return "looking"
    words = text.split()[1:]
    if words[0] in LOOKING or ({"--once", "--json"} & set(words) and words[0] == "watch"):
        return "looking"
    return "running" if words[0] in RUNNING else None


@dataclass
class Node:
    """Something that runs until Ctrl-C."""

    command: Command
    host: int
    process: subprocess.Popen[bytes]
    out: Path
    errors: Path

    @property
    def said(self) -> str:
        return self.out.read_text(encoding="utf-8")

    @property
    def port(self) -> int:
        """Where it serves, as it says."""
        found = re.search(r"^status: .*://localhost:(\d+)", self.said, re.M)
        assert found is not None, f"{self.command}:\n{self.said}"
        return int(found[1])

    def interrupt(self) -> None:
        """Press Ctrl-C, and see it end in order."""
        self.process.send_signal(signal.SIGINT)
        self.ended()

    def ended(self) -> None:
        """It must end in order."""
        code = self.process.wait(STOP_S)
        complaint = self.errors.read_text(encoding="utf-8")
        assert code == 0, f"{self.command}: exit code {code}\n{self.said}\n{complaint}"
        assert not _UNSEEMLY.search(complaint), f"{self.command}:\n{complaint}"


class Session:
    """A reader with a document; as a context manager, which ends all that was begun.

    Attributes:
        cells: names that cells of Python have made.
        printed: what the last command printed.
    """

    def __init__(self, document: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cells: dict[str, Any] = {"__name__": "__main__"}
        self.printed = ""
        self._document, self._folder = document, folder
        self._here = folder / "clone"
        self._nodes: list[Node] = []
        self._lan: Lan | None = None
        self._closing = ExitStack()
        self._here.mkdir()
        for name in ("scenarios", "topologies", "Makefile"):
            (self._here / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "examples", self._here / "examples")
        self._programs()
        for host in LAPTOPS.values():
            self._home(host).mkdir()
        monkeypatch.setenv("HOME", str(self._home(0)))
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        monkeypatch.chdir(self._here)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def play(self, step: Step) -> None:
        """Do one thing that the document shows."""
        if isinstance(step, Spelt):
            with Path(step.name).open("a" if step.is_continued else "w", encoding="utf-8") as file:
                file.write(step.text)
        elif isinstance(step, Cell):
            self._cell(step)
        else:
            for text in step.text.split(" && "):
                self._do(step, text)

    def end(self) -> None:
        """Press Ctrl-C wherever something runs."""
        for node in self._nodes:
            self._await(node)
        for node in self._nodes:
            node.process.send_signal(signal.SIGINT)
        while self._nodes:
            self._nodes.pop().ended()

    # --- kinds of steps --------------------------------------------------------------------------

    def _cell(self, cell: Cell) -> None:
        if "__builtins__" not in self.cells:
            exec(BEFORE.get(self._document, ""), self.cells)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(cell.code, f"{self._document}:{cell.line}", "exec"), self.cells)
        if cell.shown is not None:
            lost = absent(cell.shown, out.getvalue())
            where = f"{self._document}:{cell.line}"
            assert not lost, f"{where}: it does not print {lost}, but:\n{out.getvalue()}"

    def _do(self, command: Command, text: str) -> None:
        if matching(text, ELSEWHERE):
            return
        text = self._own(text)
        if text.startswith("make "):
            made = subprocess.run(
                ["make", "-n", "-C", ROOT, *shlex.split(text)[1:]], capture_output=True, text=True
            )
            assert made.returncode == 0, f"{command}: {made.stderr}"
        elif matching(text, PARSED):
            checked(shlex.split(text)[1:])
        elif (kind := kind_of(text)) is None:
            self._here_and_now(command, text)
        elif kind == "running":
            self._start(command, text)
        else:
            self._ask(command, text)

    def _own(self, text: str) -> str:
        """The command with what is the reader's own in place of its stand-ins."""
        text = text.replace("my-laptop", socket.gethostname()[:64])
        first = [node for node in self._nodes if node.host == 0]
        if STANDARD in text and first and STANDARD_PORT not in first[0].command.text:
            self._await(first[0])
            text = text.replace(STANDARD, f"{ADDRESSES[0]}:{first[0].port}")
        request = re.search(r"request\s+(\S+)", self.printed)
        return text.replace("p2pfl-join-...", request[1] if request else "p2pfl-join-...")

    # --- in this process -------------------------------------------------------------------------

    def _here_and_now(self, command: Command, text: str) -> None:
        short = matching(text, SHORT)
        if text.split()[1] in READING:
            self._stop(self._host(command))
        words = [str(Path(word).expanduser()) for word in shlex.split(text)]
        if words[0] == "python":
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
            code, self.printed = done.returncode, done.stdout + done.stderr
        else:
            code, self.printed = _called([*words[1:], *(SHORT[short] if short else ())])
        self.printed = self._without_places(self.printed)
        if short:
            assert code in (0, 1), f"{command}: exit code {code}\n{self.printed}"
            return
        expected = CODES[wanted] if (wanted := matching(text, CODES)) else 0
        assert code == expected, f"{command}: exit code {code}\n{self.printed}"
        if command.shown is not None:
            lost = absent(command.shown, self.printed)
            assert not lost, f"{command}: it does not print {lost}, but:\n{self.printed}"

    # --- on the laptops --------------------------------------------------------------------------

    def _ask(self, command: Command, text: str) -> None:
        """Run what ends by itself, again until it sees what is shown."""
        expected = CODES[wanted] if (wanted := matching(text, CODES)) else 0
        host, until = self._host(command), time.monotonic() + PATIENCE_S
        while True:
            done = self._popen(host, text, subprocess.PIPE, subprocess.STDOUT)
            out, _ = done.communicate(timeout=PATIENCE_S)
            self.printed = self._without_places(out.decode())
            assert not _UNSEEMLY.search(self.printed), f"{command}:\n{self.printed}"
            lost = absent(command.shown or (), self.printed)
            if done.returncode == expected and not lost:
                return
            if time.monotonic() > until:
                raise AssertionError(
                    f"{command}: exit code {done.returncode}, it does not print {lost}, but:\n"
                    f"{self.printed}"
                )
            time.sleep(_TRIED_AGAIN_S)  # noqa: TID251 (real processes in real time)

    def _start(self, command: Command, text: str) -> None:
        """Start what runs until Ctrl-C, and wait for what it says first."""
        host = self._host(command)
        if text.startswith("p2pfl node") and "another terminal" not in command.comment:
            self._stop(host)
        count = len(list(self._folder.glob("*.out")))
        out, errors = (self._folder / f"{count}.{kind}" for kind in ("out", "errors"))
        with out.open("wb") as said, errors.open("wb") as complaint:
            process = self._popen(host, f"exec {text}", said, complaint)
        node = Node(command, host, process, out, errors)
        self._nodes.append(node)
        if command.shown is not None or not text.startswith("p2pfl node"):
            self._await(node)
        if _CTRL_C in (command.shown or ()) or not text.startswith("p2pfl node"):
            self._nodes.remove(node)
            node.interrupt()
            lost = absent(command.shown or (), self._without_places(node.said))
            assert not lost, f"{command}: it does not print {lost}, but:\n{node.said}"

    def _await(self, node: Node) -> None:
        """Wait until it says what is shown, of what comes at once."""
        shown, until = list(node.command.shown or ()), time.monotonic() + PATIENCE_S
        if _CTRL_C in shown:
            shown = shown[: shown.index(_CTRL_C)]
        shown = [line for line in shown if not line.startswith(_LATER)]
        if node.command.text.startswith("p2pfl node"):
            shown.append("status: ...")
        while (lost := absent(shown, self._without_places(node.said))) or not node.said:
            complaint = node.errors.read_text(encoding="utf-8")
            assert node.process.poll() is None, f"{node.command} ended:\n{node.said}{complaint}"
            if time.monotonic() > until:
                raise AssertionError(
                    f"{node.command}: it does not print {lost}, but:\n{node.said}{complaint}"
                )
            time.sleep(_TRIED_AGAIN_S)  # noqa: TID251 (real processes in real time)

    def _stop(self, host: int) -> None:
        """Press Ctrl-C in every terminal of a laptop."""
        for node in [node for node in self._nodes if node.host == host]:
            self._await(node)
            self._nodes.remove(node)
            node.interrupt()

    def _popen(self, host: int, text: str, out: Any, errors: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HOME": str(self._home(host)), "PYTHONUNBUFFERED": "1"}
        return self._network().popen(
            host, ["sh", "-c", text], stdout=out, stderr=errors, env=environment, cwd=self._here
        )

    def _network(self) -> Lan:
        if self._lan is None:
            self._lan = self._closing.enter_context(Lan(len(LAPTOPS)))
            for host, address in enumerate(ADDRESSES):
                self._lan.readdress(host, address)
        return self._lan

    @staticmethod
    def _host(command: Command) -> int:
        named = (host for name, host in LAPTOPS.items() if name in command.comment)
        return next(named, 0)

    def _home(self, host: int) -> Path:
        return self._folder / f"home{host}"

    def _programs(self) -> None:
        """`p2pfl` and `python` as this process has them, for shells."""
        (self._folder / "bin").mkdir()
        for name, words in (("p2pfl", "-m p2pfl "), ("python", "")):
            program = self._folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
            program.chmod(0o755)

    def _without_places(self, text: str) -> str:
        for host in LAPTOPS.values():
            text = text.replace(str(self._home(host)), "~")
        return text.replace(f"{self._here}/", "")


def _called(words: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process, as `p2pfl` would."""
    result = CliRunner().invoke(cli, list(words))
    if isinstance(result.exception, P2pflError):
        return 2, f"{result.output}p2pfl: {result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
