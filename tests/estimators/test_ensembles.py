"""Networks side by side in an estimator, and what a preset chooses for its rows."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV

from nanotorch.estimators import MLPClassifier, MLPRegressor, MLPSearchCV

FEW: dict[str, Any] = {"max_iter": 3, "n_iter_no_change": np.inf, "random_state": 0}


def of_members(weights: dict[str, Any], X: Any, layers: int) -> Any:
    """The outputs of each member by NumPy alone, (rows, members, outputs)."""
    values = np.repeat(X[:, None, :], weights["output.weight"].shape[0], 1)
    for name in [*(f"linear{number}" for number in range(layers)), "output"]:
        values = np.einsum("nki,kio->nko", values, weights[f"{name}.weight"]) + weights[f"{name}.bias"]
        if name != "output":
            values = np.maximum(values, 0)
    return values


def test_the_mean_of_the_members_predicts() -> None:
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((7, 5), members=3, dropout=0.1, **FEW).fit(X, y)
    odds = np.exp(of_members(model.weights_, X, 2))
    expected = (odds / odds.sum(-1, keepdims=True)).mean(1)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-9)
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    model = MLPClassifier((4,), members=3, **FEW).fit(X, y)
    expected = (1 / (1 + np.exp(-of_members(model.weights_, X, 1)[..., 0]))).mean(1)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expected, rtol=1e-9)
    X, y = load_diabetes(return_X_y=True)
    numbers = MLPRegressor(hidden_layer_sizes=(4,), members=3, **FEW).fit(X, y)
    np.testing.assert_allclose(numbers.predict(X), of_members(numbers.weights_, X, 1).mean(1)[:, 0], rtol=1e-9)
    again = pickle.loads(pickle.dumps(numbers))
    assert again.predict(X).tobytes() == numbers.predict(X).tobytes()
    with pytest.raises(AttributeError, match="see weights_"):
        _ = numbers.coefs_
    with pytest.raises(ValueError, match="more members"):
        clone(numbers).set_params(batch_norm=True).fit(X, y)


def test_one_member_is_a_network_as_ever() -> None:
    X, y = load_iris(return_X_y=True)
    one, plain = MLPClassifier((5,), members=1, **FEW).fit(X, y), MLPClassifier((5,), **FEW).fit(X, y)
    assert {name: array.tobytes() for name, array in one.weights_.items()} == {
        name: array.tobytes() for name, array in plain.weights_.items()
    }


def test_a_preset_chooses_what_was_left_as_it_is_by_default() -> None:
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((6,), preset="default", max_iter=2, random_state=0)
    before = model.get_params()
    model.fit(X, y)
    assert model.get_params() == before and model.n_iter_ == 2
    assert set(model.preset_) == {
        "members",
        "dropout",
        "optimizer",
        "schedule",
        "learning_rate_init",
        "batch_size",
        "n_iter_no_change",
    }
    assert model.weights_["linear0.weight"].shape == (model.preset_["members"], 4, 6)
    assert model.preset_["optimizer"]["name"] == "AdamW" and len(model.history_) == 2
    plain = MLPClassifier((6,), max_iter=2, random_state=0, **model.preset_).fit(X, y)
    assert plain.predict_proba(X).tobytes() == model.predict_proba(X).tobytes() and plain.preset_ == {}
    kept = clone(model).set_params(solver="sgd", learning_rate="invscaling", batch_norm=True).fit(X, y)
    assert not {"optimizer", "schedule"} & set(kept.preset_) and kept.preset_["members"] == 1
    with pytest.raises(ValueError, match="partial_fit does not support it"):
        clone(model).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="preset must be"):
        clone(model).set_params(preset="best").fit(X, y)


def test_a_search_takes_presets() -> None:
    X, y = load_iris(return_X_y=True)
    grid = {"preset": [None, "default"], "members": [1, 2]}
    network = MLPClassifier((4,), **FEW)
    ours, theirs = (search(network, grid, cv=2).fit(X, y) for search in (MLPSearchCV, GridSearchCV))
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
