"""New rows for a trained model, piece by piece: from CSV, Parquet, NumPy arrays, or CSV on standard input."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanotorch.train.data.array_file import array_of_rows
from nanotorch.train.data.columns.columns import Columns
from nanotorch.train.data.csv_file import CSVFile
from nanotorch.train.data.table import TableError, shown
from nanotorch.train.data.table_file import ARRAYS, PARQUET, existing, parquet_columns, parquet_file
from nanotorch.train.data.text_format import TextFormat

ROWS_AT_ONCE = 8192
STDIN = "<stdin>"


@dataclass(frozen=True)
class RowFile:
    """A file of rows, its columns known and no row read yet.

    Attributes:
        source: its name, for messages.
        names: its columns.
        read: takes the names of columns of numbers, of texts, of those to copy, and how many rows to read at once.
    """

    source: str
    names: tuple[str, ...]
    read: Callable[[Sequence[str], Sequence[str], Sequence[str], int], Iterator[Columns]]

    def pieces(
        self, numeric: Sequence[str], texts: Collection[str] = (), keep: Collection[str] = ()
    ) -> Iterator[Columns]:
        """Return the rows, some thousand at once: these columns as numbers, those as texts, and `keep` as they stand.

        Where there is no row, there is one piece without rows.
        """
        empty = True
        for piece in self.read(list(numeric), list(texts), list(keep), ROWS_AT_ONCE):
            empty = False
            yield piece
        if empty:
            nothing = np.empty(0)
            columns = {name: nothing if name in numeric else nothing.astype(object) for name in (*numeric, *texts)}
            yield Columns(self.source, columns, kept=dict.fromkeys(keep, nothing.astype(object)))


@contextmanager
def open_rows(path: str, features: Sequence[str], options: Mapping[str, Any]) -> Iterator[RowFile]:
    """Within `with`, the rows of a file, by the ending of its name; `-` is CSV on standard input.

    An array has the columns `features`, in their order, or those and others by the names x0, x1 and so on. `options`
    are those of the dataset `file` that say how texts are read (separator, encoding ...), as far as they are given.
    """
    if path == "-" and sys.stdin is None:
        raise TableError("standard input is closed")
    place = Path() if path == "-" else existing(path)
    if path == "-" or place.is_fifo():
        # the header is looked at before the rows are read: twice through it
        with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
            copy = Path(folder, "rows.csv")
            source = sys.stdin.buffer if path == "-" else held.enter_context(place.open("rb"))
            with copy.open("wb") as file:
                shutil.copyfileobj(source, file)
            yield _csv(copy, options, STDIN if path == "-" else path)
        return
    suffix = place.suffix.lower()
    if suffix in PARQUET:
        with parquet_file(place) as file:
            yield _parquet(place, file, options)
    elif suffix in ARRAYS:
        yield _array(place, features)
    else:
        yield _csv(place, options, str(place))


def _csv(path: Path, options: Mapping[str, Any], source: str) -> RowFile:
    file = CSVFile(path, TextFormat.of(options), source, any_size=True)
    file.begin()
    return RowFile(source, tuple(name for name in file.header if name), file.pieces)


def _parquet(path: Path, file: Any, options: Mapping[str, Any]) -> RowFile:
    notation = TextFormat.of(options).notation

    def pieces(numeric: Sequence[str], texts: Sequence[str], keep: Sequence[str], rows: int) -> Iterator[Columns]:
        done, read = 0, list(dict.fromkeys((*numeric, *texts)))
        batches = file.iter_batches(rows, columns=[*dict.fromkeys((*read, *keep))])
        for batch in batches if file.metadata.num_rows else [file.schema_arrow.empty_table()]:
            columns = parquet_columns(path, batch.select(read), texts, notation)
            kept = {name: batch.column(name) for name in keep}
            yield Columns(str(path), columns, first=done, kept=kept, notation=notation)
            done += batch.num_rows

    return RowFile(str(path), tuple(file.schema_arrow.names), pieces)


def _array(path: Path, features: Sequence[str]) -> RowFile:
    values = array_of_rows(path)
    if values.ndim < 2 or values.dtype.kind not in "fiub":
        raise TableError(
            f"{path} holds an array of shape {values.shape} and type {values.dtype}; numbers (rows, columns) are needed"
        )
    values = values.reshape(len(values), math.prod(values.shape[1:]))
    width = values.shape[1]
    names = tuple(features) if width == len(features) else tuple(f"x{column}" for column in range(width))
    if not set(features) <= set(names):
        raise TableError(
            f"{path} has {width} columns, and the model takes {len(features)}: {', '.join(features[:5])} ..."
        )

    def pieces(numeric: Sequence[str], texts: Sequence[str], keep: Sequence[str], rows: int) -> Iterator[Columns]:
        if texts:
            raise TableError(
                f"{path} holds numbers alone, and column {shown(next(iter(texts)))} has texts: give CSV or Parquet"
            )
        places = [names.index(name) for name in numeric]
        for start in range(0, len(values), rows):
            block = values[start : start + rows]
            columns = dict(zip(numeric, np.asarray(block, np.float64)[:, places].T, strict=True))
            kept = {name: block[:, names.index(name)] for name in keep}
            yield Columns(str(path), columns, first=start, kept=kept)

    return RowFile(str(path), names, pieces)
