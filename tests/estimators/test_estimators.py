"""The scikit-learn estimators: the same training as scikit-learn's own, and everything around it."""

from __future__ import annotations

import inspect
import io
import json
import math
import pickle
import pickletools
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_linnerud, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nanotorch as torch
from fake_gpu import fake_gpu
from nanotorch.estimators import MLPClassifier, MLPRegressor
from nanotorch.ops.create.random import default_generator
from nanotorch.train.fit.loop import DivergedError
from oracle import pytorch

FIXED: dict[str, Any] = {"n_iter_no_change": math.inf, "random_state": 0}  # no early end, no ConvergenceWarning


@pytest.fixture(scope="module")
def iris() -> tuple[Any, Any]:
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def cancer() -> tuple[Any, Any]:
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def linnerud() -> tuple[Any, Any]:
    X, y = load_linnerud(return_X_y=True)
    return StandardScaler().fit_transform(X), StandardScaler().fit_transform(y)


# ------------------------------------------------------------ the same training as scikit-learn's


def alike(ours: Any, theirs: Any, X: Any, y: Any, weight: Any = None) -> None:
    """Give both the same initial weights, train both, and compare."""
    begin = {"max_iter": 1, "learning_rate_init": 1e-12}
    ours.set_params(dtype="float64", shuffle=False, warm_start=True, n_iter_no_change=math.inf)
    theirs.set_params(shuffle=False, warm_start=True, n_iter_no_change=1000)
    shared = {name: ours.get_params()[name] for name in begin}
    ours.set_params(**begin).fit(X, y)
    theirs.set_params(**begin).fit(X, y)
    theirs.coefs_ = [array.copy() for array in ours.coefs_]
    theirs.intercepts_ = [array.copy() for array in ours.intercepts_]
    theirs.t_ = 0  # by which "invscaling" goes
    ours.set_params(**shared).fit(X, y, sample_weight=weight)
    theirs.set_params(**shared).fit(X, y, sample_weight=weight)
    assert ours.n_iter_ == theirs.n_iter_ == ours.max_iter
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-5)


SAME: list[dict[str, Any]] = [
    {},
    {"activation": "tanh", "hidden_layer_sizes": (7, 5)},
    {"activation": "logistic"},
    {"activation": "identity"},
    {"solver": "sgd", "learning_rate_init": 0.05},
    {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False, "momentum": 0.5},
    {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    # Without momentum: PyTorch's sums gradients, scikit-learn's sums steps, and they differ where the rate changes.
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "power_t": 0.2, "momentum": 0.0},
    {"beta_1": 0.8, "beta_2": 0.9, "alpha": 1.0},
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("arguments", SAME, ids=str)
def test_training_is_that_of_scikit_learn(arguments: dict[str, Any], iris: Any) -> None:
    # A tiny epsilon, since scikit-learn adds it before Adam's correction for the first steps, and PyTorch after.
    base = {"hidden_layer_sizes": (8,), "batch_size": 30, "max_iter": 6, "random_state": 0, "epsilon": 1e-14}
    arguments = {**base, **arguments}
    alike(MLPClassifier(**arguments), TheirClassifier(**arguments), *iris)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_and_regression_are_trained_as_scikit_learn_does(weighted: bool, iris: Any, linnerud: Any) -> None:
    X, y = iris
    arguments = {"hidden_layer_sizes": (8,), "batch_size": 150, "max_iter": 6, "alpha": 0.1, "random_state": 0}
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(X)) if weighted else None
    sgd = {**arguments, "solver": "sgd", "learning_rate_init": 0.05}
    alike(MLPClassifier(**sgd), TheirClassifier(**sgd), X, y == 1, weight)
    alike(MLPRegressor(**sgd), TheirRegressor(**sgd), X[:, :3], X[:, 3], weight)
    X, y = linnerud
    sgd["batch_size"] = 20
    alike(MLPRegressor(**sgd), TheirRegressor(**sgd), X, y, None if weight is None else weight[: len(X)])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_loss_curve_is_that_of_scikit_learn_without_the_penalty(iris: Any) -> None:
    X, y = iris
    arguments = {"hidden_layer_sizes": (), "solver": "sgd", "alpha": 0.0, "max_iter": 5, "random_state": 0}
    ours, theirs = MLPRegressor(**arguments, dtype="float64"), TheirRegressor(**arguments, shuffle=False)
    ours.set_params(shuffle=False, warm_start=True).fit(X, y)
    theirs.set_params(warm_start=True).fit(X, y)
    theirs.coefs_, theirs.intercepts_ = [w.copy() for w in ours.coefs_], [b.copy() for b in ours.intercepts_]
    ours.fit(X, y)
    theirs.fit(X, y)
    assert len(ours.loss_curve_) == 10
    np.testing.assert_allclose(ours.loss_curve_[5:], theirs.loss_curve_[5:], rtol=1e-9)
    assert ours.t_ == theirs.t_ == 10 * len(X)


