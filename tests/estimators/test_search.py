"""MLPSearchCV: what scikit-learn's own searches say of the same estimators, one fit at a time, it says as well."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
import pytest
from numpy.typing import NDArray
from scipy.stats import loguniform
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ParameterGrid, RandomizedSearchCV, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import Bunch
from sklearn.utils.estimator_checks import parametrize_with_checks

from nanotorch.estimators import MLPClassifier, MLPRegressor, MLPSearchCV, candidates
from nanotorch.ops.create.random import default_generator
from nanotorch.train.fit import together
from nanotorch.train.fit.loop import DivergedError

NETWORK = MLPClassifier((4,), max_iter=3, n_iter_no_change=math.inf, batch_size=40, random_state=0)
NUMBERS = MLPRegressor("squared_error", (3,), max_iter=3, n_iter_no_change=math.inf, batch_size=100, random_state=1)
RATES = {"learning_rate_init": [0.001, 0.01]}


@pytest.fixture(scope="module")
def iris() -> Any:
    return load_iris(return_X_y=True)


def same(ours: Any, theirs: Any) -> None:
    """Compare what two searches found, all but the times, bit for bit."""
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, values in theirs.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(ours.cv_results_[name], values, err_msg=name)
    private = {"n_jobs", "pre_dispatch", "_checked_cv_orig"}
    fitted = {name for name in vars(theirs) if name.endswith("_")} - private
    assert fitted == {name for name in vars(ours) if name.endswith("_")} - {"tables_"}
    for name in fitted & {"best_index_", "best_params_", "best_score_", "n_splits_", "multimetric_"}:
        assert getattr(ours, name) == getattr(theirs, name)


def both(estimator: Any, grid: Any, X: Any, y: Any, given: dict[str, Any] | None = None, **how: Any) -> tuple[Any, Any]:
    """Search in both ways."""
    found = [
        kind(estimator, grid, **{"cv": 3, **how}).fit(X, y, **(given or {})) for kind in (MLPSearchCV, GridSearchCV)
    ]
    same(*found)
    return found[0], found[1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "grid",
    [
        {"hidden_layer_sizes": [(4,), (3, 2)], "alpha": [0, 0.1]},
        {"dropout": [0.0, 0.3, 0.5], "random_state": [1, 2]},
        {"early_stopping": [True, False], "max_iter": [2, 4], "n_iter_no_change": [1]},
        [{"optimizer": ["AdamW", {"name": "SGD", "momentum": 0.9}]}, {"schedule": ["CosineAnnealingLR"], "ema": [0.9]}],
        {"class_weight": [None, "balanced", {0: 0, 1: 1, 2: 3}], "label_smoothing": [0.0, 0.1]},
        {"dtype": ["float32", "float64"], "batch_norm": [True], "accumulate": [1, 2], "clip_norm": [None, 0.1]},
    ],
    ids=lambda grid: " ".join(grid if isinstance(grid, dict) else grid[0]),
)
def test_every_score_is_that_of_a_grid_search(iris: Any, grid: Any) -> None:
    ours, theirs = both(NETWORK, grid, *iris, return_train_score=True)
    np.testing.assert_array_equal(ours.predict_proba(iris[0]), theirs.predict_proba(iris[0]))
    for name, array in theirs.best_estimator_.weights_.items():
        np.testing.assert_array_equal(ours.best_estimator_.weights_[name], array)


def test_numbers_are_searched_for_as_well() -> None:
    X, y = load_diabetes(return_X_y=True)
    y = np.column_stack([y, -y])
    ours, theirs = both(NUMBERS, {"loss": ["squared_error", "L1Loss"], "alpha": [0.1, 0.2]}, X, y, cv=KFold(2))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y) == theirs.score(X, y)


def test_candidates_are_drawn_as_by_a_randomized_search(iris: Any) -> None:
    space = {"learning_rate_init": loguniform(1e-3, 1e-1), "alpha": [0.0, 0.1]}
    ours = MLPSearchCV(NETWORK, param_distributions=space, n_iter=4, random_state=3, cv=2).fit(*iris)
    same(ours, RandomizedSearchCV(NETWORK, space, n_iter=4, random_state=3, cv=2).fit(*iris))
    some = MLPSearchCV(NETWORK, {"alpha": range(100)}, n_iter=2, cv=2).fit(*iris)
    assert len(some.cv_results_["params"]) == 2


@pytest.mark.parametrize(
    "how",
    [
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"},
        {"scoring": "f1_macro", "refit": False},
        {"scoring": lambda model, X, y: {"right": model.score(X, y), "rows": len(X)}, "refit": "right"},
        {"scoring": {"a": "accuracy"}, "refit": lambda results: 1},
        {"scoring": lambda model, X, y: float(model.predict_proba(X).max())},
    ],
    ids=["several", "no refit", "a callable of several", "a callable chooses", "a callable"],
)
def test_scorers_are_those_of_scikit_learn(iris: Any, how: Any) -> None:
    both(NETWORK, RATES, *iris, **how, cv=2)


@pytest.mark.filterwarnings("ignore:Scoring failed:UserWarning", "ignore:One or more of the:UserWarning")
def test_accuracies_are_those_of_scikit_learn(iris: Any) -> None:
    X, names = iris[0], np.array(["x", "y", "z"], dtype=object)[iris[1]]
    pipeline = make_pipeline(MinMaxScaler(), NETWORK)
    for estimator, grid in ((NETWORK, RATES), (pipeline, {"mlpclassifier__alpha": [0, 1]})):
        for y in (names, names.tolist(), iris[1] % 2):
            both(estimator, grid, X, y, scoring="accuracy", return_train_score=True, refit=False)
    both(NETWORK, {"max_iter": [1, 9]}, X, np.eye(3)[iris[1]], scoring="accuracy", cv=KFold(2))
    missing = X.copy()
    missing[0] = np.nan  # only where nothing is learnt of it, it is scored
    with pytest.warns(FitFailedWarning, match="4 fits failed"):
        ours = MLPSearchCV(NETWORK, RATES, refit=False, cv=3).fit(missing, names)
    assert np.isnan(ours.cv_results_["split0_test_score"]).all()


def test_weights_and_groups_go_where_they_belong(iris: Any) -> None:
    X, y = iris
    given = {"sample_weight": np.arange(150) % 4, "groups": np.arange(150) % 5}
    both(NETWORK, RATES, X, y, given, cv=GroupKFold(5))
    with config_context(enable_metadata_routing=True):
        network = clone(NETWORK).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        both(network, RATES, X, y, given, cv=GroupKFold(5))


def test_tables_of_pandas_keep_their_names(iris: Any) -> None:
    X = pandas.DataFrame(iris[0], columns=["a", "b", "c", "d"])
    ours, _ = both(NETWORK, RATES, X, np.array(["x", "y", "z"])[iris[1]], cv=ShuffleSplit(2, random_state=0))
    assert ours.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert ours.classes_.tolist() == ["x", "y", "z"]


class Counted(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Adds a number, and counts how often it was fitted."""

    fits = 0

    def __init__(self, plus: float = 0.0) -> None:
        self.plus = plus

    def fit(self, X: Any, y: Any = None) -> Counted:
        Counted.fits += 1
        self.mean_ = np.mean(X, axis=0)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(X - self.mean_ + self.plus)


