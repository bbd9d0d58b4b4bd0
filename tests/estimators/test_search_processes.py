"""MLPSearchCV in several processes: what one process finds and says, they find and say as well."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline

from nanotorch.capture.table.machine import MACHINE
from nanotorch.estimators import MLPClassifier, MLPSearchCV
from nanotorch.train.fit.loop import DivergedError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

X, y = load_iris(return_X_y=True)
NETWORK = MLPClassifier((4,), max_iter=20, n_iter_no_change=math.inf, batch_size=40, random_state=0)
FAILING = clone(NETWORK).set_params(solver="sgd", activation="identity")
GRID = [
    {"hidden_layer_sizes": [(4,), (3, 2)], "learning_rate_init": [0.01, 0.1], "compile": [True, "auto", False]},
    {"dropout": [0.3], "solver": ["sgd"], "early_stopping": [True, False]},
]


@pytest.fixture(autouse=True)
def ready() -> None:
    """Have the interpreter of tables there, in these processes and in those that they begin."""
    assert MACHINE.wait() is not None, MACHINE.reason


def same(search: Any, other: Any) -> None:
    """Compare two searches, all but their times, bit for bit."""
    for name, values in search.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(other.cv_results_[name], values, err_msg=name)
    np.testing.assert_array_equal(other.tables_, search.tables_)
    np.testing.assert_array_equal(other.predict_proba(X), search.predict_proba(X))


def test_any_number_of_processes_finds_the_same() -> None:
    one = MLPSearchCV(NETWORK, GRID, cv=3, return_train_score=True).fit(X, y)
    assert 0 < one.tables_.sum() < one.tables_.size
    for jobs in (2, 3):
        same(one, MLPSearchCV(NETWORK, GRID, cv=3, return_train_score=True, n_jobs=jobs).fit(X, y))
    for backend in ("loky", "threading", "multiprocessing"):
        with joblib.parallel_config(backend, n_jobs=2):
            same(one, MLPSearchCV(NETWORK, GRID, cv=3, return_train_score=True).fit(X, y))


def test_the_workers_of_a_cluster_find_the_same() -> None:
    one = MLPSearchCV(NETWORK, GRID, cv=3, return_train_score=True).fit(X, y)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        same(one, MLPSearchCV(NETWORK, GRID, cv=3, return_train_score=True).fit(X, y))


def test_a_fit_has_the_bits_of_its_own_beside_others_that_ask_for_each_step() -> None:
    exact = clone(NETWORK).set_params(dtype="float64", compile=True, max_iter=25, n_iter_no_change=math.inf)
    found = []

    def keep(network: MLPClassifier, *rows: Any) -> float:
        found.append(network)
        return 0.0

    schedules = [None, {"name": "StepLR", "step_size": 2}, {"name": "CosineAnnealingLR", "interval": "step"}]
    half = [(np.arange(0, len(X), 2), np.arange(1, len(X), 2))]
    MLPSearchCV(exact, {"schedule": schedules}, cv=half, scoring=keep, refit=False).fit(X, y)
    for network in found:
        own = clone(network).fit(X[::2], y[::2])
        assert own.loss_curve_ == network.loss_curve_
        assert [each.tobytes() for each in own.weights_.values()] == [
            each.tobytes() for each in network.weights_.values()
        ]


def test_processes_warn_as_one_does() -> None:
    failing = MLPSearchCV(FAILING, {"learning_rate_init": [0.01, 1e30], "alpha": [0.0, -1]}, cv=3)
    ended = MLPSearchCV(NETWORK, {"n_iter_no_change": [1, math.inf], "tol": [0.0], "max_iter": [2]}, cv=3)
    for search in (failing, ended):
        said = []
        for jobs in (1, 2):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("default")
                warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's: which fits are one program moves their line
                search.set_params(n_jobs=jobs).fit(X, y)
            said.append([(each.category, str(each.message), each.filename, each.lineno) for each in told])
        assert said[0] == said[1]
        assert said[0]


def test_what_fails_in_a_process_fails_the_search() -> None:
    with pytest.raises(DivergedError, match="lower learning_rate_init"):
        MLPSearchCV(FAILING, {"learning_rate_init": [0.01, 1e30]}, error_score="raise", n_jobs=2).fit(X, y)
    with pytest.raises(ValueError, match="alpha must be"):
        MLPSearchCV(NETWORK, {"alpha": [0.0, -1]}, error_score="raise", n_jobs=2).fit(X, y)


class Fatal(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Ends the process that fits it."""

    def fit(self, X: Any, y: Any = None) -> Any:
        os._exit(3)


def test_a_process_that_ends_too_soon_is_said_with_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="fewer processes than n_jobs=2"):
        MLPSearchCV(make_pipeline(Fatal(), NETWORK), {"mlpclassifier__alpha": [0, 1]}, cv=2, n_jobs=2).fit(X, y)
