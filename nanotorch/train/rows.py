"""New rows for a trained model, piece by piece: from CSV, Parquet, a NumPy array, or CSV on standard input."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanotorch.train.command import UsageError
from nanotorch.train.csv_file import MISSING, Columns, CSVFile, TableError, shown
from nanotorch.train.table_file import existing, parquet_columns, parquet_file

__all__ = ["RowFile", "open_rows"]

ROWS_AT_ONCE = 8192
STDIN = "<stdin>"


@dataclass(frozen=True)
class RowFile:
    """A file of rows, its columns known and no row read yet.

    Attributes:
        source: its name, for messages.
        names: its columns; None for an array, whose columns have no names.
        read: takes the names of columns of numbers, of texts, and how many rows to read at once.
    """

    source: str
    names: tuple[str, ...] | None
    read: Callable[[Sequence[str], Collection[str], int], Iterator[Columns]]

    def pieces(self, numeric: Sequence[str], texts: Collection[str] = ()) -> Iterator[Columns]:
        """The rows, some thousand at once: these columns as numbers, and those as texts."""
        yield from self.read(list(numeric), list(texts), ROWS_AT_ONCE)


@contextmanager
def open_rows(path: str, options: Mapping[str, Any]) -> Iterator[RowFile]:
    """Within `with`, the rows of a file, by the ending of its name; `-` is CSV on standard input.

    `options` are those of the dataset `file` that say how texts are read (separator, encoding ...), as far as they are given.
    """
    if path == "-":
        with tempfile.TemporaryDirectory() as folder:  # the header is looked at before the rows are read: twice through it
            place = Path(folder, "rows.csv")
            with place.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield _csv(place, options, STDIN)
        return
    place = existing(path)
    suffix = place.suffix.lower()
    if suffix in (".parquet", ".pq"):
        with parquet_file(place) as file:
            yield _parquet(place, file, options)
    elif suffix == ".npy":
        yield _array(place)
    elif suffix == ".npz":
        raise UsageError(f"{path}: predictions are made for CSV, Parquet or .npy; np.save the array of features alone")
    else:
        yield _csv(place, options, str(place))


def _csv(path: Path, options: Mapping[str, Any], source: str) -> RowFile:
    missing = frozenset(options.get("missing_values", MISSING))
    separator, encoding, decimal = options.get("separator", "auto"), options.get("encoding", "utf-8"), options.get("decimal", ".")
    file = CSVFile(path, separator, encoding, decimal, missing, source, one_column=True)
    file.begin()

    return RowFile(source, tuple(name for name in file.header if name), file.pieces)


def _parquet(path: Path, file: Any, options: Mapping[str, Any]) -> RowFile:
    missing = tuple(options.get("missing_values", MISSING))

    def pieces(numeric: Sequence[str], texts: Collection[str], rows: int) -> Iterator[Columns]:
        done = 0
        for batch in file.iter_batches(rows, columns=[*numeric, *texts]):
            columns = parquet_columns(path, batch, texts, missing)
            yield Columns(str(path), columns, first=done)
            done += batch.num_rows

    return RowFile(str(path), tuple(file.schema_arrow.names), pieces)


def _array(path: Path) -> RowFile:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise TableError(f"{path} cannot be read as a NumPy array: {error}") from None
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise TableError(f"{path} holds an array of shape {values.shape} and type {values.dtype}; numbers (rows, columns) are needed")

    def pieces(numeric: Sequence[str], texts: Collection[str], rows: int) -> Iterator[Columns]:
        if texts:
            raise TableError(f"{path} has no names for its columns, and {shown(next(iter(texts)))} is one of texts: give CSV or Parquet")
        if len(numeric) != values.shape[1]:
            raise TableError(f"{path} has {values.shape[1]} columns, and the model takes {len(numeric)}")
        for start in range(0, len(values), rows):
            block = np.asarray(values[start : start + rows], np.float64)
            yield Columns(str(path), dict(zip(numeric, block.T, strict=True)), first=start)

    return RowFile(str(path), None, pieces)
