"""`MLPSearchCV`: settings of a network tried on every fold, all fits trained side by side."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from operator import attrgetter
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _insert_error_scores, _warn_or_raise_about_fit_failures
from sklearn.utils import indexable
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_method_params

from nanotorch.estimators.candidates import Fold, Search, trial
from nanotorch.estimators.classifier import MLPClassifier
from nanotorch.estimators.network import WHAT_THEN

DRAWN = 10  # candidates of distributions where no number is given, as in RandomizedSearchCV


class MLPSearchCV(BaseSearchCV):
    """A search over the arguments of a network, with the interface and the results of scikit-learn's.

    Every score is that of `GridSearchCV` (or `RandomizedSearchCV`) over the same estimator; it is there sooner, since
    the networks of all candidates and folds are trained together (Note [Fits of a search]).

    Args:
        estimator: an `MLPClassifier` (None: one with its defaults) or `MLPRegressor`, or a Pipeline that ends in one,
            whose arguments are then named as in "mlp__alpha". Whatever else it is, it is fitted as it is.
        param_grid: lists of values by argument, or a list of such dicts: all combinations are tried.
        param_distributions: in its place, also with distributions to draw from, such as `scipy.stats.loguniform(...)`.
        n_iter: try so many candidates, drawn; None tries all of `param_grid`, or 10 of `param_distributions`.
        scoring: a scorer by name, a callable, or several: see GridSearchCV.
        refit: fit the best candidate to all rows; with several scores the name of the one that counts, or a callable.
        cv: a number of folds, a splitter, or splits: see GridSearchCV.
        n_jobs: how many processes share the fits, as joblib takes it; None: 1, unless `joblib.parallel_config` says
            more. Results are the same in any number of them. Processes take some seconds to begin, once for searches
            that follow each other, so more than one pays for searches that take longer in one.
        verbose: print how many fits there are; above 1 the scores of each as well.
        random_state: of the drawn candidates. The seed of the networks is their own `random_state`.
        error_score: the score of a fit that fails, with a FitFailedWarning; or "raise".
        return_train_score: score the rows that were learnt from as well.

    Attributes:
        tables_: which fits ran as tables from their first step on, (candidates, folds): each of these has the bits of
            its own fit with `compile=True`.
        cv_results_, best_estimator_, best_params_, best_score_, best_index_, scorer_, n_splits_, refit_time_,
        multimetric_, classes_, n_features_in_, feature_names_in_: as in GridSearchCV. What is fitted together takes
            together: `mean_fit_time` has equal shares of it.

    >>> from sklearn.datasets import load_iris
    >>> from nanotorch.estimators import MLPClassifier, MLPSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8,), max_iter=20, n_iter_no_change=float("inf"), random_state=0)
    >>> search = MLPSearchCV(network, {"learning_rate_init": [1e-5, 0.03]}, cv=3).fit(X, y)
    >>> search.best_params_
    {'learning_rate_init': 0.03}
    """

    best_estimator_: Any
    best_index_: int
    best_params_: dict[str, Any]
    best_score_: float
    cv_results_: dict[str, Any]
    feature_names_in_: Any
    multimetric_: bool
    n_splits_: int
    refit_time_: float
    scorer_: Any
    tables_: np.ndarray[Any, np.dtype[np.bool_]]

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "estimator": [HasMethods(["fit"]), None],
        "param_grid": [dict, list, None],
        "param_distributions": [dict, list, None],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }
    _parameter_constraints.pop("pre_dispatch", None)

    def __init__(
        self,
        estimator: Any = None,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        n_iter: int | None = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.cv = cv
        self.verbose = verbose
        self.random_state = random_state
        self.error_score = error_score
        self.return_train_score = return_train_score

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Try all candidates on rows X (n, features) and their targets y; then fit the best to all rows.

        `groups` go to the splitter, whatever else is given, such as `sample_weight`, to `fit` of the estimator, and
        sample weights to the scorers too. One ConvergenceWarning counts the fits that `max_iter` ended.
        """
        self._validate_params()
        if self.estimator is None:
            fitted = clone(self).set_params(estimator=MLPClassifier()).fit(X, y, **params)
            for name, value in vars(fitted).items():
                if name.endswith("_"):
                    setattr(self, name, value)
            return self
        scorers, metric = self._get_scorers()
        X, y = indexable(X, y)
        routed = self._get_routed_params_for_fit(_check_method_params(X, params=params))
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        of_splits = routed.splitter.split
        self.n_splits_ = cv.get_n_splits(X, y, **of_splits)
        candidates = self._candidates()
        folds = [Fold(self.estimator, X, y, train, test, routed) for train, test in cv.split(X, y, **of_splits)]
        found = self._evaluate(candidates, folds, scorers)
        results = self._format_results(candidates, self.n_splits_, found)
        first = found[0]["test_scores"]
        self.multimetric_ = isinstance(first, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first)
            metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
            self.best_params_ = candidates[self.best_index_]
        if self.refit:
            self._fit_best(X, y, routed.estimator.fit)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        self.cv_results_ = results
        return self

    def _candidates(self) -> list[dict[str, Any]]:
        if (self.param_grid is None) == (self.param_distributions is None):
            raise ValueError("give either param_grid or param_distributions")
        space = self.param_distributions if self.param_grid is None else self.param_grid
        if self.n_iter is None and self.param_grid is not None:
            return list(ParameterGrid(space))
        return list(ParameterSampler(space, self.n_iter or DRAWN, random_state=self.random_state))

    def _evaluate(self, candidates: Sequence[dict[str, Any]], folds: Sequence[Fold], scorers: Any) -> list[Any]:
        """Return the results of each candidate on each fold, as scikit-learn orders them."""
        if len(folds) != self.n_splits_:
            raise ValueError(f"cv announced {self.n_splits_} splits, and made {len(folds)}")
        count = len(candidates) * len(folds)
        if not count:
            raise ValueError("there is nothing to fit: no candidates, or no splits")
        if self.verbose > 0:
            print(f"{len(candidates)} candidates on {len(folds)} folds: {count} fits")
        places = itertools.product(candidates, folds)
        trials = [trial(self.estimator, place, *pair) for place, pair in enumerate(places)]
        search = Search(trials, len(folds), scorers, self.error_score, self.return_train_score, self.verbose)
        found = sorted(search.fitted(self.n_jobs), key=attrgetter("place"))
        results = [each.result for each in found]
        unfinished = sum(each.unfinished for each in found)
        _warn_or_raise_about_fit_failures(results, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(results, self.error_score)
        self.tables_ = np.array([each.as_table for each in found]).reshape(len(candidates), len(folds))
        if unfinished:
            warnings.warn(
                f"{unfinished} of {count} fits ended at max_iter while their loss, or score, was still becoming better;"
                f" {WHAT_THEN}",
                ConvergenceWarning,
                stacklevel=3,
            )
        return results

    def _fit_best(self, X: Any, y: Any, params: Mapping[str, Any]) -> None:
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        started = time.perf_counter()
        self.best_estimator_ = best.fit(X, **params) if y is None else best.fit(X, y, **params)
        self.refit_time_ = time.perf_counter() - started
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        return MLPSearchCV(MLPClassifier()).__sklearn_tags__() if self.estimator is None else super().__sklearn_tags__()
