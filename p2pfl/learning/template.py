"""What `p2pfl init my_task.py` writes: a task file to start from, with comments.

Rule of the file: a template is a working task in `templates/`, tested like any other code; it is
copied as it is, and nothing that exists is overwritten unasked.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from p2pfl.errors import TaskError

TEMPLATES = {"torch": "torch_task.py", "numpy": "numpy_task.py"}


def write_template(path: str | Path, kind: str = "torch", overwrite: bool = False) -> None:
    """Write a task file that runs as it is.

    Args:
        path: where to; must end in `.py`.
        kind: one of `TEMPLATES`.
        overwrite: replace a file that is already there.

    Raises:
        TaskError: unknown kind, a file is there, or it cannot be written; nothing was changed.
    """
    path = Path(path)
    if kind not in TEMPLATES:
        raise TaskError(f"no template '{kind}', there are {', '.join(TEMPLATES)}")
    if path.suffix != ".py":
        raise TaskError(f"{path}: a task is a Python file, its name must end in .py")
    text = files("p2pfl.learning").joinpath("templates", TEMPLATES[kind]).read_text("utf-8")
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise TaskError(
            f"{path} exists already; choose another name, or give --overwrite"
        ) from None
    except OSError as error:
        raise TaskError(f"{path}: cannot be written: {error.strerror or error}") from None
