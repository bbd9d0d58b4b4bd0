"""`MLPRegressor`: one number, or several, for each row."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d, validate_data

from nanotorch import nn
from nanotorch.estimators.arguments import (
    Activation,
    Beta,
    DropoutRate,
    OptimizerName,
    Patience,
    RandomState,
    RegressionLoss,
    ScheduleName,
    Solver,
    Widths,
    named,
)
from nanotorch.estimators.network import Network
from nanotorch.estimators.prepared import Array, Rows, Shared
from nanotorch.registry import LOSSES, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Probability


class MLPRegressor(RegressorMixin, Network):
    """A multi-layer perceptron that predicts numbers, trained by minimising half the squared error.

    Scale the targets where they are far from 0 or much larger than 1 (`sklearn.compose.TransformedTargetRegressor`).

    Args:
        loss: "squared_error" (half of it, as in scikit-learn), or any loss for regression that a config can name, such
            as "L1Loss" or {"name": "HuberLoss", "delta": 0.5}.
        hidden_layer_sizes, activation, ...: see `MLPClassifier`; `class_weight` and `label_smoothing` are not there,
            and `early_stopping` watches R2, without stratifying.

    Attributes:
        weights_, coefs_, ...: see `MLPClassifier`; `validation_scores_` are R2.

    >>> from nanotorch.estimators import MLPRegressor
    >>> X = [[0.0], [1.0], [2.0], [3.0]]
    >>> model = MLPRegressor(hidden_layer_sizes=(), alpha=0, solver="sgd", learning_rate_init=0.1, tol=1e-8,
    ...                      random_state=0)
    >>> model.fit(X, [1.0, 3.0, 5.0, 7.0]).predict([[4.0]]).round(1).tolist()
    [9.0]
    """

    _monitor: ClassVar[str] = "r2"

    def __init__(
        self,
        loss: RegressionLoss = "squared_error",
        hidden_layer_sizes: Widths = (100,),
        activation: Activation = "relu",
        *,
        solver: Solver = "adam",
        alpha: NonNegativeFloat = 0.0001,
        batch_size: Literal["auto"] | PositiveInt = "auto",
        learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant",
        learning_rate_init: PositiveFloat = 0.001,
        power_t: NonNegativeFloat = 0.5,
        max_iter: PositiveInt = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: NonNegativeFloat = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: Probability = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: Fraction = 0.1,
        beta_1: Beta = 0.9,
        beta_2: Beta = 0.999,
        epsilon: PositiveFloat = 1e-8,
        n_iter_no_change: Patience = 10,
        dropout: DropoutRate = 0.0,
        batch_norm: bool = False,
        members: PositiveInt = 1,
        preset: Literal["default"] | None = None,
        optimizer: OptimizerName = None,
        schedule: ScheduleName = None,
        accumulate: PositiveInt = 1,
        clip_norm: PositiveFloat | None = None,
        clip_value: PositiveFloat | None = None,
        ema: Fraction | None = None,
        compile: Literal["auto"] | bool = "auto",
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        self._store(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on rows X (n, features) and their targets y (n,) or (n, k).

        A ConvergenceWarning says that `max_iter` came first.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch more, from where the last call ended."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the targets of each row, (n,) for a single target, else (n, k)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, incremental: bool, anew: bool, shared: Shared
    ) -> Rows:
        X, targets = self._checked(X, y, anew, shared)
        if not anew and targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {targets.shape[1]} targets, but the weights were learnt for {self.n_outputs_}")
        return Rows(X, targets, self._weights_of_rows(X, sample_weight), targets.shape[1], False, "identity")

    def _valid(self, X: Any, y: Any, anew: bool) -> tuple[Array, Array]:
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32), reset=anew)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y.astype(np.float64).reshape(len(X), -1)

    def _criterion(self, reduction: Any) -> nn.Module:
        if self.loss == "squared_error":
            return nn.MSELoss(reduction=reduction)
        name, arguments = named("loss", self.loss, LOSSES)
        criterion: nn.Module = LOSSES.get(name)(**arguments, reduction=reduction)
        return criterion

    def _row_weight(self, targets: Array) -> float:
        # scikit-learn's loss is half the squared error, and its gradient that of the sum over the targets.
        return 2.0 if self.loss == "squared_error" else float(targets.shape[1])

    def _scored_as(self, targets: Array) -> dict[str, Any]:
        names = [f"y{column}" for column in range(targets.shape[1])]
        return {"task": "regression", "target_names": names, "target_variance": targets.var(axis=0)}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
