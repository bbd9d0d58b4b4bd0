"""What columns and files say of the division of rows and of their weights, read and checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.column_kinds import codes, kind_of
from nanotorch.train.data.columns.columns import Columns, known_column, refuse_missing
from nanotorch.train.data.columns.dates import dates_of
from nanotorch.train.data.table import Division, FloatArray, Mistakes, TableError, shown

WAYS = ("group", "time", "column")
SPELLINGS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("validation", "valid", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}
EXAMPLE = "{by: group, column: patient}"


def wrong_in_split(split: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return what is wrong with `data.split`: the key in it, and a sentence."""
    for key in split:
        if key not in ("by", "column"):
            yield key, f"unknown key; the keys are by and column, such as data.split: {EXAMPLE}"
    for key in ("by", "column"):
        if key not in split:
            yield key, f"required key is missing, such as data.split: {EXAMPLE}"
    if split.get("by", WAYS[0]) not in WAYS:
        yield "by", f"expected {', '.join(WAYS[:-1])} or {WAYS[-1]}, got {split['by']!r}"


class RowMetadata(NamedTuple):
    """Which columns say how rows are divided and weighed: groups and sample weights, as scikit-learn routes them.

    Attributes:
        split: `by` and `column`, or None.
        weight: the column of weights, or None.
        files: the keys of the config whose files follow the first one, in their order.
    """

    split: Mapping[str, str] | None = None
    weight: str | None = None
    files: Sequence[Literal["validation_file", "test_file"]] = ()

    def columns(self) -> dict[str, str]:
        """Return the columns by the key that names them."""
        found = {} if self.split is None else {"split": self.split["column"]}
        return found if self.weight is None else {**found, "weight": self.weight}

    def refuse_unknown(
        self, available: Collection[str], source: str, target: Collection[str], drop: Collection[str]
    ) -> None:
        """A DataError says all that is wrong with the names of the columns."""
        mistakes = Mistakes()
        for key, name in self.columns().items():
            with mistakes.gathered():
                known_column(name, available, source, key)
                if name in target or name in drop:
                    other = "is the target" if name in target else "data.drop leaves out"
                    raise TableError(f"data.{key} names {shown(name)}, which {other}", "data", key)
        mistakes.tell()

    def division(self, whole: Columns, date_format: str) -> Division | None:
        """Return how the rows are to be divided; None where nothing says so."""
        if self.split is None and not self.files:
            return None
        stated = ["", "", ""]
        parts = np.full(whole.rows, -1, np.int8)
        pieces = whole.piece_of_rows
        for number, key in enumerate(self.files, 1):
            part = 1 if key == "validation_file" else 2
            parts[pieces == number], stated[part] = part, f"data.{key}"
        if self.split is None:
            return Division("rows", "", None, parts, (stated[0], stated[1], stated[2]))
        by, column = self.split["by"], self.split["column"]
        if by == "column":
            return Division("rows", column, None, _parts(whole, column), ("data.split",) * 3)
        values, dates = _groups(whole, column), False
        if by == "time":
            values, dates = _times(whole, column, date_format)
        way: Literal["group", "time"] = "group" if by == "group" else "time"
        return Division(way, column, values, parts, (stated[0], stated[1], stated[2]), dates)

    def weights(self, whole: Columns, numeric: Collection[str]) -> FloatArray | None:
        """Return the weights of the rows; None where they have none."""
        if self.weight is None:
            return None
        name = self.weight
        kind = kind_of(
            whole, name, whole.notation, stated=True, sure=name in numeric, otherwise="name another data.weight"
        )
        assert kind.numbers is not None, "stated"
        refuse_weights(kind.numbers, name, whole)
        return kind.numbers


def refuse_weights(weights: FloatArray, name: str, whole: Columns) -> None:
    """A DataError says all that is wrong with the weights of rows."""
    mistakes = Mistakes()
    for wrong, said in (
        (np.isnan(weights), "has no value, and every row needs a weight: fill it in, or leave the row out"),
        (weights == 0, "is 0: a row of weight 0 would not count at all; leave it out of the file"),
        (weights < 0, "is {}: a weight says how much a row counts, and is more than 0"),
        (np.isinf(weights), "is {}, which is not finite; replace it"),
    ):
        rows = np.flatnonzero(wrong)
        if len(rows):
            with mistakes.gathered():
                more = f" (one of {len(rows)} such rows)" if len(rows) > 1 else ""
                what = said.format(f"{weights[rows[0]]:g}")
                raise TableError(
                    f"{whole.where(int(rows[0]))}: the weight {shown(name)} {what}{more}", "data", "weight"
                )
    mistakes.tell()


def _refuse_missing(whole: Columns, name: str, lacking: NDArray[np.bool_], what: str) -> None:
    otherwise = f", and data.split needs {what}; fill it in, or leave the row out"
    refuse_missing(whole, name, np.flatnonzero(lacking), otherwise, "split")


def _groups(whole: Columns, name: str) -> FloatArray:
    column: NDArray[Any] = whole[name]
    values = codes(column, whole.notation)[1] if column.dtype == object else column
    _refuse_missing(whole, name, np.isnan(values), "the group of every row")
    return np.unique(values, return_inverse=True)[1].astype(np.float64)


def _times(whole: Columns, name: str, date_format: str) -> tuple[FloatArray, bool]:
    column: NDArray[Any] = whole[name]
    dates = dates_of(whole, name, date_format) if column.dtype == object else None
    if dates is not None:
        stamps = dates.stamps(column, frozenset(), lambda row: f"{whole.where(row)}: column {shown(name)}")
        _refuse_missing(whole, name, np.isnat(stamps), "the time of every row")
        return stamps.astype("datetime64[us]").astype(np.int64).astype(np.float64), True
    kind = kind_of(whole, name, whole.notation, stated=True, otherwise="write dates or numbers for data.split")
    assert kind.numbers is not None, "stated"
    _refuse_missing(whole, name, np.isnan(kind.numbers), "the time of every row")
    return kind.numbers, False


def _parts(whole: Columns, name: str) -> NDArray[np.int8]:
    """Return the part that each row's cell names."""
    texts = [None if text is None else str(text).strip().lower() for text in whole[name].tolist()]
    unknown: dict[str | None, list[int]] = {}
    for row, text in enumerate(texts):
        if text not in SPELLINGS:
            unknown.setdefault(text, []).append(row)
    mistakes = Mistakes()
    for wrong, rows in unknown.items():
        with mistakes.gathered():
            more = f", as one of {len(rows)} rows" if len(rows) > 1 else ""
            cell = "has no value" if wrong in (None, "nan") else f"is {shown(whole[name][rows[0]])}"
            raise TableError(
                f"{whole.where(rows[0])}: column {shown(name)} {cell}{more}; by data.split its cells are"
                f" {', '.join(list(SPELLINGS)[:-1])} or {list(SPELLINGS)[-1]}",
                "data",
                "split",
            )
    mistakes.tell()
    return np.array([SPELLINGS[str(text)] for text in texts], np.int8)
