"""The fits of a search: every candidate on every fold, the networks among them trained together.

Note [Fits of a search]
~~~~~~~~~~~~~~~~~~~~~~~
scikit-learn fits a candidate on a fold by cloning the estimator, setting the candidate's parameters, and calling `fit`
on the rows of the fold. Here the same clones are *prepared* first; the networks among them are then trained side by
side, and each gets what its own `fit` would have given it. So scores and fitted attributes are those of `GridSearchCV`.

Of a Pipeline that ends in a network the steps before it are fitted once for each fold and each choice of their own
parameters: whoever shares them gets the same fitted objects. Whatever else is in a search is fitted as it is.

Scores are scikit-learn's. Its accuracy is the share of equal labels, but it looks at rows and labels anew for each fit,
which takes longer than to predict: here the first fit of a fold looks at them for all, and what it does not find as
plain as that, as rows with missing numbers, scikit-learn's own function scores, or refuses.

Fits are taken in portions, which bound the memory, those that look alike beside each other, since only networks of one
architecture run as one program. Several processes are dealt lists of them (`together.dealt`). Whether fits run as a
table is a matter of how many alike ones the whole search has, so a fit has the same bits wherever it runs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from traceback import format_exception
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import get_active_backend
from sklearn import get_config
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _PassthroughScorer, _Scorer
from sklearn.model_selection._validation import _score
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params, _num_samples, column_or_1d

from nanotorch.estimators.classifier import MLPClassifier
from nanotorch.estimators.network import Network, train_together
from nanotorch.estimators.prepared import Prepared, Shared
from nanotorch.train.fit.together import dealt, uncollected

PORTION = 256  # fits that are trained together at most
PORTION_BYTES = 2**28  # of weights, gradients and moments
APART = frozenset({
    "learning_rate_init", "alpha", "beta_1", "beta_2", "epsilon", "momentum", "power_t", "dropout", "label_smoothing",
    "class_weight", "clip_norm", "ema", "tol", "random_state", "n_iter_no_change", "verbose",
})  # fmt: skip
"""Arguments in which networks that are trained as one program may differ."""


class Fold:
    """The rows of a fold, and what its fits share; made by the first of them.

    Args:
        estimator: whose tags say how rows are taken.
        train, test: the rows of both parts.
        routed: what `fit` and the scorers take beside rows.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, train: Any, test: Any, routed: Any) -> None:
        self.X, self.y = _safe_split(estimator, X, y, train)
        self.unseen, self.wanted = _safe_split(estimator, X, y, test, train)
        self.fit_params = _check_method_params(X, params=routed.estimator.fit, indices=train)
        self.train_params, self.test_params = (
            _check_method_params(X, params=routed.scorer.score, indices=rows) for rows in (train, test)
        )
        self.shared = Shared()
        self.fronts: dict[Hashable, Any] = {}  # the steps of pipelines, fitted, and what they made of the rows