def test_steps_before_the_network_are_fitted_once_for_each_fold_and_parameter(iris: Any) -> None:
    pipeline = Pipeline([("scale", StandardScaler()), ("plus", Counted()), ("mlp", NETWORK)])
    grid = {"mlp__alpha": [0, 0.1, 0.2], "plus__plus": [0.0, 1.0], "scale": [MinMaxScaler(), "passthrough"]}
    Counted.fits = 0
    search = MLPSearchCV(pipeline, grid, cv=2).fit(*iris)
    assert Counted.fits == 2 * 4 + 1
    theirs = GridSearchCV(pipeline, grid, cv=2).fit(*iris)
    for name in ("split0_test_score", "split1_test_score", "rank_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], theirs.cv_results_[name])
    np.testing.assert_array_equal(search.predict_proba(iris[0]), theirs.predict_proba(iris[0]))


def test_pipelines_of_any_shape(iris: Any, tmp_path: Any) -> None:
    weights = {"mlpclassifier__sample_weight": np.arange(150) % 3}
    both(make_pipeline(NETWORK), {"mlpclassifier__alpha": [0, 1]}, *iris, weights)
    kept = make_pipeline(StandardScaler(), NETWORK, memory=str(tmp_path))
    both(kept, {"mlpclassifier__alpha": [0, 1]}, *iris, weights)
    networks = {"mlpclassifier": [NETWORK, LogisticRegression()]}
    both(make_pipeline(StandardScaler(), NETWORK), networks, *iris)


def test_what_is_no_network_is_fitted_as_it_is() -> None:
    both(Ridge(), {"alpha": [0.1, 1]}, *load_diabetes(return_X_y=True))


def test_portions_change_nothing(iris: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "PORTION", 4)
    both(NETWORK, {"hidden_layer_sizes": [(4,), (3,)], "activation": ["relu", "tanh"]}, *iris)
    monkeypatch.setattr(candidates, "PORTION_BYTES", 1)
    both(NETWORK, {"hidden_layer_sizes": [(4,), (3,)]}, *iris)


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_each_fit_is_dealt_once_and_those_of_a_kind_together(iris: Any, jobs: int) -> None:
    routed = Bunch(estimator=Bunch(fit={}), scorer=Bunch(score={}))
    fold = candidates.Fold(NETWORK, *iris, np.arange(100), np.arange(100, 150), routed)
    grid = list(ParameterGrid({"hidden_layer_sizes": [(4,), (3,)], "alpha": range(31)}))
    grid += list(ParameterGrid({"batch_size": range(5, 9)}))
    trials = [candidates.trial(NETWORK, place, candidate, fold) for place, candidate in enumerate(grid)]
    search = candidates.Search(trials, 1, None, 0.0, False, 0)
    lists = together.dealt(list(search.kinds.values()), jobs)
    assert sorted(each.place for several in lists for each in several) == list(range(66))
    assert all(len({candidates.kind(each) for each in several}) == 1 for several in lists)
    assert max(map(len, lists)) <= math.ceil(66 / (jobs * together.TURNS))


@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning", "ignore::RuntimeWarning")
def test_fits_that_fail_have_the_score_of_an_error(iris: Any) -> None:
    network = clone(NETWORK).set_params(solver="sgd", activation="identity")
    grid = {"learning_rate_init": [0.01, 1e30], "alpha": [0.0, -1]}
    with pytest.warns(FitFailedWarning, match="9 fits failed out of a total of 12"):
        ours = MLPSearchCV(network, grid, cv=3, return_train_score=True).fit(*iris)
    with pytest.warns(FitFailedWarning, match="9 fits failed out of a total of 12"):
        theirs = GridSearchCV(network, grid, cv=3, return_train_score=True).fit(*iris)
    same(ours, theirs)
    assert np.isnan(ours.cv_results_["mean_test_score"]).tolist() == [False, True, True, True]
    with pytest.raises(DivergedError, match="lower learning_rate_init"):
        MLPSearchCV(network, {"learning_rate_init": [0.01, 1e30]}, error_score="raise").fit(*iris)
    with pytest.raises(ValueError, match="alpha must be"):
        MLPSearchCV(network, {"alpha": [0.0, -1]}, error_score="raise").fit(*iris)
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        MLPSearchCV(network, {"alpha": [-1]}, cv=3).fit(*iris)


def test_fits_that_end_too_soon_are_counted_in_one_warning(iris: Any) -> None:
    grid = {"n_iter_no_change": [1, math.inf], "tol": [0.0]}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        MLPSearchCV(NETWORK, grid, cv=3, refit=False).fit(*iris)
    (one,) = told
    assert one.category is ConvergenceWarning
    assert one.filename == __file__
    assert str(one.message).startswith("3 of 6 fits ended at max_iter")


def test_an_interrupt_leaves_everything_as_it_was(iris: Any) -> None:
    def pressed(model: Any, X: Any, y: Any) -> float:
        raise KeyboardInterrupt

    state = default_generator.get_state()
    search = MLPSearchCV(NETWORK, RATES, scoring=pressed)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*iris)
    assert default_generator.get_state() == state
    assert not hasattr(search, "cv_results_")
    search.set_params(scoring=None).fit(*iris)
    assert default_generator.get_state() == state


