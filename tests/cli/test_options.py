"""What every command checks alike, and how its help looks."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from p2pfl.cli import cli
from p2pfl.cli.keys import observer
from p2pfl.cli.look import _address, _peer
from p2pfl.errors import ConfigError
from p2pfl.ports import Sighting

COMMANDS = (
    *("demo", "node", "id", "admit", "deny", "evidence", "init", "peers", "status", "doctor"),
    *("run", "sweep", "replay", "record", "export", "completion"),
    *("run-key", "run-key new", "run-key show", "run-key split"),
    *("topology", "topology show", "topology list"),
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_into_eighty_columns_and_cuts_nothing_off(command: str) -> None:
    done = CliRunner().invoke(cli, [*command.split(), "--help"], terminal_width=80)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    cut = [line for line in lines if line.endswith("...") and "STATE_DIR" not in line]
    assert [line for line in cut if not line.startswith("Usage: ")] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command: str) -> None:
    found: click.Command = cli
    for name in command.split():
        assert isinstance(found, click.Group)
        step = found.get_command(click.Context(found), name)
        assert step is not None
        found = step
    options = [param for param in found.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--seconds", "nan"),
        ("peers", "--seconds", "nan"),
        ("doctor", "--seconds", "NaN"),
        ("admit", "p2pfl-join-", "--key-file", "none", "--days", "nan"),
    ],
)
def test_what_is_no_number_is_within_no_bounds(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}': '{arguments[-1]}' is no number." in done.output


@pytest.mark.parametrize("option", ["--run", "--name"])
@pytest.mark.parametrize("command", ["id", "evidence"])
def test_a_name_that_no_node_has_makes_no_key(command: str, option: str) -> None:
    done = CliRunner().invoke(cli, [command, option, ""])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == f"{option} is empty; give the one that `p2pfl node` gets"


# --- what lets somebody into a run with a key ----------------------------------------------------


def test_a_state_directory_alone_does_not_silently_let_nobody_in() -> None:
    with pytest.raises(ConfigError, match="add --cert FILE, which it is for"):
        observer(key=None, key_file=None, cert=None, state_dir="here")
    assert observer(key=None, key_file=None, cert=None, state_dir=None) is None


def test_the_hints_name_what_helps_in_a_strict_run_too() -> None:
    keyed = "key-79ce26d7e3d89333"
    seen = Sighting(("127.0.0.1:1",), node="a" * 32, run=keyed, layout="b" * 16, version="3")
    assert _peer(seen, None, None)["compatible"] == (
        "no: its run has a key; give it with --key-file, in a strict run with --cert"
    )
    with pytest.raises(ConfigError, match="--key-file FILE, or in a strict run --cert FILE"):
        _address("https://127.0.0.1:4000", None)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("127.0.0.1:99999", "port is '99999', expected 1 to 65535"),
        ("127.0.0.1:0", "port is '0', expected 1 to 65535"),
        ("http://[::1:1", "write an IPv6 address in brackets"),
        ("\u00fc:1", "is not a host name or address"),
    ],
)
def test_what_is_no_address_is_told_before_anybody_is_asked(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        _address(url, None)
    assert _address("http://[::1]:4000/", None) == "[::1]:4000"