def test_arguments_of_scikit_learn_have_its_defaults() -> None:
    left_out = {"max_fun"}  # of its second-order solver
    for ours, theirs in ((MLPClassifier, TheirClassifier), (MLPRegressor, TheirRegressor)):
        known, mine = theirs().get_params(), ours().get_params()
        assert set(known) - set(mine) == left_out
        assert {name: mine[name] for name in known if name in mine} == {
            k: v for k, v in known.items() if k not in left_out
        }


# ------------------------------------------------------------ fitting


def test_early_stopping_restores_the_best_epoch(cancer: Any) -> None:
    X, y = cancer
    model = MLPClassifier(early_stopping=True, learning_rate_init=0.01, n_iter_no_change=3, random_state=0).fit(X, y)
    assert model.n_iter_ == len(model.validation_scores_) == len(model.loss_curve_) < 200
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_loss_ is None
    assert model.score(X, y) > 0.95
    whole = clone(model).set_params(early_stopping=False, max_iter=1, **FIXED).fit(X, y)
    assert whole.validation_scores_ is None and whole.best_loss_ == whole.loss_curve_[0]


def test_training_stops_when_the_loss_does_not_become_better(iris: Any) -> None:
    model = MLPClassifier(tol=0.5, n_iter_no_change=4, random_state=0).fit(*iris)
    assert model.n_iter_ == 6  # the first epoch is better than none; five are not better than it by 0.5
    with pytest.warns(ConvergenceWarning, match="max_iter=3 epochs"):
        MLPClassifier(max_iter=3).fit(*iris)


def test_adaptive_learning_rate_falls_until_training_ends(iris: Any) -> None:
    model = MLPClassifier(
        learning_rate="adaptive", solver="sgd", tol=10.0, n_iter_no_change=1, learning_rate_init=0.1, random_state=0
    ).fit(*iris)
    rates = [record["learning_rate"] for record in model.history_]
    assert rates[0] == 0.1 and rates[-1] == pytest.approx(0.1 * 0.2**7) and model.n_iter_ < 30


def test_partial_fit_goes_on_where_it_stopped(iris: Any) -> None:
    X, y = iris
    arguments = {
        **FIXED,
        "max_iter": 4,
        "dropout": 0.2,
        "ema": 0.9,
        "schedule": "CosineAnnealingLR",
        "batch_norm": True,
    }
    whole = MLPClassifier(**arguments).fit(X, y)
    pieces = MLPClassifier(**arguments)
    for number in range(4):
        pieces.partial_fit(X, y, classes=[0, 1, 2])
        pieces = pickle.loads(pickle.dumps(pieces))
        assert pieces.n_iter_ == number + 1
    assert pieces.loss_curve_ == whole.loss_curve_
    assert pieces.t_ == whole.t_
    for name, array in whole.weights_.items():
        np.testing.assert_array_equal(pieces.weights_[name], array)


def test_partial_fit_says_what_it_needs(iris: Any) -> None:
    X, y = iris
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(X, y)
    model = MLPClassifier().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match=r"has the classes \[7\], but"):
        model.partial_fit(X, np.full(150, 7))
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="balanced"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


def test_warm_start_begins_with_the_last_weights(iris: Any) -> None:
    X, y = iris
    model = MLPClassifier(max_iter=20, warm_start=True, learning_rate_init=0.01, **FIXED).fit(X, y)
    first = model.loss_
    model.fit(X, y)
    assert model.loss_curve_[20] < first and len(model.loss_curve_) == 40 and model.n_iter_ == 20
    with pytest.raises(ValueError, match="warm_start and partial_fit need the same"):
        model.fit(X[:100], y[:100])


