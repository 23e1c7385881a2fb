"""The built-in data, and the user's own .npz."""

import subprocess
import sys

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.datasets import DATASETS, breast_cancer, digits, load_npz, mnist5k

SIZES = {"digits": (1797, 64, 10), "mnist5k": (5000, 784, 10), "breast-cancer": (569, 30, 2)}


@pytest.mark.parametrize("name", DATASETS)
def test_a_built_in_set_is_whole_float32_and_split_by_class(name):
    total, features, classes = SIZES[name]
    data = DATASETS[name]()
    (x, y), (x_test, y_test) = data.train, data.test
    assert len(x) == len(y)
    assert len(x_test) == len(y_test)
    assert len(x) + len(x_test) == total
    assert x.shape[1] == x_test.shape[1] == features
    assert {x.dtype, x_test.dtype} == {np.dtype(np.float32)}
    assert {y.dtype, y_test.dtype} == {np.dtype(np.int64)}
    everything = np.bincount(y, minlength=classes) + np.bincount(y_test, minlength=classes)
    np.testing.assert_allclose(np.bincount(y_test) / everything, 0.2, atol=0.005)


@pytest.mark.parametrize("load", [digits, mnist5k])
def test_pixels_are_between_nothing_and_one(load):
    for x, _ in (load().train, load().test):
        assert (x.min(), x.max()) == (0, 1)


def test_breast_cancer_is_standardised_by_its_training_part_alone():
    x, _ = breast_cancer().train
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-5)
    assert np.abs(breast_cancer().test[0].mean(axis=0)).max() > 1e-3


def test_built_in_data_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        digits().train[0][0] = 1


def test_the_digits_are_those_of_scikit_learn():
    program = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from p2pfl.learning.datasets import breast_cancer, digits
x, y = load_digits(return_X_y=True)
mine = digits()
a = sorted(map(tuple, np.column_stack([x / 16, y])))
b = sorted(map(tuple, np.vstack([np.column_stack(p) for p in (mine.train, mine.test)])))
assert np.array_equal(a, b)
_, y = load_breast_cancer(return_X_y=True)
assert np.bincount(np.concatenate([breast_cancer().train[1], breast_cancer().test[1]])).tolist() \
    == np.bincount(y).tolist()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_package_is_an_error_that_says_how_to_install_it(name, monkeypatch):
    for package in ("sklearn", "mlxtend"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TaskError, match=r"is not installed: pip install 'p2pfl-node\[demo\]'"):
        DATASETS[name].__wrapped__()


def test_the_official_loader_is_asked_when_the_file_is_not_where_expected(tmp_path):
    package = tmp_path / "sklearn" / "datasets"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(
        "import numpy as np\n"
        "def load_digits(return_X_y):\n"
        "    return np.full((100, 64), 8.0), np.arange(100) % 10\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from p2pfl.learning.datasets import digits\n"
        "x, y = digits().train\n"
        "assert x.shape == (80, 64) and (x == 0.5).all() and sorted(set(y)) == list(range(10))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_npz_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "data.npz"
    x, y = np.random.default_rng(0).random((9, 3)), np.arange(9)
    np.savez(path, x=x, y=y, x_test=x[:2], y_test=y[:2])
    got = load_npz(path)
    np.testing.assert_allclose(got[0], x, rtol=1e-6)
    np.testing.assert_array_equal(got[1], y)
    assert len(load_npz(str(path), "x_test", "y_test")[0]) == 2


def test_a_missing_npz_says_how_to_make_one(tmp_path):
    with pytest.raises(TaskError, match=r"data.npz: no such file; write it with numpy.savez"):
        load_npz(tmp_path / "data.npz")


def test_an_npz_without_the_array_names_those_it_has(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(TaskError, match="has no array 'y', it has x, labels"):
        load_npz(tmp_path / "data.npz")


def test_an_npz_of_python_objects_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([{}, []], object), y=np.zeros(2))
    with pytest.raises(TaskError, match="an array cannot be read: Object arrays"):
        load_npz(tmp_path / "data.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"x,y\n1,2\n", b"\x80\x04."])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=r"not an .npz file"):
        load_npz(path)


def test_a_single_npy_and_a_folder_are_refused(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros(3))
    with pytest.raises(TaskError, match=r"not an .npz file"):
        load_npz(tmp_path / "data.npy")
    with pytest.raises(TaskError, match="cannot be read"):
        load_npz(tmp_path)


def test_bad_numbers_in_an_npz_name_the_file_and_the_array(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3), y=np.zeros(3, int), x_test=np.array([np.nan]))
    with pytest.raises(TaskError, match=r"data.npz: x_test has NaN in 1 of 1 rows"):
        load_npz(tmp_path / "data.npz", "x_test", "y")


def test_a_damaged_array_inside_an_npz_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.arange(1000.0), y=np.zeros(1000, int))
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(TaskError, match="an array cannot be read: Bad CRC"):
        load_npz(path)
