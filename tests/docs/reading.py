"""What the documentation spells out: files, cells of Python, and commands, in their order.

    ```console         "$ command", and below it what it prints; that is compared
    ```sh              commands, one a line; a comment may say on which device
    ```toml, python    a file, if its first line is "# name.toml" (", continued" appends to it);
                       Python without a name is a cell: it is run
    ```text            output, formulas: never run; with title="Output" what the cell above prints
        p2pfl ...      indented, as in the README: commands

Rule of the file: it only reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]
DOCUMENTS = tuple(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
)
PROGRAMS = ("p2pfl", "make", "python", "pip", "git", "sudo", "curl", "tensorboard", "prometheus")
"""What a command begins with, where nothing else says that it is one."""

LANGUAGES = {"console", "sh", "toml", "python", "text", "json", "yaml"}
OUTPUT = 'title="Output"'

_NAMED = re.compile(r"# ([\w-]+\.\w+)(, continued)?\n")
_PROMPT = "$ "


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: of the fence, empty if there is none; "indented" without a fence.
        about: what follows the language.
        line: of its first line of content, from 1.
    """

    language: str
    about: str
    content: str
    line: int


@dataclass(frozen=True)
class Spelt:
    """A file that a document spells out, or a further part of it."""

    name: str
    text: str
    is_continued: bool


@dataclass(frozen=True)
class Cell:
    """A piece of Python, and what is said that it prints (None: nothing is said)."""

    code: str
    shown: tuple[str, ...] | None
    line: int


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        text: without its comment.
        comment: without its #.
        shown: what is said that it prints; None: nothing is said.
    """

    document: str
    text: str
    comment: str
    shown: tuple[str, ...] | None
    line: int

    def __str__(self) -> str:
        return f"{self.document}:{self.line} {self.text}"


Step: TypeAlias = Spelt | Cell | Command


def blocks(text: str) -> Iterator[Block]:
    """All blocks of code, in order."""
    lines = text.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        fence = re.match(r"```(\w*) *(.*)$", lines[at])
        begin = at + 1 if fence else at
        at = begin
        if fence:
            while at < len(lines) and not lines[at].startswith("```"):
                at += 1
            yield Block(fence[1], fence[2], "".join(lines[begin:at]), begin + 1)
        else:
            while at < len(lines) and lines[at].startswith("    "):
                at += 1
            if at > begin:
                yield Block("indented", "", "".join(lines[begin:at]), begin + 1)
                continue
        at += 1


def steps(document: str) -> list[Step]:
    """Everything that a reader of a document would write or type, in order."""
    found: list[Step] = []
    for block in blocks((ROOT / document).read_text(encoding="utf-8")):
        named = _NAMED.match(block.content)
        if block.language == "text":
            if block.about == OUTPUT and found and isinstance(found[-1], Cell):
                shown = tuple(block.content.splitlines())
                found[-1] = Cell(found[-1].code, shown, found[-1].line)
        elif block.language in ("toml", "python", "yaml", "json") and named:
            found.append(Spelt(named[1], block.content, bool(named[2])))
        elif block.language == "python":
            found.append(Cell(block.content, None, block.line))
        elif block.language == "console":
            found += _session(document, block)
        elif block.language == "sh":
            found += _listed(document, block, anything=True)
        elif block.language in ("indented", ""):
            found += _listed(document, block, anything=False)
    return found


def _session(document: str, block: Block) -> Iterator[Command]:
    """Commands behind a prompt, and what they print."""
    text, shown, began = None, list[str](), 0
    for number, line in enumerate(block.content.splitlines(), block.line):
        if not line.startswith(_PROMPT):
            shown.append(line)
            continue
        if text is not None:
            yield _command(document, text, tuple(shown), began)
        text, shown, began = line.removeprefix(_PROMPT), [], number
    assert text is not None, f"{document}:{block.line}: a console without a prompt"
    yield _command(document, text, tuple(shown), began)


def _listed(document: str, block: Block, *, anything: bool) -> Iterator[Command]:
    """Commands one a line; not anything, only what begins as one."""
    for number, line in enumerate(block.content.splitlines(), block.line):
        text = line.strip()
        if text and not text.startswith("#") and (anything or text.split()[0] in PROGRAMS):
            yield _command(document, text, None, number)


def _command(document: str, text: str, shown: tuple[str, ...] | None, line: int) -> Command:
    text, _, comment = text.partition("  #")
    return Command(document, text.strip(), comment.strip(), shown, line)


def commands() -> list[Command]:
    """All commands of all documents."""
    return [step for document in DOCUMENTS for step in steps(document) if isinstance(step, Command)]