def test_classes_keep_their_labels(iris: Any) -> None:
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[y]
    model = MLPClassifier(learning_rate_init=0.01, max_iter=60, **FIXED).fit(X, names)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert (model.predict(X) == names).mean() > 0.95
    two = MLPClassifier(learning_rate_init=0.01, max_iter=60, **FIXED).fit(X, names == "setosa")
    assert two.predict(X).dtype == bool and two.score(X, names == "setosa") == 1.0
    assert (two.n_outputs_, two.out_activation_, model.n_outputs_, model.out_activation_) == (
        1,
        "logistic",
        3,
        "softmax",
    )


def test_class_weights_are_sample_weights(iris: Any) -> None:
    X, y = iris
    X, y = X[:120], y[:120]  # 50, 50, 20
    arguments = {"max_iter": 5, "batch_size": 40, **FIXED}
    by_class = MLPClassifier(class_weight="balanced", **arguments).fit(X, y)
    as_dict = MLPClassifier(class_weight={0: 0.8, 1: 0.8, 2: 2.0}, **arguments).fit(X, y)
    by_row = MLPClassifier(**arguments).fit(X, y, sample_weight=np.where(y == 2, 2.0, 0.8))
    for other in (as_dict, by_row):
        np.testing.assert_allclose(by_class.predict_proba(X), other.predict_proba(X), rtol=1e-4, atol=1e-7)
    plain = MLPClassifier(**arguments).fit(X, y)
    assert by_class.predict_proba(X)[:, 2].mean() > plain.predict_proba(X)[:, 2].mean()
    with pytest.raises(ValueError, match="zero"):
        plain.fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match="Negative"):
        plain.fit(X, y, sample_weight=np.full(len(X), -1.0))


def test_several_targets_and_several_labels(linnerud: Any) -> None:
    X, y = linnerud
    model = MLPRegressor(learning_rate_init=0.01, max_iter=500, **FIXED).fit(X, y)
    assert model.predict(X).shape == y.shape and model.score(X, y) > 0.6
    X, y = make_multilabel_classification(n_samples=200, n_classes=4, random_state=0)
    labels = MLPClassifier(learning_rate_init=0.01, max_iter=60, early_stopping=True, **FIXED).fit(X, y)
    assert labels.predict(X).shape == labels.predict_proba(X).shape == (200, 4)
    assert labels.score(X, y) > 0.5  # all four right
    assert labels.best_validation_score_ <= 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "adamw"},
        {"optimizer": {"name": "RMSprop", "alpha": 0.9, "lr": 0.002}},
        {"schedule": {"name": "StepLR", "step_size": 2, "interval": "step"}},
        {"schedule": "OneCycleLR", "learning_rate_init": 0.01},
        {"schedule": {"name": "OneCycleLR", "max_lr": 0.02, "interval": "step"}, "accumulate": 3},
        {"dropout": 0.3, "batch_norm": True, "batch_size": 149},
        {"clip_norm": 1.0, "clip_value": 0.1, "ema": 0.9},
        {"activation": "GELU", "hidden_layer_sizes": np.array([16, 8]), "label_smoothing": 0.1},
        {"hidden_layer_sizes": 12, "max_iter": np.int64(7), "batch_size": np.int64(50), "alpha": np.float32(0.1)},
        {"device": "auto", "dtype": "float64", "shuffle": False, "hidden_layer_sizes": ()},
    ],
    ids=str,
)
def test_our_own_arguments(arguments: dict[str, Any], cancer: Any, iris: Any) -> None:
    for X, y in (cancer, iris):
        model = MLPClassifier(**{"max_iter": 8, "learning_rate_init": 0.01, **FIXED, **arguments}).fit(X, y)
        assert model.loss_curve_[-1] < model.loss_curve_[0]
        assert model.score(X, y) > 0.5


def test_accumulation_is_the_large_batch(iris: Any) -> None:
    arguments = {"max_iter": 3, "dtype": "float64", "dropout": 0.25, **FIXED}
    large = MLPClassifier(batch_size=60, **arguments).fit(*iris)
    small = MLPClassifier(batch_size=20, accumulate=3, **arguments).fit(*iris)
    np.testing.assert_allclose(small.loss_curve_, large.loss_curve_, rtol=1e-10)


