"""The columns of a table by name, wherever they were read, and the place of each row in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import closest
from nanotorch.train.data.columns.notation import PLAIN, Notation
from nanotorch.train.data.table import TableError, quoted, shown

Column = NDArray[Any]


class Lines(Protocol):
    """A file that knows on which line a row stands, and reads a cell of it again."""

    def line(self, row: int) -> int:
        """Return the line of a row."""

    def place(self, line: int) -> str:
        """Return a line in words."""

    def cell(self, row: int, name: str) -> str:
        """Return a cell as it stands there."""


@dataclass(frozen=True)
class Columns(Mapping[str, Column]):
    """The columns of a table by name.

    A column is float64 with NaN for a missing value, or an object array of texts with None for one.

    Attributes:
        source: the file, for messages.
        columns: the columns.
        notices: what was noticed and is no error.
        lines: what finds the line of a row; None where rows have no lines.
        first: the number of the first row in the file, where these are some rows of it.
        left_out: the columns of the file that were not read.
        kept: columns as they stand in the file, for whoever copies them: texts of CSV, an array of Arrow or of NumPy.
        notation: how numbers are written in the texts.
        numbers: the rows of the file that these are, where some were left out.
        pieces: the files that these are, one after the other, where they are several.
    """

    source: str
    columns: Mapping[str, Column]
    notices: tuple[str, ...] = ()
    lines: Lines | None = field(default=None, repr=False)
    first: int = 0
    left_out: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict, repr=False)
    notation: Notation = PLAIN
    numbers: NDArray[np.int64] | None = None
    pieces: tuple[Columns, ...] = ()

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values()), ()))

    def where(self, row: int) -> str:
        """Return the place of a row (they count from 0) in words:
        "table.csv, line 3", or "row 2" where there are no lines.
        """
        piece, row = self._found(row)
        return f"{piece.source}, row {row + 1}" if piece.lines is None else piece.lines.place(piece.lines.line(row))

    def cell(self, row: int, name: str) -> str:
        """Return a cell as it stands in its file, "" where it has no lines; the file is read again."""
        piece, row = self._found(row)
        return "" if piece.lines is None else piece.lines.cell(row, name)

    def _found(self, row: int) -> tuple[Columns, int]:
        """Return where a row is, and its number there."""
        row = self.first + (row if self.numbers is None else int(self.numbers[row]))
        for piece in self.pieces:
            if row < piece.rows:
                return piece._found(row)
            row -= piece.rows
        return self, row

    @property
    def piece_of_rows(self) -> NDArray[np.int64]:
        """The number of the piece that each row is of."""
        pieces = np.repeat(np.arange(len(self.pieces)), [piece.rows for piece in self.pieces])
        if not self.pieces:
            return np.zeros(self.rows, np.int64)
        return pieces if self.numbers is None else pieces[self.numbers]

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """These rows of it."""
        numbers = rows if self.numbers is None else self.numbers[rows]
        return replace(self, columns={name: column[rows] for name, column in self.columns.items()}, numbers=numbers)

    def only(self, names: Collection[str]) -> Columns:
        """These columns of it."""
        return replace(self, columns={name: column for name, column in self.columns.items() if name in names})


def joined(pieces: Sequence[Columns]) -> Columns:
    """Return files of the same columns as one, one after the other."""
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    notices = tuple(dict.fromkeys(notice for piece in pieces for notice in piece.notices))
    first = pieces[0]
    return Columns(
        first.source, columns, notices, left_out=first.left_out, notation=first.notation, pieces=tuple(pieces)
    )


def known_column(name: str, known: Collection[str], source: str, key: str) -> None:
    """Refuse a name that is not one of the columns, and say which was probably meant."""
    if name not in known:
        near = closest(name, known)
        hint = f"did you mean {shown(near)}?" if near else f"its columns are {quoted(known, 20)}"
        raise TableError(f"{source} has no column {shown(name)}, which data.{key} names ({hint})", "data", key)


def refuse_missing(whole: Columns, name: str, rows: NDArray[np.int64], otherwise: str, key: str) -> None:
    """Refuse a column that has no value in these rows, and say what to do otherwise."""
    if len(rows):
        more = f", as one of {len(rows)} rows" if len(rows) > 1 else ""
        place = whole.where(int(rows[0]))
        raise TableError(f"{place}: column {shown(name)} has no value{more}{otherwise}", "data", key)
