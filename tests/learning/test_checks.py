"""The border to the user's code: what is acceptable, and what is said of the rest."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2pfl.errors import LearnerError, TaskError
from p2pfl.learning.checks import calling, checked_data, checked_metrics

GOOD = np.zeros((120, 4)), np.zeros(120, int)


def with_values(values, rows):
    x = GOOD[0].copy()
    x[rows, 1] = values
    return x


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (with_values(np.nan, [17, 30, 99]), GOOD[1], "x has NaN in 3 of 120 rows, first row 17"),
        (with_values(np.inf, [5]), GOOD[1], r"x has infinity .* in 1 of 120 rows, first row 5"),
        (with_values(1e300, [5]), GOOD[1], r"x has infinity .* in 1 of 120 rows, first row 5"),
        (GOOD[0], np.full(120, np.nan), "y has NaN in 120 of 120 rows, first row 0"),
        (GOOD[0], GOOD[1][:119], "x has 120 rows but y has 119, expected equally many"),
        (np.empty((0, 4)), np.empty(0, int), r"x has shape \(0, 4\), expected at least one row"),
        (1.0, 1, r"x has shape \(\), expected at least one row"),
        (GOOD[0], np.array(["cat"] * 120), "y has dtype <U3, expected numbers"),
        (GOOD[0].astype(complex), GOOD[1], "x has dtype complex128, expected numbers"),
        (np.array([{}] * 120), GOOD[1], "x has dtype object, expected numbers"),
        ([[1, 2], [3]], [0, 1], "x is not an array of numbers"),
        (GOOD[0], np.arange(120) - 3, "y has class -3 in row 0, classes are 0, 1, 2"),
    ],
)
def test_bad_data_are_refused_in_one_sentence(x, y, said):
    with pytest.raises(TaskError, match=r"^train_data\(\): " + said):
        checked_data(x, y, "train_data()")


@given(
    hnp.arrays(np.float32, (30, 2), elements=st.floats(-1000, 1000, width=32)),
    st.sets(st.integers(0, 29), min_size=1),
)
def test_bad_rows_are_counted_and_the_first_is_named(x, rows):
    x[sorted(rows), 0] = np.nan
    with pytest.raises(TaskError, match=rf"NaN in {len(rows)} of 30 rows, first row {min(rows)}$"):
        checked_data(x, np.zeros(30, int), "data")


def test_huge_but_finite_samples_are_accepted():
    x, _ = checked_data(np.full((3, 2), 3e38), [0, 1, 2], "data")
    assert np.isfinite(x).all()


def test_floats_become_float32_classes_int64_and_integer_samples_stay():
    x, y = checked_data([[0.5], [1.5]], np.array([True, False]), "data")
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    pixels, targets = checked_data(np.zeros((2, 3), np.uint8), np.zeros(2, np.float16), "data")
    assert (pixels.dtype, targets.dtype) == (np.uint8, np.float32)


def test_data_that_need_no_conversion_are_not_copied():
    x, y = np.zeros((5, 2), np.float32), np.zeros(5, np.int64)
    checked = checked_data(x, y, "data")
    assert checked[0] is x
    assert checked[1] is y


def test_the_users_exception_becomes_a_task_error_that_names_the_line(tmp_path):
    path = tmp_path / "mine.py"
    source = "def f():\n    x = 1\n    return x / 0\n"
    scope = {}
    exec(compile(source, path, "exec"), scope)
    said = r"mine.py, line 3: f\(\): ZeroDivisionError: division"
    with pytest.raises(TaskError, match=said), calling("f()", path):
        scope["f"]()


def test_our_own_errors_and_interrupts_pass_the_border_unchanged():
    for error in (LearnerError("loss is nan"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, calling("f()", Path("mine.py")):
            raise error
        assert caught.value is error


def test_sys_exit_in_the_users_file_is_an_error_and_not_the_end():
    with pytest.raises(TaskError, match="SystemExit: 3"), calling("running the file"):
        raise SystemExit(3)


def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(TaskError, match=r"pip install 'p2pfl-node\[torch\]'"), calling("model()"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")


def test_metrics_are_plain_numbers_by_name():
    figures = checked_metrics(lambda o, t: {"f1": np.float32(0.5)}, np.zeros(1), np.zeros(1))
    assert figures == {"f1": 0.5}
    assert type(figures["f1"]) is float


@pytest.mark.parametrize("figures", [[0.5], {"f1": "high"}, {"f1": None}, 0.5, None])
def test_metrics_of_another_form_are_refused(figures):
    with pytest.raises(TaskError, match=r"metrics\(\) must return a dict of numbers, got"):
        checked_metrics(lambda o, t: figures, np.zeros(1), np.zeros(1))