@pytest.mark.parametrize("loss", ["L1Loss", {"name": "HuberLoss", "delta": 0.5}, "SmoothL1Loss"], ids=str)
def test_losses_of_a_regression(loss: Any, linnerud: Any) -> None:
    X, y = linnerud
    weight = np.linspace(0.1, 1, len(X))
    model = MLPRegressor(loss, learning_rate_init=0.01, max_iter=100, **FIXED).fit(X, y, sample_weight=weight)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "lbfgs"}, "solver must be 'adam' or 'sgd', got 'lbfgs'; there is no second-order solver"),
        ({"alpha": -1}, "alpha must be a number >= 0, got -1"),
        ({"learning_rate_init": 0.0}, "learning_rate_init must be a number > 0"),
        ({"dropout": 1.0}, "dropout must be a number >= 0 and < 1"),
        ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes must be integers >= 1"),
        ({"activation": "rleu"}, "unknown activation 'rleu'"),
        ({"optimizer": "Adamm"}, "optimizer: unknown optimizer 'Adamm' .did you mean 'Adam'"),
        ({"optimizer": {"name": "SGD", "momntum": 0.9}}, "SGD has no argument 'momntum' .did you mean 'momentum'"),
        ({"optimizer": 3}, "optimizer must be a name, or a dict with a name"),
        ({"schedule": {"name": "StepLR", "step_size": 3, "interval": "year"}}, "interval is 'epoch' or 'step'"),
        ({"schedule": "CosineAnnealingLR", "learning_rate": "adaptive"}, "is a schedule of its own"),
        ({"batch_size": 0}, "batch_size must be 'auto' or an integer >= 1"),
        ({"max_iter": 2.5}, "max_iter must be an integer >= 1"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be an integer >= 1, or infinity"),
        ({"early_stopping": 1}, "early_stopping must be True or False"),
        ({"validation_fraction": 0.0, "early_stopping": True}, "validation_fraction must be a number > 0 and < 1"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'"),
        ({"device": "tpu"}, "tpu"),
        ({"random_state": -1}, "random_state must be"),
        ({"class_weight": "equal"}, "class_weight"),
    ],
    ids=str,
)
def test_a_mistake_in_an_argument_is_named(arguments: dict[str, Any], message: str, iris: Any) -> None:
    model = MLPClassifier(**arguments)
    with pytest.raises((ValueError, RuntimeError), match=message):
        model.fit(*iris)
    with pytest.raises(NotFittedError):
        model.predict(iris[0])
    assert not hasattr(model, "coefs_") and not hasattr(model, "intercepts_")


def test_a_loss_for_classes_is_no_loss_for_a_regression(linnerud: Any) -> None:
    with pytest.raises(ValueError, match="a loss for regression"):
        MLPRegressor("CrossEntropyLoss").fit(*linnerud)


def test_divergence_is_an_error_in_the_words_of_the_estimator(linnerud: Any) -> None:
    X, y = linnerud
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) at step .*lower learning_rate_init"):
        MLPRegressor(solver="sgd", learning_rate_init=1e6, **FIXED).fit(X * 1e6, y * 1e6)


def test_a_fit_that_fails_leaves_what_was_fitted() -> None:
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((4,), max_iter=2, n_iter_no_change=math.inf, random_state=0).fit(X, y)
    before = {name: value for name, value in vars(model).items() if name.endswith("_")}
    with pytest.raises(DivergedError):
        model.set_params(solver="sgd", learning_rate_init=1e30).fit(X[:, :2], np.array(["a", "b", "c"])[y])
    assert {name: value for name, value in vars(model).items() if name.endswith("_")} == before
    assert set(model.predict(X)) <= {0, 1, 2}


# ------------------------------------------------------------ around it


def test_nothing_global_and_no_input_is_changed(cancer: Any) -> None:
    X, y = (array.copy() for array in cancer)
    before = (np.random.get_state()[1].copy(), default_generator.get_state(), torch.get_default_dtype())
    for state in (None, 3, np.random.RandomState(3)):
        model = MLPClassifier(
            random_state=state, max_iter=2, dropout=0.5, early_stopping=True, n_iter_no_change=math.inf
        )
        model.fit(X, y).predict(X)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert (default_generator.get_state(), torch.get_default_dtype()) == before[1:]
    np.testing.assert_array_equal(X, cancer[0])
    np.testing.assert_array_equal(y, cancer[1])


def test_random_state_decides_everything(cancer: Any) -> None:
    def fitted(state: Any) -> Any:
        return MLPClassifier(random_state=state, max_iter=2, dropout=0.5, n_iter_no_change=math.inf).fit(*cancer)

    assert fitted(7).loss_curve_ == fitted(7).loss_curve_ != fitted(8).loss_curve_
    assert fitted(np.random.RandomState(7)).loss_curve_ == fitted(np.random.RandomState(7)).loss_curve_
    generator = np.random.RandomState(7)
    assert fitted(generator).loss_curve_ != fitted(generator).loss_curve_
    drawn = fitted(None)
    assert drawn.seed_ != fitted(None).seed_
    assert fitted(drawn.seed_).loss_curve_ == drawn.loss_curve_


