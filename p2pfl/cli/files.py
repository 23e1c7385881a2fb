"""`p2pfl init` and `p2pfl export`: what a user puts in, and what a user gets out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from p2pfl.cli.completion import state_dirs
from p2pfl.cli.saying import say, working

_LARGE_BYTES = 100_000_000
"""A checkpoint of so much takes seconds to read and write."""
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_QUIET = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


@click.command(
    epilog="""\b
Example:
  p2pfl init my_task.py
  p2pfl node my_task.py
"""
)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--numpy", "kind", flag_value="numpy", help="A model in numpy; never needs torch.")
@click.option("--torch", "kind", flag_value="torch", default=True, help="A torch module (default).")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@_JSON
@_QUIET
def init(path: Path, kind: str, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Write a task file to start from: a model, its data, and nothing else."""
    from p2pfl.learning.template import write_template

    write_template(path, kind, overwrite=overwrite)
    if as_json:
        say(json.dumps({"file": str(path), "kind": kind}))
    elif not quiet:
        say(f"wrote {path}; put your model and data in, then: p2pfl node {path}")


@click.command(
    epilog="""\b
Examples:
  p2pfl export ~/.local/state/p2pfl/kitchen/laptop model.safetensors
  p2pfl export runs/demo/node-1 model.npz
"""
)
@click.argument("state_dir", type=click.Path(path_type=Path), shell_complete=state_dirs)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@_JSON
@_QUIET
def export(state_dir: Path, out: Path, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Save the trained model of STATE_DIR as OUT (.safetensors or .npz), with parameter names.

    The node may go on running; its newest checkpoint is what you get.
    """
    from p2pfl.edge.export import export as save

    with working("exporting the model", quiet=quiet or _size(state_dir) < _LARGE_BYTES):
        found = save(state_dir, out, overwrite=overwrite)
    values, run, age = found.saved.weights.size, found.about["run"], found.saved.age
    if as_json:
        say(json.dumps({"file": str(out), "parameters": values, "run": run, "age": age}))
    elif not quiet:
        say(f"wrote {out}: {values:,} weights of run '{run}', age {age}")


def _size(state_dir: Path) -> int:
    """Bytes of what lies in a state directory; of what is none, nothing."""
    try:
        return sum(path.stat().st_size for path in state_dir.iterdir())
    except OSError:
        return 0
