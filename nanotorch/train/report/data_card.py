"""What the rows of a run are like: how many, of which classes, and the statistics of every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.table import Table

BARS = 16
MOST_ROWS = 100_000  # of a table whose columns are described: of a longer one, rows at equal distances
MOST_VALUES = 20_000_000
MOST_VALUES_ON_DISK = 250_000  # of features that stay on the disk: they may not fit into memory


class Column(NamedTuple):
    """Statistics of a column; those that a column of its kind does not have are None.

    Attributes:
        name: the column.
        kind: "number", "two values", "constant", "category" or "empty".
        missing: how many values are missing.
        distinct: how many values differ.
        mean: of the values that are there, as all that follow.
        deviation: the standard deviation.
        least: the smallest.
        median: the one in the middle.
        most: the largest.
        bars: how values are distributed, as shares of the highest bar: between the smallest and the largest, or the
            most frequent categories.
        common: the most frequent categories, with their shares.
    """

    name: str
    kind: str
    missing: int
    distinct: int
    mean: float | None = None
    deviation: float | None = None
    least: float | None = None
    median: float | None = None
    most: float | None = None
    bars: tuple[float, ...] = ()
    common: tuple[tuple[str, float], ...] = ()


def columns(table: Table, most: int) -> list[Column]:
    """Return the first `most` feature columns of a table, each with its statistics."""
    some = table.features[_some_rows(table)]
    texts: Mapping[str, Sequence[str]] = getattr(table, "categories", None) or {}
    found = []
    for k, name in enumerate(table.feature_names[:most]):
        values = some[:, k]
        found.append(describe_categories(name, values, texts[name]) if name in texts else describe(name, values))
    return found


def described_rows(table: Table) -> int:
    """Return how many rows `columns` looks at."""
    return len(range(len(table))[_some_rows(table)])


def describe(name: str, values: NDArray[Any]) -> Column:
    """Return the statistics of a column of numbers.

    >>> column = describe("age", np.array([1.0, 2.0, 9.0, np.nan]))
    >>> column.kind, column.missing, column.mean, column.median
    ('number', 1, 4.0, 2.0)
    """
    there = np.asarray(values, np.float64)
    there = there[np.isfinite(there)]
    missing = len(values) - len(there)
    if not len(there):
        return Column(name, "empty", missing, 0)
    distinct = len(np.unique(there))
    kind = {1: "constant", 2: "two values"}.get(distinct, "number")
    bars: NDArray[Any] = np.zeros(0)
    with np.errstate(all="ignore"):
        width = float(there.max()) - float(there.min())
        if 0 < width < np.inf:
            places = ((there - there.min()) / width * BARS).astype(np.int64)
            bars = np.bincount(np.minimum(places, BARS - 1), minlength=BARS)
        mean, deviation, median = float(there.mean()), float(there.std()), float(np.median(there))
    return Column(
        name,
        kind,
        missing,
        distinct,
        mean,
        deviation,
        float(there.min()),
        median,
        float(there.max()),
        _shares_of_highest(bars),
    )


def describe_categories(name: str, codes: NDArray[Any], texts: Sequence[str]) -> Column:
    """Return the statistics of a column of categories: numbers of texts, NaN where a value is missing.

    >>> column = describe_categories("colour", np.array([0.0, 1.0, 1.0, np.nan]), ["blue", "red"])
    >>> column.missing, column.distinct, column.common[0][0]
    (1, 2, 'red')
    """
    there = codes[~np.isnan(codes)].astype(np.int64)
    counts = np.bincount(there, minlength=len(texts))
    order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
    common = tuple((texts[k], float(counts[k] / len(there))) for k in order[:BARS])
    bars = _shares_of_highest(counts[order[:BARS]])
    kind = "category" if order else "empty"
    return Column(name, kind, len(codes) - len(there), len(order), bars=bars, common=common)


def class_counts(parts: Mapping[str, Table]) -> list[tuple[str, list[int]]]:
    """Return every class with the number of its rows in each part; of several targets as `target=class`."""
    found = []
    for target, (names, _) in enumerate(next(iter(parts.values())).class_numbers):
        numbers = [part.class_numbers[target][1] for part in parts.values()]
        counts = [np.bincount(of, minlength=len(names)).tolist() for of in numbers]
        several = next(iter(parts.values()))
        first = f"{several.target_names[target]}=" if several.classes else ""
        found += [(f"{first}{name}", [count[k] for count in counts]) for k, name in enumerate(names)]
    return found


def _some_rows(table: Table) -> slice:
    rows, columns = table.features.shape
    values = MOST_VALUES if isinstance(table.features, np.ndarray) else MOST_VALUES_ON_DISK
    most = max(1, min(MOST_ROWS, values // columns))
    return slice(0, rows, -(-rows // most))


def _shares_of_highest(bars: NDArray[Any]) -> tuple[float, ...]:
    return tuple((bars / bars.max()).tolist()) if len(bars) else ()
