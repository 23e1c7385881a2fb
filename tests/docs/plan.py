"""How the commands of the documentation are tried, where they are not simply run.

Whatever is not named here is run as it stands: a new command is either run or named here.

Rule of the file: every entry says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

ELSEWHERE: Mapping[str, str] = {
    r"sudo apt ": "changes the machine",
    r"\. \.venv/bin/activate": "belongs to the reader's shell",
    r"python scenarios/robust_table\.py": "takes hours; tests/scenario/test_adversary.py",
    r"python scenarios/parameter_study\.py": "12 runs, more than a minute",
    r"tensorboard ": "takes long to start; tests/edge/test_scalars.py reads its files",
    r"python -m tests\.sim\.fuzz --seeds 1000": "takes minutes; tests/sim/test_fuzz.py",
}
"""Never run."""

PARSED: Mapping[str, str] = {
    r"p2pfl demo": "takes a minute; tests/integration/test_demo.py runs it",
    r"p2pfl run thousand": "takes a minute; tests/scenario/test_shipped.py",
    r"p2pfl run blackout": "40 nodes; tests/scenario/test_shipped.py",
    r"p2pfl run scenarios/parameter_study": "12 runs, more than a minute",
    r".* --engine processes": "takes a minute; tests/integration/test_real_engine.py",
    r"p2pfl record real": "of such a run; tests/integration/test_record.py",
    r"p2pfl run recordings/": "of such a recording; tests/integration/test_record.py",
    r".* --ray ": "a cluster takes long to start; tests/scenario/sweep",
}
"""Not run; but that the command line takes it, and that its scenario can be read, is checked."""

SHORT: Mapping[str, tuple[str, ...]] = {
    r"p2pfl run (?!three\.toml|wine\.toml|away\.toml)": (
        "--set",
        "duration={seconds=1.5}",
        "--set",
        "churn.events=[]",
        "--set",
        "faults.events=[]",
        "--set",
        "measure.samples=10",
    ),
    r"p2pfl sweep (?!away\.toml)": ("--set", "duration={seconds=1}", "--jobs", "2", "--seeds", "1"),
}
"""Run with these further options: shorter, so that bounds need not hold and nothing is compared."""

CODES: Mapping[str, int] = {
    r"p2pfl run three\.toml --set 'expect\.mean_accuracy=>= 0\.99'": 1,
}
"""Exit codes that are meant to be other than 0."""

BEFORE: Mapping[str, str] = {
    "README.md": "from p2pfl.learning import task\nmodule = task.find_task('my_task.py').model()",
}
"""Python that a document takes for granted."""

NAMES: Mapping[str, str] = {
    "my-laptop": "this device's host name",
    "p2pfl-join-...": "what `p2pfl id` printed last",
    "192.168.1.5:4000": "where the first laptop's node serves, if it was not told a port",
}
"""Words that stand for what every reader has of their own."""


def matching(text: str, table: Mapping[str, object]) -> str | None:
    """The first pattern of a table that the command begins with."""
    return next((pattern for pattern in table if re.match(pattern, text)), None)
