"""The numpy models: their gradients are the derivatives of their losses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.learning.numpy_models import MLP, NumpyModel, SoftmaxRegression, cross_entropy

MODELS = [SoftmaxRegression(5, 3), MLP(5, 4, 3)]


def reference_loss(model, vector, x, y):
    """The loss in float64, written as its definition."""
    w = {name: a.astype(np.float64) for name, a in model.layout.views(vector).items()}
    if isinstance(model, MLP):
        x = np.maximum(x @ w["weight1"] + w["bias1"], 0) @ w["weight2"] + w["bias2"]
    else:
        x = x @ w["weight"] + w["bias"]
    return np.mean(np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(y)), y])


def gradient(model, vector, x, y):
    out = np.full_like(vector, np.nan)
    loss = model.gradient(model.layout.views(vector), x, y, model.layout.views(out))
    return loss, out


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_agrees_with_finite_differences(model, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((7, 5), dtype=np.float32)
    y = rng.integers(3, size=7)
    vector = model.initial(rng) + 0.1 * rng.standard_normal(model.layout.size, dtype=np.float32)
    loss, got = gradient(model, vector, x, y)
    assert loss == pytest.approx(reference_loss(model, vector, x, y), rel=1e-5)
    step = 1e-6
    wide = vector.astype(np.float64)
    for at in range(vector.size):
        up, down = wide.copy(), wide.copy()
        up[at] += step
        down[at] -= step
        slope = reference_loss(model, up, x, y) - reference_loss(model, down, x, y)
        assert got[at] == pytest.approx(slope / (2 * step), abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_the_gradient_changes_neither_weights_nor_data(model):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 5), dtype=np.float32), np.array([0, 1, 2, 0])
    vector = model.initial(rng)
    before = vector.copy(), x.copy(), y.copy()
    gradient(model, vector, x, y)
    for now, then in zip((vector, x, y), before, strict=True):
        np.testing.assert_array_equal(now, then)


@given(st.integers(1, 8), st.integers(2, 6), st.floats(0, 1e6), st.integers(0, 99))
def test_the_loss_is_finite_for_any_finite_scores(rows, classes, scale, seed):
    rng = np.random.default_rng(seed)
    scores = (scale * rng.standard_normal((rows, classes))).astype(np.float32)
    loss = cross_entropy(scores, rng.integers(classes, size=rows))
    assert np.isfinite(loss)
    np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-5)


@pytest.mark.parametrize("model", [SoftmaxRegression(400, 200), MLP(400, 200, 200)])
def test_initial_weights_have_the_variance_of_he_and_biases_are_nothing(model):
    views = model.layout.views(model.initial(np.random.default_rng(0)))
    for name, array in views.items():
        if array.ndim == 1:
            assert not array.any()
        else:
            assert array.std() == pytest.approx(np.sqrt(2 / array.shape[0]), rel=0.02), name


@pytest.mark.parametrize("model", MODELS)
def test_the_models_are_what_the_learner_expects(model):
    assert isinstance(model, NumpyModel)
    assert not isinstance(object(), NumpyModel)
