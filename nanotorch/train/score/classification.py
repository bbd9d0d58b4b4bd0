"""What a classifier gets right and wrong: the confusion matrix, the scores of every class, and calibration.

Only the matrix takes classes times classes numbers, and only `probabilities` takes rows times classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 10


class ClassScore(NamedTuple):
    """How well one class is found, as scikit-learn's `classification_report` counts.

    Attributes:
        name: the class.
        precision: of the rows that were called this class, the share that is; 0 where no row was.
        recall: of the rows of this class, the share that was called so; 0 where there is no such row.
        f1: the harmonic mean of the two.
        support: the rows of this class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class Calibration(NamedTuple):
    """How far stated probabilities can be believed, over bins of equal width.

    Attributes:
        stated: the mean probability that the model states in each bin that has rows.
        observed: the share of rows of the bin for which it came true.
        rows: how many rows the bin has.
        error: the expected calibration error (Naeini et al. 2015), the mean distance of the two over all rows.
    """

    stated: NDArray[np.float64]
    observed: NDArray[np.float64]
    rows: NDArray[np.int64]
    error: float


class TargetScore(NamedTuple):
    """How well one of several targets of classes is found.

    Attributes:
        name: the target.
        classes: how many it has.
        accuracy: the share of rows whose class is right.
        most_frequent: the share of rows of the most frequent class.
        balanced_accuracy: the mean recall of the classes that have rows.
        f1: the mean F1 of the classes.
    """

    name: str
    classes: int
    accuracy: float
    most_frequent: float
    balanced_accuracy: float
    f1: float


def predicted(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """Class numbers (n,) from logits: (n, classes), or (n, 1) for two classes."""
    return (outputs[:, 0] > 0).astype(np.int64) if outputs.shape[1] == 1 else outputs.argmax(1).astype(np.int64)


def probabilities(outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of every class, (n, classes) float64, from logits:
    (n, classes), or (n, 1) for two classes.

    >>> probabilities(np.array([[0.0], [1000.0]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    logits = outputs.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion(true: NDArray[Any], guessed: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count rows by their class (down) and the class that the model gave (across).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(true * classes + guessed, minlength=classes * classes).reshape(classes, classes)


def confusions(
    true: NDArray[Any], guessed: NDArray[Any], names: Sequence[str], count: int
) -> list[tuple[str, str, int]]:
    """Return the mistakes that are made most often: the true class, the class it was called, how often."""
    wrong = true != guessed
    pairs, times = np.unique(true[wrong] * len(names) + guessed[wrong], return_counts=True)
    most = np.argsort(-times, kind="stable")[:count]
    return [
        (names[pair // len(names)], names[pair % len(names)], often)
        for pair, often in zip(pairs[most].tolist(), times[most].tolist(), strict=True)
    ]


def class_scores(true: NDArray[Any], guessed: NDArray[Any], names: Sequence[str]) -> list[ClassScore]:
    """Return the scores of every class, from the class numbers of rows and those that the model gave them.

    >>> class_scores(np.array([0, 0, 1]), np.array([0, 1, 1]), ["no", "yes"])[1]
    ClassScore(name='yes', precision=0.5, recall=1.0, f1=0.6666666666666666, support=1)
    """
    found, called, there = (
        np.bincount(numbers, minlength=len(names)) for numbers in (true[true == guessed], guessed, true)
    )
    precision, recall, f1 = (
        (hits / np.maximum(total, 1)).tolist()
        for hits, total in ((found, called), (found, there), (2 * found, called + there))
    )
    return [ClassScore(*values) for values in zip(names, precision, recall, f1, there.tolist(), strict=True)]


def target_scores(
    true: NDArray[Any], guessed: NDArray[Any], names: Sequence[str], classes: Sequence[Sequence[str]]
) -> list[TargetScore]:
    """Return the scores of several targets of classes, from class numbers (n, targets).

    >>> rows = np.array([[0], [0], [1], [1]]), np.array([[0], [0], [0], [1]])
    >>> target_scores(*rows, ["rain"], [("no", "yes")])[0].balanced_accuracy
    0.75
    """
    found = []
    for name, known, of, said in zip(names, classes, true.T, guessed.T, strict=True):
        scores = class_scores(of, said, known)
        recalls = [score.recall for score in scores if score.support]
        counts = [score.support for score in scores]
        means = (sum(recalls) / len(recalls), sum(score.f1 for score in scores) / len(scores))
        found.append(TargetScore(name, len(known), float(np.mean(of == said)), max(counts) / len(of), *means))
    return found


def calibration(stated: NDArray[np.float64], came_true: NDArray[Any]) -> Calibration:
    """Compare probabilities (n,) with what came true (n,).

    >>> found = calibration(np.array([0.3, 0.3, 0.3, 1.0]), np.array([False, False, True, True]))
    >>> found.rows.tolist(), found.observed.round(3).tolist(), round(found.error, 3)
    ([3, 1], [0.333, 1.0], 0.025)
    """
    bins = np.minimum((stated * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    used = rows > 0
    sums = (
        np.bincount(bins, weights=values, minlength=BINS)[used] for values in (stated, came_true.astype(np.float64))
    )
    mean_stated, mean_observed = (total / rows[used] for total in sums)
    error = float((np.abs(mean_stated - mean_observed) * rows[used]).sum() / max(len(stated), 1))
    return Calibration(mean_stated, mean_observed, rows[used], error)


def merged(found: Calibration, least: int = 20) -> Calibration:
    """Return the bins, those with few rows joined to the next ones, for the share in a few rows is chance.

    >>> few = Calibration(np.array([0.15, 0.25, 0.9]), np.array([1.0, 0.0, 0.9]), np.array([1, 3, 60]), 0.1)
    >>> [values.round(3).tolist() for values in merged(few)[:3]]
    [[0.858], [0.859], [64]]
    """
    bins: list[tuple[float, float, int]] = []
    for stated, observed, rows in zip(*(values.tolist() for values in found[:3]), strict=True):
        if bins and (bins[-1][2] < least or rows < least):
            before = bins.pop()
            total = before[2] + rows
            stated, observed = (
                (old * before[2] + new * rows) / total for old, new in zip(before[:2], (stated, observed), strict=True)
            )
            rows = total
        bins.append((stated, observed, rows))
    columns = [np.array(values) for values in zip(*bins, strict=True)]
    return Calibration(columns[0], columns[1], columns[2], found.error)