@dataclass
class Trial:
    """A candidate on a fold; `place` is its number in the search, which counts the folds of a candidate first."""

    place: int
    fold: Fold
    candidate: Mapping[str, Any]
    estimator: Any
    network: Network | None
    prepared: Prepared | None = None
    shared: Shared = field(default_factory=Shared)
    error: Exception | None = None
    told: str = ""
    seconds: float = 0.0

    def begin(self) -> None:
        """Prepare the network, behind fitted steps; fit what is no network of ours."""
        started = time.perf_counter()
        try:
            if self.network is None:
                self._fit_alone()
            else:
                X, params, self.shared = self._front()
                weights = params.pop("sample_weight", None)
                if params:
                    raise TypeError(f"fit takes sample_weight beside X and y, got {', '.join(params)}")
                self.prepared = self.network._prepare(X, self.fold.y, weights, False, self.shared)
        except Exception as error:
            self.fail(error)
        self.seconds += time.perf_counter() - started

    def fail(self, error: Exception) -> None:
        """Keep what went wrong, and say it as it would be said."""
        self.error, self.told, self.prepared = error, "".join(format_exception(error)), None

    def _fit_alone(self) -> None:
        rows = (self.fold.X,) if self.fold.y is None else (self.fold.X, self.fold.y)
        self.estimator.fit(*rows, **self.fold.fit_params)

    def _front(self) -> tuple[Any, dict[str, Any], Shared]:
        """Return the rows as the network sees them, what its `fit` takes beside them, and what fits to them share."""
        pipeline, fold = self.estimator, self.fold
        if pipeline is self.network:
            return fold.X, dict(fold.fit_params), fold.shared
        last = pipeline.steps[-1][0] + "__"
        key = tuple((name, id(value)) for name, value in self.candidate.items() if not (name + "__").startswith(last))
        of_front = {name: value for name, value in fold.fit_params.items() if not name.startswith(last)}
        if key not in fold.fronts:
            front = pipeline[:-1]
            X = front.fit_transform(fold.X, fold.y, **of_front) if front.steps else fold.X
            fold.fronts[key] = front.steps, X, Shared()
        steps, X, shared = fold.fronts[key]
        pipeline.steps = [*steps, pipeline.steps[-1]]
        params = {name.removeprefix(last): value for name, value in fold.fit_params.items() if name.startswith(last)}
        return X, params, shared

    def forget(self) -> None:
        """Let go of what was fitted."""
        self.estimator = self.network = self.prepared = None

    def result(self, scorer: Any, error_score: Any, train_too: bool) -> dict[str, Any]:
        """Score it, and return what scikit-learn makes `cv_results_` of."""
        fold, started = self.fold, time.perf_counter()
        found: dict[str, Any] = {"fit_error": self.told or None, "n_test_samples": _num_samples(fold.unseen)}
        if self.told:
            names = getattr(scorer, "_scorers", None)
            failed = error_score if names is None else dict.fromkeys(names, error_score)
            found |= {"test_scores": failed} | ({"train_scores": failed} if train_too else {})
            return found | {"fit_time": self.seconds, "score_time": 0.0}
        found["test_scores"] = self._score(fold.unseen, fold.wanted, scorer, fold.test_params, error_score)
        score_time = time.perf_counter() - started
        if train_too:
            found["train_scores"] = self._score(fold.X, fold.y, scorer, fold.train_params, error_score)
        return found | {"fit_time": self.seconds, "score_time": score_time}

    def _score(self, X: Any, y: Any, scorer: Any, params: Any, error_score: Any) -> Any:
        """Return what scikit-learn says of rows and their targets."""
        if type(self.network) is MLPClassifier and not params and _is_accuracy(scorer):
            rows = self.shared.once(("scored", id(X)), lambda: self._looked_at(X, y))
            if rows is not None:
                predicted = self.network._chosen(self.network._computed(rows[0], self.shared))
                return float(np.mean(predicted == rows[1]))
        return _score(self.estimator, X, y, scorer, params, error_score)

    def _looked_at(self, X: Any, y: Any) -> tuple[Any, Any] | None:
        """Return rows as the network sees them, and their labels; None where these are not one for each row."""
        assert self.network is not None
        try:
            if self.estimator is not self.network and len(self.estimator.steps) > 1:
                X = self.estimator[:-1].transform(X)
            if type_of_target(y) in ("binary", "multiclass"):
                return self.network._unseen(X), column_or_1d(y)
        except ValueError:
            pass
        return None


def _is_accuracy(scorer: Any) -> bool:
    """Whether a scorer is the accuracy of a classifier's predictions: the one of that name, or what it scores by."""
    named = type(scorer) is _Scorer and scorer._score_func is accuracy_score
    plain = named and scorer._response_method == "predict" and scorer._sign == 1 and not scorer._kwargs
    return plain or type(scorer) is _PassthroughScorer


def trial(base: Any, place: int, candidate: Mapping[str, Any], fold: Fold) -> Trial:
    """Return a candidate on a fold: a clone with its parameters, and which part of it is a network of ours."""
    estimator = clone(base).set_params(**clone(candidate, safe=False))
    last = estimator
    if type(estimator) is Pipeline:
        # Which step takes which parameter is then a matter of what the steps ask for.
        routes = get_config()["enable_metadata_routing"] and fold.fit_params
        last = None if routes else estimator.steps[-1][1]
    return Trial(place, fold, candidate, estimator, last if isinstance(last, Network) else None)


def kind(trial: Trial) -> str:
    """Return what is the same for trials that may be alike."""
    if trial.network is None:
        return ""
    given = trial.network.get_params(deep=False)
    return repr([type(trial.network), *[value for name, value in given.items() if name not in APART]])


