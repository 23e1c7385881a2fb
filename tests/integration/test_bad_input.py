"""What a user gets wrong: one sentence with the fix, exit code 2, and nothing written."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from p2pfl.cli import main
from p2pfl.edge.identity import IDENTITY
from tests.integration.nodes import PATIENCE_S, PROGRAM, TASK, Nodes, p2pfl

LOOPBACK = ("--bind", "127.0.0.1", "--interface", "lo")

GOOD_TASK = """
import numpy as np
from p2pfl.learning.numpy_learner import MLP

def model():
    return MLP(2, 3, 2)

def train_data():
    return np.zeros((4, 2)), np.array([0, 1, 0, 1])

def test_data():
    return train_data()
"""
FILES = {
    "unknown.toml": 'rnu = "kitchen"',
    "deep.toml": "[gossip]\nout_standing = 1",
    "type.toml": 'port = "many"',
    "deep-type.toml": '[train]\nsteps_max = "many"',
    "bounds.toml": "[gossip]\nweight = 0.9",
    "prose.toml": "this is not TOML",
    "no-model.py": GOOD_TASK.replace("def model", "def modle"),
    "syntax.py": "def model(:\n    pass\n",
    "raises.py": GOOD_TASK.replace("np.zeros((4, 2))", "np.load('gone.npy')"),
    "nan.py": GOOD_TASK.replace("np.zeros((4, 2))", "np.full((4, 2), np.nan)"),
    "rows.py": GOOD_TASK.replace("[0, 1, 0, 1]", "[0, 1, 0]"),
    "width.py": GOOD_TASK.replace("np.zeros((4, 2))", "np.zeros((4, 5))"),
    "text.py": GOOD_TASK.replace("np.zeros((4, 2))", "np.array(['a', 'b', 'c', 'd'])"),
    "no-pair.py": GOOD_TASK.replace("np.zeros((4, 2)), ", ""),
    "not-a-model.py": GOOD_TASK.replace("MLP(2, 3, 2)", "[2, 3, 2]"),
    "a-file": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def tree(folder: Path) -> Mapping[str, bytes | None]:
    """All files with their bytes, and all directories; Python's own cache is not ours."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


Refused = Callable[..., str]