def test_it_prints_what_it_does(iris: Any, capsys: pytest.CaptureFixture[str]) -> None:
    MLPSearchCV(NETWORK, RATES, cv=2, verbose=2, refit=False).fit(*iris)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "2 candidates on 2 folds: 4 fits"
    assert len(lines) == 4
    assert "{'learning_rate_init': 0.01}" in lines[-1]


def test_it_is_an_estimator_like_others(iris: Any) -> None:
    search = MLPSearchCV(NETWORK, RATES, cv=2)
    with pytest.raises(NotFittedError):
        search.predict(iris[0])
    copy = clone(search)
    assert repr(copy) == repr(search)
    copy.set_params(estimator__max_iter=1).fit(*iris)
    again = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(again.predict(iris[0]), copy.predict(iris[0]))
    assert copy.score(*iris) == copy.best_estimator_.score(*iris)
    nested = MLPSearchCV(copy, {"estimator__alpha": [0, 1]}, cv=2).fit(*iris)
    assert 0 <= nested.best_score_ <= 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_without_an_estimator_it_is_a_classifier(iris: Any) -> None:
    grid = {"max_iter": [1], "random_state": [0]}
    search = MLPSearchCV(param_grid=grid, cv=2).fit(*iris)
    same(search, GridSearchCV(MLPClassifier(), grid, cv=2).fit(*iris))
    assert search.estimator is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either param_grid or param_distributions"),
        ({"param_grid": RATES, "param_distributions": RATES}, "either param_grid or param_distributions"),
        ({"param_grid": RATES, "n_iter": 0}, "n_iter"),
        ({"param_grid": {"alpha": []}}, "alpha"),
        ({"param_grid": RATES, "error_score": "nan"}, "error_score"),
        ({"param_grid": RATES, "scoring": ["accuracy", "f1_macro"]}, "refit must be set"),
    ],
)
def test_what_cannot_be_searched_is_refused(iris: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPSearchCV(NETWORK, **arguments).fit(*iris)


def searches() -> Iterator[Any]:
    """As scikit-learn checks its own searches."""
    how = {"cv": 2, "error_score": "raise"}
    given: Any = {"max_iter": 40, "batch_size": 8, "learning_rate_init": 0.01, "random_state": 0}
    for network in (MLPClassifier((16,), **given), MLPRegressor(hidden_layer_sizes=(16,), **given)):
        yield MLPSearchCV(network, {"alpha": [1e-4, 1e-3]}, **how)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:invalid value:RuntimeWarning")
@parametrize_with_checks(
    list(searches()),
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is in one batch, two rows may be in two"
    },
)
@pytest.mark.slow
def test_estimator(estimator: Any, check: Any) -> None:
    check(estimator)
