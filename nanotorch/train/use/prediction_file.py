"""Where predictions go: a CSV or Parquet file, written piece by piece and there only
when it is complete, or standard output.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nanotorch.train.terminal.command import UsageError
from nanotorch.train.terminal.standard_streams import data_of
from nanotorch.utils import files

FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?")


class PredictionFile:
    """Within `with`, takes pieces of columns by name; `-` is CSV on standard output.

    A file is written under a temporary name beside it and renamed at the end, so that no half of it is taken for all of
    it. With `quote_formulas`, texts that a spreadsheet would compute get an apostrophe before them.
    """

    def __init__(self, path: str, columns: Sequence[str], quote_formulas: bool = False) -> None:
        self.path, self.columns, self.quote_formulas = path, list(columns), quote_formulas
        twice = [name for number, name in enumerate(self.columns) if name in self.columns[:number]]
        if twice:
            raise UsageError(f"the predictions would have two columns {twice[0]!r}: do not keep that one")
        suffix = Path(path).suffix.lower()
        if path != "-" and suffix not in (".csv", ".parquet"):
            raise UsageError(f"--output {path}: expected a name that ends in .csv or .parquet, or '-'")
        self._parquet = suffix == ".parquet"
        if self._parquet and quote_formulas:
            raise UsageError(
                "--quote-formulas is for CSV, which spreadsheets compute; a Parquet file holds texts as they are"
            )
        self._held = ExitStack()
        self._file: Any = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        """Open the file, so that one that cannot be written is known before anything is computed."""
        if self._parquet:
            self._parquet_module()
        if self.path == "-":
            if sys.stdout is None:
                raise UsageError("--output -: standard output is closed")
            self._file = data_of(sys.stdout)
            if hasattr(self._file, "reconfigure"):
                self._file.reconfigure(encoding="utf-8")  # data are not for the terminal's encoding to change
        elif self._parquet:
            self._file = self._held.enter_context(files.writing(self.path))
        else:
            self._file = self._held.enter_context(files.writing(self.path, "w", encoding="utf-8", newline=""))
        if not self._parquet:
            self._write_rows([[name] for name in self.columns])
        return self

    def write(self, piece: Mapping[str, Any]) -> None:
        """Add rows: columns of NumPy (texts are objects), or of Arrow, which keep their type."""
        if not self._parquet:
            self._write_rows([_cells(name, piece[name]) for name in self.columns])
            return
        arrow, parquet = self._parquet_module()
        columns = {name: piece[name] for name in self.columns}
        for name, column in columns.items():
            if isinstance(column, np.ndarray):
                columns[name] = arrow.array(column, arrow.string() if column.dtype == object else None)
        table = arrow.table(columns)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def _write_rows(self, columns: list[list[Any]]) -> None:
        if self.quote_formulas:
            columns = [
                [f"'{cell}" if isinstance(cell, str) and _computed(cell) else cell for cell in cells]
                for cells in columns
            ]
        # The writer leaves a lone carriage return as it is, and readers take it for the end of a row.
        returns = any("\r" in cell for cells in columns for cell in cells if isinstance(cell, str))
        writer = csv.writer(
            self._file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
        )
        writer.writerows(zip(*columns, strict=True))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the file in its place; after an error there is none."""
        try:
            if self._parquet and self._writer is not None:
                self._writer.close()
        except BaseException as failed:
            self._held.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._held.__exit__(kind, error, trace)

    @staticmethod
    def _parquet_module() -> tuple[Any, Any]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UsageError(
                "Parquet needs pyarrow: pip install pyarrow; or give an --output that ends in .csv"
            ) from None
        return pyarrow, pyarrow.parquet


def _computed(cell: str) -> bool:
    """Return whether a spreadsheet would compute a text: one that begins as a formula does, and is no plain number."""
    return cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)


def _cells(name: str, column: Any) -> list[Any]:
    """Return a column as CSV has it: what a cell is shows in its text, and nothing is rounded."""
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype in (object, np.float64) else list(map(str, column))
    from pyarrow import ArrowInvalid, string
    from pyarrow import types as is_type

    kind = column.type
    if is_type.is_dictionary(kind):
        return _cells(name, column.dictionary_decode())
    if is_type.is_nested(kind) or is_type.is_duration(kind) or "binary" in str(kind):
        raise UsageError(f"column {name!r} holds {kind}, which CSV cannot hold: keep it in an --output of .parquet")
    if is_type.is_float32(kind) or is_type.is_float16(kind):
        return [None if cell is None else str(kind.to_pandas_dtype()(cell)) for cell in column.to_pylist()]
    if is_type.is_temporal(kind):  # Python's own dates end at the microsecond
        try:
            return column.cast(string()).to_pylist()
        except ArrowInvalid as error:
            raise UsageError(f"column {name!r} holds {kind}, which is not known here as a text: {error}") from None
    return column.to_pylist()
