"""How far the members of an ensemble are apart on a row: the standard deviation, with n - 1, of what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.score.classification import probabilities


def of_classes(
    logits: NDArray[Any], called: NDArray[np.int64], each: Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
) -> NDArray[np.float64]:
    """Return the spread of the probability of the class that their mean calls, of the shape of `called`.

    Args:
        logits: of each member, (members, n, outputs).
        called: the number of that class, (n,), or (n, targets).
        each: from outputs (n, outputs) to those for each target: (n, classes), or (n, 1) for two classes.

    >>> logits = np.array([[[0.0], [9.0]], [[0.0], [-9.0]]])
    >>> of_classes(logits, np.array([1, 1]), lambda outputs: [outputs]).round(3).tolist()
    [0.0, 0.707]
    """
    columns, rows = called.reshape(len(called), -1).T, np.arange(len(called))
    odds = np.stack(
        [[probabilities(one)[rows, numbers] for one, numbers in zip(each(of), columns, strict=True)] for of in logits]
    )
    found: NDArray[np.float64] = odds.std(axis=0, ddof=1).T.reshape(called.shape)
    return found


def of_numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the spread of each target, (n, targets), of values (members, n, targets)."""
    found: NDArray[np.float64] = values.std(axis=0, ddof=1)
    return found
