"""What lets somebody into a run with a key, as the command line takes it.

Rule of the file: whoever gave a key, or meant to, never ends up without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pfl.errors import ConfigError, StateError

if TYPE_CHECKING:
    from p2pfl.config import DeviceConfig
    from p2pfl.edge.credentials import Credentials
    from p2pfl.edge.nodekey import NodeKey
    from p2pfl.edge.runkey import RunKey

KEY_HELP = (
    "The run's key, as `p2pfl run-key new` prints it; others on this device can read it with `ps`, "
    "which --key-file avoids."
)

KEY_FIX = "--key-file FILE, or in a strict run --cert FILE --state-dir DIR"
"""What lets somebody look at a run with a key; from outside nobody can tell which kind it is."""

_F = TypeVar("_F", bound=Callable[..., Any])


def looking(command: _F) -> _F:
    """The options with which somebody looks at a run that has a key."""
    options = (
        click.option("--key", metavar="TEXT", help=KEY_HELP),
        click.option("--key-file", metavar="FILE", help="File with the run's key."),
        click.option(
            "--cert", metavar="FILE", help="Strict run: certificate of a node of this device."
        ),
        click.option(
            "--state-dir", metavar="DIR", help="State directory of that node, for --cert."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Pass:
    """What lets a node into a run, read and checked as far as it can be without the node's key.

    Attributes:
        run_key: of an open-handed run.
        cert, run_cert: files of a strict one.
        tag: of the run; None: it is open.
    """

    run_key: RunKey | None = None
    cert: Path | None = None
    run_cert: Path | None = None
    tag: str | None = None

    def credentials(self, key: NodeKey) -> Credentials:
        """For the node that has this key.

        Raises:
            ConfigError: the certificate is another node's, or not valid now.
        """
        from p2pfl.edge.credentials import Credentials

        if self.run_key is not None:
            return Credentials.member(key, self.run_key, time.time())
        assert self.cert is not None, "an open run has no credentials"
        return Credentials.admitted(key, self.cert, time.time(), authority=self.run_cert)


def passed(config: DeviceConfig, key: str | None) -> Pass:
    """What a node was given.

    Args:
        config: names the files.
        key: the run's key itself, if it was given as text.

    Raises:
        ConfigError: it cannot be read, has a typo, or is not for nodes.
    """
    from p2pfl.edge.certfiles import read_chain

    if config.cert is not None:
        if key is not None:
            raise ConfigError(
                "--key and --cert exclude each other: members of a strict run have no key"
            )
        cert = Path(config.cert)
        run_cert = Path(config.run_cert) if config.run_cert is not None else None
        return Pass(cert=cert, run_cert=run_cert, tag=read_chain(cert, run_cert).tag)
    run_key = given(key, config.key_file)
    return Pass() if run_key is None else Pass(run_key, tag=run_key.tag)


def given(key: str | None, key_file: str | None) -> RunKey | None:
    """The run key that was given as text or as a file; None if none was.

    Raises:
        ConfigError: both were, or it cannot be read or has a typo.
    """
    from p2pfl.edge.runkey import RunKey

    if key is not None and key_file is not None:
        raise ConfigError("--key and --key-file are the same thing twice; give one of them")
    if key is not None:
        return RunKey.parse(key)
    return RunKey.load(Path(key_file)) if key_file is not None else None


def observer(
    *, key: str | None, key_file: str | None, cert: str | None, state_dir: str | None
) -> Credentials | None:
    """Of somebody who looks at a run; None if it is an open one.

    Raises:
        ConfigError: what was given cannot be used, or does not suffice.
    """
    from p2pfl.edge.credentials import Credentials
    from p2pfl.edge.nodekey import NODE_KEY, NodeKey

    run_key = given(key, key_file)
    if run_key is not None:
        if cert is not None:
            raise ConfigError("--cert and a key exclude each other; give one of them")
        return Credentials.observer(run_key, time.time())
    if cert is None and state_dir is not None:
        raise ConfigError("--state-dir alone lets nobody in; add --cert FILE, which it is for")
    if cert is None:
        return None
    if state_dir is None:
        raise ConfigError("--cert needs the key that it is for; add --state-dir of that node")
    file = Path(state_dir, NODE_KEY)
    try:
        own = NodeKey.load(file)
    except OSError as error:
        raise StateError(f"{file}: {error.strerror}; give the --state-dir of a node") from None
    return Credentials.admitted(own, Path(cert), time.time())
