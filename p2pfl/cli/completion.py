"""`p2pfl completion`: what the Tab key knows of p2pfl, in bash, zsh and fish.

Rule of the file: it runs at every Tab, so nothing is imported before it is needed, and whatever
cannot be found out is not proposed. Where a file will do as well as a name, the shell's own
completion of files takes over as soon as no name fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

_INSTALL = {
    "bash": 'put this in ~/.bashrc:  eval "$(p2pfl completion bash)"\n'
    "# or, to be faster:       p2pfl completion bash > "
    "~/.local/share/bash-completion/completions/p2pfl",
    "zsh": 'put this in ~/.zshrc, after compinit:  eval "$(p2pfl completion zsh)"',
    "fish": "p2pfl completion fish > ~/.config/fish/completions/p2pfl.fish",
}
_VARIABLE = "_P2PFL_COMPLETE"
_PROGRAM = "p2pfl"


@click.command(
    epilog="""\b
Examples:
  eval "$(p2pfl completion bash)"     in ~/.bashrc
  eval "$(p2pfl completion zsh)"      in ~/.zshrc
  p2pfl completion fish > ~/.config/fish/completions/p2pfl.fish
"""
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, tasks, scenarios, runs and files."""
    from p2pfl.cli.saying import say

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    # the script alone: click would run a bash to see whether it is a recent one
    found = kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE)
    script = found.source_template % found.source_vars()
    say(f"# to install: {_INSTALL[shell]}\n{script.rstrip()}")


# --- what is proposed for an argument or an option ----------------------------------------------


def tasks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The built-in tasks, or a file."""
    from p2pfl.learning.task import BUILT_IN

    return _or_file(BUILT_IN, incomplete)


def scenarios(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The scenarios in ./scenarios, or a file."""
    return _or_file((path.stem for path in Path("scenarios").glob("*.toml")), incomplete)


def rules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The neighbour rules and the names in ./topologies, or a file."""
    from p2pfl.cli.topology import ABOUT, ENDINGS, FOLDER

    files = {path.stem: path.name for path in FOLDER.glob("*") if path.suffix in ENDINGS}
    known = {**files, **ABOUT}  # a rule's name wins over a file's
    found = [CompletionItem(name, help=about) for name, about in sorted(known.items())]
    return _fitting(found, incomplete) or [CompletionItem(incomplete, type="file")]


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The runs that nodes of this user have taken part in here."""
    return _items(_folders(_states()), incomplete)


def labels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names that nodes of this user have had here, in the run that was given if any was."""
    run = ctx.params.get("run")
    among = [run] if run else _folders(_states())
    return _items((name for each in among for name in _folders(_states() / each)), incomplete)


def partitions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """How data can be split."""
    known = ("iid", "dirichlet:0.1", "classes:2", "quantity:0.5", "shift:0.5", "drawn:0.1")
    return _items(known, incomplete)


def codecs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """How weights can be sent."""
    from p2pfl.core.compression import CODECS

    return _items(CODECS, incomplete)


def state_dirs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The state directories of this user's nodes until something else is typed; then a folder."""
    if incomplete:
        return [CompletionItem(incomplete, type="dir")]
    root = _states()
    found = [str(root / run / name) for run in _folders(root) for name in _folders(root / run)]
    return _items(found, incomplete) or [CompletionItem(incomplete, type="dir")]


def _states() -> Path:
    import platformdirs

    return Path(platformdirs.user_state_dir("p2pfl"))


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _items(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return _fitting([CompletionItem(one) for one in sorted(set(values))], incomplete)


def _fitting(items: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    return [item for item in items if item.value.startswith(incomplete)]


def _or_file(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return _items(values, incomplete) or [CompletionItem(incomplete, type="file")]
