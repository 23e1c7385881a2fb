"""What is learned: a task is a few plain functions, built in or from the user's own Python file.

    model()        a torch.nn.Module, or a numpy model (SoftmaxRegression, MLP, or alike)
    train_data()   (x, y), samples along the first dimension
    test_data()    (x, y)
    loss(outputs, targets)      optional, torch: a scalar tensor
    optimizer(parameters)       optional, torch: a torch.optim.Optimizer
    metrics(outputs, targets)   optional: numpy arrays -> dict of numbers

and, if the defaults do not suit, the constants `batch_size`, `learning_rate`, `weight_decay` and
`buffers`. What `model()` returns decides which learner runs it.

Rule of the file: nobody pays for what a task does not use; torch is imported only if `model()` is a
torch module, data packages only if their data are asked for.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from p2pfl.errors import TaskError
from p2pfl.learning import datasets
from p2pfl.learning.batches import run_seed
from p2pfl.learning.checks import Arrays, Metrics, calling, checked_data
from p2pfl.learning.guarded import Guarded
from p2pfl.learning.numpy_learner import MLP, NumpyLearner, NumpyModel, SoftmaxRegression
from p2pfl.learning.partition import Shard, shift_of, shifted, take
from p2pfl.ports import Learner

REQUIRED = ("model", "train_data", "test_data")
OPTIONAL = ("loss", "optimizer", "metrics")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is learned, from what, and how.

    Attributes:
        name: of a built-in task, or of the user's file.
        model, train_data, test_data, loss, optimizer, metrics: the functions above. The learner
            binds the model's parameters to its flat buffer before it calls `optimizer`.
        batch_size: samples per local step, >= 1.
        learning_rate: eta of plain SGD, > 0; an `optimizer` brings its own.
        weight_decay: of plain SGD, >= 0.
        buffers: "local" or "average": whether a torch module's floating buffers (BatchNorm
            statistics) travel with its weights.
        path: the user's file, None for a built-in task.

    Raises:
        TaskError: a constant is out of bounds.
    """

    name: str
    model: Callable[[], Any]
    train_data: Callable[[], Any]
    test_data: Callable[[], Any]
    loss: Callable[[Any, Any], Any] | None = None
    optimizer: Callable[[Any], Any] | None = None
    metrics: Metrics | None = None
    batch_size: int = 16
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    buffers: str = "local"
    path: Path | None = None

    def __post_init__(self) -> None:
        for name in (*REQUIRED, *OPTIONAL):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name in REQUIRED):
                raise TaskError(f"{self.name}: {name} is {value!r}, expected a function")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise TaskError(f"{self.name}: batch_size is {self.batch_size!r}, must be >= 1")
        if not (_is_number(self.learning_rate) and self.learning_rate > 0):
            raise TaskError(f"{self.name}: learning_rate is {self.learning_rate!r}, must be > 0")
        if not (_is_number(self.weight_decay) and self.weight_decay >= 0):
            raise TaskError(f"{self.name}: weight_decay is {self.weight_decay!r}, must be >= 0")
        if self.buffers not in ("local", "average"):
            raise TaskError(f"{self.name}: buffers is {self.buffers!r}, must be local or average")


def adapted(
    task: Task, *, learning_rate: float | None = None, batch_size: int | None = None
) -> Task:
    """The same task with another learning rate or batch size; None leaves the task's own.

    Raises:
        TaskError: a value is out of bounds, or the task's optimizer would not look at it.
    """
    if learning_rate is not None and task.optimizer is not None:
        raise TaskError(
            f"{task.name}: optimizer() brings its own learning rate, {learning_rate:g} is for "
            "plain SGD"
        )
    given = {"learning_rate": learning_rate, "batch_size": batch_size}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return replace(task, **changes) if changes else task


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# --- built in -----------------------------------------------------------------------------------


def _perceptron(*widths: int) -> Callable[[], Any]:
    """A torch model with ReLU between linear layers of these widths."""

    def model() -> Any:
        from torch import nn

        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return model


def _built_in(
    name: str,
    data: Callable[[], datasets.DataSet],
    model: Callable[[], Any],
    learning_rate: float = 0.1,
) -> Task:
    return Task(
        name=name,
        model=model,
        train_data=lambda: data().train,
        test_data=lambda: data().test,
        learning_rate=learning_rate,
    )


BUILT_IN: dict[str, Task] = {
    task.name: task
    for task in (
        _built_in("digits", datasets.digits, _perceptron(64, 32, 10)),
        _built_in("digits-numpy", datasets.digits, lambda: MLP(64, 32, 10)),
        _built_in("mnist5k", datasets.mnist5k, _perceptron(784, 128, 10)),
        _built_in("breast-cancer", datasets.breast_cancer, lambda: SoftmaxRegression(30, 2), 0.02),
    )
}


# --- from a file --------------------------------------------------------------------------------