def test_predictions_do_not_depend_on_the_other_rows(cancer: Any) -> None:
    X, y = cancer
    model = MLPClassifier(max_iter=20, **FIXED).fit(X.astype(np.float32), y)
    whole = model.predict_proba(X)
    one_by_one = np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(40)])
    np.testing.assert_allclose(one_by_one, whole[:40], rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), whole)
    np.testing.assert_allclose(whole.sum(1), 1.0)
    extreme = model.predict_log_proba(X * 1e4)
    assert np.isfinite(extreme).all() and extreme.min() < -1000


def test_a_pickle_holds_arrays_and_plain_numbers(cancer: Any, tmp_path: Path) -> None:
    X, y = cancer
    model = MLPClassifier(max_iter=2, ema=0.9, schedule="ReduceLROnPlateau", early_stopping=True, **FIXED).fit(X, y)
    stored = pickle.dumps(model)
    names = {argument for code, argument, _ in pickletools.genops(stored) if "UNICODE" in code.name}
    modules = {name for name in names if isinstance(name, str) and name.startswith("nanotorch")}
    assert modules == {"nanotorch.estimators.classifier"}
    np.testing.assert_array_equal(pickle.loads(stored).predict_proba(X), model.predict_proba(X))
    joblib.dump(model, tmp_path / "model.joblib")
    for mode in (None, "r"):
        again = joblib.load(tmp_path / "model.joblib", mmap_mode=mode)
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    elsewhere = pickle.loads(stored.replace(b"\x8c\x03cpu", b"\x8c\x03xpu"))
    with pytest.raises(RuntimeError, match="xpu"):
        elsewhere.predict(X)
    np.testing.assert_array_equal(elsewhere.set_params(device="cpu").predict(X), model.predict(X))


