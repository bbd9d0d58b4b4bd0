"""What many epochs of many fits gave that were taken in one call, dealt out to the fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.train.fit.chunks import Ahead, DueSteps, Given

if TYPE_CHECKING:
    from nanotorch.capture.sweep.passes import Passed

Array = np.ndarray[Any, Any]


def leave(dues: Sequence[DueSteps], order: Array, passed: Passed) -> None:
    """Have fits find done what was due in them, and in further epochs.

    Args:
        dues: the steps of each fit.
        order: the rows of each fit, (fits, epochs, rows).
        passed: what all epochs gave, and the parameters after each of them.
    """
    turns = [build(arrays) for build, arrays in passed.results]
    finite = np.stack([np.isfinite(each).reshape(*each.shape[:2], -1).all(2) for each in passed.seen], 2).tolist()
    norms = np.concatenate([of_turn for _, of_turn in turns], 2).tolist()
    sums, losses = _sums(dues, order, turns)
    for row, due in enumerate(dues):
        epochs = []
        for epoch, rows in enumerate(order[row]):
            known = sums[row][epoch]
            given: list[tuple[int, Given]] = []
            if known is None:
                for pieces, of_turn in turns:
                    found = [[part[row, epoch] for part in piece] for piece in pieces]
                    given.append((of_turn.shape[2], (found, of_turn[row, epoch])))
            epochs.append(Ahead(rows, given, norms[row][epoch], finite[row][epoch], known, losses[row][epoch]))
        due.take_ahead(epochs)


def _sums(dues: Sequence[DueSteps], order: Array, turns: Sequence[Any]) -> tuple[list[list[Any]], list[list[float]]]:
    """Return for each fit and epoch the state of its meter at the end, None where it is not known, and the mean loss of
    the last step.
    """
    count, epochs = order.shape[:2]
    meters = [due.training.meter for due in dues]
    alike = {(meter.task, tuple(meter.metrics)) for meter in meters}
    if len(alike) > 1 or any([len(pieces) > 1 for pieces, _ in turns]):
        return [[None] * epochs] * count, [[0.0] * epochs] * count

    def joined(parts: Sequence[Array]) -> Array:
        return np.concatenate([part.reshape(count * epochs, -1, *part.shape[4:]) for part in parts], 1)

    outputs = joined([pieces[0][0] for pieces, _ in turns])
    losses, weights = (joined([pieces[0][place] for pieces, _ in turns]) for place in (1, 2))
    tables = [due.chunks.tensors[1].numpy() for due in dues]
    targets = np.stack([table.take(rows, 0) for table, rows in zip(tables, order, strict=True)])
    targets = targets.reshape(count * epochs, *targets.shape[2:])
    states = meters[0].states(outputs, targets, losses, weights)
    last = (losses[:, -1].astype(np.float64) / weights[:, -1].astype(np.float64)).tolist()
    starts = range(0, count * epochs, epochs)
    return [states[k : k + epochs] for k in starts], [last[k : k + epochs] for k in starts]
