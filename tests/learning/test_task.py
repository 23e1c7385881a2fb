"""Tasks: built in or from a file, and one clear sentence where they cannot be used."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.partition import Partition, Shard, take
from p2pfl.learning.task import BUILT_IN, Task, build_learner, find_task

GOOD = """
import numpy as np
from p2pfl.learning.numpy_learner import SoftmaxRegression

def model():
    return SoftmaxRegression(2, 2)

def train_data():
    return np.arange(200.0).reshape(100, 2) / 200, np.arange(100) % 2

def test_data():
    return np.zeros((4, 2)), np.array([0, 1, 0, 1])
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a task file; what loading it does to the interpreter is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = iter(range(99))

    def write(*parts):
        path = tmp_path / f"mine{next(written)}.py"
        path.write_text("\n".join(textwrap.dedent(part) for part in parts))
        return str(path)

    yield write
    for name in [name for name in sys.modules if name.startswith("p2pfl_task_")]:
        del sys.modules[name]


def built(path, **options):
    return build_learner(find_task(path), **({"run": "test", "seed": 0} | options))


def failing(path):
    with pytest.raises(TaskError) as caught:
        built(path)
    return str(caught.value)


# --- built in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_task_learns(name):
    learner = built(name)
    weights = learner.initial()
    before = learner.evaluate(weights)
    after = learner.evaluate(weights + learner.step(weights, 200, None).delta)
    assert after.accuracy > max(0.8, before.accuracy)
    assert after.loss < before.loss


def test_the_built_in_models_are_those_that_are_promised():
    sizes = {name: built(name).layout.size for name in BUILT_IN}
    assert sizes == {
        "digits": 64 * 32 + 32 + 32 * 10 + 10,
        "digits-numpy": 64 * 32 + 32 + 32 * 10 + 10,
        "mnist5k": 784 * 128 + 128 + 128 * 10 + 10,
        "breast-cancer": 30 * 2 + 2,
    }


@pytest.mark.parametrize("name", ["digits", "digits-numpy"])
def test_nodes_of_a_run_start_equal_and_those_of_another_do_not(name):
    one, other = built(name, run="a", seed=1), built(name, run="a", seed=2)
    np.testing.assert_array_equal(one.initial(), other.initial())
    assert not np.array_equal(one.initial(), built(name, run="b").initial())
    deltas = [x.step(one.initial(), 1, None).delta for x in (one, other)]
    assert not np.array_equal(*deltas)


@pytest.mark.parametrize("name", ["digits-numpy", "breast-cancer"])
def test_a_task_in_numpy_imports_neither_torch_nor_scikit_learn(name):
    program = f"""
import sys
from p2pfl.learning.partition import parse_shard
from p2pfl.learning.task import build_learner, find_task
shard = parse_shard("1/3", "dirichlet:0.5")
learner = build_learner(find_task({name!r}), run="r", seed=0, shard=shard)
learner.evaluate(learner.step(learner.initial(), 5, learner.initial()).delta)
heavy = {{"torch", "sklearn", "scipy", "pandas", "mlxtend", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_torch_model_starts_equal_even_where_torch_comes_in_with_it():
    program = """
import sys
from p2pfl.learning.task import build_learner, find_task
assert "torch" not in sys.modules
for _ in range(2):
    print(build_learner(find_task("digits"), run="r", seed=0).initial().tobytes().hex()[:64])
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    first, second = run.stdout.split()
    assert first == second


# --- a file -------------------------------------------------------------------------------------


def test_a_file_with_three_functions_is_a_task(write):
    path = write(GOOD)
    task = find_task(path)
    assert (task.name, str(task.path)) == ("mine0.py", path)
    assert (task.batch_size, task.learning_rate) == (16, 0.1)
    assert built(path).layout.size == 6


def test_optional_functions_and_constants_are_taken(write):
    path = write(
        GOOD,
        """
        batch_size, learning_rate, weight_decay = 4, 0.25, 0.5
        def metrics(outputs, targets):
            return {"rows": len(targets)}
        """,
    )
    learner = built(path)
    assert learner.evaluate(learner.initial()).metrics == {"rows": 4}
    assert learner.step(learner.initial(), 1, None).learning_rate == 0.25
    task = find_task(path)
    assert (task.batch_size, task.weight_decay) == (4, 0.5)


def test_a_torch_file_uses_its_own_loss_and_optimizer(write):
    path = write(
        GOOD,
        """
        import torch
        def model():
            return torch.nn.Linear(2, 2)
        def loss(outputs, targets):
            return outputs.square().mean()
        def optimizer(parameters):
            return torch.optim.Adam(parameters, lr=0.03)
        """,
    )
    learner = built(path)
    assert learner.step(learner.initial(), 1, None).learning_rate == 0.03


def test_a_file_may_import_its_neighbours_and_define_dataclasses(write, tmp_path):
    (tmp_path / "beside_the_task.py").write_text("WIDTH = 2\n")
    path = write(
        "from __future__ import annotations",
        GOOD,
        """
        from dataclasses import dataclass
        from beside_the_task import WIDTH
        @dataclass
        class Options:
            width: int = WIDTH
        """,
    )
    assert built(path).layout.size == 6


def test_a_shard_takes_its_part_of_the_training_data_only(write):
    path = write(
        GOOD,
        """
        def metrics(outputs, targets):
            return {"rows": len(targets)}
        """,
    )
    shard = Shard(1, 4, Partition("dirichlet", 1.0), seed=3)
    mine = take(np.arange(100) % 2, shard)
    learner = built(path, shard=shard)
    one_epoch = learner.step(learner.initial(), 1, None)
    expected = built(
        write(
            GOOD,
            f"""
            x, y = train_data()
            mine = {mine.tolist()}
            def train_data():
                return x[mine], y[mine]
            """,
        )
    )
    np.testing.assert_array_equal(one_epoch.delta, expected.step(learner.initial(), 1, None).delta)
    assert learner.evaluate(learner.initial()).metrics["rows"] == 4


