"""`p2pfl init` and `p2pfl export`: what a user puts in, and what a user gets out."""

from __future__ import annotations

from pathlib import Path

import click


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
def init(path: Path, kind: str, overwrite: bool) -> None:
    """Write a task file to start from: a model, its data, and nothing else."""
    from p2pfl.learning.template import write_template

    write_template(path, kind, overwrite=overwrite)
    click.echo(f"wrote {path}; put your model and data in, then: p2pfl node {path}")


@click.command(
    epilog="""\b
Examples:
  p2pfl export ~/.local/state/p2pfl/kitchen/laptop model.safetensors
  p2pfl export runs/demo/node-1 model.npz
"""
)
@click.argument("state_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def export(state_dir: Path, out: Path, overwrite: bool) -> None:
    """Save the trained model of STATE_DIR as OUT (.safetensors or .npz), with parameter names.

    The node may go on running; its newest checkpoint is what you get.
    """
    from p2pfl.edge.export import export as save

    found = save(state_dir, out, overwrite=overwrite)
    click.echo(
        f"wrote {out}: {found.saved.weights.size:,} weights of run '{found.about['run']}', "
        f"age {found.saved.age}"
    )
