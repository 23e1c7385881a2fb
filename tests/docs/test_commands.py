"""Every `p2pfl` command that the documentation shows can be given; quick ones are run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from p2pfl.cli import cli
from p2pfl.scenario.load import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/scenarios.md", "docs/simulator.md")
COMMANDS = ("run", "sweep", "replay", "record", "topology")
QUICK_NODES = 20
SHORT = ("duration={seconds=1.5}", "churn.events=[]", "faults.events=[]", "measure.samples=10")
"""What makes any scenario quick to run; a bound that does not hold then says nothing."""


@dataclass(frozen=True)
class Shown:
    """One command of a document."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of all fenced and indented blocks of code."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
    yield from ((found[1], found[2]) for found in fenced.finditer(text))
    for found in re.finditer(r"(?:^ {4}.*\n)+", fenced.sub("", text), re.M):
        yield "", found[0]


def shown(document: str) -> list[Shown]:
    """The commands in a document's blocks, in order; sentences of output are none."""
    given = re.compile(rf"^ *(p2pfl (?:{'|'.join(COMMANDS)}) [^ ].*)$", re.M)
    return [
        Shown(document, tuple(shlex.split(line, comments=True)[1:]))
        for language, content in blocks((ROOT / document).read_text(encoding="utf-8"))
        if not language
        for line in given.findall(content)
    ]


SHOWN = [command for document in DOCUMENTS for command in shown(document)]
ONCE = list({command.words: command for command in SHOWN}.values())
RUNS = [command for command in ONCE if command.words[0] == "run"]


def files(document: str) -> dict[str, str]:
    """Scenarios that a document spells out: TOML blocks that begin with their name."""
    found: dict[str, str] = {}
    for language, content in blocks((ROOT / document).read_text(encoding="utf-8")):
        named = re.match(r"# (\w+\.toml)(, continued)?\n", content)
        if language == "toml" and named:
            found[named[1]] = found.get(named[1], "") + content
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder such as a reader has: a clone's scenarios, and what the documents spell out."""
    for name in ("scenarios", "topologies"):
        (tmp_path / name).symlink_to(ROOT / name)
    for document in DOCUMENTS:
        for name, text in files(document).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(words: tuple[str, ...]) -> tuple[click.Command, click.Context]:
    """The command that these words mean, and what it was given; nothing is run."""
    command: click.Command = cli
    context = click.Context(cli, info_name="p2pfl")
    rest = list(words)
    while isinstance(command, click.Group):
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        command = inner
        if not isinstance(command, click.Group):
            return command, command.make_context(name, rest, parent=context)
        context = click.Context(command, parent=context, info_name=name)
    raise AssertionError(words)


def recorded(command: Shown, scenario: str) -> bool:
    """Whether a scenario is what an earlier command of the same document leaves."""
    names = [c.words for c in SHOWN if c.document == command.document and c.words[0] == "record"]
    return any(f"recordings/{words[-1]}.toml" == scenario for words in names)


def test_there_are_commands_of_every_kind() -> None:
    assert {command.words[0] for command in ONCE} == set(COMMANDS)
    assert len(ONCE) > 20


@pytest.mark.parametrize("command", ONCE, ids=str)
def test_a_command_that_is_shown_can_be_given(command: Shown, here: Path) -> None:
    if command.words[0] == "replay":
        (here / command.words[1]).mkdir()  # a run before it made it
    _, context = parsed(command.words)
    given = context.params
    if command.words[0] == "run" and not recorded(command, given["scenario"]):
        load(given["scenario"], given["changes"], given["seed"])
    elif command.words[0] == "sweep":
        from p2pfl.scenario.sweep import planned

        planned(given["scenario"], given["over"], given["changes"], given["seeds"])
    elif command.words[:2] == ("topology", "show"):
        from p2pfl.cli.topology import found

        found(given["rule_or_file"])


def called(words: tuple[str, ...]) -> tuple[int, str]:
    result = CliRunner().invoke(cli, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def is_quick(command: Shown) -> bool:
    """Whether it is a virtual run that is short if its duration is."""
    given = parsed(command.words)[1].params
    name = given["scenario"]
    if given["engine"] != "virtual" or recorded(command, name):
        return False
    path = ROOT / (name if "." in name else f"scenarios/{name}.toml")
    # one that is not there is spelt out in its document, and small
    return not path.exists() or load(str(path)).nodes <= QUICK_NODES


@pytest.mark.parametrize("command", [c for c in RUNS if is_quick(c)], ids=str)
def test_a_run_that_is_shown_runs(command: Shown, here: Path) -> None:
    changes = (word for change in SHORT for word in ("--set", change))
    code, output = called((*command.words, *changes, "--no-report"))
    assert code in (0, 1), output
    assert "event hash" in output or "event_hash" in output


def test_a_sweep_that_is_shown_runs(here: Path) -> None:
    command = next(c for c in ONCE if c.words[0] == "sweep" and c.document == "docs/scenarios.md")
    short = ("--seeds", "1", "--jobs", "2", "--set", "duration.seconds=1")
    code, output = called((*command.words, *short))
    assert code == 0, output
    assert "mean over seeds" in output


def test_the_worked_example_keeps_what_it_expects(here: Path) -> None:
    code, output = called(("run", "three.toml", "--no-report"))
    assert code == 0, output
    assert "4 of 4 expectations held" in output


def test_what_was_run_can_be_replayed(here: Path) -> None:
    changes = (word for change in SHORT for word in ("--set", change))
    called(("run", "churn-30", "--out", "churn", "--no-report", "--quiet", *changes))
    code, output = called(("replay", "churn", "--quiet"))
    assert code == 0, output
    assert output.startswith("the same: ")


@pytest.mark.parametrize("command", [c for c in ONCE if c.words[0] == "topology"], ids=str)
def test_a_topology_that_is_shown_is_measured(command: Shown, here: Path) -> None:
    plain = tuple(w for w in command.words if w not in ("--out", "--no-picture", "petersen.png"))
    code, output = called((*plain, "--no-picture") if "show" in plain else plain)
    assert code == 0, output
    assert "diameter" in output


def test_every_scenario_that_is_shipped_is_listed() -> None:
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"^\| `([\w.-]+)` \| ", page.split("## Scenarios that are shipped")[1], re.M)
    )
    there = {path.stem for path in (ROOT / "scenarios").glob("*.toml")}
    assert listed == there | {path.name for path in (ROOT / "scenarios").glob("*.py")}


def test_the_python_on_the_page_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    scripts = [content for language, content in blocks(page) if language == "python"]
    assert scripts
    run: Callable[[str], None] = exec
    for script in scripts:
        run(script.replace("duration.seconds=5", "duration.seconds=1"))
    assert "(101, 8)" in capsys.readouterr().out