# --- what can be wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("digts", "no task 'digts': did you mean 'digits'?; or give the path of a Python file"),
        ("cats", "built in are digits, digits-numpy, mnist5k, breast-cancer; or give the path"),
        ("no/such.py", "no/such.py: no such file; 'p2pfl init no/such.py' writes a template"),
    ],
)
def test_a_task_that_is_not_there_says_what_is(text, said):
    with pytest.raises(TaskError) as caught:
        find_task(text)
    assert said in str(caught.value)


def test_a_file_that_is_not_python_is_refused(tmp_path):
    (tmp_path / "task.toml").touch()
    with pytest.raises(TaskError, match=r"task.toml: is not a Python file"):
        find_task(str(tmp_path / "task.toml"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import numpy\ndef model(:\n", "line 2: SyntaxError: invalid syntax"),
        ("x = 1\n\nx / 0\n", "line 3: running the file: ZeroDivisionError: division by zero"),
        (
            "import no_such_thing\n",
            "line 1: running the file: ModuleNotFoundError: No module named",
        ),
        ("import sys\nsys.exit(3)\n", "line 2: running the file: SystemExit: 3"),
        ("x = 1\n", "has no function 'model'; define model()"),
    ],
)
def test_a_file_that_cannot_be_run_names_its_line(write, source, said):
    message = failing(write(source))
    assert message.startswith("mine0.py")
    assert said in message
    assert "p2pfl_task_mine0" not in sys.modules or "has no function" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("del model", "mine0.py: has no function 'model'; define model()"),
        ("traindata = train_data; del train_data", "'train_data', did you mean 'traindata'?"),
        ("del test_data", "has no function 'test_data'"),
        ("train_data = 3", "mine0.py: train_data is 3, expected a function"),
        ("loss = 0.5", "mine0.py: loss is 0.5, expected a function"),
        ("model = lambda: 3", "model() gives int, expected a torch.nn.Module or a numpy model"),
        ("model = lambda: None", "model() gives NoneType, expected"),
        ("model = lambda: SoftmaxRegression", "gives the class SoftmaxRegression itself"),
        ("model = lambda: SoftmaxRegression(3, 2)", "x of shape (100, 2) does not fit Softmax"),
        ("train_data = lambda: {}", "train_data() gives dict, expected (x, y)"),
        ("test_data = lambda: (1, 2, 3)", "test_data() gives tuple of 3, expected (x, y)"),
        ("train_data = lambda: ([[0, np.nan]], [1])", "train_data(): x has NaN in 1 of 1 rows"),
        ("train_data = lambda: (np.zeros((3, 2)), [0])", "x has 3 rows but y has 1"),
        ("train_data = lambda: 1 / 0", "train_data(): ZeroDivisionError"),
        ("def loss(o, t): ...", "loss() is for torch, a numpy model brings its own"),
        ("def optimizer(p): ...", "optimizer() is for torch"),
        ("batch_size = 0", "mine0.py: batch_size is 0, must be >= 1"),
        ("batch_size = 1.5", "batch_size is 1.5, must be >= 1"),
        ("learning_rate = -1", "learning_rate is -1, must be > 0"),
        ("learning_rate = float('nan')", "learning_rate is nan, must be > 0"),
        ("weight_decay = '0'", "weight_decay is '0', must be >= 0"),
        ("buffers = 'mixed'", "buffers is 'mixed', must be local or average"),
    ],
)
def test_a_file_that_gives_the_wrong_thing_is_told_so(write, change, said):
    assert said in failing(write(GOOD, change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model = lambda: nn.Linear(3, 2)", "on x of shape (100, 2) float32: RuntimeError: mat1"),
        ("model = lambda: nn.Linear(2, 1)", "y has class 1, the model gives 1 outputs"),
        ("model = lambda: nn.ReLU()", "ReLU with no parameter to train"),
        ("optimizer = lambda p: 3", "optimizer() gives int"),
        ("optimizer = lambda p: 1 / 0", "model() or optimizer(): ZeroDivisionError"),
        ("loss = lambda o, t: o", "loss() gives Tensor of shape (4, 2)"),
        ("loss = lambda o, t: o.no", "AttributeError: 'Tensor' object has no attribute 'no'"),
    ],
)
def test_a_torch_file_that_does_not_fit_is_told_so(write, change, said):
    torch = "from torch import nn\nmodel = lambda: nn.Linear(2, 2)"
    message = failing(write(GOOD, torch, change)).replace("shape (8, 2)", "shape (4, 2)")
    assert said in message


def test_the_line_inside_the_users_function_is_named(write):
    path = write(GOOD, "def train_data():\n    rows = 0\n    return 1 / rows\n")
    line = GOOD.count("\n") + 4
    assert failing(path).startswith(f"mine0.py, line {line}: train_data(): ZeroDivisionError")


def test_a_task_is_checked_wherever_it_comes_from():
    with pytest.raises(TaskError, match="x: model is 3, expected a function"):
        Task(name="x", model=3, train_data=dict, test_data=dict)


def test_too_few_samples_for_the_shards_are_refused(write):
    with pytest.raises(TaskError, match="100 samples cannot give 11 nodes at least 10 each"):
        built(write(GOOD), shard=Shard(0, 11))
