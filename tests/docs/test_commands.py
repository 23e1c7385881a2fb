"""Every command that the documentation shows is run, and prints what is said there.

How, and what is not run and why: `playing.py` and `plan.py`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from p2pfl.errors import P2pflError
from tests.docs.claims import CLAIMS
from tests.docs.plan import CODES, ELSEWHERE, PARSED, SHORT
from tests.docs.playing import Session, absent, checked, kind_of, parsed, plain
from tests.docs.reading import (
    DOCUMENTS,
    LANGUAGES,
    OUTPUT,
    PROGRAMS,
    ROOT,
    Command,
    blocks,
    commands,
    steps,
)
from tests.integration.netns import missing

SPOKEN = [document for document in DOCUMENTS if steps(document)]


@pytest.mark.parametrize("document", SPOKEN)
def test_what_a_document_shows_can_be_done_and_prints_what_it_says(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needing = [step.text for step in steps(document) if isinstance(step, Command) and needs(step)]
    if needing and missing() is not None:
        pytest.skip(f"{missing()}; not run: {'; '.join(needing)}")
    with Session(document, tmp_path, monkeypatch) as session:
        for step in steps(document):
            session.play(step)
        session.end()
        if document in CLAIMS:
            CLAIMS[document](session.cells)


def needs(command: Command) -> bool:
    """Whether it needs a network of its own."""
    return any(kind_of(text) is not None for text in command.text.split(" && "))


@pytest.mark.parametrize("command", [c for c in commands() if needs(c)], ids=str)
def test_a_command_that_needs_a_network_is_taken_also_where_there_is_none(command: Command) -> None:
    text = command.text.partition(" | ")[0]
    if text.startswith("p2pfl "):
        with parsed(shlex.split(text)[1:]):
            pass


def test_there_are_commands_in_every_kind_of_block() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/scenarios.md"} <= set(SPOKEN)
    assert len(commands()) > 60


@pytest.mark.parametrize("table", [ELSEWHERE, PARSED, SHORT, CODES])
def test_every_exception_is_about_a_command_that_is_shown(table: dict[str, object]) -> None:
    shown = [text for command in commands() for text in command.text.split(" && ")]
    unused = [pattern for pattern in table if not any(re.match(pattern, text) for text in shown)]
    assert not unused


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "README.md"])
def test_every_block_says_what_it_is_and_hides_no_command(document: str) -> None:
    for block in blocks((ROOT / document).read_text(encoding="utf-8")):
        where = f"{document}:{block.line}"
        assert block.language in LANGUAGES | {"indented"}, f"{where}: {block.language!r}"
        assert block.about in ("", OUTPUT), f"{where}: {block.about}"
        if block.language == "text":
            hidden = [line for line in block.content.splitlines() if line.startswith("$ ")]
            hidden += [line for line in block.content.splitlines() if _is_command(line)]
            assert not hidden, f"{where}: {hidden} stand in a block that is not run"


def _is_command(line: str) -> bool:
    return bool(re.match(rf"({'|'.join(PROGRAMS)}) [\w./-]+( |$)(?!.*: )", line))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_within_sentences_can_be_given(document: str) -> None:
    """`p2pfl NAME --option ...` between backticks: such a command, and such options, exist."""
    text = (ROOT / document).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for said in re.findall(r"`(p2pfl [a-z][^`]*)`", text.replace("\n", " ")):
        words = shlex.split(said.split(" | ")[0])[1:]
        options = [word for word in words if word.startswith("--")]
        command = click.Context(_command(words))
        known = {name for one in command.command.get_params(command) for name in one.opts}
        known |= {name for one in command.command.params for name in one.secondary_opts}
        assert set(options) <= known | {"--help"}, f"{document}: {said}"


def _command(words: list[str]) -> click.Command:
    from p2pfl.cli import cli

    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        inner = command.get_command(click.Context(command), word)
        assert inner is not None, f"there is no command '{word}' ({words})"
        command = inner
    return command


# --- the instruments ------------------------------------------------------------------------------


def test_a_line_is_the_same_whatever_its_numbers_and_widths() -> None:
    shown = "clara (39b23123)  192.168.1.7:39309  alive   18,548     0.0 s ago   yes"
    printed = "clara (0fb23aaa) 192.168.1.7:4000  alive 2 11 s ago yes"
    assert plain(shown) == plain(printed)
    assert absent([shown, "...", ""], f"member\n{printed}\n") == []
    assert absent(["anna is alive"], printed) == ["anna is alive"]
    assert absent(["clara (12ab34cd) ..."], printed) == []
    assert plain("boris is dead") != plain("boris is alive")


def test_what_the_command_line_does_not_take_is_found_out() -> None:
    with pytest.raises(click.NoSuchOption):
        checked(["run", "churn-30", "--nodes", "3"])
    with pytest.raises(P2pflError, match="nods"):
        checked(["run", "churn-30", "--set", "nods=3"])
    with pytest.raises(click.UsageError):
        checked(["walk"])
