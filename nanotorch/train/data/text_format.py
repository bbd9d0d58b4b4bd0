"""How a table is written in its file: keys of `data` in a config, and options of predict and evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

from nanotorch.train.data.columns.notation import Notation, missing_values
from nanotorch.train.data.table import TableError, shown


def text_encoding(name: str) -> str:
    """Return the name, if Python can read texts in that encoding; else a ValueError."""
    try:
        "a".encode(name).decode(name)
    except (LookupError, ValueError):  # no encoding, one of bytes such as hex, one that refuses all, a NUL in its name
        raise ValueError(f"Python knows no encoding {shown(name)} of texts") from None
    return name


def cell_separator(text: str) -> str:
    """Return the text, if it may stand between two cells; else a ValueError."""
    if text != "auto" and (len(text) != 1 or text == '"' or not (text.isprintable() or text == "\t")):
        raise ValueError(f"expected auto or one character, got {shown(text)}")
    return text


@dataclass(frozen=True)
class TextFormat:
    """How the texts of a table are to be read; its fields are keys of `data`.

    Attributes:
        separator: what stands between two cells; "auto" finds out.
        encoding: of the file's text; UTF-16 with a byte order mark is known in any case.
        decimal: the decimal point, "." or ",".
        thousands: what stands between groups of three digits, or None.
        missing_values: further texts that stand for a missing value, or {"only": [...]}.
        skip_rows: how many lines come before the table.
        header: whether its first line names the columns; None: unless `names` does.
        names: the columns, where the file does not name them or others are wanted.
        sheet: the sheet of a spreadsheet; None: the first.
    """

    separator: str = "auto"
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str | None = None
    missing_values: Sequence[str] | Mapping[Any, Sequence[str]] = ()
    skip_rows: int = 0
    header: bool | None = None
    names: Sequence[str] = ()
    sheet: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no file can be read with."""
        for key, check in (("encoding", text_encoding), ("separator", cell_separator)):
            try:
                check(getattr(self, key))
            except ValueError as error:
                raise TableError(f"data.{key}: {error}", "data", key) from None
        self.notation  # noqa: B018

    @cached_property
    def notation(self) -> Notation:
        """How the texts are read; a DataError where that contradicts itself."""
        return Notation(self.decimal, self.thousands, frozenset(missing_values(self.missing_values)))

    @property
    def has_header(self) -> bool:
        """Whether the first line names the columns."""
        return not self.names if self.header is None else self.header

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return the format that these keys of `data` state, among others, as far as they are there."""
        return cls(**{one.name: options[one.name] for one in fields(cls) if one.name in options})