class Fitted(NamedTuple):
    """What a search keeps of a trial.

    Attributes:
        place: its number in the search.
        result: what scikit-learn makes `cv_results_` of.
        as_table: whether its steps ran as a table, from the first one on.
        unfinished: whether `max_iter` ended it while it was still becoming better.
    """

    place: int
    result: dict[str, Any]
    as_table: bool
    unfinished: bool


class Search:
    """The fits of a search, and what is asked of each of them.

    Args:
        trials: all of them.
        folds: how many of these belong to a candidate.
        scorers, error_score, train_too, verbose: as scikit-learn's searches have them.
    """

    def __init__(
        self, trials: Sequence[Trial], folds: int, scorers: Any, error_score: Any, train_too: bool, verbose: int
    ) -> None:
        self.kinds: dict[str, list[Trial]] = {}
        for each in trials:
            self.kinds.setdefault(kind(each), []).append(each)
        self.judge = Judge(
            {name: len(of_kind) for name, of_kind in self.kinds.items()},
            folds,
            scorers,
            error_score,
            train_too,
            verbose,
        )

    def fitted(self, n_jobs: int | None) -> list[Fitted]:
        """Train and score all trials, in as many processes as joblib makes of `n_jobs`."""
        jobs = effective_n_jobs(n_jobs)
        threads = getattr(get_active_backend()[0], "supports_sharedmem", False)  # would share what is recorded
        if jobs == 1 or threads:
            return self.judge.fitted([each for of_kind in self.kinds.values() for each in of_kind])
        try:
            answers = Parallel(n_jobs=n_jobs, batch_size=1)(
                delayed(self.judge.elsewhere)(several) for several in dealt(list(self.kinds.values()), jobs)
            )
        except TerminatedWorkerError as error:
            raise RuntimeError(
                f"a process of the search ended before its fits did, as one that the system stops for its memory: take"
                f" fewer processes than n_jobs={n_jobs}"
            ) from error
        said: dict[Any, Any] = {}  # a warning is said as often as one process would
        for _, told in answers:
            for each in told:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno, registry=said)
        return [each for found, _ in answers for each in found]


@dataclass(frozen=True)
class Judge:
    """What is asked of every fit of a search, wherever it runs; `alike` says how many there are of each kind."""

    alike: Mapping[str, int]
    folds: int
    scorers: Any
    error_score: Any
    train_too: bool
    verbose: int

    def elsewhere(self, trials: Sequence[Trial]) -> tuple[list[Fitted], list[warnings.WarningMessage]]:
        """Train and score trials in a process of their own, and keep what is warned of for the one that asked."""
        with warnings.catch_warnings(record=True) as told:
            found = self.fitted(trials)
        return found, told

    def fitted(self, trials: Sequence[Trial]) -> list[Fitted]:
        """Train and score trials, portion by portion."""
        found = []
        for portion in self._trained(trials):
            for each in portion:
                prepared = each.prepared
                result = each.result(self.scorers, self.error_score, self.train_too)
                found.append(
                    Fitted(
                        each.place,
                        result,
                        prepared is not None and prepared.as_table,
                        prepared is not None and prepared.unfinished,
                    )
                )
                if self.verbose > 1:
                    fold, seconds = each.place % self.folds + 1, each.seconds
                    print(f"fold {fold}  {each.candidate}  {result['test_scores']}  {seconds:.2f} s", flush=True)
                each.forget()
        return found

    def _trained(self, trials: Sequence[Trial]) -> Iterator[list[Trial]]:
        """Train trials, and yield those that have ended, portion by portion."""
        for portion in portions(trials):
            fits = []
            for each in portion:
                if each.network is not None and each.prepared is not None:
                    each.prepared.alike = self.alike[kind(each)]
                    fits.append((each.network, each.prepared))
            begun = [each for each in portion if each.prepared]
            started = time.perf_counter()
            ended = train_together(fits)
            seconds = time.perf_counter() - started
            for each, error in zip(begun, ended, strict=True):
                each.seconds += seconds / len(begun)
                if error is not None:
                    each.fail(error)
            for each in portion:
                if each.error is not None and self.error_score == "raise":
                    raise each.error
            yield portion


def portions(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Return trials, which stand kind beside kind, in lists that may be trained together."""
    portion: list[Trial] = []
    total = 0
    for each in trials:
        portion.append(each)
        with uncollected():
            each.begin()
        if each.prepared is not None:
            total += 5 * sum(parameter.nbytes for parameter in each.prepared.training.model.parameters())
        if len(portion) == PORTION or total > PORTION_BYTES:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion
