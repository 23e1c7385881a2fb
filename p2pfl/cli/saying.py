"""How commands speak: the answer on standard output, and on standard error what goes on meanwhile.

Rule of the file: nobody has to read on. A reader that went away (`| head`) ends the command
quietly; an output that takes nothing more (a full disk) is told as such, and blames no other file.
Where nobody looks on, nothing is cut off or wrapped, because programs read there.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import click

from p2pfl.errors import P2pflError

if TYPE_CHECKING:
    from rich.console import Console

_UNBOUNDED = 100_000
"""Columns of an output that is no terminal."""
_GONE = 1


class OutputError(P2pflError):
    """Standard output, or standard error, takes nothing more."""


def say(text: str) -> None:
    """Print an answer.

    Raises:
        OutputError: it cannot be written.
        SystemExit: nobody reads it any more.
    """
    with heard("standard output"):
        click.echo(text)


@contextmanager
def heard(what: str) -> Iterator[None]:
    """Say of an output that cannot be written that it was the output; end if nobody reads on.

    Args:
        what: is written to.

    Raises:
        OutputError: it takes nothing more.
        SystemExit: its reader is gone.
    """
    try:
        yield
    except BrokenPipeError:
        _hush()
        raise SystemExit(_GONE) from None
    except OSError as error:
        _hush()
        raise OutputError(f"{what} cannot be written: {error.strerror or error}") from None


def _hush() -> None:
    """What Python would still flush at its end goes nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Group(click.Group):
    """A group whose help, and that of its commands, is said as every answer is."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Of the group itself."""
        return _said(super().get_help_option(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, and what is left of the words.

        Raises:
            click.UsageError: there is none of that name; the text has the nearest one.
        """
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _said(command.get_help_option(ctx))
        return name, command, rest


def _said(option: click.Option | None) -> click.Option | None:
    if option is not None:
        option.callback = _tell_help
    return option


def _tell_help(ctx: click.Context, option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        say(ctx.get_help())
        ctx.exit()


class _Outlet:
    """A stream that says of itself that it cannot be written; otherwise as the stream is."""

    def __init__(self, stream: IO[str], what: str) -> None:
        self._stream, self._what = stream, what

    def write(self, text: str) -> int:
        """As the stream does.

        Raises:
            OutputError: it takes nothing more.
        """
        with heard(self._what):
            return self._stream.write(text)

    def flush(self) -> None:
        """As the stream does.

        Raises:
            OutputError: it takes nothing more.
        """
        with heard(self._what):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console_on(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that is as wide as need be where its output is no terminal.

    Args:
        stderr: it is for what goes on, because the answer has standard output for itself.
        quiet: it says nothing.
    """
    from rich.console import Console

    stream, what = (sys.stderr, "error") if stderr else (sys.stdout, "output")
    outlet: Any = _Outlet(stream, f"standard {what}")
    console = Console(highlight=False, file=outlet, quiet=quiet)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, file=outlet, quiet=quiet, width=_UNBOUNDED)
    return console


@contextmanager
def working(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Say on standard error what takes its time; on a terminal only until it is done."""
    if quiet:
        yield
        return
    is_terminal = sys.stderr.isatty()
    with suppress(OSError):
        click.echo(f"{text} ...", err=True, nl=not is_terminal)
    try:
        yield
    finally:
        if is_terminal:
            with suppress(OSError):
                click.echo("\r\x1b[K", err=True, nl=False)
