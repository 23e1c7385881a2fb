"""Checkpoints: what was saved comes back, damage is noticed, no crash costs more than one save."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file

from p2pfl import __version__
from p2pfl.core.weights import PIECE, Entry, Layout, Vector
from p2pfl.edge.checkpoint import NEWEST, PREVIOUS, Checkpoints, newest
from p2pfl.edge.sealed import METADATA, RESERVED, read
from p2pfl.errors import ConfigError, StateError
from p2pfl.ports import Saved, Store

NODE = "0123456789abcdef" * 2
LAYOUT = Layout((Entry("fc.weight", (3, 2)), Entry("fc.bias", (2,)), Entry("scale", ())))


def store(directory: Path, layout: Layout = LAYOUT, run: str = "digits") -> Checkpoints:
    return Checkpoints(directory, layout, run=run, node=NODE, incarnation=3, wall=lambda: 1.7e9)


def state(value: float, layout: Layout = LAYOUT, *, momentum: bool = True) -> Saved:
    x = np.full(layout.size, value, np.float32)
    return Saved(x, x + 1 if momentum else None, x + 2 if momentum else None, int(value), 5, 2)


def value_of(saved: Saved | None) -> float | None:
    if saved is None:
        return None
    (value,) = set(saved.weights.tolist())
    assert saved.age == value
    return value


def assert_same(a: Saved | None, b: Saved) -> None:
    assert a is not None
    assert (a.age, a.own_steps, a.cycles) == (b.age, b.own_steps, b.cycles)
    for ours, theirs in zip(
        (a.weights, a.momentum, a.previous), (b.weights, b.momentum, b.previous), strict=True
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.dtype == np.float32
            assert ours.tobytes() == theirs.tobytes()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name.isprintable() and not name.startswith(RESERVED) and name != METADATA
)
layouts = st.lists(
    st.tuples(names, st.lists(st.integers(0, 4), max_size=3)), max_size=5, unique_by=lambda e: e[0]
).map(lambda entries: Layout(tuple(Entry(name, tuple(shape)) for name, shape in entries)))


def vectors(size: int) -> st.SearchStrategy[Vector]:
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return hnp.arrays(np.float32, size, elements=finite)


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[Layout, Saved]:
    layout = draw(layouts)
    flat = vectors(layout.size)
    count = st.integers(0, 2**70)
    extra = st.none() | flat
    return layout, Saved(
        draw(flat), draw(extra), draw(extra), draw(count), draw(count), draw(count)
    )


# --- round trip ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(laid_out())
def test_load_gives_bit_for_bit_what_was_saved(case: tuple[Layout, Saved]) -> None:
    layout, saved = case
    with TemporaryDirectory() as directory:
        store(Path(directory), layout).save(saved)
        assert_same(store(Path(directory), layout).load(), saved)


@settings(deadline=None)
@given(laid_out())
def test_the_safetensors_library_reads_names_shapes_and_values(case: tuple[Layout, Saved]) -> None:
    layout, saved = case
    with TemporaryDirectory() as directory:
        store(Path(directory), layout).save(saved)
        arrays = load_file(Path(directory) / NEWEST)
    expected = dict(layout.views(saved.weights))
    for name in ("momentum", "previous"):
        if (flat := getattr(saved, name)) is not None:
            expected[f"p2pfl:{name}"] = flat
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].shape == array.shape
        assert arrays[name].dtype == np.float32
        assert arrays[name].tobytes() == array.tobytes()


def test_the_safetensors_library_opens_the_file_and_reads_the_metadata(tmp_path: Path) -> None:
    store(tmp_path).save(state(7))
    with safe_open(tmp_path / NEWEST, framework="np") as file:
        metadata = file.metadata()
        assert file.get_slice("fc.weight").get_shape() == [3, 2]
        assert set(file.keys()) == {"fc.weight", "fc.bias", "scale", *metadata_names()}
    assert len(metadata.pop("blake2b")) == 32
    assert metadata == {
        "format": "p2pfl-checkpoint-1",
        "run": "digits",
        "layout": LAYOUT.digest,
        "node": NODE,
        "incarnation": "3",
        "age": "7",
        "own_steps": "5",
        "cycles": "2",
        "saved_at": "2023-11-14T22:13:20+00:00",
        "p2pfl": __version__,
    }


def metadata_names() -> set[str]:
    return {"p2pfl:momentum", "p2pfl:previous"}


def test_loaded_vectors_are_the_nodes_own_and_can_be_written(tmp_path: Path) -> None:
    store(tmp_path).save(state(1))
    saved = store(tmp_path).load()
    assert saved is not None
    assert saved.momentum is not None
    np.add(saved.weights, 1, out=saved.weights)
    np.add(saved.momentum, 1, out=saved.momentum)
    assert_same(store(tmp_path).load(), state(1))


def test_nothing_saved_is_none_and_loading_writes_nothing(tmp_path: Path) -> None:
    assert store(tmp_path).load() is None
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_a_store() -> None:
    keep: type[Store] = Checkpoints
    assert keep is Checkpoints


def test_the_present_checkpoint_becomes_the_previous(tmp_path: Path) -> None:
    checkpoints = store(tmp_path)
    for value in (1, 2, 3):
        checkpoints.save(state(value))
    assert value_of(read(tmp_path / NEWEST).saved) == 3
    assert value_of(read(tmp_path / PREVIOUS).saved) == 2
    store(tmp_path).save(state(4))
    assert value_of(read(tmp_path / PREVIOUS).saved) == 3
    assert {file.name for file in tmp_path.iterdir()} == {NEWEST, PREVIOUS}


def test_a_vector_of_another_length_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    store(tmp_path).save(state(1))
    wrong = Saved(np.zeros(9, np.float32), np.zeros(8, np.float32), None, 1, 1, 1)
    with pytest.raises(ConfigError, match=r"vector is \(8,\), expected 9 values"):
        store(tmp_path).save(wrong)
    assert [file.name for file in tmp_path.iterdir()] == [NEWEST]


@pytest.mark.parametrize("name", ["p2pfl:momentum", "p2pfl:x", "__metadata__", "a\0b", "\ud800"])
def test_a_parameter_name_that_cannot_be_saved_is_refused_at_once(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be saved; rename it"):
        store(tmp_path, Layout((Entry(name, (2,)),)))


def test_parameters_may_be_called_momentum_and_previous(tmp_path: Path) -> None:
    layout = Layout((Entry("momentum", (2,)), Entry("previous", (1,)), Entry("blake2b", ())))
    store(tmp_path, layout).save(state(4, layout))
    assert_same(store(tmp_path, layout).load(), state(4, layout))


# --- another run or model -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "run"), [(LAYOUT, "mnist"), (Layout((Entry("w", (9,)),)), "digits")]
)
def test_a_checkpoint_of_another_run_or_model_is_refused_and_names_both(
    tmp_path: Path, layout: Layout, run: str
) -> None:
    store(tmp_path).save(state(1))
    with pytest.raises(StateError) as caught:
        store(tmp_path, layout, run).load()
    for part in ("'digits'", f"'{run}'", LAYOUT.digest, layout.digest, NEWEST, "--state-dir"):
        assert part in str(caught.value)


# --- damage -------------------------------------------------------------------------------------


def test_a_flipped_bit_of_any_byte_is_noticed(tmp_path: Path) -> None:
    store(tmp_path).save(state(1))
    path = tmp_path / NEWEST
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in {5, at % 8}:  # the fifth turns small letters into capitals
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            with pytest.raises(StateError, match="is damaged"):
                read(path)


def test_any_truncation_and_any_appended_byte_is_noticed(tmp_path: Path) -> None:
    store(tmp_path).save(state(1))
    path = tmp_path / NEWEST
    good = path.read_bytes()
    for bad in [good[:end] for end in range(len(good))] + [good + b"\0", good + b" " * 8]:
        path.write_bytes(bad)
        with pytest.raises(StateError, match="is damaged"):
            read(path)


@settings(deadline=None)
@given(laid_out(), st.data())
def test_any_stretch_of_other_bytes_is_noticed(
    case: tuple[Layout, Saved], data: st.DataObject
) -> None:
    layout, saved = case
    with TemporaryDirectory() as directory:
        store(Path(directory), layout).save(saved)
        path = Path(directory) / NEWEST
        good = path.read_bytes()
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, len(good)))
        bad = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
        path.write_bytes(bad)
        if bad == good:
            assert_same(read(path).saved, saved)
        else:
            with pytest.raises(StateError, match="is damaged"):
                read(path)


OPENING = b'{"__metadata__":{"blake2b":"' + b"0" * 32 + b'"'
DEEP = b',"x":' + b"[" * 5000


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.binary(max_size=60))
@example(b"}}", True, b"")
@example(b',"a":7}}', True, b"")
@example(b',"blake2b":7}}', True, b"")
@example(b'},"__metadata__":{}}', True, b"")
@example(b'},"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}', True, b"12345678")
@example(b'},"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}', True, b"")
@example(b'},"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', True, b"0" * 12)
@example(b'},"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,399999999996]}}', True, b"")
@example(b'},"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,0]}}', True, b"")
@example(b'},"a":null}', True, b"")
@example(DEEP, True, b"")
def test_no_header_however_odd_is_more_than_damage(tail: bytes, known: bool, data: bytes) -> None:
    text = (OPENING if known else b"") + tail
    with TemporaryDirectory() as directory:
        path = Path(directory) / NEWEST
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        with pytest.raises(StateError, match="is damaged"):
            read(path)


def test_a_header_that_disagrees_with_itself_is_noticed_even_under_a_right_checksum(
    tmp_path: Path,
) -> None:
    store(tmp_path).save(state(1))
    path = tmp_path / NEWEST
    good = path.read_bytes()
    seal = slice(8 + len(OPENING) - 33, 8 + len(OPENING) - 1)
    bad = good.replace(b'"data_offsets":[0,24]', b'"data_offsets":[8,32]')
    assert bad != good
    digest = blake2b(bad[: seal.start] + b"0" * 32 + bad[seal.stop :], digest_size=16)
    path.write_bytes(bad[: seal.start] + digest.hexdigest().encode() + bad[seal.stop :])
    with pytest.raises(StateError, match=r"'fc.weight' lies at \(8, 32\), expected \(0, 24\)"):
        read(path)


@pytest.mark.parametrize(
    ("said", "instead", "told"),
    [
        (b'"age":"1"', b'"age":"x"', "its age is 'x', expected a number"),
        (b'"age":"1"', b'"old":"1"', "its age is '', expected a number"),
        (b'"cycles":"', b'"cycles":"-', "its cycles is '-"),
        (b'"run":', b'"ran":', "it does not say of which run and model it is"),
    ],
)
def test_metadata_that_no_node_writes_are_damage_even_under_a_right_checksum(
    tmp_path: Path, said: bytes, instead: bytes, told: str
) -> None:
    store(tmp_path).save(state(1))
    path = tmp_path / NEWEST
    good = path.read_bytes()
    assert said in good
    bad = good.replace(said, instead)
    length = int.from_bytes(bad[:8], "little") + len(bad) - len(good)
    bad = length.to_bytes(8, "little") + bad[8:]
    seal = slice(8 + len(OPENING) - 33, 8 + len(OPENING) - 1)
    digest = blake2b(bad[: seal.start] + b"0" * 32 + bad[seal.stop :], digest_size=16)
    path.write_bytes(bad[: seal.start] + digest.hexdigest().encode() + bad[seal.stop :])
    with pytest.raises(StateError, match=told):
        read(path)


def test_values_that_are_not_finite_count_as_damage(tmp_path: Path) -> None:
    saved = state(1)
    assert saved.momentum is not None
    saved.momentum[3] = np.nan
    store(tmp_path).save(saved)
    with pytest.raises(StateError, match="not finite"):
        read(tmp_path / NEWEST)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


def two_saved(directory: Path) -> None:
    checkpoints = store(directory)
    checkpoints.save(state(1))
    checkpoints.save(state(2))


def test_a_damaged_newest_falls_back_to_the_previous_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_saved(tmp_path)
    damage(tmp_path / NEWEST)
    with caplog.at_level(logging.WARNING):
        assert value_of(store(tmp_path).load()) == 1
    (message,) = caplog.messages
    assert str(tmp_path / NEWEST) in message
    assert "checksum" in message


def test_a_missing_newest_falls_back_to_the_previous_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_saved(tmp_path)
    (tmp_path / NEWEST).unlink()
    assert value_of(store(tmp_path).load()) == 1
    assert "is missing" in caplog.text


def test_a_newest_that_cannot_be_opened_falls_back_too(tmp_path: Path) -> None:
    two_saved(tmp_path)
    (tmp_path / NEWEST).unlink()
    (tmp_path / NEWEST).mkdir()
    assert value_of(store(tmp_path).load()) == 1


def test_a_good_newest_is_used_without_a_word_whatever_the_previous_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_saved(tmp_path)
    damage(tmp_path / PREVIOUS)
    assert value_of(store(tmp_path).load()) == 2
    assert caplog.messages == []


def test_both_damaged_is_an_error_that_names_both_and_the_fix(tmp_path: Path) -> None:
    two_saved(tmp_path)
    damage(tmp_path / NEWEST)
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(StateError) as caught:
        store(tmp_path).load()
    for part in (str(tmp_path / NEWEST), str(tmp_path / PREVIOUS), "checksum", "delete"):
        assert part in str(caught.value)


@pytest.mark.parametrize("loads", [True, False])
def test_a_damaged_newest_never_pushes_the_good_previous_out(tmp_path: Path, loads: bool) -> None:
    two_saved(tmp_path)
    damage(tmp_path / NEWEST)
    checkpoints = store(tmp_path)
    if loads:
        checkpoints.load()
    checkpoints.save(state(3))
    assert value_of(read(tmp_path / NEWEST).saved) == 3
    assert value_of(read(tmp_path / PREVIOUS).saved) == 1
    checkpoints.save(state(4))
    assert value_of(read(tmp_path / PREVIOUS).saved) == 3


# --- crashes ------------------------------------------------------------------------------------

CRASHES = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import NEWEST, Checkpoints
from p2pfl.ports import Saved

layout = Layout((Entry("w", (300_000,)),))
root, before, spoil, loads = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

def store(directory, step=lambda _: None):
    return Checkpoints(directory, layout, run="r", node="0" * 32, incarnation=1, step=step)

def state(value):
    x = np.full(layout.size, value, np.float32)
    return Saved(x, x, None, value, 0, 0)

def die_at(count, left=[0]):
    def step(name):
        left[0] += 1
        if left[0] == count:
            os.write(2, f"{name}\\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
    return step

died, count = True, 0
while died:
    count += 1
    directory = root / str(count)
    directory.mkdir()
    for value in range(1, before + 1):
        store(directory).save(state(value))
    if spoil == "spoil":
        with (directory / NEWEST).open("r+b") as file:
            file.seek(-9, 2)
            file.write(b"?")
    pid = os.fork()
    if pid == 0:
        checkpoints = store(directory, die_at(count))
        if loads == "load":
            checkpoints.load()
        checkpoints.save(state(9))
        os._exit(0)
    died = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    found = store(directory).load()
    assert found is None or set(found.weights.tolist()) == {found.age}
    store(directory).save(state(10))
    names = sorted(path.name for path in directory.iterdir())
    print(json.dumps([found and found.age, store(directory).load().age, names]))
"""