@pytest.mark.parity
def test_weights_carry_the_names_of_pytorch(iris: Any) -> None:
    model = MLPClassifier((16,), max_iter=2, **FIXED).fit(*iris)
    network = pytorch.nn.Sequential(pytorch.nn.Linear(4, 16), pytorch.nn.ReLU(), pytorch.nn.Linear(16, 3))
    network.load_state_dict({name: pytorch.from_numpy(array) for name, array in model.weights_.items()})
    probabilities = network.double()(pytorch.from_numpy(iris[0])).softmax(1).detach().numpy()
    np.testing.assert_allclose(model.predict_proba(iris[0]), probabilities, rtol=1e-10)
    assert [c.shape for c in model.coefs_] == [(4, 16), (16, 3)] and [b.shape for b in model.intercepts_] == [
        (16,),
        (3,),
    ]


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])  # 2: in processes of their own
def test_pipeline_grid_search_and_cross_validation(cancer: Any, n_jobs: int) -> None:
    X, y = cancer
    model = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=5, learning_rate_init=0.01, **FIXED))
    grid = {"mlpclassifier__dropout": [0.0, 0.5], "mlpclassifier__optimizer": ["Adam", {"name": "AdamW", "lr": 0.02}]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(X, y)
    assert search.best_score_ > 0.9 and len(search.cv_results_["params"]) == 4
    again = GridSearchCV(model, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    assert cross_val_score(model, X, y, cv=3).min() > 0.9
    assert "MLPClassifier" in model._repr_html_() and "hidden_layer_sizes" in search._repr_html_()


def test_names_of_columns_are_kept(iris: Any) -> None:
    frame = pandas.DataFrame(iris[0], columns=list("abcd"))
    model = MLPClassifier(max_iter=1, **FIXED).fit(frame, pandas.Series(iris[1]))
    assert model.feature_names_in_.tolist() == list("abcd") and model.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(iris[0])


def test_parameters_are_set_got_and_cloned() -> None:
    model = MLPRegressor(hidden_layer_sizes=(3, 4), schedule={"name": "StepLR", "step_size": 3})
    assert clone(model).get_params() == model.get_params()
    assert repr(model.set_params(dropout=0.1)).startswith("MLPRegressor(dropout=0.1, hidden_layer_sizes=(3, 4)")
    with pytest.raises(ValueError, match="Invalid parameter 'drop'"):
        model.set_params(drop=0.1)


def test_verbose_prints_a_line_for_each_epoch(iris: Any, capsys: pytest.CaptureFixture[str]) -> None:
    MLPClassifier(verbose=True, max_iter=3, early_stopping=True, **FIXED).fit(*iris)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1  loss ") and "validation accuracy 0." in lines[0]


def test_history_holds_a_record_of_each_epoch(iris: Any) -> None:
    model = MLPRegressor(max_iter=3, **FIXED).fit(iris[0], iris[1])
    assert [record["epoch"] for record in model.history_] == [1, 2, 3]
    assert [record["train_loss"] for record in model.history_] == model.loss_curve_
    assert {"learning_rate", "gradient_norm", "train_r2", "train_rmse", "seconds"} <= set(model.history_[0])
    json.dump(model.history_, io.StringIO())


def test_a_fit_on_a_gpu_is_usable_without_one(iris: Any) -> None:
    X, y = iris
    arguments = {
        "max_iter": 3,
        "dropout": 0.2,
        "ema": 0.9,
        "batch_norm": True,
        "early_stopping": True,
        "dtype": "float64",
        **FIXED,
    }
    weight = np.linspace(0.5, 1.5, len(X))
    with fake_gpu():
        there = MLPClassifier(device="cuda", **arguments).fit(X, y, sample_weight=weight)
        probabilities = there.predict_proba(X)
        stored = pickle.dumps(there)
    here = MLPClassifier(**arguments).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(probabilities, here.predict_proba(X), rtol=1e-6)
    again = pickle.loads(stored)
    assert all(type(array) is np.ndarray for array in again.weights_.values())
    with pytest.raises(RuntimeError, match=r"cuda|CuPy|GPU"):
        again.predict(X)
    np.testing.assert_allclose(again.set_params(device="cpu").predict_proba(X), probabilities, rtol=1e-9)


def test_both_estimators_declare_what_they_share_alike() -> None:
    """The signature alone says what an argument may be and what it is by default."""
    declared = [
        {
            name: (parameter.annotation, parameter.default)
            for name, parameter in inspect.signature(estimator.__init__).parameters.items()
        }
        for estimator in (MLPClassifier, MLPRegressor)
    ]
    assert set(declared[0]) ^ set(declared[1]) == {"loss", "class_weight", "label_smoothing"}
    for name in set(declared[0]) & set(declared[1]):
        assert declared[0][name] == declared[1][name], name


def test_every_default_is_allowed_and_numpy_numbers_are_numbers(iris: Any) -> None:
    numbers = {
        "alpha": np.float32(1e-3),
        "max_iter": np.int64(1),
        "batch_norm": np.bool_(True),
        "clip_norm": np.int8(1),
    }
    MLPClassifier(**numbers, **{**FIXED, "early_stopping": np.bool_(False)}).fit(*iris)
    for argument, value in [("shuffle", "yes"), ("tol", True), ("accumulate", True), ("clip_norm", 0), ("ema", 1.0)]:
        with pytest.raises(ValueError, match=f"^{argument} must be "):
            MLPClassifier(**{**FIXED, argument: value}).fit(*iris)


def test_fits_in_threads_have_the_numbers_of_fits_alone() -> None:
    X = np.random.default_rng(0).standard_normal((60, 4))
    y = (X[:, 0] > 0).astype(int)

    def fitted(seed: int) -> bytes:
        model = MLPClassifier((8,), dropout=0.3, random_state=seed, max_iter=3, n_iter_no_change=np.inf, batch_size=10)
        weights: bytes = model.fit(X, y).weights_["0.weight"].tobytes()
        return weights

    alone = list(map(fitted, range(6)))
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fitted, range(6))) == alone


@pytest.mark.parametrize("fraction", [0.1, 0.3])
@pytest.mark.parametrize("classes", [2, 3, 8])
@pytest.mark.parametrize("rows", [8, 12, 20, 41])
def test_early_stopping_sets_rows_apart_wherever_scikit_learn_does(rows: int, classes: int, fraction: float) -> None:
    X, y = np.random.default_rng(0).standard_normal((rows, 3)), np.arange(rows) % classes
    fits = []
    for kind in (TheirClassifier, MLPClassifier):
        network = kind((4,), max_iter=2, early_stopping=True, validation_fraction=fraction, random_state=0)
        try:
            with warnings.catch_warnings(action="ignore"):
                fits.append(network.fit(X, y).predict(X).shape == (rows,))
        except ValueError:
            fits.append(False)
    assert fits[1] >= fits[0]