@pytest.fixture
def refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """What `p2pfl node` says of some options, having checked how it says it."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "home"))

    def refused(*options: str, state: str = "state") -> str:
        before = tree(folder)
        with pytest.raises(SystemExit) as ended:
            main(["node", *options, "--state-dir", state])
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert said.out == ""
        (sentence,) = said.err.splitlines()
        assert sentence.startswith("p2pfl: ")
        assert tree(folder) == before
        return sentence

    return refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--config unknown.toml",
            "unknown.toml and options: unknown key 'rnu', did you mean 'run'?",
        ),
        ("--config deep.toml", "unknown key 'gossip.out_standing', did you mean 'outstanding'?"),
        ("--config type.toml", "type.toml and options: 'port' is 'many': "),
        ("--config deep-type.toml", "deep-type.toml and options: 'train.steps_max' is 'many': "),
        ("--config bounds.toml", "weight x outstanding is 1.8, must be <= 1"),
        ("--config gone.toml", "--config gone.toml: No such file or directory"),
        ("--config .", "--config .: Is a directory"),
        ("--config prose.toml", "--config prose.toml: not TOML: "),
        ("--set nothing", "--set nothing: expected KEY=VALUE, as in gossip.codec=int8"),
        ("--set =3", "--set =3: expected KEY=VALUE"),
        ("--set gosip.codec=int8", "unknown key 'gosip', did you mean 'gossip'?"),
        ("--set name.first=anna", "'name' must be a table ([name] in TOML) to hold 'first'"),
        ("--set gossip.codec=int9", "'gossip.codec' is 'int9': "),
        ("--port 65536", "'port' is 65536: "),
        ("--minutes 0", "'stop.minutes' is 0.0: Input should be greater than 0"),
        ("--run ", "'run' is '': "),
        ("--topology rnig", "neighbour rule 'rnig': no such rule; did you mean 'ring'?"),
        ("--peer 192.168.1.5", "no port, expected HOST:PORT as in 192.168.1.5:4000"),
        ("--peer fd00::5:4000", "write an IPv6 address in brackets"),
        ("--shard 6/5", "shard is 6/5, must be 1/5 .. 5/5"),
        ("--shard one", "shard 'one' is not of the form 3/20"),
        (
            "--partition dirichlet:0.1",
            "partition dirichlet:0.1 does nothing without a shard; add --shard",
        ),
        ("--partition dirichelt", "unknown partition 'dirichelt'; did you mean 'dirichlet'?"),
        ("--shard 1/9999", "9999"),
        ("--interface nowhere0", "unknown interface 'nowhere0', known: lo (127.0.0.1"),
        ("--bind 192.0.2.77", "cannot listen on 192.0.2.77:0: "),
        ("--name a\tb", "name is 'a\\tb', expected 1 to 64 printable characters"),
    ],
)
def test_a_wrong_option_is_one_sentence(refused: Refused, options: str, said: str) -> None:
    assert said in refused(TASK, *LOOPBACK, *options.split(" "))


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("digit", "no task 'digit': did you mean 'digits'?"),
        ("gone.py", "gone.py: no such file; 'p2pfl init gone.py' writes a template"),
        ("no-model.py", "no-model.py: has no function 'model', did you mean 'modle'?"),
        ("syntax.py", "syntax.py, line 1: SyntaxError: "),
        ("raises.py", "raises.py, line 9: train_data(): FileNotFoundError: "),
        ("nan.py", "nan.py: train_data(): x has NaN in 4 of 4 rows, first row 0"),
        ("rows.py", "rows.py: train_data(): x has 4 rows but y has 3, expected equally many"),
        ("width.py", "x of shape (4, 5) does not fit MLP(inputs=2, hidden=3, classes=2)"),
        ("text.py", "text.py: train_data(): x has dtype <U1, expected numbers"),
        ("no-pair.py", "no-pair.py: train_data() gives ndarray, expected (x, y)"),
        ("not-a-model.py", "model() gives list of 3, expected a torch.nn.Module or a numpy model"),
    ],
)
def test_a_task_that_cannot_be_used_is_one_sentence(refused: Refused, task: str, said: str) -> None:
    assert said in refused(task, *LOOPBACK)


def test_without_a_task_the_sentence_names_one(refused: Refused) -> None:
    assert "no TASK given; try `p2pfl node digits`" in refused()


def test_a_port_in_use_is_one_sentence(refused: Refused) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        said = refused(TASK, *LOOPBACK, "--port", str(port))
    assert f"port {port} is in use; give another --port, or 0 for any free one" in said


@pytest.mark.parametrize("state", ["a-file", "a-file/below"])
def test_a_state_directory_that_is_a_file_is_one_sentence(refused: Refused, state: str) -> None:
    said = refused(TASK, *LOOPBACK, state=state)
    assert f"state directory {state} cannot be used: it, or a directory above it, is a file" in said


def test_a_state_directory_of_another_model_or_run_is_left_alone(
    folder: Path, refused: Refused
) -> None:
    mine = [*PROGRAM, "node", TASK, "--no-mdns", *LOOPBACK, "--state-dir", "state"]
    subprocess.run([*mine, "--cycles", "1", "--quiet"], cwd=folder, check=True, timeout=PATIENCE_S)
    said = refused("breast-cancer", *LOOPBACK)
    assert "state directory state belongs to run 'default', model " in said
    assert "give this node another --state-dir, or delete that one" in said
    assert "but this node is of run 'other'" in refused(TASK, *LOOPBACK, "--run", "other")


async def test_a_state_directory_of_a_running_node_is_left_alone(nodes: Nodes) -> None:
    anna = nodes.start("anna", "--no-mdns")
    before = (await anna.ready())["incarnation"]
    done = await p2pfl(
        "node", TASK, *LOOPBACK, "--run", nodes.run, "--state-dir", str(anna.state_dir)
    )
    assert done.code == 2
    assert done.errors == (
        f"p2pfl: state directory {anna.state_dir} is in use by process {anna.pid}; "
        "stop it, or give this node another --name or --state-dir\n"
    )
    identity = json.loads((anna.state_dir / IDENTITY).read_text(encoding="utf-8"))
    assert identity["incarnation"] == before
    cycles = (await anna.status())["cycles"]
    await anna.until(lambda now: now["cycles"] > cycles)


async def test_a_process_ends_with_the_sentence_and_exit_code_two(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = await p2pfl("node", "digit", *LOOPBACK, "--state-dir", str(state))
    assert (done.code, done.out) == (2, "")
    assert done.errors.startswith("p2pfl: no task 'digit': did you mean 'digits'?")
    assert not state.exists()


def test_torch_is_named_where_it_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{WITHOUT_TORCH}; main(['node', 'digits', '--no-mdns'])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith("p2pfl: ")
    assert "pip install 'p2pfl-node[torch]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from p2pfl.cli import main"
