"""`p2pfl export`: the model of the newest good checkpoint, whole or not at all."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from p2pfl import __version__
from p2pfl.core.weights import Entry, Layout, Vector
from p2pfl.edge.checkpoint import NEWEST, PREVIOUS, Checkpoints
from p2pfl.edge.export import FORMATS, export
from p2pfl.edge.identity import StateDir
from p2pfl.errors import ConfigError, StateError
from p2pfl.ports import Saved

NODE = "0123456789abcdef" * 2
LAYOUT = Layout((Entry("fc.weight", (3, 2)), Entry("fc.bias", (2,)), Entry("scale", ())))
ABOUT = {
    "run": "digits",
    "layout": LAYOUT.digest,
    "node": NODE,
    "incarnation": "1",
    "p2pfl": __version__,
    "age": "40",
    "own_steps": "20",
    "cycles": "4",
    "saved_at": "2023-11-14T22:13:20+00:00",
}


def checkpoints(directory: Path, layout: Layout = LAYOUT) -> Checkpoints:
    return Checkpoints(
        directory, layout, run="digits", node=NODE, incarnation=1, wall=lambda: 1.7e9
    )


def saved(weights: Vector) -> Saved:
    return Saved(weights, weights + 1, weights + 2, 40, 20, 4)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    checkpoints(directory).save(saved(np.arange(9, dtype=np.float32)))
    return directory


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name != "__metadata__"}


def about_of(path: Path) -> dict[str, str]:
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return dict(json.loads(str(archive["__metadata__"])))
    with safe_open(path, framework="np") as file:
        metadata = dict(file.metadata())
    assert len(metadata.pop("blake2b")) == 32
    assert metadata.pop("format") == "pt"
    return metadata


@pytest.mark.parametrize("ending", FORMATS)
def test_the_model_comes_with_its_names_shapes_and_metadata_and_nothing_else(
    state_dir: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"model{ending}"
    found = export(state_dir, out)
    assert found.saved.age == 40
    assert found.layout.size == 9
    arrays = arrays_of(out)
    assert list(arrays) == ["fc.weight", "fc.bias", "scale"] or ending == ".safetensors"
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "fc.weight": [[0, 1], [2, 3], [4, 5]],
        "fc.bias": [6, 7],
        "scale": 8,
    }
    assert about_of(out) == ABOUT


def test_torch_loads_the_export_strictly(state_dir: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    model = torch.nn.ModuleDict({"fc": torch.nn.Linear(2, 3)})
    layout = Layout((Entry("fc.weight", (3, 2)), Entry("fc.bias", (3,))))
    checkpoints(state_dir, layout).save(saved(np.arange(9, dtype=np.float32)))
    export(state_dir, tmp_path / "m.safetensors")
    model.load_state_dict(load_torch(tmp_path / "m.safetensors"), strict=True)
    assert model["fc"].bias.tolist() == [6, 7, 8]


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name.isprintable() and not name.startswith(("p2pfl:", "__metadata__"))
)


@settings(deadline=None)
@given(
    st.dictionaries(names, st.lists(st.integers(0, 3), max_size=3), max_size=4),
    st.sampled_from(list(FORMATS)),
)
def test_any_layout_can_be_exported(shapes: dict[str, list[int]], ending: str) -> None:
    layout = Layout(tuple(Entry(name, tuple(shape)) for name, shape in shapes.items()))
    weights = np.arange(layout.size, dtype=np.float32)
    with TemporaryDirectory() as place:
        directory, out = Path(place), Path(place) / f"m{ending}"
        checkpoints(directory, layout).save(saved(weights))
        export(directory, out)
        arrays = arrays_of(out)
    assert arrays.keys() == shapes.keys()
    for name, view in layout.views(weights).items():
        assert arrays[name].dtype == np.float32
        assert np.array_equal(arrays[name], view)


def test_parameters_called_file_and_args_do_not_disturb_an_npz(tmp_path: Path) -> None:
    layout = Layout(tuple(Entry(name, (2,)) for name in ("file", "args", "allow_pickle", "arr_0")))
    checkpoints(tmp_path, layout).save(saved(np.arange(8, dtype=np.float32)))
    export(tmp_path, tmp_path / "m.npz")
    assert arrays_of(tmp_path / "m.npz")["allow_pickle"].tolist() == [4, 5]


# --- what is read -------------------------------------------------------------------------------


def test_a_running_nodes_directory_is_exported_and_left_as_it_was(
    state_dir: Path, tmp_path: Path
) -> None:
    with StateDir.open(state_dir, run="digits", layout=LAYOUT):
        before = {path.name: path.read_bytes() for path in state_dir.iterdir()}
        export(state_dir, tmp_path / "m.npz")
        assert {path.name: path.read_bytes() for path in state_dir.iterdir()} == before


SAVING = """
import sys
from pathlib import Path
import numpy as np
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.ports import Saved
layout = Layout((Entry("w", (100_000,)),))
store = Checkpoints(Path(sys.argv[1]), layout, run="r", node="0" * 32, incarnation=1)
for value in range(1, 1_000_000):
    x = np.full(layout.size, value, np.float32)
    store.save(Saved(x, x, x, value, 0, 0))
    if value == 1:
        print("saved", flush=True)
