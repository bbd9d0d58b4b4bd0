"""Fits of a search that run as tables have the bits of their own fits with `compile=True`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification

from nanotorch.capture.table.machine import MACHINE
from nanotorch.estimators import MLPClassifier, MLPSearchCV

X, y = make_classification(150, 6, n_informative=4, n_classes=3, random_state=0)
X = X.astype(np.float32)
NETWORK = MLPClassifier((5,), random_state=2, max_iter=5, n_iter_no_change=math.inf, compile=True)
STEPPED = {"name": "StepLR", "step_size": 2}
CYCLE = {"name": "OneCycleLR", "interval": "step"}


def of_each_fit(network: Any, grid: dict[str, Any]) -> int:
    """Compare the fits of a search with fits of their own, bit for bit; return how many there were."""
    rows, rest = np.arange(100), np.arange(100, 150)
    compared = 0

    def compare(fitted: Any, _: Any, __: Any) -> float:
        nonlocal compared
        own = clone(fitted).fit(X[rows], y[rows])
        assert fitted.loss_curve_ == own.loss_curve_
        assert [a.tobytes() for a in fitted.weights_.values()] == [a.tobytes() for a in own.weights_.values()]
        compared += 1
        return 0.0

    MLPSearchCV(network, grid, cv=[(rows, rest)], refit=False, scoring=compare, error_score="raise").fit(X, y)
    return compared


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    "given",
    [
        {"solver": "sgd", "momentum": 0.0, "alpha": 0.0},
        {"solver": "adam"},
        {"optimizer": "RMSprop", "early_stopping": True, "n_iter_no_change": 2},
        {"learning_rate": "invscaling", "solver": "sgd"},
    ],
    ids=["plain", "adam", "stopped", "invscaling"],
)
@pytest.mark.parametrize("batch_size", [100, 30])
def test_each_fit_has_the_bits_of_its_own(members: int, given: dict[str, Any], batch_size: int) -> None:
    assert MACHINE.wait() is not None, MACHINE.reason
    network = clone(NETWORK).set_params(members=members, batch_size=batch_size, **given)
    schedules = [None] if "learning_rate" in given else [None, STEPPED, CYCLE]
    grid = {"schedule": [*schedules, *schedules], "random_state": [2, 3]}
    assert of_each_fit(network, grid) == 4 * len(schedules)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("batch_size", [100, 30])
def test_each_fit_has_the_bits_of_its_own_where_a_table_calls_numpy(batch_size: int) -> None:
    assert MACHINE.wait() is not None, MACHINE.reason
    network = clone(NETWORK).set_params(optimizer="Rprop", alpha=0.0, batch_size=batch_size, max_iter=3)
    with pytest.warns(UserWarning, match="the steps of 4 fits run one after the other"):
        assert of_each_fit(network, {"schedule": [None, STEPPED], "random_state": [2, 3]}) == 4
