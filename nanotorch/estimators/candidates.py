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
architecture run as one program.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from traceback import format_exception
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _PassthroughScorer, _Scorer
from sklearn.model_selection._validation import _score
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_method_params, _num_samples, column_or_1d

from nanotorch.estimators.classifier import MLPClassifier
from nanotorch.estimators.network import Network, train_together
from nanotorch.estimators.prepared import Prepared, Shared
from nanotorch.train.fit.together import uncollected

PORTION = 256  # fits that are trained together at most
PORTION_BYTES = 2**28  # of weights, gradients and moments
LIKE = (
    "hidden_layer_sizes",
    "activation",
    "batch_size",
    "solver",
    "optimizer",
    "dtype",
    "batch_norm",
    "members",
    "preset",
    "max_iter",
    "compile",
)


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
    """A candidate on a fold."""

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


def trial(base: Any, candidate: Mapping[str, Any], fold: Fold) -> Trial:
    """Return a candidate on a fold: a clone with its parameters, and which part of it is a network of ours."""
    estimator = clone(base).set_params(**clone(candidate, safe=False))
    last = estimator
    if type(estimator) is Pipeline:
        # Which step takes which parameter is then a matter of what the steps ask for.
        routes = get_config()["enable_metadata_routing"] and fold.fit_params
        last = None if routes else estimator.steps[-1][1]
    return Trial(fold, candidate, estimator, last if isinstance(last, Network) else None)


def kind(trial: Trial) -> str:
    """Return what is the same for trials that may be alike."""
    return "" if trial.network is None else repr([getattr(trial.network, name) for name in LIKE])


def portions(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Return the trials in lists that may be trained together, those of a kind beside each other."""
    portion: list[Trial] = []
    total = 0
    for each in sorted(trials, key=kind):
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


def run(trials: Sequence[Trial], error_score: Any) -> Iterator[list[Trial]]:
    """Train all trials, and yield those that have ended, portion by portion."""
    alike = Counter(map(kind, trials))
    for portion in portions(trials):
        fits = []
        for each in portion:
            if each.network is not None and each.prepared is not None:
                each.prepared.alike = alike[kind(each)]
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
            if each.error is not None and error_score == "raise":
                raise each.error
        yield portion
