"""How far scores can be trusted: intervals, comparisons on the same rows, and what each column is worth.

Note [Intervals]
~~~~~~~~~~~~~~~~
An interval of 95 % holds what the score would be on any number of rows like these in 19 of 20 cases. That of a share is
Wilson's (1927), which is right for shares near 0 and 1 too; others are bootstrapped (Efron 1979): rows are drawn anew,
with repetition, a thousand times, and the middle 95 % of the scores taken. Of many rows, a thousand groups are drawn,
whose sums spread as much. The draws follow from a seed of their own, so that the same run says the same.

Note [Several runs]
~~~~~~~~~~~~~~~~~~~
The runs of folds and repeats share most of the rows that they are trained on, so their scores spread less than those of
tables drawn anew, and the spread divided by the root of their number is too small an error of their mean. Its variance
is that of the scores times 1 / runs + rows that judge / rows of training, and the interval that of Student's t: Nadeau
and Bengio, "Inference for the generalization error" (Machine Learning 52, 2003).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DRAWS = 1000
GROUPS = 1000
MOST = 1e300  # what stands for the worst, where draws have no variance
ROUNDING = 1e-12  # of the sum of squares of rows that all have one value
NORMAL = 1.959964  # deviations that hold 95 %


class Estimate(NamedTuple):
    """A score, and the interval of 95 % around it (Note [Intervals])."""

    value: float
    low: float
    high: float


def share(hits: int, rows: int) -> Estimate:
    """Return the share of rows that are hits.

    >>> [round(float(number), 3) for number in share(10, 10)]
    [1.0, 0.722, 1.0]
    """
    mean, square = hits / rows, NORMAL**2 / rows
    middle = (mean + square / 2) / (1 + square)
    half = math.sqrt(mean * (1 - mean) * square + square**2 / 4) / (1 + square)
    return Estimate(mean, max(middle - half, 0.0), min(middle + half, 1.0))


def bootstrap(terms: Array, statistic: Callable[[Array], Array], weights: Array | None = None) -> list[Estimate]:
    """Return statistics of sums over rows.

    Args:
        terms: what is summed, (rows, k).
        statistic: from sums (draws, k + 1), the last of which is the number of rows, to scores (draws, several).
        weights: how much each row counts in the sums, (rows,); None: once.
    """
    generator = np.random.default_rng(0)
    counted = np.concatenate([terms, np.ones((len(terms), 1))], axis=1)
    if weights is not None:
        counted *= weights[:, None]
    total = counted.sum(axis=0, keepdims=True)
    if len(counted) > GROUPS:
        order = generator.permutation(len(counted))
        starts = np.linspace(0, len(counted), GROUPS, endpoint=False).astype(np.int64)
        counted = np.add.reduceat(counted[order], starts)
    many = len(counted)
    drawn = generator.integers(0, many, (DRAWS, many)) + np.arange(DRAWS)[:, None] * many
    times = np.bincount(drawn.ravel(), minlength=DRAWS * many).reshape(DRAWS, many)
    with np.errstate(all="ignore"):
        found = statistic(times @ counted)
        values = statistic(total)[0]
        low, high = np.quantile(np.where(np.isfinite(found), found, -MOST), [0.025, 0.975], axis=0)
    return [Estimate(*map(float, each)) for each in zip(values, low, high, strict=True)]


def means(values: Array, weights: Array | None = None) -> list[Estimate]:
    """Return the means over rows (n, k)."""
    return bootstrap(values, lambda sums: sums[:, :-1] / sums[:, -1:], weights)


def over_runs(scores: Array, share: float) -> Estimate:
    """Return the mean score of several runs (Note [Several runs]).

    Args:
        scores: of each, (runs,), two or more.
        share: how many rows judge a run for each that it is trained on.

    >>> [round(float(number), 3) for number in over_runs(np.array([0.8, 0.9, 1.0]), 0.5)]
    [0.9, 0.507, 1.293]
    """
    from scipy.special import stdtrit

    many, mean = len(scores), float(scores.mean())
    half = float(stdtrit(many - 1, 0.975) * scores.std(ddof=1) * math.sqrt(1 / many + share))
    return Estimate(mean, mean - half, mean + half)


def r2(true: Array, guessed: Array, weights: Array | None = None) -> Estimate:
    """Return the share of the variance that is explained, the mean of it over the targets (n, k)."""
    return bootstrap(_squares(true, guessed), lambda sums: _r2(sums, true.shape[1]), weights)[0]


def r2_gain(true: Array, guessed: Array, other: Array, weights: Array | None = None) -> Estimate:
    """Return how much larger the first R2 is than the second, of the same rows."""
    count = true.shape[1]
    both = np.concatenate([_squares(true, guessed), _squares(true, other)], axis=1)

    def gain(sums: Array) -> Array:
        first, second = np.split(sums[:, :-1], 2, axis=1)
        rows = sums[:, -1:]
        return _r2(np.concatenate([first, rows], axis=1), count) - _r2(np.concatenate([second, rows], axis=1), count)

    return bootstrap(both, gain, weights)[0]


def rmse(true: Array, guessed: Array, weights: Array | None = None) -> float:
    """Return the root of the mean squared error, (n,) or (n, k); rows may have weights.

    >>> rmse(np.array([1.0, 2.0]), np.array([2.0, 9.0]))
    5.0
    """
    squares = (true - guessed) ** 2
    return float(np.sqrt(np.average(squares.reshape(len(squares), -1).mean(axis=1), weights=weights)))


def _squares(true: Array, guessed: Array) -> Array:
    centred = true - true.mean(axis=0)
    return np.concatenate([(true - guessed) ** 2, centred, centred**2], axis=1)


def _r2(sums: Array, count: int) -> Array:
    errors, firsts, seconds = (sums[:, k * count : (k + 1) * count] for k in range(3))
    spread = seconds - firsts**2 / sums[:, -1:]
    found: Array = (1 - errors / np.where(spread > ROUNDING * seconds, spread, 0.0)).mean(axis=1, keepdims=True)
    return found


class Worth(NamedTuple):
    """What a column is worth to a model: how much the mean loss of a row grows when its values are shuffled."""

    name: str
    loss: Estimate


def worths(features: Array, places: dict[str, list[int]], losses: Callable[[Array], Array], times: int) -> list[Worth]:
    """Return the worth of columns by permutation (Breiman, Random forests, 2001), the largest first.

    Args:
        features: rows as the model sees them.
        places: where each column of the table stands in them.
        losses: from such rows, once or several times one behind the other, to the loss of each.
        times: how often each column is shuffled; the mean of them counts.
    """
    generator, before = np.random.default_rng(0), losses(features)
    grown = np.zeros((len(features), len(places)))
    for place, columns in enumerate(places.values()):
        shuffled = np.tile(features, (times, 1, 1))
        for copy in shuffled:
            copy[:, columns] = features[np.ix_(generator.permutation(len(features)), np.asarray(columns))]
        after = losses(shuffled.reshape(-1, features.shape[1])).reshape(times, -1)
        grown[:, place] = (after - before).mean(axis=0)
    found = map(Worth, places, means(grown))
    return sorted(found, key=lambda worth: -worth.loss.value)


class Curves(NamedTuple):
    """What a classifier of two classes does at every threshold, from that which calls all rows the second class.

    Attributes:
        thresholds: rows whose probability of the second class is as large or larger are called so.
        true_positives: of the rows of the second class, the share that is called so.
        false_positives: of the rows of the first class.
        precision: of the rows that are called the second class, the share that is.
        auc: the area under the true over the false positives.
        average_precision: the mean precision over the true positives.
    """

    thresholds: Array
    true_positives: Array
    false_positives: Array
    precision: Array
    auc: float
    average_precision: float


def curves(stated: Array, positive: NDArray[Any]) -> Curves:
    """Return the curves of stated probabilities (n,), of rows of both classes.

    >>> found = curves(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    >>> found.auc, round(found.average_precision, 4)
    (0.75, 0.8333)
    """
    order = np.argsort(-stated, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(stated[order])), len(order) - 1)
    hits = np.cumsum(positive[order].astype(np.float64))[ends]
    called = ends + 1.0
    misses = called - hits
    recall, alarms = hits / hits[-1], misses / misses[-1]
    widths, steps = np.diff(alarms, prepend=0.0), np.diff(recall, prepend=0.0)
    heights = recall - steps / 2
    precision = hits / called
    return Curves(stated[order][ends], recall, alarms, precision, float(widths @ heights), float(steps @ precision))