"""


def test_exports_while_a_node_saves_all_the_time_are_whole_and_at_most_one_save_behind(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SAVING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "saved\n"
            ages = []
            for _ in range(30):
                found = export(tmp_path, tmp_path / "m.safetensors", overwrite=True)
                (value,) = set(arrays_of(tmp_path / "m.safetensors")["w"].tolist())
                assert found.saved.age == value
                ages.append(value)
        finally:
            child.kill()
    # between the two renames of a save only the previous one can be seen
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(ages))


def test_a_damaged_newest_is_passed_over_and_two_are_an_error(
    state_dir: Path, tmp_path: Path
) -> None:
    checkpoints(state_dir).save(saved(np.full(9, 5, np.float32)))
    (state_dir / NEWEST).write_bytes(b"nonsense")
    export(state_dir, tmp_path / "m.npz")
    assert arrays_of(tmp_path / "m.npz")["scale"] == 8
    (state_dir / PREVIOUS).write_bytes(b"nonsense too")
    with pytest.raises(StateError, match=r"no checkpoint can be used.*delete"):
        export(state_dir, tmp_path / "n.npz")
    assert not (tmp_path / "n.npz").exists()


def test_an_export_holds_the_model_once_and_never_the_momentum(tmp_path: Path) -> None:
    layout = Layout((Entry("w", (4_000_000,)),))
    checkpoints(tmp_path, layout).save(saved(np.ones(layout.size, np.float32)))
    tracemalloc.start()
    export(tmp_path, tmp_path / "m.safetensors")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16_000_000 + 4 * 2**20


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.pt", "m", "m.safetensors.gz", ".npz"])
def test_an_unknown_ending_is_refused_and_names_the_known_ones(
    state_dir: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.safetensors or \.npz"):
        export(state_dir, tmp_path / name)


def test_an_ending_in_capitals_is_the_same_ending(state_dir: Path, tmp_path: Path) -> None:
    export(state_dir, tmp_path / "M.NPZ")
    assert (tmp_path / "M.NPZ").is_file()


def test_a_missing_and_an_empty_state_directory_are_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no state directory .*nowhere; give the one"):
        export(tmp_path / "nowhere", tmp_path / "m.npz")
    with pytest.raises(ConfigError, match=r"holds no checkpoint; wait until"):
        export(tmp_path, tmp_path / "m.npz")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_overwrite_is_said(
    state_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.npz"
    out.write_text("mine")
    with pytest.raises(ConfigError, match=r"exists; give another name, or --overwrite"):
        export(state_dir, out)
    assert out.read_text() == "mine"
    export(state_dir, out, overwrite=True)
    assert arrays_of(out)["scale"] == 8


def test_a_directory_in_place_of_the_output_is_refused_even_with_overwrite(
    state_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.npz").mkdir()
    with pytest.raises(ConfigError, match="exists; give another name"):
        export(state_dir, tmp_path / "m.npz", overwrite=True)


@pytest.mark.parametrize("name", [NEWEST, PREVIOUS])
def test_a_nodes_own_checkpoint_is_never_overwritten(state_dir: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="one of the node's own checkpoints"):
        export(state_dir, state_dir / ".." / state_dir.name / name, overwrite=True)
    assert [file.name for file in state_dir.iterdir()] == [NEWEST]


def test_an_output_in_a_directory_that_does_not_exist_is_refused(
    state_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"there is no directory .*away"):
        export(state_dir, tmp_path / "away" / "m.npz")
    assert not (tmp_path / "away").exists()


TOO_LARGE = """
import resource, sys
from pathlib import Path
from p2pfl.edge.export import export
from p2pfl.errors import ConfigError
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    export(Path(sys.argv[1]), Path(sys.argv[2]), overwrite=True)
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("ending", FORMATS)
def test_an_output_that_cannot_be_written_leaves_the_old_one_and_no_rest(
    state_dir: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"m{ending}"
    out.write_text("mine")
    answer = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, state_dir, out],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert answer.stdout == f"cannot export {state_dir} to {out}: File too large\n", answer.stderr
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"state", out.name}
