"""CSV files as columns, and one sentence with the line and the column for whatever is wrong with one.

Python's own `csv` module reads the file in pieces, and every piece of a column becomes numbers at once where it can: no
cell stays behind as a text, so a table takes about as much memory as its numbers. It costs no further dependency, and
it knows the line of every row.
"""

from __future__ import annotations

import codecs
import csv
import importlib.util
import os
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.columns import Column, Columns
from nanotorch.train.data.columns.notation import Notation
from nanotorch.train.data.formats import arrow_csv
from nanotorch.train.data.formats.arrow_csv import NotPlainError, arrow_blocks, arrow_numbers
from nanotorch.train.data.formats.arrow_values import each_once
from nanotorch.train.data.formats.spreadsheet import SHEETS, sheet_rows
from nanotorch.train.data.formats.unpacked import opened
from nanotorch.train.data.table import TableError, quoted, shown
from nanotorch.train.data.text_format import TextFormat

SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
MOST_COLUMNS = 10_000
LONGEST_HEADER = 2**22  # characters
LONGEST_LINE = 2**24
ROWS_AT_ONCE = 10_000
NAMED = 6  # lines or columns in one message

MARKS = {  # the longer ones first: the mark of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
OTHER_KINDS = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip or Excel file",
    b"\x93NUM": "a NumPy array",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
}

Cells = Sequence[str] | Any
"""Cells of one column: a sequence of texts, or an array of pyarrow's."""


def read_csv(
    path: str | os.PathLike[str],
    form: TextFormat = TextFormat(),  # noqa: B008
    as_text: Collection[str] = (),
    leave_out: Collection[str] = (),
) -> Columns:
    """Read a CSV file; a TableError says what is wrong with it.

    Args:
        path: the file, which may be packed.
        form: how it is written.
        as_text: the columns that stay texts even if all of them are numbers.
        leave_out: the columns that are not wanted.
    """
    file = CSVFile(Path(path), form)
    file.begin()
    wanted = [name for name in file.header if name and name not in leave_out]
    columns = file.read(wanted, as_text)
    # Numbers in some rows and texts in others, or points that may stand before thousands: the texts are needed too.
    doubtful = [name for name, column in columns.items() if column is None or file.may_be_thousands(name, column)]
    if doubtful:
        columns |= file.read(doubtful, doubtful)
    whole = {name: column for name, column in columns.items() if column is not None}
    unnamed = [
        f"column {number} of {file.path} has no name and is not used"
        for number, name in enumerate(file.header, 1)
        if not name
    ]
    left_out = tuple(name for name in file.header if name in leave_out)
    notices = (*file.notices, *unnamed)
    return Columns(str(file.path), whole, notices, file, left_out=left_out, notation=form.notation)


