"""Targets of a file of any format: whether they are classes or numbers, and that there is something to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.class_targets import Classes
from nanotorch.train.data.table import Mistakes, TableError, Task, shown
from nanotorch.train.terminal.text_report import listed

MOST_CLASSES_OF_NUMBERS = 20
LISTED = 5  # columns in one message


class Targets(NamedTuple):
    """Targets as a `Table` wants them, the names of their classes or columns, and what was decided for the user."""

    task: Task
    values: NDArray[Any]
    names: tuple[str, ...]
    notices: tuple[str, ...]
    classes: Classes = ()


class Labels(NamedTuple):
    """A column of targets that may be classes.

    Attributes:
        column: its name.
        place: what a message calls it.
        names: its classes, in their order.
        numbers: the class of each row, (n,).
        texts: whether they are texts, which no regression takes.
        classes: whether they are taken for classes.
        notices: what was decided of them.
    """

    column: str
    place: str
    names: tuple[str, ...]
    numbers: NDArray[np.int64]
    texts: bool
    classes: bool
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


def class_targets(columns: Sequence[Labels]) -> Targets | None:
    """Return columns of targets as numbers of classes, None where they are not taken for classes.

    A TableError where some are classes and some numbers, or one has but one class.
    """
    if not any(one.classes for one in columns):
        return None
    if not all(one.classes for one in columns):
        kinds = [[shown(one.column) for one in columns if one.classes == which] for which in (True, False)]
        texts = any(one.texts for one in columns)
        other = "" if texts else ", or take all of them for numbers: data.task: regression"
        raise TableError(
            f"data.target names classes ({listed(kinds[0], LISTED)}) and numbers ({listed(kinds[1], LISTED)}), which"
            f" one model does not learn together; train a model for each kind{other}",
            "data",
            "target",
        )
    mistakes = Mistakes()
    for one in columns:
        with mistakes.gathered():
            if len(one.names) == 1:
                raise constant(one.place, shown(one.names[0]))
    mistakes.tell()
    notices = tuple(dict.fromkeys(notice for one in columns for notice in one.notices))
    if len(columns) == 1:
        [only] = columns
        return Targets("binary" if len(only.names) == 2 else "multiclass", only.numbers, only.names, notices)
    task: Task = "multilabel" if all(len(one.names) == 2 for one in columns) else "multioutput"
    names, classes = tuple(one.column for one in columns), tuple(one.names for one in columns)
    return Targets(task, np.stack([one.numbers for one in columns], axis=1), names, notices, classes)


def constant(column: str, value: str, place: str = "") -> TableError:
    """Return the error of a column of targets that has one value only."""
    return TableError(f"{column} is {value} in every row{place}; there is nothing to learn", "data", "target")
