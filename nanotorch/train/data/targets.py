"""Targets of a file of any format: whether they are classes or numbers, and that there is something to learn."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import TableError, Task, shown

MOST_CLASSES_OF_NUMBERS = 20


class Targets(NamedTuple):
    """Targets as a `Table` wants them, the names of their classes or columns, and what was decided for the user."""

    task: Task
    values: NDArray[Any]
    names: tuple[str, ...]
    notices: tuple[str, ...]


def are_classes(
    task: str, column: str, different: int, rows: int, texts: bool, whole: bool
) -> tuple[bool, tuple[str, ...]]:
    """Return whether a column of targets is classes, and the notice of that where the task of the config is auto.

    So many rows have so many `different` values: `texts`, or numbers that are all `whole` or not.
    """
    if task != "auto":
        return task == "classification", ()
    few = different <= min(MOST_CLASSES_OF_NUMBERS, rows / 2)
    task = "classification" if texts or (whole and few) else "regression"
    return task == "classification", (f"target {column}: {task}, {different:,} different values (data.task states it)",)


def class_targets(column: str, names: tuple[str, ...], numbers: NDArray[np.int64], notices: tuple[str, ...]) -> Targets:
    """Targets that are numbers of classes; a TableError where there is but one class."""
    if len(names) == 1:
        raise constant(column, shown(names[0]))
    return Targets("binary" if len(names) == 2 else "multiclass", numbers, names, notices)


def constant(column: str, value: str, place: str = "") -> TableError:
    """Return the error of a column of targets that has one value only."""
    return TableError(f"{column} is {value} in every row{place}; there is nothing to learn", "data", "target")
