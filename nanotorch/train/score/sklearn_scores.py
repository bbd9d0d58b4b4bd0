"""Scores of scikit-learn by the names of its scorers: for each the larger is the better one, errors are negative.

A score needs all rows at once, so it is computed over whole parts of the data: of the validation part after every
epoch, of every part at the end, and not of the training part while it is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch.registry import METRICS
from nanotorch.train.data.class_targets import Classes, by_target, widths

CLASSES = ("binary", "multiclass")
EACH = (*CLASSES, "multioutput")  # of several targets of classes the mean over them

MOST_NUMBERS = 2**27  # at once, in float64: 1 GiB


def takes_labels(name: str) -> bool:
    """Return whether the score looks at the classes that were chosen, and not at their probabilities."""
    return bool(METRICS.entry(name).facts["takes"] == "labels")


def counts_rows(name: str) -> bool:
    """Return whether a class counts as much as it has rows, so that always saying the largest scores high."""
    return bool(METRICS.entry(name).facts["by_rows"])


def too_large(name: str, rows: int, classes: int) -> str | None:
    """Return why this score is not computed for so many rows and classes; None if it is."""
    if not takes_labels(name) and rows * classes > MOST_NUMBERS:
        return f"it needs a probability for each of {rows:,} rows and {classes:,} classes at once"
    if METRICS.entry(name).facts["square"] and classes**2 > MOST_NUMBERS:
        return f"it counts every pair of {classes:,} classes"
    return None


def score(
    name: str,
    task: str,
    outputs: NDArray[Any],
    targets: NDArray[Any],
    weights: NDArray[np.float64] | None = None,
    classes: Classes = (),
) -> float:
    """Return the score of a model's outputs, (n, k):
    logits for classes, values in the units of the targets for a regression.

    `weights` say how much each row counts, (n,). Of the task "multioutput" it is the mean over the targets of the score
    of each, of "multilabel" what scikit-learn makes of a matrix of labels.

    A score that `takes_labels` may also be given the numbers of the classes, (n,). Raises ValueError where scikit-learn
    does, such as for classes that are not in `targets` at all.
    """
    if task == "multioutput" and name != "accuracy":
        pieces = zip(classes, by_target(outputs, widths(classes)), targets.T, strict=True)
        return float(
            np.mean(
                [
                    score(name, "binary" if len(names) == 2 else "multiclass", piece, truth, weights)
                    for names, piece, truth in pieces
                ]
            )
        )
    if task == "regression":
        said: Any = outputs
    elif task == "multilabel":
        said = (outputs > 0).astype(np.int64) if takes_labels(name) else torch.sigmoid(torch.tensor(outputs)).numpy()
    elif task == "binary":
        chosen = takes_labels(name)
        said = (outputs[:, 0] > 0).astype(np.int64) if chosen else torch.sigmoid(torch.tensor(outputs[:, 0])).numpy()
    elif takes_labels(name):
        said = outputs if outputs.ndim == 1 else outputs.argmax(1)
    else:
        said = torch.softmax(torch.tensor(outputs), 1).numpy()
    return float(METRICS.entry(name).target(targets, said, weights))


def _register(
    name: str,
    function: str,
    tasks: Sequence[str],
    takes: str = "labels",
    sign: int = 1,
    square: bool = False,
    by_rows: bool = False,
    **options: Any,
) -> None:
    def compute(truth: Any, predicted: Any, weights: Any = None) -> float:
        import sklearn.metrics

        given = dict(options)
        if weights is not None:
            given["sample_weight"] = weights
        if takes == "probabilities" and predicted.ndim == 2 and truth.ndim == 1:
            given["labels"] = np.arange(predicted.shape[1])
        result: float = sign * getattr(sklearn.metrics, function)(truth, predicted, **given)
        return result

    words = ", ".join(f"{key}={value!r}" for key, value in options.items())
    compute.__doc__ = f"{'-' if sign < 0 else ''}sklearn.metrics.{function}({words})."
    METRICS.register(name, tasks=tuple(tasks), takes=takes, square=square, by_rows=by_rows)(compute)


for _name in ("f1", "precision", "recall", "jaccard"):
    _function = f"{_name}_score"
    # a class that is never predicted is no reason for a warning after every epoch
    _quiet: dict[str, Any] = {"zero_division": 0.0}
    _register(_name, _function, ("binary",), **_quiet)
    for _average in ("macro", "micro", "weighted"):
        named = f"{_name}_{_average}"
        _register(named, _function, (*EACH, "multilabel"), by_rows=_average != "macro", average=_average, **_quiet)
    _register(f"{_name}_samples", _function, ("multilabel",), by_rows=True, average="samples", **_quiet)
_register("accuracy", "accuracy_score", (*EACH, "multilabel"), by_rows=True)
_register("balanced_accuracy", "balanced_accuracy_score", EACH, square=True)
_register("matthews_corrcoef", "matthews_corrcoef", EACH, square=True)
_register("neg_hamming_loss", "hamming_loss", ("multilabel", "multioutput"), sign=-1, by_rows=True)
_register("roc_auc", "roc_auc_score", ("binary", "multilabel"), "probabilities")
_register("average_precision", "average_precision_score", ("binary", "multilabel"), "probabilities")
_register("neg_brier_score", "brier_score_loss", ("binary",), "probabilities", -1)
_register("neg_log_loss", "log_loss", EACH, "probabilities", -1)
_register("top_k_accuracy", "top_k_accuracy_score", ("multiclass",), "probabilities", by_rows=True)
for _multi in ("ovr", "ovo"):
    _register(f"roc_auc_{_multi}", "roc_auc_score", ("multiclass",), "probabilities", multi_class=_multi)
    _register(
        f"roc_auc_{_multi}_weighted",
        "roc_auc_score",
        ("multiclass",),
        "probabilities",
        multi_class=_multi,
        average="weighted",
    )
_register("r2", "r2_score", ("regression",), "values")
_register("explained_variance", "explained_variance_score", ("regression",), "values")
_register("neg_mean_absolute_error", "mean_absolute_error", ("regression",), "values", -1)
_register("neg_mean_squared_error", "mean_squared_error", ("regression",), "values", -1)
_register("neg_root_mean_squared_error", "root_mean_squared_error", ("regression",), "values", -1)
_register("neg_median_absolute_error", "median_absolute_error", ("regression",), "values", -1)
_register("neg_mean_absolute_percentage_error", "mean_absolute_percentage_error", ("regression",), "values", -1)
_register("d2_absolute_error_score", "d2_absolute_error_score", ("regression",), "values")
