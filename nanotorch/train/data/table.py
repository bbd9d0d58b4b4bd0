"""A table to train on, checked when it is made, and the error of data that cannot be trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.class_targets import Classes
from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.terminal.text_report import MOST_PROBLEMS, listed

Task = Literal["binary", "multiclass", "regression", "multilabel", "multioutput"]
FloatArray = NDArray[np.float64]


class DataError(ValueError):
    """Data that cannot be trained on, or cannot be had; the message says what is wrong and what to do.

    Where a key of the config asks for what these data do not have, `path` leads to it: ("data", "target"), ("train",
    "metrics", 0). Several that were found together are one error; `problems` are all of them, and else it alone.
    """

    def __init__(self, message: str, *path: str | int, problems: Sequence[DataError] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.problems: tuple[DataError, ...] = tuple(problems) or (self,)


class Mistakes:
    """What is wrong with data, gathered piece by piece so that it is told at once.

    >>> mistakes = Mistakes()
    >>> for column in ("a", "b"):
    ...     with mistakes.gathered():
    ...         raise DataError(f"column {column!r} is empty")
    >>> mistakes.tell()
    Traceback (most recent call last):
        ...
    nanotorch.train.data.table.DataError: column 'a' is empty
    column 'b' is empty
    """

    def __init__(self) -> None:
        self.found: list[DataError] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Within `with`, keep a DataError instead of passing it on; what follows within is left undone."""
        try:
            yield
        except DataError as error:
            self.found += error.problems

    def tell(self) -> None:
        """Raise what was found, if anything was: one DataError as it is, several as one."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            shown = [str(problem) for problem in self.found[:MOST_PROBLEMS]]
            if len(self.found) > MOST_PROBLEMS:
                shown.append(f"... and {len(self.found) - MOST_PROBLEMS} more")
            raise DataError("\n".join(shown), problems=self.found)


class TableError(DataError):
    """A table file that cannot be used; the message says which, where in it, and what to do."""


def shown(text: object) -> str:
    """Return a cell or a name for a message, in quotes, and cut where it is long."""
    written = str(text)
    return repr(written if len(written) <= 40 else written[:37] + "...")


def quoted(names: Iterable[object], most: int = 5) -> str:
    """Return the first names for a message, each as it is `shown`, and how many more there are.

    >>> quoted(["age", "sex", "zip"], 2)
    "'age', 'sex' and 1 more"
    """
    return listed(list(map(shown, names)), most)


def quoted_columns(names: Sequence[object], most: int = 5) -> str:
    """Return the same of columns, with that word before them."""
    return f"column{'' if len(names) == 1 else 's'} {quoted(names, most)}"


def spread_rows(rows: int, most: int) -> NDArray[np.int64]:
    """Return the numbers of all rows, or of so many that lie at equal distances where there are more.

    >>> spread_rows(9, 3)
    array([0, 4, 8])
    """
    return np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)


def one_line(error: object) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


class Rare(NamedTuple):
    """Classes of too few rows for a division, and the class that stands for them all; "" where they are left out."""

    classes: tuple[str, ...]
    other: str


@dataclass(frozen=True, slots=True)
class Division:
    """What a file says of how its rows are divided into parts.

    Attributes:
        by: what is divided: rows one by one, groups of them, or the time.
        column: where that stands, "" for rows one by one.
        values: the number of each row's group, or its time, (n,): as it is, or in microseconds; None for rows.
        parts: the number of each row's part, (n,): 0 for training, 1 validation, 2 test; -1 where that is to be found.
        stated: the key of the config that says which rows are of a part, in the order of these numbers; "" where none.
        dates: whether the times are dates.
    """

    by: Literal["rows", "group", "time"]
    column: str
    values: FloatArray | None
    parts: NDArray[np.int8]
    stated: tuple[str, str, str] = ("", "", "")
    dates: bool = False

    def rows(self, index: NDArray[np.int64]) -> Division:
        """Return what it says of these rows."""
        values = None if self.values is None else self.values[index]
        return replace(self, values=values, parts=self.parts[index])


@dataclass(frozen=True, slots=True)
class Table:
    """Features and targets of a supervised problem, checked when it is made.

    `features` is (n, d) float64. `targets` is (n,) int64 class numbers, indices into `target_names`, for the
    tasks "binary" and "multiclass"; it is (n, k) float64, one column per target name, for "regression"; and for several
    targets of classes (Note [Several targets of classes] in class_targets.py) it is (n, k) int64, whose column k holds
    indices into `classes[k]`. Anything else, and any value that is not finite, is a DataError that names the place.

    Features may be as they were found: `categories`, if it is not None, maps the columns of categories to their texts;
    such a column holds the numbers of texts, and any column NaN where a value is missing. `notices` is what the user
    should know of how the table came to be. `numbers` says which rows these are of the table that was loaded (None:
    they are all of it), so that a message can name them. `units` are those beside the numbers of a column, feature or
    target, where they had one; `rare` is what became of classes of too few rows; `dates` maps columns of the file to
    their `Dates`, whose parts are among the features, as are those of the columns `texts`, which were hashed. Features
    may also stay on the disk, in a `DiskRows` of any numbers; whoever made it has seen to it that all are finite.
    """

    features: FloatArray | DiskRows
    targets: NDArray[Any]
    task: Task
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] | None = None
    notices: tuple[str, ...] = ()
    numbers: NDArray[np.int64] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    dates: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    rare: Rare | None = None
    division: Division | None = None
    weights: FloatArray | None = None
    classes: Classes = ()

    def __post_init__(self) -> None:
        """Refuse what could not be trained on."""
        features, targets = self.features, self.targets
        if features.ndim != 2 or not features.size:
            raise DataError(f"features must be (rows, columns) with some of both, got shape {features.shape}")
        if isinstance(features, np.ndarray) and features.dtype != np.float64:
            raise DataError(f"features must be float64, got {features.dtype}")
        if len(targets) != len(features):
            raise DataError(f"{len(features)} rows of features but {len(targets)} targets")
        if len(self.feature_names) != features.shape[1]:
            raise DataError(f"{features.shape[1]} feature columns but {len(self.feature_names)} names of them")
        if self.categories is None and isinstance(features, np.ndarray):
            _refuse_non_finite(features, "feature", self.feature_names)
        if self.task == "regression":
            if targets.ndim != 2 or targets.dtype != np.float64:
                found = f"{targets.shape} {targets.dtype}"
                raise DataError(f"regression targets must be (n, k) float64, got {found}")
            if len(self.target_names) != targets.shape[1]:
                raise DataError(f"{targets.shape[1]} target columns but {len(self.target_names)} names of them")
            _refuse_non_finite(targets, "target", self.target_names)
        elif self.task in ("multilabel", "multioutput"):
            if targets.ndim != 2 or not targets.shape[1] == len(self.target_names) == len(self.classes):
                raise DataError(
                    f"targets of classes must be (n, k) with k names and k lists of classes, got {targets.shape},"
                    f" {len(self.target_names)} names and {len(self.classes)} lists"
                )
            for labels, names in zip(targets.T, self.classes, strict=True):
                _check_labels(labels, names)
            if (self.task == "multilabel") != all(len(names) == 2 for names in self.classes):
                raise DataError(f"a target of more than two classes is what makes the task multioutput: {self.task}")
        else:
            _check_labels(targets, self.target_names)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.features)

    @property
    def class_numbers(self) -> list[tuple[tuple[str, ...], NDArray[np.int64]]]:
        """For each target of classes their names and the number of each row's, (n,); empty for a regression."""
        if self.task == "regression":
            return []
        if not self.classes:
            return [(self.target_names, self.targets)]
        return list(zip(self.classes, self.targets.T, strict=True))

    def rows(self, index: NDArray[np.int64]) -> Table:
        """Return the table of these rows only."""
        features = self.features.rows(index) if isinstance(self.features, DiskRows) else self.features[index]
        numbers = index if self.numbers is None else self.numbers[index]
        division = None if self.division is None else self.division.rows(index)
        weights = None if self.weights is None else self.weights[index]
        return replace(
            self, features=features, targets=self.targets[index], numbers=numbers, division=division, weights=weights
        )


def _refuse_non_finite(values: FloatArray, what: str, names: Sequence[str]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.argwhere(~finite)
        row, column = bad[0]
        raise DataError(
            f"{what} {names[column]!r} (column {column}) is {values[row, column]} in row {row}, "
            f"one of {len(bad)} values that are not finite; remove or replace them before training"
        )


def _check_labels(labels: NDArray[Any], names: Sequence[str]) -> None:
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise DataError(f"class labels must be (n,) int64, got {labels.shape} {labels.dtype}")
    if len(names) < 2:
        raise DataError(f"there is nothing to classify: the only class is {names[0] if names else None!r}")
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if outside.size:
        row = outside[0]
        raise DataError(f"label {labels[row]} in row {row} is outside 0 to {len(names) - 1}, of {len(names)} classes")
