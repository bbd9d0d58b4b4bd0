"""How far the members of an ensemble are apart on a row: the standard deviation, with n - 1, of what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.score.classification import probabilities


def of_classes(logits: NDArray[Any], called: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the spread of the probability of the class that their mean calls, (n,).

    Args:
        logits: of each member, (members, n, classes), or (members, n, 1) for two classes.
        called: the number of that class, (n,).

    >>> of_classes(np.array([[[0.0], [9.0]], [[0.0], [-9.0]]]), np.array([1, 1])).round(3).tolist()
    [0.0, 0.707]
    """
    odds = np.stack([probabilities(one)[np.arange(len(called)), called] for one in logits])
    found: NDArray[np.float64] = odds.std(axis=0, ddof=1)
    return found


def of_numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spread of each target, (n, targets), of values (members, n, targets)."""
    found: NDArray[np.float64] = values.std(axis=0, ddof=1)
    return found
