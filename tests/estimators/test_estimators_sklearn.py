"""scikit-learn's own checks of an estimator, all of them."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data, parametrize_with_checks

from nanotorch.estimators import MLPClassifier, MLPRegressor

MINI_BATCHES = [MLPClassifier(max_iter=100, batch_size=8), MLPRegressor(max_iter=100, batch_size=8)]
ONE_BATCH = [MLPClassifier(max_iter=100, dtype="float64"), MLPRegressor(max_iter=100, dtype="float64")]


def excused(estimator: Any) -> dict[str, str]:
    """As scikit-learn excuses its own estimators that learn from mini-batches."""
    reason = "a row of weight 2 is in one batch, two rows of weight 1 may be in two"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(MINI_BATCHES, expected_failed_checks=excused, xfail_strict=True)
@pytest.mark.slow
def test_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ONE_BATCH, ids=repr)
def test_in_one_batch_a_weight_is_a_number_of_rows(estimator: Any) -> None:
    check_sample_weight_equivalence_on_dense_data(type(estimator).__name__, estimator)