class CSVFile:
    """One CSV file; after `begin` its separator and header are known.

    Args:
        path: where it is.
        form: how it is written.
        source: its name in messages, if that is not the path.
        any_size: whether one column, or no row, is enough.
    """

    def __init__(self, path: Path, form: TextFormat, source: str | None = None, any_size: bool = False) -> None:
        self.path, self.form, self.any_size = path, form, any_size
        self.source = str(path) if source is None else source
        self.separator, self.encoding = form.separator, form.encoding
        self.notation = form.notation
        self.header: list[str] = []
        self.sheet = path.suffix.lower() in SHEETS
        self.notices: tuple[str, ...] = ()
        self.top = self.place(1)  # of the header

    @contextmanager
    def text(self) -> Iterator[Iterator[str]]:
        """Return the lines of the file after those to skip; a TableError says which bytes are no text."""
        try:
            with opened(self.path, self.source) as file, TextIOWrapper(file, self.encoding, newline="") as text:
                for _ in range(self.form.skip_rows):
                    text.readline(LONGEST_LINE)
                yield self._lines(text)
        except UnicodeError:
            raise self._not_text() from None

    def _lines(self, text: TextIOWrapper) -> Iterator[str]:
        while line := text.readline(LONGEST_LINE):
            yield line
            if len(line) == LONGEST_LINE:
                raise TableError(f"{self.source} has a line of more than {LONGEST_LINE:,} characters, which is no row")

    @contextmanager
    def records(self, as_it_is: bool = False) -> Iterator[Any]:
        """Return a csv.reader of the file, from its first line; what the reader raises becomes a TableError.

        With `as_it_is`, rows alone, whose cells keep the spaces before them.
        """
        if self.sheet:
            with sheet_rows(self.path, self.form, self.source) as rows:
                self.notices = rows.notices
                yield rows
            return
        reader: Any = None
        if csv.field_size_limit() < LONGEST_LINE:  # of the process, and 131,072 before: a page of text is longer
            csv.field_size_limit(LONGEST_LINE)
        try:
            with self.text() as lines:
                separator = self.separator if self.separator != "auto" else ","
                taken: list[str] = []
                lines = _noted(lines, taken) if as_it_is else lines
                reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
                yield _with_spaces(reader, taken, separator) if as_it_is else reader
        except csv.Error as error:
            line = self._line(reader) if reader is not None else 1
            reason = str(error)
            if "field larger" in reason or "unexpected end" in reason:
                reason = 'a quoted cell has no end; a quote (") before this line is not closed'
            raise TableError(f"{self.place(line)}: {reason}") from None

    def place(self, line: int) -> str:
        """Return a line in words: "table.csv, line 3", or "table.xlsx, row 3"."""
        return f"{self.source}, {'row' if self.sheet else 'line'} {line}"

    def _line(self, reader: Any) -> int:
        """Return the number of the line that a reader of `records` read last."""
        return int(reader.line_num) + (0 if self.sheet else self.form.skip_rows)

    def begin(self) -> None:
        """Find the separator and the header; refuse a file that has none."""
        if not self.sheet:
            self._look_at_the_text()
        with self.records() as reader:
            record: list[str] = next(filter(None, reader), [])
            self.top = self.place(self._line(reader))
            empty = next(filter(None, reader), None) is None
        names = self.form.names or (record if self.form.has_header else [f"x{column}" for column in range(len(record))])
        self.header = [name.strip() for name in names]
        if len(record) != len(self.header):
            raise TableError(
                f"{self.top}: {len(record)} cells, but data.names has {len(self.header)} names", "data", "names"
            )
        if len(self.header) > MOST_COLUMNS:
            raise TableError(
                f"{self.top}: {len(self.header):,} columns, and a table has at most {MOST_COLUMNS:,}; "
                "is the table lying on its side? For wide numeric data take a .npy file"
            )
        self._check_names()
        if empty and not self.any_size and self.form.has_header:
            raise TableError(f"{self.source} has a header of {len(self.header)} columns and no row")

    def _look_at_the_text(self) -> None:
        """Find the encoding and the separator."""
        try:
            with opened(self.path, self.source) as file:
                start = file.read(8)
        except IsADirectoryError:
            raise TableError(f"{self.source} is a directory, not a table", "data", "file") from None
        kind = next((kind for magic, kind in OTHER_KINDS.items() if start.startswith(magic)), None)
        if kind is not None:
            raise TableError(f"{self.source} is not CSV but {kind}; its name's ending has to say so")
        stated = codecs.lookup(self.encoding).name
        if stated.startswith("utf-"):
            marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
            self.encoding = marked or ("utf-8-sig" if stated == "utf-8" else self.encoding)
        with self.text() as lines:
            first = next((line for line in lines if line.strip()), "")
            further = [line for line in islice(lines, 20) if line.strip()]
        if not first:
            raise TableError(f"{self.source} is empty: there is neither a header nor a row")
        if len(first) >= LONGEST_HEADER:
            raise TableError(f"{self.source}, line 1: more than {LONGEST_HEADER:,} characters, which is no header")
        if self.separator == "auto":
            self.separator = self._separator(first, further)

    def _separator(self, first: str, further: Sequence[str]) -> str:
        """Return the separator by which the header has most columns, of those by which the first rows have as many."""
        best, most = ",", 1
        for candidate in SEPARATORS:
            try:
                records = list(csv.reader([first, *further], delimiter=candidate, skipinitialspace=True))
            except csv.Error:
                continue
            same = sum(len(record) == len(records[0]) for record in records[1:])
            if len(records[0]) > most and (not further or same * 2 >= len(records) - 1):
                best, most = candidate, len(records[0])
        return best

    def _check_names(self) -> None:
        places: dict[str, list[int]] = {}
        for number, name in enumerate(self.header, 1):
            places.setdefault(name, []).append(number)
        twice = [name for name, numbers in places.items() if name and len(numbers) > 1]
        if twice:
            first, second = places[twice[0]][:2]
            more = f"; so have others the names {quoted(twice[1:], NAMED)}" if twice[1:] else ""
            raise TableError(
                f"{self.top}: two columns, {first} and {second}, have the name {shown(twice[0])}; rename one{more}"
            )
        if len(self.header) == 1 and not self.any_size:
            other = next(
                (word for one, word in SEPARATORS.items() if one != self.separator and one in self.header[0]), None
            )
            looks = (
                f"it looks separated by {other}: state data.separator"
                if other
                else "a table needs a target and features; lines before the table are left out by data.skip_rows"
            )
            raise TableError(f"{self.top}: the header is the one column {shown(self.header[0])}; {looks}")
        if self.form.has_header and all(re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", name) for name in self.header):
            raise TableError(
                f"{self.top}: {shown(self.header[0])} is no name of a column; add a line with names,"
                " or state data.names, or data.header: false for x0, x1 and so on",
                "data",
                "header",
            )

    def read(self, wanted: Sequence[str], as_text: Collection[str]) -> dict[str, Column | None]:
        """These columns; None for one with numbers in some pieces and texts in others."""
        places = [(name, self.header.index(name)) for name in wanted]
        parts_of: dict[str, list[Column]] = {name: [] for name in wanted}
        texts = {name: _Known(self.notation) for name in wanted}
        for _, cells in self._blocks([place for _, place in places], ROWS_AT_ONCE):
            for name, place in places:
                numbers = self._numbers(cells[place]) if name not in as_text else None
                parts_of[name].append(_texts(cells[place], texts[name]) if numbers is None else numbers)
        columns: dict[str, Column | None] = {}
        for name, parts in parts_of.items():
            one_kind = len({part.dtype for part in parts}) == 1
            columns[name] = np.concatenate(parts) if one_kind else None
        if wanted and not any(parts_of.values()):
            raise TableError(f"{self.source} has a header of {len(self.header)} columns and no row")
        return columns

    def may_be_thousands(self, name: str, column: Column) -> bool:
        """Return whether "1.250" in a column of numbers may be 1250; its cells are looked at only if it may."""
        if column.dtype == object:
            return False
        values = np.abs(column[np.isfinite(column) & (column != np.floor(column))])
        if not len(values) or values.min() < 1 or np.nanmax(np.abs(column)) >= 1000:
            return False
        if np.abs(values * 1000 - np.round(values * 1000)).max() > 1e-6:
            return False
        place = self.header.index(name)
        with self.records() as reader:
            rows = islice(filter(None, reader), self.form.has_header, None)
            cells = (record[place].strip() for record in rows)
            return self.notation.may_be_thousands(cell for cell in cells if not self.notation.lacks(cell)) != "no"

    def pieces(
        self, numeric: Collection[str], as_text: Collection[str], keep: Collection[str], rows: int
    ) -> Iterator[Columns]:
        """These columns as numbers, or as texts where some are none, those as texts, and the last as they stand, for so
        many rows at once.
        """
        wanted = [self.header.index(name) for name in dict.fromkeys((*numeric, *as_text, *keep))]
        for first, cells in self._blocks(wanted, rows, exactly=True, as_it_is=bool(keep)):
            columns: dict[str, Column] = {}
            for name in numeric:
                column = cells[self.header.index(name)]
                numbers = self._numbers(column)
                columns[name] = _texts(column, _Known(self.notation)) if numbers is None else numbers
            columns |= {name: _texts(cells[self.header.index(name)], _Known(self.notation)) for name in as_text}
            kept = {name: np.array(_listed(cells[self.header.index(name)]), object) for name in keep}
            yield Columns(self.source, columns, lines=self, first=first, kept=kept, notation=self.notation)

    def _blocks(
        self, wanted: Sequence[int], rows: int, exactly: bool = False, as_it_is: bool = False
    ) -> Iterator[tuple[int, Mapping[int, Cells]]]:
        """Return the cells of the wanted columns, for so many rows at once, and how many rows came before.

        Where pyarrow reads the file there may be more rows at once, unless it is to be `exactly` as many, or fewer;
        `as_it_is`: spaces at the ends of cells matter.
        """
        width, done = len(self.header), 0
        if self._for_arrow(wanted):
            blocks = arrow_blocks(self.path, self.form, self.encoding, self.separator, width, wanted, as_it_is)
            with suppress(NotPlainError):
                for columns in blocks:
                    count = len(next(iter(columns.values())))
                    at_once = rows if exactly else max(count, 1)
                    for start in range(0, count, at_once):
                        yield done, {number: column.slice(start, at_once) for number, column in columns.items()}
                        done += min(at_once, count - start)
                return
        with self.records(as_it_is) as reader:
            deque(islice(filter(None, reader), self.form.has_header + done), 0)
            while block := list(islice(reader, rows)):
                records = [record for record in block if record]
                if any(len(record) != width for record in records):
                    raise self._ragged(width)
                if records:
                    yield done, dict(enumerate(zip(*records, strict=True)))
                done += len(records)

    def _ragged(self, width: int) -> TableError:
        """Return the error of all rows that have more or fewer cells than the header; the file is read again."""
        lines, cells, count = list[int](), width, 0
        with suppress(TableError), self.records() as reader:  # what comes first is to be mended first
            for record in islice(filter(None, reader), self.form.has_header, None):
                if len(record) != width:
                    cells, count = cells if count else len(record), count + 1
                    lines += [self._line(reader)] if count <= NAMED else []
        numbers = ", ".join(map(str, lines[1:])) + (" ..." if count > len(lines) else "")
        further = f"{count - 1:,} further {'row' if self.sheet else 'line'}{'s have' if count > 2 else ' has'}"
        others = f", and {further} too few or too many: {numbers}" if count > 1 else ""
        return TableError(f"{self.place(lines[0])}: {cells} cells, but the header has {width} columns{others}")

    def _for_arrow(self, wanted: Sequence[int]) -> bool:
        """Return whether pyarrow is to read the rows (Note [The same cells] in arrow_csv.py)."""
        if self.sheet or not wanted or os.path.getsize(self.path) < arrow_csv.PAYS:
            return False
        return importlib.util.find_spec("pyarrow") is not None

    def _numbers(self, cells: Cells) -> NDArray[np.float64] | None:
        if isinstance(cells, Sequence):
            return self.notation.numbers(cells)
        return arrow_numbers(cells, self.notation)

    def line(self, row: int) -> int:
        """Return the line in which a row ends; it reads the file again, since that is asked for once, by an error."""
        return self._record(row)[0]

    def cell(self, row: int, name: str) -> str:
        """Return a cell as it stands in the file, which is read again."""
        return self._record(row)[1][self.header.index(name)].strip()

    def _record(self, row: int) -> tuple[int, list[str]]:
        with self.records() as reader:
            count, record = -1 - self.form.has_header, list[str]()
            for record in reader:
                count += bool(record)
                if count == row:
                    break
            return self._line(reader), record

    def _not_text(self) -> TableError:
        """Return where the bytes are that are no text in the encoding."""
        with opened(self.path, self.source) as file:
            offset = 0
            in_bytes = "\n".encode(self.encoding.removesuffix("-sig")) == b"\n"
            lines = iter(partial(file.readline, LONGEST_LINE), b"") if in_bytes else ()
            for number, line in enumerate(lines, 1):
                try:
                    line.decode(self.encoding)
                except UnicodeDecodeError as error:
                    byte = line[error.start]
                    rest = (line, *lines)
                    named = "cp1252" if any(re.search(rb"[\x80-\x9f]", each) for each in rest) else "latin-1"
                    return TableError(
                        f"{self.source}, line {number}, byte {offset + error.start}: 0x{byte:02x} is not"
                        f" {self.encoding.removesuffix('-sig')}; save the file as UTF-8, or state data.encoding, such"
                        f" as {named}"
                    )
                except UnicodeError:
                    break
                offset += len(line)
        return TableError(f"{self.source}: its text is not {self.encoding.removesuffix('-sig')}; state data.encoding")


def _noted(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _with_spaces(reader: Iterator[list[str]], taken: list[str], separator: str) -> Iterator[list[str]]:
    """Return the rows of a reader that leaves spaces before cells out, with them; `taken` are the lines of a row.

    Where a quote follows a space, the cell is what stands between the quotes.
    """
    for row in reader:
        text = "".join(taken)
        if text.startswith(" ") or f"{separator} " in text or "\n " in text:
            with suppress(csv.Error):
                whole = next(csv.reader(taken, delimiter=separator, strict=True))
                if [cell.lstrip(" ") for cell in whole] == [cell.lstrip(" ") for cell in row]:
                    row = whole
        taken.clear()
        yield row


def _listed(cells: Cells) -> Sequence[str]:
    return cells if isinstance(cells, Sequence) else cells.to_pylist()


class _Known(dict[str, str | None]):
    """Maps texts to themselves, so that each is held once, and those that stand for a missing value to None."""

    def __init__(self, notation: Notation) -> None:
        super().__init__()
        self.lacks = notation.lacks

    def __missing__(self, text: str) -> str | None:
        self[text] = None if self.lacks(text) else text
        return self[text]


def _texts(cells: Cells, known: _Known) -> Column:
    """Cells as texts, None for a missing one."""
    if not isinstance(cells, Sequence):
        return each_once(cells, lambda different: _texts(different, known))
    return np.array([known[cell] for cell in map(str.strip, cells)], object)
