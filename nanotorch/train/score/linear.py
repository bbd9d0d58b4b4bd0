"""A linear model to compare with: least squares for numbers, logistic regression for classes.

Note [Logistic regression]
~~~~~~~~~~~~~~~~~~~~~~~~~~
The second derivative of the loss of a softmax is at most half the Gram matrix of the features (Böhning, Multinomial
logistic regression algorithm, 1992). Steps with the inverse of that bound never overshoot, and one factorisation serves
all of them; Nesterov's momentum makes them few. The penalty is that of scikit-learn with C=1, half the sum of squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEPS = 100
CLOSE = 5e-4  # of the gradient for a row


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear model of columns that are centred and scaled first.

    Attributes:
        mean: of the columns, (d,).
        scale: their deviation, 1 where a column is constant, (d,).
        weights: (d + 1, outputs); the last row is the bias.
    """

    mean: Array
    scale: Array
    weights: Array

    def outputs(self, features: Array) -> Array:
        """Return what it says of rows: values, or a logit for each class."""
        return _scaled(features, self.mean, self.scale) @ self.weights


def fit(
    features: Array,
    targets: NDArray[np.float64] | NDArray[np.int64],
    classes: int | None,
    row_weights: Array | None = None,
) -> Linear:
    """Learn from rows (n, d): values (n, k), or class numbers (n,) where there are classes; rows may have weights."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-12 * np.abs(mean), scale, 1.0)
    rows = _scaled(features, mean, scale)
    weighed = rows if row_weights is None else rows * row_weights[:, None]
    penalty = np.eye(rows.shape[1])
    penalty[-1, -1] = 1e-8  # of the bias
    if classes is None:
        weights: Array = np.linalg.solve(weighed.T @ rows + penalty, weighed.T @ targets).astype(np.float64)
        return Linear(mean, scale, weights)
    truth = (targets[:, None] == np.arange(classes)).astype(np.float64)
    bound = np.linalg.inv(0.5 * weighed.T @ rows + penalty)
    weights = ahead = np.zeros((rows.shape[1], classes))
    momentum = 1.0
    for _ in range(STEPS):
        logits = rows @ ahead
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope = weighed.T @ (powers / powers.sum(axis=1, keepdims=True) - truth) + penalty @ ahead
        if np.abs(slope).max() < CLOSE * len(rows):
            break
        after = ahead - bound @ slope
        if ((after - weights) * slope).sum() > 0:  # the momentum leads uphill: begin anew
            momentum = 1.0
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = after + (momentum - 1) / grown * (after - weights)
        weights, momentum = after, grown
    return Linear(mean, scale, ahead)


def _scaled(features: Array, mean: Array, scale: Array) -> Array:
    """Return rows centred and scaled, with a column of ones behind them."""
    rows = np.ones((len(features), features.shape[1] + 1))
    inner = rows[:, :-1]
    np.subtract(features, mean, out=inner)
    inner /= scale
    return rows
