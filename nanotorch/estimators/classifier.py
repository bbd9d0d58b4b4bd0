"""`MLPClassifier`: classes, or a column of 0 and 1 for each of several labels."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d, validate_data

from nanotorch import nn
from nanotorch.estimators.arguments import (
    Activation,
    Beta,
    ClassWeight,
    DropoutRate,
    OptimizerName,
    Patience,
    RandomState,
    ScheduleName,
    Solver,
    Widths,
)
from nanotorch.estimators.network import Network
from nanotorch.estimators.prepared import Array, Rows, Shared
from nanotorch.registry import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Probability


class MLPClassifier(ClassifierMixin, Network):
    """A multi-layer perceptron that classifies, trained by minimising the cross entropy.

    Arguments that scikit-learn's MLPClassifier has as well mean the same, have the same defaults, and lead to the same
    training; those from `class_weight` on are ours.

    Args:
        hidden_layer_sizes: the widths of the hidden layers; empty makes a linear model.
        activation: "identity", "logistic", "tanh", "relu", or any activation that a config can name, such as "GELU".
        solver: "adam" or "sgd".
        alpha: the L2 penalty of the weights (not of biases), divided by the rows of a batch.
        batch_size: rows of a batch, at most all; "auto" is 200.
        learning_rate: "constant"; "invscaling", divided by `power_t`-th power of the rows seen; or "adaptive",
            divided by 5 whenever the loss has not become better by `tol` for `n_iter_no_change` epochs.
        learning_rate_init: the learning rate at the start.
        power_t: see "invscaling".
        max_iter: how many epochs at most.
        shuffle: visit the rows in another order in each epoch.
        random_state: the seed of weights, order, dropout and validation part: a number, a RandomState from which one is
            drawn, or None for another one in each fit. `seed_` tells it. No global random state is read or changed.
        tol: by how much the training loss, or with `early_stopping` the validation score, has to become better.
        verbose: print a line for every epoch.
        warm_start: `fit` begins with the weights that the last fit ended with.
        momentum, nesterovs_momentum: of "sgd".
        early_stopping: set `validation_fraction` of the rows apart (stratified by class, where there are enough of
            each), watch the accuracy there, and end with the weights of the best epoch.
        validation_fraction: which part of the rows to set apart.
        beta_1, beta_2, epsilon: of "adam".
        n_iter_no_change: stop when there was nothing better for more than so many epochs; infinity always trains
            `max_iter`.
        class_weight: what rows of a class count for: "balanced", or a dict from classes to numbers; multiplies
            `sample_weight`.
        label_smoothing: this share of each target is spread over all classes.
        dropout: the probability with which a hidden value is dropped in training.
        batch_norm: normalise each hidden layer over the batch, before its activation.
        members: so many networks, trained side by side, of which each learns alone and the mean predicts.
        preset: "default" chooses by the rows and columns what was left at its default of `hidden_layer_sizes`,
            `members`, `dropout`, `optimizer`, `schedule`, `learning_rate_init`, `batch_size`, `max_iter` and
            `n_iter_no_change`, as that of a config does; `preset_` tells.
        optimizer: in place of `solver`, any optimizer that a config can name: "AdamW", or with its own arguments
            {"name": "AdamW", "weight_decay": 0.01}; a weight_decay replaces `alpha`.
        schedule: of the learning rate, likewise: "CosineAnnealingLR", {"name": "StepLR", "step_size": 10}; with an
            "interval" of "epoch" or "step". CosineAnnealingLR and OneCycleLR last for `max_iter` epochs unless stated.
        accumulate: so many batches make one optimizer step, exactly as one large batch would.
        clip_norm, clip_value: limits of the gradient.
        ema: predict with an exponential moving average of the weights, of this decay.
        compile: whether steps run as a program (`nanotorch.compile`): "auto" where that pays, True from the first on,
            as in the trainer; where tables are ready it is one, whose bits are its own.
        device: "cpu", "cuda", "cuda:N", or "auto".
        dtype: "float32" or "float64", in training; predictions are computed in float64.

    Attributes:
        classes_: the labels, sorted.
        weights_: the arrays of the network by PyTorch's names: "0.weight", (outputs, inputs), "0.bias" ...
        coefs_, intercepts_: the weight matrices (inputs, outputs) and bias vectors of the layers of one network.
        preset_: what the preset chose, by the names of arguments.
        loss_curve_: the mean training loss of each epoch (of the data: without the L2 penalty).
        loss_, best_loss_: its last and its smallest value; best_loss_ is None with `early_stopping`.
        validation_scores_, best_validation_score_: the accuracy on the validation part by epoch, and the best; or None.
        history_: the record of each epoch: losses, scores, learning rate, norm of the gradient, seconds.
        n_iter_: how many epochs were trained.
        t_: how many rows were seen.
        seed_: the seed of the last fit.
        n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_: as in scikit-learn.

    >>> from nanotorch.estimators import MLPClassifier
    >>> X = [[0.0, 0.1], [0.2, 0.0], [1.0, 0.9], [0.8, 1.0]]
    >>> y = ["low", "low", "high", "high"]
    >>> model = MLPClassifier((8,), learning_rate_init=0.1, tol=0.01, random_state=0)
    >>> model.fit(X, y).predict([[0.1, 0.2], [0.9, 1.1]]).tolist()
    ['low', 'high']
    """

    classes_: Array
    _multilabel: bool
    _monitor: ClassVar[str] = "accuracy"

    def __init__(
        self,
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
        class_weight: ClassWeight = None,
        label_smoothing: Probability = 0.0,
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
        """Train on rows X (n, features) and their classes y (n,), or labels (n, k) of 0 and 1.

        A ConvergenceWarning says that `max_iter` came first.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch more, from where the last call ended; the first call has to name all `classes`."""
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row, or 0 and 1 for each label."""
        return self._chosen(self._outputs(X))

    def _chosen(self, outputs: Array) -> Array:
        if self._multilabel:
            return (outputs > 0).astype(int)
        best = (outputs[:, 0] > 0).astype(int) if self.n_outputs_ == 1 else outputs.argmax(axis=1)
        labels: Array = self.classes_[np.minimum(best, len(self.classes_) - 1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (n, classes), ordered as `classes_`; or of each label, (n, k)."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities, exact also where these are almost 0."""
        outputs = self._outputs(X)
        if self._multilabel:
            return -np.logaddexp(0.0, -outputs)
        if len(self.classes_) == 1:
            return np.zeros((len(outputs), 1))
        if self.n_outputs_ == 1:
            return np.column_stack([-np.logaddexp(0.0, outputs[:, 0]), -np.logaddexp(0.0, -outputs[:, 0])])
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        log_sums: NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return shifted - log_sums

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, incremental: bool, anew: bool, shared: Shared
    ) -> Rows:
        if incremental and anew and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs to see all rows at once: for partial_fit compute the weights with "
                "sklearn.utils.class_weight.compute_class_weight and give them as a dict"
            )
        X, y, found, multilabel = self._checked(X, y, anew, shared)
        if incremental and classes is not None and not multilabel:
            stated = np.unique(classes)
            if not anew and not np.array_equal(stated, self.classes_):
                raise ValueError(
                    f"classes={classes!r} is not the same as on the last call to partial_fit, which was:"
                    f" {self.classes_!r}"
                )
            if anew:
                self.classes_ = stated
        elif anew:
            self.classes_ = found
        if anew:
            self._multilabel = multilabel
        unknown = () if found is self.classes_ else np.setdiff1d(found, self.classes_)
        if len(unknown) or multilabel != self._multilabel or (not incremental and len(found) != len(self.classes_)):
            raise ValueError(
                f"y has the classes {found.tolist()}, but the weights were learnt for {self.classes_.tolist()}: "
                "warm_start and partial_fit need the same ones"
            )
        weights = self._weights_of_rows(X, sample_weight)
        if self.class_weight is not None:
            if multilabel:
                raise ValueError("class_weight has no meaning for several labels: use sample_weight")
            by_class = compute_sample_weight(self.class_weight, y)
            weights = by_class if weights is None else weights * by_class
        outputs = len(self.classes_) if multilabel or len(self.classes_) > 2 else 1
        targets = y.astype(np.float64) if multilabel else np.searchsorted(self.classes_, y).astype(np.int64)
        if outputs == 1:
            targets = targets.astype(np.float64).reshape(-1, 1)
        return Rows(X, targets, weights, outputs, not multilabel, "logistic" if targets.ndim == 2 else "softmax")

    def _valid(self, X: Any, y: Any, anew: bool) -> tuple[Array, Array, Array, bool]:
        X, y = validate_data(self, X, y, multi_output=True, dtype=(np.float64, np.float32), reset=anew)
        check_classification_targets(y)
        kind = type_of_target(y)
        multilabel = kind == "multilabel-indicator"
        if kind == "multiclass-multioutput":
            raise ValueError(
                "several columns of classes are not supported: use sklearn.multioutput.MultiOutputClassifier"
            )
        if not multilabel:
            y = column_or_1d(y, warn=True)
        return X, y, np.arange(y.shape[1]) if multilabel else np.unique(y), multilabel

    def _criterion(self, reduction: Any) -> nn.Module:
        if len(self.classes_) > 2 and not self._multilabel:
            return nn.CrossEntropyLoss(label_smoothing=float(self.label_smoothing), reduction=reduction)
        return nn.BCEWithLogitsLoss(reduction=reduction)

    def _row_weight(self, targets: Array) -> float:
        return 1.0

    def _wanted(self, targets: Array) -> Array:
        """Targets in [0, 1] take the label smoothing themselves; for class numbers the loss does."""
        if targets.ndim == 2 and not self._multilabel:
            return targets * (1 - float(self.label_smoothing)) + float(self.label_smoothing) / 2
        return targets

    def _scored_as(self, targets: Array) -> dict[str, Any]:
        task = "multilabel" if self._multilabel else "binary" if targets.ndim == 2 else "multiclass"
        return {"task": task, "target_names": [str(label) for label in self.classes_]}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
