"""How the answer of a model changes with one column: partial dependence.

Note [Partial dependence]
~~~~~~~~~~~~~~~~~~~~~~~~~
In each of some rows the column is set to one value, and the mean of the answers is taken; this for values from the
column's fifth to its ninety-fifth percentile in the training part, or for its most frequent categories (Friedman,
"Greedy Function Approximation: A Gradient Boosting Machine", 2001). The other columns keep their values, so where
columns go together some of these rows are none that there could be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import spread_rows
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.report.verdict import places
from nanotorch.train.score import classification
from nanotorch.train.score.judgement import Worth

MOST_COLUMNS, MOST_ROWS, MOST_VALUES = 4, 200, 20
MOST_CLASSES = 4  # whose probabilities are told


class Dependence(NamedTuple):
    """The mean answers of a model over the values of one column.

    Attributes:
        name: the column.
        values: numbers that rise, or categories, the most frequent first.
        answers: for each value and each of `shown` the mean answer, (values, shown).
    """

    name: str
    values: list[float] | list[str]
    answers: NDArray[np.float64]


def shown(found: Findings) -> list[int]:
    """Return of which outputs the answers are told: the first target, the second of two classes, of more the most
    frequent ones; of several targets of classes the first ones.
    """
    if found.several:
        return list(range(min(len(found.names), MOST_CLASSES)))
    if found.is_regression or len(found.names) == 2:
        return [0 if found.is_regression else 1]
    counts = np.bincount(found.parts["train"].targets, minlength=len(found.names))
    return sorted(np.argsort(-counts, kind="stable")[:MOST_CLASSES].tolist())


def dependences(found: Findings, worths: Sequence[Worth]) -> list[Dependence]:
    """Return how the answers change with the columns that are worth most."""
    part, chosen, stand = found.parts[found.judged], shown(found), places(found.preprocessing)
    some = part.rows(spread_rows(len(part), MOST_ROWS))
    features, told = found.preprocessing.features(some), []
    for worth in worths[:MOST_COLUMNS]:
        codes, values = _values(found, worth.name)
        if len(values) < 2:
            continue
        like = part.rows(np.zeros(len(codes), np.int64))
        cells = np.array(like.features, np.float64)
        cells[:, part.feature_names.index(worth.name)] = codes
        columns = stand[worth.name]
        as_seen = found.preprocessing.features(replace(like, features=cells))[:, columns]
        every = np.tile(features, (len(codes), 1))
        every[:, columns] = np.repeat(as_seen, len(features), axis=0)
        answers = _answers(found, every)[:, chosen]
        told.append(Dependence(worth.name, values, answers.reshape(len(codes), len(features), -1).mean(axis=1)))
    return told


def _values(found: Findings, name: str) -> tuple[NDArray[np.float64], list[float] | list[str]]:
    """Return the values at which to look, as a table holds them and as they are told."""
    train = found.parts["train"]
    column = np.asarray(train.features[:, train.feature_names.index(name)])
    known, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    texts = (train.categories or {}).get(name)
    if texts is not None:
        known = known[np.argsort(-counts, kind="stable")[:MOST_VALUES]]
        return known, [texts[int(code)] for code in known]
    if len(known) > MOST_VALUES:
        low, high = np.quantile(np.repeat(known, counts), [0.05, 0.95])
        known = np.unique(np.linspace(low, high, MOST_VALUES))
    return known, known.tolist()


def _answers(found: Findings, features: NDArray[np.float64]) -> NDArray[np.float64]:
    outputs = found.outputs_of(features)
    if found.several:
        pieces = zip(found.preprocessing.each(outputs), told_classes(found), strict=True)
        return np.stack([classification.probabilities(one)[:, k] for one, k in pieces], axis=1)
    return found.preprocessing.in_units(outputs) if found.is_regression else classification.probabilities(outputs)


def told_classes(found: Findings) -> list[int]:
    """Return of several targets of classes the one of each whose probability is told: of two the second, of more the
    most frequent one.
    """
    counted = found.parts["train"].class_numbers
    return [1 if len(names) == 2 else int(np.bincount(numbers).argmax()) for names, numbers in counted]
