"""Intervals and sets that hold the truth as often as they say, whatever the model: split conformal prediction.

Note [Conformal prediction]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
Rows that the model has not learnt from say how far off it is: by the absolute error of a number, by 1 - p where p is
the probability of the true class. Of n such scores the one of rank ceil((n + 1) * level), counted from the smallest, is
not passed by that of a new row with a probability of `level` at least, where rows are as good as drawn in any order
(Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Lei and others, "Distribution-Free
Predictive Inference for Regression", 2018; Sadinle, Lei and Wasserman, "Least Ambiguous Set-Valued Classifiers", 2019).
So a number lies within that score of its prediction, and the class is among those whose 1 - p does not pass it; the
class that the model calls always is among them, so that no set is empty. The validation part gives the scores. It has
chosen the epoch too, which makes them a little small: how often it comes true is counted on the test part.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVELS = (0.8, 0.9, 0.95)  # that are looked at where no one says which
MOST_SCORES = 2000  # that a run keeps: they leave the share that comes true uncertain by less than 0.01


def rank(rows: int, level: float) -> int:
    """Return which of the scores counts, from 1 on for the smallest; it may be more than there are.

    >>> rank(99, 0.9), rank(9, 0.9), rank(8, 0.9)
    (90, 9, 9)
    """
    return math.ceil(round((rows + 1) * level, 9))


def fewest(level: float) -> int:
    """Return how many scores a level needs.

    >>> fewest(0.9), fewest(0.95)
    (9, 19)
    """
    return math.ceil(round(level / (1 - level), 9))


def limits(scores: Array, level: float) -> Array:
    """Return the limit for each column of scores (n, k); infinite where there are too few."""
    k = rank(len(scores), level)
    found: Array = np.sort(scores, axis=0)[k - 1] if k <= len(scores) else np.full(scores.shape[1], np.inf)
    return found


def in_set(probabilities: Array, limit: float) -> NDArray[np.bool_]:
    """Return which classes the set of each row holds, from their probabilities (n, classes).

    >>> in_set(np.array([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25]]), 0.65).tolist()
    [[True, False, False], [True, True, False]]
    """
    held: NDArray[np.bool_] = 1 - probabilities <= limit
    held[np.arange(len(held)), probabilities.argmax(axis=1)] = True
    return held
