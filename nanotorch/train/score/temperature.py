"""One number that makes the probabilities of a classifier as sure as they are right.

Note [Temperature]
~~~~~~~~~~~~~~~~~~
Logits are divided by a number, the temperature (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
Networks", 2017): above 1 it makes probabilities less sure, below 1 surer, and it changes no order, so no class either.
It is the one that makes the likelihood of the validation part largest. The loss is convex in 1/T, so halving finds
where its slope is 0. Where every row is right the likelihood grows without end as T falls, so there is a smallest and a
largest one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.score.classification import probabilities

Array = NDArray[np.float64]
LEAST, MOST = 0.05, 20.0
HALVINGS = 50


def temperature(outputs: Array, classes: NDArray[np.int64]) -> float:
    """Return the best temperature for logits, (n, classes) or (n, 1) for two, of rows of these classes.

    >>> outputs = np.log(np.array([[0.9, 0.1]] * 10))  # as sure as nine of ten, and right in six
    >>> round(temperature(outputs, np.array([0] * 6 + [1] * 4)), 3)
    5.419
    """
    logits = np.concatenate([np.zeros_like(outputs), outputs], axis=1) if outputs.shape[1] == 1 else outputs
    true = logits[np.arange(len(logits)), classes].mean()
    low, high = np.log(1 / MOST), np.log(1 / LEAST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = (probabilities(logits * np.exp(middle)) * logits).sum(axis=1).mean() - true
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))
