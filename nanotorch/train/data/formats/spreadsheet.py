"""Sheets of .xlsx files as rows of texts, as they would stand in a CSV file (package openpyxl, extra `excel`)."""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nanotorch.registry import closest
from nanotorch.train.data.formats.unpacked import most_unpacked
from nanotorch.train.data.table import TableError, one_line, shown
from nanotorch.train.data.text_format import TextFormat

SHEETS = (".xlsx", ".xlsm")


class SheetRows:
    """The rows of a sheet as lists of texts, all as wide as the first; a row without any value is an empty list.

    Attributes:
        line_num: the number of the row that was read last, from 1.
        notices: what was noticed and is no error.
    """

    def __init__(self, books: Sequence[Any], form: TextFormat, source: str) -> None:
        self.form, self.source, self.line_num = form, source, 0
        names = books[0].sheetnames
        self.name = form.sheet or names[0]
        if self.name not in names:
            near = closest(self.name, names)
            hint = f"did you mean {shown(near)}?" if near else f"it has {', '.join(map(shown, names))}"
            raise TableError(
                f"{source} has no sheet {shown(self.name)}, which data.sheet names ({hint})", "data", "sheet"
            )
        several = f"{source} has {len(names)} sheets, and {shown(self.name)} is read (data.sheet names another)"
        self.notices = (several,) if len(names) > 1 and not form.sheet else ()
        self._rows = self._texts([book[self.name] for book in books])

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        with _as_table_errors(self.source):
            return next(self._rows)

    def _texts(self, sheets: Sequence[Any]) -> Iterator[list[str]]:
        """Return the rows of the sheet; the second, if there is one, has its formulas."""
        if not all(hasattr(sheet, "reset_dimensions") for sheet in sheets):
            raise TableError(f"{self.source}: sheet {shown(self.name)} is no table", "data", "sheet")
        for sheet in sheets:
            sheet.reset_dimensions()  # the width that the file states may be anything
        width = len(self.form.names)
        rows = (sheet.iter_rows(values_only=len(sheets) == 1 or sheet is not sheets[0]) for sheet in sheets)
        for cells, *formulas in zip(*rows, strict=True):
            self.line_num += 1
            if self.line_num <= self.form.skip_rows:
                continue
            for row in formulas:
                kinds = [cell.data_type for cell in cells]
                cells = [cell.value for cell in cells]
                for cell, kind, formula in zip(cells, kinds, row, strict=True):
                    if cell is None and formula is not None and kind != "str":  # that is an empty text
                        raise TableError(
                            f"{self.source}, row {self.line_num}: the formula {shown(formula)} has no value in the"
                            " file; open it in a spreadsheet program and save it, or save the table as CSV"
                        )
            texts = [_text(cell, self.form.decimal) for cell in cells]
            while texts and not texts[-1].strip():
                texts.pop()
            if texts:
                width = width or len(texts)
                texts += [""] * (width - len(texts))
            yield texts


def _text(cell: Any, decimal: str) -> str:
    """Return a cell as CSV would have it."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return repr(cell).replace(".", decimal)
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(" ") if cell.time() != datetime.time() else cell.date().isoformat()
    if isinstance(cell, datetime.timedelta):
        return repr(cell.total_seconds()).replace(".", decimal)
    return str(cell)


@contextmanager
def sheet_rows(path: Path, form: TextFormat, source: str) -> Iterator[SheetRows]:
    """Within `with`, the rows of a sheet; what is wrong with the file is a TableError.

    A formula counts as what it gave when the file was saved; one without that is an error, since its empty cell would
    be taken for a missing value.
    """
    try:
        import openpyxl
    except ImportError:
        raise TableError(
            f"{source}: a spreadsheet needs the package openpyxl: pip install openpyxl; or save the table as CSV"
        ) from None
    with ExitStack() as held:
        file = held.enter_context(open(path, "rb"))
        with _as_table_errors(source):
            with zipfile.ZipFile(file) as archive:
                claimed, most = sum(one.file_size for one in archive.infolist()), most_unpacked(path.stat().st_size)
                if claimed > most:
                    raise TableError(f"{source} unpacks to {claimed:,} bytes, more than {most:,}; save it as CSV")
                formulas = any(map(partial(_has_formula, archive), archive.namelist()))
            held.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of what the sheet has beside values
            books = []
            for values in (True, False)[: 1 + formulas]:
                book = openpyxl.load_workbook(file, read_only=True, data_only=values, keep_links=False)
                held.callback(book.close)
                books.append(book)
            rows = SheetRows(books, form, source)
        yield rows


def _has_formula(archive: zipfile.ZipFile, name: str) -> bool:
    """Return whether a file of the archive is a sheet with a formula."""
    if not name.startswith("xl/worksheets/"):
        return False
    before = b""
    with archive.open(name) as file:
        while piece := file.read(2**20):
            if re.search(rb"<(\w+:)?f[ />]", before + piece):
                return True
            before = piece[-64:]
    return False


@contextmanager
def _as_table_errors(source: str) -> Iterator[None]:
    """A damaged file makes the library raise nearly anything."""
    try:
        yield
    except (TableError, MemoryError, StopIteration):
        raise
    except Exception as error:
        raise TableError(f"{source} cannot be read as a spreadsheet: {one_line(error)}") from None
