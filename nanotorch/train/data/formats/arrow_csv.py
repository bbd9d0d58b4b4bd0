"""CSV through pyarrow where it is there: several times as fast as Python's own reader, and the same cells.

Note [The same cells]
~~~~~~~~~~~~~~~~~~~~~
pyarrow and Python's `csv` differ in what they make of cells that are quoted in part, of spaces before a quote, of lone
carriage returns and of much else. So pyarrow gets a block of whole rows only after it was seen to be plain: quotes
stand at both ends of cells and nowhere else. Every cell then comes as a text, and what a text means is decided by the
same functions as of the other reader, once for each different text; numbers alone, where all of a column are written in
the plainest way, are converted by pyarrow, which rounds as Python does. Whatever is not plain, and whatever pyarrow
refuses, goes to the other reader, from that row on: it is the one that knows what is wrong, and in which line.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.columns.notation import Notation
from nanotorch.train.data.formats.arrow_values import floats_of, values_of
from nanotorch.train.data.formats.unpacked import opened
from nanotorch.train.data.text_format import TextFormat

PAYS = 2**20  # bytes of a file; below, the import of pyarrow takes longer than the rows
BLOCK = 2**24  # bytes read at once
LONGEST_ROW = 2**26  # characters
MOST_STEPS = 10_000  # lines of one quoted cell at the end of a block


class NotPlainError(ValueError):
    """A block that is not plain, or that pyarrow refuses (Note [The same cells])."""


def arrow_blocks(
    path: Path, form: TextFormat, encoding: str, separator: str, width: int, wanted: Sequence[int], as_it_is: bool
) -> Iterator[dict[int, Any]]:
    """Return blocks of rows: the wanted columns, by their numbers, as arrays of texts; a NotPlainError where one is not
    plain.

    With `as_it_is`, spaces at the ends of cells matter.
    """
    import pyarrow
    import pyarrow.csv

    names = list(map(str, range(width)))
    convert = pyarrow.csv.ConvertOptions(
        check_utf8=False,
        column_types=dict.fromkeys(names, pyarrow.string()),
        include_columns=[names[number] for number in wanted],
        strings_can_be_null=False,
    )
    parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    header = form.has_header
    for content in _plain_blocks(path, form.skip_rows, encoding, separator, as_it_is):
        read = pyarrow.csv.ReadOptions(use_threads=False, column_names=names, block_size=len(content) + 1)
        try:
            table = pyarrow.csv.read_csv(pyarrow.BufferReader(content), read, parse, convert)
        except pyarrow.ArrowInvalid as error:
            raise NotPlainError(str(error)) from None
        if header and table.num_rows:
            table, header = table.slice(1), False
        yield {number: table.column(names[number]).combine_chunks() for number in wanted}


def _plain_blocks(path: Path, skip_rows: int, encoding: str, separator: str, as_it_is: bool) -> Iterator[bytes]:
    """Return the text of a file in blocks of whole rows, each of them plain."""
    if not separator.isascii() or separator == " " or separator in "\r\n":
        raise NotPlainError("the separator")
    decoder = codecs.getincrementaldecoder(encoding)()
    rest = ""
    with opened(path, str(path)) as file:
        while True:
            piece = file.read(BLOCK)
            try:
                rest += decoder.decode(piece, not piece)
            except UnicodeError:
                raise NotPlainError("the encoding") from None
            while skip_rows and (end := rest.find("\n") + 1):
                if "\r" in rest[: max(end - 2, 0)]:
                    raise NotPlainError("a carriage return")
                rest, skip_rows = rest[end:], skip_rows - 1
            if skip_rows and not piece:
                raise NotPlainError("fewer lines than are to be skipped")
            cut = _end_of_rows(rest) if piece else len(rest)
            block, rest = rest[:cut], rest[cut:]
            if block and not skip_rows:
                content = block.encode()
                _refuse_unless_plain(content, separator.encode(), as_it_is)
                yield content
            if not piece:
                return
            if len(rest) > LONGEST_ROW:
                raise NotPlainError("a long row")


def _end_of_rows(text: str) -> int:
    """Return where the last row ends that is whole: a line break outside quotes; 0 if there is none."""
    cut = text.rfind("\n") + 1
    odd = text.count('"', 0, cut) % 2
    for _ in range(MOST_STEPS):
        if not odd:
            return cut
        before = text.rfind("\n", 0, cut - 1) + 1 if cut else 0
        odd ^= text.count('"', before, cut) % 2
        cut = before
    raise NotPlainError("a quoted cell of many lines")


def _refuse_unless_plain(block: bytes, separator: bytes, as_it_is: bool) -> None:
    if b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        raise NotPlainError("a control character")
    if as_it_is and (block.startswith(b" ") or separator + b" " in block or b"\n " in block):
        raise NotPlainError("a space before a cell")
    if b'"' not in block:
        return
    letters = np.frombuffer(b"\n" + block + b"\n", np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    before, after = letters[quotes[::2] - 1], letters[quotes[1::2] + 1]  # one that opens, one that closes
    twice = ord('"')  # within a quoted cell: it closes and opens again
    if len(quotes) % 2 or not (
        np.isin(before, [separator[0], ord("\n"), twice]).all()
        and np.isin(after, [separator[0], ord("\n"), ord("\r"), twice]).all()
    ):
        raise NotPlainError("a quote within a cell")


# ------------------------------------------------------------ from texts to columns


def arrow_numbers(cells: Any, notation: Notation) -> NDArray[np.float64] | None:
    """Return what `notation.numbers` makes of texts, asked for each different one only, and where it must be."""
    import pyarrow
    from pyarrow import compute

    if notation.is_plain:
        lacking = compute.is_in(cells, value_set=pyarrow.array(list(notation.missing), pyarrow.string()))
        try:
            numbers = compute.if_else(lacking, None, cells).cast(pyarrow.float64())
        except pyarrow.ArrowInvalid:
            numbers = None
        if numbers is not None:
            found = floats_of(numbers)
            if int(np.isfinite(found).sum()) == len(found) - numbers.null_count:
                return found
    encoded = cells.dictionary_encode()
    different = notation.numbers(encoded.dictionary.to_pylist())
    return None if different is None else different[values_of(encoded.indices)]
