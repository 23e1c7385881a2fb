"""What the site's pages take from elsewhere while they are built, so that it cannot differ.

    <!-- include: SECURITY.md -->            a document of the repository, without its title
    <!-- include: README.md#Glossary -->      one section of it, without its heading
    <!-- include: examples/a.py -->           a file, as code
    <!-- commands -->                         the --help of every command

Links that lead out of docs/ (right in the repository) are led to the page that shows the same.

Rule of the file: what cannot be found ends the build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.exceptions import PluginError

from p2pfl.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "docs/index.md",
    "SECURITY.md": "docs/security.md",
    "CHANGELOG.md": "docs/changelog.md",
}
"""Documents of the repository, and the pages that show them."""

_INCLUDE = re.compile(r"^<!-- include: ([\w./-]+)(?:#([\w -]+))? -->$", re.M)
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """What mkdocs is given in place of a page's text."""
    here = f"docs/{page.file.src_uri}"
    text = _relinked(markdown, here, here)
    text = _INCLUDE.sub(lambda found: included(found[1], found[2], here), text)
    return text.replace("<!-- commands -->", "\n".join(helped()))


def included(name: str, section: str | None, here: str) -> str:
    """The file `name` of the repository, or a section of it, as the page `here` shows it.

    Raises:
        PluginError: there is no such file or section.
    """
    try:
        text = (ROOT / name).read_text(encoding="utf-8")
    except OSError as error:
        raise PluginError(f"{here} includes {name}: {error.strerror}") from None
    if not name.endswith(".md"):
        return f"```{name.rpartition('.')[2].replace('py', 'python')}\n{text.rstrip()}\n```"
    return _relinked(part(text, section, f"{here} includes {name}"), name, here)


def part(text: str, section: str | None, where: str) -> str:
    """A document below its title, or what stands below one of its headings.

    Raises:
        PluginError: there is no such heading.
    """
    if section is None:
        return re.sub(r"\A# .*\n", "", text)
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if found is None:
        raise PluginError(f"{where}: it has no section '## {section}'")
    return found[1]


def _relinked(text: str, origin: str, here: str) -> str:
    """The text of `origin` with links that are right on the page `here`."""

    def right(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), found[2]))
        target = PAGES.get(target, target)
        return found[1] + posixpath.relpath(target, posixpath.dirname(here)) + found[3]

    return _LINK.sub(right, text)


# --- the command line ---------------------------------------------------------------------------

_WIDE: dict[str, Any] = {"terminal_width": 92, "help_option_names": ["-h", "--help"]}


def commands() -> Iterator[click.Context]:
    """Every command as it is called, groups before what is in them."""
    yield from _below(click.Context(cli, info_name="p2pfl", **_WIDE))


def _below(context: click.Context) -> Iterator[click.Context]:
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            inner = group.get_command(context, name)
            assert inner is not None
            yield from _below(click.Context(inner, info_name=name, parent=context, **_WIDE))


def helped() -> Iterator[str]:
    """A section for each command: what its `--help` prints."""
    for context in commands():
        text = context.command.get_help(context)
        yield f"## `{context.command_path}`\n\n```text\n{text}\n```\n"