@pytest.mark.parametrize("loads", ["load", "straight"])
@pytest.mark.parametrize(
    ("before", "spoil", "old"), [(0, "", None), (1, "", 1), (2, "", 2), (2, "spoil", 1)]
)
def test_a_node_killed_at_any_step_of_a_save_finds_the_old_state_or_the_new_one(
    tmp_path: Path, before: int, spoil: str, old: int | None, loads: str
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CRASHES, tmp_path, str(before), spoil, loads],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stderr
    found, later, files = zip(*map(json.loads, answer.stdout.splitlines()), strict=True)
    steps = [line for line in answer.stderr.splitlines() if " is " not in line]
    kept = ["kept"] if before and not spoil else []
    pieces_each = -(-300_000 // PIECE)
    assert steps == [
        "opened",
        *["written"] * (1 + 2 * pieces_each),
        "sealed",
        "synced",
        *kept,
        "replaced",
        "directory synced",
    ]
    # up to the last rename the old one is found, from there on the new one
    new_from = steps.index("replaced")
    assert found == (old,) * new_from + (9,) * (len(steps) + 1 - new_from)
    assert set(later) == {10}
    assert all(set(names) <= {NEWEST, PREVIOUS} for names in files)


SAVING = """
import sys
from pathlib import Path
import numpy as np
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.ports import Saved
layout = Layout((Entry("w", (300_000,)),))
store = Checkpoints(Path(sys.argv[1]), layout, run="r", node="0" * 32, incarnation=1)
found = store.load()
value = found.age if found else 0
while True:
    value += 1
    x = np.full(layout.size, value, np.float32)
    store.save(Saved(x, x, x, value, 0, 0))
    print(value, flush=True)
"""


def test_a_node_killed_while_it_saves_again_and_again_loses_no_save_it_was_told_of(
    tmp_path: Path,
) -> None:
    layout = Layout((Entry("w", (300_000,)),))
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", SAVING, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            told = [int(child.stdout.readline()) for _ in range(4)]
            child.kill()
            told += map(int, child.stdout.read().split())
        value = value_of(store(tmp_path, layout, "r").load())
        assert value in (told[-1], told[-1] + 1)


# --- a full disk --------------------------------------------------------------------------------

TOO_LARGE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from p2pfl.core.weights import Entry, Layout
from p2pfl.edge.checkpoint import Checkpoints
from p2pfl.ports import Saved
layout = Layout((Entry("w", (300_000,)),))
directory, whole = Path(sys.argv[1]), 2_400_000
store = Checkpoints(directory, layout, run="r", node="0" * 32, incarnation=1)
x = np.ones(layout.size, np.float32)
store.save(Saved(x, x, None, 1, 0, 0))
store.save(Saved(2 * x, x, None, 2, 0, 0))
for limit in (0, 1, 100, 1000, 1_050_000, 1_300_000, whole, whole + 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.save(Saved(3 * x, x, None, 3, 0, 0))
        answer = "saved"
    except OSError as error:
        answer = error.strerror
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print(json.dumps([answer, store.load().age, sorted(p.name for p in directory.iterdir())]))
store.save(Saved(4 * x, x, None, 4, 0, 0))
print(json.dumps(["saved", store.load().age, sorted(p.name for p in directory.iterdir())]))
"""


def test_a_file_that_may_not_grow_at_any_point_leaves_the_previous_and_no_rest(
    tmp_path: Path,
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    *failed, last = map(json.loads, answer.stdout.splitlines())
    assert failed == [["File too large", 2, [PREVIOUS, NEWEST]]] * 8
    assert last == ["saved", 4, [PREVIOUS, NEWEST]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_raises_leaves_the_previous_and_is_forgotten_when_there_is_room_again(
    small_disk: Path,
) -> None:
    layout = Layout((Entry("w", (100_000,)),))
    checkpoints = store(small_disk, layout)
    checkpoints.save(state(1, layout, momentum=False))
    (small_disk / "ballast").write_bytes(b"0" * 300_000)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            checkpoints.save(state(2, layout, momentum=False))
        assert caught.value.errno == errno.ENOSPC
        assert {file.name for file in small_disk.iterdir()} == {NEWEST, "ballast"}
        assert value_of(store(small_disk, layout).load()) == 1
    (small_disk / "ballast").unlink()
    checkpoints.save(state(3, layout, momentum=False))
    assert value_of(store(small_disk, layout).load()) == 3


# --- threads and memory -------------------------------------------------------------------------


def test_weights_that_change_while_they_are_saved_give_a_sound_file(tmp_path: Path) -> None:
    layout = Layout((Entry("w", (3 * PIECE,)),))
    saved = state(1, layout)

    def mix(_: str) -> None:
        np.add(saved.weights, 1, out=saved.weights)

    Checkpoints(tmp_path, layout, run="r", node=NODE, incarnation=1, step=mix).save(saved)
    found = read(tmp_path / NEWEST).saved.weights
    assert len(set(found.tolist())) == 3
    assert (np.diff(found) >= 0).all()


def test_weights_that_another_thread_changes_without_pause_give_sound_files(
    tmp_path: Path,
) -> None:
    layout = Layout((Entry("w", (2_000_000,)),))
    saved, checkpoints = state(1, layout), store(tmp_path, layout)
    done = threading.Event()

    def mix() -> None:
        while not done.is_set():
            np.add(saved.weights, 1, out=saved.weights)

    thread = threading.Thread(target=mix)
    thread.start()
    try:
        for _ in range(5):
            checkpoints.save(saved)
            read(tmp_path / NEWEST)
    finally:
        done.set()
        thread.join()


def test_two_saves_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    layout = Layout((Entry("w", (200_000,)),))
    checkpoints = store(tmp_path, layout)
    threads = [
        threading.Thread(target=checkpoints.save, args=(state(value, layout),))
        for value in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pair = {value_of(read(tmp_path / name).saved) for name in (NEWEST, PREVIOUS)}
    assert len(pair) == 2
    assert pair <= set(range(1, 9))


def test_saving_copies_no_more_than_a_few_pieces_of_the_model(tmp_path: Path) -> None:
    layout = Layout((Entry("w", (4_000_000,)),))
    saved, checkpoints = state(1, layout), store(tmp_path, layout)
    tracemalloc.start()
    checkpoints.save(saved)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 * 2**20


@pytest.mark.parametrize(("training", "vectors"), [(True, 3), (False, 1)])
def test_loading_takes_the_vectors_asked_for_and_no_more_than_a_few_pieces(
    tmp_path: Path, training: bool, vectors: int
) -> None:
    layout = Layout((Entry("w", (4_000_000,)),))
    store(tmp_path, layout).save(state(1, layout))
    tracemalloc.start()
    found = newest(tmp_path, training=training)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert (found.saved.momentum is not None) == training
    assert peak_bytes < vectors * 16_000_000 + 4 * 2**20
