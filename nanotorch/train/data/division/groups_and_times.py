"""Rows that are divided in groups, none of which is in two parts, and rows that are divided by time.

Note [Groups in parts]
~~~~~~~~~~~~~~~~~~~~~~
Groups are dealt out one after the other, those first that are largest or hold the most of one class, each to the part
where the shares of the classes then differ least from what they are to be: as scikit-learn's StratifiedGroupKFold does,
here for parts of unlike sizes too. For numbers, where there are no classes, that is GroupKFold: the part that lacks
most. Of groups that are alike chance decides which comes first. A part never stays empty: the last groups go to those
that are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import DataError, shown

Numbers = NDArray[np.int64]


def dealt(counts: Numbers, shares: Sequence[float]) -> Numbers:
    """Return for each group the number of its part (Note [Groups in parts]).

    Args:
        counts: of rows, (groups, classes).
        shares: of each part in all rows.

    >>> dealt(np.array([[30], [10], [10], [10]]), [0.5, 0.5]).tolist()
    [0, 1, 1, 1]
    """
    there = counts[:, counts.any(axis=0)]
    sizes = np.array(shares) / shares[0]
    wanted = np.multiply.outer(sizes, there.sum(axis=0))
    spread = there[:, 0] if there.shape[1] == 1 else there.std(axis=1)
    parts, rows = np.zeros(len(there), np.int64), np.zeros(len(shares))
    got = np.zeros(wanted.shape)
    steps = np.eye(len(shares))[:, :, None]
    for done, group in enumerate(np.argsort(-spread, kind="stable").tolist()):
        after = (got + steps * there[group]) / wanted  # for each choice, (choices, parts, classes)
        unlike, filled = after.std(axis=1).mean(axis=1).tolist(), (rows / sizes).tolist()
        only_empty = np.count_nonzero(rows == 0) >= len(there) - done
        best = -1
        for part, value in enumerate(unlike):
            if only_empty and filled[part]:
                continue
            alike = best >= 0 and math.isclose(value, unlike[best], rel_tol=1e-5, abs_tol=1e-8)
            if best < 0 or value < unlike[best] or (alike and filled[part] < filled[best]):
                best = part
        parts[group] = best
        got[best] += there[group]
        rows[best] += there[group].sum()
    return parts


def divided_by_groups(
    groups: Numbers,
    classes: Numbers,
    sizes: tuple[float, float],
    fold: tuple[int, int] | None,
    generator: np.random.Generator,
    column: str,
) -> Numbers:
    """Return for each row its part: 0 for training, 1 validation, 2 test.

    Args:
        groups: the number of each row's group.
        classes: the number of each row's class; 0 in a regression.
        sizes: the shares of validation and test in all rows; 0 for none.
        fold: the test is the first of these numbers, of so many parts that share no group; None takes its size.
        generator: draws the order of groups that are alike.
        column: what the groups are named in.
    """
    validation, test = sizes
    names, places = np.unique(groups, return_inverse=True)
    needed = (1 if fold is None else fold[1]) + (validation > 0) + (fold is None and test > 0)
    if len(names) < needed:
        raise DataError(
            f"column {shown(column)} has {len(names)} groups, too few for one in each of"
            f" {needed} parts{'' if fold is None else f' ({fold[1]} folds, and one to validate by)'}",
            "data",
            "split" if fold is None else "fold",
        )
    order = generator.permutation(len(names))
    counts = np.zeros((len(names), int(classes.max()) + 1), np.int64)
    np.add.at(counts, (np.argsort(order)[places], classes), 1)  # in that order
    part = np.zeros(len(names), np.int64)
    if fold is None:
        kept = [k for k, share in enumerate((1 - validation - test, validation, test)) if share > 0]
        part = np.array(kept)[dealt(counts, [(1 - validation - test, validation, test)[k] for k in kept])]
    else:
        part[dealt(counts, [1 / fold[1]] * fold[1]) == fold[0] - 1] = 2
        if validation > 0:
            left = np.flatnonzero(part == 0)
            share = min(validation * counts.sum() / counts[left].sum(), 0.5)
            part[left] = dealt(counts[left], [1 - share, share])
    found: Numbers = part[np.argsort(order)[places]]
    return found


def divided_by_time(
    times: NDArray[np.float64], sizes: tuple[float, float], fold: tuple[int, int] | None, column: str
) -> Numbers:
    """Return for each row its part: 0 for training, 1 validation, 2 test; -1 where it is later than a fold's test.

    The last times are for the test and those before them for validation; rows of one time are of one part. With `fold`
    the test is one of so many blocks, and what is before it is trained on, as in scikit-learn's TimeSeriesSplit;
    validation is its share of all rows until the end of the test.
    """
    order = np.argsort(times, kind="stable")
    ordered, rows = times[order], len(times)
    validation, test = sizes

    def begin(place: int) -> int:
        """Return where the time of a place begins."""
        return int(np.searchsorted(ordered, ordered[place])) if 0 <= place < rows else max(place, 0)

    if fold is None:
        start, end = begin(rows - _some(rows, test)), rows
    else:
        size = rows // (fold[1] + 1)
        first = rows - (fold[1] - fold[0] + 1) * size
        start, end = begin(first), begin(first + size)
    middle = begin(start - _some(end, validation)) if validation else start
    if middle <= 0 or (start >= end and (test or fold)):
        which = f"fold {fold[0]} of {fold[1]}" if fold else "training and each other part"
        raise DataError(
            f"column {shown(column)} has {len(np.unique(times))} different times, too few for {which}; rows of one time"
            " are of one part",
            "data",
            "split" if fold is None else "fold",
        )
    parts = np.full(rows, -1)
    for number, (begins, ends) in enumerate(((0, middle), (middle, start), (start, end))):
        parts[order[begins:ends]] = number
    return parts


def _some(rows: int, share: float) -> int:
    return max(1, int(rows * share + 0.5)) if share else 0