def find_task(text: str) -> Task:
    """The built-in task of that name, or the task in the Python file at that path.

    Raises:
        TaskError: there is neither, or the file cannot be used; the text says what to do.
    """
    if text in BUILT_IN:
        return BUILT_IN[text]
    path = Path(text).expanduser().absolute()
    if path.is_file():
        return _load(path)
    if path.suffix == ".py":
        raise TaskError(f"{text}: no such file; 'p2pfl init {text}' writes a template")
    near = difflib.get_close_matches(text, BUILT_IN, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"built in are {', '.join(BUILT_IN)}"
    raise TaskError(f"no task '{text}': {hint}; or give the path of a Python file")


def _load(path: Path) -> Task:
    """Run the user's file as a module and take from it what has a meaning to us."""
    name = f"p2pfl_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path.name}: is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)  # the user's file may import its neighbours, as a script can
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        with calling("running the file", path):
            spec.loader.exec_module(module)
    except TaskError:
        del sys.modules[name]
        raise
    found = vars(module)
    for required in REQUIRED:
        if required not in found:
            near = difflib.get_close_matches(required, found, n=1)
            hint = f", did you mean '{near[0]}'?" if near else f"; define {required}()"
            raise TaskError(f"{path.name}: has no function '{required}'{hint}")
    known = {field.name for field in fields(Task)} - {"name", "path"}
    return Task(name=path.name, path=path, **{key: found[key] for key in known if key in found})


# --- the learner --------------------------------------------------------------------------------


def build_learner(
    task: Task, *, run: str, seed: int, shard: Shard | None = None, threads: int | None = 1
) -> Learner:
    """The learner of a task: model and data checked, and tried on a few samples.

    Args:
        task: what to learn.
        run: name of the run; its hash seeds the initial weights, so all nodes start equal.
        seed: of this node's batch order, >= 0.
        shard: the part of the training data that is this node's; all of it if None.
        threads: of torch, for the whole process; None leaves torch's own choice.

    Raises:
        TaskError: the user's code raised, or what it gives cannot be used; one sentence.
    """
    parts = prepare(task, run)
    train = parts.train
    if shard is not None:
        mine = take(train[1], shard)
        shift = shift_of(math.prod(train[0].shape[1:]), shard)
        train = train[0][mine], train[1][mine]
        if shift is not None:
            train = shifted(train[0], shift), train[1]
    return parts.learner(train, seed, threads, parts.model)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task's model and data, checked: what learners are built from.

    Attributes:
        task: what to learn.
        start: seed of the initial weights.
        model: what `model()` gave: a numpy model or a torch module.
        train, test: (x, y), all samples.
    """

    task: Task
    start: int
    model: Any
    train: Arrays
    test: Arrays

    @property
    def is_numpy(self) -> bool:
        """Whether the model is a numpy model; otherwise it is a torch module."""
        return not _is_module(self.model)

    def learner(self, train: Arrays, seed: int, threads: int | None, module: Any = None) -> Learner:
        """A learner of these training data, tried on a few samples.

        Args:
            train: (x, y), this node's samples.
            seed: of its batch order, >= 0.
            threads: of torch, for the whole process; None leaves torch's own choice.
            module: the torch module that it takes over; a new one if None.

        Raises:
            TaskError: the user's code raised, or what it gives cannot be used; one sentence.
        """
        task = self.task
        if self.is_numpy:
            learner = _numpy_learner(task, self.model, train, self.test, self.start, seed)
        else:
            learner = _torch_learner(task, module, train, self.test, self.start, seed, threads)
        return learner if task.path is None else Guarded(learner, task.path)


def prepare(task: Task, run: str) -> Prepared:
    """Model and data of a task, checked.

    Raises:
        TaskError: the user's code raised, or what it gives cannot be used; one sentence.
    """
    train = _data(task, "train_data", task.train_data)
    test = _data(task, "test_data", task.test_data)
    start = run_seed(run)
    with calling("model()", task.path):
        model = _model(task, start)
    is_numpy = isinstance(model, NumpyModel) and not isinstance(model, type)
    if not is_numpy and not _is_module(model):
        raise TaskError(
            f"{task.name}: model() gives {_told(model)}, expected a torch.nn.Module or a numpy "
            "model such as p2pfl.learning.numpy_learner.MLP"
        )
    return Prepared(task, start, model, train, test)


def _data(task: Task, name: str, function: Callable[[], Any]) -> Arrays:
    with calling(f"{name}()", task.path):
        given = function()
    where = f"{task.name}: {name}()"
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TaskError(f"{where} gives {_told(given)}, expected (x, y)")
    return checked_data(given[0], given[1], where)


def _model(task: Task, start: int) -> Any:
    """What `model()` gives, drawn from the run's seed if it draws from torch."""
    if "torch" not in sys.modules:
        model = task.model()
        if "torch" not in sys.modules:
            return model
    # torch may have come in with the call itself: drawn again, now from the seed
    from p2pfl.learning.torch_flat import drawn

    return drawn(task.model, start)


def _is_module(model: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _numpy_learner(
    task: Task, model: NumpyModel, train: Arrays, test: Arrays, start: int, seed: int
) -> Learner:
    for name in ("loss", "optimizer"):
        if getattr(task, name) is not None:
            raise TaskError(f"{task.name}: {name}() is for torch, a numpy model brings its own")
    with calling("model()", task.path):
        return NumpyLearner(
            model,
            train,
            test,
            run_seed=start,
            seed=seed,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            weight_decay=task.weight_decay,
            metrics=task.metrics,
        )


def _torch_learner(
    task: Task,
    module: Any,
    train: Arrays,
    test: Arrays,
    start: int,
    seed: int,
    threads: int | None,
) -> Learner:
    from p2pfl.learning.torch_learner import TorchLearner

    with calling("model() or optimizer()", task.path):
        learner = TorchLearner(
            task.model,
            train,
            test,
            run_seed=start,
            seed=seed,
            loss=task.loss,
            optimizer=task.optimizer,
            metrics=task.metrics,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            weight_decay=task.weight_decay,
            buffers="average" if task.buffers == "average" else "local",
            threads=threads,
            module=module,
        )
    with calling(f"model and loss on x of shape {train[0].shape} {train[0].dtype}", task.path):
        learner.try_out()
    return learner


def _told(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    return type(value).__name__ + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
