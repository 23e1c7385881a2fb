"""`p2pfl run-key`: the key that a person carries to the devices of a run.

Rule of the file: a secret is printed only where it was asked for, and a file that holds one is
readable by its owner alone and never written over.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli.keys import KEY_HELP
from p2pfl.cli.saying import Group, say
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from p2pfl.edge.runkey import RunKey

_OUT = click.Path(dir_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(
    "run-key",
    cls=Group,
    epilog="""\b
Examples:
  p2pfl run-key new --out run.key         every device that has it takes part
  p2pfl run-key show --key-file run.key   compare two devices
  p2pfl run-key split --out kitchen       a strict run: nodes are admitted
""",
)
def run_key() -> None:
    """Make the key of a run: who has it, takes part, and nobody else connects."""


@run_key.command(
    epilog="""\b
Examples:
  p2pfl run-key new
  p2pfl run-key new --out run.key
  p2pfl node digits --key-file run.key
"""
)
@click.option("--out", type=_OUT, help="Write it there, for --key-file; it is not printed then.")
@click.option(
    "--qr/--no-qr", default=None, help="A QR code to scan; by default where a person looks on."
)
@_JSON
def new(out: Path | None, qr: bool | None, as_json: bool) -> None:
    """Draw a new key, and say how to use it."""
    from p2pfl.edge.runkey import RunKey

    key = RunKey.new()
    if out is not None:
        _write_secret(out, f"{key.text}\n")
    if as_json:
        where = {"file": str(out)} if out is not None else {"key": key.text}
        say(json.dumps({**where, **_about(key)}))
        return
    say(f"wrote {out}" if out is not None else key.text)
    if qr if qr is not None else out is None and sys.stdout.isatty():
        _draw(key)
    use = f"--key-file {out}" if out is not None else f"--key {key.text}"
    say(
        f"tag {key.tag}\n"
        "Whoever has this key takes part in the run. Carry it to every device, and start there:\n"
        f"  p2pfl node TASK {use}"
    )
    if out is None:
        say("Others on a device see it with `ps`; --key-file FILE keeps it from them.")


@run_key.command(
    short_help="Show what a key is known by; not the key itself.",
    epilog="""\b
Examples:
  p2pfl run-key show --key-file run.key
  p2pfl run-key show --key-file run.key --qr    to scan it with another device
""",
)
@click.option("--key", metavar="TEXT", help=KEY_HELP)
@click.option("--key-file", metavar="FILE", help="File with the run's key, or admission.key.")
@click.option("--qr", is_flag=True, help="Print the key itself as a QR code.")
@_JSON
def show(key: str | None, key_file: str | None, qr: bool, as_json: bool) -> None:
    """Show what a run, or an admission, key is known by; not the key itself."""
    found = _either(key, key_file)
    if as_json:
        say(json.dumps(_about(found)))
        return
    about = _about(found)
    say(f"{found.kind.what}\ntag        {about['tag']}\nauthority  {about['authority']}")
    if qr:
        _draw(found)


@run_key.command(
    short_help="Begin a strict run: nodes are admitted one by one.",
    epilog="""\b
Examples:
  p2pfl run-key split --out kitchen
  p2pfl id --run kitchen               on each device
  p2pfl admit p2pfl-join-... --key-file kitchen/admission.key --out me.crt
  p2pfl node digits --run kitchen --run-cert kitchen/run.crt --cert me.crt
""",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for admission.key and run.crt.",
)
@_JSON
def split(out: Path, as_json: bool) -> None:
    """Begin a strict run: one key that admits, kept offline, and certificates for the nodes."""
    from p2pfl.cli.options import vacant
    from p2pfl.edge import certificates, keytext
    from p2pfl.edge.runkey import RunKey

    key = RunKey.new(keytext.ADMISSION)
    secret, public = vacant(out) / "admission.key", out / "run.crt"
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        public.write_bytes(certificates.pem(certificates.authority_certificate(key.authority)))
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; give another folder") from None
    _write_secret(secret, f"# admits nodes to run {key.tag}; keep it offline\n{key.text}\n")
    if as_json:
        files = {"admission_key": str(secret), "run_certificate": str(public)}
        say(json.dumps({**files, **_about(key)}))
        return
    say(
        f"wrote {secret}   admits and denies nodes: keep it offline, on no node\n"
        f"wrote {public}         for every node\n"
        f"tag {key.tag}\n"
        "For each node: `p2pfl id` there, then here\n"
        f"  p2pfl admit REQUEST --key-file {secret} --out me.crt\n"
        "and there, with both files:\n"
        "  p2pfl node TASK --run-cert run.crt --cert me.crt"
    )


def _either(key: str | None, key_file: str | None) -> RunKey:
    """A run key or an admission key.

    Raises:
        ConfigError: neither or both were given, or it cannot be read or has a typo.
    """
    from p2pfl.edge import keytext
    from p2pfl.edge.runkey import RunKey, text_in

    if (key is None) == (key_file is None):
        raise ConfigError("give either --key TEXT or --key-file FILE")
    text = key if key is not None else text_in(Path(key_file or ""))
    is_admission = keytext.kind_of(text) is keytext.ADMISSION
    return RunKey.parse(text, keytext.ADMISSION if is_admission else keytext.RUN)


def _about(key: RunKey) -> dict[str, str]:
    from hashlib import sha256

    from p2pfl.edge.certificates import authority_certificate, der

    digest = sha256(der(authority_certificate(key.authority))).hexdigest()
    grouped = " ".join(digest[at : at + 4] for at in range(0, len(digest), 4))
    return {"tag": key.tag, "authority": grouped}


def _write_secret(path: Path, text: str) -> None:
    """A new file for its owner alone.

    Raises:
        ConfigError: there is one, or it cannot be written.
    """
    from p2pfl.edge.durable import replacement

    try:
        if path.exists():
            raise ConfigError(f"{path} exists, and may be the only copy of a key; give a new --out")
        with replacement(path, private=True) as file:
            file.write(text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give another --out") from None


def _draw(key: RunKey) -> None:
    import segno

    # upper case alone needs a smaller picture, and a key is the same in both
    segno.make(key.text.upper(), micro=False).terminal(out=sys.stdout, compact=True)
