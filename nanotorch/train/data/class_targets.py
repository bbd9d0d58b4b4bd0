"""Several targets of classes: where the outputs of a model for each of them stand.

Note [Several targets of classes]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
`data.target` may name several columns of classes. The task is "multilabel" where each has two classes, and
"multioutput" where one has more. A target of two classes has one output, the logit of the second; one of more has a
logit for each class. The outputs stand side by side, in the order of the targets, and so does the truth that the loss
sees: 0 or 1 of two classes, a column of 0 and 1 for each of more. The loss of a row is the mean over its targets of
their usual losses (binary cross entropy, cross entropy), so no target counts more than another, however many classes it
has.

A table holds class numbers, (rows, targets), and `classes`, the names of the classes of each target; that there are
`classes` says that there are several targets of them. Everything that is said of one target (probabilities, scores) is
said of each from its piece of the outputs, by the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Classes = tuple[tuple[str, ...], ...]


def widths(classes: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Return how many outputs each target has.

    >>> widths([("no", "yes"), ("a", "b", "c")])
    (1, 3)
    """
    return tuple(1 if len(names) == 2 else len(names) for names in classes)


def by_target(outputs: Any, sizes: Sequence[int]) -> list[Any]:
    """Return the outputs for each target, (..., size), from those of all, (..., outputs)."""
    ends = np.cumsum(sizes).tolist()
    return [outputs[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def encoded(targets: NDArray[np.int64], classes: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return class numbers (rows, targets) as the loss sees them, (rows, outputs).

    >>> encoded(np.array([[1, 2], [0, 0]]), [("no", "yes"), ("a", "b", "c")]).tolist()
    [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]
    """
    columns = [
        numbers[:, None] if size == 1 else numbers[:, None] == np.arange(size)
        for numbers, size in zip(targets.T, widths(classes), strict=True)
    ]
    return np.concatenate(columns, axis=1).astype(np.float64)
